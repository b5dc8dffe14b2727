//! `status`: the verdict, the servers, and what is under way, in a form that can be pasted into a ticket.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, Table};
use common::ids::ServerId;
use common::status::{ClusterStatus, MemberStatus, Role, ServerStatus};
use common::view::{ServerState, View};
use serde_json::{Value, json};

use super::failure::{Exit, Failure};
use super::output::{Listing, verdict_painted};
use super::session::Session;
use super::show::{bytes_shown, elapsed_shown};
use super::style::Paint;
use super::{differences, load};
use crate::client::Client;
use crate::error::Error;

/// Prints it: what the ECS says, or what the servers say while it is away.
pub(super) async fn run(session: &mut Session, out: &mut dyn Write) -> Result<(), Failure> {
    let client = session.client_for_servers().await?;
    let (format, paint) = (session.format, session.paint());
    match client.cluster_status().await {
        Ok(status) => {
            let mut servers = Vec::new();
            for member in status.servers.iter().filter(|member| member.state != ServerState::Down) {
                // One that does not answer is in the table.
                servers.extend(client.server_status(&member.address).await.ok());
            }
            // An older view is a view as well.
            let view = client.refresh_view().await.unwrap_or_else(|_| client.view());
            let load = load::by_server(session).await;
            cluster(&status, &view, &servers, &load, paint).print(format, out)
        }
        Err(error) => {
            let view = client.view();
            if view.servers.is_empty() {
                return Err(in_no_view(session, &client, &error).await);
            }
            let mut answers = Vec::new();
            for info in view.servers.values() {
                let answer = client.server_status(&info.address).await;
                answers.push((info.address.clone(), answer.map_err(|error| error.to_string())));
            }
            if answers.iter().all(|(_, answer)| answer.is_err()) {
                return Err(error.into());
            }
            tracing::info!("the ECS does not answer: {error}");
            servers(&view, &answers, paint).print(format, out)
        }
    }
}

/// When servers answer that are in no view, and the ECS, which makes views, does not.
async fn in_no_view(session: &Session, client: &Client, error: &Error) -> Failure {
    let (servers, at) = (session.servers().join(", "), client.ecs_address().await);
    let message = match at {
        Ok(ecs) => format!(
            "{servers}: in no view yet, and the ECS at {ecs} does not answer ({error}); start the ECS there, or start the \
             server with the address of its ECS (kvserver -b HOST:PORT)"
        ),
        Err(error) => format!("{servers}: {error}"),
    };
    Failure::new(Exit::Unavailable, message)
}

/// One word for the whole, and its reasons.
pub(super) fn verdict(status: &ClusterStatus) -> String {
    if status.gathering {
        let gathering = "the ECS is being rebuilt and gathers what the servers hold; reads and writes go on";
        return format!("DEGRADED: {gathering}");
    }
    if status.servers.is_empty() {
        return "DEGRADED: no servers yet".to_owned();
    }
    let count = |state| status.servers.iter().filter(|server| server.state == state).count();
    let (down, all) = (count(ServerState::Down), status.servers.len());
    let servers = match (down, all) {
        (0, 1) => "1 server".to_owned(),
        (0, all) => format!("{all} servers"),
        (down, all) => format!("{} of {all} servers up", all - down),
    };
    let word = if status.offline > 0 {
        "OFFLINE"
    } else if down > 0 || status.waiting > 0 || status.under_replicated > 0 {
        "DEGRADED"
    } else if status.paused {
        "PAUSED"
    } else {
        "healthy"
    };
    let (view, partitions, fewer) = (status.view, status.partitions, status.under_replicated);
    let failures = if status.survives == 1 { "failure" } else { "failures" };
    let mut text = format!(
        "{word}, epoch {view}, {servers}, {partitions} partitions, {fewer} with fewer copies, survives {} more {failures}",
        status.survives
    );
    let mut more = |count: u32, what: &str| {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    };
    let stand_by = status.servers.iter().filter(|server| server.stands_by).count();
    more(status.offline, "partitions offline");
    more(status.joining, "copies being made");
    more(status.misplaced, "partitions not in their place yet");
    more(u32::try_from(count(ServerState::Leaving)).unwrap_or(u32::MAX), "leaving");
    more(u32::try_from(stand_by).unwrap_or(u32::MAX), "standing by");
    if status.waiting > 0 {
        let awaited: Vec<String> = status.awaited.iter().map(|server| server.short()).collect();
        more(status.waiting, &format!("partitions wait for the rebuilt ECS to hear {}", awaited.join(", ")));
    }
    if status.paused {
        text.push_str("; copies are held until `admin resume`");
    }
    text
}

/// What a terminal of 80 columns has no room for, the least needed first.
const SPARE: &[&str] =
    &["joining", "epoch", "free", "keys", "write ms", "read ms", "req/s", "size", "heartbeat", "lag"];

/// What the ECS says of the cluster, and what the servers add to it.
fn cluster(
    status: &ClusterStatus,
    view: &View,
    servers: &[ServerStatus],
    load: &BTreeMap<String, Value>,
    paint: Paint,
) -> Listing {
    let verdict = verdict(status);
    let (parts, lags) = (parts(view), lags(servers));
    let rows = status.servers.iter().map(|member| {
        let parts = parts.get(&member.server).copied().unwrap_or_default();
        member_row(member, parts, load.get(&member.server.to_string()), lags.get(&member.server).copied())
    });
    let rows = rows.collect();
    let painted = verdict_painted(paint, &verdict);
    let before = format!("{painted}\ncluster {}, view {}\n", status.cluster, status.view);
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
        "lag",
        "heartbeat",
    ];
    let after = transfers(status) + &differences::shown(servers);
    let json = cluster_json(status, &verdict, &parts, &lags, load, servers);
    Listing { before, header, rows, right_from: 3, spare: SPARE, after, json, items: "/servers" }
}

