//! Numbers come in blocks, and never twice.

use usher::engine::{EventRules, Joined};

use super::rig::{Rig, at, policy, rules};

pub async fn nobody_joins_before_numbers_are_granted(rig: Rig) {
    rig.rules(1, policy(), 0.0).await;
    assert_eq!(rig.join(1, 0.0).await, Joined::NoNumbers);
    assert_eq!(rig.grant(7, 9).await, 2);
    let answers = rig.join_all([1, 2, 3, 1], 0.0).await;
    assert!(matches!(answers[0], Joined::New(place) if place.number == 7 && place.position == 1));
    assert!(matches!(answers[1], Joined::New(place) if place.number == 8 && place.position == 2));
    assert_eq!(answers[2], Joined::NoNumbers);
    assert!(matches!(answers[3], Joined::Already(place) if place.number == 7));
}

pub async fn a_spare_block_follows_the_one_in_use(rig: Rig) {
    rig.rules(1, policy(), 0.0).await;
    assert_eq!(rig.grant(1, 3).await, 2);
    assert_eq!(rig.grant(10, 12).await, 4);
    assert_eq!(rig.grant(20, 22).await, 4, "there is a spare one already");
    let mut numbers = Vec::new();
    for visitor in 0..4 {
        numbers.push(rig.joined(visitor, 0.0).await.number);
    }
    assert_eq!(numbers, [1, 2, 10, 11]);
    assert_eq!(rig.join(9, 0.0).await, Joined::NoNumbers);
    // The one in use is full of holes for nobody: as soon as it is empty the spare moves up, and there is room for another.
    assert_eq!(rig.grant(30, 31).await, 1);
    assert_eq!(rig.grant(40, 41).await, 2);
    assert_eq!(rig.joined(9, 0.0).await.number, 30);
    assert_eq!(rig.grant(50, 51).await, 2);
}

pub async fn stale_blocks_never_bring_a_number_back(rig: Rig) {
    rig.rules(1, policy(), 0.0).await;
    rig.grant(100, 102).await;
    for (start, end) in [(1, 50), (100, 102), (101, 200), (99, 101), (0, 5), (300, 300), (300, 200)] {
        assert_eq!(rig.grant(start, end).await, 2, "{start}..{end}");
    }
    rig.join_all([1, 2], 0.0).await;
    for (start, end) in [(1, 50), (100, 102), (101, 200)] {
        assert_eq!(rig.grant(start, end).await, 0, "{start}..{end}, after the block was used up");
    }
    assert_eq!(rig.grant(102, 103).await, 1);
    assert_eq!(rig.joined(3, 0.0).await.number, 102);
}

pub async fn numbers_below_the_floor_are_left_out(rig: Rig) {
    rig.rules(1, policy(), 0.0).await;
    rig.grant(1, 11).await;
    rig.grant(101, 111).await;
    let floor = |version, number_floor| EventRules { number_floor, ..rules(version, policy()) };
    let put = |version, number| {
        let (rig, rules) = (rig.clone(), floor(version, number));
        async move { rig.engine.put_rules(&rig.event, &rules, at(0.0)).await.expect("rules").numbers.left }
    };
    assert_eq!(put(2, 5).await, 16);
    assert_eq!(rig.joined(1, 0.0).await.number, 5);
    assert_eq!(put(3, 106).await, 5);
    assert_eq!(rig.joined(1, 0.0).await.number, 106);
    assert_eq!(put(4, 1_000).await, 0);
    assert_eq!(rig.join(2, 0.0).await, Joined::NoNumbers);
    assert_eq!(rig.grant(500, 1_000).await, 0, "all of it below the floor");
    assert_eq!(rig.grant(990, 1_003).await, 3, "some of it below the floor");
    assert_eq!(rig.joined(2, 0.0).await.number, 1_000);
}
