//! `big`: the largest values, and how large values are.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::io::Write;

use bytes::Bytes;
use common::view::View;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::frame::failure::Failure;
use crate::frame::output::{Format, Listing};
use crate::frame::session::Session;
use crate::frame::show::{bytes_shown, key_shown};

/// The sizes that a scan has seen.
#[derive(Debug)]
struct Sizes {
    /// The largest ones, the least of them first.
    largest: BTreeSet<(u64, Reverse<Bytes>)>,
    wanted: usize,
    /// Bytes of the values, three digits exact.
    all: Histogram<u64>,
    key_bytes: u64,
    value_bytes: u64,
}

impl Sizes {
    fn new(wanted: usize) -> Self {
        let all = Histogram::new(3).expect("three digits are as many as there may be");
        Self { largest: BTreeSet::new(), wanted, all, key_bytes: 0, value_bytes: 0 }
    }

    fn see(&mut self, key: Bytes, value_bytes: u64) {
        self.all.saturating_record(value_bytes);
        self.key_bytes += key.len() as u64;
        self.value_bytes += value_bytes;
        let least = self.largest.first().map_or(0, |(bytes, _)| *bytes);
        if self.largest.len() < self.wanted || value_bytes > least {
            self.largest.insert((value_bytes, Reverse(key)));
            if self.largest.len() > self.wanted {
                self.largest.pop_first();
            }
        }
    }

    fn listed(&self, view: &View) -> Listing {
        let largest = || self.largest.iter().rev().map(|(bytes, Reverse(key))| (*bytes, key));
        let partition = |key: &Bytes| view.partitions.of_key(key).to_string();
        let rows = largest().map(|(bytes, key)| vec![key_shown(key), partition(key), bytes_shown(bytes)]);
        let rows = rows.collect();
        let at = |quantile| self.all.value_at_quantile(quantile);
        let after = if self.all.is_empty() {
            "there are no such keys\n".to_owned()
        } else {
            format!(
                "{} keys, {}; values {}: half of them up to {}, 99 % up to {}, all up to {}\n",
                self.all.len(),
                bytes_shown(self.key_bytes),
                bytes_shown(self.value_bytes),
                bytes_shown(at(0.5)),
                bytes_shown(at(0.99)),
                bytes_shown(self.all.max()),
            )
        };
        let one = |(bytes, key): (u64, &Bytes)| {
            let partition = view.partitions.of_key(key).0;
            json!({ "key": String::from_utf8_lossy(key), "partition": partition, "bytes": bytes })
        };
        let json = json!({
            "keys": self.all.len(),
            "key_bytes": self.key_bytes,
            "value_bytes": self.value_bytes,
            "value_size": { "p50": at(0.5), "p99": at(0.99), "max": self.all.max() },
            "largest": largest().map(one).collect::<Vec<Value>>(),
        });
        let header = vec!["key", "partition", "value"];
        Listing { header, rows, right_from: 1, after, json, items: "/largest", ..Listing::default() }
    }
}

/// Reads all keys with the prefix, with their values: as much work for the cluster as an export.
pub(crate) async fn run(
    session: &mut Session,
    prefix: Bytes,
    limit: usize,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let client = session.client().await?;
    let mut sizes = Sizes::new(limit);
    let mut scan = client.scan(prefix);
    while let Some(pairs) = scan.next().await? {
        for pair in pairs {
            // A page is one buffer: a key that is kept must not keep all of it in memory.
            sizes.see(Bytes::copy_from_slice(&pair.key), pair.found.value.len() as u64);
        }
    }
    sizes.listed(&client.view()).print(format, out)
}

#[cfg(test)]
mod tests {
    use common::ids::{ClusterId, Epoch};
    use common::ring::Partitions;

    use super::*;

    #[test]
    fn the_largest_are_kept_in_order() {
        let mut sizes = Sizes::new(3);
        for (key, bytes) in [("a", 5), ("b", 900), ("c", 7), ("d", 900), ("e", 1)] {
            sizes.see(Bytes::from_static(key.as_bytes()), bytes);
        }
        let view = View::new(ClusterId(1), Epoch::default(), Partitions::try_from(1).unwrap());
        let listing = sizes.listed(&view);
        let keys: Vec<&str> = listing.rows.iter().map(|row| row[0].as_str()).collect();
        assert_eq!(keys, ["b", "d", "c"]);
        assert_eq!(
            listing.after,
            "5 keys, 5 B; values 1.8 kB: half of them up to 7 B, 99 % up to 900 B, all up to 900 B\n"
        );
        assert_eq!((&listing.json["keys"], &listing.json["largest"][2]["bytes"]), (&json!(5), &json!(7)));
        assert_eq!(Sizes::new(3).listed(&view).after, "there are no such keys\n");
    }
}
