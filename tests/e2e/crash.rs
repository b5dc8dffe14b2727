//! A server is killed while it writes, again and again: every acknowledged write is there each time.
//!
//! `ROUNDS=n` raises the number of kills.

use crate::support::load::Recording;
use crate::support::{Load, Settings, Stopwatch};

/// Kills, unless `ROUNDS` says otherwise.
const ROUNDS: usize = 10;

/// Writers of the load: several, so that the log's writes are groups.
const WRITERS: usize = 8;

/// Requests before a kill, at most: from a store that has just opened to one that has written for a while.
const REQUESTS_MAX: u64 = 600;

fn rounds() -> usize {
    std::env::var("ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().expect("ROUNDS is a number"))
}

/// Small logs are trimmed and their segments used again while the load runs.
fn settings() -> Settings {
    let settings = Settings { same_ports: true, ..Settings::default() };
    settings.server_args(&["--log-mb", "64"])
}

#[test]
fn a_server_alone() {
    let mut cluster = settings().start(1);
    let mut recordings = Vec::new();
    let watch = Stopwatch::start();
    for round in 0..rounds() {
        let load = Load::start(&format!("round-{round}"), &cluster.seeds(), WRITERS);
        load.wait_for_more(fastrand::u64(..REQUESTS_MAX));
        cluster.kill_server(0);
        recordings.push(load.abort());
        cluster.start_server(0);
        let db = cluster.client();
        recordings.iter().for_each(|recording| recording.verify(&db));
    }
    report(&recordings, watch);
}

#[test]
fn one_of_three() {
    let mut cluster = settings().start(3);
    let load = Load::start("load", &cluster.seeds(), WRITERS);
    let watch = Stopwatch::start();
    for round in 0..rounds() {
        load.wait_for_more(fastrand::u64(..REQUESTS_MAX));
        cluster.kill_server(round % 3);
        // Sometimes it is back before the others have given it up, sometimes long after.
        load.wait_for_more(fastrand::u64(..REQUESTS_MAX) * (round as u64 % 2));
        cluster.start_server(round % 3);
        cluster.wait_settled();
    }
    let recording = load.stop();
    println!("the slowest request took {:?}", recording.slowest());
    recording.assert_no_failures();
    recording.verify(&cluster.client());
    report(&[recording], watch);
}

#[test]
fn all_three() {
    let mut cluster = settings().start(3);
    let mut recordings = Vec::new();
    let watch = Stopwatch::start();
    for round in 0..rounds().div_ceil(2) {
        let load = Load::start(&format!("round-{round}"), &cluster.seeds(), WRITERS);
        load.wait_for_more(fastrand::u64(..REQUESTS_MAX));
        cluster.kill_servers();
        recordings.push(load.abort());
        (0..3).for_each(|server| cluster.start_server(server));
        let db = cluster.client();
        recordings.iter().for_each(|recording| recording.verify(&db));
    }
    report(&recordings, watch);
}

fn report(recordings: &[Recording], watch: Stopwatch) {
    let acked: u64 = recordings.iter().map(Recording::acked).sum();
    println!("{} kills, {acked} acknowledged writes, all there; {:?}", rounds(), watch.elapsed());
}
