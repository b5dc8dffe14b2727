//! Directories that lack what their server acknowledged, all servers having been down: a flipped bit in the last batch
//! of one log, a directory that is an older copy of itself; and a copy of a directory beside its original.
//!
//! Two copies of everything are whole in each of them. So nothing that was acknowledged may be lost.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::faults::stage::{self, Stage};
use crate::support::cluster::{copy_directory, on_directory};
use crate::support::wait::SOON;
use crate::support::{Cluster, Settings, wait_until};

/// How long a partition waits, after a restart of all, for a member of which nothing is heard: long enough that all
/// servers are heard that come back.
const RESTART_WAIT: &str = "10s";

/// Keys whose values are written again and again.
const KEYS: usize = 200;

/// Bytes before the records of a batch, see docs/format.md.
const BATCH_HEADER_BYTES: usize = 32;

fn start() -> Cluster {
    Settings { same_ports: true, ..Settings::default() }.ecs_args(&["--restart-wait", RESTART_WAIT]).start(3)
}

/// New values of the same keys.
fn write(cluster: &Cluster, round: &str) -> BTreeMap<String, String> {
    let values: BTreeMap<_, _> = (0..KEYS).map(|n| (format!("key/{n}"), format!("{round} {n}"))).collect();
    cluster.client().put_many(&values);
    values
}

/// All copies of all partitions are in sync and equal, and they hold these values.
#[track_caller]
fn assert_whole(cluster: &Cluster, values: &BTreeMap<String, String>) {
    cluster.wait_settled();
    assert!(cluster.client().scan("key/") == *values, "not what was acknowledged");
    let output = cluster.kvclient(0, &["verify"]);
    assert!(output.status.success() && output.stdout.starts_with(b"OK: 192 copies"), "{output:?}");
}

fn kill_all(cluster: &mut Cluster) {
    cluster.kill_ecs();
    cluster.kill_servers();
}

/// Moves a directory away, and another one to its place.
fn exchange(dir: &Path, other: &Path) {
    fs::remove_dir_all(dir).expect("a directory");
    fs::rename(other, dir).expect("it can be moved");
}

// One bit.

/// The segment of a server's log that has these bytes, and the place behind them where they are last.
fn find_last(dir: &Path, bytes: &[u8]) -> Option<(PathBuf, usize)> {
    let segments = fs::read_dir(dir.join("log")).expect("a log").map(|entry| entry.expect("an entry").path());
    segments.into_iter().find_map(|path| {
        let content = fs::read(&path).expect("a segment");
        let at = content.windows(bytes.len()).rposition(|window| window == bytes)?;
        Some((path, at + bytes.len()))
    })
}

/// Whether a batch without records is behind a place in a segment: it says that what is before it is on disk.
fn is_vouched_for(segment: &Path, from: usize) -> bool {
    let content = fs::read(segment).expect("a segment");
    let mut batches = content[from.next_multiple_of(8)..].chunks_exact(8);
    let header =
        batches.position(|bytes| bytes.starts_with(b"BtcH")).map(|n| from.next_multiple_of(8) + 8 * n);
    let header = header.and_then(|at| content.get(at..at + BATCH_HEADER_BYTES));
    header.is_some_and(|header| header[24..28] == [0; 4])
}

/// A bit of the last value in one server's log flips, at each server in turn, so at coordinators and at replicas.
fn flipped_in_the_last_batch(idle: bool) {
    let mut cluster = start();
    for victim in 0..3 {
        let mut values = write(&cluster, &format!("round {victim}"));
        let last = format!("the last value of round {victim}");
        cluster.client().put("key/last", last.clone());
        values.insert("key/last".to_owned(), last.clone());
        let dir = cluster.server_dir(victim).to_owned();
        if idle {
            let vouched = || {
                let (segment, end) = find_last(&dir, last.as_bytes()).expect("it is in the log");
                is_vouched_for(&segment, end)
            };
            wait_until("the log says that its last batch is on disk", SOON, vouched);
        }
        kill_all(&mut cluster);
        let (segment, end) = find_last(&dir, last.as_bytes()).expect("it is in the log");
        let file = fs::OpenOptions::new().write(true).open(&segment).expect("a segment");
        file.write_all_at(&[last.as_bytes()[last.len() - 1] ^ 4], end as u64 - 1).expect("a byte");
        let message =
            if is_vouched_for(&segment, end) { "is damaged at byte" } else { "what was written last" };
        cluster.start_ecs();
        // The damaged one first: its log is the only one for a while.
        (0..3).map(|n| (victim + n) % 3).for_each(|server| cluster.start_server(server));
        assert_whole(&cluster, &values);
        let log = cluster.server(victim).log();
        assert!(log.contains(message), "the log lacks \"{message}\": {log}");
    }
}

