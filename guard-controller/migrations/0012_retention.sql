-- Derived from the log, whose entries `legal_hold_set` and `legal_hold_lifted` say the same: an entry
-- that a hold keeps is not erased.
CREATE TABLE legal_holds (
    id             TEXT PRIMARY KEY,
    scope_json     TEXT NOT NULL,
    reason         TEXT NOT NULL,
    set_by         TEXT NOT NULL,
    set_unix_ms    INTEGER NOT NULL,
    lifted_reason  TEXT,
    lifted_by      TEXT,
    lifted_unix_ms INTEGER
) STRICT;

-- Entries that tell of many erasures at once.
CREATE INDEX log_entries_of_expiries ON log_entries (log_index) WHERE event = 'payloads_expired';
