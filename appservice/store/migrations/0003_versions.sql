-- A number for each object that grows with every change of it or of its status: what readers resume from, and what a
-- writer says it has seen. Triggers keep it, so that no writer can forget to.

CREATE TABLE versions (
    kind    TEXT NOT NULL,
    name    TEXT NOT NULL,
    version INTEGER NOT NULL,            -- of its last change; no two changes have the same
    born    INTEGER NOT NULL,            -- of its first one
    gone    INTEGER NOT NULL DEFAULT 0,  -- rows of what is gone stay for a while, for readers that resume
    PRIMARY KEY (kind, name)
) STRICT;
CREATE UNIQUE INDEX versions_newest ON versions (version);

INSERT INTO versions (kind, name, version, born)
    SELECT kind, name, row_number() OVER (ORDER BY created_at, kind, name), 0 FROM resources;

CREATE TRIGGER resources_made AFTER INSERT ON resources BEGIN
    INSERT INTO versions (kind, name, version, born)
        SELECT NEW.kind, NEW.name, next, next FROM (SELECT coalesce(max(version), 0) + 1 AS next FROM versions)
        WHERE true
        ON CONFLICT (kind, name) DO UPDATE SET version = excluded.version, born = excluded.born, gone = 0;
END;

CREATE TRIGGER resources_changed AFTER UPDATE ON resources BEGIN
    UPDATE versions SET version = (SELECT max(version) + 1 FROM versions) WHERE kind = NEW.kind AND name = NEW.name;
END;

CREATE TRIGGER resources_gone AFTER DELETE ON resources BEGIN
    UPDATE versions SET version = (SELECT max(version) + 1 FROM versions), gone = 1
        WHERE kind = OLD.kind AND name = OLD.name;
END;

CREATE TRIGGER status_made AFTER INSERT ON status BEGIN
    UPDATE versions SET version = (SELECT max(version) + 1 FROM versions)
        WHERE kind = NEW.kind AND name = NEW.name AND gone = 0;
END;

CREATE TRIGGER status_changed AFTER UPDATE ON status WHEN NEW.status <> OLD.status BEGIN
    UPDATE versions SET version = (SELECT max(version) + 1 FROM versions)
        WHERE kind = NEW.kind AND name = NEW.name AND gone = 0;
END;
