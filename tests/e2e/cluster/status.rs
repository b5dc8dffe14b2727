//! What the status says is true, and scripts can rely on it: its words, its exit codes, and `admin wait`.

use std::net::SocketAddr;
use std::process::Output;

use common::status::ClusterStatus;
use common::view::ServerState;
use rustix::process::Signal;

use crate::support::cluster::kvclient;
use crate::support::wait::SOON;
use crate::support::{Cluster, Settings, http, wait_for};

/// Longer than anything takes that is waited for.
const LONG: &str = "120s";

fn text(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// `kvclient status` at a server: its first line.
#[track_caller]
fn first_line(server: SocketAddr, code: i32) -> String {
    let (exit, out, err) = text(&kvclient(server, &["status"]));
    assert_eq!(exit, Some(code), "{out}{err}");
    out.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn a_cluster_is_healthy_with_the_copies_that_it_wants_and_scripts_can_wait_for_it() {
    let mut cluster = Cluster::start(2);
    let server = cluster.address(0);
    let few = "DEGRADED: 2 of 3 copies, as there are 2 servers; add one";
    assert_eq!(first_line(server, 1), few);
    let (code, out, err) = text(&kvclient(server, &["admin", "wait", "--healthy", "--timeout", "500ms"]));
    assert!(code == Some(1) && out.is_empty() && err.contains(few), "{code:?} {out}{err}");
    let (code, _, err) = text(&kvclient(server, &["admin", "wait", "--servers", "3", "--timeout", "500ms"]));
    assert!(code == Some(1) && err.contains("2 of 3 servers are up"), "{code:?} {err}");
    let args = ["admin", "wait", "--servers", "2", "--timeout", LONG];
    assert_eq!(text(&kvclient(server, &args)).0, Some(0), "it is so already");

    // It ends when all copies are there, and not before.
    let args = ["admin", "wait", "--servers", "3", "--healthy", "--timeout", LONG, "--json"];
    let waiting = std::thread::spawn(move || kvclient(server, &args));
    cluster.add_server();
    let (code, out, err) = text(&waiting.join().expect("kvclient runs"));
    assert_eq!(code, Some(0), "{out}{err}");
    let answer: serde_json::Value = serde_json::from_str(&out).expect("an answer");
    assert_eq!((&answer["healthy"], &answer["servers_up"]), (&true.into(), &3.into()), "{answer}");
    let status = cluster.status().expect("the ECS answers");
    assert!(status.healthy && status.under_replicated == 0, "{status:?}");
    let healthy = first_line(server, 0);
    assert!(healthy.starts_with("healthy, epoch ") && healthy.contains(", 3 servers, "), "{healthy}");

    // What an operator does knowingly succeeds, is warned of, and is no healthy cluster.
    let leaving = cluster.address(2).to_string();
    let (code, out, err) = text(&cluster.kvclient(0, &["admin", "drain", &leaving]));
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.starts_with("OK: ") && err.contains("have fewer copies"), "{out}{err}");
    assert_eq!(first_line(server, 1), few);
    let (code, out, _) = text(&cluster.kvclient(0, &["admin", "cancel"]));
    assert_eq!((code, out.as_str()), (Some(0), "OK: nothing is under way\n"));

    cluster.lose_ecs();
    assert!(first_line(server, 1).starts_with("ECS DOWN: "));
    // Another cluster's ECS at its place.
    cluster.start_ecs();
    let line = wait_for("the servers' ECS is missed", SOON, || {
        let (_, out, err) = text(&cluster.kvclient(0, &["status"]));
        if out.starts_with("OTHER ECS: ") { Ok(out) } else { Err(out + &err) }
    });
    assert!(line.contains(&format!("--rebuild {}", status.cluster)), "{line}");
    let named = wait_for("the new ECS names them", SOON, || {
        let status = cluster.status()?;
        let left_out = status.conditions.iter().find(|condition| condition.name == "left_out");
        left_out.cloned().ok_or(status.verdict)
    });
    assert!(named.what.contains(&status.cluster.to_string()), "{named:?}");
}

#[test]
fn one_copy_by_choice_is_healthy() {
    let settings = Settings::default().ecs_args(&["--copies", "1"]);
    let cluster = settings.start(1);
    let line = wait_for("it is healthy", SOON, || {
        let (code, out, err) = text(&cluster.kvclient(0, &["status"]));
        if code == Some(0) { Ok(out) } else { Err(out + &err) }
    });
    assert!(line.contains(", 1 server, 64 partitions, 1 copy, survives 0 more failures\n"), "{line}");
    assert_eq!(http::get(cluster.ecs_address(), "/readyz").expect("the ECS answers").0, 200);
}

fn find<'a>(status: &'a ClusterStatus, address: &str) -> Option<&'a common::status::MemberStatus> {
    status.servers.iter().find(|server| server.address == address)
}

/// Before the server holds anything again: copies are held meanwhile.
#[test]
fn a_server_that_was_drained_and_started_again_comes_back_from_a_pause() {
    let mut cluster = Settings { same_ports: true, ..Settings::default() }.start(4);
    let address = cluster.address(3).to_string();
    let (code, out, err) = text(&cluster.kvclient(0, &["admin", "drain", &address]));
    assert_eq!(code, Some(0), "{out}{err}");
    cluster.kill_server(3);
    assert_eq!(text(&cluster.kvclient(0, &["admin", "pause"])).0, Some(0));
    cluster.start_server(3);
    let listed = |state: Option<ServerState>| {
        wait_for(&format!("it is {state:?}"), SOON, || {
            let status = cluster.status()?;
            let now = find(&status, &address).map(|server| server.state);
            if now == state { Ok(()) } else { Err(format!("{status:?}")) }
        });
    };
    listed(Some(ServerState::Up));
    cluster.server(3).signal(Signal::STOP);
    listed(None);
    cluster.server(3).signal(Signal::CONT);
    listed(Some(ServerState::Up));
    assert_eq!(text(&cluster.kvclient(0, &["admin", "resume"])).0, Some(0));
    let settled = cluster.wait_settled();
    assert!(find(&settled, &address).is_some_and(|server| server.coordinator > 0), "{settled:?}");
}
