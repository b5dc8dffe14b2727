//! Links that are cut, in one direction or both, between any two, and connections that are reset. Each process has a
//! network of its own here.

use std::time::Duration;

use crate::faults::stage::{SOME, Stage, all_wanted, settings};
use crate::support::resp::RespClient;
use crate::support::wait::SOON;
use crate::support::{Host, Stopwatch, wait_for, wait_until};

/// Servers of each cluster.
const SERVERS: usize = 4;

/// For so long a request waits for what will pass, as servers have it by default.
const PARK: Duration = Duration::from_secs(1);

use Host::{Clients, Ecs, Server};

fn stage() -> Option<Stage> {
    Some(Stage::start(settings().networked(SERVERS)?, SERVERS))
}

/// Two servers that cannot reach each other, though the ECS and clients reach both: their partitions do without one.
#[test]
fn two_servers_are_parted() {
    let Some(stage) = stage() else { return };
    stage.cluster.net().part(Server(0), Server(1));
    stage.wait_writable();
    stage.go_on();
    stage.cluster.net().mend();
    stage.finish();
}

/// A server that reaches the ECS and the clients, and no other server, loses its parts, and not the others theirs. All
/// that is acknowledged meanwhile is at the others.
#[test]
fn a_server_is_cut_off_from_its_peers() {
    let Some(mut stage) = stage() else { return };
    let net = stage.cluster.net();
    (1..SERVERS).for_each(|other| net.part(Server(0), Server(other)));
    stage.wait_writable();
    let address = stage.cluster.address(0).to_string();
    wait_for("it has no part, and no copy is missing", SOON, || {
        let status = stage.cluster.status()?;
        let parts = status.servers.iter().find(|server| server.address == address);
        let parts = parts.map(|server| server.coordinator + server.replica + server.joining);
        let whole = status.under_replicated == 0 && status.offline == 0 && parts == Some(0);
        if whole { Ok(()) } else { Err(format!("{status:?}")) }
    });
    stage.go_on();
    stage.kill(&[0]);
    stage.wait_writable();
    stage.go_on();
    stage.cluster.net().mend();
    stage.cluster.start_server(0);
    stage.finish();
}

/// What a client asks for at a server that does not reach a coordinator goes through another one; and it is answered in
/// time, whatever the answer.
#[test]
fn clients_at_a_server_that_does_not_reach_a_coordinator() {
    let Some(stage) = stage() else { return };
    stage.cluster.net().part(Server(0), Server(1));
    let mut client = RespClient::connect(stage.cluster.address(1));
    let mut ask = |line: &str, expected: &str| {
        wait_until(&format!("`{line}` is done"), SOON, || {
            let watch = Stopwatch::start();
            let reply = client.line(line);
            // As long as a request may wait, and as long again on a machine with much else to do.
            assert!(watch.elapsed() < 4 * PARK, "`{line}`: {reply} after {:?}", watch.elapsed());
            reply == expected
        });
    };
    for round in 0..2 {
        for key in 0..200 {
            ask(&format!("SET through/{key} {round}"), "+OK");
            ask(&format!("GET through/{key}"), &format!("\"{round}\""));
        }
    }
    stage.go_on();
    stage.cluster.net().mend();
    stage.finish();
}

/// Each server does not reach the next one; and then the links of one come and go.
#[test]
fn links_are_cut_in_a_ring_and_flap() {
    if !all_wanted() {
        return;
    }
    let Some(stage) = stage() else { return };
    let net = stage.cluster.net();
    (0..SERVERS).for_each(|one| net.part(Server(one), Server((one + 1) % SERVERS)));
    // With four servers the ring leaves each one other.
    stage.recorder.wait_for_more(SOME);
    net.mend();
    stage.cluster.wait_settled();
    for _ in 0..5 {
        (1..SERVERS).for_each(|other| net.part(Server(0), Server(other)));
        stage.go_on();
        net.mend();
        stage.go_on();
    }
    stage.finish();
}

