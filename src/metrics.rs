//! What is counted, in a registry of the instance's own (two instances can live in one process).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::Collector,
};

use crate::circuit::Circuit;

/// The metrics of one instance.
pub struct Metrics {
    registry: Registry,
    /// Answers by route and status class.
    pub requests: IntCounterVec,
    /// Seconds from request to answer, by route.
    pub request_seconds: HistogramVec,
    /// Positions answered from memory.
    pub from_memory: IntCounter,
    /// Positions that the store was asked for.
    pub from_store: IntCounter,
    /// Seconds since the line was heard of that was heard of longest ago.
    pub feed_age: Gauge,
    /// New places given out.
    pub joined: IntCounter,
    /// Visitors who left the line by themselves.
    pub left: IntCounter,
    /// Visitors let in by this instance.
    pub admitted: IntCounter,
    /// Visitors passed over by this instance because they were away.
    pub parked: IntCounter,
    /// Releases that failed because a store did not answer.
    pub release_failures: IntCounter,
    /// Reservations written to the ledger.
    pub reserved: IntCounter,
    /// Reservations turned away, by error code.
    pub refused: IntCounterVec,
    /// Reservations that ran out.
    pub expired: IntCounter,
    /// Bookings in one ledger transaction.
    pub commit_batch: Histogram,
    /// Open streams.
    pub streams: IntGauge,
    /// Requests of the crowd turned away because connections ran short.
    pub shed: IntCounter,
    /// Open connections.
    pub connections: IntGauge,
    /// Visitors in line, by event.
    waiting: IntGaugeVec,
    /// Passes out, by event.
    active: IntGaugeVec,
    /// Held while the figures of the events are put in and written out.
    writing: Mutex<()>,
    /// Whether the last look at a store was good (1) or not (0), by store.
    pub store_up: IntGaugeVec,
    circuits: Circuits,
    runtimes: Mutex<Vec<tokio::runtime::Handle>>,
    tasks: IntGauge,
}

/// What the circuits to the stores count, by store.
struct Circuits {
    watched: Mutex<Vec<Arc<Circuit>>>,
    open: IntGaugeVec,
    under_way: IntGaugeVec,
    opened: IntCounterVec,
    refused: IntCounterVec,
}

/// The counts of one route: looked up once, so that a request costs a few additions.
#[derive(Clone)]
pub struct RouteMetrics {
    /// 2xx, 3xx, 4xx, 5xx.
    answers: [IntCounter; 4],
    seconds: Histogram,
}

impl RouteMetrics {
    /// Counts an answer with this HTTP status that took so long.
    pub fn observe(&self, status: u16, took: Duration) {
        let class = usize::from(status / 100).clamp(2, 5) - 2;
        self.answers[class].inc();
        self.seconds.observe(took.as_secs_f64());
    }
}

