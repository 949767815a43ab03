//! Rows of `holds`: one per approval request, changed by compare-and-set only.

use super::{Doing as _, int, like, page, parse};
use crate::{
    HoldFilter, HoldView, StoreError,
    engine::{Approval, Facts},
    view::{HASTY_APPROVAL_MS, PAGE_MAX},
};
use guard_model::{BootId, Decision, HoldId, HoldRequest, HoldState, HostId, SessionId, Verdict};
use guard_proto::v1::SignedDecision;
use sha2::{Digest as _, Sha256};
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, SqliteExecutor, sqlite::SqliteRow};

/// How long after its deadline a host that has not said that it is through may still ask for a
/// hold: its clock may be behind.
const AFTER_DEADLINE_MS: u64 = 3600 * 1000;

/// A request as it is stored: what the engine needs, and what the row's version was.
#[derive(Clone, Debug)]
pub struct StoredHold {
    /// The state machine.
    pub approval: Approval,
    /// Transitions so far: what compare-and-set compares.
    pub version: i64,
    /// Everything that the host said.
    pub request: HoldRequest,
    /// The decision as signed, if there is one.
    pub signed: Option<SignedDecision>,
}

const COLUMNS: &str = "h.number, h.hold_id, h.request_json, h.received_unix_ms, \
     h.deadline_unix_ms, \
     h.state, h.version, h.opened_unix_ms, h.decided_by, h.reason, h.decided_unix_ms, \
     h.decision_payload, h.decision_signature, h.finished, \
     COALESCE((SELECT hostname FROM hosts WHERE host_id = h.host), '') AS hostname";

/// What two holds on the same object by sessions of the same principal share.
#[must_use]
pub fn object_key(request: &HoldRequest) -> String {
    let mut hash = Sha256::new();
    for part in [
        request.session.principal.as_str(),
        request.action.name(),
        &request.action.verb_line(),
        &request.action.object_line(),
    ] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex::encode(hash.finalize())
}

/// Inserts a request that has just arrived.
///
/// # Errors
/// The database refused.
pub async fn insert(
    tx: &mut SqliteConnection,
    request: &HoldRequest,
    request_json: &str,
    approval: &Approval,
    signed: Option<&SignedDecision>,
    now_unix_ms: u64,
) -> Result<(), StoreError> {
    let decision = approval.decision();
    let summary = format!("{} {}", request.action.verb_line(), request.action.object_line());
    sqlx::query(
        "INSERT INTO holds (hold_id, host, boot, session, digest, object_key, summary, \
         request_json, received_unix_ms, deadline_unix_ms, state, version, decided_by, reason, \
         decided_unix_ms, decision_payload, decision_signature) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?)",
    )
    .bind(request.hold_id.to_string())
    .bind(request.host.to_string())
    .bind(request.boot.to_string())
    .bind(request.session.id.to_string())
    .bind(request.digest.to_string())
    .bind(object_key(request))
    .bind(summary)
    .bind(request_json)
    .bind(int(now_unix_ms))
    .bind(int(approval.facts().deadline_unix_ms))
    .bind(approval.state().name())
    .bind(decision.map(|d| d.decided_by.clone()))
    .bind(decision.map(|d| d.reason.clone()))
    .bind(decision.map(|d| int(d.decided_at_unix_ms)))
    .bind(signed.map(|s| s.payload.clone()))
    .bind(signed.map(|s| s.signature.clone()))
    .execute(tx)
    .await
    .doing("insert a hold")?;
    Ok(())
}

/// Stores the next state of `old`, if nobody else has changed the row since it was read.
///
/// # Errors
/// [`StoreError::Conflict`] if somebody has.
pub async fn update(
    tx: &mut SqliteConnection,
    old: &StoredHold,
    new: &Approval,
    signed: Option<&SignedDecision>,
    note: &str,
) -> Result<(), StoreError> {
    let decision = new.decision();
    let note = (!note.is_empty() && !new.state().is_open()).then_some(note);
    let reason = decision.map(|d| d.reason.as_str()).or(note);
    let hold_id = old.request.hold_id.to_string();
    let done = sqlx::query(
        "UPDATE holds SET state = ?, version = version + 1, decided_by = ?, reason = ?, \
         decided_unix_ms = ?, decision_payload = ?, decision_signature = ?, finished = ? \
         WHERE hold_id = ? AND state = ? AND version = ?",
    )
    .bind(new.state().name())
    .bind(decision.map(|d| d.decided_by.clone()))
    .bind(reason.map(str::to_owned))
    .bind(decision.map(|d| int(d.decided_at_unix_ms)))
    .bind(signed.map(|s| s.payload.clone()))
    .bind(signed.map(|s| s.signature.clone()))
    .bind(new.finished())
    .bind(hold_id.clone())
    .bind(old.approval.state().name())
    .bind(old.version)
    .execute(tx)
    .await
    .doing("change a hold")?;
    if done.rows_affected() == 1 {
        Ok(())
    } else {
        Err(StoreError::Conflict { what: format!("hold {hold_id}") })
    }
}

