//! How things are printed.

use std::time::Duration;

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{Cell, CellAlignment, Table};
use common::ids::ServerId;
use common::status::{ClusterStatus, MemberStatus, Role, ServerStatus};
use common::view::{KeyRange, ServerState, View};

/// `0.8 ms`, `12 ms`, `1.25 s`.
pub(crate) fn elapsed_shown(elapsed: Duration) -> String {
    let ms = elapsed.as_secs_f64() * 1000.0;
    if ms < 10.0 {
        format!("{ms:.1} ms")
    } else if ms < 1000.0 {
        format!("{ms:.0} ms")
    } else {
        format!("{:.2} s", ms / 1000.0)
    }
}

/// `512 B`, `1.5 MB`.
pub(crate) fn bytes_shown(bytes: u64) -> String {
    let mut scaled = bytes as f64;
    let mut unit = "B";
    for larger in ["kB", "MB", "GB", "TB", "PB"] {
        if scaled < 1000.0 {
            break;
        }
        scaled /= 1000.0;
        unit = larger;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{scaled:.1} {unit}") }
}

/// A key for a message: as text, what is not printable escaped, long ones cut.
pub(super) fn key_shown(key: &[u8]) -> String {
    const SHOWN_MAX: usize = 64;
    let shown = key[..key.len().min(SHOWN_MAX)].escape_ascii();
    if key.len() > SHOWN_MAX { format!("{shown}...") } else { shown.to_string() }
}

/// `<from>,<to>,<ip:port>;` for each range.
pub(super) fn ranges(view: &View, ranges: &[KeyRange]) -> String {
    let address =
        |range: &KeyRange| view.servers.get(&range.server).map_or("?", |info| info.address.as_str());
    ranges.iter().map(|range| format!("{},{},{};", range.first, range.last, address(range))).collect()
}

/// One word for the whole, and its reasons.
fn verdict(status: &ClusterStatus) -> String {
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

/// What the ECS says of the cluster: the verdict first, then the servers.
pub(super) fn cluster(status: &ClusterStatus) -> String {
    let verdict = verdict(status);
    let mut table = table(&[
        "server",
        "address",
        "state",
        "view",
        "coordinates",
        "replicas",
        "joining",
        "keys",
        "size",
        "free",
        "req/s",
        "heartbeat",
    ]);
    for member in &status.servers {
        table.add_row(member_row(member));
    }
    right_from(&mut table, 3);
    let (cluster, view, transfers) = (status.cluster, status.view, transfers(status));
    format!("{verdict}\ncluster {cluster}, view {view}\n{table}\n{transfers}")
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
    let mut table = table(&["copy of", "from", "to", "done", "of about", "per second"]);
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
    right_from(&mut table, 3);
    format!("{table}\n")
}

fn member_row(member: &MemberStatus) -> Vec<Cell> {
    let heartbeat = member
        .heartbeat_age_ms
        .map_or("none".to_owned(), |age| elapsed_shown(Duration::from_millis(age)) + " ago");
    [
        member.server.short(),
        member.address.clone(),
        if member.stands_by { "stands by".to_owned() } else { state(member.state).to_owned() },
        member.view.to_string(),
        member.coordinator.to_string(),
        member.replica.to_string(),
        member.joining.to_string(),
        member.keys.to_string(),
        bytes_shown(member.bytes),
        bytes_shown(member.free_bytes),
        format!("{:.0}", member.requests_per_second),
        heartbeat,
    ]
    .map(Cell::new)
    .into()
}

/// What is known while the ECS does not answer: the view, and what the servers say of themselves.
pub(super) fn servers(view: &View, answers: &[(String, Result<ServerStatus, String>)]) -> String {
    let silent = answers.iter().filter(|(_, answer)| answer.is_err()).count();
    let mut table =
        table(&["server", "address", "view", "coordinates", "replicas", "joining", "keys", "size"]);
    for (address, answer) in answers {
        table.add_row(match answer {
            Ok(status) => server_row(status),
            Err(reason) => vec![Cell::new("?"), Cell::new(address), Cell::new(reason)],
        });
    }
    right_from(&mut table, 2);
    let verdict = format!(
        "ECS DOWN: reads and writes go on, changes wait; {silent} of {} servers silent",
        answers.len()
    );
    format!("{verdict}\ncluster {}, view {}\n{table}\n", view.cluster, view.number)
}

fn server_row(status: &ServerStatus) -> Vec<Cell> {
    let count = |role| status.copies.iter().filter(|copy| copy.role == role).count().to_string();
    [
        status.server.short(),
        status.address.clone(),
        status.view.to_string(),
        count(Role::Coordinator),
        count(Role::Replica),
        count(Role::Joining),
        status.keys.to_string(),
        bytes_shown(status.bytes),
    ]
    .map(Cell::new)
    .into()
}

fn state(state: ServerState) -> &'static str {
    match state {
        ServerState::Up => "up",
        ServerState::Leaving => "leaving",
        ServerState::Down => "DOWN",
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_BORDERS_ONLY).set_header(header);
    table
}

fn right_from(table: &mut Table, first: usize) {
    for column in table.column_iter_mut().skip(first) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

#[cfg(test)]
mod tests {
    use common::ids::{ClusterId, Epoch};

    use super::*;

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
            servers: vec![server],
            transfers: vec![],
        }
    }

    #[test]
    fn the_verdict_comes_first() {
        let mut status = status();
        let shown = cluster(&status);
        let healthy =
            "healthy, epoch 4, 1 server, 256 partitions, 0 with fewer copies, survives 0 more failures\n";
        assert!(shown.starts_with(healthy), "{shown}");
        assert!(shown.contains("127.0.0.1:5001") && shown.contains("1.5 MB") && shown.contains("80 ms ago"));
        assert!(!shown.contains("copy of"));
        status.transfers = vec![common::status::TransferStatus {
            partition: 7,
            from: ServerId(1 << 127),
            to: ServerId(2 << 120),
            bytes_done: 3_000_000,
            bytes_all: 9_000_000,
            bytes_per_second: 1_000_000,
        }];
        let shown = cluster(&status);
        assert!(
            shown.contains("partition 7") && shown.contains("9.0 MB") && shown.contains("1.0 MB"),
            "{shown}"
        );
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
    fn times_sizes_and_keys_are_short() {
        assert_eq!(elapsed_shown(Duration::from_micros(840)), "0.8 ms");
        assert_eq!(elapsed_shown(Duration::from_millis(1250)), "1.25 s");
        assert_eq!(bytes_shown(999), "999 B");
        assert_eq!(bytes_shown(8_388_608), "8.4 MB");
        assert_eq!(key_shown(b"a\xff\n"), "a\\xff\\n");
        assert!(key_shown(&[b'k'; 100]).ends_with("..."));
    }
}
