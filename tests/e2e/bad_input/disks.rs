//! Disks that are full, and disks that fail.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::status::MemberStatus;
use kvclient::Error;
use skipped::{Missing, skip};

use tempfile::TempDir;

use crate::support::process::Program;
use crate::support::wait::SOON;
use crate::support::{Cluster, Load, Settings, db, wait_for, wait_until};

/// The small disk, and what is to stay free on it, in MiB: it holds the log's first segments and some more.
const DISK_MB: u32 = 160;
const RESERVE_MB: &str = "60";

/// Bytes of each value that fills the disk.
const VALUE_BYTES: usize = 256 << 10;

/// A file system in memory, unmounted when it is dropped.
pub(crate) struct SmallDisk {
    at: TempDir,
}

impl SmallDisk {
    /// Only root can; where it is refused the test is skipped.
    pub(crate) fn mount() -> Option<Self> {
        let at = tempfile::Builder::new().prefix("trefoil-e2e-disk-").tempdir().expect("a directory");
        let size = format!("size={DISK_MB}m");
        match Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at.path()).output() {
            Ok(output) if output.status.success() => Some(Self { at }),
            refused => {
                skip!(Missing::Mount, "{refused:?}");
                None
            }
        }
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.at.path().join("data")
    }

    fn enlarge(&self) {
        let status = Command::new("mount").args(["-o", "remount,size=400m"]).arg(self.at.path()).status();
        assert!(status.expect("mount runs").success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _status = Command::new("umount").arg("-l").arg(self.at.path()).status();
    }
}

/// Bytes that no compression makes fewer.
fn value() -> String {
    (0..VALUE_BYTES).map(|_| fastrand::alphanumeric()).collect()
}

