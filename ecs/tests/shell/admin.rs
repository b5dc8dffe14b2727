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
    // The next view has it, and it is on disk before that view is told.
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
