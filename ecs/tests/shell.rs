//! The ECS with its sockets and its disk: servers played by the test, on free ports.

mod support;
mod shell {
    mod admin;
    mod status;
}

use std::net::SocketAddr;

use bytes::BytesMut;
use common::codec::Wire;
use common::frame::{PREFACE, write_frame};
use common::ids::{ClusterId, Epoch};
use common::messages::{ClientMessage, Hello, Reply, Request, ServerMessage, ServerReport};
use common::status::ClusterStatus;
use common::view::View;
use ecs::{Error, Opened};
use serde_json::json;
use support::{PATIENCE, TestEcs, TestServer, frame, greeting, options};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

fn everywhere_in_sync(view: &View, copies: usize) -> bool {
    !view.assignments.is_empty() && view.assignments.iter().all(|now| now.in_sync.len() == copies)
}

/// Two servers, the second one's copies in sync. Each gets views over its own link.
async fn pair(ecs: &TestEcs) -> (TestServer, TestServer, View) {
    let (mut first, mut second) = (TestServer::new(1).await, TestServer::new(2).await);
    first.hello(ecs, None).await;
    let view = first.view().await;
    assert_eq!(view.number, Epoch { generation: 0, version: 1 });
    assert!(everywhere_in_sync(&view, 1));
    second.hello(ecs, Some(ecs.cluster)).await;
    let mut view = first.view_where(|view| view.servers.len() == 2).await;
    while !everywhere_in_sync(&view, 2) {
        first.propose_all(&view).await;
        second.propose_all(&view).await;
        first.heartbeat(&view).await;
        second.heartbeat(&view).await;
        view = first.view().await;
    }
    let view = second.view_where(|other| other.number >= view.number).await;
    (first, second, view)
}

#[tokio::test]
async fn a_hello_is_answered_with_a_view_on_a_link_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let ecs = TestEcs::start(dir.path(), &["--partitions", "8"]).await;
    let (_first, _second, view) = pair(&ecs).await;
    assert_eq!(view.cluster, ecs.cluster);
    ecs.stop().await;
}

#[tokio::test]
async fn after_a_restart_it_is_the_same_cluster_and_the_view_is_pushed_again() {
    let dir = tempfile::tempdir().unwrap();
    let ecs = TestEcs::start(dir.path(), &["--partitions", "8"]).await;
    let (mut first, _second, _) = pair(&ecs).await;
    let (cluster, view) = (ecs.cluster, ecs.get("/api/v1/view").await);
    ecs.stop().await;

    let ecs = TestEcs::start(dir.path(), &["--partitions", "8"]).await;
    assert_eq!(ecs.cluster, cluster);
    // No server has said anything yet: the ECS comes by itself.
    let number: Epoch = serde_json::from_value(view["number"].clone()).unwrap();
    let again = first.view_where(|view| view.number >= number).await;
    assert_eq!(serde_json::to_value(&again).unwrap(), ecs.get("/api/v1/view").await);
    ecs.stop().await;

    let other = Opened::open(&options(dir.path(), &["--partitions", "16"])).unwrap_err();
    assert!(other.to_string().contains("8 partitions and --partitions says 16"), "{other}");
}

#[tokio::test]
async fn a_server_with_an_old_view_gets_the_new_one_again() {
    let dir = tempfile::tempdir().unwrap();
    let ecs = TestEcs::start(dir.path(), &["--partitions", "1"]).await;
    let mut server = TestServer::new(1).await;
    server.hello(&ecs, None).await;
    let view = server.view().await;
    let old = View::new(view.cluster, Epoch::default(), view.partitions);
    // A heartbeat too soon after the last push brings nothing; one of the next does.
    let again = loop {
        server.heartbeat(&old).await;
        if let Ok(view) = timeout(std::time::Duration::from_millis(100), server.view()).await {
            break view;
        }
    };
    assert_eq!(again.number, view.number);
    ecs.stop().await;
}

#[tokio::test]
async fn a_link_that_ends_and_stays_away_makes_its_server_down() {
    let dir = tempfile::tempdir().unwrap();
    let ecs = TestEcs::start(dir.path(), &["--partitions", "4"]).await;
    let (mut first, second, mut view) = pair(&ecs).await;
    let gone = second.sender.server;
    drop(second);
    while !everywhere_in_sync(&view, 1) {
        first.heartbeat(&view).await;
        if let Ok(newer) = timeout(std::time::Duration::from_millis(50), first.view()).await {
            view = newer;
        }
    }
    assert!(view.assignments.iter().all(|now| now.coordinator == first.sender.server), "{view:?}");
    let events = ecs.get("/api/v1/events").await;
    let last = events["events"].as_array().unwrap().iter().rev().find(|event| {
        event["causes"].as_array().unwrap().iter().any(|cause| cause["server"] == gone.to_string())
    });
    let text = last.unwrap()["text"].as_str().unwrap();
    assert!(text.contains("is down") || text.contains("lost its in-sync copies"), "{text}");
    ecs.stop().await;
}

