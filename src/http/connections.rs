//! The open connections of an instance, and whose requests go first when they run short.
//!
//! A client keeps its connection for as long as it likes, so a crowd alone can take all there are. From three quarters of them
//! on, each answer is therefore the last of its connection, except to those who book or operate: connections change hands, and
//! everybody is served in turn. The last eighth is for those two: the crowd is told to come back.

use std::any::Any;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::dev::Extensions;
use actix_web::http::{Method, StatusCode};
use actix_web::rt::net::TcpStream;
use prometheus::IntCounter;
use socket2::SockRef;

use super::BASE;
use crate::config::HttpSettings;
use crate::domain::Problem;

/// How long what was sent to a client may go unread, or unacknowledged, before its connection is cut: the server beneath would
/// wait for ever. Whoever reads a little now and then stays.
const UNREAD: Duration = Duration::from_secs(10);
/// Connections that wait to be taken on, if the system allows so many (`net.core.somaxconn`).
const BACKLOG: i32 = 4_096;
/// What the kernel keeps of a connection in each direction, in bytes. Left to itself it takes up to some megabytes, which no
/// request and hardly an answer has, and ten thousand clients who do not read could have all of them filled.
const BUFFER: usize = 65_536;

/// The connections of one instance.
#[derive(Debug)]
pub struct Connections {
    open: AtomicUsize,
    /// Up to so many there is room for everybody.
    ample: usize,
    /// Beyond so many the crowd is turned away.
    crowd: usize,
    /// Requests of the crowd that were turned away.
    shed: IntCounter,
}

/// What becomes of a connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// It stays.
    Stays,
    /// It stays unless the caller turns out to have no right to what was asked for: then they are one of the crowd.
    StaysIfAllowed,
    /// It ends.
    Ends,
}

impl After {
    /// Whether an answer with this status is the last of its connection.
    pub fn is_end(self, status: StatusCode) -> bool {
        match self {
            Self::Stays => false,
            Self::StaysIfAllowed => matches!(status.as_u16(), 401 | 403 | 404 | 405),
            Self::Ends => true,
        }
    }
}

/// Counts one connection, as long as it is open.
struct Open(Arc<Connections>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connections {
    /// With the bounds of these settings, and none yet.
    pub fn new(settings: &HttpSettings, shed: IntCounter) -> Arc<Self> {
        let (ample, crowd) = (settings.ample_connections(), settings.crowd_connections());
        Arc::new(Self { open: AtomicUsize::new(0), ample, crowd, shed })
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Whether a request may be served, and what becomes of its connection, which is counted already.
    ///
    /// # Errors
    /// `OVERLOADED` for the crowd where the last connections are open; that connection ends.
    pub fn admit(&self, method: &Method, path: &str) -> Result<After, Problem> {
        let open = self.count();
        if open <= self.ample {
            return Ok(After::Stays);
        }
        if !is_crowd(method, path) {
            return Ok(After::StaysIfAllowed);
        }
        if open <= self.crowd {
            return Ok(After::Ends);
        }
        self.shed.inc();
        Err(Problem::overloaded("The number of connections"))
    }

    /// Readies a socket that listens: how much the kernel keeps of each connection, and how many it keeps that were not taken
    /// on yet.
    ///
    /// # Errors
    /// When that cannot be set.
    pub fn ready(listener: &TcpListener) -> std::io::Result<()> {
        let socket = SockRef::from(listener);
        socket.set_recv_buffer_size(BUFFER)?;
        socket.set_send_buffer_size(BUFFER)?;
        // A socket that listens already takes another length.
        socket.listen(BACKLOG)
    }

    /// For the server to call with each connection it takes on, and with what lives as long as that.
    pub fn on_connect(self: Arc<Self>) -> impl Fn(&dyn Any, &mut Extensions) + Send + Sync {
        move |stream, kept| {
            self.open.fetch_add(1, Ordering::Relaxed);
            kept.insert(Open(Arc::clone(&self)));
            if let Some(stream) = stream.downcast_ref::<TcpStream>() {
                // Where it cannot be set, the peer has gone already.
                let _gone = SockRef::from(stream).set_tcp_user_timeout(Some(UNREAD));
            }
        }
    }
}

/// Whether a request is one of the crowd's: all but those that change a booking, which take a valid pass or a booking of one's own,
/// and those of operators and their tools.
fn is_crowd(method: &Method, path: &str) -> bool {
    let below = |what: &str| path.strip_prefix(BASE).is_some_and(|rest| rest.starts_with(what));
    let books = below("/bookings/") && matches!(*method, Method::POST | Method::DELETE);
    !books && !below("/admin/") && !matches!(path, "/health" | "/ready" | "/metrics")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_book_or_operate_are_not_the_crowd() {
        for (method, path) in [
            (Method::POST, "/api/v1/bookings/reserve"),
            (Method::DELETE, "/api/v1/bookings/b-1"),
            (Method::PATCH, "/api/v1/admin/events/e/queue"),
            (Method::GET, "/ready"),
        ] {
            assert!(!is_crowd(&method, path), "{path}");
        }
        for (method, path) in [
            (Method::POST, "/api/v1/queue/join"),
            (Method::GET, "/api/v1/queue/position/e/stream"),
            (Method::GET, "/api/v1/bookings"),
            (Method::GET, "/api/v1/bookings/b-1"),
            (Method::POST, "/api/v1/bookingsx"),
            (Method::GET, "/docs"),
            (Method::GET, "/readyx"),
        ] {
            assert!(is_crowd(&method, path), "{path}");
        }
    }

    #[test]
    fn from_three_quarters_on_the_crowd_takes_turns_and_the_last_eighth_is_kept() {
        let shed = IntCounter::new("shed", "shed").expect("a name");
        let settings = crate::config::from_pairs(&[("max_connections", "16")]).expect("legal");
        let connections = Connections::new(&settings.http, shed.clone());
        let connect = Arc::clone(&connections).on_connect();
        let (mut kept, mut seen) = (Vec::new(), Vec::new());
        for _ in 0..16 {
            let mut data = Extensions::new();
            connect(&(), &mut data);
            kept.push(data);
            let [crowd, books] = ["queue/join", "bookings/reserve"]
                .map(|path| connections.admit(&Method::POST, &format!("{BASE}/{path}")));
            seen.push((crowd.ok(), books.ok()));
        }
        let expected = [
            (12, (Some(After::Stays), Some(After::Stays))),
            (2, (Some(After::Ends), Some(After::StaysIfAllowed))),
            (2, (None, Some(After::StaysIfAllowed))),
        ];
        let expected: Vec<_> = expected.iter().flat_map(|&(times, both)| std::iter::repeat_n(both, times)).collect();
        assert_eq!(seen, expected);
        assert_eq!(shed.get(), 2);
        kept.truncate(3);
        assert_eq!((connections.count(), connections.admit(&Method::GET, "/").ok()), (3, Some(After::Stays)));
    }
}
