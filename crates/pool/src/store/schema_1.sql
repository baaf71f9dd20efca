-- Times are milliseconds since 1970 UTC.

CREATE TABLE pools (
    name TEXT PRIMARY KEY,
    spec TEXT NOT NULL
) STRICT;

CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    secret_sha256 BLOB NOT NULL UNIQUE,
    scopes TEXT NOT NULL,
    created_unix_ms INTEGER NOT NULL,
    revoked_unix_ms INTEGER,
    last_used_unix_ms INTEGER
) STRICT;

-- A session's time with its identifier.
CREATE TABLE usage (
    id INTEGER PRIMARY KEY,
    pool TEXT NOT NULL,
    -- The first half of the identifier's SHA-256, hexadecimal.
    identifier TEXT NOT NULL,
    allocation TEXT NOT NULL,
    started_unix_ms INTEGER NOT NULL,
    -- NULL while it lives.
    ended_unix_ms INTEGER,
    end_reason TEXT,
    -- Exit status or signal number, where the reason has one.
    end_number INTEGER,
    busy_ms INTEGER NOT NULL DEFAULT 0,
    idle_ms INTEGER NOT NULL DEFAULT 0,
    cpu_us INTEGER NOT NULL DEFAULT 0,
    memory_byte_s INTEGER NOT NULL DEFAULT 0,
    executions INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX usage_of_pool ON usage (pool, started_unix_ms);
CREATE INDEX usage_of_identifier ON usage (pool, identifier, id);
CREATE INDEX usage_alive ON usage (id) WHERE ended_unix_ms IS NULL;

-- Whatever else has to outlive the process, by kind and name.
CREATE TABLE documents (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT;