#[tokio::test]
async fn reports_of_a_later_version_are_skipped_and_the_link_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let ecs = TestEcs::start(dir.path(), &["--partitions", "1"]).await;
    let mut server = TestServer::new(1).await;
    server.hello(&ecs, None).await;
    let view = server.view().await;
    server.say_json(&json!({ "report": "weather", "sky": { "clouds": [1, 2] } })).await;
    // A known report with a field more is taken; it comes after the other one on the same link.
    let number = serde_json::to_value(view.number).unwrap();
    server
        .say_json(&json!({
            "report": "heartbeat", "view": number, "copies": [], "requests": 1, "keys": 4711,
            "bytes": 2, "free_bytes": 3,
            "temperature": 20
        }))
        .await;
    let reported = async {
        loop {
            let status = ecs.get("/api/v1/status").await;
            if status["servers"][0]["keys"] == 4711 {
                return status;
            }
        }
    };
    let status = timeout(PATIENCE, reported).await.expect("the heartbeat is taken");
    assert_eq!(status["servers"][0]["state"], "up");
    ecs.stop().await;
}

#[tokio::test]
async fn reports_of_another_cluster_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ecs = TestEcs::start(dir.path(), &[]).await;
    let mut stranger = TestServer::new(1).await;
    stranger.hello(&ecs, Some(ClusterId(77))).await;
    assert!(stranger.report_link_ends().await);
    assert_eq!(ecs.get("/api/v1/servers").await["servers"].as_array().unwrap().len(), 0);
    ecs.stop().await;
}

/// A server that has a view belongs to a cluster, and says so.
#[tokio::test]
async fn a_view_of_no_cluster_is_refused_and_a_strangers_makes_no_ecs_behind() {
    let dir = tempfile::tempdir().unwrap();
    let ecs = TestEcs::start(dir.path(), &[]).await;
    let mut server = TestServer::new(1).await;
    server.hello(&ecs, None).await;
    server.view().await;
    for cluster in [None, Some(ecs.cluster)] {
        let mut stranger = TestServer::new(2).await;
        stranger.open_report_link(&ecs, cluster).await;
        let view = Epoch { generation: 0, version: 900 };
        let address = stranger.address();
        let hello = ServerReport::Hello { address, weight: 1, view, rebuild: None, tails: Vec::new() };
        stranger.say(&hello).await;
        if cluster.is_none() {
            assert!(stranger.report_link_ends().await);
        }
    }
    // A view is still made.
    let mut second = TestServer::new(3).await;
    second.hello(&ecs, None).await;
    let view = second.view().await;
    assert_eq!(view.servers.len(), 2);
    ecs.stop().await;
}

#[tokio::test]
async fn junk_on_the_port_harms_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let ecs = TestEcs::start(dir.path(), &[]).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(ecs.address).await.unwrap());
    }
    let mut giant = PREFACE.to_vec();
    giant.extend_from_slice(&[0xff; 64]);
    let mut damaged = greeting(&Hello::Client {});
    damaged[14] ^= 1;
    let mut nonsense = greeting(&Hello::Client {});
    write_frame(&mut nonsense, |out| out.extend_from_slice(&[9; 40]));
    let mut no_json = PREFACE.to_vec();
    write_frame(&mut no_json, |out| out.extend_from_slice(b"{]"));
    let wrong_link = greeting(&Hello::Views { cluster: ecs.cluster, to: common::ids::ServerId(1) });
    let http = b"\x00\x01\x02 nonsense\r\n\r\n".to_vec();
    let mut other_version = PREFACE.to_vec();
    other_version[3] = b'9';
    for junk in [giant, damaged, nonsense, no_json, wrong_link, http, other_version] {
        assert!(ends_after(ecs.address, &junk).await, "{junk:?}");
    }
    assert_eq!(ecs.get("/healthz").await["status"], "ok");
    ecs.stop().await;
}