#[test]
fn a_full_disk_refuses_writes_and_answers_reads() {
    let Some(disk) = SmallDisk::mount() else { return };
    let mut cluster = Settings::default().start_ecs();
    let args = ["--reserve-mb", RESERVE_MB, "--log-mb", "64"];
    cluster.add_server_with(Some(disk.dir()), &args, &[]);
    cluster.wait_settled();
    let db = cluster.client();
    let mut all = BTreeMap::new();
    let refusal = loop {
        let (key, value) = (format!("key-{}", all.len()), value());
        match db.block(db.client.put(key.clone(), value.clone())) {
            Ok(_) => all.insert(key, value),
            Err(error) => break error,
        };
        assert!(all.len() < DISK_MB as usize * (1 << 20) / VALUE_BYTES, "the disk holds more than it can");
    };
    println!("{} values, then: {refusal}", all.len());
    assert!(matches!(&refusal, Error::Refused { reason } if reason.contains("disk full")), "{refusal}");
    assert!(all.len() > 20, "only {} values", all.len());
    let output = cluster.kvclient(0, &["put", "one", "more"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && text.contains("disk full"), "{output:?}");
    let mut lines = crate::support::TextClient::connect(cluster.address(0));
    let reply = lines.ask("put one more");
    assert!(reply.starts_with("put_error ") || reply.contains("disk full"), "{reply}");
    assert!(cluster.server(0).log().contains("writes are refused"), "{}", cluster.server(0).log());
    assert_eq!(db.scan("key-").len(), all.len());

    // A crash with a full disk, and everything is there.
    cluster.kill_server(0);
    cluster.start_server(0);
    cluster.wait_settled();
    let db = cluster.client();
    assert_eq!(db.scan("key-").len(), all.len());
    assert!(matches!(db.block(db.client.put("one", "more")), Err(Error::Refused { .. })));
    // The disk is made larger: writes go on by themselves.
    disk.enlarge();
    wait_until("writes are taken again", SOON, || db.block(db.client.put("one", "more")).is_ok());
    for (key, value) in &all {
        assert_eq!(db.get(key.clone()).as_ref(), Some(value));
    }
}

#[test]
fn a_replica_whose_disk_is_full_stops_and_comes_back() {
    let Some(disk) = SmallDisk::mount() else { return };
    let mut cluster = Cluster::start(2);
    // Its own reserve does not help it: others coordinate most of what it writes.
    let small = cluster.add_server_with(Some(disk.dir()), &["--reserve-mb", "1", "--log-mb", "64"], &[]);
    cluster.wait_settled();
    let db = cluster.client();
    let mut all = BTreeMap::new();
    while cluster.server_mut(small).ended().is_none() {
        let (key, value) = (format!("key-{}", all.len()), value());
        match db.block(db.client.put(key.clone(), value.clone())) {
            Ok(_) => _ = all.insert(key, value),
            // It had a moment to say so before it was full.
            Err(Error::Refused { reason }) if reason.contains("disk full") => {}
            Err(error) => panic!("{error}"),
        }
        assert!(all.len() < 2000, "it never becomes full");
    }
    println!("it stopped after {} values", all.len());
    let log = cluster.server(small).log();
    assert!(log.contains("the disk is full") && log.contains("Make room and start again"), "{log}");
    cluster.forget_process(small);
    assert_eq!(cluster.client().scan("key-"), all);
    db.put("and", "writes go on");
    disk.enlarge();
    cluster.start_server(small);
    cluster.wait_settled();
    let db = db::Db::connect(&[cluster.address(small).to_string()]);
    assert_eq!(db.scan("key-"), all);
}

/// Others may fill a disk beyond the reserve. A server goes on with new views then, and answers reads.
#[test]
fn a_disk_without_a_byte_left_takes_views() {
    let Some(disk) = SmallDisk::mount() else { return };
    let mut cluster = Cluster::start(2);
    let small = cluster.add_server_with(Some(disk.dir()), &["--reserve-mb", "8", "--log-mb", "64"], &[]);
    cluster.wait_settled();
    let all = db::pairs("key/", 200);
    cluster.client().put_many(&all);

    let ballast = disk.at.path().join("ballast");
    let mut file = std::fs::File::create(&ballast).expect("a file");
    let zeros = vec![0; 64 << 10];
    while file.write(&zeros).is_ok_and(|written| written > 0) {}
    drop(file);
    let before = cluster.status().expect("the ECS answers").view;
    cluster.kill_server(1);
    let address = cluster.address(small).to_string();
    wait_for("it follows the views of the fail-over", SOON, || {
        let status = cluster.status()?;
        let is_it = |server: &&MemberStatus| server.address == address && server.view == status.view;
        let follows =
            status.view > before && status.offline == 0 && status.servers.iter().any(|one| is_it(&one));
        if follows { Ok(()) } else { Err(format!("{status:?}")) }
    });
    let db = db::Db::connect(&[address]);
    assert_eq!(db.scan("key/"), all);
    assert!(cluster.server_mut(small).ended().is_none());

    std::fs::remove_file(&ballast).expect("it is there");
    cluster.start_server(1);
    cluster.wait_settled();
    wait_until("there is a spare again", SOON, || disk.dir().join("spare").exists());
    wait_until("writes are taken again", SOON, || db.block(db.client.put("one", "more")).is_ok());
}

/// Compiles the library that makes fsync fail, or take long.
pub(crate) fn shim(dir: &Path) -> Result<PathBuf, String> {
    let (library, source) = (
        dir.join("fsync_fails.so"),
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/support/fsync_fails.c"),
    );
    let output =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl").output();
    let output = output.map_err(|error| format!("cc: {error}"))?;
    if output.status.success() { Ok(library) } else { Err(format!("cc: {output:?}")) }
}

#[test]
fn a_failed_fsync_stops_the_server_and_loses_nothing() {
    let mut cluster = Cluster::start(2);
    let library = match shim(cluster.path()) {
        Ok(library) => library,
        Err(reason) => {
            skip!(Missing::CCompiler, "{reason}");
            return;
        }
    };
    let fault = cluster.path().join("fault");
    let (library, file) = (library.to_str().unwrap().to_owned(), fault.to_str().unwrap().to_owned());
    let failing = cluster.add_server_with(None, &[], &[("LD_PRELOAD", &library), ("FSYNC_FAILS_IF", &file)]);
    cluster.wait_settled();
    let all = db::pairs("key/", 500);
    cluster.client().put_many(&all);
    let load = Load::start("load", &cluster.seeds(), 4);
    std::fs::write(&fault, "").unwrap();
    let status = cluster.server_mut(failing).wait();
    assert_eq!(status.code(), Some(1), "{status}");
    let log = cluster.server(failing).log();
    // The commit log, as a rule; a tree that was just being made may be reported first.
    assert!(log.contains("the store failed") && log.contains("os error 5"), "{log}");
    load.wait_for_more(200);
    let recording = load.stop();
    recording.assert_no_failures();
    let others = db::Db::connect(&[cluster.address(0).to_string()]);
    recording.verify(&others);
    assert_eq!(others.scan("key/"), all);

    // What failed once is not trusted again, even if the disk seems to be well now.
    std::fs::remove_file(&fault).unwrap();
    cluster.forget_process(failing);
    cluster.start_server(failing);
    wait_until("the store is set aside", 2 * SOON, || {
        cluster.server(failing).log().contains("not used again")
    });
    let log = cluster.server(failing).log();
    assert!(log.contains("not used again") && log.contains("os error 5"), "{log}");
    assert!(cluster.server_dir(failing).join("damaged-1/log").is_dir());
    cluster.wait_settled();
    let db = db::Db::connect(&[cluster.address(failing).to_string()]);
    recording.verify(&db);
    assert_eq!(db.scan("key/"), all);
}

/// A blip of the storage: fsync fails at each server once. All data is on the disks, and no server can know whether
/// another one has it.
#[test]
fn a_failed_fsync_at_all_servers_loses_nothing() {
    const SERVERS: usize = 3;
    let place = tempfile::Builder::new().prefix("trefoil-e2e-blip-").tempdir().expect("a directory");
    let library = match shim(place.path()) {
        Ok(library) => library.to_str().unwrap().to_owned(),
        Err(reason) => return skip!(Missing::CCompiler, "{reason}"),
    };
    let fault = place.path().join("fault");
    let file = fault.to_str().unwrap().to_owned();
    let server_env = vec![("LD_PRELOAD".to_owned(), library), ("FSYNC_FAILS_IF".to_owned(), file)];
    let mut cluster = Settings { server_env, same_ports: true, ..Settings::default() }.start(SERVERS);
    let all = db::pairs("key/", 500);
    cluster.client().put_many(&all);

    std::fs::write(&fault, "").unwrap();
    let writer = cluster.address(0).to_string();
    let mut command = Program::Client.command();
    let mut writer =
        command.args(["-s", &writer, "put", "during", "the blip"]).spawn().expect("kvclient runs");
    for server in 0..SERVERS {
        assert_eq!(cluster.server_mut(server).wait().code(), Some(1));
        let log = cluster.server(server).log();
        assert!(!log.contains("is at its replicas"), "{log}");
        cluster.forget_process(server);
    }
    let _ended = writer.kill().and_then(|()| writer.wait());
    std::fs::remove_file(&fault).unwrap();

    // Nothing is set aside, and nothing is begun anew.
    (0..SERVERS).for_each(|server| cluster.start_server(server));
    for server in 0..SERVERS {
        wait_until("the store is kept", SOON, || {
            cluster.server(server).log().contains("the store is kept: of part")
        });
        assert!(!cluster.server_dir(server).join("damaged-1").exists());
    }
    // The servers are answered at once, the view comes some milliseconds later.
    wait_for("the status says what waits", SOON, || {
        let status = cluster.status()?;
        let all = (status.stores_waiting.len(), status.offline) == (SERVERS, status.partitions);
        if all { Ok(()) } else { Err(format!("{status:?}")) }
    });
    // Each server answers where the verdict is, and nothing else.
    let output = cluster.kvclient(1, &["status"]);
    let status = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(status.starts_with("OFFLINE: ") && status.contains("kvserver reinstate"), "{output:?}");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let answer = |request: &[u8]| {
        let mut stream = TcpStream::connect(cluster.address(1)).expect("it listens");
        stream.write_all(request).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers and closes");
        answer
    };
    let answer_resp = answer(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
    assert!(answer_resp.starts_with("-LOADING this server waits with a store"), "{answer_resp}");
    assert_eq!(answer(b"get k\r\n"), "server_stopped\r\n");
    let ecs = cluster.ecs_address().to_string();
    let output = cluster.kvclient(0, &["admin", "--ecs", &ecs, "recover-partition", "7", "--accept-loss"]);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && errors.contains("kvserver reinstate -d"), "{output:?}");

    for server in 0..SERVERS {
        assert!(cluster.terminate_server(server).success());
        let output = cluster.reinstate(server, &[]);
        assert!(output.starts_with("OK: the store in") && !output.contains("did not read"), "{output}");
    }
    (0..SERVERS).for_each(|server| cluster.start_server(server));
    cluster.wait_settled();
    assert_eq!(cluster.client().scan("key/"), all);
    assert!((0..SERVERS).all(|server| !cluster.server_dir(server).join("damaged-1").exists()));
}
