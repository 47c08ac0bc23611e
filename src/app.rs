//! The one place that wires the service: stores, services, background loops and the HTTP server.

use std::fs::File;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::header::HeaderName;
use actix_web::middleware::Condition;
use actix_web::{App, HttpServer, web};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admin::Admin;
use crate::booking::{Bookings, Sweeper};
use crate::catalogue::Catalogue;
use crate::circuit::Circuit;
use crate::config::{RedisMode, Secret, Settings};
use crate::domain::{Clock, Problem};
use crate::engine::memory::MemoryEngine;
use crate::engine::redis::{RedisEngine, RedisSettings, Topology};
use crate::engine::{Batched, Engine};
use crate::follow::Follower;
use crate::http::{self, Callers, Connections, Limits, OpenApiText, Proxies, State};
use crate::ledger::Ledger;
use crate::ledger::postgres::{PostgresLedger, PostgresSettings};
use crate::ledger::sqlite::{SqliteLedger, SqliteSettings};
use crate::metrics::Metrics;
use crate::pass::{KeyError, Keys};
use crate::presence::Presence;
use crate::push::Streams;
use crate::queue::Queue;
use crate::release::Releaser;

/// How often the catalogue is compared with the ledger.
const CATALOGUE_EVERY: Duration = Duration::from_millis(250);
/// How often the lines are followed: positions from memory are older than that only when a store is slow.
const FOLLOW_EVERY: Duration = Duration::from_millis(100);
/// How often it is looked whether somebody waits to hear who was seen.
const PRESENCE_EVERY: Duration = Duration::from_millis(250);
/// How often reservations are swept.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How often callers who have been quiet are forgotten by the rate limits.
const LIMITS_EVERY: Duration = Duration::from_secs(30);
/// How long requests that are under way may take when the service stops, in seconds.
const DRAIN_SECONDS: u64 = 6;
/// How long a connection without a request stays open: longer than a visitor far back waits between two polls, and longer
/// than a balancer keeps one, so that nobody sends a request into a connection that is just being closed.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// Why the service does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error("data_dir {path}: {why}")]
    DataDir {
        /// Which directory.
        path: String,
        /// Why not.
        why: String,
    },
    /// The address cannot be listened on.
    #[error("listen {address}: {why}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// Why not.
        why: std::io::Error,
    },
    /// A key cannot be had.
    #[error("keys: {0}")]
    Key(#[from] KeyError),
    /// The ledger cannot be reached or brought up to date.
    #[error("ledger: {0}")]
    Ledger(#[from] crate::ledger::LedgerError),
    /// The queue's store cannot be reached or is not fit for a queue.
    #[error("redis: {0}")]
    Redis(String),
    /// A store failed while the events were put in force.
    #[error("events: {}", said(.0))]
    Events(#[from] Problem),
    /// A mistake in the code.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// The cause of a problem rather than what a caller would be told: whoever starts the service has to mend it. What stores
/// say names no secret.
fn said(problem: &Problem) -> String {
    problem.cause.as_ref().map_or_else(|| problem.to_string(), |cause| format!("{}: {cause}", problem.code.as_str()))
}

/// The stores of an instance.
pub struct Stores {
    /// The line.
    pub engine: Arc<dyn Engine>,
    /// The record.
    pub ledger: Arc<dyn Ledger>,
    /// The circuits to those of them that are reached over a network.
    pub circuits: Vec<Arc<Circuit>>,
    /// Keeps a second process out of the data directory, as long as it is held.
    lock: Option<File>,
}

/// A ledger that is up to date.
pub struct OpenedLedger {
    /// The record.
    pub ledger: Arc<dyn Ledger>,
    circuits: Vec<Arc<Circuit>>,
    /// Keeps a second process out of the data directory, as long as it is held.
    pub lock: Option<File>,
}

/// A service that is ready to run.
pub struct Application {
    address: SocketAddr,
    server: Server,
    closing: watch::Sender<bool>,
    loops: JoinSet<()>,
    generated_admin_token: Option<Secret>,
    streams: Arc<Streams>,
    draining: Arc<AtomicBool>,
    drain: Duration,
    stores: Stores,
}

/// Opens the ledger that the settings name and brings it up to date.
///
/// # Errors
/// [`StartError`] when it cannot be reached, or another process uses the data directory.
pub async fn open_ledger(settings: &Settings) -> Result<OpenedLedger, StartError> {
    if let Some(database) = &settings.database {
        let tuned = PostgresSettings {
            max_connections: database.pool_size,
            statement_timeout: settings.database_timeout,
            transaction_timeout: settings.database_timeout * 2,
            ..PostgresSettings::default()
        };
        let ledger = PostgresLedger::connect(database.url.expose(), &tuned).await?;
        ledger.migrate().await?;
        let circuits = vec![Arc::clone(ledger.circuit())];
        return Ok(OpenedLedger { ledger: Arc::new(ledger), circuits, lock: None });
    }
    let lock = hold_data_dir(settings)?;
    let tuned = SqliteSettings { answer_timeout: settings.database_timeout * 2, ..SqliteSettings::default() };
    let ledger = SqliteLedger::open(settings.data_dir.join("ledger.db"), &tuned).await?;
    ledger.migrate().await?;
    Ok(OpenedLedger { ledger: Arc::new(ledger), circuits: Vec::new(), lock: Some(lock) })
}

fn hold_data_dir(settings: &Settings) -> Result<File, StartError> {
    let path = settings.data_dir.display().to_string();
    let failed = |why: String| StartError::DataDir { path: path.clone(), why };
    crate::pass::private_dir(&settings.data_dir).map_err(|error| failed(error.to_string()))?;
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(settings.data_dir.join("lock"))
        .map_err(|error| failed(error.to_string()))?;
    lock.try_lock().map_err(|_| failed("another usher uses it; give this one a directory of its own".to_owned()))?;
    Ok(lock)
}

async fn open_stores(settings: &Settings) -> Result<Stores, StartError> {
    let OpenedLedger { ledger, mut circuits, lock } = open_ledger(settings).await?;
    let engine: Arc<dyn Engine> = match &settings.redis {
        Some(redis) => {
            let failed = |error: &dyn std::fmt::Display| StartError::Redis(error.to_string());
            let engine = RedisEngine::new(&RedisSettings {
                others: redis.others.iter().map(|url| url.expose().to_owned()).collect(),
                topology: match redis.mode {
                    RedisMode::Single => Topology::Single,
                    RedisMode::Sentinel => Topology::Sentinel {
                        master: redis.sentinel_master.clone(),
                        password: redis.sentinel_password.as_ref().map(|password| password.expose().to_owned()),
                    },
                    RedisMode::Cluster => Topology::Cluster,
                },
                prefix: redis.prefix.clone(),
                pool_size: redis.pool_size,
                response_timeout: redis.timeout,
                connect_timeout: redis.timeout,
                ..RedisSettings::new(redis.url.expose())
            })
            .map_err(|error| failed(&error))?;
            for warning in engine.check_store(redis.allow_eviction).await.map_err(|error| failed(&error))? {
                tracing::warn!("{warning}");
            }
            circuits.push(Arc::clone(engine.circuit()));
            Arc::new(engine)
        }
        None => Arc::new(MemoryEngine::new()),
    };
    Ok(Stores { engine, ledger, circuits, lock })
}

impl Application {
    /// Opens the stores, reads the events, starts the background loops and listens. Requests are answered once
    /// [`Application::run`] is awaited.
    ///
    /// # Errors
    /// [`StartError`], which says what to mend.
    pub async fn build(settings: &Settings, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        let stores = open_stores(settings).await?;
        let keys = Keys::open(settings)?;
        let metrics = Arc::new(Metrics::new()?);
        stores.circuits.iter().for_each(|circuit| metrics.watch_circuit(Arc::clone(circuit)));
        metrics.watch_runtime(tokio::runtime::Handle::current());
        let (closing, closed) = watch::channel(false);
        let generated_admin_token = keys.generated_admin_token.clone();

        let engine = Arc::clone(&stores.engine);
        let catalogue = Arc::new(Catalogue::new(Arc::clone(&stores.ledger), Arc::clone(&engine), settings.recovery));
        catalogue.refresh(clock.now()).await?;

        let follower = Arc::new(Follower::new(Arc::clone(&engine), Arc::clone(&catalogue), Arc::clone(&clock)));
        // Before the first request: whoever is waiting already is answered from memory at once.
        follower.tick().await;

        let services = wire(settings, &stores, keys, &catalogue, &follower, &metrics, &clock);
        let state = web::Data::new(services);
        let mut loops = JoinSet::new();
        let releaser = Arc::new(Releaser::new(engine, Arc::clone(&catalogue), metrics));
        let sweeper = Arc::new(Sweeper::new(Arc::clone(&state.bookings)));
        let time = || Arc::clone(&clock);
        every(&mut loops, settings.release_interval, closed.clone(), time(), move |now| {
            let releaser = Arc::clone(&releaser);
            async move { releaser.tick(now).await }
        });
        let streams = Arc::clone(&state.streams);
        every(&mut loops, FOLLOW_EVERY, closed.clone(), time(), move |_| {
            let (follower, streams) = (Arc::clone(&follower), Arc::clone(&streams));
            async move {
                follower.tick().await;
                streams.tick().await;
            }
        });
        let presence = Arc::new(Presence::new(Arc::clone(&stores.engine), Arc::clone(&catalogue), Arc::clone(&clock)));
        every(&mut loops, PRESENCE_EVERY, closed.clone(), time(), move |_| {
            let presence = Arc::clone(&presence);
            async move { presence.tick().await }
        });
        every(&mut loops, SWEEP_EVERY, closed.clone(), time(), move |now| {
            let sweeper = Arc::clone(&sweeper);
            async move { sweeper.tick(now).await }
        });
        every(&mut loops, CATALOGUE_EVERY, closed.clone(), time(), move |now| {
            let catalogue = Arc::clone(&catalogue);
            async move {
                if catalogue.is_away() {
                    return;
                }
                if let Err(problem) = catalogue.refresh(now).await {
                    tracing::warn!(error = %problem, cause = ?problem.cause, "the events could not be read; the last ones stay in force");
                }
            }
        });
        let limits = state.clone();
        every(&mut loops, LIMITS_EVERY, closed, time(), move |_| {
            let state = limits.clone();
            async move { state.limits.shrink() }
        });

        let (streams, draining) = (Arc::clone(&state.streams), Arc::clone(&state.draining));
        // One alone has nobody who could take over meanwhile.
        let drain = if stores.engine.is_in_process() { Duration::ZERO } else { settings.drain };
        let (server, address) = listen(settings, &state)?;
        Ok(Self { address, server, closing, loops, generated_admin_token, streams, draining, drain, stores })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The operators' token when it was made just now: to be shown once.
    pub fn generated_admin_token(&self) -> Option<&Secret> {
        self.generated_admin_token.as_ref()
    }

    /// Answers requests until `stop` is done, then drains: goes on for [`Settings::drain`] without being ready, then streams
    /// end, requests under way are finished, loops stop.
    ///
    /// # Errors
    /// When the server breaks down.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> std::io::Result<()> {
        let handle = self.server.handle();
        let mut server = tokio::spawn(self.server);
        tokio::select! {
            () = stop => {}
            ended = &mut server => return ended.map_err(std::io::Error::other)?,
        }
        self.draining.store(true, Ordering::Relaxed);
        if !self.drain.is_zero() {
            tracing::info!(milliseconds = self.drain.as_millis(), "draining: not ready any more, still serving");
            tokio::time::sleep(self.drain).await;
        }
        tracing::info!("stopping: streams end, requests under way are finished");
        self.closing.send_replace(true);
        self.streams.close();
        handle.stop(true).await;
        while self.loops.join_next().await.is_some() {}
        let ended = server.await.map_err(std::io::Error::other)?;
        // Last: nothing writes to the data directory any more.
        drop(self.stores.lock);
        ended
    }
}

fn wire(
    settings: &Settings,
    stores: &Stores,
    keys: Keys,
    catalogue: &Arc<Catalogue>,
    follower: &Arc<Follower>,
    metrics: &Arc<Metrics>,
    clock: &Arc<dyn Clock>,
) -> State {
    let pending = settings.http.max_pending;
    let (engine, ledger) = (&stores.engine, &stores.ledger);
    let (tickets, passes) = (Arc::new(keys.tickets), Arc::new(keys.passes));
    let batched = Batched::new(Arc::clone(engine), Arc::clone(clock), pending);
    let queue = Arc::new(Queue::new(
        batched.clone(),
        Arc::clone(catalogue),
        Arc::clone(&tickets),
        Arc::clone(&passes),
        Arc::clone(clock),
        Arc::clone(metrics),
    ));
    let bookings = Arc::new(Bookings::new(
        batched,
        Arc::clone(ledger),
        Arc::clone(catalogue),
        Arc::clone(&passes),
        Arc::clone(clock),
        Arc::clone(metrics),
        pending,
    ));
    let rate = |rate: Option<crate::config::Rate>| rate.map_or((0, 0), |rate| (rate.per_second, rate.burst));
    let trusted = settings.auth.trusted_header.as_deref();
    State {
        draining: Arc::default(),
        connections: Connections::new(&settings.http, metrics.shed.clone()),
        streams: Arc::new(Streams::new(
            Arc::clone(&queue),
            Arc::clone(catalogue),
            Arc::clone(clock),
            Arc::clone(metrics),
            settings.http.max_streams,
        )),
        queue,
        bookings,
        admin: Admin::new(Arc::clone(engine), Arc::clone(ledger), Arc::clone(catalogue), Arc::clone(clock)),
        catalogue: Arc::clone(catalogue),
        metrics: Arc::clone(metrics),
        follower: Arc::clone(follower),
        engine: Arc::clone(engine),
        ledger: Arc::clone(ledger),
        tickets,
        passes,
        callers: Callers {
            visitor_key: keys.visitors,
            trusted_header: trusted.and_then(|name| HeaderName::from_bytes(name.as_bytes()).ok()),
            anonymous_allowed: !settings.auth.required,
        },
        admin_token: keys.admin,
        limits: Limits::new(rate(settings.limits.visitor), rate(settings.limits.address)),
        proxies: Proxies::new(settings.http.trusted_proxies.clone()),
        clock: Arc::clone(clock),
        max_body_bytes: settings.http.max_body_bytes,
        cookie_secure: settings.http.cookie_secure,
    }
}

/// Runs `step` now and every `pause` until the service closes. A step that takes long delays the next one.
fn every<F, R>(
    loops: &mut JoinSet<()>,
    pause: Duration,
    mut closed: watch::Receiver<bool>,
    clock: Arc<dyn Clock>,
    step: F,
) where
    F: Fn(crate::domain::Timestamp) -> R + Send + 'static,
    R: Future<Output = ()> + Send,
{
    loops.spawn(async move {
        let mut ticks = tokio::time::interval(pause);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = wait_closed(&mut closed) => return,
                _ = ticks.tick() => {}
            }
            step(clock.now()).await;
        }
    });
}

/// Waits until the service closes.
async fn wait_closed(closed: &mut watch::Receiver<bool>) {
    let _sender_gone = closed.wait_for(|closed| *closed).await;
}

fn listen(settings: &Settings, state: &web::Data<State>) -> Result<(Server, SocketAddr), StartError> {
    let address = settings.http.listen;
    let failed = |why| StartError::Listen { address, why };
    let listener = TcpListener::bind(address).map_err(failed)?;
    Connections::ready(&listener).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let workers = match settings.http.workers {
        0 => std::thread::available_parallelism().map_or(2, std::num::NonZero::get),
        workers => workers,
    };
    let openapi = web::Data::new(OpenApiText(web::Bytes::from(http::openapi_json())));
    let origins = settings.http.cors_origins.clone();
    let shared = state.clone();
    let server = HttpServer::new(move || {
        // Once on each worker, which has a runtime of its own.
        shared.metrics.watch_runtime(tokio::runtime::Handle::current());
        App::new()
            .app_data(shared.clone())
            .app_data(openapi.clone())
            .wrap(http::Observe::new(&shared.metrics, &shared.connections, &shared.draining))
            // Around everything, so that a browser may read why it was refused too.
            .wrap(Condition::new(!origins.is_empty(), cors(&origins)))
            .configure(http::routes(&shared.metrics))
    })
    .workers(workers)
    .on_connect(Arc::clone(&state.connections).on_connect())
    .max_connections(settings.http.max_connections.div_ceil(workers))
    // A client that half-closes has gone: without this a stream to it would stay until its next write.
    .h1_allow_half_closed(false)
    .keep_alive(KEEP_ALIVE)
    .client_request_timeout(Duration::from_secs(10))
    .shutdown_timeout(DRAIN_SECONDS)
    .disable_signals()
    .listen(listener)
    .map_err(failed)?
    .run();
    Ok((server, address))
}

/// Lets browsers on these origins call, with cookies.
fn cors(origins: &[String]) -> actix_cors::Cors {
    let cors = actix_cors::Cors::default()
        .allow_any_method()
        .allow_any_header()
        .expose_headers(["retry-after", "ratelimit", "ratelimit-policy"])
        .supports_credentials()
        .max_age(600);
    origins.iter().fold(cors, |cors, origin| cors.allowed_origin(origin))
}
