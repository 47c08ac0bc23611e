//! Generated keys on disk: made once, in one step, readable by their owner only.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Creates the directory and those above it, closed to others, unless it is there.
pub fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The content of the file; when it is not there, `make` is asked for it first.
///
/// The content is written to a file beside it, brought to disk, and only then linked under its name: a reader never sees half
/// a key, and of two processes that start at once both use the key of the first.
pub(super) fn read_or_make<E: From<io::Error>>(
    path: &Path,
    make: impl FnOnce() -> Result<Vec<u8>, E>,
) -> Result<Vec<u8>, E> {
    match std::fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Ok(content) => {
            warn_if_open(path)?;
            return Ok(content);
        }
        Err(error) => return Err(error.into()),
    }
    let content = make()?;
    let draft = path.with_extension(format!("{}.tmp", uuid::Uuid::new_v4()));
    let result = write_private(&draft, &content).and_then(|()| link(&draft, path));
    // After a link the draft is a second name; after a failure it is litter.
    match std::fs::remove_file(&draft) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => result?,
    }
    if let Some(dir) = path.parent() {
        File::open(dir)?.sync_all()?;
    }
    Ok(std::fs::read(path)?)
}

fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn link(draft: &Path, path: &Path) -> io::Result<()> {
    match std::fs::hard_link(draft, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        // Not every file system has links.
        Err(_) => std::fs::rename(draft, path),
        Ok(()) => Ok(()),
    }
}

fn warn_if_open(path: &Path) -> io::Result<()> {
    let mode = std::fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(path = %path.display(), mode = format!("{:o}", mode & 0o777), "others can reach this key file: set its mode to 600");
    }
    Ok(())
}
