//! Storage directories that are damaged while their server is away: it says what is wrong, keeps the damaged files, and
//! is filled anew; nothing acknowledged is lost.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::support::wait::SOON;
use crate::support::{Cluster, Load, Settings, db, wait_for, wait_until};

/// All files below a folder.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// Flips a bit in the middle of what was written to a file (the rest of a log's segment is zeros).
fn flip(path: &Path) {
    let mut bytes = fs::read(path).expect("a file");
    let Some(last) = bytes.iter().rposition(|&byte| byte != 0) else { return };
    bytes[last / 2] ^= 4;
    fs::write(path, bytes).expect("a file");
}

/// Flips a bit in a file that a server has open, in place.
fn flip_in_place(path: &Path) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).expect("a file");
    let at = file.metadata().expect("its length").len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("a byte");
    file.write_all_at(&[byte[0] ^ 4], at).expect("a byte");
}

fn flip_log(dir: &Path) {
    let numbered = |path: &PathBuf| !path.file_name().expect("a name").to_string_lossy().starts_with("free-");
    files(&dir.join("log")).iter().filter(|path| numbered(path)).for_each(|path| flip(path));
}

fn flip_trees(dir: &Path) {
    files(&dir.join("trees")).iter().for_each(|path| flip(path));
}

/// A server of three is killed under load and damaged; what it says, and that it is whole again.
fn damaged_and_filled_anew(damage: fn(&Path), words: &[&str]) {
    let mut cluster = Cluster::start(3);
    let all = db::pairs("key/", 500);
    cluster.client().put_many(&all);
    let load = Load::start("load", &cluster.seeds(), 4);
    load.wait_for_more(200);
    cluster.kill_server(1);
    damage(cluster.server_dir(1));
    cluster.start_server(1);
    wait_until("the store is set aside", 2 * SOON, || {
        cluster.server(1).log().contains("is filled anew from the other")
    });
    let log = cluster.server(1).log();
    assert!(words.iter().all(|word| log.contains(word)), "{log}");
    assert!(log.contains("damaged-1"), "{log}");
    for kept in ["damaged-1/log", "damaged-1/trees", "damaged-1/identity", "damaged-1/reason"] {
        assert!(cluster.server_dir(1).join(kept).exists(), "{kept} is not kept");
    }
    load.wait_for_more(200);
    cluster.wait_settled();
    let recording = load.stop();
    recording.assert_no_failures();
    // Asked of the damaged one alone, when the others are gone: it has everything.
    cluster.kill_server(0);
    cluster.kill_server(2);
    let alone = cluster.client();
    recording.verify(&alone);
    assert_eq!(alone.scan("key/"), all);
}

#[test]
fn a_server_with_a_damaged_log_is_filled_anew() {
    damaged_and_filled_anew(flip_log, &[".log is damaged at byte"]);
}

#[test]
fn a_server_with_damaged_trees_is_filled_anew() {
    damaged_and_filled_anew(flip_trees, &["trees", "is damaged (partition"]);
}

/// Bytes of each value: large enough to reach the disk beside the log, too large to stay in a small cache.
const LARGE_BYTES: usize = 1 << 20;

/// Values of the live server whose files are damaged.
const LARGE: usize = 120;

#[test]
fn flipped_bytes_under_a_live_server_are_found_by_the_scrub_and_repaired() {
    let settings = Settings { same_ports: true, ..Settings::default() };
    let args = ["--log-mb", "64", "--cache-mb", "1", "--scrub-interval", "1", "--scrub-rate", "0"];
    let cluster = settings.server_args(&args).start(3);
    let small = db::pairs("key/", 200);
    let db = cluster.client();
    db.put_many(&small);
    // Bytes that no compression makes fewer.
    let value =
        |n: usize| format!("{n} ") + &(0..LARGE_BYTES).map(|_| fastrand::alphanumeric()).collect::<String>();
    let large: BTreeMap<String, String> = (0..LARGE).map(|n| (format!("large/{n}"), value(n))).collect();
    for (key, value) in &large {
        db.put(key.clone(), value.clone());
    }
    let values = || -> Vec<PathBuf> {
        let is_large = |path: &PathBuf| fs::metadata(path).is_ok_and(|of| of.len() > LARGE_BYTES as u64 / 4);
        files(&cluster.server_dir(1).join("trees")).into_iter().filter(is_large).collect()
    };
    wait_until("values reach the trees' files", SOON, || !values().is_empty());
    let load = Load::start("load", &cluster.seeds(), 4);
    load.wait_for_more(100);
    values().iter().for_each(|path| flip_in_place(path));
    wait_until("the damage is found", 2 * SOON, || cluster.server(1).log().contains("Starting again"));
    wait_until("the server is empty", SOON, || {
        cluster.server(1).log().contains("is filled anew from the other")
    });
    // What any of them reads meanwhile is right, or comes from another.
    for (key, value) in &large {
        assert_eq!(db.get(key.clone()).as_ref(), Some(value));
    }
    load.wait_for_more(100);
    cluster.wait_settled();
    let recording = load.stop();
    recording.assert_no_failures();
    recording.verify(&db);
    let passes = || {
        let address = cluster.address(1).to_string();
        db.block(db.client.server_status(&address)).map_or(0, |status| status.scrub.passes)
    };
    wait_until("what was filled anew is read through", 2 * SOON, || passes() > 0);
    assert_eq!(db.scan("key/"), small);
    assert!(db.scan("large/") == large);
    let output = cluster.kvclient(0, &["verify"]);
    assert!(output.status.success() && output.stdout.starts_with(b"OK: 192 copies"), "{output:?}");
}

