//! Ports and directories that belong to others, and an ECS that is not there.

use std::fs;
use std::path::Path;

use crate::support::process::{Process, Refused, free_port};
use crate::support::wait::SOON;
use crate::support::{Cluster, Program, Settings, db, wait_until};

/// Starts a program that is not to come up, with a working directory of its own.
fn refused(program: Program, dir: &Path, args: &[&str]) -> Refused {
    let mut command = program.command();
    command.current_dir(dir).args(args);
    match Process::start(command, "refused", dir) {
        Ok(process) => panic!("{program:?} {args:?} came up: {}", process.log()),
        Err(refused) => refused,
    }
}

/// It ends with `code` and says these words.
#[track_caller]
fn assert_refused(refused: &Refused, code: i32, words: &[&str]) {
    assert_eq!(refused.status.code(), Some(code), "{refused:?}");
    for word in words {
        assert!(refused.log.contains(word), "it does not say {word}: {}", refused.log);
    }
}

#[test]
fn a_port_that_is_in_use() {
    let cluster = Cluster::start(1);
    let dir = tempfile::tempdir().unwrap();
    let port = cluster.address(0).port().to_string();
    let words = ["cannot listen on 127.0.0.1:", &port, "in use", "choose another"];
    assert_refused(&refused(Program::Ecs, dir.path(), &["-p", &port, "-d", "other"]), 1, &words);
    assert_refused(&refused(Program::Server, dir.path(), &["-p", &port, "-d", "other"]), 1, &words);
    let text_port = ["-p", "0", "--text-port", &port, "-d", "other"];
    assert_refused(&refused(Program::Server, dir.path(), &text_port), 1, &words);
}

#[test]
fn a_directory_that_is_in_use() {
    let cluster = Cluster::start(1);
    let server = cluster.server_dir(0).to_str().unwrap();
    let ecs = cluster.path().join("ecs");
    let other = refused(Program::Server, cluster.path(), &["-p", "0", "-d", server]);
    assert_refused(&other, 1, &[server, "in use by another process", "-d"]);
    let other = refused(Program::Ecs, cluster.path(), &["-p", "0", "-d", ecs.to_str().unwrap()]);
    assert_refused(&other, 1, &["ecs", "in use by another"]);
    let db = cluster.client();
    db.put("still", "there");
    let inspect = Program::Server.command().args(["inspect", "-d", server]).output().unwrap();
    assert!(!inspect.status.success(), "a store that is in use is not inspected: {inspect:?}");
    assert_eq!(db.get("still").as_deref(), Some("there"));
}

#[test]
fn a_file_where_a_directory_is_expected() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "mine").unwrap();
    for (program, args) in [
        (Program::Ecs, ["-p", "0", "-d", "file"]),
        (Program::Server, ["-p", "0", "-d", "file"]),
        (Program::Ecs, ["-p", "0", "-d", "file/below"]),
        (Program::Server, ["-p", "0", "-d", "file/below"]),
    ] {
        assert_refused(&refused(program, dir.path(), &args), 1, &["director", args[3]]);
    }
    assert_eq!(fs::read_to_string(dir.path().join("file")).unwrap(), "mine");
    let log = ["-p", "0", "-d", "data", "-l", "no/such/log"];
    assert_refused(&refused(Program::Server, dir.path(), &log), 1, &["log file", "no/such/log"]);
    assert_refused(&refused(Program::Ecs, dir.path(), &log), 1, &["log file", "no/such/log"]);
}

#[test]
fn a_directory_of_something_else() {
    let mut cluster = Cluster::start(1);
    assert!(cluster.terminate_server(0).success());
    assert!(cluster.take_ecs().terminate().success());
    let (server, ecs) = (cluster.server_dir(0).to_owned(), cluster.path().join("ecs"));
    let (server, ecs) = (server.to_str().unwrap(), ecs.to_str().unwrap());
    let stranger = tempfile::tempdir().unwrap();
    let (letters, logs) = (stranger.path().join("letters"), stranger.path());
    fs::create_dir(&letters).unwrap();
    fs::write(letters.join("letter.txt"), "dear").unwrap();
    let letters = letters.to_str().unwrap();
    for dir in [server, letters] {
        assert_refused(&refused(Program::Ecs, logs, &["-p", "0", "-d", dir]), 1, &[dir, "something else"]);
    }
    for dir in [ecs, letters] {
        let output = Program::Server.command().args(["inspect", "-d", dir]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(dir), "{output:?}");
    }
    // What was there is as it was.
    cluster.start_ecs();
    cluster.start_server(0);
    cluster.wait_settled();
}

#[test]
fn a_directory_of_another_cluster() {
    let mut own = Cluster::start(1);
    let all = db::pairs("key/", 100);
    own.client().put_many(&all);
    assert!(own.terminate_server(0).success());

    let mut other = Cluster::start(1);
    let guest = other.add_server_with(Some(own.server_dir(0).to_owned()), &[], &[]);
    wait_until("the server says what is wrong", SOON, || {
        let log = other.server(guest).log();
        log.contains("belongs to") && log.contains("-d") && log.contains("-b")
    });
    wait_until("its ECS says so too", SOON, || other.ecs().log().contains("belongs to the cluster"));
    assert_eq!(other.status().unwrap().servers.len(), 1);
    // It is said once, not again and again.
    let db = db::Db::connect(&[other.address(0).to_string()]);
    (0..50).for_each(|i| _ = db.put("key", i.to_string()));
    let log = other.server(guest).log();
    assert_eq!(log.matches("belongs to").count(), 1, "{log}");
    other.terminate_server(guest);

    own.start_server(0);
    own.wait_settled();
    assert_eq!(own.client().scan("key/"), all, "no damage was done");
}

#[test]
fn an_ecs_that_comes_later() {
    let mut cluster = Settings::default().start_ecs();
    assert!(cluster.take_ecs().terminate().success());
    cluster.add_server();
    let says = "the ECS cannot be reached";
    wait_until("the server says that there is no ECS", SOON, || cluster.server(0).log().contains(says));
    let output = cluster.kvclient(0, &["--timeout", "300ms", "get", "a"]);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    cluster.start_ecs();
    cluster.wait_settled();
    let log = cluster.server(0).log();
    assert_eq!(log.matches(says).count(), 1, "{log}");
    cluster.client().put("a", "b");
}

#[test]
fn an_ecs_that_is_something_else() {
    // A port where something listens that never says a word.
    let listener = std::net::TcpListener::bind(("127.0.0.1", free_port())).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut command = Program::Server.command();
    command.current_dir(dir.path()).args(["-p", "0", "-d", "data", "--drain-ms", "0", "-b"]);
    command.arg(listener.local_addr().unwrap().to_string());
    let mut server = Process::start(command, "server", dir.path()).unwrap();
    let (accepted, _) = listener.accept().expect("the server connects");
    drop(accepted);
    wait_until("it says that the ECS went", SOON, || server.log().contains("the ECS cannot be reached"));
    assert!(server.ended().is_none(), "it goes on");
    assert!(server.terminate().success());
}
