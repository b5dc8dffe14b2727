//! The servers' figures of clients' requests, from the ECS: `hot` and `stat`.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use common::ids::PartitionId;
use common::view::View;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use crate::commands::ecs::Ecs;
use crate::frame::failure::{Exit, Failure, complaint};
use crate::frame::output::{Format, Listing, verdict};
use crate::frame::session::Session;
use crate::frame::show::key_shown;
use crate::frame::style::{Ink, Paint};

/// Lines of `stat` between two headers: a screen full.
const LINES_PER_HEADER: u64 = 20;

const PATH: &str = "/api/v1/load";

/// The busiest keys and partitions.
pub(crate) async fn hot(session: &mut Session, format: Format, out: &mut dyn Write) -> Result<(), Failure> {
    let mut load = Ecs::of(session).await?.get(PATH).await?;
    let view = session.client().await?.view();
    listed(load["hot"].take(), &view).print(format, out)
}

fn listed(hot: Value, view: &View) -> Listing {
    let coordinator = |partition: &Value| {
        let number = partition.as_u64().and_then(|number| u16::try_from(number).ok());
        let assignment = number.and_then(|number| view.assignment(PartitionId(number)));
        let info = assignment.and_then(|assignment| view.servers.get(&assignment.coordinator));
        info.map_or_else(|| "?".to_owned(), |info| info.address.clone())
    };
    let all = |what: &str| hot[what].as_array().cloned().unwrap_or_default();
    let row = |kind: &str, name: String, one: &Value| {
        let partition = &one["partition"];
        vec![
            kind.to_owned(),
            name,
            coordinator(partition),
            partition.to_string(),
            one["per_second"].to_string(),
        ]
    };
    let keys = all("keys");
    let partitions = all("partitions");
    let name = |one: &Value| key_shown(one["key"].as_str().unwrap_or_default().as_bytes());
    let mut rows: Vec<_> = keys.iter().map(|one| row("key", name(one), one)).collect();
    rows.extend(partitions.iter().map(|one| row("partition", String::new(), one)));
    let after = if rows.is_empty() { "nothing was asked for in the last ten seconds\n" } else { "" };
    let json = json!({ "hot": keys.into_iter().chain(partitions).collect::<Vec<_>>() });
    let header = vec!["what", "key", "coordinator", "partition", "req/s"];
    let after = after.to_owned();
    Listing { header, rows, right_from: 3, after, json, items: "/hot", ..Listing::default() }
}

/// One line of `stat`.
#[derive(Debug, Default)]
struct Line {
    cells: Vec<String>,
    json: Value,
}

const HEADER: [&str; 11] = [
    "state",
    "reads/s",
    "writes/s",
    "failed/s",
    "read p50",
    "p99",
    "write p50",
    "p99",
    "sync p99",
    "open",
    "lag",
];

/// A line every so often, until `count` are printed or the shell is interrupted.
pub(crate) async fn stat(
    session: &mut Session,
    every: Duration,
    count: Option<u64>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut printed = 0;
    while count.is_none_or(|count| printed < count) {
        ticks.tick().await;
        let line = match look(session).await {
            Ok(line) => line,
            // A cluster that does not answer may come back.
            Err(failure) if failure.exit == Exit::Unavailable && count.is_none() => {
                eprint!("{}", complaint(b"", &failure, Paint::for_errors()));
                continue;
            }
            Err(failure) => return Err(failure),
        };
        let text = match session.format {
            Format::Json | Format::Ndjson => format!("{}\n", line.json),
            Format::Raw => line.cells.join("\t") + "\n",
            Format::Table => {
                let header = if printed % LINES_PER_HEADER == 0 {
                    let header = aligned(&HEADER.map(str::to_owned));
                    session.paint().ink(Ink::Faint, header.trim_end()) + "\n"
                } else {
                    String::new()
                };
                header + &aligned(&line.cells)
            }
        };
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::output)?;
        printed += 1;
    }
    Ok(())
}

async fn look(session: &mut Session) -> Result<Line, Failure> {
    let verdict = verdict(&session.client().await?.cluster_status().await?);
    let load = Ecs::of(session).await?.get(PATH).await?;
    let word = verdict.split([',', ':']).next().unwrap_or_default().to_owned();
    Ok(line(&word, &load))
}

