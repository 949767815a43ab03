//! `guard.v1.Host`: one link per host, driven message by message.

use super::{
    enrolment,
    links::{OUTGOING_MAX, Outgoing, Place},
};
use crate::{
    Controller, StoreError,
    evidence::Entry,
    identity::host_of_certificate,
    service::{HOSTNAME_BYTES_MAX, HoldRefused},
};
use guard_model::{BootId, Coverage, HoldId, HostId, Withdrawal};
use guard_proto::{
    InvalidField,
    v1::{
        EnrolResponse, EvidenceAck, EvidenceBatch, EvidenceRecord, FromController, FromHost,
        Heartbeat, Hello, HoldAck, HoldRequested, Refused, RenewRequest, Welcome,
        from_controller::Message as ToHost, from_host::Message, host_server::Host,
    },
};
use std::{collections::HashSet, time::Duration};
use tokio::{
    sync::mpsc,
    time::{error::Elapsed, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// A linked host says something at least this often: guard-agent sends a heartbeat every 10 s.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Things that one link may send and have refused; each is evidence, more end the link.
const REFUSALS_MAX: u32 = 100;

/// Holds that one hello may list: the kernel's hold table has 8,192 places.
const LISTED_MAX: usize = 16_384;

/// Longest version, kernel or digest in a hello, bytes.
const HELLO_TEXT_MAX: usize = 256;

/// Largest coverage in a hello, bytes of JSON.
const COVERAGE_BYTES_MAX: usize = 64 << 10;

/// The service.
pub(super) struct Service {
    controller: Controller,
}

impl Service {
    pub(super) fn new(controller: Controller) -> Self {
        Self { controller }
    }

    /// Which host this is, by its certificate, if that is still accepted.
    async fn identify<T>(&self, request: &Request<T>) -> Result<HostId, Status> {
        let certificates = request.peer_certs();
        let certificate =
            certificates.as_ref().and_then(|chain| chain.first()).ok_or_else(|| {
                Status::unauthenticated("a client certificate is required: enrol with a join token")
            })?;
        let host = host_of_certificate(certificate)
            .map_err(|error| Status::unauthenticated(error.to_string()))?;
        if self.controller.accepts_host(host).await.map_err(|error| internal(&error))? {
            Ok(host)
        } else {
            Err(Status::permission_denied(format!("host {host} is not accepted here")))
        }
    }
}

#[tonic::async_trait]
impl Host for Service {
    type LinkStream = ReceiverStream<Result<FromController, Status>>;

    async fn link(
        &self,
        request: Request<Streaming<FromHost>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let host = self.identify(&request).await?;
        let (outgoing, messages) = mpsc::channel(OUTGOING_MAX);
        let link = Link { controller: self.controller.clone(), host, outgoing, refusals: 0 };
        tokio::spawn(link.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(messages)))
    }

    async fn renew(
        &self,
        request: Request<RenewRequest>,
    ) -> Result<Response<EnrolResponse>, Status> {
        let host = self.identify(&request).await?;
        let renewed = self.controller.renew(host, &request.into_inner().csr_pem).await;
        let issued = renewed.map_err(|error| enrolment::status(&error))?;
        Ok(Response::new(enrolment::response(&self.controller, host, issued)))
    }
}

/// One link while it lasts.
struct Link {
    controller: Controller,
    host: HostId,
    outgoing: Outgoing,
    refusals: u32,
}

/// Why a message was not taken.
enum Trouble {
    /// It is the message's fault: it is refused, the link stays up.
    Refused { what: &'static str, why: String },
    /// The link ends.
    Fatal(Status),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Fatal(internal(&error))
    }
}

impl Link {
    async fn run(mut self, mut incoming: Streaming<FromHost>) {
        let limits = self.controller.config().limits;
        let hello = timeout(Duration::from_millis(limits.hello_timeout_ms), incoming.message());
        let end = match first_hello(hello.await) {
            Ok((boot, hello)) => self.linked(boot, &hello, &mut incoming).await,
            Err(status) => status,
        };
        tracing::info!(host = %self.host, reason = end.message(), "link ended");
        // A full channel means that the host does not read: it will not read this either.
        let _ = self.outgoing.try_send(Err(end));
    }

    /// From hello to the end; says why it ended.
    async fn linked(
        &mut self,
        boot: BootId,
        hello: &Hello,
        incoming: &mut Streaming<FromHost>,
    ) -> Status {
        let listed = match check_hello(hello) {
            Ok(listed) => listed,
            Err(error) => return Status::invalid_argument(error.to_string()),
        };
        let welcome = Welcome { controller_version: env!("CARGO_PKG_VERSION").into() };
        let welcomed = self.outgoing.try_send(Ok(message(ToHost::Welcome(welcome))));
        // In this order: a decision taken from now on is sent by whoever takes it, one taken before
        // is found in the database. The other order could miss one in between.
        let place = self.controller.links().take(self.host, self.outgoing.clone());
        let (Ok(()), Some(mut place)) = (welcomed, place) else {
            return Status::resource_exhausted("too many links; try again later");
        };
        let end = match self.serve(boot, hello, &listed, incoming, &mut place).await {
            Ok(()) => Status::ok("the host closed the link"),
            Err(status) => status,
        };
        // If it was ended from elsewhere, a newer link may have the place: then the host is linked.
        let gone = self.controller.links().leave(self.host, place.number) || !self.is_linked();
        if gone && let Err(error) = self.controller.host_unlinked(self.host).await {
            tracing::error!(%error, "end of a link not recorded");
        }
        end
    }

    fn is_linked(&self) -> bool {
        self.controller.links().is_up(self.host)
    }

    async fn serve(
        &mut self,
        boot: BootId,
        hello: &Hello,
        listed: &HashSet<HoldId>,
        incoming: &mut Streaming<FromHost>,
        place: &mut Place,
    ) -> Result<(), Status> {
        let internal = |error: StoreError| internal(&error);
        let again = self.controller.host_linked(self.host, boot, hello, listed).await;
        let again = again.map_err(internal)?;
        let last = self.controller.last_evidence(self.host, boot).await.map_err(internal)?;
        self.send(place, ToHost::EvidenceAck(ack(boot, last))).await?;
        for decision in again {
            self.send(place, ToHost::Decision(decision)).await?;
        }
        loop {
            let next = tokio::select! {
                next = timeout(SILENCE_MAX, incoming.message()) => next,
                _ = &mut place.ended => return Err(replaced()),
            };
            let Some(received) = next.map_err(|_| silent())?? else { return Ok(()) };
            // Not cancelled by the end of the link: what is begun is finished, and told.
            for reply in self.handle(boot, received).await? {
                self.send(place, reply).await?;
            }
        }
    }

    async fn send(&self, place: &mut Place, reply: ToHost) -> Result<(), Status> {
        tokio::select! {
            sent = self.outgoing.send(Ok(message(reply))) => {
                sent.map_err(|_| Status::cancelled("the host closed the link"))
            }
            _ = &mut place.ended => Err(replaced()),
        }
    }

    async fn handle(&mut self, boot: BootId, received: FromHost) -> Result<Vec<ToHost>, Status> {
        match self.try_handle(boot, received).await {
            Ok(replies) => Ok(replies),
            Err(Trouble::Fatal(status)) => Err(status),
            Err(Trouble::Refused { what, why }) => Ok(vec![self.refuse(what, why).await?]),
        }
    }

    async fn refuse(&mut self, what: &'static str, why: String) -> Result<ToHost, Status> {
        self.refusals += 1;
        if self.refusals > REFUSALS_MAX {
            return Err(Status::resource_exhausted("too much of this link was refused"));
        }
        tracing::warn!(host = %self.host, what, why, "refused");
        let recorded = self.controller.host_refused(self.host, what, why.clone()).await;
        recorded.map_err(|error| internal(&error))?;
        Ok(ToHost::Refused(Refused { what: what.into(), why }))
    }

    async fn try_handle(
        &mut self,
        boot: BootId,
        received: FromHost,
    ) -> Result<Vec<ToHost>, Trouble> {
        let (controller, host) = (self.controller.clone(), self.host);
        match received.message {
            Some(Message::HoldRequested(requested)) => self.hold_requested(boot, requested).await,
            Some(Message::HoldWithdrawn(withdrawn)) => {
                let id = hold_id("HoldWithdrawn", &withdrawn.hold_id)?;
                let why = serde_json::from_value::<Withdrawal>(withdrawn.why.into())
                    .map_err(|error| refused("HoldWithdrawn", &error))?;
                controller.hold_withdrawn(host, id, why).await?;
                Ok(Vec::new())
            }
            Some(Message::HoldFinished(finished)) => {
                let id = hold_id("HoldFinished", &finished.hold_id)?;
                if !controller.hold_finished(host, id, finished.consumed).await? {
                    return Err(refused("HoldFinished", &format!("{id} was not decided here")));
                }
                Ok(Vec::new())
            }
            Some(Message::Evidence(batch)) => self.evidence(batch).await,
            Some(Message::Heartbeat(Heartbeat { sessions, .. })) => {
                controller.host_seen(host, sessions).await?;
                Ok(Vec::new())
            }
            Some(Message::Hello(_)) => Err(refused("Hello", &"only the first message is one")),
            None => Err(refused("FromHost", &"no message that this controller knows")),
        }
    }

    async fn hold_requested(
        &self,
        boot: BootId,
        requested: HoldRequested,
    ) -> Result<Vec<ToHost>, Trouble> {
        let id = hold_id("HoldRequested", &requested.hold_id)?;
        let received =
            self.controller.receive_hold(self.host, boot, id, &requested.request_json).await;
        let decision = match received {
            Ok(decision) => decision,
            Err(HoldRefused::Store(error)) => return Err(error.into()),
            Err(HoldRefused::Json(error)) => return Err(refused("HoldRequested", &error)),
            Err(error) => return Err(refused("HoldRequested", &format!("{id}: {error}"))),
        };
        let ack = ToHost::HoldAck(HoldAck { hold_id: id.to_string() });
        Ok(std::iter::once(ack).chain(decision.map(ToHost::Decision)).collect())
    }

    /// Stores a batch; records of one boot after the other. Whatever happens, the host hears how
    /// far each boot is durable.
    async fn evidence(&mut self, batch: EvidenceBatch) -> Result<Vec<ToHost>, Trouble> {
        let mut replies = Vec::new();
        let mut records = batch.records.as_slice();
        while let Some(first) = records.first() {
            let length =
                records.iter().take_while(|record| record.boot_id == first.boot_id).count();
            let (of_boot, rest) = records.split_at(length);
            records = rest;
            let boot: BootId = first
                .boot_id
                .parse()
                .map_err(|error: uuid::Error| refused("EvidenceRecord.boot_id", &error))?;
            let (entries, invalid) = self.entries(boot, of_boot);
            let appended = self.controller.receive_evidence(self.host, boot, entries).await?;
            replies.push(ToHost::EvidenceAck(ack(boot, appended.last)));
            let why = appended.refused.map(|refused| refused.to_string()).or(invalid);
            if let Some(why) = why {
                match self.refuse("EvidenceBatch", why).await {
                    Ok(reply) => replies.push(reply),
                    Err(status) => return Err(Trouble::Fatal(status)),
                }
            }
        }
        Ok(replies)
    }

    /// Reads records up to the first that is not one, and says what is wrong with that.
    fn entries(&self, boot: BootId, records: &[EvidenceRecord]) -> (Vec<Entry>, Option<String>) {
        let mut entries = Vec::with_capacity(records.len());
        for EvidenceRecord { sequence, record_json, .. } in records {
            match Entry::from_wire(self.host, boot, *sequence, record_json) {
                Ok(entry) => entries.push(entry),
                Err(error) => return (entries, Some(format!("sequence {sequence}: {error}"))),
            }
        }
        (entries, None)
    }
}

fn first_hello(
    received: Result<Result<Option<FromHost>, Status>, Elapsed>,
) -> Result<(BootId, Hello), Status> {
    let received = received.map_err(|_| Status::deadline_exceeded("no hello in time"))??;
    match received.and_then(|received| received.message) {
        Some(Message::Hello(hello)) => match hello.boot_id.parse() {
            Ok(boot) => Ok((boot, hello)),
            Err(error) => Err(Status::invalid_argument(format!("Hello.boot_id: {error}"))),
        },
        _ => Err(Status::failed_precondition("the first message must be a hello")),
    }
}

/// The holds that it lists, if all of it is as it must be.
fn check_hello(hello: &Hello) -> Result<HashSet<HoldId>, InvalidField> {
    let invalid =
        |field, problem: &dyn ToString| Err(InvalidField::new("Hello", field, problem.to_string()));
    let texts = [
        ("hostname", &hello.hostname, HOSTNAME_BYTES_MAX),
        ("version", &hello.version, HELLO_TEXT_MAX),
        ("kernel", &hello.kernel, HELLO_TEXT_MAX),
        ("policy_digest", &hello.policy_digest, HELLO_TEXT_MAX),
        ("coverage_json", &hello.coverage_json, COVERAGE_BYTES_MAX),
    ];
    for (field, text, max) in texts {
        if text.len() > max {
            return invalid(field, &format!("{} bytes, at most {max} are taken", text.len()));
        }
    }
    if let Err(error) = serde_json::from_str::<Vec<Coverage>>(&hello.coverage_json) {
        return invalid("coverage_json", &error);
    }
    if hello.pending_hold_ids.len() > LISTED_MAX {
        return invalid("pending_hold_ids", &format!("at most {LISTED_MAX} are taken"));
    }
    let mut listed = HashSet::with_capacity(hello.pending_hold_ids.len());
    for id in &hello.pending_hold_ids {
        match id.parse() {
            Ok(id) => listed.insert(id),
            Err(error) => return invalid("pending_hold_ids", &error),
        };
    }
    Ok(listed)
}

fn hold_id(what: &'static str, text: &str) -> Result<HoldId, Trouble> {
    text.parse().map_err(|error: uuid::Error| refused(what, &format!("hold_id: {error}")))
}

fn refused(what: &'static str, why: &dyn ToString) -> Trouble {
    Trouble::Refused { what, why: why.to_string() }
}

fn ack(boot: BootId, sequence: u64) -> EvidenceAck {
    EvidenceAck { boot_id: boot.to_string(), sequence }
}

fn message(message: ToHost) -> FromController {
    FromController { message: Some(message) }
}

fn replaced() -> Status {
    Status::aborted("the controller ended this link: a newer one, a stop, or too slow a reader")
}

fn silent() -> Status {
    Status::deadline_exceeded("the host said nothing for too long")
}

fn internal(error: &StoreError) -> Status {
    tracing::error!(error = %error, source = ?std::error::Error::source(error), "link");
    Status::internal("the controller's storage failed; its log says how")
}
