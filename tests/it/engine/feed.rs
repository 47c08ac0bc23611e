//! The feed: whoever follows it knows the line as the engine does.

use usher::domain::QueueState;
use usher::engine::{EngineError, FEED_LENGTH, MAX_BATCH, SNAPSHOT_PAGE, Standing};
use usher::follow::catch_up;
use usher::line::Line;

use super::rig::{Rig, at, claim, in_state, policy, v};

async fn follow(rig: &Rig, line: &Line) {
    catch_up(rig.engine.as_ref(), &rig.event, line, || at(0.0)).await.expect("followed");
}

fn position(line: &Line, number: u64) -> Option<u64> {
    line.look(number, at(0.0)).expect("followed just now").position
}

pub async fn a_feed_tells_joins_leaves_and_releases(rig: Rig) {
    rig.open(policy()).await;
    let line = Line::unknown(at(0.0));
    assert!(line.look(1, at(0.0)).is_none(), "nothing is known before the feed was read");
    follow(&rig, &line).await;
    rig.join_all(0..10, 0.0).await;
    follow(&rig, &line).await;
    assert_eq!((position(&line, 1), position(&line, 10), position(&line, 11)), (Some(1), Some(10), None));
    rig.leave(4, 5, 0.0).await;
    rig.release(0.02).await; // two are let in
    follow(&rig, &line).await;
    let seen: Vec<_> = (1..=10).map(|number| position(&line, number)).collect();
    let wanted = [None, None, Some(1), Some(2), None, Some(3), Some(4), Some(5), Some(6), Some(7)];
    assert_eq!(seen, wanted);
    let version = line.version();
    follow(&rig, &line).await;
    assert_eq!(line.version(), version, "nothing new");
}

pub async fn a_pass_taken_at_its_word_leaves_the_line(rig: Rig) {
    rig.open(policy()).await;
    let line = Line::unknown(at(0.0));
    rig.joined(1, 0.0).await;
    rig.joined(2, 0.0).await;
    follow(&rig, &line).await;
    rig.zone(1, 10, 0, 1).await;
    // The store lost the admission: the visitor still stands in line, and comes with the pass of a later place.
    let pass = usher::engine::Admission { number: 7, admitted_at: at(0.0), expires_at: at(60.0) };
    rig.claim(claim(1, 1, Some(pass), 1), 1.0).await;
    follow(&rig, &line).await;
    assert_eq!((position(&line, 1), position(&line, 2)), (None, Some(1)));
}

pub async fn whoever_falls_behind_begins_anew(rig: Rig) {
    rig.open(in_state(QueueState::Paused)).await;
    let (always, seldom) = (Line::unknown(at(0.0)), Line::unknown(at(0.0)));
    follow(&rig, &seldom).await;
    rig.join_all(0..3, 0.0).await;
    // Far more steps than a feed keeps, even where it is cut off a whole node at a time.
    for step in 0..FEED_LENGTH as u64 + 300 {
        let place = rig.joined(9, 0.0).await;
        rig.leave(9, place.number, 0.0).await;
        if step % 1_000 == 0 {
            follow(&rig, &always).await;
        }
    }
    for line in [&always, &seldom] {
        follow(&rig, line).await;
        assert_eq!((position(line, 1), position(line, 3)), (Some(1), Some(3)));
        assert_eq!(line.look(1, at(0.0)).expect("fresh").waiting, 3);
    }
}

pub async fn a_long_line_is_read_in_pages(rig: Rig) {
    rig.open(in_state(QueueState::Paused)).await;
    let count = SNAPSHOT_PAGE * 2 + 7;
    for start in (0..count).step_by(MAX_BATCH) {
        rig.join_all(start..(start + MAX_BATCH).min(count), 0.0).await;
    }
    for gone in (0..count).step_by(13) {
        rig.leave(gone, gone as u64 + 1, 0.0).await;
    }
    let line = Line::unknown(at(0.0));
    follow(&rig, &line).await;
    for visitor in [1, 2, 14, SNAPSHOT_PAGE, count - 1] {
        let Standing::Waiting(place) = rig.locate(visitor, 0.0).await else { panic!("{visitor} is not in line") };
        assert_eq!(position(&line, place.number), Some(place.position));
    }
    assert_eq!(position(&line, 1), None);
}

pub async fn a_reset_and_a_removal_are_noticed(rig: Rig) {
    rig.open(policy()).await;
    let line = Line::unknown(at(0.0));
    rig.join_all(0..5, 0.0).await;
    follow(&rig, &line).await;
    // A floor in the middle of the line sends those beyond it away as well.
    for (version, floor) in [(2, 3), (3, 100)] {
        let reset = usher::engine::EventRules { version, policy: policy(), number_floor: floor };
        rig.engine.put_rules(&rig.event, &reset, at(0.0)).await.expect("rules");
        follow(&rig, &line).await;
        assert_eq!((position(&line, 4), line.look(4, at(0.0)).expect("fresh").waiting), (None, 0));
        rig.join_all(0..5, 0.0).await;
        follow(&rig, &line).await;
    }
    rig.engine.remove(&rig.event).await.expect("removed");
    let unknown = catch_up(rig.engine.as_ref(), &rig.event, &line, || at(0.0)).await;
    assert!(matches!(unknown, Err(EngineError::UnknownEvent)));
    // Put again between two looks: another line, though nobody noticed.
    rig.open(policy()).await;
    rig.engine.join(&rig.event, &[v(8)], at(0.0)).await.expect("joined");
    follow(&rig, &line).await;
    assert_eq!((position(&line, 1), line.look(1, at(0.0)).expect("fresh").waiting), (Some(1), 1));
}
