//! Every error a caller can be told, in one table; the causes stay inside and go to the log.

use std::time::Duration;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $status:literal, $title:literal;)*) => {
        /// The public name of an error.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// Every code, in the order of the table in the API reference.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// Its HTTP status.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// Its title: the same at every occurrence.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

codes! {
    /// The body, a parameter or a header does not have the form asked for.
    InvalidRequest = "INVALID_REQUEST", 400, "The request is not valid";
    /// No identity, or one that could not be verified.
    Unauthorized = "UNAUTHORIZED", 401, "Who is calling is not known";
    /// The reservation came without a pass.
    QueuePassRequired = "QUEUE_PASS_REQUIRED", 401, "A queue pass is required";
    /// Known, but not allowed.
    Forbidden = "FORBIDDEN", 403, "This is not allowed";
    /// The ticket is not authentic, or somebody else's.
    InvalidToken = "INVALID_TOKEN", 403, "The queue ticket is not valid";
    /// The pass is not authentic or was withdrawn.
    InvalidQueuePass = "INVALID_QUEUE_PASS", 403, "The queue pass is not valid";
    /// The pass ran out.
    QueuePassExpired = "QUEUE_PASS_EXPIRED", 403, "The queue pass has expired";
    /// The pass was used.
    QueuePassUsed = "QUEUE_PASS_USED", 403, "The queue pass was used already";
    /// The pass is for another event or another visitor.
    QueuePassMismatch = "QUEUE_PASS_MISMATCH", 403, "The queue pass is for another event or visitor";
    /// No such path.
    NotFound = "NOT_FOUND", 404, "There is nothing here";
    /// No such event.
    EventNotFound = "EVENT_NOT_FOUND", 404, "There is no such event";
    /// The visitor has no place in this line.
    NotInQueue = "NOT_IN_QUEUE", 404, "Not in this queue";
    /// No such zone.
    ZoneNotFound = "ZONE_NOT_FOUND", 404, "There is no such zone";
    /// No such booking of this visitor's.
    BookingNotFound = "BOOKING_NOT_FOUND", 404, "There is no such booking";
    /// The path exists, not with this method.
    MethodNotAllowed = "METHOD_NOT_ALLOWED", 405, "This method is not allowed here";
    /// The body did not come.
    RequestTimeout = "REQUEST_TIMEOUT", 408, "The request took too long to arrive";
    /// The line is at its limit.
    QueueFull = "QUEUE_FULL", 409, "The queue is full";
    /// The queue takes no joins.
    QueueNotOpen = "QUEUE_NOT_OPEN", 409, "The queue is not open";
    /// Not so many seats left.
    InsufficientSeats = "INSUFFICIENT_SEATS", 409, "Not enough seats left";
    /// More seats than a visitor may have.
    UserLimitExceeded = "USER_LIMIT_EXCEEDED", 409, "The limit for one visitor is reached";
    /// The price sent is not the catalogue's.
    PriceChanged = "PRICE_CHANGED", 409, "The price has changed";
    /// The same request is still running.
    RequestInProgress = "REQUEST_IN_PROGRESS", 409, "The same request is still running";
    /// The reservation ran out before it was confirmed.
    BookingExpired = "BOOKING_EXPIRED", 409, "The reservation has expired";
    /// The booking was cancelled.
    BookingCancelled = "BOOKING_CANCELLED", 409, "The booking was cancelled";
    /// A zone would shrink below what is sold or held.
    CapacityInUse = "CAPACITY_IN_USE", 409, "More seats than that are sold or held";
    /// The body is too large.
    PayloadTooLarge = "PAYLOAD_TOO_LARGE", 413, "The body is too large";
    /// The path and query are too long.
    UriTooLong = "URI_TOO_LONG", 414, "The path or query is too long";
    /// The body is not JSON.
    UnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE", 415, "The body must be JSON";
    /// The key was used with another body.
    IdempotencyMismatch = "IDEMPOTENCY_MISMATCH", 422, "The idempotency key was used for another request";
    /// Too many requests from one caller.
    RateLimited = "RATE_LIMITED", 429, "Too many requests";
    /// The headers are too large.
    HeadersTooLarge = "HEADERS_TOO_LARGE", 431, "The headers are too large";
    /// A fault of ours.
    InternalError = "INTERNAL_ERROR", 500, "Something went wrong here";
    /// More than this instance can take right now.
    Overloaded = "OVERLOADED", 503, "Too busy right now";
    /// A store cannot be reached.
    StoreUnavailable = "STORE_UNAVAILABLE", 503, "A store cannot be reached";
}

/// The longest detail that repeats what was sent, in characters.
const MAX_QUOTED_CHARS: usize = 300;

/// An error as a caller sees it, with the cause for the log.
#[derive(Debug, thiserror::Error)]
#[error("{}: {detail}", code.as_str())]
pub struct Problem {
    /// Its public name.
    pub code: Code,
    /// What to do about it. Never a cause from inside.
    pub detail: String,
    /// Whether `detail` repeats what the caller sent: then it is for the caller alone, and never for a log.
    pub quotes: bool,
    /// When to try again; set for every 429 and 503.
    pub retry_after: Option<Duration>,
    /// What happened inside: for the log only.
    #[source]
    pub cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Problem {
    /// An error that the caller can mend.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let retry_after = matches!(code, Code::Overloaded | Code::StoreUnavailable | Code::RequestInProgress)
            .then_some(Duration::from_secs(1));
        Self { code, detail: detail.into(), quotes: false, retry_after, cause: None }
    }

    /// A body, parameter or header that does not have the form asked for.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(Code::InvalidRequest, detail)
    }

    /// As [`Problem::invalid`], with a detail that repeats a part of what was sent: cut short, and not logged.
    pub fn invalid_as_sent(detail: &str) -> Self {
        let mut short: String = detail.chars().take(MAX_QUOTED_CHARS).collect();
        if short.len() < detail.len() {
            short.push('…');
        }
        Self { quotes: true, ..Self::invalid(short) }
    }

    /// A fault of ours, with its cause for the log.
    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self {
            cause: Some(cause.into()),
            ..Self::new(Code::InternalError, "The fault is on this side and was logged; try again later.")
        }
    }

    /// A store that did not answer, with the cause for the log. Every request can be sent again without harm.
    pub fn unavailable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self {
            cause: Some(cause.into()),
            ..Self::new(Code::StoreUnavailable, "It is safe to send the request again after the time in Retry-After.")
        }
    }

    /// A queue inside is at its bound.
    pub fn overloaded(what: &str) -> Self {
        Self::new(Code::Overloaded, format!("{what} is at its limit. Try again after the time in Retry-After."))
    }
}
