//! What the ECS says of the cluster and of itself: one verdict for people, `/readyz` and metrics.

use common::ids::{ClusterId, Epoch};
use common::messages::ServerReport;
use common::ring::Partitions;
use common::status::ClusterStatus;
use common::view::View;
use serde_json::json;

use crate::support::{TestEcs, TestServer};

async fn status(ecs: &TestEcs) -> ClusterStatus {
    serde_json::from_value(ecs.get("/api/v1/status").await).unwrap()
}

/// The first status in which a condition holds.
async fn status_with(ecs: &TestEcs, name: &str) -> ClusterStatus {
    loop {
        let status = status(ecs).await;
        if status.conditions.iter().any(|condition| condition.name == name) {
            return status;
        }
    }
}

fn hello(server: &TestServer, view: Epoch) -> ServerReport {
    ServerReport::Hello { address: server.address(), weight: 1, view, rebuild: None, tails: Vec::new() }
}

#[tokio::test]
async fn an_ecs_that_is_behind_says_so_and_takes_no_orders() {
    let dir = tempfile::tempdir().unwrap();
    let ecs = TestEcs::start(dir.path(), &["--partitions", "1", "--copies", "1"]).await;
    let mut server = TestServer::new(1).await;
    server.hello(&ecs, Some(ecs.cluster)).await;
    let view = server.view().await;
    server.heartbeat(&view).await;
    while !status(&ecs).await.healthy {}
    let later = Epoch { generation: 9, version: 9 };

    // What a foreign server says of views stops no other one.
    let mut stranger = TestServer::new(2).await;
    stranger.open_report_link(&ecs, Some(ecs.cluster)).await;
    stranger.say(&hello(&stranger, later)).await;
    let found = status_with(&ecs, "left_out").await;
    assert!(found.verdict.contains(&stranger.address()), "{}", found.verdict);
    assert_eq!(ecs.http("GET", "/readyz", "").await.0, 200);

    server.say(&hello(&server, later)).await;
    let found = status_with(&ecs, "ecs_behind").await;
    assert!(!found.healthy && found.verdict.starts_with("ECS IS BEHIND: "), "{}", found.verdict);
    assert!(found.verdict.contains(&server.address()) && found.verdict.contains("--rebuild"), "{found:?}");
    let (status, ready) = ecs.http("GET", "/readyz", "").await;
    assert!(status == 503 && ready.contains("older copy"), "{ready}");
    let (_, metrics) = ecs.http("GET", "/metrics", "").await;
    assert!(metrics.contains("trefoil_ecs_condition{condition=\"ecs_behind\"} 1"), "{metrics}");
    assert!(metrics.contains("trefoil_ecs_condition{condition=\"disk_full\"} 0"), "{metrics}");
    assert!(metrics.contains("trefoil_ecs_healthy 0"), "{metrics}");
    for (path, body) in [("/api/v1/settings", json!({"paused": true})), ("/api/v1/cancel", json!({}))] {
        let (status, answer) = ecs.post(path, &body).await;
        assert!(status == 503 && answer["error"].as_str().unwrap().contains("older copy"), "{answer}");
    }
    ecs.stop().await;
}

#[tokio::test]
async fn what_changes_nothing_is_answered_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let ecs = TestEcs::start(dir.path(), &[]).await;
    for _ in 0..2 {
        // Without any server, and with one.
        assert_eq!(ecs.post("/api/v1/cancel", &json!({})).await, (202, json!({"servers": []})));
        assert_eq!(ecs.post("/api/v1/settings", &json!({})).await.0, 200);
        let mut server = TestServer::new(1).await;
        server.hello(&ecs, None).await;
        server.view().await;
    }
    ecs.stop().await;
}

#[tokio::test]
async fn a_process_that_is_no_member_is_made_to_say_hello() {
    let dir = tempfile::tempdir().unwrap();
    let ecs = TestEcs::start(dir.path(), &[]).await;
    let mut server = TestServer::new(1).await;
    server.open_report_link(&ecs, None).await;
    server.heartbeat(&View::new(ecs.cluster, Epoch::default(), Partitions::default())).await;
    assert!(server.report_link_ends().await, "it did not say hello");
    server.hello(&ecs, None).await;
    let view = server.view().await;
    // A second link of the process takes the first one's place; the first ending says nothing about it.
    server.hello(&ecs, None).await;
    server.heartbeat(&view).await;
    while status(&ecs).await.servers[0].keys != 7 {}
    ecs.stop().await;
}

#[tokio::test]
async fn a_server_of_another_cluster_is_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let ecs = TestEcs::start(dir.path(), &[]).await;
    let mut stranger = TestServer::new(1).await;
    stranger.hello(&ecs, Some(ClusterId(77))).await;
    assert!(stranger.report_link_ends().await);
    let found = status_with(&ecs, "left_out").await;
    let left_out = found.conditions.iter().find(|condition| condition.name == "left_out").unwrap();
    assert!(left_out.what.contains(&ClusterId(77).to_string()), "{left_out:?}");
    assert!(left_out.next.contains(&format!("--rebuild {}", ClusterId(77))), "{left_out:?}");
    assert_eq!(left_out.servers, [stranger.sender.server]);
    ecs.stop().await;
}
