//! Every command block of the README and of the quick start is run, with the programs of this build and free ports in
//! place of those of the pages.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use skipped::{Missing, skip};

mod links;
mod marks;
mod quick_start;

const README: &str = include_str!("../../README.md");

/// A fenced block.
struct Block {
    language: String,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(language) = line.strip_prefix("```") else { continue };
        let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        blocks.push(Block { language: language.to_owned(), text: text.join("\n") });
    }
    blocks
}

fn block(beginning: &str) -> String {
    let mut found = blocks(README).into_iter().filter(|block| block.text.starts_with(beginning));
    found.next().unwrap_or_else(|| panic!("README.md has no block that begins with {beginning:?}")).text
}

/// The block that a program types into the box's shell, by its prompt.
const PROMPT: &str = "kvclient> ";

/// Versions and times differ from run to run.
fn without_figures(text: &str) -> String {
    text.split_inclusive(char::is_whitespace)
        .filter(|word| !word.starts_with(|c: char| c.is_ascii_digit()))
        .collect::<String>()
        .trim()
        .to_owned()
}

fn run_box(dir: &Path, input: &str) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_trefoil"))
        .args(["--reserve-mb", "1"])
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let log = || fs::read_to_string(dir.join("trefoil-data/log")).unwrap_or_default();
    assert!(output.status.success(), "{}\n{}", output.status, log());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_block_is_known_to_a_test() {
    let known = [
        "cargo run --release",
        PROMPT,
        "printf 'put greeting hello",
        "cargo test --workspace",
        "cargo build --release",
        "$ nc localhost 5001",
        "printf 'SET colour",
        // tests/e2e/rust_client.rs
        "use std::time::Duration;\nuse kvclient::",
    ];
    for block in blocks(README) {
        let known = known.iter().any(|known| block.text.starts_with(known));
        assert!(known, "no test runs this `{}` block:\n{}", block.language, block.text);
    }
    assert_eq!(block("cargo test"), "cargo test --workspace");
}

#[test]
fn the_box_answers_as_shown_and_finds_its_data_again() {
    let dir = tempfile::tempdir().unwrap();
    let session = block(PROMPT);
    let input: String = session
        .lines()
        .filter_map(|line| line.strip_prefix(PROMPT))
        .map(|line| format!("{line}\n"))
        .collect();
    let expected: Vec<&str> = session.lines().filter(|line| !line.starts_with(PROMPT)).collect();
    let printed = run_box(dir.path(), &input);
    let printed: Vec<&str> = printed.lines().collect();
    for (index, expected) in expected.iter().enumerate() {
        let printed_line = without_moves(printed[index]);
        assert_eq!(without_figures(&printed_line), without_figures(expected), "{printed:#?}");
    }

    let again = run_box(dir.path(), "get greeting\n");
    assert_eq!(again, "hello\n");

    let piped = block("printf").replace("cargo run --release --quiet", env!("CARGO_BIN_EXE_trefoil"));
    let output = Command::new("bash").arg("-c").arg(piped).current_dir(dir.path()).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && stdout.ends_with("hello\n"), "{stdout}{:?}", output.stderr);
}

