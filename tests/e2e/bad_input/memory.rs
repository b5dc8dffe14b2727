//! Clients that send very much at once, or read very little: a server's memory stays bounded, whatever they speak.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use common::codec::Wire;
use common::frame::{PREFACE, take_frame, write_frame};
use common::ids::{ClientId, RequestNumber};
use common::messages::{ClientMessage, Hello, Reply, Request, ServerMessage};
use common::operation::{Operation, Origin};

use rustix::process::Signal;

use crate::support::wait::SOON;
use crate::support::{Cluster, Settings, TextClient, memory, resp, wait_until};

const VALUE_BYTES: usize = 1 << 20;

/// Values that are stored.
const KEYS: usize = 20;

/// Gets that are sent in one go: their values are 1,000 MiB.
const GETS: usize = 1000;

/// Puts of one client, at most.
const PUTS: usize = 10_000;

/// Resident bytes that a server's peak may lie above what it had before. A connection may have 32 MiB open; what is
/// read, decoded or written is there several times for a moment, the trees' cache has its share, and an allocator keeps
/// some.
const MORE_BYTES_MAX: usize = 256 << 20;

/// The same with many clients: all connections together may have 128 MiB open, and as much may wait for the server that
/// is stopped.
const ALL_MORE_BYTES_MAX: usize = 640 << 20;

/// Until clients that send without end are held up: they send hundreds of megabytes before, on a machine that may have
/// other work.
const HELD_UP_WITHIN: Duration = Duration::from_secs(180);

/// What a client speaks.
#[derive(Clone, Copy, Debug)]
enum Speech {
    Resp,
    Text,
    Binary,
}

const ALL: [Speech; 3] = [Speech::Resp, Speech::Text, Speech::Binary];

fn key(number: usize) -> String {
    format!("key{:03}", number % KEYS)
}

fn frame(id: usize, request: Request) -> Vec<u8> {
    let mut out = Vec::new();
    write_frame(&mut out, |payload| ClientMessage { id: id as u64, request }.write(payload));
    out
}

impl Speech {
    /// A cluster for it: the Redis protocol is passed on between servers, the others go to the coordinator.
    fn cluster(self) -> Cluster {
        let cluster = Cluster::start(if let Self::Resp = self { 2 } else { 1 });
        load(cluster.address(0));
        cluster
    }

    fn connect(self, address: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(SOON)).expect("a socket");
        if let Self::Binary = self {
            let mut out = PREFACE.to_vec();
            let hello = serde_json::to_vec(&Hello::Client {}).expect("JSON");
            write_frame(&mut out, |payload| payload.extend_from_slice(&hello));
            stream.write_all(&out).expect("the server reads");
        }
        stream
    }

    fn put(self, number: usize, value: &str) -> Vec<u8> {
        let key = key(number);
        match self {
            Self::Resp => resp::command(&["SET", &key, value]),
            Self::Text => format!("put {key} {value}\r\n").into_bytes(),
            Self::Binary => {
                let number = RequestNumber(number as u64 + 1);
                let client = ClientId(1 + u128::from(number.0) / (KEYS * PUTS) as u128);
                let origin = Origin { client, number, first_unanswered: number };
                let operation = Operation::put(key, value.to_owned());
                frame(0, Request::Write { origin, age_ms: 0, operation })
            }
        }
    }

    fn get(self, number: usize) -> Vec<u8> {
        let key = key(number);
        match self {
            Self::Resp => resp::command(&["GET", &key]),
            Self::Text => format!("get {key}\r\n").into_bytes(),
            Self::Binary => frame(number, Request::Get { key: Bytes::from(key) }),
        }
    }

    /// Reads replies that are all alike but for their keys: so many, with so many bytes of values each.
    fn read(self, stream: &mut TcpStream, count: usize, value_bytes: usize) {
        if let Self::Binary = self {
            return read_frames(stream, count, value_bytes);
        }
        let one = match (self, value_bytes) {
            (Self::Resp, 0) => "+OK\r\n".len(),
            (Self::Resp, bytes) => format!("${bytes}\r\n").len() + bytes + 2,
            (_, 0) => "put_update key000\r\n".len(),
            (_, bytes) => "get_success key000 ".len() + bytes + 2,
        };
        let mut left = count * one;
        let mut buffer = vec![0; 1 << 20];
        while left > 0 {
            let end = buffer.len().min(left);
            let read = stream.read(&mut buffer[..end]).expect("a reply in time");
            assert!(read > 0, "{self:?}: {left} bytes are missing");
            left -= read;
            // An error is another number of bytes: more are missing at the end, or a reply is cut.
            assert!(left > 0 || buffer[..read].ends_with(b"\n"), "{self:?}: an error");
        }
    }
}

