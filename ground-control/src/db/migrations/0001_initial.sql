-- One text for both databases. Times are Unix microseconds, JSON is text, truth is 0 or 1.
-- @id@: a number the database gives out. @often@: room in the pages of a table whose rows are updated all the time.

CREATE TABLE users (
    id @id@,
    username TEXT NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,
    role TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE sessions (
    id @id@,
    user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    token_hash TEXT NOT NULL UNIQUE,
    expires_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_expiry ON sessions (expires_at);

-- One row a name that somebody tried, whether there is such a user or not.
CREATE TABLE login_attempts (
    username TEXT PRIMARY KEY,
    failed_count BIGINT NOT NULL,
    locked_until BIGINT,
    last_attempt BIGINT NOT NULL
);

CREATE TABLE rate_windows (
    name TEXT PRIMARY KEY,
    started_at BIGINT NOT NULL,
    hits BIGINT NOT NULL
);

CREATE TABLE groups (
    id @id@,
    group_name TEXT NOT NULL UNIQUE,
    registry_url TEXT NOT NULL,
    projects TEXT NOT NULL,
    artifacts TEXT NOT NULL,
    selector TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- What a group wants, a row a tag, so that it can be asked for.
CREATE TABLE group_images (
    group_id BIGINT NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    repository TEXT NOT NULL,
    tag TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (group_id, repository, tag)
);
CREATE INDEX group_images_repository ON group_images (repository);

CREATE TABLE configs (
    id @id@,
    config_name TEXT NOT NULL UNIQUE,
    registry_url TEXT NOT NULL,
    config TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE satellites (
    id @id@,
    name TEXT NOT NULL UNIQUE,
    standing TEXT NOT NULL,
    labels TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE satellite_labels (
    satellite_id BIGINT NOT NULL REFERENCES satellites (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (satellite_id, name)
);
CREATE INDEX satellite_labels_value ON satellite_labels (name, value);

-- by_selector: 1 where the group's selector chose the satellite, and may unchoose it.
CREATE TABLE satellite_groups (
    satellite_id BIGINT NOT NULL REFERENCES satellites (id) ON DELETE CASCADE,
    group_id BIGINT NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    by_selector BIGINT NOT NULL,
    PRIMARY KEY (satellite_id, group_id)
);
CREATE INDEX satellite_groups_group ON satellite_groups (group_id);

CREATE TABLE satellite_configs (
    satellite_id BIGINT PRIMARY KEY REFERENCES satellites (id) ON DELETE CASCADE,
    config_id BIGINT NOT NULL REFERENCES configs (id)
);
CREATE INDEX satellite_configs_config ON satellite_configs (config_id);

-- The robot account of a satellite; one login may be everybody's where the registry has no robots. secret_digest is keyed; previous_digest is believed by this server alone, until
-- the new secret was used or previous_until, so that a lost answer strands nobody.
CREATE TABLE robots (
    satellite_id BIGINT PRIMARY KEY REFERENCES satellites (id) ON DELETE CASCADE,
    login TEXT NOT NULL,
    robot_id TEXT NOT NULL,
    secret_digest TEXT,
    previous_digest TEXT,
    previous_until BIGINT,
    expires_at BIGINT,
    issued_at BIGINT,
    used_at BIGINT,
    refresh_wanted BIGINT NOT NULL,
    projects TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX robots_login ON robots (login);
CREATE INDEX robots_expiry ON robots (expires_at);

CREATE TABLE tokens (
    id @id@,
    satellite_id BIGINT NOT NULL REFERENCES satellites (id) ON DELETE CASCADE,
    token_hash TEXT NOT NULL UNIQUE,
    expires_at BIGINT NOT NULL,
    claimed_at BIGINT,
    claim TEXT,
    used_at BIGINT,
    retry_hash TEXT,
    created_at BIGINT NOT NULL
);
CREATE INDEX tokens_satellite ON tokens (satellite_id);

-- What a satellite said last. Nothing but last_seen is indexed, and that only where it pays.
CREATE TABLE heartbeats (
    satellite_id BIGINT PRIMARY KEY REFERENCES satellites (id) ON DELETE CASCADE,
    last_seen BIGINT,
    heartbeat_interval TEXT,
    interval_us BIGINT,
    activity TEXT,
    state_digest TEXT,
    config_digest TEXT,
    cpu_centi BIGINT,
    memory_bytes BIGINT,
    storage_bytes BIGINT,
    sync_ms BIGINT,
    image_count BIGINT,
    images_hash TEXT,
    reported_at BIGINT,
    status_id BIGINT
) @often@;

CREATE TABLE status_history (
    id @id@,
    satellite_id BIGINT NOT NULL REFERENCES satellites (id) ON DELETE CASCADE,
    activity TEXT NOT NULL,
    state_digest TEXT NOT NULL,
    config_digest TEXT NOT NULL,
    cpu_centi BIGINT NOT NULL,
    memory_bytes BIGINT NOT NULL,
    storage_bytes BIGINT NOT NULL,
    sync_ms BIGINT NOT NULL,
    image_count BIGINT NOT NULL,
    reported_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX status_history_satellite ON status_history (satellite_id, id);
CREATE INDEX status_history_created ON status_history (created_at);

-- Image references that satellites reported, with their parts, so that they can be asked for.
CREATE TABLE images (
    id @id@,
    reference TEXT NOT NULL UNIQUE,
    repository TEXT NOT NULL,
    tag TEXT NOT NULL,
    digest TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX images_repository ON images (repository, tag);
CREATE INDEX images_digest ON images (digest);

CREATE TABLE satellite_images (
    satellite_id BIGINT NOT NULL REFERENCES satellites (id) ON DELETE CASCADE,
    image_id BIGINT NOT NULL REFERENCES images (id),
    PRIMARY KEY (satellite_id, image_id)
);
CREATE INDEX satellite_images_image ON satellite_images (image_id, satellite_id);

-- What was published at central, by repository.
CREATE TABLE publications (
    repository TEXT PRIMARY KEY,
    content_hash TEXT NOT NULL,
    digest TEXT NOT NULL,
    published_at BIGINT NOT NULL
);

-- Objects at central that have to be brought in line with these tables: one row an object, whatever changes it.
CREATE TABLE outbox (
    id @id@,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    generation BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    lease TEXT,
    lease_until BIGINT,
    cause TEXT,
    error TEXT,
    payload TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    done_at BIGINT,
    UNIQUE (kind, name)
);
CREATE INDEX outbox_due ON outbox (done_at, due_at);

CREATE TABLE audit_events (
    id @id@,
    created_at BIGINT NOT NULL,
    event_id TEXT NOT NULL,
    event_type TEXT NOT NULL,
    resource_type TEXT NOT NULL,
    operation TEXT NOT NULL,
    outcome TEXT NOT NULL,
    actor TEXT NOT NULL,
    resource TEXT NOT NULL,
    event TEXT NOT NULL
);
CREATE INDEX audit_events_created ON audit_events (created_at);
CREATE INDEX audit_events_actor ON audit_events (actor, id);
CREATE INDEX audit_events_resource ON audit_events (resource, id);

CREATE TABLE embedded_robots (
    id TEXT PRIMARY KEY,
    login TEXT NOT NULL UNIQUE,
    projects TEXT NOT NULL,
    secret_digest TEXT NOT NULL,
    expires_at BIGINT
);

-- Keys that all replicas share, where none was given to them.
CREATE TABLE server_keys (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