/// The ECS closes the connection after these bytes.
async fn ends_after(address: SocketAddr, bytes: &[u8]) -> bool {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut rest = Vec::new();
    let _ = timeout(support::PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
    true
}

#[tokio::test]
async fn clients_ask_for_status_and_view_over_the_binary_link() {
    let dir = tempfile::tempdir().unwrap();
    let ecs = TestEcs::start(dir.path(), &["--partitions", "4"]).await;
    let mut stream = TcpStream::connect(ecs.address).await.unwrap();
    let mut bytes = greeting(&Hello::Client {});
    let get = Request::Get { key: "k".into() };
    write_frame(&mut bytes, |out| {
        for (id, request) in [(1, Request::Status {}), (2, Request::View {}), (3, get)] {
            ClientMessage { id, request }.write(out);
        }
    });
    stream.write_all(&bytes).await.unwrap();
    let mut input = BytesMut::new();
    let mut replies = Vec::new();
    while replies.len() < 3 {
        let mut frame = frame(&mut stream, &mut input).await.unwrap();
        while !frame.is_empty() {
            replies.push(ServerMessage::read(&mut frame).unwrap());
        }
    }
    let [Reply::Status { json }, Reply::View { json: view }, Reply::Refused { reason }] =
        [0, 1, 2].map(|index| replies[index].reply.clone())
    else {
        panic!("{replies:?}")
    };
    assert_eq!(serde_json::from_slice::<ClusterStatus>(&json).unwrap().cluster, ecs.cluster);
    assert_eq!(serde_json::from_slice::<View>(&view).unwrap().cluster, ecs.cluster);
    assert!(reason.contains("ask a server"), "{reason}");
    ecs.stop().await;
}

#[tokio::test]
async fn http_says_how_the_cluster_does() {
    let dir = tempfile::tempdir().unwrap();
    let ecs = TestEcs::start(dir.path(), &["--partitions", "4"]).await;
    let (first, second, _) = pair(&ecs).await;
    let (status, page) = ecs.http("GET", "/", "").await;
    assert!(status == 200 && page.contains("/api/v1/status"), "{page}");

    let status = loop {
        let status: ClusterStatus = serde_json::from_value(ecs.get("/api/v1/status").await).unwrap();
        // The last heartbeats may still be on their way.
        if status.servers.iter().all(|server| server.keys == 7) {
            break status;
        }
    };
    assert_eq!((status.partitions, status.servers.len(), status.under_replicated), (4, 2, 4));
    let id = first.sender.server.to_string();
    let one = ecs.get(&format!("/api/v1/servers/{}", &id[..8])).await;
    assert_eq!((one["server"].as_str(), one["partitions"].as_array().unwrap().len()), (Some(&*id), 4));
    assert_eq!(one["address"], first.address());
    let partitions = ecs.get("/api/v1/partitions").await;
    assert_eq!(partitions["partitions"][3]["last"], "f".repeat(32));
    let events = ecs.get("/api/v1/events").await;
    assert!(events["events"][0]["text"].as_str().unwrap().contains("joined"), "{events}");

    for (method, path, expected) in [
        ("GET", "/nothing", 404),
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/api/v1/servers/ffff", 404),
        ("GET", "/api/v1/servers/0000", 400),
        ("DELETE", "/api/v1/view", 405),
        ("POST", "/api/v1/servers/ffff/drain", 404),
    ] {
        let (status, body) = ecs.http(method, path, "Content-Type: application/json\r\n").await;
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status, expected, "{method} {path}: {body}");
        assert!(body["error"].is_string() && body["hint"].is_string(), "{body}");
    }
    drop(second);
    ecs.stop().await;
}

#[tokio::test]
async fn a_drained_server_is_told_that_it_is_out() {
    let dir = tempfile::tempdir().unwrap();
    let ecs = TestEcs::start(dir.path(), &["--partitions", "4"]).await;
    let mut first = TestServer::new(1).await;
    first.hello(&ecs, None).await;
    let id = first.sender.server;
    first.view().await;
    let drain = format!("/api/v1/servers/{id}/drain");
    assert_eq!(ecs.post(&drain, &json!({})).await.0, 409, "no server could take its copies");
    let mut second = TestServer::new(2).await;
    second.hello(&ecs, None).await;
    let mut view = first.view_where(|view| view.servers.len() == 2).await;
    assert_eq!(ecs.post(&drain, &json!({})).await.0, 202);
    while view.servers.contains_key(&id) {
        first.propose_all(&view).await;
        first.heartbeat(&view).await;
        second.heartbeat(&view).await;
        if let Ok(newer) = timeout(std::time::Duration::from_millis(50), first.view()).await {
            view = newer;
        }
    }
    assert!(view.assignments.iter().all(|now| now.coordinator == second.sender.server), "{view:?}");
    ecs.stop().await;
}

#[tokio::test]
async fn a_directory_serves_one_ecs_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let ecs = TestEcs::start(dir.path(), &[]).await;
    assert!(matches!(Opened::open(&options(dir.path(), &[])), Err(Error::InUse { .. })));
    ecs.stop().await;
    assert!(Opened::open(&options(dir.path(), &[])).is_ok(), "it is free again");
}

#[tokio::test]
async fn a_disk_that_fails_stops_it_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let opened = Opened::open(&options(dir.path(), &["--partitions", "1"])).unwrap();
    // A folder where the journal's unfinished file is to be: no write can succeed.
    std::fs::create_dir(dir.path().join("state.tmp")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(opened.serve(listener, std::future::pending()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let server = TestServer::new(1).await;
    let mut bytes = greeting(&Hello::Report { cluster: None, sender: server.sender });
    let hello = ServerReport::Hello {
        address: server.address(),
        weight: 1,
        view: Epoch::default(),
        rebuild: None,
        tails: Vec::new(),
    };
    write_frame(&mut bytes, |out| serde_json::to_writer(out, &hello).unwrap());
    stream.write_all(&bytes).await.unwrap();
    let error = timeout(support::PATIENCE, serving).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(error, Error::Persist { .. }), "{error}");
}
