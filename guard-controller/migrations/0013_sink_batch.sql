-- Where the batch that a sink is delivering ends: a receiver that keeps batches under names gets the
-- very same one again after a crash. 0: none is under way.
ALTER TABLE sinks ADD COLUMN batch_end INTEGER NOT NULL DEFAULT 0;
