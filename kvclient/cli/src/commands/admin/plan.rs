//! A plan, for people: which server gets which copies from which other.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use serde_json::Value;

use super::args::Order;
use crate::commands::names::{Names, epoch_shown};

/// `41`, or `1/15`.
fn epoch(plan: &Value) -> String {
    epoch_shown(&plan["epoch"])
}

/// The text for a plan that is only shown.
pub(super) fn shown(plan: &Value, order: &Order, names: &Names) -> String {
    let typed = order.as_typed();
    let mut text = format!("plan for epoch {}: {typed}\n{}", epoch(plan), summary(plan));
    let moves = groups(plan, names);
    if !moves.is_empty() {
        let mut table = Table::new();
        table.load_preset(UTF8_BORDERS_ONLY).set_header(["what", "from", "to", "how many", "partitions"]);
        for ((what, from, to), partitions) in moves {
            table.add_row([what.to_owned(), from, to, partitions.len().to_string(), ranges(&partitions)]);
        }
        let _ = writeln!(text, "{table}");
    }
    let _ =
        writeln!(text, "nothing is done yet; to do it: kvclient admin apply --epoch {} {typed}", epoch(plan));
    text
}

/// The text for a plan that was applied.
pub(super) fn applied(plan: &Value, order: &Order) -> String {
    format!("OK: {} is under way\n{}`status` shows how it goes\n", order.as_typed(), summary(plan))
}

fn summary(plan: &Value) -> String {
    let number = |key: &str| plan[key].as_u64().unwrap_or_default();
    let (copies, least) = (number("copies"), number("copies_least"));
    let mut text = format!(
        "{copies} copies are made (the least possible: {least}), {} partitions get another coordinator\n",
        number("coordinators")
    );
    if number("fewer") > 0 {
        let _ = writeln!(
            text,
            "{} partitions have fewer copies afterwards: too few servers stay",
            number("fewer")
        );
    }
    text
}

type Group = (&'static str, String, String);

/// Partitions, grouped by what happens to them.
fn groups(plan: &Value, names: &Names) -> BTreeMap<Group, Vec<u64>> {
    let mut groups: BTreeMap<Group, Vec<u64>> = BTreeMap::new();
    let name = |server: &Value| server.as_str().map_or("-".to_owned(), |id| names.of(id));
    for moved in plan["partitions"].as_array().into_iter().flatten() {
        let partition = moved["partition"].as_u64().unwrap_or_default();
        let coordinator = &moved["coordinator"];
        if coordinator["from"] != coordinator["to"] {
            let group = ("coordinator", name(&coordinator["from"]), name(&coordinator["to"]));
            groups.entry(group).or_default().push(partition);
        }
        for copy in moved["copies"].as_array().into_iter().flatten() {
            groups.entry(("copy", name(&copy["from"]), name(&copy["to"]))).or_default().push(partition);
        }
    }
    groups
}

/// `0-3, 7`.
fn ranges(numbers: &[u64]) -> String {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for &number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let shown = runs.iter().map(|&(first, last)| match last {
        last if last == first => first.to_string(),
        last => format!("{first}-{last}"),
    });
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_plan_lists_copies_with_source_and_destination() {
        let (a, b) = ("a".repeat(32), "b".repeat(32));
        let names = Names::of_servers(&json!([{"server": a, "address": "h:1"}]));
        let moved = |partition: u16, from: Option<&str>| {
            json!({
                "partition": partition,
                "coordinator": {"from": a, "to": if partition == 7 { &b } else { &a }},
                "copies": [{"from": from, "to": b}],
            })
        };
        let plan = json!({
            "epoch": {"generation": 1, "version": 15}, "copies": 3, "copies_least": 3, "coordinators": 1, "fewer": 0,
            "partitions": [moved(0, Some(&a)), moved(1, Some(&a)), moved(7, None)],
        });
        let text = shown(&plan, &Order::Add { server: "h:2".into() }, &names);
        assert!(text.starts_with("plan for epoch 1/15: add h:2\n3 copies are made"), "{text}");
        assert!(
            text.contains("h:1 (aaaaaaaa)") && text.contains("bbbbbbbb") && text.contains("0-1"),
            "{text}"
        );
        assert!(text.ends_with("kvclient admin apply --epoch 1/15 add h:2\n"), "{text}");
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), "0-2, 5, 7-8");
    }
}
