-- The public key of the device that exchanged a satellite's token: base64 of 32 bytes (ed25519).
ALTER TABLE satellites ADD COLUMN device_key TEXT;

-- What is wrong with a satellite now; NULL where nothing is.
ALTER TABLE heartbeats ADD COLUMN error_cause TEXT;
ALTER TABLE heartbeats ADD COLUMN error_message TEXT;

-- What satellites say of their replications. A heartbeat whose answer was lost brings its events again: seq and at tell.
CREATE TABLE satellite_events (
    id @id@,
    satellite_id BIGINT NOT NULL REFERENCES satellites (id) ON DELETE CASCADE,
    seq BIGINT NOT NULL,
    at BIGINT NOT NULL,
    event TEXT NOT NULL,
    image TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    total BIGINT NOT NULL,
    cause TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (satellite_id, seq, at)
);
CREATE INDEX satellite_events_satellite ON satellite_events (satellite_id, id);
CREATE INDEX satellite_events_created ON satellite_events (created_at);
