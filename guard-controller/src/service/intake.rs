//! What hosts say: hello, holds, withdrawals, ends, evidence. A host is believed about itself only.

use super::Controller;
use crate::{
    Change, StoreError, clock,
    db::{holds, hosts, sessions},
    engine::{Approval, CONTROLLER, Event, Facts, Pending, Refusal},
    evidence::{Appended, Entry, EvidenceStore as _},
};
use guard_audit::Event as Evidence;
use guard_model::{
    ActionDigest, BootId, HoldId, HoldRequest, HoldState, HostId, Verdict, Withdrawal,
};
use guard_proto::{
    decision,
    v1::{Hello, SignedDecision},
};
use sqlx::{Sqlite, Transaction};
use std::collections::{BTreeSet, HashSet};

/// Largest hold request, bytes of JSON: argv of 128 KiB with every byte escaped would be cut by
/// guard-agent long before.
pub const REQUEST_BYTES_MAX: usize = 256 << 10;

/// Longest session or principal name, bytes.
const NAME_BYTES_MAX: usize = 256;

/// A hold waits at most this long whatever its host says, ms.
const DEADLINE_MAX_MS: u64 = 24 * 3600 * 1000;

/// Why a hold from a host was not taken. The link stays up; the refusal is evidence.
#[derive(Debug, thiserror::Error)]
pub enum HoldRefused {
    /// Larger than [`REQUEST_BYTES_MAX`].
    #[error("the request has {0} bytes, at most {REQUEST_BYTES_MAX} are taken")]
    TooLong(usize),
    /// Not a hold request.
    #[error("not a hold request")]
    Json(#[source] serde_json::Error),
    /// A field does not say what it must.
    #[error("{field}: {problem}")]
    Field {
        /// Which.
        field: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// The id is taken by another host's hold or another action.
    #[error("this id stands for another action")]
    OtherAction,
    /// Storage.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Controller {
    /// A host has linked. Holds that it does not list are over, of earlier boots too; what comes
    /// back are decisions that it must hear again.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn host_linked(
        &self,
        host: HostId,
        boot: BootId,
        hello: &Hello,
        listed: &HashSet<HoldId>,
    ) -> Result<Vec<SignedDecision>, StoreError> {
        let mut tx = self.inner.db.write().await?;
        hosts::set_hello(&mut tx, host, boot, hello, clock::unix_ms()).await?;
        sessions::end_other_boots(&mut tx, host, boot).await?;
        let mut changes = vec![Change::Host { id: host }];
        let mut again = Vec::new();
        for (id, of_boot) in holds::unfinished(&mut *tx, host).await? {
            let Some(stored) = holds::load(&mut *tx, id).await? else { continue };
            if of_boot == boot && listed.contains(&id) {
                again.extend(stored.signed);
            } else if let Ok(stepped) = self.step(&mut tx, &stored, Event::Unlisted).await? {
                changes.extend(stepped.change);
            }
        }
        self.record(&mut tx, None, Evidence::HostLink { linked: host, up: true }).await?;
        self.commit(tx, changes).await?;
        Ok(again)
    }

    /// A host's link has ended.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn host_unlinked(&self, host: HostId) -> Result<(), StoreError> {
        let mut tx = self.inner.db.write().await?;
        self.record(&mut tx, None, Evidence::HostLink { linked: host, up: false }).await?;
        self.commit(tx, [Change::Host { id: host }]).await
    }

