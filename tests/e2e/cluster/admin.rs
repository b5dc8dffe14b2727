//! What operators do with `kvclient admin`, while clients go on.

use std::collections::BTreeMap;

use common::ids::ServerId;
use common::status::ClusterStatus;
use serde_json::Value;

use crate::support::wait::SOON;
use crate::support::{Cluster, Load, Settings, db, http, wait_for};

/// Writers of the load.
const WRITERS: usize = 4;

/// Requests between two steps.
const SOME_REQUESTS: u64 = 500;

/// `kvclient admin` at a server: its code, and what it printed to standard output and error.
fn admin(cluster: &Cluster, server: usize, args: &[&str]) -> (i32, String, String) {
    let args: Vec<&str> = std::iter::once("admin").chain(args.iter().copied()).collect();
    let output = cluster.kvclient(server, &args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("it exits"), text(&output.stdout), text(&output.stderr))
}

#[track_caller]
fn done(cluster: &Cluster, server: usize, args: &[&str]) -> String {
    let (code, out, err) = admin(cluster, server, args);
    assert_eq!(code, 0, "{args:?}: {out}{err}");
    out
}

#[track_caller]
fn refused(cluster: &Cluster, args: &[&str], code: i32, why: &str) {
    let (exit, out, err) = admin(cluster, 1, args);
    assert!(exit == code && err.contains(why), "{args:?}: {exit}, not {code}: {out}{err}");
}

/// The servers of each partition, the coordinator first.
type Placement = BTreeMap<u64, (Value, Vec<String>)>;

fn placement(cluster: &Cluster) -> Placement {
    let (_, body) = http::get(cluster.ecs_address(), "/api/v1/partitions").expect("the ECS answers");
    let listed: Value = serde_json::from_str(&body).expect("partitions");
    let words = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let one = |now: &Value| {
        let mut holders: Vec<String> =
            now["in_sync"].as_array().expect("members").iter().map(words).collect();
        holders.sort();
        (now["partition"].as_u64().expect("a number"), (now["coordinator"].clone(), holders))
    };
    listed["partitions"].as_array().expect("a list").iter().map(one).collect()
}

/// What a plan makes of a placement.
fn planned(mut placement: Placement, plan: &Value) -> Placement {
    for moved in plan["partitions"].as_array().expect("moves") {
        let (coordinator, holders) =
            placement.get_mut(&moved["partition"].as_u64().expect("a number")).expect("a partition");
        coordinator.clone_from(&moved["coordinator"]["to"]);
        for copy in moved["copies"].as_array().expect("copies") {
            holders.retain(|holder| Some(holder.as_str()) != copy["from"].as_str());
            holders.extend(copy["to"].as_str().map(str::to_owned));
        }
        holders.sort();
    }
    placement
}

fn epoch_of(plan: &Value) -> String {
    plan["epoch"]["version"].to_string()
}

/// Waits until a server has joined that stands by.
fn stands_by(cluster: &Cluster, index: usize) -> String {
    let address = cluster.address(index).to_string();
    wait_for("a server stands by", SOON, || {
        let status = cluster.status()?;
        let found = status.servers.iter().any(|server| server.address == address && server.stands_by);
        if found && status.joining + status.misplaced == 0 { Ok(()) } else { Err(format!("{status:?}")) }
    });
    address
}

