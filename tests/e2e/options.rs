//! Where the programs' options come from, and what the log looks like, with real processes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::process::Process;
use crate::support::wait::SOON;
use crate::support::{Program, Settings, wait_for};
use rustix::process::Signal;

fn run(mut command: Command) -> Output {
    command.output().expect("it runs")
}

#[test]
fn options_come_from_flags_then_the_environment_then_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("server.toml");
    fs::write(&file, "port = 6001\nlog-level = \"warn\"\nweight = 3\n").unwrap();
    let mut command = Program::Server.command();
    command.args(["--print-config", "-p", "7001", "--config"]).arg(&file).env("TREFOIL_WEIGHT", "5");
    let listing = String::from_utf8(run(command).stdout).unwrap();
    for (option, origin) in [
        ("port = 7001", "# --port".to_owned()),
        ("weight = 5", "# environment TREFOIL_WEIGHT".to_owned()),
        ("log-level = \"warn\"", format!("# file {}", file.display())),
        ("ecs = \"localhost:3000\"", "# default".to_owned()),
    ] {
        let listed = listing.lines().any(|line| line.starts_with(option) && line.ends_with(&origin));
        assert!(listed, "{option} {origin}:\n{listing}");
    }

    fs::write(&file, &listing).unwrap();
    let mut command = Program::Server.command();
    command.arg("--print-config").env("TREFOIL_CONFIG", &file);
    let again = String::from_utf8(run(command).stdout).unwrap();
    assert!(again.contains("port = 7001") && again.contains("weight = 5"), "a listing is a file:\n{again}");

    fs::write(&file, "partitoins = 64\n").unwrap();
    let mut command = Program::Ecs.command();
    let refused = run({
        command.arg("--config").arg(&file);
        command
    });
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("no option `partitoins`") && said.contains("partitions"), "{said}");
}

#[test]
fn a_service_manager_is_notified_of_the_start_and_the_stop() {
    let dir = tempfile::tempdir().unwrap();
    let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let notified = || {
        let mut text = [0; 64];
        let length = socket.recv(&mut text).expect("a word");
        String::from_utf8_lossy(&text[..length]).trim().to_owned()
    };
    for program in [Program::Ecs, Program::Server] {
        let mut command = program.command();
        command.args(["-p", "0", "-d"]).arg(dir.path().join(format!("{program:?}")));
        command.env("NOTIFY_SOCKET", dir.path().join("notify"));
        let mut process =
            Process::start(command, &format!("{program:?}-log"), dir.path()).expect("it starts");
        assert_eq!(notified(), "READY=1");
        assert!(process.terminate().success());
        assert_eq!(notified(), "STOPPING=1");
    }
}

#[test]
fn slow_requests_are_logged_for_programs() {
    let settings = Settings::default().server_args(&["--log-format", "json", "--slow-ms", "200"]);
    let cluster = settings.start(3);
    // One that does not answer is waited for, until it is given up.
    cluster.server(2).signal(Signal::STOP);
    let client = cluster.client();
    for n in 0..20 {
        client.put(format!("slow-{n}"), "value");
    }
    cluster.server(2).signal(Signal::CONT);
    wait_for("a slow request is logged", SOON, || {
        let logs: String = (0..3).map(|index| cluster.server(index).log()).collect();
        let lines =
            logs.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")));
        let lines: Vec<serde_json::Value> = lines.collect();
        let slow = lines.iter().find(|line| line["message"] == "a slow request").ok_or("none")?;
        assert_eq!(slow["level"], "WARN");
        assert_eq!(slow["kind"], "put", "{slow}");
        assert!(slow["took_ms"].as_u64() >= Some(200), "{slow}");
        assert!(slow["key"].as_str().is_some_and(|key| key.starts_with("slow-")), "{slow}");
        Ok(())
    });
}

/// A directory and everything in it, with the permissions of group and others.
fn open_to_others(dir: &Path) -> Vec<String> {
    let mode = |path: &Path| fs::symlink_metadata(path).map_or(0, |data| data.permissions().mode() & 0o077);
    let mut found = Vec::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(path) = waiting.pop() {
        if mode(&path) != 0 {
            found.push(format!("{} {:o}", path.display(), mode(&path)));
        }
        // A store may take a file away meanwhile.
        let within = fs::read_dir(&path).into_iter().flatten().flatten();
        waiting.extend(within.map(|entry| entry.path()));
    }
    found
}

#[test]
fn what_is_stored_and_logged_is_for_its_user_alone() {
    let settings =
        Settings { server_args: vec!["--log-file".into(), "server.log".into()], ..Settings::default() };
    let dir = tempfile::tempdir().unwrap();
    for program in [Program::Ecs, Program::Server] {
        let data = dir.path().join(format!("{program:?}"));
        let mut command = program.command();
        command.args(["-p", "0", "-d"]).arg(&data).current_dir(dir.path()).args(&settings.server_args);
        let mut process =
            Process::start(command, &format!("{program:?}-out"), dir.path()).expect("it starts");
        assert!(process.terminate().success());
        assert_eq!(open_to_others(&data), [""; 0]);
        assert_eq!(open_to_others(&dir.path().join("server.log")), [""; 0]);
        fs::remove_file(dir.path().join("server.log")).unwrap();

        // One of an earlier version: others lose their rights, a group that an operator named does not.
        fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = program.command();
        command.args(["-p", "0", "-d"]).arg(&data);
        let mut process =
            Process::start(command, &format!("{program:?}-out"), dir.path()).expect("it starts");
        assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o750);
        assert!(process.terminate().success());
    }
}

#[test]
fn signals_that_ask_for_no_end_end_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for program in [Program::Ecs, Program::Server] {
        let log = dir.path().join(format!("{program:?}.log"));
        let moved = log.with_extension("log.1");
        let mut command = program.command();
        command.args(["-p", "0", "-d"]).arg(dir.path().join(format!("{program:?}")));
        command.arg("-l").arg(&log);
        let mut process =
            Process::start(command, &format!("{program:?}-out"), dir.path()).expect("it starts");
        process.signal(Signal::USR1);
        process.signal(Signal::USR2);
        // As logrotate does it: moved away, and then the program gets the signal.
        fs::rename(&log, &moved).unwrap();
        process.signal(Signal::HUP);
        wait_for("the log goes on in a new file", SOON, || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            if text.contains("opened anew") { Ok(()) } else { Err(text) }
        });
        assert!(process.ended().is_none());
        assert!(!fs::read_to_string(&moved).unwrap().contains("opened anew"));
        // Without a file there is nothing to open.
        assert!(process.terminate().success());
        let mut command = program.command();
        command.args(["-p", "0", "-d"]).arg(dir.path().join(format!("{program:?}")));
        let mut process =
            Process::start(command, &format!("{program:?}-out"), dir.path()).expect("it starts");
        process.signal(Signal::HUP);
        assert!(process.terminate().success());
    }
}
