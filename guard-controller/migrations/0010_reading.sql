-- Everything here is derived from the log or says how far somebody has read it. `log_index` is the
-- position in the log, from 0.

-- One row for each log entry, to find it by; the entry itself is read from the log.
CREATE TABLE search (
    log_index INTEGER PRIMARY KEY,
    unix_ms   INTEGER NOT NULL,
    host      TEXT,
    session   TEXT,
    -- Who acted or decided.
    person    TEXT,
    -- `metadata.event_code` of the OCSF event.
    kind      TEXT NOT NULL,
    -- The action of a session: `exec`, `open`…
    action    TEXT,
    -- The OCSF disposition, lower case.
    outcome   TEXT NOT NULL,
    hold      TEXT,
    text      TEXT NOT NULL
) STRICT;
CREATE INDEX search_by_session ON search (session, log_index) WHERE session IS NOT NULL;
CREATE INDEX search_by_host ON search (host, log_index);
CREATE INDEX search_by_person ON search (person, log_index) WHERE person IS NOT NULL;
CREATE INDEX search_by_kind ON search (kind, log_index);
CREATE INDEX search_by_outcome ON search (outcome, log_index);
CREATE INDEX search_by_hold ON search (hold, log_index) WHERE hold IS NOT NULL;
CREATE INDEX search_by_time ON search (unix_ms);

-- The next log index that `search` lacks.
INSERT INTO meta (key, value) VALUES ('search_next', '0');

-- How far each sink has delivered: `next_index` is the first that it has not.
CREATE TABLE sinks (
    name            TEXT PRIMARY KEY,
    next_index      INTEGER NOT NULL,
    delivered       INTEGER NOT NULL DEFAULT 0,
    rejected        INTEGER NOT NULL DEFAULT 0,
    updated_unix_ms INTEGER NOT NULL
) STRICT;
