//! redis-cli, redis-benchmark, redis-py and valkey-py, where they are on this machine.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use skipped::{Missing, skip};

use crate::support::Cluster;
use crate::support::resp::command;

/// Keys for the tools that look at all of them.
const KEYS: usize = 3000;

/// Whether a program can be started.
pub(super) fn is_there(program: &'static str) -> bool {
    let found =
        Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        skip!(Missing::Redis(program));
    }
    found
}

fn run(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // A program that has read enough may end before.
        let _closed = stdin.write_all(&input);
    });
    let output = child.wait_with_output().expect("the program ends");
    writer.join().expect("a thread");
    output
}

fn redis_cli(address: SocketAddr, args: &[&str], input: &[u8]) -> String {
    let mut command = Command::new("redis-cli");
    command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()]).args(args);
    let output = run(&mut command, input);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn redis_cli_and_its_tools() {
    if !is_there("redis-cli") {
        return;
    }
    let cluster = Cluster::start(3);
    let at = |server: usize| cluster.address(server);
    for version in ["-2", "-3"] {
        let session = b"SET a 1\nINCR a\nTTL a\nMULTI\nGET a\nSTRLEN a\nEXEC\nHSET a f v\nGETDEL a\n";
        let printed = redis_cli(at(0), &[version], session);
        let expected = "OK\n2\n-1\nOK\nQUEUED\nQUEUED\n2\n1\nERR unknown command 'HSET', with args beginning with: \
            'a' 'f' 'v' \n\n2\n";
        assert_eq!(printed, expected, "{version}");
    }
    // A terminal's view of the replies.
    assert_eq!(redis_cli(at(1), &["--no-raw", "GET", "a"], b""), "(nil)\n");
    assert_eq!(redis_cli(at(1), &["--no-raw", "-3", "MSET", "a", "1", "b", "2"], b""), "OK\n");
    // As many commands as there are, in one go, as arrays and as lines.
    let arrays: Vec<u8> =
        (0..KEYS).flat_map(|i| command(&["SET", &format!("pipe:{i}"), &"x".repeat(i)])).collect();
    assert!(redis_cli(at(2), &["--pipe"], &arrays).contains(&format!("errors: 0, replies: {KEYS}")));
    let lines: String = (0..KEYS).map(|i| format!("SET line:{i} {i}\r\n")).collect();
    assert!(redis_cli(at(0), &["--pipe"], lines.as_bytes()).contains(&format!("errors: 0, replies: {KEYS}")));
    let scanned = redis_cli(at(1), &["--scan", "--pattern", "pipe:*"], b"");
    assert_eq!(scanned.lines().count(), KEYS);
    let big = redis_cli(at(2), &["--bigkeys"], b"");
    assert!(big.contains(&format!("'\"pipe:{}\"' has {} bytes", KEYS - 1, KEYS - 1)), "{big}");
    let memory = redis_cli(at(0), &["--memkeys"], b"");
    assert!(memory.contains(&format!("pipe:{}", KEYS - 1)), "{memory}");
    assert!(redis_cli(at(1), &["INFO", "server"], b"").contains("redis_version:7.2.4"));
    assert_eq!(redis_cli(at(0), &["DBSIZE"], b""), format!("{}\n", 2 * KEYS + 2));
    assert_eq!(redis_cli(at(0), &["FLUSHALL"], b""), "OK\n");
    assert_eq!(redis_cli(at(2), &["DBSIZE"], b""), "0\n");
}

#[test]
fn redis_benchmark() {
    if !is_there("redis-benchmark") {
        return;
    }
    let cluster = Cluster::start(3);
    for depth in ["1", "16"] {
        let address = cluster.address(0);
        let output = run(
            Command::new("redis-benchmark")
                .args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()])
                .args(["-n", "2000", "-c", "10", "-r", "500", "-P", depth, "--csv"])
                .args(["-t", "ping,set,get,incr,mset"]),
            b"",
        );
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{output:?}");
        for test in ["PING_MBULK", "SET", "GET", "INCR", "MSET (10 keys)"] {
            assert!(printed.contains(&format!("\"{test}\"")), "{printed}");
        }
        assert!(!printed.contains("rror"), "{printed}");
    }
}

/// A Python that has both libraries: the machine's, or one of our own in the build directory, made once.
fn python() -> Option<PathBuf> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    let has_both = |python: &Path| {
        let check = Command::new(python).args(["-c", "import redis, valkey"]).stderr(Stdio::null()).status();
        check.is_ok_and(|status| status.success())
    };
    let make = || {
        let system = PathBuf::from("python3");
        if has_both(&system) {
            return Some(system);
        }
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
        let python = dir.join("bin/python");
        if has_both(&python) {
            return Some(python);
        }
        // At most two minutes: a machine without a network must not wait for ever.
        let venv = Command::new("timeout").args(["60", "python3", "-m", "venv"]).arg(&dir).output();
        let made = venv.is_ok_and(|output| output.status.success());
        let pip = || {
            let mut pip = Command::new("timeout");
            let packages = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/redis/requirements.txt");
            pip.arg("60").arg(&python).args(["-m", "pip", "install", "-q", "-r", packages]);
            pip.output().is_ok_and(|output| output.status.success())
        };
        (made && pip() && has_both(&python)).then_some(python)
    };
    let python = PYTHON.get_or_init(make).clone();
    if python.is_none() {
        skip!(Missing::Python, "and they could not be installed from PyPI");
    }
    python
}

#[test]
fn python_libraries() {
    let Some(python) = python() else { return };
    let cluster = Cluster::start(3);
    let ports = (0..3).map(|at| cluster.address(at).port().to_string());
    let output = run(Command::new(python).arg("-").args(ports), include_bytes!("clients.py"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 12, "{output:?}");
}
