//! `status`: the verdict, the servers, and what is under way, in a form that can be pasted into a ticket.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, Table};
use common::ids::ServerId;
use common::shown;
use common::status::{ClusterStatus, Condition, DiskState, MemberStatus, Role, ServerStatus};
use common::view::{ServerState, View};
use serde_json::{Value, json};

use super::{differences, load};
use crate::frame::failure::{Exit, Failure};
use crate::frame::output::{Listing, verdict, verdict_painted};
use crate::frame::session::Session;
use crate::frame::show::{bytes_shown, elapsed_shown};
use crate::frame::style::Paint;
use kvclient::Client;
use kvclient::Error;

/// Prints the status: the ECS's, or the servers' own while it is away.
pub(crate) async fn run(session: &mut Session, out: &mut dyn Write) -> Result<(), Failure> {
    let client = session.client_for_servers().await?;
    let (format, paint) = (session.format, session.paint());
    match client.cluster_status().await {
        Ok(status) => {
            // An older view is a view as well.
            let view = client.refresh_view().await.unwrap_or_else(|_| client.view());
            if !view.servers.is_empty() && view.cluster != status.cluster {
                return of_servers(&client, &view, other_cluster(&status, &view), None, session, out).await;
            }
            let mut servers = Vec::new();
            for member in status.servers.iter().filter(|member| member.state != ServerState::Down) {
                // One that does not answer is in the table.
                servers.extend(client.server_status(&member.address).await.ok());
            }
            let load = load::by_server(session).await;
            cluster(&status, &view, &servers, &load, paint).print(format, out)?;
            exit(status.healthy)
        }
        Err(error) => {
            let view = client.view();
            if view.servers.is_empty() {
                return Err(in_no_view(session, &client, &error).await);
            }
            tracing::info!("the ECS does not answer: {error}");
            let why = "ECS DOWN: reads and writes go on, changes wait";
            of_servers(&client, &view, why.to_owned(), Some(error), session, out).await
        }
    }
}

/// The servers' own status, where no ECS that knows them answers. `error`: why none does, reported if the servers do
/// not answer either.
async fn of_servers(
    client: &Client,
    view: &View,
    why: String,
    error: Option<Error>,
    session: &Session,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut answers = Vec::new();
    for info in view.servers.values() {
        let answer = client.server_status(&info.address).await;
        answers.push((info.address.clone(), answer.map_err(|error| error.to_string())));
    }
    if let Some(error) = error.filter(|_| answers.iter().all(|(_, answer)| answer.is_err())) {
        return Err(error.into());
    }
    servers(view, &answers, &why, session.paint()).print(session.format, out)?;
    exit(false)
}

/// The ECS that the servers ask is another cluster's, or was started in an empty directory.
fn other_cluster(status: &ClusterStatus, view: &View) -> String {
    format!(
        "OTHER ECS: the ECS that these servers ask is that of cluster {}, theirs is {own}: reads and writes go on, \
         changes wait. If the disk of their ECS is lost, stop this one and start it with --rebuild {own} and an empty \
         directory; if not, start their own ECS there",
        status.cluster,
        own = view.cluster
    )
}

/// The failure where servers answer that are in no view, and the ECS, which makes views, does not.
async fn in_no_view(session: &Session, client: &Client, error: &Error) -> Failure {
    let (servers, at) = (session.servers().join(", "), client.ecs_address().await);
    let message = match at {
        Ok(ecs) => format!(
            "{servers}: in no view yet, and the ECS at {ecs} does not answer ({error}); start the ECS there, or start \
             the server with the address of its ECS (kvserver -b HOST:PORT)"
        ),
        Err(error) => format!("{servers}: {error}"),
    };
    Failure::new(Exit::Unavailable, message)
}

/// The verdict of the ECS, and what else is wrong, with the figures behind it.
fn verdict_lines(status: &ClusterStatus, paint: Paint) -> String {
    let mut text = verdict_painted(paint, &verdict(status)) + "\n";
    for condition in status.conditions.iter().skip(1) {
        let Condition { level, what, next, .. } = condition;
        let line = format!("{}: {what}; {next}", level.word());
        text.push_str(&format!("{}\n", shown::one_line(line.as_bytes())));
    }
    if !status.healthy && !status.facts.is_empty() {
        text.push_str(&format!("{}\n", status.facts));
    }
    text
}

/// The exit of `status`: a cluster that is not healthy is no success.
fn exit(healthy: bool) -> Result<(), Failure> {
    if healthy { Ok(()) } else { Err(Failure::new(Exit::NotHealthy, "")) }
}

