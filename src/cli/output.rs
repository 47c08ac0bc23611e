//! Where a command's result goes.

use std::io::{self, Write};
use std::path::Path;

/// Writes a JSON document, and a line end, to the file or to standard output. A file is closed to others: it may hold
/// tokens.
///
/// # Errors
/// What the system says when it cannot be written.
pub fn write_json(document: &serde_json::Value, out: Option<&Path>) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(document)?;
    text.push(b'\n');
    match out {
        Some(path) => {
            use std::os::unix::fs::OpenOptionsExt;
            let mut options = std::fs::OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
            file.write_all(&text)
        }
        None => match io::stdout().lock().write_all(&text) {
            // The reader has seen enough (`usher token … | head`).
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result,
        },
    }
}
