-- What readers that resume have to be told of: what is gone, as it was at last, and only if they may have known it.

ALTER TABLE versions ADD COLUMN labelled INTEGER NOT NULL DEFAULT 0;  -- version of the last change of labels or owner
ALTER TABLE versions ADD COLUMN last TEXT;  -- of what is gone: its rows of `resources` and `status`, as JSON

-- What was gone before nobody can tell like this: they list again.
INSERT INTO meta (key, value) SELECT 'versions_horizon', coalesce(max(version), 0) FROM versions
    WHERE true
    ON CONFLICT (key) DO UPDATE SET value = excluded.value;

DROP TRIGGER resources_changed;
CREATE TRIGGER resources_changed AFTER UPDATE ON resources BEGIN
    UPDATE versions SET version = (SELECT max(version) + 1 FROM versions) WHERE kind = NEW.kind AND name = NEW.name;
    UPDATE versions SET labelled = version
        WHERE kind = NEW.kind AND name = NEW.name AND (NEW.owner <> OLD.owner OR
            json_extract(NEW.document, '$.metadata.labels') IS NOT json_extract(OLD.document, '$.metadata.labels'));
END;