#[test]
fn servers_are_added_replaced_and_drained_as_planned() {
    let mut cluster = Cluster::start(3);
    let all = db::pairs("key/", 500);
    cluster.client().put_many(&all);
    cluster.kill_ecs();
    cluster.start_ecs_with(&["--stand-by"]);
    let load = Load::start("load", &[cluster.address(1).to_string()], WRITERS);
    let fourth = cluster.add_server();
    let added = stands_by(&cluster, fourth);
    let before = placement(&cluster);

    // A plan is shown, and nothing is done by that; it is refused for another view than its own.
    let shown = done(&cluster, 1, &["plan", "add", &added]);
    assert!(shown.contains("the least possible") && shown.contains("admin apply --epoch"), "{shown}");
    let plan: Value = serde_json::from_str(&done(&cluster, 1, &["plan", "add", &added, "--json"])).unwrap();
    assert!(plan["copies"].as_u64() > Some(0) && plan["copies"] == plan["copies_least"], "{plan}");
    refused(&cluster, &["apply", "--epoch", "1", "add", &added], 3, "by now");
    refused(&cluster, &["plan", "add", &cluster.address(0).to_string()], 2, "does not stand by");
    refused(&cluster, &["plan", "drain", "nobody"], 2, "no server");
    assert_eq!(placement(&cluster), before);
    done(&cluster, 1, &["apply", "--epoch", &epoch_of(&plan), "add", &added]);
    cluster.wait_settled();
    assert_eq!(placement(&cluster), planned(before, &plan), "what was planned was done, and no more");
    load.wait_for_more(SOME_REQUESTS);

    // A server takes the place of another one, which is no member afterwards and may be stopped.
    let fifth = cluster.add_server();
    let (old, new) = (cluster.address(0).to_string(), stands_by(&cluster, fifth));
    let before = placement(&cluster);
    let plan: Value =
        serde_json::from_str(&done(&cluster, 1, &["plan", "replace", &old, &new, "--json"])).unwrap();
    assert_eq!(plan["copies"], plan["copies_least"]);
    done(&cluster, 1, &["apply", "--epoch", &epoch_of(&plan), "replace", &old, &new]);
    wait_for("the old server has left", SOON, || {
        let status = cluster.status()?;
        let gone = status.servers.iter().all(|server| server.address != old);
        if gone && status.joining == 0 { Ok(()) } else { Err(format!("{status:?}")) }
    });
    assert!(cluster.terminate_server(0).success());
    cluster.wait_settled();
    assert_eq!(placement(&cluster), planned(before, &plan), "what was planned was done, and no more");

    // A server is drained, which ends when everything is elsewhere.
    let drained = cluster.address(fourth).to_string();
    let said = done(&cluster, 1, &["drain", &drained]);
    assert!(said.contains(&drained) && said.contains("may be stopped"), "{said}");
    assert!(cluster.status().unwrap().servers.iter().all(|server| server.address != drained));
    cluster.kill_server(fourth);
    cluster.wait_settled();
    load.wait_for_more(SOME_REQUESTS);
    let recording = load.stop();
    recording.assert_no_failures();
    recording.verify(&cluster.client());
    assert_eq!(cluster.client().scan("key/"), all);
}

fn shares(status: &ClusterStatus) -> Vec<(ServerId, u32, u32)> {
    status.servers.iter().map(|server| (server.server, server.coordinator, server.replica)).collect()
}

/// A server is up, and has no copies.
fn wait_idle(cluster: &Cluster, index: usize) -> ClusterStatus {
    let address = cluster.address(index).to_string();
    wait_for("a server has joined and holds nothing", SOON, || {
        let status = cluster.status()?;
        let server =
            status.servers.iter().find(|server| server.address == address).ok_or("it is not listed")?;
        let idle = server.coordinator + server.replica + server.joining == 0;
        if idle && server.view == status.view { Ok(status) } else { Err(format!("{status:?}")) }
    })
}