/// What one server sends to another is lost, while all else arrives.
#[test]
fn a_link_is_cut_in_one_direction() {
    if !all_wanted() {
        return;
    }
    let Some(stage) = stage() else { return };
    for (from, to) in [(0, 1), (2, 3), (1, 0)] {
        stage.cluster.net().cut(Server(from), Server(to));
        stage.wait_writable();
        stage.go_on();
        stage.cluster.net().mend();
        stage.cluster.wait_settled();
    }
    stage.finish();
}

/// A server that no other process reaches, and that reaches none, comes back with the past in its memory.
#[test]
fn a_server_is_cut_off_from_all() {
    let Some(stage) = stage() else { return };
    let net = stage.cluster.net();
    let address = stage.cluster.address(0);
    for other in [Ecs, Server(1), Server(2), Server(3)] {
        net.part(Server(0), other);
    }
    // Clients still reach it: it must not answer them with the past.
    stage.wait_state(address, false);
    stage.wait_writable();
    stage.go_on();
    net.mend();
    stage.wait_state(address, true);
    stage.finish();
}

/// Servers that the ECS does not hear, and that do not hear it, while all else works.
#[test]
fn servers_are_cut_off_from_the_ecs() {
    if !all_wanted() {
        return;
    }
    let Some(stage) = stage() else { return };
    let net = stage.cluster.net();
    // It hears the views and is not heard; then the other way round; then neither.
    net.cut(Server(0), Ecs);
    stage.wait_state(stage.cluster.address(0), false);
    stage.wait_writable();
    stage.go_on();
    net.mend();
    stage.cluster.wait_settled();
    net.cut(Ecs, Server(1));
    stage.wait_writable();
    stage.go_on();
    net.mend();
    stage.cluster.wait_settled();
    (0..SERVERS).for_each(|server| net.part(Server(server), Ecs));
    // An ECS that hears no server removes none, or all: reads and writes go on as far as views allow.
    stage.recorder.wait_for_more(SOME);
    net.mend();
    stage.finish();
}

/// Clients that do not reach one server: their requests for its partitions wait, and nothing moves.
#[test]
fn clients_are_cut_off_from_a_server() {
    if !all_wanted() {
        return;
    }
    let Some(stage) = stage() else { return };
    let before = stage.cluster.wait_settled();
    let net = stage.cluster.net();
    net.cut(Clients, Server(2));
    wait_until("clients feel it", SOON, || net.stopped(Server(2)) > 20);
    let during = stage.cluster.status().expect("the ECS answers");
    assert_eq!(during.view, before.view, "the servers are all well");
    net.mend();
    stage.finish();
}

/// Every connection of a server breaks, again and again.
#[test]
fn connections_are_reset() {
    let Some(stage) = stage() else { return };
    let net = stage.cluster.net();
    for round in 0..6 {
        let victim = Server(round % SERVERS);
        let others = (0..SERVERS).map(Server).filter(|other| *other != victim);
        for other in others.chain([Clients]) {
            net.reset(other, victim);
        }
        wait_until("packets are answered with resets", SOON, || net.stopped(victim) > 4);
        net.mend();
        stage.go_on();
    }
    stage.finish();
}

/// One packet in five is lost everywhere.
#[test]
fn packets_are_lost() {
    if !all_wanted() {
        return;
    }
    let Some(stage) = stage() else { return };
    let net = stage.cluster.net();
    [Ecs, Server(0), Server(1), Server(2), Server(3)].into_iter().for_each(|host| net.lose(host, 20));
    stage.recorder.wait_for_more(SOME);
    net.mend();
    stage.finish();
}

/// A cut, and a kill while copies are made again because of it.
#[test]
fn a_kill_during_a_cut() {
    if !all_wanted() {
        return;
    }
    let Some(mut stage) = stage() else { return };
    let address = stage.cluster.address(0);
    for other in [Ecs, Server(1), Server(2), Server(3)] {
        stage.cluster.net().part(Server(0), other);
    }
    stage.wait_state(address, false);
    let transfer = stage.wait_transfer();
    stage.kill(&[transfer.source]);
    stage.cluster.net().mend();
    stage.cluster.start_server(transfer.source);
    stage.finish();
}
