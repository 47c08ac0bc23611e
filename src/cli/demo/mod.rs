//! `usher demo`: the service, a sample event and a crowd, in one terminal.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::serve::stop_signal;
use super::{Done, open_files};
use crate::app::Application;
use crate::config::{Loaded, Secret, Settings};
use crate::domain::time::SystemClock;

mod visitor;

use visitor::{Ending, Visitor};

const EVENT: &str = "demo";
const FLOOR_PRICE: f64 = 100.0;
/// The rate at first, and the one that the operator turns it up to.
const RATES: [u32; 2] = [1_200, 3_600];
/// When the operator turns the rate up.
const TURN_UP: Duration = Duration::from_secs(4);
/// The crowd comes within this time.
const STORM: Duration = Duration::from_secs(2);
/// Between two lines of the report.
const LINE: Duration = Duration::from_millis(500);

/// Runs the command.
///
/// # Errors
/// When the service cannot start; with `once`, also when anything went wrong on the way.
pub async fn run(loaded: &Loaded, visitors: u32, once: bool) -> Done {
    let token = Secret::new(format!("demo-{}", uuid::Uuid::new_v4()));
    let (mut settings, scratch) = embedded(&loaded.settings, &token);
    open_files::fit(&mut settings);
    let application = match Application::build(&settings, Arc::new(SystemClock)).await {
        // Somebody else has the usual port: any other will do for a demonstration.
        Err(crate::app::StartError::Listen { .. }) => {
            let mut elsewhere = settings.clone();
            elsewhere.http.listen.set_port(0);
            Application::build(&elsewhere, Arc::new(SystemClock)).await?
        }
        built => built?,
    };
    let base = format!("http://{}", application.address());
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(application.run(async {
        let _told = stopped.await;
    }));

    let outcome = show(&base, token.expose(), visitors).await;
    if outcome.is_ok() && !once {
        println!("\nStill serving at {base}: try {base}/docs, or {base}/api/v1/queue/status/{EVENT}. Ctrl-C ends it.");
        println!("Admin token: {}", token.expose());
        stop_signal()?.await;
    }
    drop(stop);
    server.await??;
    let _gone = std::fs::remove_dir_all(scratch.0);
    outcome
}

/// Removes the demonstration's directory, however it ends.
struct Scratch(PathBuf);

/// The settings as they are, but embedded, with a directory of its own and without limits on the crowd's one address.
fn embedded(settings: &Settings, token: &Secret) -> (Settings, Scratch) {
    let scratch = std::env::temp_dir().join(format!("usher-demo-{}", uuid::Uuid::new_v4()));
    let mut settings = settings.clone();
    settings.redis = None;
    settings.database = None;
    settings.auth.required = false;
    settings.limits.address = None;
    settings.data_dir.clone_from(&scratch);
    settings.admin_token = Some(token.clone());
    (settings, Scratch(scratch))
}

async fn show(base: &str, token: &str, visitors: u32) -> Done {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
    let seats = visitors; // the average visitor takes 1.5: some come too late
    let spec = json!({
        "name": "Demonstration",
        "shows": [{ "id": "tonight", "name": "Tonight", "zones": [
            { "id": "floor", "name": "Floor", "capacity": seats, "price": FLOOR_PRICE } ] }],
        "queue": { "admit_per_minute": RATES[0] }
    });
    let admin = format!("{base}/api/v1/admin/events/{EVENT}");
    let put = client.put(&admin).bearer_auth(token).json(&spec).send().await?;
    put.error_for_status()?;
    println!("Usher at {base}: {visitors} visitors storm {seats} seats; {} a minute are let in.\n", RATES[0]);
    println!("  time   in line   let in   booked   too late   a minute");

    let started = Instant::now();
    let mut crowd = JoinSet::new();
    for number in 0..visitors {
        let visitor = Visitor::new(client.clone(), base, number);
        let arrives = STORM.mul_f64(f64::from(number) / f64::from(visitors));
        crowd.spawn(async move {
            tokio::time::sleep(arrives).await;
            visitor.go().await
        });
    }
    let tally = watch(&client, base, token, &admin, started, crowd).await?;
    report(&client, base, visitors, seats, started.elapsed(), tally).await
}

