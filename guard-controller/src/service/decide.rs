//! What people do with a hold: open it, decide it; and what time does: expire it.

use super::Controller;
use crate::{
    Actor, Change, DecideError, HoldView, StoreError, clock,
    db::holds,
    engine::{Event, NotPermitted, Permit, Refusal},
};
use guard_model::{HoldId, HoldState, Verdict};

/// Longest reason, bytes: it is signed, shown and kept for ever.
pub const REASON_BYTES_MAX: usize = 2000;

/// Requests that one transaction expires.
const EXPIRE_BATCH: i64 = 256;

impl Controller {
    /// Why this person may not approve it, if so. `Ok` does not say that it is still open.
    ///
    /// # Errors
    /// [`DecideError::NotAllowed`] or [`DecideError::UnmetTerms`].
    pub fn may_decide(&self, hold: &HoldView, by: &Actor) -> Result<(), DecideError> {
        Permit::ask(&self.inner.config.policy, by, &hold.request, Verdict::Allow)
            .map(drop)
            .map_err(refused)
    }

    /// A person decides. When this returns, the decision is durable and on its way to the host.
    ///
    /// # Errors
    /// [`DecideError`]; nothing has changed, but a refused attempt is evidence.
    pub async fn decide(
        &self,
        id: HoldId,
        by: &Actor,
        verdict: Verdict,
        reason: &str,
    ) -> Result<HoldView, DecideError> {
        let reason = reason.trim();
        if reason.is_empty() {
            return Err(DecideError::ReasonMissing);
        }
        if reason.len() > REASON_BYTES_MAX {
            return Err(DecideError::ReasonTooLong { len: reason.len(), max: REASON_BYTES_MAX });
        }
        let mut tx = self.inner.db.write().await?;
        let stored = holds::load(&mut *tx, id).await?.ok_or(DecideError::NotFound(id))?;
        let permit = match Permit::ask(&self.inner.config.policy, by, &stored.request, verdict) {
            Ok(permit) => permit,
            Err(why) => {
                let error = refused(why);
                let why = format!("{}: {}", by.user, with_sources(&error));
                let event = guard_audit::Event::DecisionRefused { hold_id: Some(id), why };
                self.record(&mut tx, Some(stored.request.session.id), event).await?;
                self.commit(tx, []).await?;
                return Err(error);
            }
        };
        let now_unix_ms = clock::unix_ms();
        let event = Event::Decide { permit, reason: reason.to_owned(), now_unix_ms };
        match self.step(&mut tx, &stored, event).await? {
            Ok(stepped) => {
                self.commit(tx, stepped.change).await?;
                // A crash before this line: the host gets it when it links again.
                if let Some(signed) = stepped.send {
                    self.inner.links.send_decision(stored.request.host, signed);
                }
            }
            Err(Refusal::Already(state)) => return Err(DecideError::AlreadyDecided { state }),
            Err(Refusal::TooLate | Refusal::NotDecided) => return Err(DecideError::TooLate),
        }
        self.hold(id).await?.ok_or(DecideError::NotFound(id))
    }

    /// Somebody opened the request in full; the first time counts.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn opened(&self, id: HoldId, by: &Actor) -> Result<(), StoreError> {
        let seen = self.hold(id).await?;
        // Reading again and again must not cost a write each time.
        if seen.is_none_or(|hold| hold.opened_unix_ms.is_some() || !hold.state.is_open()) {
            return Ok(());
        }
        let mut tx = self.inner.db.write().await?;
        holds::set_opened(&mut tx, id, &by.user, clock::unix_ms()).await?;
        self.commit(tx, []).await
    }

    /// Expires what is due. How many.
    pub(super) async fn expire_due(&self) -> Result<usize, StoreError> {
        let now_unix_ms = clock::unix_ms();
        let due = holds::due(self.inner.db.read(), now_unix_ms, EXPIRE_BATCH).await?;
        if due.is_empty() {
            return Ok(0);
        }
        let mut tx = self.inner.db.write().await?;
        let mut changes: Vec<Change> = Vec::new();
        for id in &due {
            // Read again: somebody may have decided it before this transaction began.
            let Some(stored) = holds::load(&mut *tx, *id).await? else { continue };
            if stored.approval.state() != HoldState::Pending {
                continue;
            }
            if let Ok(stepped) = self.step(&mut tx, &stored, Event::Tick { now_unix_ms }).await? {
                changes.extend(stepped.change);
            }
        }
        self.commit(tx, changes).await?;
        Ok(due.len())
    }
}

fn refused(why: NotPermitted) -> DecideError {
    match why {
        NotPermitted::Policy(refusal) => DecideError::NotAllowed(refusal),
        NotPermitted::UnmetTerms(terms) => DecideError::UnmetTerms(terms),
    }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
