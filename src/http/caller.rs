//! Who is calling: a bearer token, the header of a trusted gateway, or a queue ticket.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::header::{self, HeaderName};
use actix_web::{FromRequest, HttpRequest};

use super::error::{Answer, HttpProblem};
use super::state::State;
use crate::domain::{Code, EventId, Problem, VisitorId};
use crate::pass::Ticket;

/// The header that a ticket travels in.
pub static TICKET_HEADER: HeaderName = HeaderName::from_static("x-queue-ticket");
/// The cookie that a ticket travels in.
pub const TICKET_COOKIE: &str = "usher_ticket";
/// The header that a pass travels in.
pub static PASS_HEADER: HeaderName = HeaderName::from_static("x-queue-pass");
/// Most ticket cookies that are looked at: a browser sends one an event, and one for the whole site.
const MAX_COOKIES: usize = 8;

/// What a request proves about its caller. Extracting it also counts the request against the caller's rate limit.
#[derive(Debug, Clone)]
pub struct Caller {
    token: Option<VisitorId>,
    header: Option<Ticket>,
    cookies: Vec<Ticket>,
    /// Whether a ticket or a pass alone may say who calls.
    pub anonymous_allowed: bool,
}

impl Caller {
    /// The visitor, if the request proves one. A token and a ticket that are both sent must agree.
    pub fn visitor(&self) -> Answer<Option<VisitorId>> {
        let mut tickets = self.header.iter().chain(&self.cookies);
        match &self.token {
            Some(visitor) if tickets.any(|ticket| ticket.visitor != *visitor) => Err(disagree()),
            Some(visitor) => Ok(Some(visitor.clone())),
            None if !self.anonymous_allowed => Err(unauthorized()),
            None => Ok(self.header.as_ref().or(self.cookies.first()).map(|ticket| ticket.visitor.clone())),
        }
    }

    /// The visitor for a join: `None` asks for a new identity. Here a cookie that disagrees with the token gives way, because the
    /// answer replaces it.
    pub fn joining(&self, event: &EventId) -> Answer<Option<VisitorId>> {
        match &self.token {
            Some(visitor) if self.header.as_ref().is_some_and(|ticket| ticket.visitor != *visitor) => Err(disagree()),
            Some(visitor) => Ok(Some(visitor.clone())),
            None if !self.anonymous_allowed => Err(unauthorized()),
            None => Ok(self.ticket(event).or(self.header.as_ref()).or(self.cookies.first()).map(|t| t.visitor.clone())),
        }
    }

    /// The visitor of a request about one event.
    pub fn at(&self, event: &EventId) -> Answer<Option<VisitorId>> {
        match self.visitor()? {
            Some(_) if self.token.is_none() && self.header.is_none() => {
                Ok(self.ticket(event).or(self.cookies.first()).map(|ticket| ticket.visitor.clone()))
            }
            visitor => Ok(visitor),
        }
    }

    /// The ticket that was sent for this event.
    pub fn ticket(&self, event: &EventId) -> Option<&Ticket> {
        self.header.iter().chain(&self.cookies).find(|ticket| ticket.event == *event)
    }

    fn read(request: &HttpRequest, state: &State) -> Result<Self, Problem> {
        let now = state.clock.now();
        let mut caller =
            Self { token: None, header: None, cookies: Vec::new(), anonymous_allowed: state.callers.anonymous_allowed };
        let trusted = state.callers.trusted_header.as_ref().filter(|name| request.headers().contains_key(*name));
        if let Some(name) = trusted {
            let id = only(request, name).and_then(|text| VisitorId::parse(text).ok());
            caller.token =
                Some(id.ok_or_else(|| Problem::new(Code::Unauthorized, "The gateway's visitor id is not an id."))?);
        } else if let Some(token) = bearer(request)? {
            let Some(key) = &state.callers.visitor_key else {
                let detail =
                    "This server has no key to check tokens with; call without Authorization, or configure one.";
                return Err(Problem::new(Code::Unauthorized, detail));
            };
            let visitor = key.verify(token, now).map_err(|why| {
                tracing::debug!(%why, "a user token was refused");
                Problem::new(Code::Unauthorized, "The bearer token is not valid; sign in again.")
            })?;
            caller.token = Some(visitor);
        }
        if let Some(value) = request.headers().get(&TICKET_HEADER) {
            let ticket = value.to_str().ok().and_then(|text| state.tickets.verify(text, now).ok());
            caller.header = Some(ticket.ok_or_else(|| {
                Problem::new(
                    Code::InvalidToken,
                    "Send the ticket exactly as the join gave it; join again if it has run out.",
                )
            })?);
        } else {
            caller.cookies =
                cookies(request).filter_map(|text| state.tickets.verify(text, now).ok()).take(MAX_COOKIES).collect();
        }
        Ok(caller)
    }