fn line(word: &str, load: &Value) -> Line {
    let servers = load["servers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let number = |server: &Value, what: &str| server[what].as_u64().unwrap_or_default();
    let open: u64 = servers.iter().map(|server| number(server, "open")).sum();
    let lag = servers.iter().map(|server| number(server, "lag")).max().unwrap_or_default();
    let sample = load["samples"].as_array().and_then(|samples| samples.last()).cloned().unwrap_or_default();
    let rate = |what: &str| format!("{:.0}", sample[what].as_f64().unwrap_or_default());
    let time = |what: &str, quantile: &str| ms_shown(&sample[what][quantile]);
    let cells = vec![
        word.to_owned(),
        rate("reads"),
        rate("writes"),
        rate("failed"),
        time("read_us", "p50"),
        time("read_us", "p99"),
        time("write_us", "p50"),
        time("write_us", "p99"),
        time("sync_us", "p99"),
        open.to_string(),
        lag.to_string(),
    ];
    let mut json = json!({ "state": word, "open": open, "lag": lag });
    if let (Some(json), Value::Object(sample)) = (json.as_object_mut(), sample) {
        json.extend(sample);
    }
    Line { cells, json }
}

/// Microseconds as milliseconds; `-` where nothing was measured.
fn ms_shown(us: &Value) -> String {
    us.as_u64().map_or_else(|| "-".to_owned(), |us| format!("{:.2}", us as f64 / 1000.0))
}

fn aligned(cells: &[String]) -> String {
    let cells =
        cells.iter().zip(HEADER).map(|(cell, header)| format!("{cell:>width$}", width = header.len().max(7)));
    cells.collect::<Vec<_>>().join("  ") + "\n"
}

/// The last figures of each server, by its id in hex; empty where the ECS cannot be asked.
pub(crate) async fn by_server(session: &mut Session) -> BTreeMap<String, Value> {
    let Ok(ecs) = Ecs::of(session).await else { return BTreeMap::new() };
    let load = ecs.get(PATH).await.unwrap_or_default();
    let servers = load["servers"].as_array().cloned().unwrap_or_default();
    servers.into_iter().map(|one| (one["server"].as_str().unwrap_or_default().to_owned(), one)).collect()
}

/// `p50/p99` of a kind of requests, in milliseconds.
pub(crate) fn quantiles_shown(load: Option<&Value>, what: &str) -> String {
    let times = load.map_or(&Value::Null, |load| &load[what]);
    format!("{}/{}", ms_shown(&times["p50"]), ms_shown(&times["p99"]))
}

#[cfg(test)]
mod tests {
    use common::ids::{ClusterId, Epoch, Incarnation, Nonce, ServerId, StoreId};
    use common::ring::Partitions;
    use common::view::{Assignment, ServerInfo, ServerState};

    use super::*;

    #[test]
    fn what_is_hot_is_named_with_its_coordinator() {
        let epoch = Epoch { generation: 0, version: 1 };
        let mut view = View::new(ClusterId(1), epoch, Partitions::try_from(1).unwrap());
        let one = Assignment { epoch, coordinator: ServerId(1), in_sync: Vec::new(), joining: Vec::new() };
        view.assignments.push(one);
        let info = ServerInfo {
            store: StoreId(1),
            incarnation: Incarnation(1),
            nonce: Nonce(1),
            address: "h:1".to_owned(),
            weight: 1,
            state: ServerState::Up,
        };
        view.servers = BTreeMap::from([(ServerId(1), info)]);
        let hot = json!({
            "keys": [{"key": "user:1", "partition": 0, "per_second": 640}],
            "partitions": [{"partition": 0, "per_second": 803}, {"partition": 9, "per_second": 1}],
        });
        let listing = listed(hot, &view);
        assert_eq!(listing.rows[0], ["key", "user:1", "h:1", "0", "640"]);
        assert_eq!(listing.rows[1], ["partition", "", "h:1", "0", "803"]);
        assert_eq!(listing.rows[2], ["partition", "", "?", "9", "1"]);
        assert_eq!(listing.json["hot"].as_array().unwrap().len(), 3);
        assert!(listed(json!({"keys": [], "partitions": []}), &view).after.starts_with("nothing"));
    }

    #[test]
    fn a_line_adds_the_servers_up() {
        let load = json!({
            "servers": [{"open": 3, "lag": 1}, {"open": 4, "lag": 9}],
            "samples": [{"reads": 1.0}, {
                "at": 5, "reads": 15_630.4, "writes": 2.0, "failed": 0.0,
                "read_us": {"p50": 81, "p99": 240}, "write_us": {"p50": null, "p99": 1_320}, "sync_us": {"p99": 390},
            }],
        });
        let found = line("healthy", &load);
        let wanted = ["healthy", "15630", "2", "0", "0.08", "0.24", "-", "1.32", "0.39", "7", "9"];
        assert_eq!(found.cells, wanted);
        assert_eq!(
            (&found.json["state"], &found.json["at"], &found.json["lag"]),
            (&json!("healthy"), &json!(5), &json!(9))
        );
        assert_eq!(aligned(&found.cells).len(), aligned(&HEADER.map(str::to_owned)).len());
        let nothing = line("healthy", &json!({"servers": [], "samples": []}));
        assert_eq!(nothing.cells[1..5], ["0", "0", "0", "-"]);
    }
}
