//! Too many connections, silent ones, slow ones.

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;

use common::frame::{PREFACE, write_frame};
use common::messages::Hello;
use skipped::{Missing, skip};

use crate::support::wait::SOON;
use crate::support::{Cluster, Settings, TextClient, db, http, wait_until};

/// Connections that are opened and never used. Each has two ends, and the tests share the machine's limit.
const SILENT: usize = 3000;

/// Files that the small server may open.
const FILES: &str = "400";

#[test]
fn thousands_of_silent_connections() {
    let cluster = Cluster::start(1);
    let mut silent = Vec::new();
    for i in 0..SILENT {
        match TcpStream::connect(cluster.address(0)) {
            Ok(stream) => silent.push(stream),
            Err(error) => {
                skip!(Missing::Files, "after {i} connections: {error}");
                break;
            }
        }
        if i % 500 == 0 {
            assert_eq!(TextClient::connect(cluster.address(0)).ask("PING"), "+PONG");
        }
    }
    let mut client = TextClient::connect(cluster.address(0));
    assert_eq!(client.ask("put k v"), "put_success k");
    drop(silent);
    assert_eq!(client.ask("get k"), "get_success k v");
}

#[test]
fn more_connections_than_are_allowed() {
    let cluster = Settings::default().server_args(&["--max-connections", "10"]).start(1);
    let mut clients = Vec::new();
    let refusal = loop {
        let mut client = TextClient::connect(cluster.address(0));
        match client.ask("PING").as_str() {
            "+PONG" => clients.push(client),
            other => break other.to_owned(),
        }
        assert!(clients.len() <= 10);
    };
    assert!(refusal.contains("too many connections") && refusal.contains("--max-connections"), "{refusal}");
    assert!(
        clients.iter_mut().all(|client| client.ask("PING") == "+PONG"),
        "those that were there are served"
    );
    assert!(clients.len() >= 8, "the ECS and itself take a few, not {}", 10 - clients.len());
    clients.clear();
    wait_until("there is room again", SOON, || {
        TextClient::connect(cluster.address(0)).try_ask("PING").is_ok_and(|reply| reply == "+PONG")
    });
}

#[test]
fn clients_do_not_keep_servers_from_each_other() {
    let mut cluster = Settings::default().server_args(&["--max-connections", "10"]).start(3);
    let silent: Vec<_> = cluster
        .addresses()
        .iter()
        .flat_map(|&address| (0..100).map(move |_| TcpStream::connect(address)))
        .collect::<Result<_, _>>()
        .expect("the system takes them");
    // New links between servers and from the ECS are needed now, and are made.
    cluster.kill_server(1);
    cluster.start_server(1);
    cluster.wait_settled();
    let all = db::pairs("key/", 100);
    let db = db::Db::connect(&[cluster.address(1).to_string()]);
    drop(silent);
    db.put_many(&all);
    assert_eq!(db.scan("key/"), all);
}

#[test]
fn connections_that_say_nothing_make_room_for_those_that_do() {
    let cluster = Settings::default().server_args(&["--max-connections", "10"]).start(1);
    let silent: Vec<TcpStream> =
        (0..100).map_while(|_| TcpStream::connect(cluster.address(0)).ok()).collect();
    let mut clients = Vec::new();
    wait_until("clients have the places of silent connections", SOON, || {
        let mut client = TextClient::connect(cluster.address(0));
        if client.try_ask("PING").is_ok_and(|reply| reply == "+PONG") {
            clients.push(client);
        }
        clients.len() == 5
    });
    assert!(
        clients.iter_mut().all(|client| client.ask("PING") == "+PONG"),
        "clients that send requests stay connected"
    );
    drop(silent);
}

/// Links of clients to the ECS that say what they are, and then nothing more.
fn idle_at_ecs(cluster: &Cluster, count: usize) -> Vec<TcpStream> {
    let mut hello = PREFACE.to_vec();
    let json = serde_json::to_vec(&Hello::Client {}).expect("JSON");
    write_frame(&mut hello, |payload| payload.extend_from_slice(&json));
    let connect = |_| {
        let mut stream = TcpStream::connect(cluster.ecs_address()).ok()?;
        stream.write_all(&hello).ok()?;
        Some(stream)
    };
    (0..count).map_while(connect).collect()
}

#[test]
fn idle_links_keep_no_other_out_of_the_ecs() {
    if Command::new("prlimit").arg("--version").output().is_err() {
        skip!(Missing::Prlimit);
        return;
    }
    // So few files that a few hundred links are too many.
    let limit = "--nofile=400:400".to_owned();
    let mut cluster = Settings { under: vec!["prlimit".into(), limit], ..Settings::default() }.start(2);
    let idle = idle_at_ecs(&cluster, 1000);
    assert_eq!(idle.len(), 1000, "all of them are taken, and older ones are closed");
    assert!(http::status(cluster.ecs_address()).is_ok());
    // Answered, whatever it says of two servers where three copies are wanted.
    let output = cluster.kvclient(0, &["status"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("2 servers"), "{output:?}");
    // A server that was away reports again, and is in the view with its share.
    cluster.kill_server(1);
    cluster.start_server(1);
    cluster.wait_settled();
    drop(idle);
}

#[test]
fn fewer_files_than_connections() {
    // Connections must never take the files that the store needs: a store that cannot open one stops.
    if Command::new("prlimit").arg("--version").output().is_err() {
        skip!(Missing::Prlimit);
        return;
    }
    let limit = format!("--nofile={FILES}:{FILES}");
    let cluster = Settings { under: vec!["prlimit".into(), limit], ..Settings::default() }.start(1);
    let silent: Vec<TcpStream> =
        (0..600).map_while(|_| TcpStream::connect(cluster.address(0)).ok()).collect();
    let silent_at_ecs: Vec<TcpStream> =
        (0..600).map_while(|_| TcpStream::connect(cluster.ecs_address()).ok()).collect();
    println!("{} and {} connections", silent.len(), silent_at_ecs.len());
    // It takes the place of a silent connection, or gets an error that there is no room.
    let reply = TextClient::connect(cluster.address(0)).try_ask("PING");
    assert!(reply.as_ref().is_ok_and(|reply| reply == "+PONG" || reply.contains("too many")), "{reply:?}");
    drop(silent_at_ecs);
    drop(silent);
    wait_until("there is room again", SOON, || {
        TextClient::connect(cluster.address(0)).try_ask("PING").is_ok_and(|reply| reply == "+PONG")
    });
    let db = cluster.client();
    for i in 0..500 {
        db.put(format!("k{i}"), "v");
    }
    assert!(http::status(cluster.ecs_address()).is_ok());
    let log = cluster.server(0).log();
    assert!(log.lines().count() < 30, "the log is filled: {} lines", log.lines().count());
}
