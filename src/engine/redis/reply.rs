//! From the numbers in a script's reply to the answers of the engine.

use redis::Value;

use super::scripts::ScriptError;
use crate::domain::{QueueState, Timestamp};
use crate::engine::{
    Admission, Away, Claimed, Counters, EngineError, InForce, Joined, Left, Numbers, Place, Released, Result, Standing,
    ZoneStock,
};

/// An answer that a script never gives: something else is answering.
pub fn odd(what: &str) -> EngineError {
    EngineError::Unavailable(format!("the store answered something that cannot be: {what}"))
}

/// What stands behind the status at the head of a reply.
pub fn body(reply: Value) -> Result<Vec<Value>> {
    let Value::Array(mut values) = reply else { return Err(odd("no list")) };
    match values.first() {
        Some(Value::Int(0)) => {
            values.remove(0);
            Ok(values)
        }
        Some(Value::Int(code)) => Err(match ScriptError::from_code(*code) {
            Some(ScriptError::UnknownEvent) => EngineError::UnknownEvent,
            Some(ScriptError::BadArguments) => odd("arguments refused"),
            None => odd("a status"),
        }),
        _ => Err(odd("no status")),
    }
}

/// A number of the reply.
pub fn int(value: &Value) -> Result<i64> {
    if let Value::Int(number) = value { Ok(*number) } else { Err(odd("no number")) }
}

/// A number that is not negative.
pub fn count(value: &Value) -> Result<u64> {
    u64::try_from(int(value)?).map_err(|_| odd("a negative count"))
}

/// A text of the reply.
pub fn text(value: &Value) -> Result<&str> {
    let Value::BulkString(bytes) = value else { return Err(odd("no text")) };
    std::str::from_utf8(bytes).map_err(|_| odd("no UTF-8"))
}

/// The two numbers of `grant_numbers`, which other replies hold too.
pub fn numbers(values: &[Value]) -> Result<Numbers> {
    let [left, past] = values else { return Err(odd("numbers")) };
    Ok(Numbers { left: count(left)?, past: count(past)? })
}

/// The reply of `put_rules`.
pub fn in_force(values: &[Value]) -> Result<InForce> {
    let [version, floor, rest @ ..] = values else { return Err(odd("rules")) };
    Ok(InForce { version: int(version)?, floor: count(floor)?, numbers: numbers(rest)? })
}

fn place(values: &[Value]) -> Result<Place> {
    let (number, position) = (count(&values[1])?, count(&values[2])?);
    Ok(Place { number, position, joined_at: Timestamp::from_micros(int(&values[3])?) })
}

fn away(values: &[Value]) -> Result<Away> {
    Ok(Away { number: count(&values[1])?, joined_at: Timestamp::from_micros(int(&values[3])?) })
}

fn admission(values: &[Value]) -> Result<Admission> {
    let (admitted_at, expires_at) = (int(&values[2])?, int(&values[3])?);
    let at = Timestamp::from_micros;
    Ok(Admission { number: count(&values[1])?, admitted_at: at(admitted_at), expires_at: at(expires_at) })
}

/// Four numbers of `join`.
pub fn joined(values: &[Value]) -> Result<Joined> {
    Ok(match int(&values[0])? {
        1 => Joined::New(place(values)?),
        2 => Joined::Already(place(values)?),
        3 => Joined::Admitted(admission(values)?),
        4 => Joined::Full,
        5 => Joined::Closed,
        6 => Joined::NoNumbers,
        7 => Joined::Parked(away(values)?),
        _ => return Err(odd("join")),
    })
}

/// Four numbers of `locate`.
pub fn standing(values: &[Value]) -> Result<Standing> {
    Ok(match int(&values[0])? {
        1 => Standing::Waiting(place(values)?),
        2 => Standing::Admitted(admission(values)?),
        3 => Standing::Used(admission(values)?),
        4 => Standing::Expired(admission(values)?),
        5 => Standing::Absent,
        6 => Standing::Parked(away(values)?),
        _ => return Err(odd("locate")),
    })
}

/// One number of `leave`.
pub fn left(values: &[Value]) -> Result<Left> {
    Ok(match int(&values[0])? {
        1 => Left::Line,
        2 => Left::Pass,
        3 => Left::Nothing,
        _ => return Err(odd("leave")),
    })
}

/// One number of `claim`.
pub fn claimed(values: &[Value]) -> Result<Claimed> {
    Ok(match int(&values[0])? {
        1 => Claimed::Held,
        2 => Claimed::PassBusy,
        3 => Claimed::PassUsed,
        4 => Claimed::PassExpired,
        5 => Claimed::PassVoid,
        6 => Claimed::InsufficientSeats,
        7 => Claimed::UserLimit,
        8 => Claimed::UnknownZone,
        9 => Claimed::SoldOut,
        _ => return Err(odd("claim")),
    })
}

/// The eleven numbers of `counters`, which end the reply of `release` too.
pub fn counters(values: &[Value]) -> Result<Counters> {
    let [state, waiting, active, admitted, left, parked, version, numbers @ .., resumes_at, at] = values else {
        return Err(odd("counters"));
    };
    let state = match int(state)? {
        1 => QueueState::Lobby,
        2 => QueueState::Open,
        3 => QueueState::Paused,
        4 => QueueState::Closed,
        _ => return Err(odd("a state")),
    };
    Ok(Counters {
        state,
        waiting: count(waiting)?,
        active: count(active)?,
        admitted: count(admitted)?,
        left: count(left)?,
        parked: count(parked)?,
        version: int(version)?,
        numbers: self::numbers(numbers)?,
        resumes_at: Timestamp::from_micros(int(resumes_at)?),
        at: Timestamp::from_micros(int(at)?),
    })
}

/// The reply of `release`.
pub fn released(values: &[Value]) -> Result<Released> {
    let [admitted, parked, rest @ ..] = values else { return Err(odd("release")) };
    let small = |value| u32::try_from(count(value)?).map_err(|_| odd("a count"));
    Ok(Released { admitted: small(admitted)?, parked: small(parked)?, counters: counters(rest)? })
}

/// A zone's name and its packed numbers.
pub fn zone(values: &[Value]) -> Result<ZoneStock> {
    fn read(name: &str, packed: &str) -> Option<ZoneStock> {
        let mut parts = packed.split(' ');
        let capacity = parts.next()?.parse().ok()?;
        let tally = crate::engine::Tally { taken: parts.next()?.parse().ok()?, version: parts.next()?.parse().ok()? };
        let held = parts.next()?.parse().ok()?;
        Some(ZoneStock { zone: crate::domain::ZoneKey::parse(name).ok()?, capacity, tally, held })
    }
    let [name, packed] = values else { return Err(odd("stock")) };
    read(text(name)?, text(packed)?).ok_or_else(|| odd("stock"))
}

/// Reads one answer out of each `size` values, of which there must be `expected`.
pub fn each<T>(values: &[Value], size: usize, expected: usize, read: fn(&[Value]) -> Result<T>) -> Result<Vec<T>> {
    if values.len() != size * expected {
        return Err(odd("another number of answers"));
    }
    values.chunks_exact(size).map(read).collect()
}
