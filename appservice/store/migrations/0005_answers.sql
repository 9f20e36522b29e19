-- What an agent is asked when an answer calls it that is too long for one message: the whole of it.

ALTER TABLE turns ADD COLUMN answer TEXT NOT NULL DEFAULT '';  -- of such answers only