/// Columns that a terminal of 80 columns has no room for, the least needed first.
const SPARE: &[&str] = &[
    "joining",
    "epoch",
    "free",
    "keys",
    "sync ms",
    "write ms",
    "read ms",
    "req/s",
    "size",
    "heartbeat",
    "lag",
];

/// The ECS's status of the cluster, with what the servers add to it.
fn cluster(
    status: &ClusterStatus,
    view: &View,
    servers: &[ServerStatus],
    load: &BTreeMap<String, Value>,
    paint: Paint,
) -> Listing {
    let (parts, lags) = (parts(view), lags(servers));
    let rows = status.servers.iter().map(|member| {
        let parts = parts.get(&member.server).copied().unwrap_or_default();
        member_row(member, parts, load.get(&member.server.to_string()), lags.get(&member.server).copied())
    });
    let rows = rows.collect();
    let before =
        format!("{}cluster {}, view {}\n", verdict_lines(status, paint), status.cluster, status.view);
    let header = vec![
        "server",
        "address",
        "state",
        "epoch",
        "coord/r1/r2",
        "joining",
        "keys",
        "size",
        "free",
        "req/s",
        "read ms",
        "write ms",
        "sync ms",
        "lag",
        "heartbeat",
    ];
    let after = transfers(status) + &differences::shown(servers);
    let json = cluster_json(status, &parts, &lags, load, servers);
    Listing { before, header, rows, right_from: 3, spare: SPARE, after, json, items: "/servers" }
}

/// The ECS's answer, and beside it the lags and the copies that differ.
fn cluster_json(
    status: &ClusterStatus,
    parts: &BTreeMap<ServerId, [u32; 3]>,
    lags: &BTreeMap<ServerId, u64>,
    load: &BTreeMap<String, Value>,
    servers: &[ServerStatus],
) -> Value {
    let mut json = serde_json::to_value(status).expect("a status is JSON");
    json["verdict"] = verdict(status).into();
    let members = json["servers"].as_array_mut().into_iter().flatten();
    for (member, json) in status.servers.iter().zip(members) {
        let [_, first, second] = parts.get(&member.server).copied().unwrap_or_default();
        json["replica_1"] = first.into();
        json["replica_2"] = second.into();
        for what in ["read_us", "write_us", "sync_us"] {
            json[what] = load.get(&member.server.to_string()).map_or(Value::Null, |load| load[what].clone());
        }
        json["lag_entries"] = json!(lags.get(&member.server));
    }
    let differences: Vec<_> = servers.iter().flat_map(|server| &server.compared.differences).collect();
    json["differences"] = json!(differences);
    json
}

/// In how many partitions each server is coordinator, first replica, second replica.
fn parts(view: &View) -> BTreeMap<ServerId, [u32; 3]> {
    let mut parts: BTreeMap<ServerId, [u32; 3]> = BTreeMap::new();
    for (_, assignment) in view.iter() {
        let members =
            std::iter::once(assignment.coordinator).chain(assignment.replicas().map(|one| one.server));
        for (place, server) in members.enumerate() {
            parts.entry(server).or_default()[place.min(2)] += 1;
        }
    }
    parts
}

/// For each server that answered, the entries by which its most lagging copy is behind. Servers are asked
/// one after the other, so under writes it is a little more than it was at one moment.
fn lags(servers: &[ServerStatus]) -> BTreeMap<ServerId, u64> {
    let coordinated = servers.iter().flat_map(|server| &server.copies);
    let committed: BTreeMap<u16, u64> = coordinated
        .filter(|copy| copy.role == Role::Coordinator)
        .map(|copy| (copy.partition, copy.commit))
        .collect();
    let lag = |server: &ServerStatus| {
        let behind =
            server.copies.iter().filter(|copy| copy.role != Role::None).map(|copy| {
                committed.get(&copy.partition).map_or(0, |commit| commit.saturating_sub(copy.last))
            });
        behind.max().unwrap_or(0)
    };
    servers.iter().map(|server| (server.server, lag(server))).collect()
}

