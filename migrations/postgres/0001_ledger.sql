-- The ledger. Times are microseconds since 1970-01-01T00:00:00Z, money is in minor units, ids are ASCII.
-- Ids compare byte by byte (COLLATE "C"), so that locks are taken in the same order here and in the program.

-- One row: the version of the last change of any event. Whoever changes an event updates this row first, and its lock is
-- held to the commit, so versions become visible in their order and a reader that asks "after version n" misses none.
CREATE TABLE catalogue_version (
    only_row BOOLEAN PRIMARY KEY CHECK (only_row),
    version  BIGINT NOT NULL
);
INSERT INTO catalogue_version (only_row, version) VALUES (TRUE, 0);

CREATE TABLE events (
    id           TEXT COLLATE "C" PRIMARY KEY,
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
    event_id  TEXT COLLATE "C" NOT NULL REFERENCES events (id),
    id        TEXT COLLATE "C" NOT NULL,
    name      TEXT NOT NULL,
    starts_at BIGINT,
    ordinal   BIGINT NOT NULL,                                         -- the order in which the operator listed them
    PRIMARY KEY (event_id, id)
);

-- The CHECK is the last word against overselling; the statements that add to `taken` are guarded too.
CREATE TABLE zones (
    event_id    TEXT COLLATE "C" NOT NULL,
    show_id     TEXT COLLATE "C" NOT NULL,
    id          TEXT COLLATE "C" NOT NULL,
    name        TEXT NOT NULL,
    capacity    BIGINT NOT NULL CHECK (capacity >= 0),
    price_minor BIGINT NOT NULL CHECK (price_minor >= 0),
    taken       BIGINT NOT NULL DEFAULT 0,
    version     BIGINT NOT NULL,                                       -- grows with every change of taken or capacity
    ordinal     BIGINT NOT NULL,
    PRIMARY KEY (event_id, show_id, id),
    FOREIGN KEY (event_id, show_id) REFERENCES shows (event_id, id),
    CONSTRAINT zones_never_oversold CHECK (taken BETWEEN 0 AND capacity)
) WITH (fillfactor = 50);                                              -- room for updates in place: the hottest rows

-- No foreign keys: a booking outlives its zone, and each insert would lock the one row of its event.
CREATE TABLE bookings (
    id                TEXT COLLATE "C" PRIMARY KEY,
    event_id          TEXT COLLATE "C" NOT NULL,
    show_id           TEXT COLLATE "C" NOT NULL,
    zone_id           TEXT COLLATE "C" NOT NULL,
    visitor_id        TEXT COLLATE "C" NOT NULL,
    pass_id           TEXT COLLATE "C",                                -- the pass that it used up, where one was needed
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
    event_id   TEXT COLLATE "C" NOT NULL,
    visitor_id TEXT COLLATE "C" NOT NULL,
    seats      BIGINT NOT NULL CHECK (seats >= 0),
    version    BIGINT NOT NULL,                                        -- grows with every change of seats
    PRIMARY KEY (event_id, visitor_id)
) WITH (fillfactor = 80);

-- The first answer to each request, until it runs out.
CREATE TABLE idempotency (
    visitor_id TEXT COLLATE "C" NOT NULL,
    route      TEXT COLLATE "C" NOT NULL,
    key        TEXT COLLATE "C" NOT NULL,
    body_hash  BYTEA NOT NULL,                                         -- SHA-256 of the request's body
    status     BIGINT NOT NULL,
    body       TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (visitor_id, route, key)
);
CREATE INDEX idempotency_by_expiry ON idempotency (expires_at);

-- What operators did.
CREATE TABLE audit (
    id       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       BIGINT NOT NULL,
    actor    TEXT NOT NULL,
    action   TEXT NOT NULL,
    event_id TEXT COLLATE "C",
    detail   TEXT NOT NULL                                             -- JSON
);
