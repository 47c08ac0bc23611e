//! The coalescer on the real runtime; `tests/schedules` runs it under a scheduler that decides who goes next.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use usher::coalesce::{Bounds, Coalescer, Refused};

#[tokio::test]
async fn everyone_gets_their_own_answer_and_batches_form_under_load() {
    let batches = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&batches);
    let doubler = Coalescer::start(
        Bounds { batch: 64, in_flight: 1, fill: Duration::ZERO, pending: 1_000 },
        move |asked: Vec<u64>| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move {
                tokio::time::sleep(Duration::from_millis(2)).await;
                asked.into_iter().map(|n| n * 2).collect()
            }
        },
    );
    let asks: Vec<_> = (0..500_u64)
        .map(|n| {
            let doubler = doubler.clone();
            tokio::spawn(async move { (n, doubler.ask(n).await) })
        })
        .collect();
    for ask in asks {
        let (n, answer) = ask.await.expect("task");
        assert_eq!(answer, Ok(n * 2));
    }
    assert!(batches.load(Ordering::SeqCst) < 100, "{batches:?} batches for 500 requests");
}

/// A coalescer whose batches wait until they are let go, and the sizes of those that began.
fn gated(fill: Duration) -> (Coalescer<u8, u8>, Arc<Semaphore>, watch::Receiver<Vec<usize>>) {
    let gate = Arc::new(Semaphore::new(0));
    let (began, sizes) = watch::channel(Vec::new());
    let closed = Arc::clone(&gate);
    let bounds = Bounds { batch: 4, in_flight: 2, fill, pending: 100 };
    let coalescer = Coalescer::start(bounds, move |asked: Vec<u8>| {
        began.send_modify(|sizes| sizes.push(asked.len()));
        let gate = Arc::clone(&closed);
        async move {
            gate.acquire().await.expect("a gate").forget();
            asked
        }
    });
    (coalescer, gate, sizes)
}

fn ask(coalescer: &Coalescer<u8, u8>) {
    let coalescer = coalescer.clone();
    tokio::spawn(async move { coalescer.ask(0).await });
}

#[tokio::test]
async fn a_batch_fills_beside_another_until_it_is_full_or_alone() {
    let (coalescer, gate, mut sizes) = gated(Duration::from_hours(1));
    let mut begun = async |wanted: &[usize]| {
        sizes.wait_for(|sizes| sizes == wanted).await.expect("sizes");
    };
    ask(&coalescer);
    begun(&[1]).await; // nothing else on its way: at once
    ask(&coalescer);
    ask(&coalescer);
    tokio::time::sleep(Duration::from_millis(30)).await;
    begun(&[1]).await;
    gate.add_permits(1);
    begun(&[1, 2]).await;
    for _ in 0..4 {
        ask(&coalescer);
    }
    begun(&[1, 2, 4]).await;
}

#[tokio::test]
async fn a_batch_goes_out_beside_a_stuck_one_when_its_time_is_over() {
    let (coalescer, _gate, mut sizes) = gated(Duration::from_millis(20));
    ask(&coalescer);
    sizes.wait_for(|sizes| sizes == &[1]).await.expect("sizes");
    ask(&coalescer);
    sizes.wait_for(|sizes| sizes == &[1, 1]).await.expect("sizes");
}

#[tokio::test]
async fn one_too_many_is_turned_away_at_once_and_a_broken_batch_is_told() {
    let stuck =
        Coalescer::start(Bounds { batch: 1, in_flight: 1, fill: Duration::ZERO, pending: 1 }, |_: Vec<u8>| async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            panic!("this batch breaks down")
        });
    let ask = || {
        let stuck = stuck.clone();
        tokio::spawn(async move { stuck.ask(0).await as Result<u8, Refused> })
    };
    let first = ask();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let _second = ask();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(stuck.ask(0).await, Err(Refused::Full));
    assert_eq!(first.await.expect("task"), Err(Refused::Lost));
}
