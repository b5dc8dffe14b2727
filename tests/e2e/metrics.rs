//! Metrics and health of real processes, and that what the documentation says of them is there.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use crate::support::wait::SOON;
use crate::support::{Cluster, Settings, http, wait_for};

/// The samples of a page: names with labels, and values.
fn samples(address: SocketAddr) -> Result<Vec<(String, f64)>, String> {
    let (code, body) = http::get(address, "/metrics").map_err(|error| error.to_string())?;
    if code != 200 {
        return Err(body);
    }
    assert!(body.ends_with("# EOF\n"), "{body}");
    let lines = body.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        (name.to_owned(), value.parse().unwrap_or_else(|error| panic!("{line}: {error}")))
    };
    Ok(lines.map(sample).collect())
}

/// The sum of the samples whose names, labels included, begin so.
fn sum(samples: &[(String, f64)], begin: &str) -> f64 {
    samples.iter().filter(|(name, _)| name.starts_with(begin)).map(|(_, value)| value).sum()
}

fn cluster(servers: usize) -> Cluster {
    Settings::default().server_args(&["--http", "127.0.0.1:0"]).start(servers)
}

#[test]
fn requests_are_counted_where_they_are_asked() {
    let cluster = cluster(3);
    cluster.wait_settled();
    let client = cluster.client();
    for n in 0..50 {
        client.put(format!("key-{n}"), "value");
        assert_eq!(client.get(format!("key-{n}")).as_deref(), Some("value"));
    }
    assert_eq!(client.get("nothing"), None);
    let all = |name: &str| -> Result<f64, String> {
        (0..3).map(|index| Ok(sum(&samples(cluster.server(index).http())?, name))).sum()
    };
    wait_for("all requests are counted", SOON, || {
        let puts = all("trefoil_requests_total{kind=\"put\",result=\"ok\"}")?;
        let gets = all("trefoil_requests_total{kind=\"get\",result=\"ok\"}")?;
        let absent = all("trefoil_requests_total{kind=\"get\",result=\"absent\"}")?;
        let counted = (puts, gets, absent);
        if counted == (50.0, 50.0, 1.0) { Ok(()) } else { Err(format!("{counted:?}")) }
    });
    assert!(all("trefoil_log_sync_records_sum").unwrap() >= 150.0, "each write is in three logs");
    let writes = all("trefoil_request_duration_seconds_count{class=\"write\"}").unwrap();
    let timed = all("trefoil_request_duration_seconds_bucket{le=\"+Inf\",class=\"write\"}").unwrap();
    assert!(writes >= 50.0 && writes == timed, "{writes} {timed}");
    assert!(all("trefoil_request_duration_seconds_sum{class=\"write\"}").unwrap() > 0.0);
    let of_ecs = samples(cluster.ecs_address()).unwrap();
    let (_, partitions) = *of_ecs.iter().find(|(name, _)| name == "trefoil_ecs_partitions").unwrap();
    assert_eq!(partitions, all("trefoil_copies{role=\"coordinator\"}").unwrap());
    wait_for("every coordinator may read, and what clients ask is known to the ECS", SOON, || {
        let (leases, active) =
            (all("trefoil_leases{role=\"coordinator\"}")?, all("trefoil_coordinators_active")?);
        if leases != partitions || active != partitions {
            return Err(format!("{leases} {active}"));
        }
        let (_, load) =
            http::get(cluster.ecs_address(), "/api/v1/load").map_err(|error| error.to_string())?;
        let load: serde_json::Value = serde_json::from_str(&load).map_err(|error| error.to_string())?;
        let known = load["servers"].as_array().is_some_and(|servers| servers.len() == 3)
            && load["samples"].as_array().is_some_and(|samples| {
                samples
                    .iter()
                    .any(|sample| sample["writes"].as_f64() > Some(0.0) && sample["write_us"]["p99"].is_u64())
            })
            && load["hot"]["keys"].as_array().is_some();
        if known { Ok(()) } else { Err(load.to_string()) }
    });
}

