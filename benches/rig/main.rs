//! The tools that `scripts/bench` stands around a running service: a bare server to compare it with, lines of visitors,
//! passes, and a crowd of open streams. They reach the service over HTTP, and its Redis through its own engine.

use std::error::Error;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};

mod bare;
mod fill;
mod passes;
mod streams;

// The service has it too: the comparison is to be about the service, not about the allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a tool comes back with.
type Done = Result<(), Box<dyn Error>>;

fn text(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("TEXT").help(help)
}

fn number(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("N").value_parser(value_parser!(usize)).default_value(default).help(help)
}

fn command() -> Command {
    Command::new("rig")
        .about("What the benchmarks need beside the service; scripts/bench runs it")
        // Cargo hands this to every benchmark.
        .arg(Arg::new("bench").long("bench").num_args(0).hide(true).global(true))
        .subcommand(
            Command::new("bare")
                .about("A server without any service: constant bodies at /constant/{size}, GET and POST")
                .arg(text("listen", "Address and port").required(true))
                .arg(number("workers", "2", "Worker threads")),
        )
        .subcommand(
            Command::new("fill")
                .about("Lines up visitors and writes their tickets, first in line first")
                .arg(text("event", "The event; it must be there").required(true))
                .arg(number("count", "1000", "Visitors"))
                .arg(
                    text("api", "Join one by one through the service at this address").required_unless_present("redis"),
                )
                .arg(text("redis", "Join in batches on this Redis, for a service that has USHER_TICKET_SECRET"))
                .arg(text("prefix", "What every key in Redis begins with").default_value("usher"))
                .arg(number("every", "1", "Write the ticket of every so manyeth visitor only"))
                .arg(text("tickets", "The file to write").required(true)),
        )
        .subcommand(
            Command::new("keys")
                .about("Makes a key of passes, pass.pem, as the service makes its own")
                .arg(text("dir", "The directory to put it in").required(true)),
        )
        .subcommand(
            Command::new("passes")
                .about("Mints passes for visitors who never queued, one a line")
                .arg(text("event", "The event").required(true))
                .arg(text("pem", "The Ed25519 key; without it USHER_PASS_SECRET is the key"))
                .arg(number("first", "1", "Number of the first pass; no number may come twice"))
                .arg(number("count", "1000", "Passes a file"))
                .arg(number("files", "1", "Files"))
                .arg(text("out", "The files to write: this, a dot and a number from 0").required(true)),
        )
        .subcommand(
            Command::new("streams")
                .about("Opens streams, lets the front of the line leave, and times the news")
                .arg(text("api", "Address and port of the service with the streams").required(true))
                .arg(text("leave", "Address and port of the service that is told who leaves").required(true))
                .arg(text("event", "The event").required(true))
                .arg(
                    text("tickets", "Tickets, first in line first: those who leave, then those who watch")
                        .required(true),
                )
                .arg(number("changes", "5", "How many leave, one after the other"))
                .arg(number("pid", "0", "Process of the service with the streams").required(true)),
        )
        .subcommand(Command::new("scripts").about("Names the Lua scripts by the digests that Redis logs"))
}

/// The text of an option that is required or has a default.
fn given<'a>(options: &'a ArgMatches, name: &str) -> &'a str {
    options.get_one::<String>(name).map(String::as_str).unwrap_or_default()
}

/// The number of an option; all of them have defaults.
fn count(options: &ArgMatches, name: &str) -> usize {
    options.get_one(name).copied().unwrap_or_default()
}

/// A secret of the service, from where the service has it.
fn secret(name: &str) -> Result<String, Box<dyn Error>> {
    std::env::var(name).map_err(|_| format!("{name} must be set, to what the service has").into())
}

fn scripts() {
    for script in usher::engine::redis::scripts::ALL {
        println!("{} {}", redis::Script::new(&script.text()).get_hash(), script.name);
    }
}

/// Many threads for the server and the fillers, as the service has.
fn threads() -> Result<tokio::runtime::Runtime, std::io::Error> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

/// One thread for the streams: it takes the least from the service that runs beside it.
fn one_thread() -> Result<tokio::runtime::Runtime, std::io::Error> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn run(matches: &ArgMatches) -> Done {
    match matches.subcommand() {
        Some(("bare", options)) => threads()?.block_on(bare::run(options)),
        Some(("fill", options)) => threads()?.block_on(fill::run(options)),
        Some(("keys", options)) => passes::make_key(given(options, "dir")),
        Some(("passes", options)) => passes::run(options),
        Some(("streams", options)) => {
            one_thread()?.block_on(tokio::task::LocalSet::new().run_until(streams::run(options)))
        }
        Some(("scripts", _)) => {
            scripts();
            Ok(())
        }
        // `cargo bench` runs every target without arguments.
        _ => {
            println!("The rig measures nothing alone: run `make bench`.");
            Ok(())
        }
    }
}

fn main() -> ExitCode {
    match run(&command().get_matches()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rig: {error}");
            ExitCode::FAILURE
        }
    }
}