/// Name, type and meaning of every metric, as the documentation lists them.
pub const TABLE: &[(&str, &str, &str)] = &[
    ("usher_http_requests_total", "counter", "Answers, by route and status class (2xx, 4xx, 5xx)"),
    ("usher_http_request_seconds", "histogram", "Seconds from request to answer, by route"),
    (
        "usher_positions_total",
        "counter",
        "Positions answered by poll or at the start of a stream, by source (memory, store)",
    ),
    ("usher_feed_age_seconds", "gauge", "Age of what is known of the line that was heard of longest ago"),
    ("usher_joined_total", "counter", "New places given out by this instance"),
    ("usher_left_total", "counter", "Visitors who left the line through this instance"),
    ("usher_admitted_total", "counter", "Visitors let in by this instance"),
    (
        "usher_parked_total",
        "counter",
        "Visitors passed over by this instance because they were away when their turn came",
    ),
    ("usher_release_failures_total", "counter", "Releases that failed because a store did not answer"),
    ("usher_reserved_total", "counter", "Reservations written to the ledger by this instance"),
    ("usher_refused_total", "counter", "Reservations turned away, by error code"),
    ("usher_expired_total", "counter", "Reservations that ran out, swept by this instance"),
    ("usher_commit_batch_size", "histogram", "Bookings in one ledger transaction"),
    ("usher_streams", "gauge", "Open streams of this instance"),
    ("usher_connections", "gauge", "Open connections of this instance"),
    (
        "usher_shed_total",
        "counter",
        "Requests of the crowd turned away because connections ran short: the last eighth is for bookings and operators",
    ),
    ("usher_waiting", "gauge", "Visitors in line, by event"),
    ("usher_active", "gauge", "Passes out, by event"),
    ("usher_store_up", "gauge", "1 when the last look at a store was good, by store"),
    (
        "usher_circuit_open",
        "gauge",
        "1 while calls to a store are refused because it is away, by store (queue, ledger)",
    ),
    ("usher_circuit_opened_total", "counter", "How often calls to a store began to be refused, by store"),
    ("usher_circuit_refused_total", "counter", "Calls to a store that were refused, by store"),
    ("usher_store_calls", "gauge", "Calls to a store that are under way, by store"),
    ("usher_tasks", "gauge", "Tasks of this process: those of requests under way, and some that run all the time"),
];

fn help(name: &str) -> &'static str {
    TABLE.iter().find(|(n, ..)| *n == name).map_or("", |(.., help)| help)
}

fn register<M: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<M>,
) -> prometheus::Result<M> {
    let metric = metric?;
    registry.register(Box::new(metric.clone())).map(|()| metric)
}