/// A line of a status without what is still to move: a quick reader sees partitions on their way to the servers that
/// came last.
fn without_moves(line: &str) -> String {
    let parts = line.split(", ");
    parts
        .filter(|part| !part.ends_with("not in their place yet") && !part.ends_with("being made"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// A script and all that it started; killed together.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_child(&self.0);
        let _gone = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _reaped = self.0.wait();
    }
}

fn free_ports<const N: usize>() -> [u16; N] {
    // All are held until all are known, so that they differ.
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// The first line of `kvclient status`, once it is as it should be: partitions move while the servers join.
fn wait_for_status(port: u16, is_wanted: impl Fn(&str) -> bool) -> String {
    const LOOKS_MAX: usize = 2000;
    let mut verdict = String::new();
    for _ in 0..LOOKS_MAX {
        let server = format!("localhost:{port}");
        let status =
            Command::new(env!("CARGO_BIN_EXE_kvclient")).args(["-s", &server, "status"]).output().unwrap();
        verdict = String::from_utf8_lossy(&status.stdout).lines().next().unwrap_or_default().to_owned();
        if is_wanted(&verdict) {
            return verdict;
        }
    }
    panic!("the status was not as it should be after {LOOKS_MAX} looks: {verdict}");
}

/// Everything is in place, and nothing moves.
fn is_settled(verdict: &str, servers: usize) -> bool {
    verdict.starts_with("healthy")
        && verdict.contains(&format!(", {servers} servers, "))
        && verdict.ends_with("more failures, writes 1")
}

/// The README's "Run it by hand" with the programs of this build.
fn by_hand() -> String {
    let bin = Path::new(env!("CARGO_BIN_EXE_kvserver")).parent().unwrap();
    block("cargo build --release")
        .replace("cargo build --release\n", "")
        .replace("$PWD/target/release", bin.to_str().unwrap())
}

/// A script with other ports than those of the pages: the ECS's, and the servers' in their order.
fn at_ports(script: &str, ports: &[u16]) -> String {
    let written = ["3000", "5001", "5002", "5003", "5004"];
    written
        .iter()
        .zip(ports)
        .fold(script.to_owned(), |script, (old, new)| script.replace(old, &new.to_string()))
}

/// Requests and replies by turns. False if this server is not the one to ask, as the README says it may be.
fn telnet(port: u16, session: &[&str]) -> bool {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut replies = BufReader::new(stream.try_clone().unwrap());
    for exchange in session.chunks(2) {
        writeln!(stream, "{}", exchange[0]).unwrap();
        let mut reply = String::new();
        replies.read_line(&mut reply).unwrap();
        if reply.trim_end() == "server_not_responsible" {
            return false;
        }
        assert_eq!(reply.trim_end(), exchange[1]);
    }
    true
}

#[test]
fn by_hand_and_by_telnet() {
    let dir = tempfile::tempdir().unwrap();
    let ports: [u16; 4] = free_ports();
    let mut script = at_ports(&by_hand(), &ports);
    // The end of the script must not end what it started; the test does. What it started holds the pipe open.
    script.insert_str(0, "trap 'echo done' EXIT\n");
    script.push_str("\necho done\nwait\n");
    let mut child = Command::new("bash")
        .args(["-e", "-c", &script])
        .env("TREFOIL_RESERVE_MB", "1")
        .env("TREFOIL_LOG_FILE", dir.path().join("servers.log"))
        .current_dir(dir.path())
        .process_group(0)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let group = Group(child);
    let printed: Vec<String> = stdout.lines().map(Result::unwrap).take_while(|line| line != "done").collect();
    assert!(printed.iter().any(|line| line.starts_with("OK  version ")), "{printed:#?}");
    assert!(printed.iter().any(|line| line == "hello"), "{printed:#?}");
    assert!(printed.iter().any(|line| line.starts_with("cluster ")), "{printed:#?}");
    wait_for_status(ports[1], |verdict| is_settled(verdict, 3));

    let session = block("$ nc");
    let session: Vec<&str> = session.lines().skip(1).collect();
    let answered = ports[1..].iter().any(|&port| telnet(port, &session));
    assert!(answered, "one of the three servers coordinates the key");
    redis(&block("printf 'SET colour").replace("5001", &ports[1].to_string()));
    drop(group);
}

/// Lines through redis-cli, where there is one.
fn redis(line: &str) {
    if Command::new("redis-cli").arg("--version").output().is_err() {
        skip!(Missing::Redis("redis-cli"));
        return;
    }
    let output = Command::new("bash").args(["-c", line]).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(printed, "OK\nred\n1\nred\n1\n", "{output:?}");
}
