-- The first schema: what came in, what goes out, what is wanted, what is so, what agents are asked.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

-- Events of the homeserver, committed before they are acknowledged. `event` is emptied once handled; the id stays
-- to recognise repeats.
CREATE TABLE inbox (
    position    INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id    TEXT NOT NULL UNIQUE,
    room_id     TEXT NOT NULL,
    event       TEXT NOT NULL,
    received_at REAL NOT NULL,
    done        INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX inbox_open ON inbox (position) WHERE done = 0;

-- Events to send. `txn_id` is derived from the cause, so that a repeat after a crash is the same event.
CREATE TABLE outbox (
    position   INTEGER PRIMARY KEY AUTOINCREMENT,
    txn_id     TEXT NOT NULL UNIQUE,
    room_id    TEXT NOT NULL,
    sender     TEXT NOT NULL,
    type       TEXT NOT NULL,
    content    TEXT NOT NULL,
    cause      TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('pending', 'sent', 'dead')),
    event_id   TEXT NOT NULL DEFAULT '',
    error      TEXT NOT NULL DEFAULT '',
    created_at REAL NOT NULL
) STRICT;
CREATE INDEX outbox_open ON outbox (position) WHERE state <> 'sent';

-- Commands of operators. `outcome` is written in the same unit as their effect.
CREATE TABLE commands (
    event_id   TEXT PRIMARY KEY,
    room_id    TEXT NOT NULL,
    sender     TEXT NOT NULL,
    request    TEXT NOT NULL,
    outcome    TEXT NOT NULL DEFAULT '',
    done       INTEGER NOT NULL DEFAULT 0,
    created_at REAL NOT NULL
) STRICT;
CREATE INDEX commands_open ON commands (created_at) WHERE done = 0;

-- Desired state: documents as written (`text`) and as parsed (`document`, JSON).
CREATE TABLE resources (
    kind        TEXT NOT NULL,
    name        TEXT NOT NULL,
    api_version TEXT NOT NULL,
    document    TEXT NOT NULL,
    text        TEXT NOT NULL,
    generation  INTEGER NOT NULL,
    restart     TEXT NOT NULL DEFAULT '',
    author      TEXT NOT NULL,
    cause       TEXT NOT NULL,
    created_at  REAL NOT NULL,
    changed_at  REAL NOT NULL,
    deleting    INTEGER NOT NULL DEFAULT 0,
    finalizers  TEXT NOT NULL DEFAULT '[]',
    PRIMARY KEY (kind, name)
) STRICT;

-- Every accepted change.
CREATE TABLE revisions (
    revision   INTEGER PRIMARY KEY AUTOINCREMENT,
    kind       TEXT NOT NULL,
    name       TEXT NOT NULL,
    action     TEXT NOT NULL,
    generation INTEGER NOT NULL,
    text       TEXT NOT NULL,
    author     TEXT NOT NULL,
    cause      TEXT NOT NULL,
    at         REAL NOT NULL
) STRICT;

-- Observed state, one JSON object a resource.
CREATE TABLE status (
    kind   TEXT NOT NULL,
    name   TEXT NOT NULL,
    status TEXT NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT;

-- What happened to an object, newest last; equal neighbours are counted.
CREATE TABLE happenings (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    kind    TEXT NOT NULL,
    name    TEXT NOT NULL,
    reason  TEXT NOT NULL,
    message TEXT NOT NULL,
    times   INTEGER NOT NULL DEFAULT 1,
    at      REAL NOT NULL
) STRICT;
CREATE INDEX happenings_of ON happenings (kind, name, id);

-- Questions to agents, from the mention to the answer.
CREATE TABLE turns (
    id           TEXT PRIMARY KEY,
    event_id     TEXT NOT NULL,
    agent        TEXT NOT NULL,
    room_id      TEXT NOT NULL,
    thread       TEXT NOT NULL,
    sender       TEXT NOT NULL,
    question     TEXT NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('queued', 'working', 'done', 'failed', 'stopped')),
    attempt      INTEGER NOT NULL DEFAULT 0,
    answer_event TEXT NOT NULL DEFAULT '',
    error        TEXT NOT NULL DEFAULT '',
    root         TEXT NOT NULL,
    hop          INTEGER NOT NULL DEFAULT 0,
    asked_at     REAL NOT NULL,
    ended_at     REAL,
    UNIQUE (event_id, agent)
) STRICT;
CREATE INDEX turns_open ON turns (asked_at) WHERE state IN ('queued', 'working');
CREATE INDEX turns_of_agent ON turns (agent, asked_at);

-- Threads in which an agent is asked by mention only, because more than one person has spoken there.
CREATE TABLE shared_threads (
    thread TEXT PRIMARY KEY
) STRICT;

-- Consumer tokens that were issued and have not expired.
CREATE TABLE tokens (
    jti        TEXT PRIMARY KEY,
    consumer   TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked    INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Calls through the gateway.
CREATE TABLE usage (
    call_id    TEXT PRIMARY KEY,
    at         REAL NOT NULL,
    consumer   TEXT NOT NULL,
    model      TEXT NOT NULL,
    status     INTEGER NOT NULL,
    tokens_in  INTEGER NOT NULL,
    tokens_out INTEGER NOT NULL,
    took_ms    INTEGER NOT NULL,
    detail     TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX usage_of ON usage (consumer, at);

-- Rooms Opsroom made or was asked into: `purpose` is space, ops, worker or direct.
CREATE TABLE rooms (
    room_id TEXT PRIMARY KEY,
    purpose TEXT NOT NULL,
    owner   TEXT NOT NULL DEFAULT '',
    seen    TEXT NOT NULL DEFAULT ''
) STRICT;