impl Metrics {
    /// A fresh set, all zero.
    ///
    /// # Errors
    /// When a name is given twice: a mistake in the code.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let counter = |name: &str| register(&registry, IntCounter::new(name, help(name)));
        let counters =
            |name: &str, labels: &[&str]| register(&registry, IntCounterVec::new(Opts::new(name, help(name)), labels));
        let gauge = |name: &str| register(&registry, IntGauge::new(name, help(name)));
        let gauges =
            |name: &str, labels: &[&str]| register(&registry, IntGaugeVec::new(Opts::new(name, help(name)), labels));
        let histogram = |name: &str, buckets: &[f64]| HistogramOpts::new(name, help(name)).buckets(buckets.to_vec());
        let positions = counters("usher_positions_total", &["source"])?;
        let feed_age = "usher_feed_age_seconds";
        let seconds = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
        let seconds = histogram("usher_http_request_seconds", &seconds);
        let sizes = histogram("usher_commit_batch_size", &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0]);
        Ok(Self {
            requests: counters("usher_http_requests_total", &["route", "status"])?,
            request_seconds: register(&registry, HistogramVec::new(seconds, &["route"]))?,
            from_memory: positions.with_label_values(&["memory"]),
            from_store: positions.with_label_values(&["store"]),
            feed_age: register(&registry, Gauge::new(feed_age, help(feed_age)))?,
            joined: counter("usher_joined_total")?,
            left: counter("usher_left_total")?,
            admitted: counter("usher_admitted_total")?,
            parked: counter("usher_parked_total")?,
            release_failures: counter("usher_release_failures_total")?,
            reserved: counter("usher_reserved_total")?,
            refused: counters("usher_refused_total", &["code"])?,
            expired: counter("usher_expired_total")?,
            commit_batch: register(&registry, Histogram::with_opts(sizes))?,
            streams: gauge("usher_streams")?,
            connections: gauge("usher_connections")?,
            shed: counter("usher_shed_total")?,
            waiting: gauges("usher_waiting", &["event"])?,
            active: gauges("usher_active", &["event"])?,
            writing: Mutex::default(),
            store_up: gauges("usher_store_up", &["store"])?,
            circuits: Circuits {
                watched: Mutex::default(),
                open: gauges("usher_circuit_open", &["store"])?,
                under_way: gauges("usher_store_calls", &["store"])?,
                opened: counters("usher_circuit_opened_total", &["store"])?,
                refused: counters("usher_circuit_refused_total", &["store"])?,
            },
            runtimes: Mutex::default(),
            tasks: gauge("usher_tasks")?,
            registry,
        })
    }

    /// The counts of a route.
    pub fn route(&self, route: &str) -> RouteMetrics {
        let answers = ["2xx", "3xx", "4xx", "5xx"].map(|class| self.requests.with_label_values(&[route, class]));
        RouteMetrics { answers, seconds: self.request_seconds.with_label_values(&[route]) }
    }

    /// Shows a circuit from now on.
    pub fn watch_circuit(&self, circuit: Arc<Circuit>) {
        self.circuits.watched.lock().unwrap_or_else(PoisonError::into_inner).push(circuit);
    }

    /// Counts the tasks of a runtime from now on.
    pub fn watch_runtime(&self, runtime: tokio::runtime::Handle) {
        self.runtimes.lock().unwrap_or_else(PoisonError::into_inner).push(runtime);
    }

    /// Reads what is counted elsewhere.
    fn look(&self) {
        let whole = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let Circuits { watched, open, under_way, opened, refused } = &self.circuits;
        for circuit in watched.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let (store, counts) = ([circuit.name], circuit.counts());
            open.with_label_values(&store).set(counts.open.into());
            under_way.with_label_values(&store).set(whole(counts.under_way));
            for (counter, counted) in [(opened, counts.opened), (refused, counts.refused)] {
                let counter = counter.with_label_values(&store);
                counter.inc_by((counted as u64).saturating_sub(counter.get()));
            }
        }
        let runtimes = self.runtimes.lock().unwrap_or_else(PoisonError::into_inner);
        self.tasks.set(whole(runtimes.iter().map(|runtime| runtime.metrics().num_alive_tasks()).sum()));
    }

    /// The text form that Prometheus reads. `lines`: each event there is, how many wait and how many passes are out; events that
    /// are gone are in it no more.
    ///
    /// # Errors
    /// When a metric cannot be written out.
    pub fn render<'e>(&self, lines: impl Iterator<Item = (&'e str, u64, u64)>) -> prometheus::Result<String> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.waiting.reset();
        self.active.reset();
        for (event, waiting, active) in lines {
            self.waiting.with_label_values(&[event]).set(gauge(waiting));
            self.active.with_label_values(&[event]).set(gauge(active));
        }
        self.look();
        prometheus::TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_lists_what_is_registered() {
        let metrics = Metrics::new().expect("unique names");
        metrics.requests.with_label_values(&["join", "2xx"]).inc();
        metrics.request_seconds.with_label_values(&["join"]).observe(0.001);
        metrics.refused.with_label_values(&["X"]).inc();
        for gauges in [&metrics.waiting, &metrics.active, &metrics.store_up] {
            gauges.with_label_values(&["x"]).set(1);
        }
        metrics.watch_circuit(Circuit::new("x"));
        metrics.render([("x", 1, 1)].into_iter()).expect("text");
        let mut registered: Vec<_> = metrics.registry.gather().iter().map(|f| f.name().to_owned()).collect();
        let mut listed: Vec<_> = TABLE.iter().map(|(name, ..)| (*name).to_owned()).collect();
        registered.sort();
        listed.sort();
        assert_eq!(registered, listed);
    }

    #[test]
    fn an_event_that_is_gone_is_in_no_figure() {
        let metrics = Metrics::new().expect("unique names");
        let text = metrics.render([("here", 7, 2), ("gone", 1, 1)].into_iter()).expect("text");
        assert!(text.contains("usher_waiting{event=\"here\"} 7") && text.contains("gone"), "{text}");
        let text = metrics.render([("here", 6, 3)].into_iter()).expect("text");
        assert!(text.contains("usher_active{event=\"here\"} 3") && !text.contains("gone"), "{text}");
    }
}
