//! The link to the controller: one stream, re-opened for ever; nothing is decided by its absence
//! (H10).
//!
//! Three things flow independently, so that none can block another: messages of the hold engine,
//! the evidence spool (a [`window`] of it at a time), and what the controller says. Every decision
//! is verified here before anything else sees it.

pub mod backoff;
pub mod enrol;
pub mod identity;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod window;

use crate::{
    clock,
    engine::{Farewell, HoldEnd},
    spool::{SpoolError, read::Reader},
};
use backoff::Backoff;
use guard_model::{BootId, Coverage, HoldId, HoldRequest};
use guard_proto::{
    InvalidField, MESSAGE_BYTES_MAX,
    decision::{DecisionVerifier, VerifiedDecision},
    v1::{self, from_controller, from_host, host_client::HostClient},
};
use identity::{Identity, IdentityError, new_request};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};
use window::{BATCH_BYTES, Window};

/// Most messages from the driver that wait for the stream: as many as there can be holds, twice. If
/// that is not enough, the link is opened anew and everything pending is said again.
pub const TO_LINK_MAX: usize = 2 * guard_common::hold::HOLDS_MAX as usize;
/// Most messages from the controller that wait for the driver; beyond it the stream waits.
pub const FROM_LINK_MAX: usize = 256;
/// Messages in the stream's own buffer.
const STREAM_BUFFER: usize = 4;
/// How long new evidence waits on this host for what follows it: each batch costs the controller a write to its disk, and
/// whatever a session does leaves several records one after the other. A hold waits for none of it.
const GATHER_TIME: Duration = Duration::from_millis(100);
/// Longest wait for `Welcome`, and for a certificate.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// From the driver.
#[derive(Debug)]
pub enum ToLink {
    /// Ask for a person.
    Request(Box<HoldRequest>),
    /// A hold that the controller knows has ended.
    Farewell(Farewell),
    /// Sign of life.
    Heartbeat(v1::Heartbeat),
}

/// To the driver.
#[derive(Debug)]
pub enum FromLink {
    /// The stream is about to open: which holds does the engine have?
    Opening(oneshot::Sender<Vec<HoldId>>),
    /// The controller has welcomed this host.
    Up,
    /// The stream ended.
    Down,
    /// A person's decision; signature, host and boot are right.
    Decision(Box<VerifiedDecision>),
    /// Something that claimed to be one.
    RefusedDecision(String),
}

/// What this host says of itself.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// `https://HOST:PORT`.
    pub url: String,
    /// Where the identity is kept.
    pub identity_path: PathBuf,
    /// Of this boot.
    pub boot: BootId,
    /// A label for people.
    pub hostname: String,
    /// `uname -r`.
    pub kernel: String,
    /// SHA-256 of the policy in force.
    pub policy_digest: String,
    /// What is enforced here.
    pub coverage: Vec<Coverage>,
}

