//! `usher healthcheck`: asks the service at the listen address how it is, with nothing but a socket, so that an image needs
//! no other tool for it.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::Done;
use crate::config::Settings;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Ask whether the stores are reachable too.
    pub ready: bool,
    /// Longest wait.
    pub timeout: Duration,
}

/// Asks, and gives the HTTP status: 200 = well.
///
/// # Errors
/// What the system says when nobody answers in time, or the answer is not HTTP.
pub fn ask(listen: SocketAddr, options: Options) -> io::Result<u16> {
    let deadline = Instant::now() + options.timeout;
    let path = if options.ready { "/ready" } else { "/health" };
    let mut stream = TcpStream::connect_timeout(&reachable(listen), options.timeout)?;
    stream.set_write_timeout(Some(options.timeout))?;
    // Put together first: written through the formatter it would leave in a packet for every piece of it.
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: usher-healthcheck\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    // "HTTP/1.1 200" is all that matters; it may come in pieces.
    let mut head = [0; 12];
    let mut filled = 0;
    while filled < head.len() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut head[filled..])? {
            0 => break,
            more => filled += more,
        }
    }
    let status = std::str::from_utf8(&head[..filled]).ok().and_then(|line| line.strip_prefix("HTTP/1."));
    let status = status.and_then(|rest| rest.get(2..)).and_then(|digits| digits.parse().ok());
    status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))
}

/// Runs the command: fails unless the answer is 200.
///
/// # Errors
/// Those of [`ask`], or the status when it is another.
pub fn run(settings: &Settings, options: Options) -> Done {
    match ask(settings.http.listen, options)? {
        200 => Ok(()),
        status => Err(format!("the service at {} answered {status}", settings.http.listen).into()),
    }
}

/// A service that listens on every address is reached by the local one.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Answers one request with these pieces, and gives back the request's first line.
    fn answering(pieces: &'static [&'static str]) -> (SocketAddr, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut request = [0; 1_024];
            let length = stream.read(&mut request).expect("a request");
            for piece in pieces {
                stream.write_all(piece.as_bytes()).expect("written");
                stream.flush().expect("written");
            }
            let text = String::from_utf8_lossy(&request[..length]).into_owned();
            text.lines().next().unwrap_or_default().to_owned()
        });
        (address, served)
    }

    const OPTIONS: Options = Options { ready: false, timeout: Duration::from_secs(5) };

    #[test]
    fn the_status_is_read_even_in_pieces() {
        let (address, served) = answering(&["HTTP/1.", "1 200 OK\r\n\r\n"]);
        assert_eq!(ask(address, OPTIONS).expect("answered"), 200);
        assert_eq!(served.join().expect("no panic"), "GET /health HTTP/1.1");
        let (address, served) = answering(&["HTTP/1.1 503 Service Unavailable\r\n\r\n"]);
        assert_eq!(ask(address, Options { ready: true, ..OPTIONS }).expect("answered"), 503);
        assert_eq!(served.join().expect("no panic"), "GET /ready HTTP/1.1");
    }

    #[test]
    fn silence_nonsense_and_nobody_are_errors() {
        let (address, _) = answering(&["SSH-2.0-OpenSSH\r\n"]);
        assert!(ask(address, OPTIONS).is_err());
        let (address, _) = answering(&["HTTP"]);
        assert!(ask(address, OPTIONS).is_err());
        let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = silent.local_addr().expect("an address");
        let started = Instant::now();
        assert!(ask(address, Options { timeout: Duration::from_millis(100), ..OPTIONS }).is_err());
        assert!(started.elapsed() < Duration::from_secs(3));
        drop(silent);
        assert!(ask(address, OPTIONS).is_err());
    }

    #[test]
    fn every_address_means_this_machine() {
        for (listen, asked) in [("0.0.0.0:80", "127.0.0.1:80"), ("[::]:80", "[::1]:80"), ("10.0.0.1:80", "10.0.0.1:80")]
        {
            assert_eq!(reachable(listen.parse().expect("an address")).to_string(), asked);
        }
    }
}
