//! One event applied to one stored request: engine, signature, row and evidence together.

use super::Controller;
use crate::{
    Change, StoreError,
    db::holds::{self, StoredHold},
    engine::{Applied, Approval, Event, Refusal},
};
use guard_proto::{decision, v1::SignedDecision};
use sqlx::{Sqlite, Transaction};

/// What an event did to a stored request. Nobody has been told yet.
#[derive(Debug)]
pub(super) struct Stepped {
    /// What the host must hear now.
    pub(super) send: Option<SignedDecision>,
    /// What pages must hear, if the state changed.
    pub(super) change: Option<Change>,
}

impl Controller {
    /// Applies `event` and writes the result into `tx`; the inner error is the engine's refusal.
    pub(super) async fn step(
        &self,
        tx: &mut Transaction<'static, Sqlite>,
        old: &StoredHold,
        event: Event,
    ) -> Result<Result<Stepped, Refusal>, StoreError> {
        let Applied { approval, send, note } = match old.approval.clone().apply(event) {
            Ok(applied) => applied,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let signed = match (&old.signed, approval.decision()) {
            (Some(signed), Some(_)) => Some(signed.clone()),
            (None, Some(decided)) => Some(decision::sign(&self.inner.decision_key, decided)),
            (_, None) => None,
        };
        let changed = approval.state() != old.approval.state();
        if approval != old.approval {
            holds::update(tx, old, &approval, signed.as_ref(), note).await?;
        }
        if changed {
            self.record_change(tx, old, &approval, note).await?;
        }
        let change = changed.then(|| Change::Hold {
            id: old.request.hold_id,
            state: approval.state(),
            session: old.request.session.id,
        });
        let send = send.and(signed);
        Ok(Ok(Stepped { send, change }))
    }

    async fn record_change(
        &self,
        tx: &mut Transaction<'static, Sqlite>,
        old: &StoredHold,
        new: &Approval,
        note: &str,
    ) -> Result<(), StoreError> {
        let newly = new.decision().filter(|_| old.approval.decision().is_none());
        let event = guard_audit::Event::ApprovalChanged {
            hold_id: old.request.hold_id,
            from: old.approval.state().name().into(),
            to: new.state().name().into(),
            by: newly.map(|d| d.decided_by.clone()).unwrap_or_default(),
            reason: newly.map_or(note, |d| &d.reason).into(),
        };
        self.record(tx, Some(old.request.session.id), event).await
    }
}