/// Copies of partitions on their way between servers; nothing if there are none.
fn transfers(status: &ClusterStatus) -> String {
    if status.transfers.is_empty() {
        return String::new();
    }
    let address = |id: ServerId| {
        let server = status.servers.iter().find(|server| server.server == id);
        server.map_or_else(|| id.short(), |server| server.address.clone())
    };
    let mut table = Table::new();
    table.load_preset(UTF8_BORDERS_ONLY);
    table.set_header(["copy of", "from", "to", "done", "of about", "per second"]);
    for transfer in &status.transfers {
        table.add_row([
            format!("partition {}", transfer.partition),
            address(transfer.from),
            address(transfer.to),
            bytes_shown(transfer.bytes_done),
            bytes_shown(transfer.bytes_all),
            bytes_shown(transfer.bytes_per_second),
        ]);
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{table}\n")
}

fn member_row(
    member: &MemberStatus,
    [coordinator, first, second]: [u32; 3],
    load: Option<&Value>,
    lag: Option<u64>,
) -> Vec<String> {
    let heartbeat = member
        .heartbeat_age_ms
        .map_or("none".to_owned(), |age| elapsed_shown(Duration::from_millis(age)) + " ago");
    vec![
        member.server.short(),
        member.address.clone(),
        state(member).to_owned(),
        member.view.to_string(),
        format!("{coordinator}/{first}/{second}"),
        member.joining.to_string(),
        member.keys.to_string(),
        bytes_shown(member.bytes),
        bytes_shown(member.free_bytes),
        format!("{:.0}", member.requests_per_second),
        load::quantiles_shown(load, "read_us"),
        load::quantiles_shown(load, "write_us"),
        member.sync_median_us.map_or("-".to_owned(), |time| format!("{:.1}", time as f64 / 1000.0)),
        lag.map_or("?".to_owned(), |lag| lag.to_string()),
        heartbeat,
    ]
}

/// The status while the ECS does not answer: the view, and the servers' own status.
fn servers(
    view: &View,
    answers: &[(String, Result<ServerStatus, String>)],
    why: &str,
    paint: Paint,
) -> Listing {
    let silent = answers.iter().filter(|(_, answer)| answer.is_err()).count();
    let rows = answers.iter().map(|(address, answer)| match answer {
        Ok(status) => server_row(status),
        Err(reason) => vec!["?".to_owned(), address.clone(), reason.clone()],
    });
    let rows = rows.collect();
    let verdict = format!("{why}; {silent} of {} servers silent", answers.len());
    let json = answers.iter().map(|(address, answer)| match answer {
        Ok(status) => serde_json::to_value(status).expect("a status is JSON"),
        Err(error) => json!({ "address": address, "error": error }),
    });
    let json = json!({
        "healthy": false, "verdict": verdict, "cluster": view.cluster, "view": view.number,
        "servers": json.collect::<Vec<_>>()
    });
    let painted = verdict_painted(paint, &verdict);
    let before = format!("{painted}\ncluster {}, view {}\n", view.cluster, view.number);
    let header = vec!["server", "address", "epoch", "coordinates", "replicas", "joining", "keys", "size"];
    Listing { before, header, rows, right_from: 2, json, items: "/servers", ..Listing::default() }
}

fn server_row(status: &ServerStatus) -> Vec<String> {
    let count = |role| status.copies.iter().filter(|copy| copy.role == role).count().to_string();
    vec![
        status.server.short(),
        status.address.clone(),
        status.view.to_string(),
        count(Role::Coordinator),
        count(Role::Replica),
        count(Role::Joining),
        status.keys.to_string(),
        bytes_shown(status.bytes),
    ]
}

fn state(member: &MemberStatus) -> &'static str {
    match member.state {
        ServerState::Up | ServerState::Leaving if member.stands_by => "stands by",
        ServerState::Up if member.disk == DiskState::Slow => "up, disk slow",
        ServerState::Up if member.disk == DiskState::Full => "up, disk full",
        ServerState::Up => "up",
        ServerState::Leaving => "leaving",
        ServerState::Down => "DOWN",
    }
}

#[cfg(test)]
mod tests {
    use common::ids::{ClusterId, Epoch, Incarnation, StoreId};
    use common::ring::Partitions;
    use common::status::{CopyStatus, Level};
    use common::view::{Assignment, Member};

    use super::*;
    use crate::frame::output::Format;

    fn status() -> ClusterStatus {
        let server = MemberStatus {
            server: ServerId(1 << 127),
            address: "127.0.0.1:5001".into(),
            state: ServerState::Up,
            stands_by: false,
            view: Epoch { generation: 0, version: 4 },
            coordinator: 256,
            replica: 0,
            joining: 0,
            keys: 12,
            bytes: 1_500_000,
            free_bytes: 1,
            reserve_bytes: None,
            sync_median_us: Some(2_400),
            disk: DiskState::Well,
            gave_up: false,
            requests_per_second: 3.4,
            heartbeat_age_ms: Some(80),
            silence_limit_ms: 800,
            pause_ms: None,
        };
        ClusterStatus {
            healthy: true,
            verdict: "healthy, epoch 4, 1 server".to_owned(),
            facts: "epoch 4, 1 server".to_owned(),
            cluster: ClusterId(1),
            view: Epoch { generation: 0, version: 4 },
            partitions: 256,
            servers: vec![server],
            ..ClusterStatus::default()
        }
    }

