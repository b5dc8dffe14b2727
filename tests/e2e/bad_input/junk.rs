//! Bytes that are no requests, on the ports of servers and of the ECS.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use bytes::BytesMut;
use common::frame::{PREFACE, write_frame};

use crate::support::wait::SOON;
use crate::support::{Cluster, TextClient, http, wait_until};

/// How long a foreign client reads answers before it closes its connection.
const LISTEN_FOR: Duration = Duration::from_millis(200);

/// What strangers send.
fn junk() -> Vec<(&'static str, Vec<u8>)> {
    let frame = |payload: &[u8]| {
        let mut out = PREFACE.to_vec();
        write_frame(&mut out, |frame| frame.extend_from_slice(payload));
        out
    };
    let hello = frame(br#"{"link":"client"}"#);
    let header = |len: u32, sum: u32| [len.to_le_bytes(), sum.to_le_bytes()].concat();
    let mut random = BytesMut::new();
    let mut rng = fastrand::Rng::with_seed(7);
    random.extend((0..100_000).map(|_| rng.u8(..)));
    vec![
        ("nothing", Vec::new()),
        ("a zero byte", vec![0]),
        ("all bytes", (0..=255).collect()),
        ("random bytes", random.to_vec()),
        ("the beginning of a preface", PREFACE[..2].to_vec()),
        ("a preface", PREFACE.to_vec()),
        ("a wrong preface", [&PREFACE[..1], &[0; 100]].concat()),
        ("random bytes behind a preface", [&PREFACE[..], &random].concat()),
        ("a frame of 4 GB", [&PREFACE[..], &header(u32::MAX, 0)].concat()),
        ("a frame of 32 MB that does not come", [&PREFACE[..], &header(32 << 20, 0)].concat()),
        ("a frame that does not check", [&PREFACE[..], &header(4, 1), b"abcd"].concat()),
        ("an empty frame", frame(b"")),
        ("a hello that is no JSON", frame(b"hello")),
        ("a hello of an unknown link", frame(br#"{"link":"nobody"}"#)),
        ("a hello of a false peer", frame(br#"{"link":"peer","cluster":"00","sender":{},"to":"00"}"#)),
        ("deep JSON", frame("[".repeat(100_000).as_bytes())),
        ("a hello and random bytes", [hello.as_slice(), &random].concat()),
        (
            "a hello and a frame of junk",
            [hello.as_slice(), &frame(b"\xff\xff\xff\xff")[PREFACE.len()..]].concat(),
        ),
        ("half a hello", hello[..hello.len() / 2].to_vec()),
        ("TLS", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(), &random[..500]].concat()),
        ("SSH", b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n".to_vec()),
        ("HTTP POST", b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\nput evil yes\n".to_vec()),
        ("HTTP PUT", b"PUT evil HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("HTTP SET", b"SET evil HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("TLS with lines", b"\x16\x03\x01\x02\x00\x01\x00\nput evil yes\r\n".to_vec()),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("endless headers", [b"GET / HTTP/1.1\r\n".to_vec(), b"A: b\r\n".repeat(100_000)].concat()),
        ("an endless verb", vec![b'x'; 1 << 20]),
        ("a line of 9 MB", [b"put k ".to_vec(), vec![b'v'; 9 << 20], b"\n".to_vec()].concat()),
        ("line ends", b"\r\n".repeat(100_000)),
        ("RESP", b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n".to_vec()),
        ("bad RESP", b"*99999999999\r\n$-5\r\n".to_vec()),
    ]
}

/// Sends bytes and hears what comes back, until the other side has had enough or is silent.
fn send(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("it accepts");
    stream.set_read_timeout(Some(LISTEN_FOR)).unwrap();
    stream.set_write_timeout(Some(SOON)).unwrap();
    let mut answer = Vec::new();
    // A client that is cut off in the middle sends nothing more.
    if stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write)).is_ok() {
        let _end = stream.read_to_end(&mut answer);
    }
    answer
}

#[test]
fn a_server_goes_on_whatever_it_is_sent() {
    let mut cluster = Cluster::start(1);
    let mut other = TextClient::connect(cluster.address(0));
    assert_eq!(other.ask("put k v"), "put_success k");
    for (name, bytes) in junk() {
        let answer = send(cluster.address(0), &bytes);
        let end = answer.len().min(200);
        println!("{name}: {}", answer[..end].escape_ascii());
        assert_eq!(other.ask("get k"), "get_success k v", "after {name}");
    }
    assert_eq!(other.ask("get evil"), "get_error evil key not found", "a web page has written");
    assert!(cluster.server_mut(0).ended().is_none());
    let log = cluster.server(0).log();
    assert!(!log.contains("panicked"), "{log}");
    assert!(log.lines().count() < 20, "strangers fill the log: {log}");
}

#[test]
fn an_ecs_goes_on_whatever_it_is_sent() {
    let mut cluster = Cluster::start(1);
    let before = cluster.status().expect("it answers");
    for (name, bytes) in junk() {
        let answer = send(cluster.ecs_address(), &bytes);
        let end = answer.len().min(200);
        println!("{name}: {}", answer[..end].escape_ascii());
        let after = cluster.status().unwrap_or_else(|error| panic!("after {name}: {error}"));
        assert_eq!((after.cluster, after.servers.len()), (before.cluster, 1), "after {name}");
    }
    for path in ["/nothing", "/api/v1/servers/xyz", "/../../etc/passwd"] {
        let (code, body) = http::get(cluster.ecs_address(), path).expect("an answer");
        assert!(code == 404 && body.contains("hint"), "{path}: {code} {body}");
    }
    let (code, body) = http::get(cluster.ecs_address(), "/api/v1/servers/%00%ff").expect("an answer");
    assert_eq!(code, 400, "{body}");
    let mut ecs = cluster.take_ecs();
    assert!(ecs.ended().is_none());
    assert!(!ecs.log().contains("panicked"), "{}", ecs.log());
    assert!(ecs.terminate().success());
}

#[test]
fn a_line_that_is_too_long_is_refused_and_skipped() {
    let cluster = Cluster::start(1);
    let mut client = TextClient::connect(cluster.address(0));
    let long = [b"put k ".to_vec(), vec![b'v'; 9 << 20], b"\nget k\n".to_vec()].concat();
    let mut writer = client.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || writer.write_all(&long));
    let reply = client.line();
    assert!(reply.starts_with("error ") && reply.contains("8388608"), "{reply}");
    assert_eq!(client.line(), "get_error k key not found");
    sender.join().unwrap().expect("it is read to its end");
    assert!(client.ask(&format!("put {} v", "k".repeat(1025))).contains("the limit is 1024"));
    // A line without an end, from a client that never stops: the connection ends, the server does not.
    let mut endless = client.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || while endless.write_all(&[b'x'; 1 << 16]).is_ok() {});
    let reply = client.line();
    assert!(reply.starts_with("error ") || reply.starts_with("FAILED "), "{reply}");
    assert!(client.is_closed());
    sender.join().unwrap();
    let mut other = TextClient::connect(cluster.address(0));
    wait_until("others are served", SOON, || other.ask("PING") == "+PONG");
}

/// Bounds of a scan are any bytes; no key is so long. It once looked like damage, and condemned the store.
#[test]
fn a_scan_for_what_no_key_can_be_finds_nothing() {
    let mut cluster = Cluster::start(1);
    let db = cluster.client();
    db.put("k", "v");
    for bytes in [1025, 65_536, 1 << 20] {
        assert!(db.scan(&"k".repeat(bytes)).is_empty(), "{bytes} bytes");
    }
    assert_eq!(db.scan("k").len(), 1);
    assert!(cluster.server_mut(0).ended().is_none());
    let log = cluster.server(0).log();
    assert!(!log.contains("panicked") && !log.contains("damaged"), "{log}");
}
