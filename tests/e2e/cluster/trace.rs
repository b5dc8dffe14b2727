//! One request, followed from the client to the disks of all copies by its id.

use std::process::Output;

use serde_json::Value;

use crate::support::wait::SOON;
use crate::support::{Cluster, Settings, wait_for};

/// The id that a client printed on standard error.
fn printed_id(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    let errors = String::from_utf8(output.stderr.clone()).expect("text");
    let ids: Vec<&str> = errors.lines().filter_map(|line| line.strip_prefix("request ")).collect();
    let [id] = ids[..] else { panic!("one id: {errors}") };
    id.to_owned()
}

/// What each server has logged of a request, in order.
fn logged(cluster: &Cluster, id: &str) -> Vec<Vec<Value>> {
    let of = |index| {
        let log = cluster.server(index).log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["request"] == id).collect()
    };
    cluster.running().map(of).collect()
}

/// Waits until for each list some server has logged exactly these steps, in this order.
fn wait_logged(cluster: &Cluster, id: &str, wanted: &[&[&str]]) -> Vec<Vec<Value>> {
    let mut wanted: Vec<Vec<&str>> = wanted.iter().map(|steps| steps.to_vec()).collect();
    wanted.sort_unstable();
    wait_for(&format!("{wanted:?} of request {id}"), SOON, || {
        let logged = logged(cluster, id);
        let message = |line: &Value| line["message"].as_str().unwrap_or_default().to_owned();
        let mut steps: Vec<Vec<String>> =
            logged.iter().map(|lines| lines.iter().map(message).collect()).collect();
        steps.sort_unstable();
        if steps == wanted { Ok(logged) } else { Err(format!("{steps:?}")) }
    })
}

const REPLICA: [&str; 4] =
    ["appended to the log of a replica", "on this disk", "acknowledged to its coordinator", "applied"];

#[test]
fn a_request_is_found_in_the_logs_of_all_copies() {
    let cluster = Settings::default().server_args(&["--log-format", "json"]).start(3);
    let put = cluster.kvclient(0, &["--trace", "--output", "json", "put", "k", "v"]);
    let id = printed_id(&put);
    let answer: Value = serde_json::from_slice(&put.stdout).expect("JSON");
    let by_server = wait_for("the write in three logs", SOON, || {
        let logged = logged(&cluster, &id);
        let applied = |lines: &Vec<Value>| lines.iter().any(|line| line["message"] == "applied");
        if logged.iter().all(applied) { Ok(logged) } else { Err(format!("{logged:?}")) }
    });
    let steps = |lines: &[Value]| -> Vec<String> {
        lines.iter().map(|line| line["message"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let (coordinator, replicas): (Vec<_>, Vec<_>) =
        by_server.into_iter().partition(|lines| lines[0]["message"] == "received");
    assert_eq!((coordinator.len(), replicas.len()), (1, 2));
    for lines in &replicas {
        assert_eq!(steps(lines), REPLICA);
    }
    // The disk here and the two there are in no order.
    let lines = &coordinator[0];
    let steps = steps(lines);
    assert_eq!(
        (&steps[..2], &steps[5..]),
        (&["received", "ordered"].map(String::from)[..], &["applied", "answered"].map(String::from)[..])
    );
    let mut between = steps[2..5].to_vec();
    between.sort_unstable();
    assert_eq!(between, ["acknowledged by a replica", "acknowledged by a replica", "on this disk"]);
    // Both replicas are named, one version is all that was written, and times go on.
    let names: std::collections::BTreeSet<String> =
        lines.iter().filter_map(|line| line["server"].as_str().map(str::to_owned)).collect();
    assert_eq!(names.len(), 2, "{lines:?}");
    assert_eq!(lines[1]["version"], answer["version"]);
    assert!(replicas.iter().all(|lines| lines[0]["version"] == answer["version"]));
    let times: Vec<u64> = lines.iter().filter_map(|line| line["after_us"].as_u64()).collect();
    assert!(times.len() == lines.len() && times.is_sorted(), "{times:?}");
    assert!(times[6] <= answer["micros"].as_u64().expect("micros"), "{times:?}, {answer}");

    // A read asks the coordinator alone; and what is not traced is not logged.
    let id = printed_id(&cluster.kvclient(1, &["--trace", "get", "k"]));
    wait_logged(&cluster, &id, &[&["received", "reads its records", "answered"], &[], &[]]);
    let before: usize = (0..3).map(|index| cluster.server(index).log().matches("\"request\":").count()).sum();
    let plain = cluster.kvclient(0, &["put", "k", "w"]);
    assert!(plain.status.success() && plain.stderr.is_empty(), "{plain:?}");
    let id = printed_id(&cluster.kvclient(1, &["--trace", "get", "k"]));
    wait_logged(&cluster, &id, &[&["received", "reads its records", "answered"], &[], &[]]);
    let after: usize = (0..3).map(|index| cluster.server(index).log().matches("\"request\":").count()).sum();
    assert_eq!(after, before + 3);
}