fn read_frames(stream: &mut TcpStream, count: usize, value_bytes: usize) {
    let (mut input, mut left) = (BytesMut::new(), count);
    let mut buffer = vec![0; 1 << 20];
    while left > 0 {
        let read = stream.read(&mut buffer).expect("a reply in time");
        assert!(read > 0, "{left} replies are missing");
        input.extend_from_slice(&buffer[..read]);
        while let Some(mut frame) = take_frame(&mut input).expect("frames") {
            while !frame.is_empty() {
                match ServerMessage::read(&mut frame).expect("a reply").reply {
                    Reply::Value { found: Some(found) } => assert_eq!(found.value.len(), value_bytes),
                    Reply::Outcome { .. } => assert_eq!(value_bytes, 0),
                    other => panic!("{other:?}"),
                }
                left -= 1;
            }
        }
    }
}

fn value(number: usize) -> String {
    char::from(b'a' + (number % 26) as u8).to_string().repeat(VALUE_BYTES)
}

fn load(address: SocketAddr) {
    let mut stream = Speech::Resp.connect(address);
    for number in 0..KEYS {
        stream.write_all(&Speech::Resp.put(number, &value(number))).expect("the server reads");
        Speech::Resp.read(&mut stream, 1, 0);
    }
}

/// Carries `act` out; no server's peak may lie further above what it had before.
fn within(cluster: &Cluster, bytes_max: usize, what: &str, act: impl FnOnce()) {
    let servers: Vec<u32> = (0..cluster.addresses().len()).map(|at| cluster.server(at).id()).collect();
    let before: Vec<usize> = servers.iter().map(|&server| memory::resident(server)).collect();
    servers.iter().for_each(|&server| memory::forget_peak(server));
    act();
    for (at, (&server, before)) in servers.iter().zip(before).enumerate() {
        let more = memory::peak(server).saturating_sub(before);
        println!("{what}: server {at} took {} MiB more", more >> 20);
        assert!(more < bytes_max, "{what}: server {at} took {} MiB more", more >> 20);
    }
}

#[test]
fn a_thousand_gets_of_large_values_at_once() {
    for speech in ALL {
        let cluster = speech.cluster();
        within(&cluster, MORE_BYTES_MAX, &format!("{speech:?}, gets"), || {
            let mut stream = speech.connect(cluster.address(0));
            let gets: Vec<u8> = (0..GETS).flat_map(|number| speech.get(number)).collect();
            stream.write_all(&gets).expect("the server reads: they are few bytes");
            // A client that reads nothing for a while: others are served, and nothing piles up.
            let mut other = resp::RespClient::connect(cluster.address(0));
            (0..100).for_each(|n| assert_eq!(other.line(&format!("SET small {n}")), "+OK"));
            speech.read(&mut stream, GETS, VALUE_BYTES);
        });
    }
}

