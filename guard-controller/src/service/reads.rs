//! What people and programs may read.

use super::{Controller, process_tree};
use crate::{
    EvidenceFilter, HoldFilter, HoldView, HostView, SessionSummary, SessionView, StoreError,
    StoredRecord,
    db::{holds, hosts, sessions},
    evidence::EvidenceStore as _,
    view::TIMELINE_MAX,
};
use guard_model::{HoldId, HostId, SessionId};

impl Controller {
    /// Holds, newest first.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn holds(&self, filter: &HoldFilter) -> Result<Vec<HoldView>, StoreError> {
        holds::list(self.inner.db.read(), filter).await
    }

    /// How many match; `limit` and `before` do not count.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn count_holds(&self, filter: &HoldFilter) -> Result<u64, StoreError> {
        holds::count(self.inner.db.read(), filter).await
    }

    /// One hold.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn hold(&self, id: HoldId) -> Result<Option<HoldView>, StoreError> {
        holds::view(self.inner.db.read(), id).await
    }

    /// Decided holds on the same object by sessions of the same principal, newest first.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn earlier_decisions(
        &self,
        hold: &HoldView,
        limit: usize,
    ) -> Result<Vec<HoldView>, StoreError> {
        let key = holds::object_key(&hold.request);
        holds::earlier_decisions(self.inner.db.read(), &key, hold.request.hold_id, limit).await
    }

    /// Sessions, newest first; only running ones if `running`.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn sessions(
        &self,
        running: bool,
        limit: usize,
    ) -> Result<Vec<SessionSummary>, StoreError> {
        sessions::list(self.inner.db.read(), None, running, limit).await
    }

    /// One session in full.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn session(&self, id: SessionId) -> Result<Option<SessionView>, StoreError> {
        let found = sessions::list(self.inner.db.read(), Some(id), false, 1).await?;
        let Some(summary) = found.into_iter().next() else { return Ok(None) };
        self.flush_evidence().await?;
        let stored = self.inner.evidence.newest_of_session(id, TIMELINE_MAX + 1).await?;
        let timeline_cut = stored.len() > TIMELINE_MAX;
        let timeline: Vec<_> = stored
            .into_iter()
            .skip(usize::from(timeline_cut))
            .map(|stored| stored.record)
            .collect();
        let processes = process_tree::build(&summary.info, &timeline);
        Ok(Some(SessionView { summary, processes, timeline, timeline_cut }))
    }

    /// All hosts, by name.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn hosts(&self) -> Result<Vec<HostView>, StoreError> {
        self.hosts_with_links(None).await
    }

    /// One host.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn host(&self, id: HostId) -> Result<Option<HostView>, StoreError> {
        Ok(self.hosts_with_links(Some(id)).await?.into_iter().next())
    }

    async fn hosts_with_links(&self, only: Option<HostId>) -> Result<Vec<HostView>, StoreError> {
        let mut hosts = hosts::list(self.inner.db.read(), only).await?;
        for host in &mut hosts {
            host.link_up = self.inner.links.is_up(host.id);
        }
        Ok(hosts)
    }

    /// Evidence, in the order in which the controller stored it; its own records included.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn evidence(&self, filter: &EvidenceFilter) -> Result<Vec<StoredRecord>, StoreError> {
        self.flush_evidence().await?;
        self.inner.evidence.read(filter.clone()).await
    }
}