/// Notes who first opened a pending request in full. Whether this was the first time.
///
/// # Errors
/// The database refused.
pub async fn set_opened(
    tx: &mut SqliteConnection,
    id: HoldId,
    by: &str,
    now_unix_ms: u64,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "UPDATE holds SET opened_by = ?, opened_unix_ms = ? \
         WHERE hold_id = ? AND opened_unix_ms IS NULL AND state IN ('pending', 'partly_approved')",
    )
    .bind(by.to_owned())
    .bind(int(now_unix_ms))
    .bind(id.to_string())
    .execute(tx)
    .await
    .doing("note that a hold was opened")?;
    Ok(done.rows_affected() == 1)
}

/// Whether somebody may still decide a hold, or its host ask for it again.
///
/// # Errors
/// The database refused.
pub async fn is_under_way(
    db: impl SqliteExecutor<'_>,
    id: HoldId,
    now_unix_ms: u64,
) -> Result<bool, StoreError> {
    let found = sqlx::query(
        "SELECT 1 FROM holds WHERE hold_id = ? AND (state IN ('pending', 'partly_approved') \
         OR finished = 0 AND deadline_unix_ms > ?)",
    )
    .bind(id.to_string())
    .bind(int(now_unix_ms.saturating_sub(AFTER_DEADLINE_MS)))
    .fetch_optional(db)
    .await
    .doing("see whether a hold is under way")?;
    Ok(found.is_some())
}

/// Removes a hold: its payload was erased from the log.
///
/// # Errors
/// The database refused.
pub async fn forget(tx: &mut SqliteConnection, id: HoldId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM holds WHERE hold_id = ?")
        .bind(id.to_string())
        .execute(tx)
        .await
        .doing("remove a hold")?;
    Ok(())
}

/// One request, for the engine.
///
/// # Errors
/// The database refused, or the row cannot be read back.
pub async fn load(
    db: impl SqliteExecutor<'_>,
    id: HoldId,
) -> Result<Option<StoredHold>, StoreError> {
    let mut query = select();
    query.push(" WHERE h.hold_id = ").push_bind(id.to_string());
    let row = query.build().fetch_optional(db).await.doing("read a hold")?;
    row.map(|row| stored(&row)).transpose()
}

/// One request, for people.
///
/// # Errors
/// The database refused, or the row cannot be read back.
pub async fn view(db: impl SqliteExecutor<'_>, id: HoldId) -> Result<Option<HoldView>, StoreError> {
    let mut query = select();
    query.push(" WHERE h.hold_id = ").push_bind(id.to_string());
    let row = query.build().fetch_optional(db).await.doing("read a hold")?;
    row.map(|row| to_view(&row)).transpose()
}

/// Those that match, newest first.
///
/// # Errors
/// The database refused, or a row cannot be read back.
pub async fn list(
    db: impl SqliteExecutor<'_>,
    filter: &HoldFilter,
) -> Result<Vec<HoldView>, StoreError> {
    let mut query = select();
    push_filter(&mut query, filter);
    if let Some(before) = filter.before {
        query.push(" AND h.number < ").push_bind(int(before));
    }
    let order =
        if filter.most_urgent_first { "h.deadline_unix_ms, h.number" } else { "h.number DESC" };
    query.push(" ORDER BY ").push(order).push(" LIMIT ").push_bind(page(filter.limit, PAGE_MAX));
    let rows = query.build().fetch_all(db).await.doing("list holds")?;
    rows.iter().map(to_view).collect()
}

