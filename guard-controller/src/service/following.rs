//! What follows the log: search, and the sinks' state.

use super::Controller;
use crate::{
    LogHealth, SessionSummary, StoreError, clock,
    db::{Db, Doing as _, sessions},
    search::{Found, Index, ReadEntry, ReadError, SearchFilter},
    sinks::{SinkState, SinkView, reset},
};
use guard_audit::Event;
use guard_model::{HostId, SessionId};
use sqlx::Row as _;
use std::sync::Arc;

impl Controller {
    /// The log with its search index.
    pub(crate) fn index(&self) -> &Index {
        &self.inner.index
    }

    pub(crate) fn db(&self) -> &Db {
        &self.inner.db
    }

    pub(crate) fn sink_states(&self) -> &[Arc<SinkState>] {
        &self.inner.sinks
    }

    /// Searches the log. What was written within the last moments may not be found yet.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn search(&self, filter: &SearchFilter) -> Result<Found, ReadError> {
        self.index().search(filter).await
    }

    /// One entry of the log.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn log_entry(&self, index: u64) -> Result<Option<ReadEntry>, ReadError> {
        self.index().entry(index).await
    }

    /// What the sinks are doing, in the order of their configuration.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn sinks(&self) -> Result<Vec<SinkView>, StoreError> {
        let size = self.index().size();
        let mut views = Vec::with_capacity(self.inner.sinks.len());
        for state in &self.inner.sinks {
            let lag_ms = self.index().age_ms(state.next()).await?;
            views.push(state.view(size, lag_ms));
        }
        Ok(views)
    }

    /// How far the log, its index and the sinks are.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn log_health(&self) -> Result<LogHealth, StoreError> {
        let sinks = self.sinks().await?;
        let logged = self.inner.evidence.last_time().await?;
        Ok(LogHealth {
            checkpoint_age_ms: logged.map_or(0, |at| clock::unix_ms().saturating_sub(at)),
            waiting: count(self.db(), "SELECT COUNT(*) FROM outbox").await?,
            lost: count(self.db(), "SELECT COUNT(*) FROM search WHERE kind = 'lost'").await?,
            indexed: self.index().indexed(),
            witnessed: self.inner.witnesses.view(),
            retention: self.retention_health().await?,
            // Last: it only grows.
            size: self.index().size(),
            sinks,
        })
    }

    /// Under which host id the controller's own records stand.
    #[must_use]
    pub fn own_id(&self) -> HostId {
        self.inner.outbox.host()
    }

    /// A session as in a list.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn session_summary(
        &self,
        id: SessionId,
    ) -> Result<Option<SessionSummary>, StoreError> {
        Ok(sessions::list(self.inner.db.read(), Some(id), false, 1).await?.into_iter().next())
    }

    /// Makes the search index anew from the log. Evidence says who asked for it.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn rebuild_search(&self, by: &str) -> Result<(), StoreError> {
        let change = "the search index is made anew from the log".into();
        self.audit(Event::UserChanged { user: String::new(), change, by: by.into() }).await?;
        self.index().rebuild().await
    }

    /// Sets a sink's cursor, with evidence of who did it.
    pub(crate) async fn reset_cursor(
        &self,
        name: &str,
        next: u64,
        change: &str,
        by: &str,
    ) -> Result<(), StoreError> {
        let mut tx = self.inner.db.write().await?;
        reset(&mut tx, name, next).await?;
        let event =
            Event::UserChanged { user: String::new(), change: change.into(), by: by.into() };
        self.record(&mut tx, None, event).await?;
        self.commit(tx, []).await
    }
}

async fn count(db: &Db, query: &'static str) -> Result<u64, StoreError> {
    let row = sqlx::query(query).fetch_one(db.read()).await.doing("count rows")?;
    row.try_get(0).doing("count rows")
}