/// The ECS's answer, and beside it the verdict, the lags and the copies that differ.
fn cluster_json(
    status: &ClusterStatus,
    verdict: &str,
    parts: &BTreeMap<ServerId, [u32; 3]>,
    lags: &BTreeMap<ServerId, u64>,
    load: &BTreeMap<String, Value>,
    servers: &[ServerStatus],
) -> Value {
    let mut json = serde_json::to_value(status).expect("a status is JSON");
    json["verdict"] = verdict.into();
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

/// Of each server that answered: the entries by which that of its copies is behind that lacks most. Servers are asked
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
        if member.stands_by { "stands by".to_owned() } else { state(member.state).to_owned() },
        member.view.to_string(),
        format!("{coordinator}/{first}/{second}"),
        member.joining.to_string(),
        member.keys.to_string(),
        bytes_shown(member.bytes),
        bytes_shown(member.free_bytes),
        format!("{:.0}", member.requests_per_second),
        load::quantiles_shown(load, "read_us"),
        load::quantiles_shown(load, "write_us"),
        lag.map_or("?".to_owned(), |lag| lag.to_string()),
        heartbeat,
    ]
}

/// What is known while the ECS does not answer: the view, and what the servers say of themselves.
fn servers(view: &View, answers: &[(String, Result<ServerStatus, String>)], paint: Paint) -> Listing {
    let silent = answers.iter().filter(|(_, answer)| answer.is_err()).count();
    let rows = answers.iter().map(|(address, answer)| match answer {
        Ok(status) => server_row(status),
        Err(reason) => vec!["?".to_owned(), address.clone(), reason.clone()],
    });
    let rows = rows.collect();
    let verdict = format!(
        "ECS DOWN: reads and writes go on, changes wait; {silent} of {} servers silent",
        answers.len()
    );
    let json = answers.iter().map(|(address, answer)| match answer {
        Ok(status) => serde_json::to_value(status).expect("a status is JSON"),
        Err(error) => json!({ "address": address, "error": error }),
    });
    let json = json!({
        "verdict": verdict, "cluster": view.cluster, "view": view.number, "servers": json.collect::<Vec<_>>()
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

fn state(state: ServerState) -> &'static str {
    match state {
        ServerState::Up => "up",
        ServerState::Leaving => "leaving",
        ServerState::Down => "DOWN",
    }
}

#[cfg(test)]
mod tests {
    use common::ids::{ClusterId, Epoch, Incarnation, StoreId};
    use common::ring::Partitions;
    use common::status::CopyStatus;
    use common::view::{Assignment, Member};

    use super::*;
    use crate::cli::output::Format;

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
            requests_per_second: 3.4,
            heartbeat_age_ms: Some(80),
        };
        ClusterStatus {
            cluster: ClusterId(1),
            view: Epoch { generation: 0, version: 4 },
            partitions: 256,
            under_replicated: 0,
            offline: 0,
            survives: 0,
            paused: false,
            gathering: false,
            waiting: 0,
            awaited: Vec::new(),
            joining: 0,
            misplaced: 0,
            servers: vec![server],
            transfers: vec![],
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
        let healthy =
            "healthy, epoch 4, 1 server, 256 partitions, 0 with fewer copies, survives 0 more failures\n";
        assert!(text.starts_with(healthy), "{text}");
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
        status.servers[0].state = ServerState::Down;
        status.under_replicated = 3;
        status.survives = 1;
        let shown = verdict(&status);
        assert_eq!(
            shown,
            "DEGRADED, epoch 4, 0 of 1 servers up, 256 partitions, 3 with fewer copies, survives 1 more failure"
        );
        (status.offline, status.joining, status.paused) = (2, 7, true);
        assert_eq!(
            verdict(&status),
            "OFFLINE, epoch 4, 0 of 1 servers up, 256 partitions, 3 with fewer copies, survives 1 more failure, 2 \
             partitions offline, 7 copies being made; copies are held until `admin resume`"
        );
        let member = status.servers[0].clone();
        status.servers = vec![
            MemberStatus { state: ServerState::Up, ..member.clone() },
            MemberStatus { state: ServerState::Up, stands_by: true, ..member },
        ];
        (status.under_replicated, status.offline, status.joining) = (0, 0, 0);
        assert!(verdict(&status).starts_with("PAUSED, epoch 4, 2 servers"), "{}", verdict(&status));
        assert!(verdict(&status).contains(", 1 standing by;"), "{}", verdict(&status));
    }

    #[test]
    fn places_and_lags_are_told_for_each_server() {
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
        assert_eq!(listing.rows[0][10..13], ["0.08/0.24", "-/-", "6"]);
        let json = listing.json;
        assert!(json["verdict"].as_str().unwrap().starts_with("healthy"), "{json}");
        let row = &json["servers"][0];
        assert_eq!(
            (&row["replica_1"], &row["lag_entries"], &row["coordinator"]),
            (&json!(1), &json!(6), &json!(256))
        );
    }
}
