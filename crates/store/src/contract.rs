//! What every store promises, one test a promise, for any backend in any crate to run.
//!
//! `store_contract!` expands to one named `#[test]` for each case and backend. A case is a function of a way to open an
//! empty store, and touches nothing but the `Store` trait. A backend that outlives its process runs
//! `durable_store_contract!` as well. There is no way to leave a case out.
//!
//! ```
//! use store::{MemoryStore, Store};
//!
//! store::store_contract!(memory, || Box::new(MemoryStore::new()) as Box<dyn Store>);
//! ```

mod commits;
mod dossiers;
mod draft;
mod durable;
mod lists;
mod lived_in;
mod outbox;
mod phases;
mod records;
mod reports;
mod settings;
mod standings;
mod timers;

pub use commits::*;
pub use dossiers::*;
pub use draft::{Draft, at, definition, id, key_of, left_by, machine, phase, scope_of, subject, tenant};
pub use durable::*;
pub use lists::*;
pub use lived_in::{dossiers, lived_in};
pub use outbox::*;
pub use phases::*;
pub use records::*;
pub use reports::*;
pub use settings::*;
pub use standings::*;
pub use timers::*;

use crate::Store;

/// Opens a new, empty store at each call.
pub type Open<'a> = &'a dyn Fn() -> Box<dyn Store>;

/// A backend whose data outlives the process.
pub trait Durable {
    /// Opens the store on the data that the last one left; empty the first time.
    fn open(&self) -> Box<dyn Store>;

    /// Opens the store on what would be there if the process had been killed at this moment, with `open`'s store still
    /// in use.
    fn open_as_if_killed(&self) -> Box<dyn Store>;
}

/// `store_contract!(name, open)`: a module `name` with a test for each case. `open` is evaluated once a test; it is a
/// `Fn() -> Box<dyn Store>` that gives a new, empty store at each call.
#[macro_export]
macro_rules! store_contract {
    ($backend:ident, $open:expr) => {
        $crate::contract_tests! {
            $backend, $open,
            // Commits.
            stale_commit_writes_nothing
            a_commit_on_what_was_not_saved_is_stale
            repeated_key_returns_first_entry
            repeated_key_in_one_batch_is_a_duplicate
            a_repeat_is_a_duplicate_whatever_its_revision
            a_repeat_is_a_duplicate_in_a_later_session
            a_repeat_of_what_comes_again_is_a_duplicate
            a_commit_is_whole
            a_batch_keeps_its_good_commits
            chained_commits_in_one_batch
            an_empty_batch_is_nothing
            refused_input_is_logged_and_changes_nothing
            a_refusal_of_a_missing_instance_is_stale
            a_creation_of_an_existing_id_is_stale
            second_session_of_same_ordinal_is_stale
            instances_that_are_no_sessions_do_not_collide
            an_instance_keeps_its_subject
            one_pending_clarification_per_session
            a_failing_batch_saves_nothing_of_itself
            a_large_batch_has_the_outcomes_of_small_ones
            what_is_too_large_is_refused_alone
            a_question_may_replace_another_in_one_commit
            a_second_expired_clarification_of_the_same_user_is_saved
            concurrent_writers_lose_nothing
            // Records.
            what_is_saved_is_loaded_exactly
            a_flow_is_loaded_exactly
            a_deep_context_is_loaded_exactly
            floats_are_loaded_to_the_last_bit
            load_session_returns_highest_ordinal
            tenants_do_not_see_each_other
            tenants_may_use_the_same_names
            definitions_are_kept_once_and_the_last_saved_is_last
            // Timers.
            due_instances_are_claimed_once
            the_longest_due_is_claimed_first
            lease_expires
            a_commit_releases_the_claim
            a_refused_input_keeps_the_claim
            nothing_is_due_before_its_deadline
            a_later_deadline_is_not_claimed_early
            an_earlier_deadline_is_claimed_in_time
            a_deadline_that_is_gone_is_never_due
            a_deadline_that_comes_back_is_due
            closed_instances_are_never_due
            next_due_is_never_too_late
            // The outbox.
            an_effect_is_saved_pending_and_due_at_once
            an_effect_is_saved_once
            a_claimed_effect_is_being_sent_until_its_lease_ends
            an_expired_claim_is_interrupted
            the_longest_due_effect_is_claimed_first
            no_two_claimers_are_given_the_same_effect
            replies_to_an_instance_are_claimed_one_after_the_other
            a_lane_waits_for_the_retry_of_its_first
            a_person_does_not_wait_for_a_host
            calls_wait_for_nobody_and_nobody_for_them
            flows_are_told_one_thing_after_the_other
            whatever_ends_an_effect_lets_the_next_go
            a_retry_keeps_what_is_known
            a_settlement_of_another_attempt_is_refused
            what_did_not_arrive_can_be_retried
            a_retried_effect_takes_its_old_place
            next_effect_due_is_never_too_late
            stages_never_go_backwards
            a_report_that_names_the_key_clears_up_what_was_unknown
            a_stage_is_noted_for_the_tenant_whose_message_it_is
            effects_filter_and_page
            effects_are_counted_by_status
            clean_up_deletes_settled_effects
            tenants_may_use_the_same_effect_keys
            // Phases of flows.
            a_phase_is_listed_exactly_as_saved
            the_last_line_of_a_phase_is_kept
            phases_are_saved_with_their_commit_or_not_at_all
            phases_filter_and_page
            workers_are_given_the_longest_offered_first
            tenants_have_phases_of_their_own
            clean_up_deletes_phases_with_their_flow
            phases_are_counted_while_their_flow_is_open
            // Settings.
            the_last_setting_of_a_name_is_kept
            // Lists.
            history_is_read_from_either_end_and_pages
            a_long_history_is_whole_from_either_end
            instances_filter_and_page
            clarifications_filter_and_page
            an_unknown_cursor_is_beyond_the_end
            clean_up_deletes_in_bounded_batches_and_keeps_open_instances
            clean_up_deletes_what_has_ended_beside_a_tenant
            clean_up_takes_receipts_with_their_entries
            statistics_count
            open_instances_are_counted_as_they_stand
            what_is_counted_as_stuck_is_listed_as_stuck
            // Dossiers.
            a_dossier_is_all_of_an_instance
            what_was_taken_in_is_given_away_the_same
            a_repeat_is_a_duplicate_where_its_instance_was_taken_in
            the_next_commit_fits_what_was_taken_in
            sessions_of_a_subject_are_taken_in_in_any_order
            what_was_taken_in_comes_due
            effects_are_claimed_in_the_same_order_where_they_were_taken_in
            what_was_taken_in_is_listed_and_counted
            what_was_taken_in_is_cleaned_up_in_its_time
            an_instance_that_is_there_is_not_taken_in
            nothing_is_taken_in_as_nothing
            a_visitor_may_have_seen_enough
            commits_go_on_while_a_visitor_takes_its_time
        }
    };
}