/// How many match; `before` and `limit` do not count.
///
/// # Errors
/// The database refused.
pub async fn count(db: impl SqliteExecutor<'_>, filter: &HoldFilter) -> Result<u64, StoreError> {
    let mut query = QueryBuilder::new("SELECT COUNT(*) FROM holds h");
    push_filter(&mut query, filter);
    let row = query.build().fetch_one(db).await.doing("count holds")?;
    row.try_get(0).doing("count holds")
}

/// Decided holds with the same [`object_key`], newest first, without `except`.
///
/// # Errors
/// The database refused, or a row cannot be read back.
pub async fn earlier_decisions(
    db: impl SqliteExecutor<'_>,
    key: &str,
    except: HoldId,
    limit: usize,
) -> Result<Vec<HoldView>, StoreError> {
    let mut query = select();
    query
        .push(" WHERE h.decided_unix_ms IS NOT NULL AND h.object_key = ")
        .push_bind(key.to_owned());
    query.push(" AND h.hold_id <> ").push_bind(except.to_string());
    query.push(" ORDER BY h.number DESC LIMIT ").push_bind(page(limit, PAGE_MAX));
    let rows = query.build().fetch_all(db).await.doing("read earlier decisions")?;
    rows.iter().map(to_view).collect()
}

/// Pending requests of a session and of a host.
///
/// # Errors
/// The database refused.
pub async fn pending_counts(
    tx: &mut SqliteConnection,
    host: HostId,
    session: SessionId,
) -> Result<(u64, u64), StoreError> {
    let row = sqlx::query(
        "SELECT (SELECT COUNT(*) FROM holds WHERE session = ? AND state = 'pending'), \
         (SELECT COUNT(*) FROM holds WHERE host = ? AND finished = 0 AND state = 'pending')",
    )
    .bind(session.to_string())
    .bind(host.to_string())
    .fetch_one(tx)
    .await
    .doing("count pending holds")?;
    let session = row.try_get(0).doing("count pending holds")?;
    Ok((session, row.try_get(1).doing("count pending holds")?))
}

/// Ids of pending requests whose deadline has come, at most `limit`.
///
/// # Errors
/// The database refused.
pub async fn due(
    db: impl SqliteExecutor<'_>,
    now_unix_ms: u64,
    limit: i64,
) -> Result<Vec<HoldId>, StoreError> {
    let rows = sqlx::query(
        "SELECT hold_id FROM holds WHERE state = 'pending' AND deadline_unix_ms <= ? \
         ORDER BY deadline_unix_ms LIMIT ?",
    )
    .bind(int(now_unix_ms))
    .bind(limit)
    .fetch_all(db)
    .await
    .doing("find expired holds")?;
    rows.iter().map(id_of).collect()
}

/// Pending or decided requests of a host that it has not reported as finished, with their boot.
///
/// # Errors
/// The database refused.
pub async fn unfinished(
    db: impl SqliteExecutor<'_>,
    host: HostId,
) -> Result<Vec<(HoldId, BootId)>, StoreError> {
    let rows = sqlx::query(
        "SELECT hold_id, boot FROM holds WHERE host = ? AND finished = 0 \
         AND state IN ('pending', 'approved', 'rejected') ORDER BY number",
    )
    .bind(host.to_string())
    .fetch_all(db)
    .await
    .doing("find unfinished holds")?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let id = id_of(row)?;
        let boot: String = row.try_get("boot").doing("find unfinished holds")?;
        found.push((id, parse(("holds", "boot", &id.to_string()), boot.parse())?));
    }
    Ok(found)
}

fn select() -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new("SELECT ");
    query.push(COLUMNS).push(" FROM holds h");
    query
}

fn push_filter(query: &mut QueryBuilder<Sqlite>, filter: &HoldFilter) {
    query.push(" WHERE 1");
    if !filter.states.is_empty() {
        query.push(" AND h.state IN (");
        let mut names = query.separated(", ");
        for state in &filter.states {
            names.push_bind(state.name());
        }
        query.push(")");
    }
    if let Some(session) = filter.session {
        query.push(" AND h.session = ").push_bind(session.to_string());
    }
    if let Some(host) = filter.host {
        query.push(" AND h.host = ").push_bind(host.to_string());
    }
    if let Some(text) = &filter.text {
        query.push(" AND (");
        let columns = [
            "h.summary",
            "h.decided_by",
            "h.reason",
            "json_extract(h.request_json, '$.session.name')",
            "json_extract(h.request_json, '$.session.principal')",
        ];
        for (index, column) in columns.into_iter().enumerate() {
            query.push(if index == 0 { "" } else { " OR " }).push(column);
            query.push(" LIKE ").push_bind(like(text)).push(" ESCAPE '\\'");
        }
        query.push(")");
    }
}

