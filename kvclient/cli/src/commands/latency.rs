//! `latency`: how long a get takes, by server.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use common::clock;
use common::ids::ServerId;
use common::view::View;
use hdrhistogram::Histogram;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::frame::failure::Failure;
use crate::frame::output::{Format, Listing};
use crate::frame::session::Session;
use crate::limits::{PROBE_EVERY, PROBE_KEYS_TRIED};
use kvclient::Client;
use kvclient::Error;

/// Times in microseconds, three digits exact.
type Times = Histogram<u64>;

/// Asks each server for a key that it coordinates, one request after the other, for so long.
pub(crate) async fn run(
    session: &mut Session,
    duration: Duration,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let client = session.client().await?;
    let view = client.refresh_view().await?;
    let mut probes = JoinSet::new();
    let servers = u32::try_from(view.servers.len()).unwrap_or(u32::MAX).max(1);
    for ((server, info), place) in view.servers.iter().zip(0..) {
        let Some(key) = key_of(&view, *server) else { continue };
        let (client, address) = (client.clone(), info.address.clone());
        // Side by side, so that none waits for another one's answer to be taken.
        let first = Instant::now() + PROBE_EVERY * place / servers;
        probes.spawn(async move { (address, probe(&client, &key, first, duration).await) });
    }
    let mut found = Vec::new();
    while let Some(done) = probes.join_next().await {
        let (address, times) = done.map_err(|error| Failure::usage(format!("a probe ended: {error}")))?;
        found.push((address, times));
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    if found.is_empty() {
        let message = "no server coordinates anything yet; start one and ask again";
        return Err(Failure::new(crate::frame::failure::Exit::Unavailable, message));
    }
    listed(&found).print(format, out)
}

/// A key that this server coordinates, which need not be there; `None` if it coordinates nothing.
fn key_of(view: &Arc<View>, server: ServerId) -> Option<String> {
    let mut keys = (0..PROBE_KEYS_TRIED).map(|number| format!("latency:{number}"));
    keys.find(|key| {
        let partition = view.partitions.of_key(key.as_bytes());
        view.assignment(partition).is_some_and(|assignment| assignment.coordinator == server)
    })
}

async fn probe(client: &Client, key: &str, first: Instant, duration: Duration) -> Result<Times, Error> {
    let mut times = Times::new(3).expect("three digits are as many as there may be");
    let started = clock::time();
    let mut ticks = interval_at(first, PROBE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while clock::time().since(started) < duration {
        ticks.tick().await;
        let asked = clock::time();
        client.get(key.to_owned()).await?;
        let micros = clock::time().since(asked).as_micros();
        times.saturating_record(u64::try_from(micros).unwrap_or(u64::MAX));
    }
    Ok(times)
}

fn listed(found: &[(String, Result<Times, Error>)]) -> Listing {
    let at = |times: &Times, quantile| format!("{:.2}", times.value_at_quantile(quantile) as f64 / 1000.0);
    let rows = found.iter().map(|(address, times)| match times {
        Ok(times) => {
            let quantiles = [0.0, 0.5, 0.9, 0.99, 1.0].map(|quantile| at(times, quantile));
            [address.clone(), times.len().to_string()].into_iter().chain(quantiles).collect()
        }
        Err(error) => vec![address.clone(), error.to_string()],
    });
    let rows = rows.collect();
    let json = found.iter().map(|(address, times)| match times {
        Ok(times) => json!({
            "address": address,
            "gets": times.len(),
            "us": {
                "min": times.min(),
                "p50": times.value_at_quantile(0.5),
                "p90": times.value_at_quantile(0.9),
                "p99": times.value_at_quantile(0.99),
                "max": times.max(),
            },
        }),
        Err(error) => json!({ "address": address, "error": error.to_string() }),
    });
    let json = json!({ "servers": json.collect::<Vec<_>>() });
    let header = vec!["server", "gets", "min ms", "p50", "p90", "p99", "max"];
    Listing { header, rows, right_from: 1, json, items: "/servers", ..Listing::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_has_a_line_whether_it_answered_or_not() {
        let mut times = Times::new(3).unwrap();
        [100, 200, 900].into_iter().for_each(|micros| times.record(micros).unwrap());
        let silent = Error::Unavailable { tried: Vec::new(), reason: "it is gone".to_owned() };
        let listing = listed(&[("h:1".to_owned(), Ok(times)), ("h:2".to_owned(), Err(silent))]);
        assert_eq!(listing.rows[0], ["h:1", "3", "0.10", "0.20", "0.90", "0.90", "0.90"]);
        assert!(listing.rows[1][1].contains("it is gone"), "{listing:?}");
        assert_eq!(listing.json["servers"][0]["us"]["p50"], 200);
    }
}
