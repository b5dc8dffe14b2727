//! The ECS's disk is lost: `ecs --rebuild` learns of the cluster from its servers, while reads and writes go on.

use common::ids::Epoch;
use common::status::ClusterStatus;

use crate::support::wait::SOON;
use crate::support::{Cluster, Load, db, http, wait_for};

/// Writers of the load.
const WRITERS: usize = 4;

/// Requests between two steps.
const SOME_REQUESTS: u64 = 500;

/// Starts an ECS that knows nothing but the cluster's id.
fn rebuild(cluster: &mut Cluster, status: &ClusterStatus) {
    cluster.start_ecs_with(&["--rebuild", &status.cluster.to_string()]);
}

/// Waits until the ECS has made views again, and shows how it does.
fn wait_rebuilt(cluster: &Cluster) -> ClusterStatus {
    wait_for("the ECS is rebuilt", SOON, || {
        let status = cluster.status()?;
        if status.gathering { Err(format!("{status:?}")) } else { Ok(status) }
    })
}

#[test]
fn all_goes_on_and_the_cluster_changes_again() {
    let mut cluster = Cluster::start(4);
    let before = cluster.wait_settled();
    let all = db::pairs("key/", 500);
    cluster.client().put_many(&all);
    let load = Load::start("load", &cluster.seeds(), WRITERS);
    cluster.lose_ecs();
    load.wait_for_more(SOME_REQUESTS);

    // By mistake a new cluster is begun first: no server joins it, and the logs say what to do.
    cluster.start_ecs();
    let advice = format!("--rebuild {}", before.cluster);
    wait_for("a server and the ECS say what to do", SOON, || {
        let logs = [cluster.server(0).log(), cluster.ecs().log()];
        if logs.iter().all(|log| log.contains(&advice)) { Ok(()) } else { Err(logs.concat()) }
    });
    assert_eq!(cluster.status().map(|status| status.servers.len()), Ok(0));
    cluster.kill_ecs();

    // Its directory knows of no server, so it may be used.
    rebuild(&mut cluster, &before);
    let rebuilt = wait_rebuilt(&cluster);
    let names = |status: &ClusterStatus| -> Vec<_> {
        status.servers.iter().map(|member| (member.server, member.coordinator, member.replica)).collect()
    };
    assert_eq!((rebuilt.cluster, rebuilt.partitions), (before.cluster, before.partitions));
    assert_eq!((rebuilt.view.generation, rebuilt.waiting, rebuilt.awaited.len()), (1, 0, 0), "{rebuilt:?}");
    let settled = cluster.wait_settled();
    assert_eq!(names(&settled), names(&before), "nothing needed to move");
    load.wait_for_more(SOME_REQUESTS);

    // It does all that an ECS does.
    let new = cluster.add_server();
    cluster.wait_settled();
    cluster.kill_server(1);
    cluster.wait_settled();
    assert!(cluster.terminate_server(new).success());
    cluster.wait_settled();
    // And it starts again without the option for a rebuild.
    cluster.kill_ecs();
    cluster.start_ecs_with(&[]);
    cluster.wait_settled();
    load.wait_for_more(SOME_REQUESTS);
    let recording = load.stop();
    println!("{} writes, the slowest request took {:?}", recording.acked(), recording.slowest());
    recording.assert_no_failures();
    recording.verify(&cluster.client());
    assert_eq!(cluster.client().scan("key/"), all);
}

#[test]
fn the_disk_is_lost_again_and_again() {
    let mut cluster = Cluster::start(3);
    let before = cluster.wait_settled();
    let load = Load::start("load", &cluster.seeds(), WRITERS);
    let mut newest = before.view;
    for round in 0..3 {
        cluster.lose_ecs();
        rebuild(&mut cluster, &before);
        if round == 1 {
            // While it is being rebuilt: some servers have promised, others may not have.
            continue;
        }
        let status = wait_rebuilt(&cluster);
        assert!(status.view.generation > newest.generation, "{} is not after {newest}", status.view);
        newest = status.view;
        cluster.wait_settled();
        load.wait_for_more(SOME_REQUESTS);
    }
    let recording = load.stop();
    recording.assert_no_failures();
    recording.verify(&cluster.client());
}

/// A cluster of four with data, whose ECS is rebuilt while its last server does not run.
fn without_one() -> (Cluster, ClusterStatus, std::collections::BTreeMap<String, String>) {
    let mut cluster = Cluster::start(4);
    let before = cluster.wait_settled();
    let all = db::pairs("key/", 500);
    cluster.client().put_many(&all);
    let lost = before.servers.iter().find(|member| member.address == cluster.address(3).to_string());
    let lost = lost.expect("it is a member").server;
    cluster.lose_ecs();
    cluster.kill_server(3);
    rebuild(&mut cluster, &before);
    let status = wait_rebuilt(&cluster);
    assert!(status.waiting > 0 && status.waiting < status.partitions, "{status:?}");
    assert_eq!(status.awaited, [lost]);
    let shown = cluster.kvclient(0, &["status"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("wait for the rebuilt ECS to hear") && shown.contains(&lost.short()), "{shown}");
    (cluster, status, all)
}

#[test]
fn a_missing_server_comes_back() {
    let (mut cluster, status, all) = without_one();
    cluster.start_server(3);
    let settled = cluster.wait_settled();
    assert_eq!((settled.waiting, settled.offline), (0, 0));
    assert!(settled.view > status.view && status.view > Epoch::default());
    assert_eq!(cluster.client().scan("key/"), all);
}

#[test]
fn a_missing_server_is_given_up() {
    let (cluster, status, all) = without_one();
    // It had no entry that the others lack, so nothing is lost by this; the ECS cannot know that.
    let (code, body) = http::get(cluster.ecs_address(), "/api/v1/partitions").expect("the ECS answers");
    assert_eq!(code, 200);
    let listed: serde_json::Value = serde_json::from_str(&body).expect("a list");
    let waiting = |partition: &&serde_json::Value| partition["state"] == "waiting";
    let waiting: Vec<u64> = listed["partitions"]
        .as_array()
        .expect("partitions")
        .iter()
        .filter(waiting)
        .filter_map(|partition| partition["partition"].as_u64())
        .collect();
    assert_eq!(waiting.len(), status.waiting as usize);
    let numbers: Vec<String> = waiting.iter().map(u64::to_string).collect();
    let mut args = vec!["admin", "recover-partition"];
    args.extend(numbers.iter().map(String::as_str));
    let output = cluster.kvclient(0, &args);
    assert_eq!(output.status.code(), Some(2), "the loss was not accepted: {output:?}");
    args.push("--accept-loss");
    let output = cluster.kvclient(0, &args);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(cluster.wait_settled().waiting, 0);
    assert_eq!(cluster.client().scan("key/"), all);
}