#[test]
fn copies_are_held_and_fail_overs_are_not() {
    // An ECS that starts again waits for the server that is gone before it makes a view.
    let mut cluster = Settings::default().ecs_args(&["--restart-wait", "1s"]).start(4);
    let all = db::pairs("key/", 500);
    cluster.client().put_many(&all);
    let load = Load::start("load", &cluster.seeds(), WRITERS);
    let said = done(&cluster, 1, &["pause"]);
    assert!(said.contains("admin resume"), "{said}");
    let new = cluster.add_server();
    let held = wait_idle(&cluster, new);
    assert!(held.paused && held.joining == 0, "{held:?}");

    // A server fails: others take over what it coordinated, and no copy is made again.
    let lost = cluster.address(0).to_string();
    cluster.kill_server(0);
    let failed = wait_for("its partitions are taken over", SOON, || {
        let status = cluster.status()?;
        let lost = status.servers.iter().find(|server| server.address == lost).ok_or("it is not listed")?;
        if lost.coordinator + lost.replica == 0 { Ok(status) } else { Err(format!("{lost:?}")) }
    });
    load.wait_for_more(SOME_REQUESTS);
    assert!(failed.under_replicated > 0 && failed.survives == 0, "{failed:?}");
    let shown = cluster.kvclient(1, &["status"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.starts_with("DEGRADED") && shown.contains("copying is paused until `admin resume`"),
        "{shown}"
    );
    let drained = cluster.address(2).to_string();
    refused(&cluster, &["drain", &drained], 4, "while copying is paused");
    done(&cluster, 1, &["cancel", &drained]);
    // It is kept over a restart of the ECS.
    cluster.kill_ecs();
    cluster.start_ecs();
    load.wait_for_more(SOME_REQUESTS);
    let later = wait_idle(&cluster, new);
    assert_eq!((later.paused, later.joining, later.under_replicated), (true, 0, failed.under_replicated));

    assert!(done(&cluster, 1, &["resume"]).starts_with("OK"));
    let settled = cluster.wait_settled();
    assert_eq!((settled.paused, settled.survives), (false, 1));
    let recording = load.stop();
    recording.assert_no_failures();
    recording.verify(&cluster.client());
    assert_eq!(cluster.client().scan("key/"), all);
}

#[test]
fn what_is_under_way_is_taken_back() {
    let mut cluster = Cluster::start(4);
    let load = Load::start("load", &cluster.seeds(), WRITERS);
    let before = shares(&cluster.wait_settled());
    // Held, so that it is under way for as long as is wanted.
    done(&cluster, 1, &["pause"]);
    let leaving = cluster.address(3).to_string();
    done(&cluster, 1, &["drain", &leaving, "--no-wait"]);
    wait_for("it is leaving", SOON, || {
        let status = cluster.status()?;
        let shown = cluster.kvclient(1, &["status"]);
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        if shown.contains(", 1 leaving") { Ok(()) } else { Err(format!("{shown}{status:?}")) }
    });
    refused(&cluster, &["plan", "drain", &leaving], 2, "leaving already");
    let said = done(&cluster, 1, &["cancel"]);
    assert!(said.contains(&leaving) && said.contains("stays"), "{said}");
    done(&cluster, 1, &["resume"]);
    assert_eq!(shares(&cluster.wait_settled()), before, "it is as before");

    done(&cluster, 1, &["pause"]);
    let new = cluster.add_server();
    wait_idle(&cluster, new);
    let address = cluster.address(new).to_string();
    let answer: Value =
        serde_json::from_str(&done(&cluster, 1, &["cancel", &address, "--json"])).expect("an answer");
    assert_eq!(answer["servers"][0]["part"], "stand_by", "{answer}");
    done(&cluster, 1, &["resume"]);
    load.wait_for_more(SOME_REQUESTS);
    let status = wait_idle(&cluster, new);
    assert_eq!((status.joining, status.under_replicated, status.survives), (0, 0, 1), "{status:?}");
    refused(&cluster, &["cancel", &address], 2, "neither leaves nor is being added");
    assert!(cluster.terminate_server(new).success());
    let after = wait_for("it is no member any more", SOON, || {
        let status = cluster.status()?;
        if status.servers.len() == 4 { Ok(status) } else { Err(format!("{status:?}")) }
    });
    assert_eq!(shares(&after), before, "it is as before");
    let recording = load.stop();
    recording.assert_no_failures();
    recording.verify(&cluster.client());
}
