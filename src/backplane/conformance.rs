//! One suite of rules that every [`Backplane`] keeps, written against the contract alone.
//!
//! A backplane gives a [`Fixture`] and names it to `suite!`, which makes a test of its own of each
//! rule. Rooms have fresh names in each test, so that tests may share one server. Stories are
//! told as lines such as `2 bob: hi`, so that a failure can be read.

pub(crate) mod crowding;
pub(crate) mod directing;
pub(crate) mod joining;
pub(crate) mod leases;
pub(crate) mod lingering;
pub(crate) mod listening;
pub(crate) mod listing;
pub(crate) mod members;
pub(crate) mod moderating;
pub(crate) mod odd;
pub(crate) mod owing;
pub(crate) mod props;
pub(crate) mod publishing;
pub(crate) mod reading;
pub(crate) mod reaping;
pub(crate) mod resuming;
pub(crate) mod speaking;

use std::{future::Future, sync::Arc, time::Duration};

use super::{Backplane, LogBounds, Signals};
use crate::domain::ReplicaId;

/// What the suite needs of a backplane.
pub(crate) trait Fixture: Sync {
    /// As many replicas as asked for, each attached to the same shared state.
    fn attach(&self, replicas: usize, setup: Setup) -> impl Future<Output = Vec<Replica>>;

    /// Lets that much time pass by the clock by which the backplane's leases end.
    fn pass(&self, time: Duration) -> impl Future<Output = ()> {
        tokio::time::sleep(time)
    }
}

/// How the replicas of one test are to be built.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    /// How long leases last.
    pub(crate) lease: Duration,
    /// The bounds of every log.
    pub(crate) log: LogBounds,
    /// How many members a room may have.
    pub(crate) members_per_room: usize,
    /// How many signals wait for a replica before events are dropped.
    pub(crate) signal_queue: usize,
}

/// A lease that a test waits out: long against a busy machine's hiccups, short to wait for.
const SHORT: Duration = Duration::from_millis(800);

impl Setup {
    /// Nothing ends or overflows by itself.
    const CALM: Self = Self {
        lease: Duration::from_secs(60),
        log: LogBounds { length: 10_000, bytes: usize::MAX, age: Duration::from_secs(3600) },
        members_per_room: 10_000,
        signal_queue: 1024,
    };

    /// Leases end while one watches.
    const BRIEF: Self = Self { lease: SHORT, ..Self::CALM };
}

/// One attached replica.
pub(crate) struct Replica {
    /// Who it is.
    pub(crate) id: ReplicaId,
    /// Its end of the backplane.
    pub(crate) backplane: Arc<dyn Backplane>,
    /// What comes in.
    pub(crate) signals: Signals,
}

