//! The ECS's lists: `events` and `partitions`.

use std::io::Write;
use std::time::Duration;

use common::clock;
use common::ring::Position;
use serde_json::Value;

use crate::commands::ecs::Ecs;
use crate::commands::names::{Names, epoch_shown};
use crate::frame::failure::Failure;
use crate::frame::output::{Format, Listing};
use crate::frame::session::Session;
use crate::frame::show::{elapsed_shown, key_shown};

/// The last changes of the view and why, the newest last.
pub(crate) async fn events(
    session: &mut Session,
    limit: usize,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let answer = Ecs::of(session).await?.get("/api/v1/events").await?;
    listed_events(answer, limit, clock::wall().0).print(format, out)
}

fn listed_events(mut answer: Value, limit: usize, now_ms: u64) -> Listing {
    let mut all = answer["events"].as_array().cloned().unwrap_or_default();
    let more = all.len().saturating_sub(limit);
    all.drain(..more);
    let rows = all.iter().map(|event| {
        let age = Duration::from_millis(now_ms.saturating_sub(event["at"].as_u64().unwrap_or(now_ms)));
        let text = event["text"].as_str().unwrap_or_default().to_owned();
        vec![age_shown(age), epoch_shown(&event["view"]), text]
    });
    let rows: Vec<_> = rows.collect();
    let after = match (rows.len(), more) {
        (0, _) => "nothing has changed since the ECS started\n".to_owned(),
        (_, 0) => String::new(),
        (_, more) => format!("{more} more before these; `events --limit N` shows them\n"),
    };
    answer["events"] = Value::Array(all);
    let header = vec!["when", "epoch", "what happened"];
    Listing { header, rows, right_from: 9, after, json: answer, items: "/events", ..Listing::default() }
}

/// `12 s ago`, `3 h 5 min ago`.
fn age_shown(age: Duration) -> String {
    let seconds = age.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..10 => format!("{} ago", elapsed_shown(age)),
        10..60 => format!("{seconds} s ago"),
        60..3600 => format!("{minutes} min {} s ago", seconds % 60),
        3600..86_400 => format!("{hours} h {} min ago", minutes % 60),
        _ => format!("{days} d {} h ago", hours % 24),
    }
}

/// The servers that have each partition; with a key, those of its partition.
pub(crate) async fn partitions(
    session: &mut Session,
    key: Option<&[u8]>,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let ecs = Ecs::of(session).await?;
    let mut answer = ecs.get("/api/v1/partitions").await?;
    let names = Names::of_servers(&ecs.get("/api/v1/servers").await?["servers"]);
    let mut before = String::new();
    if let (Some(key), Some(all)) = (key, answer["partitions"].as_array_mut()) {
        let position = Position::of_key(key).to_string();
        let word = |one: &Value, name: &str| one[name].as_str().unwrap_or_default().to_owned();
        all.retain(|one| word(one, "first") <= position && position <= word(one, "last"));
        before = format!("`{}` is at {position} of the ring\n", key_shown(key));
    }
    listed_partitions(answer, before, &names).print(format, out)
}

fn listed_partitions(answer: Value, before: String, names: &Names) -> Listing {
    let name = |id: &Value| names.address(id.as_str().unwrap_or_default());
    let list = |ids: &Value| ids.as_array().into_iter().flatten().map(name).collect::<Vec<_>>();
    let all = answer["partitions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows = all.iter().map(|one| {
        let in_sync = list(&one["in_sync"]);
        let coordinator =
            if one["coordinator"].is_null() { "none".to_owned() } else { name(&one["coordinator"]) };
        let replicas: Vec<String> = in_sync.into_iter().filter(|server| *server != coordinator).collect();
        let replica = |at: usize| replicas.get(at).cloned().unwrap_or_else(|| "-".to_owned());
        let others = replicas.get(2..).unwrap_or_default();
        let joining: Vec<String> = others.iter().cloned().chain(list(&one["joining"])).collect();
        let first = one["first"].as_str().unwrap_or_default();
        vec![
            one["partition"].to_string(),
            first.get(..4).unwrap_or(first).to_owned(),
            one["state"].as_str().unwrap_or_default().to_owned(),
            epoch_shown(&one["epoch"]),
            coordinator,
            replica(0),
            replica(1),
            if joining.is_empty() { "-".to_owned() } else { joining.join(", ") },
        ]
    });
    let rows = rows.collect();
    let header =
        vec!["partition", "from", "state", "epoch", "coordinator", "replica 1", "replica 2", "joining"];
    Listing { before, header, rows, right_from: 9, json: answer, items: "/partitions", ..Listing::default() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(listing: &Listing, format: Format) -> String {
        let mut out = Vec::new();
        listing.print(format, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_newest_events_are_listed_with_their_age() {
        let event =
            |at: u64, text: &str| json!({"at": at, "view": {"generation": 0, "version": 7}, "text": text});
        let answer =
            json!({"events": [event(1_000, "first"), event(3_000, "second"), event(60_000, "third")]});
        let listing = listed_events(answer.clone(), 2, 65_000);
        assert_eq!(shown(&listing, Format::Raw), "1 min 2 s ago\t7\tsecond\n5.00 s ago\t7\tthird\n");
        assert_eq!(shown(&listing, Format::Ndjson).lines().count(), 2);
        assert!(
            shown(&listing, Format::Table).ends_with("1 more before these; `events --limit N` shows them\n")
        );
        assert_eq!(listed_events(answer, 5, 65_000).after, "");
        assert!(listed_events(json!({"events": []}), 5, 0).after.starts_with("nothing has changed"));
    }

    #[test]
    fn partitions_name_their_servers_by_address() {
        let servers = json!([
            {"server": "aa", "address": "h:1"}, {"server": "bb", "address": "h:2"}, {"server": "cc", "address": "h:3"}
        ]);
        let one = |state: &str, coordinator: Value| {
            json!({
                "partition": 3, "first": format!("03{}", "0".repeat(30)), "last": format!("03{}", "f".repeat(30)),
                "state": state, "epoch": {"generation": 1, "version": 12}, "coordinator": coordinator,
                "in_sync": ["aa", "bb"], "joining": ["cc"], "target": ["aa", "bb", "cc"]
            })
        };
        let answer = json!({"partitions": [one("served", json!("bb")), one("offline", Value::Null)]});
        let listing = listed_partitions(answer, String::new(), &Names::of_servers(&servers));
        let raw = shown(&listing, Format::Raw);
        assert_eq!(
            raw,
            "3\t0300\tserved\t1/12\th:2\th:1\t-\th:3\n3\t0300\toffline\t1/12\tnone\th:1\th:2\th:3\n"
        );
        assert_eq!(shown(&listing, Format::Ndjson).lines().count(), 2);
    }

    #[test]
    fn ages_are_short() {
        for (seconds, shown) in
            [(4, "4.00 s ago"), (59, "59 s ago"), (3_700, "1 h 1 min ago"), (90_000, "1 d 1 h ago")]
        {
            assert_eq!(age_shown(Duration::from_secs(seconds)), shown);
        }
    }
}
