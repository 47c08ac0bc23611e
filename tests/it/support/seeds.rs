//! Seeds: what chance decides in a test follows from one number, which is printed and can be asked for again.
//!
//! `USHER_CHAOS=1` asks for the long form of such a test, `USHER_CHAOS_SEED` for a certain seed.

/// Whether the long form is asked for.
pub fn long() -> bool {
    std::env::var("USHER_CHAOS").is_ok_and(|value| value == "1")
}

/// The seed asked for, or a new one. It is printed, with the name of the test.
///
/// # Panics
/// When the seed asked for is not a number.
pub fn seed(name: &str) -> u64 {
    let seed = match std::env::var("USHER_CHAOS_SEED") {
        Ok(asked) => asked.parse().unwrap_or_else(|_| panic!("USHER_CHAOS_SEED is no number: {asked}")),
        Err(_) => uuid::Uuid::new_v4().as_u64_pair().0,
    };
    println!("{name}: USHER_CHAOS_SEED={seed}");
    seed
}

/// The seeds that a file keeps, because they found something once: one a line, and what it found behind a `#`.
///
/// # Panics
/// When a line does not begin with a number.
pub fn kept(file: &str) -> Vec<u64> {
    let seeds = file.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    seeds.filter(|seed| !seed.is_empty()).map(|seed| seed.parse().expect("a seed")).collect()
}
