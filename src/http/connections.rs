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
use actix_web::http::StatusCode;
use actix_web::rt::net::TcpStream;
use prometheus::IntCounter;
use socket2::SockRef;

use super::BASE;
use crate::domain::Problem;

/// How long a client may leave unread what was sent to it, before its connection is cut: the server beneath would wait for
/// ever.
const UNREAD: Duration = Duration::from_secs(10);
/// What the kernel keeps of a connection in each direction, in bytes. Left to itself it takes up to some megabytes, which no
/// request and hardly an answer has, and ten thousand clients who do not read could have all of them filled.
const BUFFER: usize = 65_536;

/// The connections of one instance.
#[derive(Debug)]
pub struct Connections {
    open: AtomicUsize,
    /// Most that may be open.
    limit: usize,
    /// Requests of the crowd that were turned away.
    shed: IntCounter,
}

/// What becomes of a connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// It stays.
    Stays,
    /// It stays if all is well: whoever books without a valid pass is one of the crowd.
    StaysIfWell,
    /// It ends.
    Ends,
}

impl After {
    /// Whether an answer with this status is the last of its connection.
    pub fn is_end(self, status: StatusCode) -> bool {
        match self {
            Self::Stays => false,
            Self::StaysIfWell => !status.is_success(),
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
    /// At most so many, and none yet.
    pub fn new(limit: usize, shed: IntCounter) -> Arc<Self> {
        Arc::new(Self { open: AtomicUsize::new(0), limit, shed })
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Whether a request to this path may be served, and what becomes of its connection, which is counted already.
    ///
    /// # Errors
    /// `OVERLOADED` for the crowd where the last connections are open; that connection ends.
    pub fn admit(&self, path: &str) -> Result<After, Problem> {
        let open = self.count();
        if open <= self.limit - self.limit / 4 {
            return Ok(After::Stays);
        }
        if !is_crowd(path) {
            return Ok(After::StaysIfWell);
        }
        if open <= self.limit - self.limit / 8 {
            return Ok(After::Ends);
        }
        self.shed.inc();
        Err(Problem::overloaded("The number of connections"))
    }

    /// Readies a socket to listen on: each connection it takes on has its buffers.
    ///
    /// # Errors
    /// When they cannot be set.
    pub fn bound_buffers(listener: &TcpListener) -> std::io::Result<()> {
        let socket = SockRef::from(listener);
        socket.set_recv_buffer_size(BUFFER)?;
        socket.set_send_buffer_size(BUFFER)
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

/// Whether a request to this path is one of the crowd's: all but those to book, which get nowhere without a valid pass, and those
/// of operators and their tools.
fn is_crowd(path: &str) -> bool {
    let known =
        path.strip_prefix(BASE).is_some_and(|rest| rest.starts_with("/bookings") || rest.starts_with("/admin/"));
    !known && !matches!(path, "/health" | "/ready" | "/metrics")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_book_or_operate_are_not_the_crowd() {
        for path in ["/api/v1/bookings", "/api/v1/bookings/reserve", "/api/v1/admin/events/e/queue", "/ready"] {
            assert!(!is_crowd(path), "{path}");
        }
        for path in ["/api/v1/queue/join", "/api/v1/queue/position/e/stream", "/api/v1/events", "/docs", "/", "/readyx"]
        {
            assert!(is_crowd(path), "{path}");
        }
    }

    #[test]
    fn from_three_quarters_on_the_crowd_takes_turns_and_the_last_eighth_is_kept() {
        let shed = IntCounter::new("shed", "shed").expect("a name");
        let connections = Connections::new(16, shed.clone());
        let connect = Arc::clone(&connections).on_connect();
        let (mut kept, mut seen) = (Vec::new(), Vec::new());
        for _ in 0..16 {
            let mut data = Extensions::new();
            connect(&(), &mut data);
            kept.push(data);
            let [crowd, books] = ["/api/v1/queue/join", "/api/v1/bookings/reserve"].map(|path| connections.admit(path));
            seen.push((crowd.ok(), books.ok()));
        }
        let expected = [
            (12, (Some(After::Stays), Some(After::Stays))),
            (2, (Some(After::Ends), Some(After::StaysIfWell))),
            (2, (None, Some(After::StaysIfWell))),
        ];
        let expected: Vec<_> = expected.iter().flat_map(|&(times, both)| std::iter::repeat_n(both, times)).collect();
        assert_eq!(seen, expected);
        assert_eq!(shed.get(), 2);
        kept.truncate(3);
        assert_eq!((connections.count(), connections.admit("/").ok()), (3, Some(After::Stays)));
    }
}
