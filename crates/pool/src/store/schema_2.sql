-- Asynchronous executions that a client was given an id for: it may ask for one after a restart.
CREATE TABLE operations (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    pool TEXT NOT NULL,
    -- The first half of the identifier's SHA-256, hexadecimal.
    identifier TEXT NOT NULL,
    id TEXT NOT NULL,
    begun_unix_ms INTEGER NOT NULL,
    UNIQUE (pool, identifier, id)
) STRICT;
