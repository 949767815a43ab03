-- Evidence stands in the Merkle log (guard-audit); here are its head and what is derived from it.

-- The last committed checkpoint. Swapping this row is the commit; a second writer loses here.
CREATE TABLE log_head (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    checkpoint TEXT NOT NULL
) STRICT;

-- Derived from the log; `guard audit reindex` rebuilds both.
CREATE TABLE log_entries (
    log_index INTEGER PRIMARY KEY,
    host      TEXT NOT NULL,
    boot      TEXT NOT NULL,
    sequence  INTEGER NOT NULL,
    unix_ms   INTEGER NOT NULL,
    session   TEXT,
    event     TEXT NOT NULL,
    erased    INTEGER NOT NULL DEFAULT 0,
    UNIQUE (host, boot, sequence)
) STRICT;
CREATE INDEX log_entries_by_session ON log_entries (session, log_index) WHERE session IS NOT NULL;
CREATE INDEX log_entries_by_host ON log_entries (host, boot, log_index);
CREATE INDEX log_entries_of_erasures ON log_entries (log_index) WHERE event = 'payload_erased';
CREATE TABLE log_hosts (
    host      TEXT PRIMARY KEY,
    leaf_hash TEXT NOT NULL,
    policy    TEXT
) STRICT;

-- What earlier versions stored; the next start moves it into the log.
DROP TRIGGER evidence_is_never_changed;
DROP TRIGGER evidence_is_never_deleted;
DROP INDEX evidence_by_session;
DROP INDEX evidence_by_host;
ALTER TABLE evidence RENAME TO evidence_before_log;