    /// Whom the rate limit counts.
    fn identity(&self) -> Option<&VisitorId> {
        self.token.as_ref().or_else(|| self.header.iter().chain(&self.cookies).map(|ticket| &ticket.visitor).next())
    }
}

impl FromRequest for Caller {
    type Error = HttpProblem;
    type Future = Ready<Result<Self, HttpProblem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(State::of(request).and_then(|state| {
            let caller = Self::read(request, state);
            let who = caller.as_ref().ok().and_then(Self::identity);
            count(request, state, who).and(caller.map_err(HttpProblem::from))
        }))
    }
}

/// Counts a request to what is for everybody against the rate limit of whoever calls, without asking who may.
pub struct Counted;

impl FromRequest for Counted {
    type Error = HttpProblem;
    type Future = Ready<Result<Self, HttpProblem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(State::of(request).and_then(|state| {
            let caller = Caller::read(request, state).ok();
            count(request, state, caller.as_ref().and_then(Caller::identity)).map(|()| Self)
        }))
    }
}

/// Counts the request against the caller's rate limit. A valid pass lifts the limit; it is verified only for those over it,
/// because a signature costs more than a count.
fn count(request: &HttpRequest, state: &State, who: Option<&VisitorId>) -> Result<(), HttpProblem> {
    let counted = match who {
        Some(visitor) => state.limits.count_visitor(visitor),
        None => count_address(request, state),
    };
    counted.or_else(|limited| {
        let good = pass(request).is_some_and(|token| state.passes.verify(&token, state.clock.now()).is_ok());
        if good { Ok(()) } else { Err(limited) }
    })
}

/// Counts the request against the limit of the address that it comes from.
pub fn count_address(request: &HttpRequest, state: &State) -> Result<(), HttpProblem> {
    state.proxies.client(request).map_or(Ok(()), |address| state.limits.count_address(address))
}

/// The value of a header that says who calls. Sent twice it says nothing: a proxy may have read one of them, and we the other.
fn only<'a>(request: &'a HttpRequest, name: &HeaderName) -> Option<&'a str> {
    let mut values = request.headers().get_all(name);
    let value = values.next()?;
    if values.next().is_some() { None } else { value.to_str().ok() }
}

/// The token of an `Authorization: Bearer` header.
pub fn bearer(request: &HttpRequest) -> Result<Option<&str>, Problem> {
    if !request.headers().contains_key(header::AUTHORIZATION) {
        return Ok(None);
    }
    let malformed = || Problem::new(Code::Unauthorized, "Send Authorization: Bearer <token>, once.");
    let (scheme, token) =
        only(request, &header::AUTHORIZATION).and_then(|text| text.split_once(' ')).ok_or_else(malformed)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(Some(token.trim())) } else { Err(malformed()) }
}

/// The pass that was sent in the header. An empty one is none.
pub fn pass(request: &HttpRequest) -> Option<String> {
    let value = request.headers().get(&PASS_HEADER).filter(|value| !value.is_empty())?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn cookies(request: &HttpRequest) -> impl Iterator<Item = &str> {
    request
        .headers()
        .get_all(header::COOKIE)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| *name == TICKET_COOKIE)
        .map(|(_, value)| value)
}

fn unauthorized() -> HttpProblem {
    Problem::new(Code::Unauthorized, "Sign in, and send Authorization: Bearer <token>.").into()
}

fn disagree() -> HttpProblem {
    let detail = "The ticket belongs to another visitor than the token; drop the ticket (or cookie), or join again.";
    Problem::new(Code::InvalidToken, detail).into()
}
