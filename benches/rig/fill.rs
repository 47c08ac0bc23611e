//! Lines of visitors.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::time::{Duration, Instant};

use clap::ArgMatches;
use futures_util::{StreamExt, TryStreamExt};
use serde::Deserialize;
use usher::domain::time::SystemClock;
use usher::domain::{Clock, EventId, VisitorId};
use usher::engine::redis::{RedisEngine, RedisSettings};
use usher::engine::{Engine, Joined, MAX_BATCH, PLACE_TTL, Place};
use usher::pass::{Ticket, TicketKey};

use crate::{Done, count, given, secret};

/// Joins under way at once through the service.
const AT_ONCE: usize = 64;
/// How long the service may take to set numbers aside.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
struct Answer {
    position: u64,
    token: String,
}

pub async fn run(options: &ArgMatches) -> Done {
    let started = Instant::now();
    let out = BufWriter::new(File::create(given(options, "tickets"))?);
    match options.get_one::<String>("redis") {
        Some(url) => on_redis(url, options, out).await?,
        None => through_the_service(options, out).await?,
    }
    let (joined, seconds) = (count(options, "count"), started.elapsed().as_secs_f64());
    println!("{}", serde_json::json!({ "joined": joined, "seconds": seconds }));
    Ok(())
}

/// A visitor's id of 36 characters, as a user id often is.
fn visitor() -> VisitorId {
    VisitorId::parse(&uuid::Uuid::new_v4().to_string()).expect("a UUID is an id")
}

async fn on_redis(url: &str, options: &ArgMatches, mut out: BufWriter<File>) -> Done {
    let key = TicketKey::new(secret("USHER_TICKET_SECRET")?.as_bytes());
    let event = EventId::parse(given(options, "event"))?;
    let engine = RedisEngine::new(&RedisSettings {
        prefix: given(options, "prefix").to_owned(),
        pool_size: 1,
        response_timeout: PATIENCE,
        connect_timeout: PATIENCE,
        ..RedisSettings::new(url)
    })?;
    let (all, every) = (count(options, "count"), count(options, "every").max(1));
    let (mut done, mut waited) = (0, Duration::ZERO);
    while done < all {
        let visitors: Vec<_> = (done..all.min(done + MAX_BATCH)).map(|_| visitor()).collect();
        let mut dry = false;
        for (visitor, joined) in visitors.iter().zip(engine.join(&event, &visitors, SystemClock.now()).await?) {
            let Place { number, joined_at, .. } = match joined {
                Joined::New(place) => place,
                // The service sets the next numbers aside with its next release.
                Joined::NoNumbers => {
                    dry = true;
                    continue;
                }
                other => return Err(format!("no place was given: {other:?}").into()),
            };
            if done.is_multiple_of(every) {
                let (event, visitor, expires_at) = (event.clone(), visitor.clone(), joined_at.plus(PLACE_TTL));
                writeln!(out, "{}", key.issue(&Ticket { event, visitor, number, joined_at, expires_at }))?;
            }
            done += 1;
        }
        if dry {
            let pause = Duration::from_millis(50);
            tokio::time::sleep(pause).await;
            waited += pause;
            if waited > PATIENCE {
                return Err("the service sets no more numbers aside".into());
            }
        }
    }
    Ok(out.flush()?)
}

async fn through_the_service(options: &ArgMatches, mut out: BufWriter<File>) -> Done {
    let client = reqwest::Client::new();
    let url = format!("http://{}/api/v1/queue/join", given(options, "api"));
    let body = serde_json::json!({ "event_id": given(options, "event") });
    let joins = (0..count(options, "count")).map(|_| {
        let request = client.post(&url).json(&body);
        async move { request.send().await?.error_for_status()?.json::<Answer>().await }
    });
    let mut answers: Vec<Answer> = futures_util::stream::iter(joins).buffer_unordered(AT_ONCE).try_collect().await?;
    answers.sort_by_key(|answer| answer.position);
    for answer in answers.iter().step_by(count(options, "every").max(1)) {
        writeln!(out, "{}", answer.token)?;
    }
    Ok(out.flush()?)
}