/// Makes a test of each rule: `suite!(tokio::test, fixture)`, where `fixture` is an expression.
macro_rules! suite {
    ($test:meta, $fixture:expr) => {
        $crate::backplane::conformance::suite! { @modules $test, $fixture;
            joining {
                a_held_name_is_taken_in_every_spelling
                a_join_is_told_once_it_is_held
                a_join_repeated_under_its_token_answers_as_at_first
                one_of_a_hundred_claims_wins
                a_name_left_is_free_at_once
                a_leave_is_told_once
                a_stale_leave_does_nothing
                rooms_know_nothing_of_each_other
            }
            speaking {
                what_is_said_is_read_back_whole
                only_the_holder_speaks
                an_ended_lease_is_silent_until_renewed
                a_client_sequence_is_appended_once
                of_messages_sent_again_only_those_are_appended_that_were_not
                appends_take_effect_in_the_order_of_their_calls
                closing_finishes_what_is_queued
            }
            leases {
                a_lease_keeps_all_names_of_its_replica
                a_replica_without_names_has_nothing_to_lose
                what_is_renounced_ends_with_its_lease
                a_check_tells_gone_from_taken
                renewing_revives_who_is_still_in_the_roster
                a_name_taken_again_goes_on_where_it_was
                a_name_taken_again_is_told_by_its_own_join_only
                a_session_tells_where_it_stands
                verdicts_come_in_the_order_of_the_holds
                heads_come_in_the_order_of_the_rooms
                a_room_that_is_asked_for_is_not_forgotten
                the_earliest_deadline_is_told
                a_lease_lost_and_told_is_told_again
                a_lease_lost_with_its_log_is_not_told_again
            }
            crowding {
                a_full_room_takes_nobody_in
                of_many_who_come_at_once_as_many_get_in_as_fit
                who_comes_back_fits_into_a_full_room
                who_is_gone_makes_room
                who_is_evicted_makes_room_in_the_same_step
                a_place_is_free_once_its_member_is_told_to_have_left
            }
            reaping {
                the_overdue_are_reaped_once
                a_replica_that_was_declared_dead_begins_anew
                who_is_back_before_that_is_not_reaped
                a_former_stay_is_not_reaped_again
                leaving_late_is_told_once
                a_leftover_name_is_evicted_by_its_next_holder
                joining_evicts_only_the_overdue
                a_replica_does_not_reap_its_own
                a_crowd_is_reaped_in_batches
                nobody_is_reaped_without_enough_contact
                a_name_is_not_given_away_without_enough_contact
                who_lingered_needs_no_longer_contact_than_it_had_time
                the_clock_goes_on
            }
            resuming {
                who_has_a_name_is_looked_up
                a_takeover_is_silent_and_goes_on
                a_session_that_has_ended_is_not_taken_over
                of_two_takeovers_the_later_wins
                a_late_takeover_takes_nothing
                a_superseded_stream_is_told
                a_superseded_stream_changes_nothing
                a_lease_that_ended_is_given_back_to_the_newest_stream_only
                an_overtaken_attempt_takes_nothing
                the_later_attempt_prevails_when_the_roster_is_lost
                a_stream_whose_session_has_left_is_superseded
            }
            lingering {
                a_lingering_name_is_kept
                a_takeover_ends_the_lingering
                a_stream_that_is_gone_does_not_come_back
                who_has_last_words_only_is_not_announced_again
                who_is_not_resumed_in_time_is_told_once
                lingering_ends_when_it_is_to
                a_stale_hold_does_not_linger
                who_lingers_may_leave
                who_lingers_keeps_the_room
                a_lease_that_has_ended_lingers_too
                who_was_found_overdue_and_lingers_since_is_over_once_reaped
                a_resumable_session_outlives_its_replica
            }
            members {
                members_are_listed_in_pages
                who_stays_is_on_a_page_whoever_comes_and_goes
                members_are_those_who_came_and_did_not_leave
            }
            moderating {
                who_is_kicked_is_out_and_may_come_again
                who_is_banned_does_not_come_in
                a_ban_ends_by_itself_and_outlives_its_room
                of_a_ban_and_joins_at_once_nobody_is_in
                who_is_muted_is_silent_until_then
                a_mute_is_before_or_after_each_message
                a_role_goes_before_that_of_a_token
                what_holds_in_a_room_holds_for_all_but_moderators
                what_holds_in_a_room_outlives_it
                of_an_empty_room_nothing_is_made
                bans_are_listed_in_pages_and_bounded
            }
            directing {
                what_holds_of_a_subject_is_known_everywhere
                what_has_not_changed_is_not_told
            }
            owing {
                what_a_name_owes_is_known_everywhere_and_passes
            }
            listening {
                everybody_hears_one_order
                a_subscriber_hears_all_that_follows
                one_who_unsubscribed_hears_nothing
                a_canary_comes_back_after_what_came_before
                what_overflowed_is_announced_and_in_the_log
            }
            publishing {
                a_service_is_heard_and_is_no_member
                a_members_name_is_no_services
                a_key_stands_for_one_message
                publishes_take_effect_in_the_order_of_their_calls
                what_is_published_is_kept_for_its_age
            }
            listing {
                rooms_are_listed_in_pages
                who_is_there_all_the_time_is_listed
                no_list_goes_on_from_rubbish
                a_standing_tells_members_and_the_last_event
                a_room_is_deleted_once_nobody_is_in
            }
            reading {
                a_log_is_read_in_pages
                a_log_is_trimmed_by_length
                a_log_is_trimmed_by_bytes
                a_log_is_trimmed_by_age
                an_empty_room_is_forgotten
                a_room_in_which_nothing_was_said_leaves_nothing
                a_head_includes_its_past_only
            }
        }
    };
    (@modules $test:meta, $fixture:expr; $($module:ident $cases:tt)*) => {
        $($crate::backplane::conformance::suite! { @cases $test, $fixture, $module $cases })*
    };
    (@cases $test:meta, $fixture:expr, $module:ident { $($case:ident)* }) => {
        mod $module {
            #[allow(unused_imports)]
            use super::*;

            $(
                #[$test]
                async fn $case() {
                    $crate::backplane::conformance::$module::$case(&$fixture).await;
                }
            )*
        }
    };
}
pub(crate) use suite;

/// Exactly `N` replicas.
async fn replicas<const N: usize>(fixture: &impl Fixture, setup: Setup) -> [Replica; N] {
    let replicas: Result<[Replica; N], _> = fixture.attach(N, setup).await.try_into();
    replicas.unwrap_or_else(|_| panic!("the fixture attaches as many replicas as asked for"))
}

/// Lets all leases end that are not renewed meanwhile.
async fn outlast_leases(fixture: &impl Fixture, setup: Setup) {
    fixture.pass(setup.lease + setup.lease / 4).await;
}
