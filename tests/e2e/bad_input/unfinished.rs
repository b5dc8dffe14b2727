//! Requests that are begun and never finished: what has come of them is bounded over all connections, others are
//! served, and the memory is given back.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use common::frame::{PREFACE, write_frame};
use common::limits::FRAME_BYTES_MAX;
use common::messages::Hello;

use crate::support::wait::SOON;
use crate::support::{Cluster, memory, resp, wait_until};

/// Resident bytes that unfinished requests may cost a server, whatever clients do.
const MORE_BYTES_MAX: usize = 100 << 20;

/// Resident bytes that may stay when all connections are closed: an allocator keeps some, and so do trees.
const KEPT_BYTES_MAX: usize = 64 << 20;

fn announced(bytes: usize) -> Vec<u8> {
    [u32::try_from(bytes).expect("a length").to_le_bytes(), [0; 4]].concat()
}

/// The beginning of a binary link of a client.
fn link() -> Vec<u8> {
    let mut out = PREFACE.to_vec();
    let hello = serde_json::to_vec(&Hello::Client {}).expect("JSON");
    write_frame(&mut out, |payload| payload.extend_from_slice(&hello));
    out
}

fn connect(address: SocketAddr, count: usize, first: &[u8]) -> Vec<TcpStream> {
    let one = |_| {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.write_all(first).expect("a socket takes a few bytes");
        stream.set_nonblocking(true).expect("a socket");
        stream
    };
    (0..count).map(one).collect()
}

/// Another client is served.
fn is_served(address: SocketAddr) {
    let mut client = resp::RespClient::connect(address);
    (0..100).for_each(|n| assert_eq!(client.line(&format!("SET small {n}")), "+OK"));
}

/// Sends up to so many bytes on each connection, until the server takes no more of any.
fn send(streams: &mut [TcpStream], bytes: usize, address: SocketAddr) -> usize {
    let part = vec![b'x'; 256 << 10];
    let mut sent = vec![0; streams.len()];
    let mut rounds_without = 0;
    while rounds_without < 3 {
        let before: usize = sent.iter().sum();
        for (stream, sent) in streams.iter_mut().zip(&mut sent) {
            while *sent < bytes {
                match stream.write(&part[..part.len().min(bytes - *sent)]) {
                    Ok(written) => *sent += written,
                    Err(_full_or_closed) => break,
                }
            }
        }
        // The round trips of others are the time between two looks.
        is_served(address);
        rounds_without = if sent.iter().sum::<usize>() == before { rounds_without + 1 } else { 0 };
    }
    sent.iter().sum()
}

/// Opens connections that begin a request and never finish it; what that costs the server.
fn begin(what: &str, cluster: &Cluster, count: usize, first: &[u8], bytes: usize) {
    let (server, address) = (cluster.server(0).id(), cluster.address(0));
    let before = memory::resident(server);
    memory::forget_peak(server);
    let mut streams = connect(address, count, first);
    let sent = send(&mut streams, bytes, address);
    let more = memory::peak(server).saturating_sub(before);
    println!("{what}: {} MiB sent, {} MiB more", sent >> 20, more >> 20);
    assert!(more < MORE_BYTES_MAX, "{what}: {} MiB more", more >> 20);
    drop(streams);
    assert!(!cluster.server(0).log().contains("panicked"), "{what}");
    wait_until("the memory is given back", SOON, || {
        is_served(address);
        memory::resident(server) < before + KEPT_BYTES_MAX
    });
}

#[test]
fn thousands_of_headers_without_anything_behind_them() {
    let cluster = Cluster::start(1);
    let header = announced(FRAME_BYTES_MAX);
    begin("1,000 headers instead of a hello", &cluster, 1000, &[&PREFACE[..], &header].concat(), 0);
    begin("2,000 headers behind a hello", &cluster, 2000, &[link(), header].concat(), 0);
    begin("1,000 lengths of Redis values", &cluster, 1000, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$8388608\r\n", 0);
}

#[test]
fn large_requests_that_never_end() {
    let cluster = Cluster::start(1);
    let frame = [link(), announced(FRAME_BYTES_MAX)].concat();
    begin("25 frames of 32 MiB, 28 of them sent", &cluster, 25, &frame, 28 << 20);
    let set = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$8388608\r\n";
    begin("80 Redis values of 8 MiB, 7 of them sent", &cluster, 80, set, 7 << 20);
    begin("80 lines of 7 MiB without an end", &cluster, 80, b"put k ", 7 << 20);
    let words = [&b"*9\r\n"[..], b"$7340032\r\n"].concat();
    begin("12 Redis commands with large words", &cluster, 12, &words, 7 << 20);
}

#[test]
fn large_requests_are_served_beside_some_that_never_end() {
    let cluster = Cluster::start(1);
    let address = cluster.address(0);
    let mut streams = connect(address, 5, &[link(), announced(FRAME_BYTES_MAX)].concat());
    send(&mut streams, 28 << 20, address);
    // They have all the room there is; one after the other is given up for this one.
    let mut large = resp::RespClient::connect(address);
    assert_eq!(large.ask(&["SET", "large", &"v".repeat(1 << 20)]).to_string(), "+OK");
}

#[test]
fn a_client_that_does_not_send_the_rest_gets_an_error() {
    let cluster = Cluster::start(1);
    let begun: [&[u8]; 2] = [b"put k ", b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$8388608\r\n"];
    let streams = begun.map(|begun| {
        let mut stream = TcpStream::connect(cluster.address(0)).expect("a connection");
        stream.set_read_timeout(Some(SOON)).expect("a socket");
        stream.write_all(&[begun, &[b'x'; 64 << 10]].concat()).expect("a server takes a part of a request");
        stream
    });
    for mut stream in streams {
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("the connection is closed in time");
        assert!(reply.contains("the rest of the request did not come"), "{reply:?}");
    }
    assert!(!cluster.server(0).log().contains("panicked"));
}
