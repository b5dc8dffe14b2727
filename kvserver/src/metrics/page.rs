//! A server's page of metrics. docs/monitoring.md lists them; a test compares the two.

use common::metrics::{Labels, Page};
use common::time::Time;

use super::kind::{KINDS, Outcome};
use super::report::{Connections, MetricsReport};

/// A microsecond, in seconds.
const MICRO: f64 = 1e-6;

fn label(name: &'static str, value: &str) -> Labels {
    vec![(name, value.to_owned())]
}

/// The page of a report.
pub(crate) fn page(report: &MetricsReport, connections: &Connections, now: Time) -> Page {
    let mut page = Page::default();
    requests(&mut page, report);
    queues(&mut page, report, connections);
    partitions(&mut page, report);
    store(&mut page, report);
    copies(&mut page, report);
    page.gauge(
        "trefoil_wall_clock_ahead_seconds",
        "What this server's wall clock is ahead of the clock that values expire by; more than 1 either way: set it \
         right",
        report.wall_ahead as f64 * MICRO,
    );
    page.gauge(
        "trefoil_core_age_seconds",
        "Since the core's thread last reported its figures; they are at most a second old while it runs",
        now.since(report.at).as_secs_f64(),
    );
    page
}

fn requests(page: &mut Page, report: &MetricsReport) {
    let requests = &report.requests;
    let samples = KINDS.iter().flat_map(|(kind, _)| {
        let outcomes = &requests.answered[*kind as usize];
        Outcome::ALL.iter().map(move |(outcome, result)| {
            let labels = vec![("kind", kind.name().to_owned()), ("result", (*result).to_owned())];
            (labels, outcomes[*outcome as usize])
        })
    });
    page.counter(
        "trefoil_requests",
        "Requests of clients that were answered, by kind and result; a command on many keys may be several",
        samples,
    );
    page.histograms(
        "trefoil_request_duration_seconds",
        "From the core's taking a request to its answer, by class: read (one key), write, scan (many keys)",
        MICRO,
        [
            (label("class", "read"), requests.reads.clone()),
            (label("class", "write"), requests.writes.clone()),
            (label("class", "scan"), requests.scans.clone()),
        ],
    );
    page.histograms(
        "trefoil_batch_events",
        "Events that the core's thread took at once: requests, messages of other servers, finished writes",
        1.0,
        [(Labels::new(), requests.batches.clone())],
    );
}

fn queues(page: &mut Page, report: &MetricsReport, connections: &Connections) {
    let open = connections.permits.saturating_sub(connections.free.available_permits());
    page.gauge("trefoil_requests_open", "Requests that are not answered yet", report.open as f64);
    page.gauge("trefoil_events_waiting", "Events that wait for the core's thread", report.waiting as f64);
    page.gauge("trefoil_connections", "Connections of clients that are open", open as f64);
    page.gauge(
        "trefoil_connections_limit",
        "Connections of clients that may be open (--max-connections, or less where the system allows less)",
        connections.permits as f64,
    );
    page.gauge(
        "trefoil_client_bytes_open",
        "Bytes of requests and replies that all connections have open",
        connections.open_bytes.bytes() as f64,
    );
}

fn partitions(page: &mut Page, report: &MetricsReport) {
    let roles = &report.roles;
    page.gauges(
        "trefoil_view_epoch",
        "The number of the view in use: its version, and its generation, which grows when the ECS is rebuilt",
        [
            (label("part", "generation"), f64::from(report.view.generation)),
            (label("part", "version"), report.view.version as f64),
        ],
    );
    page.gauges(
        "trefoil_copies",
        "Copies of partitions on this server, by its role in them",
        [
            (label("role", "coordinator"), roles.coordinator as f64),
            (label("role", "replica"), roles.replica as f64),
            (label("role", "joining"), roles.joining as f64),
        ],
    );
    page.gauge(
        "trefoil_coordinators_active",
        "Partitions that this server coordinates and in which it may acknowledge writes",
        roles.active as f64,
    );
    page.gauges(
        "trefoil_leases",
        "Partitions in which this server may read now: as coordinator, or as replica under a read lease",
        [
            (label("role", "coordinator"), roles.readable as f64),
            (label("role", "replica"), roles.read_leases as f64),
        ],
    );
    page.gauge(
        "trefoil_replication_lag_entries",
        "Entries ordered and not committed, of all partitions that this server coordinates",
        roles.lag_all as f64,
    );
    page.gauge(
        "trefoil_replication_lag_entries_max",
        "The same, of the partition with most",
        roles.lag as f64,
    );
    page.gauge(
        "trefoil_apply_lag_entries",
        "Entries known to be committed and not applied, of all copies on this server",
        roles.unapplied as f64,
    );
    page.gauge(
        "trefoil_ready",
        "1 if requests should be sent here, see /readyz",
        f64::from(u8::from(report.not_ready.is_none())),
    );
}

fn store(page: &mut Page, report: &MetricsReport) {
    let sizes = &report.sizes;
    page.histograms(
        "trefoil_log_sync_duration_seconds",
        "Time of an fdatasync of the commit log",
        MICRO,
        [(Labels::new(), report.log.syncs.clone())],
    );
    page.histograms(
        "trefoil_log_sync_records",
        "Records of the commit log that one fdatasync made durable",
        1.0,
        [(Labels::new(), report.log.records.clone())],
    );
    page.gauge("trefoil_keys", "Keys over all copies on this server, approximate", sizes.keys as f64);
    page.gauge("trefoil_log_bytes", "Bytes of the commit log that are still needed", sizes.log as f64);
    page.gauge("trefoil_tree_bytes", "Bytes of the trees' files", sizes.trees as f64);
    page.gauge(
        "trefoil_tree_memory_bytes",
        "Bytes of the trees that are in memory only",
        sizes.memory as f64,
    );
    page.gauge("trefoil_disk_free_bytes", "Bytes free on the disk", report.free_bytes as f64);
    page.gauge(
        "trefoil_disk_has_room",
        "0 if writes are refused because less than --reserve-mb is free",
        f64::from(u8::from(report.has_room)),
    );
}

fn copies(page: &mut Page, report: &MetricsReport) {
    let transfers = &report.transfers;
    let left = |one: &common::status::TransferStatus| one.bytes_all.saturating_sub(one.bytes_done);
    page.gauge(
        "trefoil_transfers",
        "Copies of partitions that this server sends to other servers now",
        transfers.len() as f64,
    );
    page.gauge(
        "trefoil_transfer_bytes_left",
        "Bytes that those copies still need, roughly",
        transfers.iter().map(left).sum::<u64>() as f64,
    );
    let caught_up = &report.caught_up;
    page.count("trefoil_transfers_begun", "Copies of partitions that were begun", caught_up.copies);
    page.count(
        "trefoil_transfer_bytes",
        "Bytes of keys and values that were sent in copies",
        caught_up.copy_bytes,
    );
    page.count(
        "trefoil_catch_up_bytes",
        "Bytes of log entries that were sent to members which had been away",
        caught_up.log_bytes,
    );
    page.count(
        "trefoil_scrub_passes",
        "Times that all that is stored was read and found good",
        report.scrub.passes,
    );
    page.count("trefoil_scrub_bytes", "Bytes that were read to check them", report.scrub.bytes);
    page.count(
        "trefoil_compared_equal",
        "Comparisons of a partition's copies in which all were equal",
        report.compared.equal,
    );
    let differ = report.compared.undecided();
    page.gauge(
        "trefoil_copies_differ",
        "Partitions whose copies differ without it being known which is right: a person must look",
        differ as f64,
    );
}
