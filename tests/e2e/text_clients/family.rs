//! The family's Java client and its acceptance run.

use std::path::Path;
use std::process::Command;

use skipped::{Missing, skip};

use crate::support::process::free_port;
use crate::support::{Cluster, Settings};

/// Keys of the acceptance workload; the client's own number would take longer than a test should.
const KEYS: &str = "300";

/// Runs the client against all servers of a cluster.
fn java(options: &[&str], phase: &str, servers: &[String]) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/text_clients/java/FamilyClient.java");
    let output = Command::new("java")
        .arg(source)
        .args(options)
        .args(["--keys", KEYS, phase])
        .args(servers)
        .output()
        .expect("java runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{phase}: {}{}", text(&output.stdout), text(&output.stderr));
    print!("{}", text(&output.stdout));
}

fn has_java() -> bool {
    let has = Command::new("java").arg("-version").output().is_ok_and(|output| output.status.success());
    if !has {
        skip!(Missing::Java);
    }
    has
}

#[test]
fn the_whole_workload() {
    if has_java() {
        let cluster = Cluster::start(3);
        java(&[], "all", &cluster.seeds());
    }
}

#[test]
fn the_workload_over_changes() {
    if !has_java() {
        return;
    }
    let mut cluster = Cluster::start(2);
    java(&[], "write", &cluster.seeds());
    for _ in 0..2 {
        cluster.add_server();
        java(&[], "verify", &cluster.seeds());
    }
    assert!(cluster.terminate_server(0).success());
    cluster.kill_server(1);
    java(&[], "verify", &cluster.seeds());
}

#[test]
fn a_client_that_waits_for_a_greeting() {
    if has_java() {
        let port = free_port().to_string();
        let _cluster = Settings::default().server_args(&["--text-port", &port, "--greeting"]).start(1);
        java(&["--greeting"], "dialects", &[format!("127.0.0.1:{port}")]);
    }
}
