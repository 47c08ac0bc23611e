//! The feed of an event: what `follow` and `snapshot` answer.

use redis::Value;

use super::reply::{count, counters, int, odd, text};
use crate::domain::present::Change;
use crate::engine::{Cursor, Followed, MAX_BATCH, Result, SnapshotPage};

/// Steps read by one call: at a few numbers each, well below a millisecond.
pub const STEPS: i64 = 256;

/// A cursor as the store writes it.
pub fn step(Cursor(millis, sequence): Cursor) -> String {
    format!("{millis}-{sequence}")
}

fn cursor(value: &Value) -> Result<Cursor> {
    let (millis, sequence) = text(value)?.split_once('-').ok_or_else(|| odd("a step"))?;
    let read = |part: &str| part.parse().map_err(|_| odd("a step"));
    Ok(Cursor(read(millis)?, read(sequence)?))
}

/// The reply of `follow`.
pub fn followed(values: &[Value]) -> Result<Followed> {
    let Some((head, [in_step, more, last, steps @ ..])) = values.split_at_checked(11) else {
        return Err(odd("follow"));
    };
    let mut changes = Vec::with_capacity(steps.len());
    for step in steps {
        for change in text(step)?.split(' ') {
            changes.push(read(change).ok_or_else(|| odd("a change"))?);
        }
    }
    Ok(Followed {
        counters: counters(head)?,
        cursor: cursor(last)?,
        changes: (int(in_step)? == 1).then_some(changes),
        more: int(more)? == 1,
    })
}

fn read(change: &str) -> Option<Change> {
    let (kind, rest) = change.split_at_checked(1)?;
    Some(match kind {
        "+" => {
            let (first, last) = rest.split_once('-')?;
            let (first, last) = (first.parse().ok()?, last.parse().ok()?);
            // One batch of joins has no more numbers than that: whatever says otherwise did not come from a script.
            if last < first || last - first >= MAX_BATCH as u64 {
                return None;
            }
            Change::Joined { first, last }
        }
        "-" => Change::Gone(rest.parse().ok()?),
        "^" => Change::GoneUpTo(rest.parse().ok()?),
        _ => return None,
    })
}

/// The reply of `snapshot`.
pub fn page(values: &[Value]) -> Result<SnapshotPage> {
    let (next, ranges) = values.split_first().ok_or_else(|| odd("nothing"))?;
    let range = |pair: &[Value]| match pair {
        [first, last] => Ok((count(first)?, count(last)?)),
        _ => Err(odd("a range")),
    };
    let next = Some(count(next)?).filter(|next| *next > 0);
    Ok(SnapshotPage { next, ranges: ranges.chunks(2).map(range).collect::<Result<_>>()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read_and_rubbish_is_not() {
        assert_eq!(read("+3-9"), Some(Change::Joined { first: 3, last: 9 }));
        assert_eq!(read("-4"), Some(Change::Gone(4)));
        assert_eq!(read("^0"), Some(Change::GoneUpTo(0)));
        for rubbish in ["", "+", "+3", "+9-3", "+1-9999999999", "-x", "~4", "^", "é"] {
            assert_eq!(read(rubbish), None, "{rubbish}");
        }
    }
}
