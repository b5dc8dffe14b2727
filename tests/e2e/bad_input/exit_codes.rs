//! The exit codes of `kvclient`.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Output;

use rustix::process::Signal;

use crate::support::cluster::kvclient;
use crate::support::process::free_port;
use crate::support::{Cluster, Settings};

fn assert_code(output: &Output, code: i32, words: &str) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(words), "it does not say {words}: {text}");
}

#[test]
fn each_outcome_has_its_code() {
    let cluster = Cluster::start(1);
    let run = |args: &[&str]| cluster.kvclient(0, args);
    assert_code(&run(&["put", "k", "v"]), 0, "");
    assert_code(&run(&["get", "k"]), 0, "");
    assert_code(&run(&["get", "missing"]), 1, "no value for `missing`");
    assert_code(&run(&["delete", "missing"]), 1, "no value for `missing`");
    assert_code(&run(&["frobnicate"]), 2, "unknown command `frobnicate`");
    assert_code(&run(&["put", &"k".repeat(1025), "v"]), 2, "1025 bytes; the limit is 1024");
    assert_code(&run(&["import", "/no/such/file"]), 2, "/no/such/file");
    assert_code(&run(&["put", "k", "w", "--if-absent"]), 3, "nothing was changed");
    assert_code(&run(&["cas", "k", "--value", "other", "new"]), 3, "nothing was changed");
    assert_code(&run(&["cas", "missing", "--value", "other", "new"]), 3, "there is no value");
}

#[test]
fn no_cluster() {
    let unused = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let output = kvclient(unused, &["--timeout", "500ms", "put", "k", "v"]);
    assert_code(&output, 4, "nothing was changed");
    // Something listens, but it is no server of ours.
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let output = kvclient(listener.local_addr().unwrap(), &["--timeout", "500ms", "get", "k"]);
    assert_code(&output, 4, "nothing was changed");
}

#[test]
fn an_unknown_outcome() {
    let settings = Settings { timers: "steady", ..Settings::default() };
    let cluster = settings.start(3);
    let db = cluster.client();
    let view = db.client.view();
    let own = |key: &String| {
        let assignment = view.assignment(view.partitions.of_key(key.as_bytes())).expect("all are assigned");
        view.servers[&assignment.coordinator].address == cluster.address(0).to_string()
    };
    let key = (0..).map(|i| format!("k{i}")).find(own).expect("it coordinates something");
    // The replicas stand still: the coordinator has the write, but may not say that it is done.
    [1, 2].into_iter().for_each(|server| cluster.server(server).signal(Signal::STOP));
    let output = cluster.kvclient(0, &["--timeout", "1s", "put", &key, "perhaps"]);
    [1, 2].into_iter().for_each(|server| cluster.server(server).signal(Signal::CONT));
    assert_code(&output, 5, "Read the key before you write it again");
    db.put("and the cluster", "goes on");
    assert!(matches!(db.get(key).as_deref(), None | Some("perhaps")));
}
