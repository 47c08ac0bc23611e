//! Why a key cannot be had or used.

use std::io;
use std::path::{Path, PathBuf};

/// Why a key cannot be had or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A key file cannot be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A key file does not hold what it should.
    #[error("{}: must be {wanted}", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
    /// The bytes are not the key that is asked for.
    #[error("must be {0}")]
    Format(&'static str),
    /// The system gave no random bytes, or a key could not be generated.
    #[error("a key cannot be generated")]
    Generating,
    /// The cryptographic library could not sign.
    #[error("signing failed")]
    Signing,
    /// Something about a file, before it is known which; never leaves this room.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl KeyError {
    /// Says which file the error is about.
    pub(super) fn of(self, path: &Path) -> Self {
        match self {
            Self::Format(wanted) => Self::Content { path: path.to_owned(), wanted },
            Self::Io(error) => Self::File { path: path.to_owned(), error },
            other => other,
        }
    }
}
