//! The same commands at Trefoil and at a real redis-server, reply by reply, in both versions of the protocol.
//!
//! `script.txt` holds them, one a line; words may be quoted. A line `differs: <reason>` says that the replies to the
//! next command are not the same, and the test fails if they are: the list stays true. `docs/redis.md` gives the
//! reasons.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use super::programs::is_there;
use crate::support::Cluster;
use crate::support::process::free_port;
use crate::support::resp::{RespClient, Value};
use crate::support::wait::SOON;
use crate::support::wait_until;

const SCRIPT: &str = include_str!("script.txt");

/// Commands that the script has at least: it must not be empty by mistake.
const COMMANDS_MIN: usize = 300;

/// A real server. It is killed when this is dropped.
struct RedisServer {
    child: Child,
    address: SocketAddr,
}

impl RedisServer {
    fn start() -> Self {
        let port = free_port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .current_dir(std::env::temp_dir())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server starts");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let server = Self { child, address };
        wait_until("redis-server listens", SOON, || TcpStream::connect(address).is_ok());
        server
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The words of a line; `"..."` knows `\r`, `\n`, `\\`, `\"` and `\xHH`.
fn words(line: &str) -> Vec<Vec<u8>> {
    let mut words: Vec<Vec<u8>> = Vec::new();
    let mut bytes = line.bytes().peekable();
    while let Some(&byte) = bytes.peek() {
        if byte == b' ' {
            bytes.next();
            continue;
        }
        let mut word = Vec::new();
        if byte == b'"' {
            bytes.next();
            while let Some(byte) = bytes.next().filter(|byte| *byte != b'"') {
                word.push(match byte {
                    b'\\' => match bytes.next().expect("an escape") {
                        b'r' => b'\r',
                        b'n' => b'\n',
                        b'x' => {
                            let digits = [bytes.next(), bytes.next()].map(|digit| digit.expect("a digit"));
                            u8::from_str_radix(std::str::from_utf8(&digits).expect("ASCII"), 16).expect("hex")
                        }
                        other => other,
                    },
                    byte => byte,
                });
            }
        } else {
            while let Some(byte) = bytes.next_if(|byte| *byte != b' ') {
                word.push(byte);
            }
        }
        words.push(word);
    }
    words
}

/// Keys come in any order; times may have gone on by a second or some milliseconds between the two servers.
fn comparable(words: &[Vec<u8>], reply: Value) -> Value {
    let name = String::from_utf8_lossy(&words[0]).to_ascii_uppercase();
    match (name.as_str(), reply) {
        ("KEYS", Value::Array(mut keys)) => {
            keys.sort();
            Value::Array(keys)
        }
        ("TTL" | "PTTL", Value::Int(left)) if left > 0 => {
            let unit = if name == "TTL" { 10 } else { 10_000 };
            Value::Int((left + unit / 2) / unit)
        }
        (_, reply) => reply,
    }
}

fn compare(ours: SocketAddr, theirs: SocketAddr, version: &str) {
    let mut clients = [ours, theirs].map(RespClient::connect);
    for client in &mut clients {
        client.line("FLUSHALL");
        client.line(&format!("HELLO {version}"));
    }
    let (mut differs, mut commands, mut wrong) = (None, 0, Vec::new());
    for line in SCRIPT.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(reason) = line.strip_prefix("differs: ") {
            differs = Some(reason);
            continue;
        }
        let words = words(line);
        let [ours, theirs] = [0, 1].map(|at| comparable(&words, clients[at].ask(&words)).to_string());
        commands += 1;
        match differs.take() {
            None if ours != theirs => wrong.push(format!("{line}\n  ours:  {ours}\n  Redis: {theirs}")),
            Some(reason) if ours == theirs => wrong.push(format!("{line}\n  is the same ({reason}): {ours}")),
            _ => {}
        }
    }
    assert!(commands >= COMMANDS_MIN, "{commands} commands");
    assert!(wrong.is_empty(), "RESP{version}, {} of {commands} replies:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn replies_are_those_of_redis() {
    if !is_there("redis-server") {
        return;
    }
    let redis = RedisServer::start();
    let cluster = Cluster::start(3);
    for (at, version) in ["2", "3"].into_iter().enumerate() {
        compare(cluster.address(at), redis.address, version);
    }
}
