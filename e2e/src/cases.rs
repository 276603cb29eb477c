//! The cases. Each runs beside the others on the one stack, with projects of its own; but for those that take away parts of
//! the stack that the others need: they come last, one at a time.

mod agents;
mod backup;
mod dependencies;
mod exposition;
mod failing;
mod fast_path;
mod hands_off;
mod healing;
mod history;
mod outages;
mod owner;
mod proxy;
mod queries;
mod tune;
mod webhook;
mod without_alertmanager;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use anyhow::Result;

use crate::stack::Stack;

type Running = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// A named case.
pub struct Case {
    pub name: &'static str,
    pub run: fn(Arc<Stack>) -> Running,
}

macro_rules! cases {
    ($list:ident: $($module:ident::$name:ident),* $(,)?) => {
        pub const $list: &[Case] = &[$(Case {
            name: concat!(stringify!($module), "::", stringify!($name)),
            run: |stack| Box::pin(async move { $module::$name(&stack).await }),
        }),*];
    };
}

// The longest first: they decide when the whole is done.
cases! {
    CASES:
    failing::a_hopeless_service_is_retried_slower_and_slower_told_about_and_given_up,
    outages::with_postgres_away_rows_arrive_later_and_once,
    outages::a_killed_healer_neither_forgets_nor_restarts_twice,
    dependencies::the_root_is_healed_and_its_dependant_after_it,
    dependencies::who_lives_in_the_network_of_a_restarted_container_is_restarted_after_it,
    healing::an_unhealthy_container_is_restarted_with_evidence,
    healing::an_exited_container_is_brought_back,
    tune::a_memory_limit_and_a_restart_policy_come_and_go,
    tune::a_bound_of_redis_comes_and_goes,
    tune::settings_of_postgres_come_and_go,
    hands_off::an_opted_out_service_is_left_alone,
    hands_off::an_unlabelled_service_is_only_watched,
    hands_off::what_a_human_stopped_stays_stopped,
    hands_off::what_a_human_paused_stays_paused,
    hands_off::a_container_outside_compose_is_left_alone,
    history::vitals_reach_the_database_and_a_reader_only_reads,
    owner::the_demo_shows_a_healed_container,
    owner::healing_can_be_switched_on_from_the_command_line,
    owner::the_self_test_passes_and_the_status_is_whole,
    backup::a_backup_of_the_running_stack_is_whole,
    agents::a_message_from_a_script_arrives_once,
    agents::a_client_of_the_protocol_reads_and_acts,
    webhook::a_wrong_token_or_a_malformed_body_leaves_no_trace,
    proxy::each_socket_lets_through_what_is_listed_and_nothing_else,
    exposition::prometheus_reads_both_formats,
    queries::every_metric_of_the_rules_exists,
    queries::every_panel_of_the_dashboards_has_an_answer,
}

cases! {
    ALONE:
    fast_path::without_prometheus_a_service_is_healed_at_once,
    without_alertmanager::healing_goes_on_and_what_matters_is_told_once,
}