fn id_of(row: &SqliteRow) -> Result<HoldId, StoreError> {
    let id: String = row.try_get("hold_id").doing("read a hold's id")?;
    parse(("holds", "hold_id", &id), id.parse())
}

struct Parts {
    request: HoldRequest,
    state: HoldState,
    decision: Option<Decision>,
    finished: bool,
}

fn parts(row: &SqliteRow) -> Result<Parts, StoreError> {
    let key: String = row.try_get("hold_id").doing("read a hold")?;
    let json: String = row.try_get("request_json").doing("read a hold")?;
    let request: HoldRequest = parse(("holds", "request_json", &key), serde_json::from_str(&json))?;
    let state: String = row.try_get("state").doing("read a hold")?;
    let state = parse(
        ("holds", "state", &key),
        serde_json::from_value::<HoldState>(serde_json::Value::String(state)),
    )?;
    let by: Option<String> = row.try_get("decided_by").doing("read a hold")?;
    let at: Option<u64> = row.try_get("decided_unix_ms").doing("read a hold")?;
    let reason: Option<String> = row.try_get("reason").doing("read a hold")?;
    let decision = match (by, at) {
        (Some(decided_by), Some(decided_at_unix_ms)) => Some(Decision {
            host: request.host,
            boot: request.boot,
            hold_id: request.hold_id,
            digest: request.digest,
            verdict: if state == HoldState::Rejected { Verdict::Deny } else { Verdict::Allow },
            decided_by,
            reason: reason.unwrap_or_default(),
            decided_at_unix_ms,
        }),
        _ => None,
    };
    let finished = row.try_get("finished").doing("read a hold")?;
    Ok(Parts { request, state, decision, finished })
}

fn stored(row: &SqliteRow) -> Result<StoredHold, StoreError> {
    let Parts { request, state, decision, finished } = parts(row)?;
    let facts = Facts {
        hold_id: request.hold_id,
        host: request.host,
        boot: request.boot,
        digest: request.digest,
        deadline_unix_ms: row.try_get("deadline_unix_ms").doing("read a hold")?,
    };
    let restored = Approval::restore(facts, state, decision, finished);
    let approval = parse(("holds", "state", &request.hold_id.to_string()), restored)?;
    let payload: Option<Vec<u8>> = row.try_get("decision_payload").doing("read a hold")?;
    let signature: Option<Vec<u8>> = row.try_get("decision_signature").doing("read a hold")?;
    let signed =
        payload.zip(signature).map(|(payload, signature)| SignedDecision { payload, signature });
    Ok(StoredHold {
        approval,
        version: row.try_get("version").doing("read a hold")?,
        request,
        signed,
    })
}

fn to_view(row: &SqliteRow) -> Result<HoldView, StoreError> {
    let Parts { request, state, decision, finished } = parts(row)?;
    let opened: Option<u64> = row.try_get("opened_unix_ms").doing("read a hold")?;
    let decided = decision.as_ref().map(|d| d.decided_at_unix_ms);
    let deliberation_ms = decided.zip(opened).map(|(end, begin)| end.saturating_sub(begin));
    let approved = decision.as_ref().is_some_and(|d| d.verdict == Verdict::Allow);
    Ok(HoldView {
        number: row.try_get("number").doing("read a hold")?,
        hostname: row.try_get("hostname").doing("read a hold")?,
        received_unix_ms: row.try_get("received_unix_ms").doing("read a hold")?,
        opened_unix_ms: opened,
        verdict: decision.as_ref().map(|d| d.verdict),
        reason: row.try_get("reason").doing("read a hold")?,
        decided_unix_ms: decided,
        decided_by: decision.map(|d| d.decided_by),
        deliberation_ms,
        hasty: approved && deliberation_ms.is_none_or(|ms| ms < HASTY_APPROVAL_MS),
        finished,
        request,
        state,
    })
}
