-- Executions that can be asked for by their ids, and what came of them: neither is run twice nor forgotten by a restart.

-- SHA-256 of what was to be run; NULL where the id is nobody's to use again.
ALTER TABLE operations ADD COLUMN request BLOB;
-- NULL while it goes on.
ALTER TABLE operations ADD COLUMN ended_unix_ms INTEGER;
-- One word; 'lost' where the server ended first.
ALTER TABLE operations ADD COLUMN status TEXT;
-- What the outcome holds; 0 where it was forgotten, or never was.
ALTER TABLE operations ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE operations ADD COLUMN outcome TEXT;

CREATE INDEX operations_alive ON operations (number) WHERE ended_unix_ms IS NULL;
CREATE INDEX operations_kept ON operations (number, bytes) WHERE bytes > 0;