#[test]
fn writes_that_wait_are_bounded_by_their_bytes() {
    /// Of each speech.
    const CLIENTS: usize = 4;
    // Nothing is acknowledged while the second copy's server is stopped, and no view does without it.
    let cluster = Settings::default().ecs_args(&["--min-copies", "2"]).start(2);
    let mut text = TextClient::connect(cluster.address(0));
    let own: Vec<usize> =
        (0..KEYS).filter(|&n| text.ask(&format!("put {} v", key(n))).contains("put_")).collect();
    assert!(!own.is_empty(), "the first server coordinates some of the keys");
    let sent = Arc::new(AtomicUsize::new(0));
    let done = Arc::new(AtomicBool::new(false));
    within(&cluster, ALL_MORE_BYTES_MAX, "waiting writes", || {
        cluster.server(1).signal(Signal::STOP);
        let mut streams = Vec::new();
        let mut writers = Vec::new();
        for (number, speech) in (0..CLIENTS).flat_map(|_| ALL).enumerate() {
            let stream = speech.connect(cluster.address(0));
            let mut writer = stream.try_clone().expect("a second handle");
            streams.push(stream);
            let (sent, done, key) = (Arc::clone(&sent), Arc::clone(&done), own[number % own.len()]);
            writers.push(std::thread::spawn(move || {
                let mut request = 0;
                while !done.load(Ordering::Relaxed) {
                    // A write of its own each time, as far as the protocol knows such.
                    request += KEYS;
                    let put = speech.put(KEYS * PUTS * number + request + key, &value(number));
                    if writer.write_all(&put).is_err() {
                        break;
                    }
                    sent.fetch_add(put.len(), Ordering::Relaxed);
                }
            }));
        }
        let mut before = usize::MAX;
        wait_until("all clients are held up", HELD_UP_WITHIN, || {
            let now = sent.load(Ordering::Relaxed);
            assert!(now < 3 * ALL_MORE_BYTES_MAX, "the server does not hold the clients up");
            let held_up = now > 0 && now == before;
            before = now;
            // Others are answered all the while; their round trips are the time between two looks.
            let mut other = resp::RespClient::connect(cluster.address(0));
            (0..2000).for_each(|_| assert_eq!(other.line("PING"), "+PONG"));
            held_up
        });
        println!("{} MiB were sent", sent.load(Ordering::Relaxed) >> 20);
        done.store(true, Ordering::Relaxed);
        for stream in streams {
            stream.shutdown(Shutdown::Both).expect("a socket");
        }
        writers.into_iter().for_each(|writer| writer.join().expect("a thread"));
    });
    cluster.server(1).signal(Signal::CONT);
    let again = format!("put {} again", key(own[0]));
    wait_until("writes are taken again", SOON, || {
        text.try_ask(&again).is_ok_and(|reply| reply.contains("put_"))
    });
}

#[test]
fn who_sends_much_and_reads_nothing_is_not_read() {
    /// Bytes that sockets and the server may take before the client is held up.
    const TAKEN_BYTES_MAX: usize = 256 << 20;
    let cluster = Cluster::start(1);
    within(&cluster, MORE_BYTES_MAX, "echoes", || {
        let mut stream = Speech::Resp.connect(cluster.address(0));
        let closer = stream.try_clone().expect("a second handle");
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&sent);
        let writer = std::thread::spawn(move || {
            let echo = resp::command(&["ECHO", &value(0)]);
            while stream.write_all(&echo).is_ok() {
                counted.fetch_add(echo.len(), Ordering::Relaxed);
                assert!(
                    counted.load(Ordering::Relaxed) < TAKEN_BYTES_MAX,
                    "the server does not hold the client up"
                );
            }
        });
        let mut before = usize::MAX;
        wait_until("the client is held up", HELD_UP_WITHIN, || {
            let now = sent.load(Ordering::Relaxed);
            let held_up = now > 0 && now == before;
            before = now;
            // Others are served all the while; their round trips are the time between two looks.
            let mut other = resp::RespClient::connect(cluster.address(0));
            (0..500).for_each(|n| assert_eq!(other.line(&format!("SET small {n}")), "+OK"));
            held_up
        });
        closer.shutdown(Shutdown::Both).expect("a socket");
        writer.join().expect("it was held up");
    });
}