    #[test]
    fn the_verdict_comes_first() {
        let mut status = status();
        let view = View::new(status.cluster, status.view, Partitions::try_from(256).unwrap());
        let shown = |status: &ClusterStatus| {
            let mut out = Vec::new();
            cluster(status, &view, &[], &BTreeMap::new(), Paint::default())
                .print(Format::Table, &mut out)
                .unwrap();
            String::from_utf8(out).unwrap()
        };
        let text = shown(&status);
        assert!(text.starts_with("healthy, epoch 4, 1 server\ncluster "), "{text}");
        assert!(
            text.contains("127.0.0.1:5001") && text.contains("1.5 MB") && text.contains("80 ms ago"),
            "{text}"
        );
        assert!(!text.contains("copy of"), "{text}");
        status.transfers = vec![common::status::TransferStatus {
            partition: 7,
            from: ServerId(1 << 127),
            to: ServerId(2 << 120),
            bytes_done: 3_000_000,
            bytes_all: 9_000_000,
            bytes_per_second: 1_000_000,
        }];
        let text = shown(&status);
        assert!(text.contains("partition 7") && text.contains("9.0 MB") && text.contains("1.0 MB"), "{text}");
        let condition = |level, what: &str| Condition {
            name: "n".to_owned(),
            level,
            servers: Vec::new(),
            what: what.to_owned(),
            next: "do it".to_owned(),
        };
        status.healthy = false;
        status.verdict = "DEGRADED: one; do it".to_owned();
        status.conditions = vec![condition(Level::Degraded, "one"), condition(Level::Paused, "two")];
        let text = shown(&status);
        let lines = "DEGRADED: one; do it\nPAUSED: two; do it\nepoch 4, 1 server\ncluster ";
        assert!(text.starts_with(lines), "{text}");
        // What servers have reported is in it: neither colours nor lines of its own.
        status.verdict = "DEGRADED: \x1b[31m\nhealthy".to_owned();
        status.conditions[1].what = "a\nb\x1b[2J".to_owned();
        let text = shown(&status);
        let lines = "DEGRADED: \\x1b[31m\\nhealthy\nPAUSED: a\\nb\\x1b[2J; do it\nepoch 4";
        assert!(text.starts_with(lines), "{text}");
        assert_eq!(exit(false).unwrap_err(), Failure::new(Exit::NotHealthy, ""));
        let old = ClusterStatus { verdict: String::new(), ..status };
        assert!(verdict(&old).starts_with("UNKNOWN: "));
    }

    #[test]
    fn roles_and_lags_are_printed_for_each_server() {
        let epoch = Epoch { generation: 0, version: 4 };
        let member = |id| Member { server: ServerId(id), store: StoreId(id) };
        let mut view = View::new(ClusterId(1), epoch, Partitions::try_from(1).unwrap());
        let in_sync = vec![member(3), member(1), member(2)];
        view.assignments.push(Assignment { epoch, coordinator: ServerId(1), in_sync, joining: Vec::new() });
        let parts = parts(&view);
        assert_eq!(
            (parts[&ServerId(1)], parts[&ServerId(3)], parts[&ServerId(2)]),
            ([1, 0, 0], [0, 1, 0], [0, 0, 1])
        );
        let server = |id: u128, role, last| ServerStatus {
            server: ServerId(id),
            store: StoreId(id),
            incarnation: Incarnation(1),
            address: format!("h{id}:5001"),
            ecs: String::new(),
            view: epoch,
            copies: vec![CopyStatus {
                partition: 0,
                epoch,
                role,
                active: true,
                last,
                commit: 10,
                applied: 10,
            }],
            keys: 0,
            expiring: 0,
            bytes: 0,
            free_bytes: 0,
            transfers: Vec::new(),
            caught_up: Default::default(),
            scrub: Default::default(),
            compared: Default::default(),
        };
        let servers =
            [server(1, Role::Coordinator, 12), server(2, Role::Replica, 10), server(3, Role::Joining, 4)];
        let lags = lags(&servers);
        assert_eq!(lags.values().copied().collect::<Vec<_>>(), [0, 0, 6]);
        let mut status = status();
        status.servers[0].server = ServerId(3);
        let load = json!({"read_us": {"p50": 81, "p99": 240}});
        let load = BTreeMap::from([(ServerId(3).to_string(), load)]);
        let listing = cluster(&status, &view, &servers, &load, Paint::default());
        assert_eq!(listing.rows[0][10..14], ["0.08/0.24", "-/-", "2.4", "6"]);
        let json = listing.json;
        assert!(json["verdict"].as_str().unwrap().starts_with("healthy"), "{json}");
        let row = &json["servers"][0];
        assert_eq!(
            (&row["replica_1"], &row["lag_entries"], &row["coordinator"]),
            (&json!(1), &json!(6), &json!(256))
        );
    }
}