/// Why the stream ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The address or the identity cannot be used for TLS.
    #[error(transparent)]
    Url(#[from] tls::InvalidUrl),
    /// No connection.
    #[error("the controller cannot be reached")]
    Connect(#[from] tonic::transport::Error),
    /// The controller ended the stream, or the network did.
    #[error("the controller ended the link: {0}")]
    Status(#[from] Status),
    /// It closed the stream without an error.
    #[error("the controller closed the link")]
    Closed,
    /// It does not answer.
    #[error("the controller did not answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Silent,
    /// A message that cannot be understood.
    #[error(transparent)]
    Field(#[from] InvalidField),
    /// The certificate could not be renewed.
    #[error("the certificate could not be renewed")]
    Renew(#[source] IdentityError),
    /// More was to say than fits.
    #[error("too many messages for the controller; the link is opened anew")]
    Behind,
    /// The spool cannot be read.
    #[error("evidence cannot be sent")]
    Spool(#[from] SpoolError),
}

/// The running link.
#[derive(Debug)]
pub struct Link {
    config: LinkConfig,
    identity: Identity,
    verifier: DecisionVerifier,
    to_driver: mpsc::Sender<FromLink>,
    from_driver: mpsc::Receiver<ToLink>,
    reset: Arc<Notify>,
}

impl Link {
    /// A link that is not open yet. `reset` opens it anew.
    ///
    /// # Errors
    /// The identity's decision key is not one.
    pub fn new(
        config: LinkConfig,
        identity: Identity,
        to_driver: mpsc::Sender<FromLink>,
        from_driver: mpsc::Receiver<ToLink>,
        reset: Arc<Notify>,
    ) -> Result<Self, InvalidField> {
        let verifier = DecisionVerifier::new(identity.decision_key, identity.host, config.boot)?;
        Ok(Self { config, identity, verifier, to_driver, from_driver, reset })
    }

    /// Opens the stream, again and again, until the driver is gone.
    pub async fn run(mut self, mut spool: Reader) {
        let mut backoff = Backoff::default();
        while !self.to_driver.is_closed() {
            let ended = self.session(&mut spool, &mut backoff).await;
            if self.to_driver.send(FromLink::Down).await.is_err() {
                return;
            }
            // What was meant for the old stream is said again when the next one is up.
            while self.from_driver.try_recv().is_ok() {}
            match ended {
                Ok(()) => backoff.reset(),
                Err(error) => {
                    let wait = backoff.next_wait();
                    let error = anyhow::Error::new(error);
                    tracing::warn!(error = format!("{error:#}"), ?wait, "controller link is down");
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// One stream, from connecting to its end. `Ok`: it is to be opened anew at once.
    async fn session(
        &mut self,
        spool: &mut Reader,
        backoff: &mut Backoff,
    ) -> Result<(), LinkError> {
        let channel = tls::mutual(&self.config.url, &self.identity)?.connect().await?;
        if clock::unix_ms() >= self.identity.renew_at_unix_ms() {
            // A refusal must not cost the link while the old certificate is good.
            match self.renew(channel.clone()).await {
                Ok(()) => return Ok(()),
                Err(error) if clock::unix_ms() < self.identity.expires_unix_ms => {
                    tracing::warn!(error = %anyhow::Error::new(error), "renewal failed");
                }
                Err(error) => return Err(error),
            }
        }
        let (stream, outbound) = mpsc::channel(STREAM_BUFFER);
        let hello = self.hello().await?;
        // The buffer is empty: this cannot wait.
        let _ = stream.send(wire(from_host::Message::Hello(hello))).await;
        let mut client = HostClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let opening = client.link(ReceiverStream::new(outbound));
        let mut inbound = timely(opening).await??.into_inner();
        self.welcome(&mut inbound).await?;
        backoff.reset();
        spool.rewind();
        let (acks, window) = (spool.acknowledger(), Window::default());
        let renew_in = self.renew_in();
        tokio::select! {
            ended = listen(&mut inbound, &self.verifier, &self.to_driver, &acks, &window) => ended,
            ended = talk(&mut self.from_driver, &stream) => ended,
            ended = replay(spool, &stream, &window, GATHER_TIME) => ended,
            () = self.reset.notified() => Err(LinkError::Behind),
            () = tokio::time::sleep(renew_in) => Ok(()),
        }
    }

    fn renew_in(&self) -> Duration {
        let left = self.identity.renew_at_unix_ms().saturating_sub(clock::unix_ms());
        // After a failed renewal: not at once again.
        Duration::from_millis(left).max(Duration::from_secs(60))
    }

    async fn renew(&mut self, channel: Channel) -> Result<(), LinkError> {
        let (key, csr_pem) = new_request().map_err(LinkError::Renew)?;
        let mut client = HostClient::new(channel);
        let answer = timely(client.renew(v1::RenewRequest { csr_pem })).await??.into_inner();
        let identity =
            Identity::from_answer(answer, &key, clock::unix_ms()).map_err(LinkError::Renew)?;
        if identity.host != self.identity.host
            || identity.decision_key != self.identity.decision_key
        {
            let why = "the renewed certificate is another host's or controller's";
            return Err(InvalidField::new("EnrolResponse", "host_id", why).into());
        }
        identity.save(&self.config.identity_path).map_err(LinkError::Renew)?;
        tracing::info!(expires_unix_ms = identity.expires_unix_ms, "certificate renewed");
        self.identity = identity;
        Ok(())
    }

    async fn hello(&self) -> Result<v1::Hello, LinkError> {
        let (reply, answer) = oneshot::channel();
        let asked = self.to_driver.send(FromLink::Opening(reply)).await;
        asked.map_err(|_| LinkError::Closed)?;
        let pending = answer.await.map_err(|_| LinkError::Closed)?;
        let coverage = serde_json::to_string(&self.config.coverage);
        Ok(v1::Hello {
            boot_id: self.config.boot.to_string(),
            hostname: self.config.hostname.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: self.config.kernel.clone(),
            policy_digest: self.config.policy_digest.clone(),
            coverage_json: coverage
                .map_err(|error| InvalidField::new("Hello", "coverage_json", error))?,
            pending_hold_ids: pending.iter().map(ToString::to_string).collect(),
        })
    }

    async fn welcome(&self, inbound: &mut Streaming<v1::FromController>) -> Result<(), LinkError> {
        let first = timely(inbound.message()).await??.ok_or(LinkError::Closed)?;
        let Some(from_controller::Message::Welcome(welcome)) = first.message else {
            let why = "the first message must be Welcome";
            return Err(InvalidField::new("FromController", "message", why).into());
        };
        tracing::info!(controller = welcome.controller_version, "controller link is up");
        self.to_driver.send(FromLink::Up).await.map_err(|_| LinkError::Closed)
    }
}

async fn timely<F: Future>(future: F) -> Result<F::Output, LinkError> {
    tokio::time::timeout(ANSWER_TIMEOUT, future).await.map_err(|_| LinkError::Silent)
}

/// What the controller says.
async fn listen(
    inbound: &mut Streaming<v1::FromController>,
    verifier: &DecisionVerifier,
    to_driver: &mpsc::Sender<FromLink>,
    acks: &crate::spool::read::Acknowledger,
    window: &Window,
) -> Result<(), LinkError> {
    loop {
        let message = inbound.message().await?.ok_or(LinkError::Closed)?;
        let news = match message.message {
            Some(from_controller::Message::Decision(signed)) => match verifier.verify(&signed) {
                Ok(decision) => FromLink::Decision(Box::new(decision)),
                Err(error) => FromLink::RefusedDecision(error.to_string()),
            },
            Some(from_controller::Message::EvidenceAck(ack)) => {
                let boot = ack.boot_id.parse().map_err(|error: uuid::Error| {
                    InvalidField::new("EvidenceAck", "boot_id", error)
                })?;
                acks.ack(boot, ack.sequence)?;
                window.answered();
                continue;
            }
            Some(from_controller::Message::Refused(refused)) => {
                tracing::warn!(what = refused.what, why = refused.why, "refused by the controller");
                continue;
            }
            // Re-sending ends with the stream; an acknowledged hold needs nothing more.
            Some(from_controller::Message::HoldAck(_)) => continue,
            Some(from_controller::Message::Welcome(_)) | None => {
                let why = "unexpected or unknown";
                return Err(InvalidField::new("FromController", "message", why).into());
            }
        };
        to_driver.send(news).await.map_err(|_| LinkError::Closed)?;
    }
}

/// What the hold engine has to say.
async fn talk(
    from_driver: &mut mpsc::Receiver<ToLink>,
    stream: &mpsc::Sender<v1::FromHost>,
) -> Result<(), LinkError> {
    while let Some(message) = from_driver.recv().await {
        let message = match message {
            ToLink::Request(request) => from_host::Message::HoldRequested(v1::HoldRequested {
                hold_id: request.hold_id.to_string(),
                request_json: serde_json::to_string(&request)
                    .map_err(|error| InvalidField::new("HoldRequested", "request_json", error))?,
            }),
            ToLink::Farewell(Farewell { hold_id, end: HoldEnd::Withdrawn(why) }) => {
                from_host::Message::HoldWithdrawn(v1::HoldWithdrawn {
                    hold_id: hold_id.to_string(),
                    why: withdrawal_name(why).to_owned(),
                })
            }
            ToLink::Farewell(Farewell { hold_id, end: HoldEnd::Finished { consumed } }) => {
                let hold_id = hold_id.to_string();
                from_host::Message::HoldFinished(v1::HoldFinished { hold_id, consumed })
            }
            ToLink::Heartbeat(heartbeat) => from_host::Message::Heartbeat(heartbeat),
        };
        stream.send(wire(message)).await.map_err(|_| LinkError::Closed)?;
    }
    // guard-agent is stopping: its last evidence is still to be sent.
    std::future::pending().await
}

/// The evidence that the controller does not have; what is new waits for `gather`.
async fn replay(
    spool: &mut Reader,
    stream: &mpsc::Sender<v1::FromHost>,
    window: &Window,
    gather: Duration,
) -> Result<(), LinkError> {
    loop {
        let Some(batch) = spool.next(BATCH_BYTES)? else {
            if spool.wait().await {
                tokio::time::sleep(gather).await;
                continue;
            }
            // The writer has stopped: there is nothing more to send, but decisions may still come.
            return std::future::pending().await;
        };
        let boot_id = batch.boot.to_string();
        let records = batch.records.into_iter().map(|(sequence, record_json)| v1::EvidenceRecord {
            sequence,
            boot_id: boot_id.clone(),
            record_json,
        });
        let message = v1::EvidenceBatch { records: records.collect(), boot_id: boot_id.clone() };
        let message = wire(from_host::Message::Evidence(message));
        window.send_one().await;
        stream.send(message).await.map_err(|_| LinkError::Closed)?;
    }
}

fn wire(message: from_host::Message) -> v1::FromHost {
    v1::FromHost { message: Some(message) }
}

/// As `guard_model::Withdrawal` is serialized.
fn withdrawal_name(why: guard_model::Withdrawal) -> &'static str {
    match why {
        guard_model::Withdrawal::Abandoned => "abandoned",
        guard_model::Withdrawal::Expired => "expired",
        guard_model::Withdrawal::Superseded => "superseded",
    }
}