/// Entries of the log are read only by a restart, or for a member that is behind; and by the scrub.
#[test]
fn a_flipped_byte_in_the_log_of_a_live_server_is_found_by_the_scrub() {
    let settings = Settings { same_ports: true, ..Settings::default() };
    let cluster = settings.server_args(&["--scrub-interval", "1", "--scrub-rate", "0"]).start(3);
    let mut all = db::pairs("key/", 300);
    let marked = format!("marked {}", "m".repeat(100));
    all.insert("key/marked".to_owned(), marked.clone());
    let db = cluster.client();
    db.put_many(&all);
    let log = cluster.server_dir(1).join("log");
    let find = |path: &PathBuf| {
        let bytes = fs::read(path).expect("a segment");
        let at = bytes.windows(marked.len()).position(|window| window == marked.as_bytes())?;
        Some((path.clone(), at))
    };
    let (segment, at) = files(&log).iter().find_map(find).expect("it is in the log");
    let file = fs::OpenOptions::new().write(true).open(&segment).expect("a segment");
    file.write_all_at(b"M", at as u64).expect("a byte");
    wait_until("the damage is found", 2 * SOON, || {
        let log = cluster.server(1).log();
        log.contains("does not check") && log.contains("Starting again")
    });
    cluster.wait_settled();
    assert_eq!(db.scan("key/"), all);
    let output = cluster.kvclient(0, &["verify"]);
    assert!(output.status.success(), "{output:?}");
}

/// All copies of all partitions are compared while they are written to, some of them having been away.
#[test]
fn copies_are_equal_under_load() {
    let mut cluster = Cluster::start(3);
    cluster.client().put_many(&db::pairs("key/", 300));
    let load = Load::start("load", &cluster.seeds(), 4);
    load.wait_for_more(200);
    cluster.kill_server(2);
    load.wait_for_more(200);
    cluster.start_server(2);
    cluster.wait_settled();
    let output = cluster.kvclient(0, &["verify", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(found["equal"], true);
    let partitions = found["partitions"].as_array().expect("a list");
    assert!(partitions.iter().all(|one| one["copies"].as_array().is_some_and(|copies| copies.len() == 3)));
    let keys: u64 = partitions.iter().filter_map(|one| one["copies"][0]["keys"].as_u64()).sum();
    assert!(keys >= 300, "{keys} keys");
    load.stop().assert_no_failures();
}

/// The only copy is not set aside, nor is anything else done to it, until an operator takes it back as far as it reads.
#[test]
fn the_only_copy_with_a_damaged_log_waits_and_is_taken_back() {
    let mut cluster = Cluster::start(1);
    let all = db::pairs("key/", 200);
    for (key, value) in &all {
        cluster.client().put(key.clone(), value.clone());
    }
    cluster.kill_server(0);
    let log = |dir: &Path| files(&dir.join("log")).into_iter().map(|path| fs::read(path).expect("a file"));
    flip_log(cluster.server_dir(0));
    let before: Vec<Vec<u8>> = log(cluster.server_dir(0)).collect();
    cluster.start_server(0);
    let words = [".log is damaged at byte", "Nothing is changed", "the store is kept: of partitions 0, 1,"];
    wait_until("it waits", SOON, || words.iter().all(|word| cluster.server(0).log().contains(word)));
    // The server gets the verdict at once, the view comes some milliseconds later.
    wait_for("the status says what waits", SOON, || {
        let status = cluster.status()?;
        let said = (status.stores_waiting.len(), status.offline);
        if said == (1, 64) { Ok(()) } else { Err(format!("{status:?}")) }
    });
    assert!(cluster.terminate_server(0).success());
    let after: Vec<Vec<u8>> = log(cluster.server_dir(0)).collect();
    assert!(before == after && !cluster.server_dir(0).join("damaged-1").exists());
    let output = cluster.reinstate(0, &[]);
    assert!(output.contains(": up to entry ") && output.contains("cut-1"), "{output}");
    cluster.start_server(0);
    cluster.wait_settled();
    let found = cluster.client().scan("key/");
    assert!(!found.is_empty() && found.iter().all(|(key, value)| all.get(key) == Some(value)), "{found:?}");
    wait_for("no store waits", SOON, || {
        let status = cluster.status()?;
        if status.stores_waiting.is_empty() { Ok(()) } else { Err(format!("{status:?}")) }
    });
}

/// Files that the others have as well are fetched from them.
#[test]
fn a_damaged_or_lost_view_and_count_of_starts_are_no_reason_to_stop() {
    let mut cluster = Cluster::start(3);
    let all = db::pairs("key/", 100);
    cluster.client().put_many(&all);
    for (server, damage) in [(0, true), (1, false)] {
        for name in ["view", "incarnation"] {
            cluster.kill_server(server);
            let path = cluster.server_dir(server).join(name);
            if damage {
                fs::write(&path, b"something else").expect("it can be written");
            } else {
                fs::remove_file(&path).expect("it is there");
            }
            cluster.start_server(server);
            let noticed = if damage { "is damaged" } else { "missing" };
            let log = cluster.server(server).log();
            assert!(log.contains(noticed) || log.contains("its file was removed"), "{name}: {log}");
            cluster.wait_settled();
        }
    }
    assert_eq!(cluster.client().scan("key/"), all);
    assert!((0..3).all(|server| !cluster.server_dir(server).join("damaged-1").exists()));
}
