//! How things are printed.

use std::time::Duration;

use common::view::{KeyRange, View};
use serde_json::json;

use super::output::Listing;

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

/// The same, for programs.
pub(super) fn ranges_listed(view: &View, ranges: &[KeyRange]) -> Listing {
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

/// Text that a terminal shows as it is: no control characters but tabs and newlines.
pub(super) fn is_printable(value: &[u8]) -> bool {
    let harmless = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    std::str::from_utf8(value).is_ok_and(|text| text.chars().all(harmless))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_sizes_and_keys_are_short() {
        assert_eq!(elapsed_shown(Duration::from_micros(840)), "0.8 ms");
        assert_eq!(elapsed_shown(Duration::from_millis(1250)), "1.25 s");
        assert_eq!(bytes_shown(999), "999 B");
        assert_eq!(bytes_shown(8_388_608), "8.4 MB");
        assert_eq!(key_shown(b"a\xff\n"), "a\\xff\\n");
        assert!(is_printable("b\u{e4}r\n\tx".as_bytes()));
        assert!(!is_printable(b"\x1b[2J") && !is_printable(b"\xff"));
        assert!(key_shown(&[b'k'; 100]).ends_with("..."));
    }
}
