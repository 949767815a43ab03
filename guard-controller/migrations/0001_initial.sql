-- Times are milliseconds since 1970 (…_unix_ms). Ids are UUIDs as text. Tokens are stored as
-- SHA-256 only.

-- `controller_id`: the host id under which the controller's own evidence stands.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE hosts (
    host_id          TEXT PRIMARY KEY,
    hostname         TEXT NOT NULL,
    enrolled_unix_ms INTEGER NOT NULL,
    seen_unix_ms     INTEGER NOT NULL,
    revoked          INTEGER NOT NULL DEFAULT 0,
    boot             TEXT,
    version          TEXT NOT NULL DEFAULT '',
    kernel           TEXT NOT NULL DEFAULT '',
    policy_digest    TEXT NOT NULL DEFAULT '',
    coverage_json    TEXT NOT NULL DEFAULT '[]',
    counters_json    TEXT NOT NULL DEFAULT '{}',
    sessions         INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE join_tokens (
    token_hash      TEXT PRIMARY KEY,
    created_unix_ms INTEGER NOT NULL,
    expires_unix_ms INTEGER NOT NULL,
    used_by         TEXT
) STRICT;

-- One row per hold. `version` counts transitions: every UPDATE compares it (compare-and-set).
CREATE TABLE holds (
    number            INTEGER PRIMARY KEY AUTOINCREMENT,
    hold_id           TEXT NOT NULL UNIQUE,
    host              TEXT NOT NULL,
    boot              TEXT NOT NULL,
    session           TEXT NOT NULL,
    digest            TEXT NOT NULL,
    object_key        TEXT NOT NULL,
    summary           TEXT NOT NULL,
    request_json      TEXT NOT NULL,
    received_unix_ms  INTEGER NOT NULL,
    deadline_unix_ms  INTEGER NOT NULL,
    state             TEXT NOT NULL,
    version           INTEGER NOT NULL,
    opened_by         TEXT,
    opened_unix_ms    INTEGER,
    decided_by        TEXT,
    reason            TEXT,
    decided_unix_ms   INTEGER,
    decision_payload  BLOB,
    decision_signature BLOB,
    -- The host has said that it needs nothing more.
    finished          INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX holds_by_state ON holds (state, deadline_unix_ms);
CREATE INDEX holds_by_session ON holds (session, state);
CREATE INDEX holds_by_host ON holds (host, finished, state);
CREATE INDEX holds_by_object ON holds (object_key, number);

-- Derived from evidence and hold requests; can be rebuilt.
CREATE TABLE sessions (
    session         TEXT PRIMARY KEY,
    host            TEXT NOT NULL,
    boot            TEXT NOT NULL,
    info_json       TEXT NOT NULL,
    started_unix_ms INTEGER NOT NULL,
    ended_unix_ms   INTEGER,
    seen_unix_ms    INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_by_start ON sessions (started_unix_ms);

-- Append-only: (host, boot, sequence) without gaps from 1.
CREATE TABLE evidence (
    position    INTEGER PRIMARY KEY AUTOINCREMENT,
    host        TEXT NOT NULL,
    boot        TEXT NOT NULL,
    sequence    INTEGER NOT NULL,
    unix_ms     INTEGER NOT NULL,
    session     TEXT,
    event       TEXT NOT NULL,
    record_json TEXT NOT NULL,
    UNIQUE (host, boot, sequence)
) STRICT;
CREATE INDEX evidence_by_session ON evidence (session, position) WHERE session IS NOT NULL;
CREATE INDEX evidence_by_host ON evidence (host, boot, position);
CREATE TRIGGER evidence_is_never_changed BEFORE UPDATE ON evidence
BEGIN SELECT RAISE(ABORT, 'evidence is append-only'); END;
CREATE TRIGGER evidence_is_never_deleted BEFORE DELETE ON evidence
BEGIN SELECT RAISE(ABORT, 'evidence is append-only'); END;

-- Last sequence of the controller's own records, per run of the process (its `boot`).
CREATE TABLE own_chain (
    boot TEXT PRIMARY KEY,
    last INTEGER NOT NULL
) STRICT;

-- The controller's own records, written in the transaction of what they tell of, then moved to
-- evidence.
CREATE TABLE outbox (
    host        TEXT NOT NULL,
    boot        TEXT NOT NULL,
    sequence    INTEGER NOT NULL,
    record_json TEXT NOT NULL,
    PRIMARY KEY (host, boot, sequence)
) STRICT;

CREATE TABLE users (
    name            TEXT PRIMARY KEY,
    roles_json      TEXT NOT NULL,
    groups_json     TEXT NOT NULL,
    principals_json TEXT NOT NULL,
    password_hash   TEXT,
    disabled        INTEGER NOT NULL DEFAULT 0,
    created_unix_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE sign_in_links (
    token_hash      TEXT PRIMARY KEY,
    user            TEXT NOT NULL REFERENCES users (name),
    expires_unix_ms INTEGER NOT NULL,
    used_unix_ms    INTEGER
) STRICT;

CREATE TABLE web_sessions (
    token_hash      TEXT PRIMARY KEY,
    user            TEXT NOT NULL REFERENCES users (name),
    csrf_token      TEXT NOT NULL,
    created_unix_ms INTEGER NOT NULL,
    seen_unix_ms    INTEGER NOT NULL,
    expires_unix_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX web_sessions_by_user ON web_sessions (user);

CREATE TABLE api_tokens (
    id              TEXT PRIMARY KEY,
    user            TEXT NOT NULL REFERENCES users (name),
    name            TEXT NOT NULL,
    token_hash      TEXT NOT NULL UNIQUE,
    created_unix_ms INTEGER NOT NULL,
    expires_unix_ms INTEGER NOT NULL,
    used_unix_ms    INTEGER,
    revoked         INTEGER NOT NULL DEFAULT 0,
    UNIQUE (user, name)
) STRICT;