/// How the crowd fared.
#[derive(Default)]
struct Tally {
    seats: u64,
    booked: u64,
    too_late: u64,
    wrong: Vec<String>,
    /// The admission times in the order of the line, to see that nobody overtook.
    order: Vec<(u64, String)>,
}

impl Tally {
    fn take(&mut self, ending: Result<Ending, String>) {
        match ending {
            Ok(Ending { place, admitted_at, seats }) => {
                self.order.push((place, admitted_at));
                self.seats += u64::from(seats);
                if seats > 0 { self.booked += 1 } else { self.too_late += 1 }
            }
            Err(what) => self.wrong.push(what),
        }
    }
}

async fn watch(
    client: &reqwest::Client,
    base: &str,
    token: &str,
    admin: &str,
    started: Instant,
    mut crowd: JoinSet<Result<Ending, String>>,
) -> Result<Tally, Box<dyn std::error::Error>> {
    let mut tally = Tally::default();
    let mut lines = tokio::time::interval(LINE);
    let mut rate = 0;
    loop {
        tokio::select! {
            ending = crowd.join_next() => match ending {
                Some(ending) => tally.take(ending.unwrap_or_else(|broken| Err(broken.to_string()))),
                None => break,
            },
            _ = lines.tick() => {
                let live: Value = client.get(admin).bearer_auth(token).send().await?.error_for_status()?.json().await?;
                let count = |name: &str| live["live"][name].as_u64().unwrap_or(0);
                let (waiting, admitted) = (count("waiting"), count("admitted_total"));
                let bar = "#".repeat(usize::try_from(waiting / 8).unwrap_or(0).min(60));
                let (time, Tally { booked, too_late, .. }) = (started.elapsed().as_secs_f64(), &tally);
                println!("{time:5.1}s   {waiting:>7}   {admitted:>6}   {booked:>6}   {too_late:>8}   {:>8}   {bar}", RATES[rate]);
                if rate == 0 && started.elapsed() > TURN_UP {
                    rate = 1;
                    let patch = json!({ "admit_per_minute": RATES[rate] });
                    let url = format!("{base}/api/v1/admin/events/{EVENT}/queue");
                    client.patch(url).bearer_auth(token).json(&patch).send().await?.error_for_status()?;
                    println!("         the operator turns the rate up to {} a minute", RATES[rate]);
                }
            }
        }
    }
    Ok(tally)
}

async fn report(
    client: &reqwest::Client,
    base: &str,
    visitors: u32,
    seats: u32,
    took: Duration,
    mut tally: Tally,
) -> Done {
    let url = format!("{base}/api/v1/events/{EVENT}/availability");
    let left: Value = client.get(url).send().await?.error_for_status()?.json().await?;
    let left = left["shows"][0]["zones"][0]["available"].as_u64().unwrap_or(u64::MAX);
    tally.order.sort();
    let overtaken = tally.order.windows(2).filter(|pair| pair[0].1 > pair[1].1).count();
    println!("\nAfter {:.1} s:", took.as_secs_f64());
    println!("  {} of {visitors} visitors were let in, {overtaken} of them overtaken", tally.order.len());
    println!(
        "  {} bookings took {} of {seats} seats; {left} are left; {} visitors came too late",
        tally.booked, tally.seats, tally.too_late
    );
    if left + tally.seats != u64::from(seats) {
        tally.wrong.push(format!("{} seats sold and {left} left do not make {seats}", tally.seats));
    }
    if overtaken > 0 {
        tally.wrong.push(format!("{overtaken} visitors were overtaken"));
    }
    for what in tally.wrong.iter().take(10) {
        println!("  went wrong: {what}");
    }
    if tally.wrong.is_empty() { Ok(()) } else { Err(format!("{} things went wrong", tally.wrong.len()).into()) }
}
