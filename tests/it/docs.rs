//! What the documents list is what the code has.

use usher::engine::redis::keys;
use usher::metrics;

const OPERATING: &str = include_str!("../../docs/OPERATING.md");

/// The rows must stand together, in the code's order, and no row of the same table may stand around them.
fn expect_table(rows: &[String]) {
    let table = rows.join("\n");
    let at =
        OPERATING.find(&table).unwrap_or_else(|| panic!("docs/OPERATING.md should have exactly these rows:\n{table}"));
    let (before, after) = (&OPERATING[..at], &OPERATING[at + table.len()..]);
    assert!(before.ends_with("--- |\n"), "a row too many before:\n{table}");
    assert!(after.starts_with("\n\n"), "a row too many after:\n{table}");
}

#[test]
fn the_metrics_are_listed() {
    let rows: Vec<_> =
        metrics::TABLE.iter().map(|(name, kind, what)| format!("| `{name}` | {kind} | {what} |")).collect();
    expect_table(&rows);
}

#[test]
fn the_keys_in_redis_are_listed() {
    let row = |key: &keys::Key| format!("| `{}` | {} | {} | {} |", key.name, key.kind, key.what, key.bound);
    expect_table(&keys::ALL.iter().map(row).collect::<Vec<_>>());
}
