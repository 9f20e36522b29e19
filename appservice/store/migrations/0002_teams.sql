-- Objects that belong to another one, objects that rest, rooms by alias, and who was allowed what.

ALTER TABLE resources ADD COLUMN owner TEXT NOT NULL DEFAULT '';  -- `team/dev`; '' for what somebody declared itself
ALTER TABLE resources ADD COLUMN paused INTEGER NOT NULL DEFAULT 0;
CREATE INDEX resources_owned ON resources (owner) WHERE owner <> '';

ALTER TABLE revisions ADD COLUMN owner TEXT NOT NULL DEFAULT '';  -- as of then: revisions of parts follow from others

ALTER TABLE rooms ADD COLUMN alias TEXT NOT NULL DEFAULT '';  -- localpart; '' for rooms of others

-- Decisions that somebody may ask for later. `actor` and `target` are Matrix ids or keys, `rule` what decided.
CREATE TABLE audit (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at      REAL NOT NULL,
    actor   TEXT NOT NULL,
    action  TEXT NOT NULL,
    target  TEXT NOT NULL,
    room_id TEXT NOT NULL,
    verdict TEXT NOT NULL,
    rule    TEXT NOT NULL,
    cause   TEXT NOT NULL
) STRICT;
CREATE INDEX audit_of ON audit (target, id);
