-- What grows with use: found by index, and kept for a time.

CREATE INDEX turns_answered ON turns (answer_event);
CREATE INDEX turns_of_thread ON turns (room_id, thread, asked_at);

-- Calls through the gateway that are too old to be kept one by one.
CREATE TABLE usage_sums (
    consumer   TEXT NOT NULL,
    model      TEXT NOT NULL,
    calls      INTEGER NOT NULL,
    failed     INTEGER NOT NULL,
    tokens_in  INTEGER NOT NULL,
    tokens_out INTEGER NOT NULL,
    PRIMARY KEY (consumer, model)
) STRICT;
