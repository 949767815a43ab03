//! Setting, listing and lifting legal holds.

use super::{Controller, check_reason};
use crate::{
    LegalHold, StoreError, clock,
    db::{Doing as _, legal_holds},
};
use guard_audit::{Event, HoldScope, retention::is_class};
use uuid::Uuid;

/// Legal holds that may be in force at once: every erasure looks at all of them.
pub const LEGAL_HOLDS_MAX: usize = 1000;

/// Why a legal hold was not set or lifted; nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum LegalHoldError {
    /// It says something that cannot be meant.
    #[error("{0}")]
    Refused(String),
    /// There is none.
    #[error("there is no legal hold {0} in force")]
    NotFound(Uuid),
    /// Storage.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Controller {
    /// Legal holds, the oldest first: all of them, or those in force.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn legal_holds(&self, in_force: bool) -> Result<Vec<LegalHold>, StoreError> {
        let mut connection = self.inner.db.read().acquire().await.doing("read legal holds")?;
        legal_holds::list(&mut connection, in_force).await
    }

    /// Sets a legal hold: from now on nothing that matches is erased. Evidence says who set it and
    /// why. Waits for an erasure that is under way.
    ///
    /// # Errors
    /// [`LegalHoldError`].
    pub async fn set_legal_hold(
        &self,
        scope: HoldScope,
        reason: &str,
        by: &str,
    ) -> Result<LegalHold, LegalHoldError> {
        check_reason(reason).map_err(LegalHoldError::Refused)?;
        check(&scope).map_err(LegalHoldError::Refused)?;
        let _only = self.inner.erasing.lock().await;
        self.finish_erasures().await?;
        let (id, now) = (Uuid::new_v4(), clock::unix_ms());
        let mut tx = self.inner.db.write().await?;
        if legal_holds::list(&mut tx, true).await?.len() >= LEGAL_HOLDS_MAX {
            let why = format!("there are {LEGAL_HOLDS_MAX} legal holds in force: lift one first");
            return Err(LegalHoldError::Refused(why));
        }
        legal_holds::set(&mut tx, id, &scope, (reason, by), now).await?;
        let event = Event::LegalHoldSet {
            legal_hold: id,
            scope: scope.clone(),
            reason: reason.into(),
            by: by.into(),
        };
        self.record(&mut tx, None, event).await?;
        self.commit(tx, []).await?;
        self.flush_evidence().await?;
        Ok(LegalHold {
            id,
            scope,
            reason: reason.into(),
            set_by: by.into(),
            set_unix_ms: now,
            lifted_reason: None,
            lifted_by: None,
            lifted_unix_ms: None,
        })
    }

    /// Lifts a legal hold. Evidence says who lifted it and why. What it kept and is older than its
    /// rule says goes with the next rounds.
    ///
    /// # Errors
    /// [`LegalHoldError`].
    pub async fn lift_legal_hold(
        &self,
        id: Uuid,
        reason: &str,
        by: &str,
    ) -> Result<(), LegalHoldError> {
        check_reason(reason).map_err(LegalHoldError::Refused)?;
        let _only = self.inner.erasing.lock().await;
        let mut tx = self.inner.db.write().await?;
        if !legal_holds::lift(&mut tx, id, (reason, by), clock::unix_ms()).await? {
            return Err(LegalHoldError::NotFound(id));
        }
        let event = Event::LegalHoldLifted { legal_hold: id, reason: reason.into(), by: by.into() };
        self.record(&mut tx, None, event).await?;
        self.commit(tx, []).await?;
        self.flush_evidence().await?;
        self.inner.retention.start_over();
        Ok(())
    }
}

/// A scope that could keep nothing is a mistake, and a dangerous one.
fn check(scope: &HoldScope) -> Result<(), String> {
    if let Some(class) = scope.class.as_ref().filter(|class| !is_class(class)) {
        return Err(format!("`{class}` is no class of evidence: nothing would be kept"));
    }
    if let (Some(from), Some(to)) = (scope.from_unix_ms, scope.to_unix_ms)
        && from >= to
    {
        return Err(format!("from {from} ms on and before {to} ms: nothing would be kept"));
    }
    Ok(())
}
