//! HTTP by hand: bytes as they are over one connection, and the answers that come back.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer than the service lets anything take: whoever waits so long hangs.
const HANG: Duration = Duration::from_secs(20);

/// One answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// The header lines, in lower case.
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The body of a problem; panics unless it is one.
    #[track_caller]
    pub fn problem(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"));
        assert_eq!(body["status"], self.status, "{self:?}");
        body
    }

    /// What holds of every answer, whatever was sent: no fault of ours, and a problem is told as one. What the server beneath
    /// cannot read it refuses without a body.
    pub fn check(&self) -> Result<(), String> {
        let wrong = |why: &str| Err(format!("{why}: {self:?}"));
        if self.status >= 500 && !(self.status == 503 && self.header("retry-after").is_some()) {
            return wrong("a fault");
        }
        if self.body.is_empty() {
            return if self.status < 400 || self.status == 408 || matches!(self.status, 400 | 431) {
                Ok(())
            } else {
                wrong("no body")
            };
        }
        if self.header("x-content-type-options") != Some("nosniff") || self.header("cache-control").is_none() {
            return wrong("headers are missing");
        }
        if self.status < 400 {
            return Ok(());
        }
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        if self.header("content-type") != Some("application/problem+json") || body["status"] != self.status {
            return wrong("not a problem");
        }
        Ok(())
    }
}

/// Sends the bytes and gives what comes back: until the service closes, or nothing has come for `quiet`; then the sending side is
/// closed, and the service has to close too.
///
/// # Errors
/// When it does not.
pub async fn talk(address: SocketAddr, bytes: &[u8], quiet: Duration) -> Result<Vec<u8>, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| format!("no connection: {error}"))?;
    let (mut from, mut to) = stream.into_split();
    let mut all = Vec::new();
    let talked = tokio::time::timeout(HANG, async {
        let sending = async {
            // The service may have closed already: it need not hear everything.
            let _heard = to.write_all(bytes).await;
        };
        let mut buffer = vec![0; 16_384];
        let hearing = async {
            // A reset is an end too.
            while let Ok(read) = tokio::time::timeout(quiet, from.read(&mut buffer)).await {
                match read {
                    Ok(length) if length > 0 => all.extend_from_slice(&buffer[..length]),
                    _ => return true,
                }
            }
            false
        };
        let ((), closed) = tokio::join!(sending, hearing);
        if !closed {
            let _told = to.shutdown().await;
            while let Ok(length @ 1..) = from.read(&mut buffer).await {
                all.extend_from_slice(&buffer[..length]);
            }
        }
    });
    talked.await.map_err(|_| format!("it hangs; so far: {}", String::from_utf8_lossy(&all)))?;
    Ok(all)
}

/// The answers one after another. The last one may have been cut off.
///
/// # Errors
/// When something stands between them that is no answer.
pub fn answers(mut bytes: &[u8]) -> Result<Vec<Answer>, String> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            return if bytes.starts_with(b"HTTP/1.") { Ok(all) } else { Err(format!("not an answer: {bytes:?}")) };
        };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let status = head.strip_prefix("http/1.").and_then(|rest| rest.get(2..5)).and_then(|text| text.parse().ok());
        let status = status.ok_or_else(|| format!("not an answer: {head}"))?;
        bytes = &bytes[end + 4..];
        let mut answer = Answer { status, head, body: Vec::new() };
        if status >= 200 {
            let length = answer.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(usize::MAX);
            let (body, rest) = bytes.split_at(length.min(bytes.len()));
            answer.body = body.to_vec();
            bytes = rest;
            all.push(answer);
        }
    }
    Ok(all)
}
