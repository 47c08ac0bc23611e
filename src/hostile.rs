//! What the property tests throw at parsers, and how long.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, FileFailurePersistence, RngSeed};
use serde_json::Value;

/// Cases of the short form.
const SHORT: u32 = 256;
/// Cases of the long form.
const LONG: u32 = 20_000;

/// How a property is tested. `USHER_CHAOS=1` asks for the long form; `USHER_CHAOS_SEED` replays a run, whose seed is printed
/// when it fails. Failures are kept in `tests/proptest-regressions/<name>.txt` and tried first from then on.
pub fn config(name: &str) -> Config {
    let seed = std::env::var("USHER_CHAOS_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
    eprintln!("{name}: USHER_CHAOS_SEED={seed}");
    let file = format!("{}/tests/proptest-regressions/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    Config {
        cases: if std::env::var("USHER_CHAOS").is_ok_and(|long| long == "1") { LONG } else { SHORT },
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(file.leak()))),
        ..Config::default()
    }
}

/// One change to a text that was issued.
#[derive(Debug, Clone)]
pub enum Change {
    /// One bit of one byte is another.
    Flip(Index, u8),
    /// One character is another one of the alphabet.
    Replace(Index, char),
    /// The end is missing.
    Cut(Index),
    /// The beginning is missing.
    Behead(Index),
    /// Something stands in between.
    Insert(Index, String),
    /// A part is there twice.
    Repeat(Index, Index),
    /// Two parts between dots have changed places.
    Swap(Index, Index),
    /// The letter case of one character is the other.
    Case(Index),
}

/// Any change.
pub fn change() -> impl Strategy<Value = Change> {
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ ";
    prop_oneof![
        (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        (any::<Index>(), select(alphabet.chars().collect::<Vec<_>>())).prop_map(|(at, c)| Change::Replace(at, c)),
        any::<Index>().prop_map(Change::Cut),
        any::<Index>().prop_map(Change::Behead),
        (any::<Index>(), "\\PC{1,3}|[=.]{1,3}|[A-Z]{9000}").prop_map(|(at, text)| Change::Insert(at, text)),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Change::Repeat(from, to)),
        (any::<Index>(), any::<Index>()).prop_map(|(one, other)| Change::Swap(one, other)),
        any::<Index>().prop_map(Change::Case),
    ]
}

impl Change {
    /// The text with this change made. The text must be ASCII and not empty.
    pub fn make(&self, text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        let length = bytes.len();
        match self {
            Self::Flip(at, bit) => bytes[at.index(length)] ^= 1 << bit,
            Self::Replace(at, c) => bytes[at.index(length)] = u8::try_from(*c).unwrap_or(b'A'),
            Self::Cut(at) => bytes.truncate(at.index(length)),
            Self::Behead(at) => drop(bytes.drain(..at.index(length))),
            Self::Insert(at, more) => drop(bytes.splice(at.index(length)..at.index(length), more.bytes())),
            Self::Repeat(from, to) => {
                let (from, to) = (from.index(length), to.index(length));
                bytes.extend_from_within(from.min(to)..from.max(to));
            }
            Self::Swap(one, other) => {
                let mut parts: Vec<&[u8]> = text.as_bytes().split(|byte| *byte == b'.').collect();
                let (one, other) = (one.index(parts.len()), other.index(parts.len()));
                parts.swap(one, other);
                bytes = parts.join(&b'.');
            }
            Self::Case(at) => bytes[at.index(length)] ^= 0x20,
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Any JSON, with the numbers and texts at which parsers break.
pub fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        select(vec![0, 1, u64::from(u32::MAX), u64::from(u32::MAX) + 1, u64::MAX]).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        select(vec![-1.0, -0.0, 0.5, 1e9, 1e300, f64::MIN_POSITIVE, 19.99, 0.001]).prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        select(vec![
            "",
            "open",
            "ajar",
            "e",
            "a b",
            "a/b",
            "\u{0}",
            "2026-05-01T18:00:00Z",
            "0000-01-01T00:00:00+23:59"
        ])
        .prop_map(Value::from),
        (120..140_usize).prop_map(|length| Value::from("x".repeat(length))),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::btree_map("[a-z_]{1,8}", inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// The object with some of its fields, at any depth, gone, doubled in nothing but name, or saying something else.
pub fn spoiled(good: Value) -> impl Strategy<Value = Value> {
    proptest::collection::vec((any::<Index>(), any::<bool>(), json()), 0..4).prop_map(move |changes| {
        let mut value = good.clone();
        for (at, remove, other) in changes {
            let mut places = Vec::new();
            pointers(&value, String::new(), &mut places);
            let Some(pointer) = places.get(at.index(places.len().max(1))).cloned() else { continue };
            let (parent, name) = pointer.rsplit_once('/').unwrap_or(("", ""));
            match value.pointer_mut(parent) {
                Some(Value::Object(fields)) if remove => drop(fields.remove(name)),
                Some(Value::Object(fields)) => drop(fields.insert(name.to_owned(), other)),
                Some(Value::Array(items)) => {
                    if let Some(item) = name.parse::<usize>().ok().and_then(|at| items.get_mut(at)) {
                        *item = other;
                    }
                }
                _ => {}
            }
        }
        value
    })
}

/// The JSON pointer of everything inside.
fn pointers(value: &Value, at: String, all: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, inner)| pointers(inner, format!("{at}/{name}"), all)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, inner)| pointers(inner, format!("{at}/{n}"), all));
        }
        _ => {}
    }
    if !at.is_empty() {
        all.push(at);
    }
}