/// `durable_store_contract!(name, harness)`: as `store_contract!`, with a `contract::Durable`.
#[macro_export]
macro_rules! durable_store_contract {
    ($backend:ident, $harness:expr) => {
        $crate::contract_tests! {
            $backend, $harness,
            reopening_finds_everything
            reopening_after_a_kill
            reopening_keeps_claims
            reopening_keeps_effects_that_are_being_sent
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! contract_tests {
    ($backend:ident, $open:expr, $($case:ident)*) => {
        mod $backend {
            #[allow(unused_imports, clippy::wildcard_imports)]
            use super::*;

            $(
                #[test]
                fn $case() {
                    $crate::contract::$case(&$open);
                }
            )*
        }
    };
}

#[cfg(test)]
mod tests {
    /// A case that no macro names is a promise that nobody checks.
    #[test]
    fn every_case_is_listed_once() {
        let listed = include_str!("contract.rs");
        let sources = [
            include_str!("contract/commits.rs"),
            include_str!("contract/records.rs"),
            include_str!("contract/reports.rs"),
            include_str!("contract/timers.rs"),
            include_str!("contract/outbox.rs"),
            include_str!("contract/phases.rs"),
            include_str!("contract/settings.rs"),
            include_str!("contract/lists.rs"),
            include_str!("contract/dossiers.rs"),
            include_str!("contract/durable.rs"),
        ];
        for line in sources.iter().flat_map(|source| source.lines()) {
            let Some(rest) = line.strip_prefix("pub fn ") else {
                continue;
            };
            let case = rest.split('(').next().unwrap();
            let times = listed.lines().filter(|l| l.trim() == case).count();
            assert_eq!(times, 1, "{case} is in the lists {times} times");
        }
    }
}
