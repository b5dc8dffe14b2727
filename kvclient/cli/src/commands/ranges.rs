//! `keyrange` and `keyrange_read`: which server has which part of the ring.

use std::io::Write;

use common::view::{KeyRange, View};
use serde_json::json;

use crate::frame::failure::{Exit, Failure};
use crate::frame::output::{Format, Listing, print};
use crate::frame::session::Session;

/// Prints the ranges that servers write, or those that they `read`.
pub(crate) async fn key_range(session: &mut Session, read: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let view = session.client().await?.refresh_view().await?;
    if view.assignments.is_empty() {
        return Err(Failure::new(
            Exit::Unavailable,
            "the cluster has no servers yet; start one and ask again",
        ));
    }
    let ranges = if read { view.read_ranges() } else { view.ranges() };
    if session.format != Format::Table {
        return listed(&view, &ranges).print(session.format, out);
    }
    print(out, &(line(&view, &ranges) + "\n"))
}

/// `<from>,<to>,<ip:port>;` for each range.
fn line(view: &View, ranges: &[KeyRange]) -> String {
    let address =
        |range: &KeyRange| view.servers.get(&range.server).map_or("?", |info| info.address.as_str());
    ranges.iter().map(|range| format!("{},{},{};", range.first, range.last, address(range))).collect()
}

/// The ranges, for programs.
fn listed(view: &View, ranges: &[KeyRange]) -> Listing {
    let row = |range: &KeyRange| {
        let address = view.servers.get(&range.server).map_or("?", |info| info.address.as_str());
        vec![range.first.to_string(), range.last.to_string(), address.to_owned()]
    };
    let rows: Vec<_> = ranges.iter().map(row).collect();
    let json = rows.iter().map(|row| json!({ "first": row[0], "last": row[1], "address": row[2] }));
    let json = json!({ "ranges": json.collect::<Vec<_>>() });
    Listing {
        header: vec!["first", "last", "address"],
        rows,
        right_from: 3,
        json,
        items: "/ranges",
        ..Listing::default()
    }
}
