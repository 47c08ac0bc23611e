//! The inner paths alone, without network or stores: what a release, a position, a ticket and a pass cost.
//!
//! `cargo bench --bench micro`. What a path costs from door to door is measured by `make bench`.

use std::hint::black_box;
use std::time::Duration;

use criterion::Criterion;
use usher::domain::present::Present;
use usher::domain::release::Bucket;
use usher::domain::{EventId, Timestamp, VisitorId};
use usher::engine::Admission;
use usher::pass::{Keys, PassKey, Ticket, TicketKey};

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

fn event() -> EventId {
    EventId::parse("arena").expect("an id")
}

fn visitor() -> VisitorId {
    VisitorId::parse("0f5c9f0e-7a51-4b6e-9d5f-2f1d6a1c7e11").expect("an id")
}

fn release(criterion: &mut Criterion) {
    criterion.bench_function("release/take", |bencher| {
        let (mut bucket, mut now) = (Bucket::empty(NOW), NOW);
        bencher.iter(|| {
            now = now.plus(Duration::from_millis(100));
            black_box(bucket.take(black_box(60_000), Some(Duration::from_millis(100)), now, 100))
        });
    });
}

fn tickets(criterion: &mut Criterion) {
    let key = TicketKey::new(&[7; 32]);
    let ticket = Ticket {
        event: event(),
        visitor: visitor(),
        number: 1_234_567,
        joined_at: NOW,
        expires_at: NOW.plus(Duration::from_hours(24)),
    };
    let text = key.issue(&ticket);
    criterion.bench_function("ticket/issue", |bencher| bencher.iter(|| key.issue(black_box(&ticket))));
    criterion.bench_function("ticket/verify", |bencher| bencher.iter(|| key.verify(black_box(&text), NOW)));
}

/// A line in which every seventh has left, at two lengths: looking costs the same, a change little more.
fn positions(criterion: &mut Criterion) {
    for (name, count) in [("1 thousand", 1_000_u64), ("1 million", 1_000_000)] {
        let mut present = Present::default();
        present.insert(1..=count);
        (1..=count).step_by(7).for_each(|number| present.remove(number));
        let mut number = 0;
        let mut next = move || {
            number = (number + 104_729) % count;
            number + 1
        };
        criterion.bench_function(&format!("position of one in {name}"), |bencher| {
            bencher.iter(|| present.position(black_box(next())));
        });
        criterion.bench_function(&format!("leave and join in {name}"), |bencher| {
            bencher.iter(|| {
                let number = next();
                present.remove(black_box(number));
                present.insert(number..=number);
            });
        });
    }
}

fn passes(criterion: &mut Criterion, name: &str, key: &PassKey) {
    let (event, visitor) = (event(), visitor());
    let admission = Admission { number: 1_234_567, admitted_at: NOW, expires_at: NOW.plus(Duration::from_mins(5)) };
    let pass = key.mint(&event, &visitor, &admission).expect("signed");
    criterion.bench_function(&format!("pass/{name}/mint"), |bencher| {
        bencher.iter(|| key.mint(&event, &visitor, black_box(&admission)));
    });
    criterion
        .bench_function(&format!("pass/{name}/verify"), |bencher| bencher.iter(|| key.verify(black_box(&pass), NOW)));
}

/// An Ed25519 key as the service makes it on its first start.
fn generated_key() -> PassKey {
    let dir = std::env::temp_dir().join(format!("usher-micro-{}", uuid::Uuid::new_v4()));
    let settings = usher::config::from_pairs(&[("data_dir", dir.to_str().expect("UTF-8"))]).expect("legal");
    let keys = Keys::open(&settings).expect("made");
    std::fs::remove_dir_all(&dir).expect("removed");
    keys.passes
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    release(&mut criterion);
    tickets(&mut criterion);
    positions(&mut criterion);
    passes(&mut criterion, "EdDSA", &generated_key());
    passes(&mut criterion, "HS256", &PassKey::from_secret(&[7; 32], "usher"));
    criterion.final_summary();
}
