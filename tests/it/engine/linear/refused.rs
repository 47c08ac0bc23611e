//! Histories that must be refused, each beside one that differs in as little as can be and is fine.

use usher::engine::Claimed;

use super::model::{Claiming, Model, Op, Ret, World};
use super::record::{History, What, is_linearizable};
use stateright::semantics::SequentialSpec;

const WORLD: World = World { tokens: 10, max_active: 0, max_queue: 0, numbers: 8, seats: 4 };

/// One after the other, with the answers of the specification.
fn in_turn(ops: &[Op]) -> Vec<(Op, Ret)> {
    let mut model = Model::new(WORLD);
    ops.iter().map(|op| (op.clone(), model.invoke(op))).collect()
}

/// Asked one after the other, by a different thread each.
fn apart(steps: &[(Op, Ret)]) -> History {
    let step =
        |(by, (op, ret)): (usize, &(Op, Ret))| [(by, What::Asked(op.clone())), (by, What::Answered(ret.clone()))];
    steps.iter().enumerate().flat_map(step).collect()
}

/// The same, but the last two at the same time.
fn last_two_at_once(steps: &[(Op, Ret)]) -> History {
    let mut history = apart(steps);
    let third_last = history.len() - 3;
    history.swap(third_last, third_last + 1); // the answer of the last but one comes after the question of the last
    history
}

fn fine(history: &History) -> bool {
    is_linearizable(Model::new(WORLD), history)
}

fn claim(booking: usize, visitor: usize, number: u64, quantity: u32) -> Op {
    Op::Claim(vec![Claiming { booking, visitor, number, quantity }])
}

#[test]
fn two_releases_that_let_the_same_visitor_in() {
    let mut steps = in_turn(&[Op::Join(vec![0]), Op::Release, Op::Release]);
    assert!(fine(&last_two_at_once(&steps)));
    steps[2].1 = steps[1].1.clone();
    assert!(!fine(&last_two_at_once(&steps)));
}

#[test]
fn a_leave_that_is_lost() {
    let mut steps = in_turn(&[Op::Join(vec![0]), Op::Locate(vec![0]), Op::Leave(vec![(0, 1)]), Op::Locate(vec![0])]);
    assert!(fine(&apart(&steps)));
    steps[3].1 = steps[1].1.clone(); // still in line
    assert!(fine(&last_two_at_once(&steps)), "while the leave is under way, that is right");
    assert!(!fine(&apart(&steps)));
}

#[test]
fn positions_out_of_order() {
    let mut steps = in_turn(&[Op::Join(vec![0]), Op::Join(vec![1])]);
    let (first, second) = (steps[0].1.clone(), steps[1].1.clone());
    (steps[0].1, steps[1].1) = (second, first);
    assert!(fine(&last_two_at_once(&steps)), "at the same time, either may be first");
    assert!(!fine(&apart(&steps)), "whoever was answered before the other asked stands before them");
    steps[0].1 = steps[1].1.clone();
    assert!(!fine(&last_two_at_once(&steps)), "one place for two");
}

#[test]
fn an_answer_from_the_past() {
    let mut steps = in_turn(&[Op::Locate(vec![0]), Op::Join(vec![0]), Op::Locate(vec![0])]);
    steps[2].1 = steps[0].1.clone();
    assert!(fine(&last_two_at_once(&steps)));
    assert!(!fine(&apart(&steps)));
}

#[test]
fn a_pass_used_twice_and_a_seat_sold_twice() {
    let joined = [Op::Join(vec![0, 1]), Op::Release];
    for (one, other) in [(claim(0, 0, 1, 1), claim(1, 0, 1, 1)), (claim(0, 0, 1, 3), claim(1, 1, 2, 3))] {
        let mut steps = in_turn(&[joined[0].clone(), joined[1].clone(), one, other]);
        assert!(fine(&last_two_at_once(&steps)));
        steps[3].1 = Ret::Claimed(vec![Claimed::Held]);
        assert!(!fine(&last_two_at_once(&steps)));
    }
}

#[test]
fn half_a_batch() {
    let mut steps = in_turn(&[Op::Join(vec![0, 1]), Op::Locate(vec![0]), Op::Locate(vec![1])]);
    assert!(fine(&apart(&steps)));
    let (asked, answered) = ((9, What::Asked(steps[0].0.clone())), (9, What::Answered(steps[0].1.clone())));
    let mut history = vec![asked];
    let absent = in_turn(&[Op::Locate(vec![1])]).remove(0).1;
    steps[2].1 = absent; // the second is not there yet after the first was seen
    history.extend(apart(&steps[1..]));
    history.push(answered);
    assert!(!fine(&history));
}
