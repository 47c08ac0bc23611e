-- The ledger. Times are microseconds since 1970-01-01T00:00:00Z, money is in minor units, ids are ASCII.

-- One row: the version of the last change of any event. There is one writer at a time, so versions become visible in
-- their order and a reader that asks "after version n" misses none.
CREATE TABLE catalogue_version (
    only_row BOOLEAN NOT NULL PRIMARY KEY CHECK (only_row),
    version  BIGINT NOT NULL
);
INSERT INTO catalogue_version (only_row, version) VALUES (TRUE, 0);

CREATE TABLE events (
    id           TEXT NOT NULL PRIMARY KEY,
    name         TEXT NOT NULL,
    policy       TEXT NOT NULL,                                        -- the rules of the queue, a JSON object
    version      BIGINT NOT NULL UNIQUE,
    number_next  BIGINT NOT NULL DEFAULT 1 CHECK (number_next >= 1),   -- the first number that is in no block yet
    number_floor BIGINT NOT NULL DEFAULT 0,                            -- numbers below it are void
    tally_mark   BIGINT NOT NULL DEFAULT 0,  -- no zone that is gone had a higher version: one that comes back starts above
    removed      BOOLEAN NOT NULL DEFAULT FALSE,
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL
);

CREATE TABLE shows (
    event_id  TEXT NOT NULL REFERENCES events (id),
    id        TEXT NOT NULL,
    name      TEXT NOT NULL,
    starts_at BIGINT,
    ordinal   BIGINT NOT NULL,                                         -- the order in which the operator listed them
    PRIMARY KEY (event_id, id)
);

-- The CHECK is the last word against overselling; the statements that add to `taken` are guarded too.
CREATE TABLE zones (
    event_id    TEXT NOT NULL,
    show_id     TEXT NOT NULL,
    id          TEXT NOT NULL,
    name        TEXT NOT NULL,
    capacity    BIGINT NOT NULL CHECK (capacity >= 0),
    price_minor BIGINT NOT NULL CHECK (price_minor >= 0),
    taken       BIGINT NOT NULL DEFAULT 0,
    version     BIGINT NOT NULL,                                       -- grows with every change of taken or capacity
    ordinal     BIGINT NOT NULL,
    PRIMARY KEY (event_id, show_id, id),
    FOREIGN KEY (event_id, show_id) REFERENCES shows (event_id, id),
    CONSTRAINT zones_never_oversold CHECK (taken BETWEEN 0 AND capacity)
) WITHOUT ROWID;

-- No foreign keys: a booking outlives its zone, and only a transaction that found the zone writes one.
CREATE TABLE bookings (
    id                TEXT NOT NULL PRIMARY KEY,
    event_id          TEXT NOT NULL,
    show_id           TEXT NOT NULL,
    zone_id           TEXT NOT NULL,
    visitor_id        TEXT NOT NULL,
    pass_id           TEXT,                                -- the pass that it used up, where one was needed
    quantity          BIGINT NOT NULL CHECK (quantity > 0),
    unit_price_minor  BIGINT NOT NULL CHECK (unit_price_minor >= 0),
    status            TEXT NOT NULL CHECK (status IN ('reserved', 'confirmed', 'cancelled', 'expired')),
    created_at        BIGINT NOT NULL,
    expires_at        BIGINT NOT NULL,
    confirmed_at      BIGINT,
    confirmation_code TEXT,
    payment_id        TEXT
);
CREATE UNIQUE INDEX bookings_by_pass ON bookings (pass_id) WHERE pass_id IS NOT NULL;
CREATE INDEX bookings_by_visitor ON bookings (visitor_id, created_at DESC, id DESC);
CREATE INDEX bookings_due ON bookings (expires_at) WHERE status = 'reserved';

-- The seats (reserved and confirmed) that a visitor has of an event.
CREATE TABLE buyers (
    event_id   TEXT NOT NULL,
    visitor_id TEXT NOT NULL,
    seats      BIGINT NOT NULL CHECK (seats >= 0),
    version    BIGINT NOT NULL,                                        -- grows with every change of seats
    PRIMARY KEY (event_id, visitor_id)
) WITHOUT ROWID;

-- The first answer to each request, until it runs out.
CREATE TABLE idempotency (
    visitor_id TEXT NOT NULL,
    route      TEXT NOT NULL,
    key        TEXT NOT NULL,
    body_hash  BLOB NOT NULL,                                          -- SHA-256 of the request's body
    status     BIGINT NOT NULL,
    body       TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (visitor_id, route, key)
) WITHOUT ROWID;
CREATE INDEX idempotency_by_expiry ON idempotency (expires_at);

-- What operators did.
CREATE TABLE audit (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    at       BIGINT NOT NULL,
    actor    TEXT NOT NULL,
    action   TEXT NOT NULL,
    event_id TEXT,
    detail   TEXT NOT NULL                                             -- JSON
);
