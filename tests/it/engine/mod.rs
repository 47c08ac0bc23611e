//! One list of cases, run on every engine.

mod claims;
mod concurrency;
mod equal;
mod feed;
mod line;
mod linear;
mod news;
mod numbers;
mod on_redis;
mod passes;
mod presence;
mod recovery;
mod release;
pub(crate) mod rig;
mod rules;

/// Expands the list to one test a case and engine.
macro_rules! suite {
    ($($module:ident :: { $($case:ident),* $(,)? })*) => {
        mod memory {
            $(mod $module { $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() { crate::engine::$module::$case(crate::engine::rig::Rig::memory()).await; }
            )* })*
        }
        mod redis {
            $(mod $module { $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() { crate::engine::$module::$case(crate::engine::rig::Rig::redis()).await; }
            )* })*
        }
        const CASES: &[&str] = &[$($(concat!(stringify!($module), "::", stringify!($case))),*),*];
    };
}

suite! {
    rules::{
        an_unknown_event_is_said_to_be_so, only_newer_rules_are_put_in_force, a_higher_floor_empties_line_and_passes,
        a_floor_never_sinks, what_is_removed_is_unknown, a_lobby_opens_by_itself_at_its_time,
        a_paused_queue_takes_joins_and_lets_nobody_in, a_closed_queue_takes_no_joins_and_keeps_places,
        counters_tell_the_whole_story,
    }
    numbers::{
        nobody_joins_before_numbers_are_granted, a_spare_block_follows_the_one_in_use,
        stale_blocks_never_bring_a_number_back, numbers_below_the_floor_are_left_out,
    }
    line::{
        joining_twice_never_gives_a_second_place, those_who_join_first_are_let_in_first, positions_move_up,
        a_full_line_refuses_new_places_only, leaving_needs_the_right_number, joined_at_is_known_to_the_second,
        places_are_dropped_after_a_day, all_legal_characters_make_ids, large_batches_and_empty_ones_work,
    }
    passes::{
        each_standing_is_told_apart, an_ended_pass_leads_to_the_back_of_the_line, a_pass_can_be_given_back_once,
        a_pass_in_use_cannot_be_given_back, passes_that_ran_out_are_expired_swept_or_not,
        ended_passes_are_forgotten_after_an_hour, a_swept_pass_stays_expired_when_the_clock_goes_back,
    }
    release::{
        the_rate_is_exact_over_a_minute, one_burst_is_one_second, a_new_event_has_no_tokens,
        a_new_rate_touches_only_the_future, a_rate_of_zero_lets_nobody_in, sixty_million_a_minute,
        a_rate_set_far_too_high_is_undone_within_a_second, a_clock_that_jumps_neither_floods_nor_stops,
        time_that_the_caller_did_not_see_is_worth_nothing,
        max_active_is_never_exceeded, slots_come_back, a_release_is_bounded, a_lower_cap_waits_for_room,
        many_expired_passes_never_block_the_count,
    }
    claims::{
        a_claim_holds_seats_and_the_pass, the_same_booking_twice_is_the_same_hold, a_pass_serves_one_claim_at_a_time,
        each_refusal_of_a_pass, a_refused_claim_leaves_the_pass_good, no_pass_where_none_is_needed,
        the_limit_counts_what_the_ledger_says, a_pass_without_a_record_is_taken_at_its_word,
        a_newer_pass_replaces_an_older_record, a_later_place_voids_an_earlier_pass,
        what_is_sold_out_is_known_without_asking,
    }
    news::{
        a_settled_hold_is_a_used_pass, an_undone_hold_is_a_good_pass, only_newer_tallies_count,
        changes_of_availability_are_told, a_hold_settled_after_its_pass_ran_out, a_hold_undone_after_its_pass_ran_out,
        a_late_settlement_spares_the_next_pass, stale_holds_come_oldest_first, forgotten_zones_are_unknown,
        a_great_deal_of_news_is_taken_in_parts, tallies_that_shrink_the_zone_never_go_below_zero,
    }
    feed::{
        a_feed_tells_joins_leaves_and_releases, a_pass_taken_at_its_word_leaves_the_line, whoever_falls_behind_begins_anew,
        a_long_line_is_read_in_pages, a_reset_and_a_removal_are_noticed,
    }
    recovery::{
        lost_places_are_taken_back_in_their_order, nobody_is_let_in_during_the_recovery, a_first_store_needs_no_recovery,
        what_was_given_up_is_not_taken_back, what_is_void_or_taken_is_not_taken_back,
        a_store_that_is_older_than_a_number_gives_its_numbers_up,
    }
    presence::{
        whoever_is_away_holds_up_nobody_and_comes_back_to_the_front, nobody_is_away_when_nobody_told_who_was_seen,
        nobody_is_away_who_just_joined_or_where_it_is_not_asked, what_was_seen_counts_for_its_time,
        many_who_are_away_are_passed_over_a_batch_at_a_time, the_parked_can_leave_and_do_not_stay_for_ever,
        a_reset_sends_the_parked_away,
    }
    concurrency::{
        concurrent_releases_never_exceed_max_active, concurrent_joins_give_each_visitor_one_place,
        two_hundred_race_for_fifty_seats, one_pass_many_claims,
    }
}

#[test]
fn every_case_is_expanded_for_both_engines() {
    assert_eq!(CASES.len(), 87);
    let names: std::collections::HashSet<_> = CASES.iter().collect();
    assert_eq!(names.len(), CASES.len());
}
