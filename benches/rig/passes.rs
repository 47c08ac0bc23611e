//! Passes for visitors who never stood in line. An engine that has no record of a pass takes it at its word.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::time::Duration;

use clap::ArgMatches;
use usher::domain::time::SystemClock;
use usher::domain::{Clock, EventId, VisitorId};
use usher::engine::Admission;
use usher::pass::{Keys, PassKey};

use crate::{Done, count, given, secret};

/// Longer than any run.
const GOOD_FOR: Duration = Duration::from_hours(2);

/// Leaves `pass.pem` in the directory.
pub fn make_key(dir: &str) -> Done {
    let settings = usher::config::from_pairs(&[("data_dir", dir)])?;
    Keys::open(&settings)?;
    Ok(())
}

pub fn run(options: &ArgMatches) -> Done {
    // The issuer is the service's default.
    let key = match options.get_one::<String>("pem") {
        Some(path) => PassKey::from_pem(&std::fs::read(path)?, "usher")?,
        None => PassKey::from_secret(secret("USHER_PASS_SECRET")?.as_bytes(), "usher"),
    };
    let event = EventId::parse(given(options, "event"))?;
    let admitted_at = SystemClock.now();
    let expires_at = admitted_at.plus(GOOD_FOR);
    let mut number = u64::try_from(count(options, "first"))?;
    for file in 0..count(options, "files") {
        let mut out = BufWriter::new(File::create(format!("{}.{file}", given(options, "out")))?);
        for _ in 0..count(options, "count") {
            let visitor = VisitorId::parse(&uuid::Uuid::new_v4().to_string())?;
            writeln!(out, "{}", key.mint(&event, &visitor, &Admission { number, admitted_at, expires_at })?)?;
            number += 1;
        }
        out.flush()?;
    }
    Ok(())
}