#[test]
fn health_and_readiness_follow_what_happens() {
    let mut cluster = cluster(2);
    cluster.wait_settled();
    let ask = |address, path: &str| http::get(address, path).map_err(|error| error.to_string());
    let both = |address: SocketAddr| -> Result<(u16, u16), String> {
        Ok((ask(address, "/healthz")?.0, ask(address, "/readyz")?.0))
    };
    let becomes = |what: &str, address: SocketAddr, expected: (u16, u16)| {
        wait_for(what, SOON, || match both(address)? {
            codes if codes == expected => Ok(()),
            codes => Err(format!("{codes:?}")),
        });
    };
    becomes("a server is ready", cluster.server(0).http(), (200, 200));
    assert_eq!(both(cluster.ecs_address()).unwrap(), (200, 200));
    let (code, body) = ask(cluster.server(0).http(), "/nothing").unwrap();
    assert!(code == 404 && body.contains("/metrics"), "{body}");

    cluster.kill_ecs();
    becomes("without the ECS it goes on", cluster.server(0).http(), (200, 200));
    cluster.add_server();
    becomes("a server that is no member yet is not ready", cluster.server(2).http(), (200, 503));
    let (_, body) = ask(cluster.server(2).http(), "/readyz").unwrap();
    assert!(body.contains("no member"), "{body}");
    cluster.start_ecs();
    becomes("when it has joined it is", cluster.server(2).http(), (200, 200));

    // A process that is stopped does not answer; its core alone cannot be stopped from outside.
    let left = cluster.server(2).http();
    cluster.kill_server(2);
    assert!(ask(left, "/healthz").is_err(), "nothing of it stays behind");
    wait_for("the ECS counts a server as down", SOON, || {
        let found = samples(cluster.ecs_address())?;
        let down = sum(&found, "trefoil_ecs_servers{state=\"down\"}");
        let changes = sum(&found, "trefoil_ecs_changes_total{change=\"link_ended\"}")
            + sum(&found, "trefoil_ecs_changes_total{change=\"silent\"}");
        if down == 1.0 && changes >= 1.0 { Ok(()) } else { Err(format!("{down} {changes}")) }
    });
}

/// Every word of a text that is a metric's name.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit() && c != '_');
    words.filter(|word| word.starts_with("trefoil_")).map(str::to_owned).collect()
}

/// Without what histograms add to a name.
fn family(name: &str) -> &str {
    let endings = ["_bucket", "_sum", "_count"];
    endings.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name)
}

#[test]
fn the_documentation_names_what_there_is_and_nothing_else() {
    let cluster = cluster(1);
    cluster.wait_settled();
    let mut there = BTreeSet::new();
    for address in [cluster.ecs_address(), cluster.server(0).http()] {
        let found = wait_for("there are metrics", SOON, || samples(address));
        there.extend(found.iter().map(|(name, _)| family(name.split('{').next().unwrap_or(name)).to_owned()));
        let (_, page) = http::get(address, "/metrics").unwrap();
        for help in page.lines().filter(|line| line.starts_with("# HELP ")) {
            assert!(help.split(' ').count() > 4, "a help text that says nothing: {help}");
        }
    }
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let read = |name: &str| std::fs::read_to_string(docs.join(name)).unwrap();
    assert_eq!(named(&read("monitoring.md")), there, "docs/monitoring.md lists exactly what there is");
    for name in ["monitoring/alerts.yml", "monitoring/grafana.json"] {
        let text = read(name);
        let unknown: Vec<_> = named(&text).into_iter().filter(|name| !there.contains(family(name))).collect();
        assert!(unknown.is_empty(), "{name}: {unknown:?}");
    }
    let alerts = |text: &str| -> BTreeSet<String> {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric());
        words.filter(|word| word.starts_with("Trefoil") && *word != "Trefoil").map(str::to_owned).collect()
    };
    let alerted = alerts(&read("monitoring/alerts.yml"));
    assert_eq!(alerted, alerts(&read("monitoring.md")), "each alert is explained");
    assert!(alerted.len() <= 12, "{alerted:?}");
}