    /// A host holds an action (or says so again). Durable when this returns; what comes back is a
    /// decision that exists already.
    ///
    /// # Errors
    /// [`HoldRefused`].
    pub async fn receive_hold(
        &self,
        host: HostId,
        boot: BootId,
        hold_id: HoldId,
        json: &str,
    ) -> Result<Option<SignedDecision>, HoldRefused> {
        let request = parse_request(host, boot, hold_id, json)?;
        let mut tx = self.inner.db.write().await?;
        let now_unix_ms = clock::unix_ms();
        if let Some(stored) = holds::load(&mut *tx, hold_id).await? {
            if stored.request.host != host || stored.request.digest != request.digest {
                return Err(HoldRefused::OtherAction);
            }
            let stepped = self.step(&mut tx, &stored, Event::Requested { now_unix_ms }).await?;
            let Ok(stepped) = stepped else { return Ok(None) };
            self.commit(tx, stepped.change).await?;
            return Ok(stepped.send);
        }
        if sessions::belongs_to_another(&mut tx, request.session.id, host).await? {
            let problem = "this session is another host's";
            return Err(HoldRefused::Field { field: "session.id", problem });
        }
        self.insert_hold(tx, &request, json, now_unix_ms).await.map_err(HoldRefused::Store)
    }

    async fn insert_hold(
        &self,
        mut tx: Transaction<'static, Sqlite>,
        request: &HoldRequest,
        json: &str,
        now_unix_ms: u64,
    ) -> Result<Option<SignedDecision>, StoreError> {
        let pending = Pending::new(Facts {
            hold_id: request.hold_id,
            host: request.host,
            boot: request.boot,
            digest: request.digest,
            deadline_unix_ms: request.deadline_unix_ms.min(now_unix_ms + DEADLINE_MAX_MS),
        });
        let approval = match self.over_a_cap(&mut tx, request).await? {
            Some(why) => pending.deny_by_controller(why, now_unix_ms),
            None => Approval::Pending(pending),
        };
        let signed = approval.decision().map(|d| decision::sign(&self.inner.decision_key, d));
        holds::insert(&mut tx, request, json, &approval, signed.as_ref(), now_unix_ms).await?;
        let (host, session) = (request.host, request.session.id);
        sessions::upsert(&mut tx, host, request.boot, &request.session, now_unix_ms).await?;
        let event = Evidence::ApprovalChanged {
            hold_id: request.hold_id,
            from: String::new(),
            to: approval.state().name().into(),
            by: approval.decision().map(|_| CONTROLLER.to_owned()).unwrap_or_default(),
            reason: approval.decision().map(|d| d.reason.clone()).unwrap_or_default(),
        };
        self.record(&mut tx, Some(session), event).await?;
        let change = Change::Hold { id: request.hold_id, state: approval.state(), session };
        self.commit(tx, [change]).await?;
        Ok(signed)
    }

    async fn over_a_cap(
        &self,
        tx: &mut Transaction<'static, Sqlite>,
        request: &HoldRequest,
    ) -> Result<Option<String>, StoreError> {
        let limits = self.inner.config.limits;
        let (of_session, of_host) =
            holds::pending_counts(tx, request.host, request.session.id).await?;
        let over =
            |what, max: u32| Some(format!("too many pending holds: this {what} has {max} already"));
        Ok(if of_session >= u64::from(limits.pending_per_session) {
            over("session", limits.pending_per_session)
        } else if of_host >= u64::from(limits.pending_per_host) {
            over("host", limits.pending_per_host)
        } else {
            None
        })
    }

