//! The ledger's behaviour: one list of cases, each run on every ledger there is.

mod booking;
mod catalogue;
mod commit;
mod postgres;
mod races;
mod records;
pub mod sqlite;

use std::sync::Arc;
use std::time::Duration;

use usher::domain::catalogue::{Show, Zone};
use usher::domain::{
    Booking, BookingId, BookingStatus, EventId, EventSpec, Money, PassId, QueuePolicy, ShowId, Timestamp, VisitorId,
    ZoneId, ZoneKey,
};
use usher::ledger::{Actor, Committed, IdempotencyKey, Ledger, NewBooking, PageRequest, StoredAnswer};

/// Makes a test of each case for each ledger, and a list of what it made.
macro_rules! cases {
    ($($file:ident: $($case:ident),+;)+) => {
        mod on_sqlite {
            pub const EXPANDED: &[&str] = &[$($(stringify!($case)),+),+];
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let (ledger, _scratch) = super::sqlite::fresh().await;
                    super::$file::$case(ledger).await;
                }
            )+)+
        }
        mod on_postgres {
            pub const EXPANDED: &[&str] = &[$($(stringify!($case)),+),+];
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$file::$case(super::postgres::fresh().await).await;
                }
            )+)+
        }
        const SOURCES: &[&str] = &[$(include_str!(concat!(stringify!($file), ".rs"))),+];
    };
}

cases! {
    catalogue:
        an_event_comes_back_as_it_was_put, the_spec_is_checked, versions_grow_and_none_is_skipped,
        a_replaced_event_keeps_what_is_taken, capacity_in_use_is_refused, a_zone_that_comes_back_counts_on,
        a_policy_is_patched, a_removed_event_is_gone_until_it_is_put_again, a_reset_voids_the_numbers_so_far,
        what_is_known_to_be_newer_is_overtaken, numbers_that_are_out_are_never_set_aside;
    commit:
        a_commit_counts_the_seats, a_key_is_answered_once, an_answer_runs_out, a_pass_is_used_once,
        no_seat_is_sold_twice, a_visitor_has_a_limit, an_unknown_zone_is_refused, a_batch_sees_itself,
        the_rules_have_an_order, an_empty_batch_is_nothing;
    booking:
        a_reservation_is_confirmed_once, a_late_confirmation_is_refused, a_cancelled_booking_gives_its_seats_back,
        a_booking_is_its_visitors_alone, due_reservations_expire, an_expired_booking_stays_expired, bookings_are_paged,
        existing_bookings_are_found;
    records:
        run_out_answers_are_purged, every_change_is_in_the_audit_log, the_audit_log_is_paged, it_answers_a_ping;
    races:
        numbers_are_never_given_twice, racers_get_every_seat_once, batches_that_overlap_agree,
        one_key_in_many_hands_is_done_once, one_pass_in_many_hands_is_used_once, a_limit_holds_under_fire,
        sweepers_share_the_work, confirm_and_cancel_and_sweep_agree, a_caller_who_goes_away_leaves_all_or_nothing,
        an_event_changes_while_it_sells, catalogue_changes_come_in_order;
}

#[test]
fn every_case_runs_on_every_ledger() {
    assert_eq!(on_sqlite::EXPANDED.len(), 44);
    assert_eq!(on_postgres::EXPANDED, on_sqlite::EXPANDED);
    let written: usize = SOURCES.iter().map(|source| source.matches("\npub async fn ").count()).sum();
    assert_eq!(written, 44, "a case is written, but not in the list");
}

const TTL: Duration = Duration::from_mins(10);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(1_800_000_000 + seconds)
}

fn actor() -> Actor {
    Actor("tester".to_owned())
}

fn event(id: &str) -> EventId {
    EventId::parse(id).expect("an event id")
}

fn visitor(id: &str) -> VisitorId {
    VisitorId::parse(id).expect("a visitor id")
}

fn booking(id: &str) -> BookingId {
    BookingId::parse(id).expect("a booking id")
}

fn key(text: &str) -> ZoneKey {
    ZoneKey::parse(text).expect("a zone key")
}

fn page(page: u32, size: u32) -> PageRequest {
    PageRequest { page, size }
}

/// An event with one show, `s1`, and these zones with their seats.
pub fn spec(zones: &[(&str, u32)]) -> EventSpec {
    let zones = zones
        .iter()
        .map(|(id, capacity)| Zone {
            id: ZoneId::parse(id).expect("a zone id"),
            name: format!("Zone {id}"),
            capacity: *capacity,
            price: Money::from_minor(4_250).expect("an amount"),
        })
        .collect();
    let show =
        Show { id: ShowId::parse("s1").expect("a show id"), name: "Friday".into(), starts_at: Some(at(99)), zones };
    EventSpec { name: "Tour".into(), shows: vec![show], queue: QueuePolicy::default() }
}

/// Puts event `e` with these zones.
async fn put(ledger: &dyn Ledger, zones: &[(&str, u32)]) {
    ledger.put_event(&event("e"), &spec(zones), &actor(), at(0)).await.expect("put");
}

/// A reservation of `quantity` seats in `s1/z` of event `e` for `who`, made at 0; everything else follows from `id`.
fn new(id: &str, who: &str, quantity: u32) -> NewBooking {
    NewBooking {
        booking: Booking {
            id: booking(id),
            event: event("e"),
            zone: key("s1/z"),
            visitor: visitor(who),
            quantity,
            unit_price: Money::from_minor(4_250).expect("an amount"),
            status: BookingStatus::Reserved,
            created_at: at(0),
            expires_at: at(0).plus(TTL),
            confirmed_at: None,
            confirmation_code: None,
            payment_id: None,
        },
        pass: Some(PassId::parse(&format!("pass-{id}")).expect("a pass id")),
        max_per_user: 0,
        answer: StoredAnswer { body_hash: [7; 32], status: 201, body: format!("{{\"id\":\"{id}\"}}") },
        key: IdempotencyKey { visitor: visitor(who), route: "reserve", key: format!("key-{id}") },
    }
}

/// Commits one booking.
async fn commit_one(ledger: &dyn Ledger, new: &NewBooking) -> Committed {
    let mut answers = ledger.commit(std::slice::from_ref(new)).await.expect("commit");
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

fn is_done(answer: &Committed) -> bool {
    matches!(answer, Committed::Done { .. })
}

/// Seats taken and versions of the zones of event `e`, by zone.
async fn counts(ledger: &dyn Ledger) -> Vec<(String, u32, i64)> {
    let zones = ledger.zones(&event("e")).await.expect("zones");
    zones.into_iter().map(|z| (z.zone.to_string(), z.tally.taken, z.tally.version)).collect()
}

/// Seats taken in `s1/z` of event `e`.
async fn taken(ledger: &dyn Ledger) -> u32 {
    counts(ledger).await.iter().find(|(zone, ..)| zone == "s1/z").map_or(0, |(_, taken, _)| *taken)
}

/// The seats that `who` has of event `e`.
async fn seats_of(ledger: &dyn Ledger, who: &str) -> u32 {
    ledger.buyer(&event("e"), &visitor(who)).await.expect("buyer").tally.taken
}

type Shared = Arc<dyn Ledger>;
