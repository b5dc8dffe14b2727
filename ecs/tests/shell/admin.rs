//! What operators change over HTTP, with real sockets and a disk.

use serde_json::json;

use crate::support::{TestEcs, TestServer, options};

#[tokio::test]
async fn settings_are_kept_with_the_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let ecs = TestEcs::start(dir.path(), &["--min-copies", "2"]).await;
    assert_eq!(ecs.get("/api/v1/settings").await["min_copies"], 2);
    for wrong in [json!({"min_copies": 0}), json!({"min_copies": 4}), json!({"copies": 1}), json!([])] {
        let (status, answer) = ecs.post("/api/v1/settings", &wrong).await;
        assert_eq!(status, 400, "{wrong}: {answer}");
        assert!(answer["hint"].is_string(), "{answer}");
    }
    assert_eq!(ecs.post("/api/v1/settings", &json!({"min_copies": 3})).await.0, 200);
    // The next view has it, and it is on disk before that view is published.
    let mut server = TestServer::new(1).await;
    server.hello(&ecs, None).await;
    server.view_where(|view| view.servers.len() == 1).await;
    ecs.stop().await;

    let ecs = TestEcs::start(dir.path(), &[]).await;
    assert_eq!(ecs.get("/api/v1/settings").await["min_copies"], 3);
    ecs.stop().await;
    let error = ecs::Opened::open(&options(dir.path(), &["--copies", "2"])).unwrap_err();
    assert!(error.to_string().contains("more than the 2 copies"), "{error}");
}

#[tokio::test]
async fn only_a_partition_that_is_offline_can_be_forced() {
    let dir = tempfile::tempdir().unwrap();
    let ecs = TestEcs::start(dir.path(), &["--partitions", "1", "--copies", "1"]).await;
    let mut first = TestServer::new(1).await;
    first.hello(&ecs, None).await;
    first.view().await;
    let mut second = TestServer::new(2).await;
    second.hello(&ecs, None).await;
    let mut view = second.view_where(|view| view.servers.len() == 2).await;
    let (path, accepted) = ("/api/v1/partitions/0/recover", json!({"accept_loss": true}));
    assert_eq!(ecs.post("/api/v1/partitions/1/recover", &accepted).await.0, 404);
    assert_eq!(ecs.post("/api/v1/partitions/x/recover", &accepted).await.0, 404);
    assert_eq!(ecs.post(path, &accepted).await.0, 409, "it is served");
    first.say(&common::messages::ServerReport::StoreFailed { reason: "fsync".to_owned() }).await;
    while ecs.get("/api/v1/status").await["offline"] == 0 {
        second.heartbeat(&view).await;
    }
    let (status, answer) = ecs.post(path, &json!({})).await;
    assert!(status == 400 && answer["hint"].as_str().unwrap().contains("accept_loss"), "{answer}");
    let lost = json!({"accept_loss": true, "server": first.sender.server.to_string()});
    assert_eq!(ecs.post(path, &lost).await.0, 409, "it is not up");
    let (status, answer) = ecs.post(path, &accepted).await;
    assert_eq!((status, &answer["server"]), (202, &json!(second.sender.server)), "{answer}");
    while view.forced.is_empty() {
        second.heartbeat(&view).await;
        view = second.view().await;
    }
    assert_eq!(view.assignments[0].coordinator, second.sender.server);
    assert_eq!(ecs.get("/api/v1/status").await["offline"], 0);
    ecs.stop().await;
}

/// What a browser sends for a page from elsewhere, to an address that is no loopback and to one that is: with and
/// without `Sec-Fetch-Site`, and after the page's name was made to resolve to the ECS.
#[tokio::test]
async fn pages_of_others_change_nothing_and_read_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let ecs = TestEcs::start(dir.path(), &["--host-names", "ecs.example"]).await;
    let body = r#"{"paused":true}"#;
    let length = format!("Content-Length: {}\r\n\r\n{body}", body.len());
    let json = "Content-Type: application/json\r\n";
    let rebound = "Origin: http://evil.example:3000\r\nSec-Fetch-Site: same-origin\r\n";
    let foreign = "Origin: http://evil.example\r\n";
    let fetched = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n";
    for (host, headers, expected) in [
        ("localhost", format!("{foreign}Content-Type: text/plain\r\n"), 403),
        ("localhost", format!("{foreign}{json}"), 403),
        ("localhost", format!("{fetched}{json}"), 403),
        ("evil.example:3000", format!("{rebound}{json}"), 403),
        ("evil.example:3000", json.to_owned(), 403),
        ("localhost", "Content-Type: text/plain\r\n".to_owned(), 415),
        ("localhost", String::new(), 415),
    ] {
        let (status, answer) =
            ecs.http_at(host, "POST", "/api/v1/settings", &format!("{headers}{length}")).await;
        assert_eq!(status, expected, "{host} {headers}: {answer}");
        assert!(answer.contains("hint"), "{answer}");
    }
    assert_eq!(ecs.get("/api/v1/settings").await["paused"], false);
    for path in ["/", "/api/v1/load", "/api/v1/stream", "/metrics", "/dashboard/app.js", "/nowhere"] {
        assert_eq!(ecs.http_at("evil.example:3000", "GET", path, "").await.0, 403, "{path}");
        assert_eq!(ecs.http_at("localhost", "GET", path, foreign).await.0, 403, "{path}");
        assert_eq!(ecs.http_at("localhost", "GET", path, fetched).await.0, 403, "{path}");
    }
    for host in ["ecs.example:3000", "127.0.0.1", "[::1]:3000"] {
        let origin = format!("Origin: http://{host}\r\nSec-Fetch-Site: same-origin\r\n");
        let asked = ecs.http_at(host, "POST", "/api/v1/settings", &format!("{origin}{json}{length}")).await;
        assert_eq!(asked.0, 200, "{host}: {}", asked.1);
    }
    assert_eq!(ecs.get("/api/v1/settings").await["paused"], true);
    ecs.stop().await;
}