    /// A host needs no decision any more.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn hold_withdrawn(
        &self,
        host: HostId,
        id: HoldId,
        why: Withdrawal,
    ) -> Result<(), StoreError> {
        self.settle(host, id, Event::Withdrawn(why)).await.map(drop)
    }

    /// A host has carried a decision out, or its grant lapsed. `Ok(false)`: it was never decided,
    /// or is not that host's.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn hold_finished(
        &self,
        host: HostId,
        id: HoldId,
        consumed: bool,
    ) -> Result<bool, StoreError> {
        self.settle(host, id, Event::Finished { consumed }).await
    }

    async fn settle(&self, host: HostId, id: HoldId, event: Event) -> Result<bool, StoreError> {
        let mut tx = self.inner.db.write().await?;
        let stored = holds::load(&mut *tx, id).await?;
        let Some(stored) = stored.filter(|stored| stored.request.host == host) else {
            return Ok(false);
        };
        match self.step(&mut tx, &stored, event).await? {
            Ok(stepped) => {
                self.commit(tx, stepped.change).await?;
                Ok(true)
            }
            Err(Refusal::NotDecided | Refusal::Already(_) | Refusal::TooLate) => Ok(false),
        }
    }

    /// Stores a host's evidence of one boot, and lets outcomes settle what they are about.
    ///
    /// # Errors
    /// Storage failed; nothing of the batch is stored.
    pub async fn receive_evidence(
        &self,
        host: HostId,
        boot: BootId,
        entries: Vec<Entry>,
    ) -> Result<Appended, StoreError> {
        let mut touched = BTreeSet::new();
        let mut outcomes = Vec::new();
        let mut heard_counters = false;
        for Entry { record, .. } in &entries {
            touched.extend(record.session);
            heard_counters |= matches!(record.event, Evidence::Heartbeat { .. });
            if let Evidence::Outcome { hold_id: Some(id), verdict, .. } = record.event {
                outcomes.push((id, verdict == Verdict::Allow));
            }
        }
        let appended = self.inner.evidence.append(host, boot, entries).await?;
        // A crash before this line: HoldFinished or the host's next hello settles them.
        for (id, consumed) in outcomes {
            let hold = self.hold(id).await?;
            if hold.is_some_and(|hold| hold.state == HoldState::Approved) {
                self.settle(host, id, Event::Finished { consumed }).await?;
            }
        }
        for id in touched {
            let _ = self.inner.changes.send(Change::Session { id });
        }
        if heard_counters {
            let _ = self.inner.changes.send(Change::Host { id: host });
        }
        Ok(appended)
    }

    /// The last evidence of a boot that is stored; 0 if none.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn last_evidence(&self, host: HostId, boot: BootId) -> Result<u64, StoreError> {
        self.inner.evidence.last(host, boot).await
    }

    /// A sign of life.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn host_seen(&self, host: HostId, sessions: u32) -> Result<(), StoreError> {
        let mut tx = self.inner.db.write().await?;
        hosts::set_seen(&mut tx, host, Some(sessions), clock::unix_ms()).await?;
        self.commit(tx, [Change::Host { id: host }]).await
    }

    /// Something that a host sent was not accepted.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn host_refused(
        &self,
        host: HostId,
        what: &str,
        why: String,
    ) -> Result<(), StoreError> {
        self.audit(Evidence::HostRefused { refused: host, what: what.into(), why }).await
    }
}

/// Checks everything that can be checked without the database.
fn parse_request(
    host: HostId,
    boot: BootId,
    hold_id: HoldId,
    json: &str,
) -> Result<HoldRequest, HoldRefused> {
    if json.len() > REQUEST_BYTES_MAX {
        return Err(HoldRefused::TooLong(json.len()));
    }
    let request: HoldRequest = serde_json::from_str(json).map_err(HoldRefused::Json)?;
    let field = |field, problem| Err(HoldRefused::Field { field, problem });
    if request.host != host {
        return field("host", "it is not the host of the certificate");
    }
    if request.boot != boot {
        return field("boot", "it is not the boot of this link");
    }
    if request.hold_id != hold_id {
        return field("hold_id", "it differs from the envelope's");
    }
    let HoldRequest { session, process, action, .. } = &request;
    if request.digest != ActionDigest::of(host, boot, session.id, process, action) {
        return field("digest", "it is not the digest of this action");
    }
    if session.name.len() > NAME_BYTES_MAX {
        return field("session.name", "longer than 256 bytes");
    }
    if session.principal.is_empty() || session.principal.len() > NAME_BYTES_MAX {
        return field("session.principal", "empty, or longer than 256 bytes");
    }
    Ok(request)
}
