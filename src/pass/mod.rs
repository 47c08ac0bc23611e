//! Who a visitor is, and what they hold: queue tickets, admission passes, user tokens, and the keys of all three.

mod admission;
mod error;
mod files;
mod identity;
mod jwt;
mod keys;
mod operator;
mod ticket;

pub use admission::{MAX_PASS_LEN, PASS_TYPE, PassError, PassKey, VerifiedPass, pass_id};
pub use error::KeyError;
pub use files::private_dir;
pub use identity::{IdentityError, MAX_USER_TOKEN_LEN, VisitorKey, issue_user_token};
pub use jwt::LEEWAY_SECONDS;
pub use keys::Keys;
pub use operator::AdminToken;
pub use ticket::{MAX_TICKET_LEN, Ticket, TicketError, TicketKey};

#[cfg(test)]
mod hostile_tests;
