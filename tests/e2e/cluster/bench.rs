//! `kvclient bench` against real servers.

use crate::support::Cluster;

/// All workloads, in both loops, on the same keys: nothing fails, nothing that was put first is missing, and the values
/// are there afterwards.
#[test]
fn every_workload_in_both_loops() {
    let cluster = Cluster::start(3);
    for workload in ["a", "b", "c", "d", "e", "f"] {
        for pace in [["--pipeline", "4"], ["--rate", "2000"]] {
            let mut words = vec!["bench", "--workload", workload, "--requests", "400", "--keys", "200"];
            words.extend(pace);
            // Both ways to ask for it.
            match pace[0] {
                "--rate" => words.push("--json"),
                _ => _ = words.splice(..0, ["--output", "json"]),
            }
            let output = cluster.kvclient(0, &words);
            assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(output.stderr, b"", "it is silent in a pipe");
            let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
            let count = |field: &str| report[field].as_u64();
            assert_eq!(
                [count("ops"), count("errors"), count("misses"), count("not_begun")],
                [Some(400), Some(0), Some(0), Some(0)],
                "{words:?}: {report}"
            );
            assert_eq!(count("scanned") > Some(0), workload == "e", "{words:?}");
        }
    }
    assert_eq!(cluster.client().found("bench:0000000199").expect("a key that was put").value.len(), 100);
}
