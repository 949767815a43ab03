//! Searching.

use super::{Index, ReadEntry, ReadError};
use crate::{
    StoreError,
    db::{Doing as _, int, like, page},
};
use guard_model::{HostId, SessionId};
use sqlx::{QueryBuilder, Row as _, Sqlite};

/// Entries that one search may return.
pub const FOUND_MAX: usize = 500;

/// Found entries closer together than this are read in one go: a bundle of the log.
const READ_SPAN: u64 = 256;

/// Which entries; what is absent is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SearchFilter {
    /// Observed by this host.
    pub host: Option<HostId>,
    /// Of this session.
    pub session: Option<SessionId>,
    /// By this person, or of a session that acts for this account.
    pub user: Option<String>,
    /// Guard's name of the record (`decided`, `held`…) or of the action (`exec`, `open`…).
    pub kind: Option<String>,
    /// The OCSF disposition, lower case: `allowed`, `blocked`, `approved`…
    pub outcome: Option<String>,
    /// Made then or later, ms since 1970.
    pub since_unix_ms: Option<u64>,
    /// Made earlier, ms since 1970.
    pub until_unix_ms: Option<u64>,
    /// Message, path, command line, address, digest or leaf hash contains this, ignoring ASCII case.
    pub text: Option<String>,
    /// Only with a smaller index: the next page of the newest.
    pub before: Option<u64>,
    /// From this index on.
    pub from: Option<u64>,
    /// Oldest first instead of newest first.
    pub oldest_first: bool,
    /// At most this many; 0 and more than [`FOUND_MAX`] mean [`FOUND_MAX`].
    pub limit: usize,
}

/// What a search found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The entries, with their events.
    pub entries: Vec<ReadEntry>,
    /// There may be more: where the next page starts (`before`, or `from` if oldest first).
    pub next: Option<u64>,
}

impl Index {
    /// Searches what is indexed.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn search(&self, filter: &SearchFilter) -> Result<Found, ReadError> {
        let indexes = self.find(filter).await?;
        let wanted = usize::try_from(page(filter.limit, FOUND_MAX)).unwrap_or(FOUND_MAX);
        let last = indexes.last().copied().filter(|_| indexes.len() == wanted);
        let next = last.map(|last| if filter.oldest_first { last + 1 } else { last });
        let mut entries = Vec::with_capacity(indexes.len());
        let mut sorted = indexes;
        sorted.sort_unstable();
        let mut rest = &sorted[..];
        while let Some(&first) = rest.first() {
            let near = rest.iter().take_while(|&&index| index < first + READ_SPAN).count();
            let (now, later) = rest.split_at(near);
            let span = now.last().map_or(1, |last| last - first + 1);
            let span = usize::try_from(span).unwrap_or(1);
            entries.extend(self.read_all(first, span, now).await?);
            rest = later;
        }
        if !filter.oldest_first {
            entries.reverse();
        }
        Ok(Found { entries, next })
    }

    /// The entry at `index`, if there is one.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn entry(&self, index: u64) -> Result<Option<ReadEntry>, ReadError> {
        Ok(self.read(index, 1).await?.into_iter().next())
    }

    /// Those of the `span` entries from `first` on that are in `wanted`, which is sorted.
    async fn read_all(
        &self,
        first: u64,
        span: usize,
        wanted: &[u64],
    ) -> Result<Vec<ReadEntry>, ReadError> {
        let mut kept = Vec::with_capacity(wanted.len());
        let (mut at, mut left) = (first, span);
        while left > 0 {
            // A log may give less than asked for before its end.
            let entries = self.entries(at, left).await?;
            if entries.is_empty() {
                break;
            }
            at += entries.len() as u64;
            left = left.saturating_sub(entries.len());
            kept.extend(entries.into_iter().filter(|e| wanted.binary_search(&e.index).is_ok()));
        }
        self.with_events(kept).await
    }

    async fn find(&self, filter: &SearchFilter) -> Result<Vec<u64>, StoreError> {
        let mut query: QueryBuilder<Sqlite> =
            QueryBuilder::new("SELECT log_index FROM search WHERE log_index < ");
        query.push_bind(int(filter.before.unwrap_or(u64::MAX)));
        if let Some(from) = filter.from {
            query.push(" AND log_index >= ").push_bind(int(from));
        }
        for (column, value) in [
            ("host", filter.host.map(|id| id.to_string())),
            ("session", filter.session.map(|id| id.to_string())),
            ("outcome", filter.outcome.clone()),
        ] {
            if let Some(value) = value {
                query.push(format!(" AND {column} = ")).push_bind(value);
            }
        }
        if let Some(kind) = &filter.kind {
            query.push(" AND (kind = ").push_bind(kind.clone());
            query.push(" OR action = ").push_bind(kind.clone()).push(")");
        }
        if let Some(user) = &filter.user {
            query.push(" AND (person = ").push_bind(user.clone());
            query.push(
                " OR session IN (SELECT session FROM sessions \
                 WHERE json_extract(info_json, '$.principal') = ",
            );
            query.push_bind(user.clone()).push("))");
        }
        if let Some(since) = filter.since_unix_ms {
            query.push(" AND unix_ms >= ").push_bind(int(since));
        }
        if let Some(until) = filter.until_unix_ms {
            query.push(" AND unix_ms < ").push_bind(int(until));
        }
        if let Some(text) = &filter.text {
            query.push(" AND text LIKE ").push_bind(like(text)).push(" ESCAPE '\\'");
        }
        let order = if filter.oldest_first { "ASC" } else { "DESC" };
        query.push(format!(" ORDER BY log_index {order} LIMIT "));
        query.push_bind(page(filter.limit, FOUND_MAX));
        let rows = query.build().fetch_all(self.db.read()).await.doing("search the log")?;
        rows.iter().map(|row| row.try_get(0).doing("search the log")).collect()
    }
}
