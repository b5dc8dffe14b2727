//! The ECS's page of metrics. docs/monitoring.md lists them; tests/e2e/metrics.rs fails if the two differ.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use common::metrics::{CONTENT_TYPE, Labels, Page};
use common::status::{ClusterStatus, DiskState, MemberStatus};
use common::view::ServerState;

use super::refusal::Refusal;
use crate::shell::driver::{Command, Counts, Handle};
use ecs_core::verdict::Kind;

/// Seconds in one microsecond.
const MICRO: f64 = 1e-6;

/// The page.
pub(super) async fn metrics(State(handle): State<Handle>) -> Result<Response, Refusal> {
    let counts = handle.ask(Command::Counts).await?;
    let status = handle.ask(Command::Status).await?;
    let mut page = Page::default();
    cluster(&mut page, &status);
    servers(&mut page, &status);
    service(&mut page, &counts);
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], page.text()).into_response())
}

fn number(flag: bool) -> f64 {
    f64::from(u8::from(flag))
}

fn cluster(page: &mut Page, status: &ClusterStatus) {
    page.gauges(
        "trefoil_ecs_view_epoch",
        "The number of the newest view: its version, and its generation, which grows when the ECS is rebuilt",
        [
            (vec![("part", "generation".to_owned())], f64::from(status.view.generation)),
            (vec![("part", "version".to_owned())], status.view.version as f64),
        ],
    );
    page.gauge(
        "trefoil_ecs_healthy",
        "1 if the verdict of /api/v1/status is `healthy`: there is no condition",
        number(status.healthy),
    );
    let holds = |kind: &Kind| status.conditions.iter().any(|condition| condition.name == kind.name());
    page.gauges(
        "trefoil_ecs_condition",
        "1 if the condition of /api/v1/status is met",
        Kind::ALL.iter().map(|kind| (vec![("condition", kind.name().to_owned())], number(holds(kind)))),
    );
    page.gauge("trefoil_ecs_partitions", "Partitions of the ring", f64::from(status.partitions));
    page.gauge(
        "trefoil_ecs_partitions_under_replicated",
        "Partitions with fewer in-sync copies than --copies",
        f64::from(status.under_replicated),
    );
    page.gauge(
        "trefoil_ecs_partitions_offline",
        "Partitions without an in-sync copy at a server that is up: they are neither read nor written",
        f64::from(status.offline),
    );
    page.gauge(
        "trefoil_ecs_partitions_waiting",
        "Partitions that a rebuilt ECS leaves as they are until more servers have reported",
        f64::from(status.waiting),
    );
    page.gauge(
        "trefoil_ecs_survives",
        "So many servers more may fail at once, whichever they are, and every partition is still served",
        f64::from(status.survives),
    );
    page.gauge(
        "trefoil_ecs_data_survives",
        "So many servers more may be lost with their disks, and no acknowledged write is lost",
        f64::from(status.data_survives),
    );
    page.gauge(
        "trefoil_ecs_copies_joining",
        "Copies that are being brought up to date",
        f64::from(status.joining),
    );
    page.gauge(
        "trefoil_ecs_partitions_misplaced",
        "Partitions whose coordinator or copies are not where the plan wants them",
        f64::from(status.misplaced),
    );
    page.gauge("trefoil_ecs_transfers", "Copies on their way between servers", status.transfers.len() as f64);
    let left = status.transfers.iter().map(|one| one.bytes_all.saturating_sub(one.bytes_done)).sum::<u64>();
    page.gauge("trefoil_ecs_transfer_bytes_left", "Bytes that they still need, roughly", left as f64);
    page.gauge("trefoil_ecs_paused", "1 if an operator has paused all copying", number(status.paused));
    page.gauge(
        "trefoil_ecs_gathering",
        "1 if the ECS has lost its disk and gathers what the servers hold",
        number(status.gathering),
    );
}

fn servers(page: &mut Page, status: &ClusterStatus) {
    let states = [(ServerState::Up, "up"), (ServerState::Leaving, "leaving"), (ServerState::Down, "down")];
    let in_state = |state| status.servers.iter().filter(|one| one.state == state).count() as f64;
    page.gauges(
        "trefoil_ecs_servers",
        "Servers that are members, by state",
        states.map(|(state, name)| (vec![("state", name.to_owned())], in_state(state))),
    );
    let mut of_each = |name, help, value: fn(&MemberStatus) -> Option<f64>| {
        let samples = status.servers.iter().filter_map(|one| {
            let labels: Labels = vec![("server", one.server.to_string()), ("address", one.address.clone())];
            Some((labels, value(one)?))
        });
        page.gauges(name, help, samples);
    };
    of_each("trefoil_ecs_server_up", "1 if the server is heard, or leaving", |one| {
        Some(number(one.state != ServerState::Down))
    });
    of_each("trefoil_ecs_server_heartbeat_age_seconds", "Since the server's last heartbeat", |one| {
        one.heartbeat_age_ms.map(|age| age as f64 / 1000.0)
    });
    of_each(
        "trefoil_ecs_server_heartbeat_limit_seconds",
        "Silence after which the server is removed, as of now",
        |one| Some(one.silence_limit_ms as f64 / 1000.0),
    );
    of_each("trefoil_ecs_server_view_version", "The version of the view that the server uses", |one| {
        Some(one.view.version as f64)
    });
    of_each("trefoil_ecs_server_coordinates", "Partitions that the server coordinates", |one| {
        Some(f64::from(one.coordinator))
    });
    of_each("trefoil_ecs_server_replicas", "Partitions that it keeps another in-sync copy of", |one| {
        Some(f64::from(one.replica))
    });
    of_each("trefoil_ecs_server_requests_per_second", "Requests a second, over its last heartbeats", |one| {
        Some(one.requests_per_second)
    });
    of_each("trefoil_ecs_server_keys", "Keys over all its copies, approximate", |one| Some(one.keys as f64));
    of_each(
        "trefoil_ecs_server_sync_seconds",
        "How long a sync of its log takes of late, the median",
        |one| one.sync_median_us.map(|time| time as f64 * MICRO),
    );
    of_each("trefoil_ecs_server_disk_slow", "1 if its disk is slow against the others'", |one| {
        Some(number(one.disk == DiskState::Slow))
    });
    of_each("trefoil_ecs_server_disk_full", "1 if no more than its reserve is free on its disk", |one| {
        Some(number(one.disk == DiskState::Full))
    });
    of_each(
        "trefoil_ecs_server_gave_up",
        "1 if others are to hold its copies until its disk is well",
        |one| Some(number(one.gave_up)),
    );
    of_each("trefoil_ecs_server_disk_free_bytes", "Bytes free on its disk", |one| {
        Some(one.free_bytes as f64)
    });
}

fn service(page: &mut Page, counts: &Counts) {
    page.count("trefoil_ecs_views", "Views made since the ECS started", counts.views);
    let changes = counts.changes.iter();
    page.counter(
        "trefoil_ecs_changes",
        "Changes that views were made for since the ECS started, by kind (those of /api/v1/events)",
        changes.map(|(change, &count)| (vec![("change", (*change).to_owned())], count)),
    );
    page.histograms(
        "trefoil_ecs_persist_duration_seconds",
        "From the wish to keep a state to its being on disk",
        MICRO,
        [(Labels::new(), counts.persists.clone())],
    );
    page.gauge(
        "trefoil_ecs_commands_waiting",
        "Reports and questions that wait for the ECS's core",
        counts.waiting as f64,
    );
}