#[test]
fn a_flipped_bit_in_the_last_batch_of_one_log_loses_nothing() {
    flipped_in_the_last_batch(true);
}

#[test]
fn a_flipped_bit_in_a_last_batch_that_nothing_vouches_for_loses_nothing() {
    flipped_in_the_last_batch(false);
}

// An older directory.

/// One directory of three is put back to a copy that was made when its server was stopped: as many starts are known of
/// its store as it will count, so it is refused, and says how to go on.
#[test]
fn an_older_directory_is_refused_and_loses_nothing() {
    let mut cluster = start();
    write(&cluster, "before");
    cluster.kill_server(0);
    let (dir, older) = (cluster.server_dir(0).to_owned(), cluster.path().join("older"));
    copy_directory(&dir, &older);
    cluster.start_server(0);
    cluster.wait_settled();
    let values = write(&cluster, "after");
    kill_all(&mut cluster);
    exchange(&dir, &older);
    cluster.start_ecs();
    cluster.start_server(0);
    assert_eq!(cluster.server_mut(0).wait().code(), Some(1));
    let log = cluster.server(0).log();
    assert!(
        log.contains("the directory is an older copy of itself") && log.contains("new-store -d DIR"),
        "{log}"
    );
    cluster.forget_process(0);
    cluster.start_server(1);
    cluster.start_server(2);
    cluster.wait_settled();
    assert!(cluster.client().scan("key/") == values, "not what was acknowledged");
    let output = on_directory("new-store", &dir, &[]);
    assert!(output.contains("has the id"), "{output}");
    cluster.start_server(0);
    assert_whole(&cluster, &values);
}

/// One directory of three is put back to a copy that was made while its server ran, as the snapshot of a machine is:
/// its next start is a later one than any that is known. It is started first, and last, and while the others run.
#[test]
fn a_snapshot_of_a_running_server_loses_nothing() {
    let mut cluster = start();
    for (round, started) in [("first", &[1, 0, 2][..]), ("last", &[0, 2, 1]), ("alone", &[1])] {
        write(&cluster, &format!("before, {round}"));
        let (dir, older) = (cluster.server_dir(1).to_owned(), cluster.path().join("older"));
        snapshot(&cluster, 1, &older);
        cluster.wait_settled();
        let values = write(&cluster, &format!("after, {round}"));
        if started.len() == 1 {
            cluster.kill_server(1);
        } else {
            kill_all(&mut cluster);
        }
        exchange(&dir, &older);
        if started.len() > 1 {
            cluster.start_ecs();
        }
        started.iter().for_each(|&server| cluster.start_server(server));
        assert_whole(&cluster, &values);
    }
}

/// Copies the directory of a server that runs, and that stands still meanwhile.
fn snapshot(cluster: &Cluster, server: usize, to: &Path) {
    cluster.server(server).signal(Signal::STOP);
    copy_directory(cluster.server_dir(server), to);
    cluster.server(server).signal(Signal::CONT);
}

// Two of one directory.

/// A copy of a server's directory is started beside it, under load: the copy is refused, and answers nothing. Copies
/// that were made while the server was stopped, and while it ran.
#[test]
fn a_copy_of_a_directory_beside_its_original_is_refused() {
    let mut stage = Stage::start(stage::settings(), 3);
    let address = stage.cluster.address(0);
    let stopped = stage.cluster.path().join("stopped");
    stage.kill(&[0]);
    copy_directory(stage.cluster.server_dir(0), &stopped);
    stage.cluster.start_server(0);
    stage.wait_state(address, true);
    let running = stage.cluster.path().join("running");
    snapshot(&stage.cluster, 0, &running);
    stage.cluster.wait_settled();
    for copy in [running, stopped] {
        stage.go_on();
        let copy = stage.cluster.add_server_with(Some(copy), &[], &[]);
        assert_eq!(stage.cluster.server_mut(copy).wait().code(), Some(1));
        let log = stage.cluster.server(copy).log();
        let message = format!("another process of this store is alive at {address}");
        assert!(log.contains(&message) && log.contains("new-store --new-server -d DIR"), "{log}");
        stage.cluster.forget_process(copy);
    }
    stage.finish();
}
