//! Requests and replies at one server.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};

use skipped::{Missing, skip};

use crate::support::process::free_port;
use crate::support::wait::SOON;
use crate::support::{Cluster, Settings, TextClient, wait_until};

/// Bytes of a value as large as the family's clients send.
const LARGE_VALUE_BYTES: usize = 119_000;

/// Requests that are sent before a reply is read.
const PIPELINED: usize = 5000;

#[test]
fn both_dialects() {
    let cluster = Cluster::start(1);
    let mut client = TextClient::connect(cluster.address(0));
    let exchange = [
        ("get colour", "get_error colour key not found"),
        ("put colour dark  green", "put_success colour"),
        ("put colour dark  blue", "put_update colour"),
        ("get colour", "get_success colour dark  blue"),
        ("GET colour", "GET_SUCCESS colour dark  blue"),
        ("delete colour", "delete_success colour"),
        ("delete colour", "delete_error colour"),
        ("PUT colour red", "PUT_SUCCESS colour red"),
        ("PUT colour red wine", "PUT_UPDATE colour red wine"),
        ("PUT colour null", "DELETE_SUCCESS colour"),
        ("PUT colour", "DELETE_ERROR colour"),
        ("GET colour", "GET_ERROR colour"),
        ("Put colour null", "put_success colour"),
        ("GeT colour", "get_success colour null"),
        ("PING", "+PONG"),
        ("ping", "+PONG"),
    ];
    for (request, reply) in exchange {
        assert_eq!(client.ask(request), reply, "to {request}");
    }
    for request in ["frobnicate", "put", "put k", "get", "get two words", "delete", "keyrange of what"] {
        let reply = client.ask(request);
        assert!(reply.starts_with("error ") && reply.contains("send"), "{request}: {reply}");
    }
    for request in ["FROBNICATE", "PUT", "GET", "DELETE k"] {
        let reply = client.ask(request);
        assert!(reply.starts_with("FAILED ") && reply.contains("send"), "{request}: {reply}");
    }
    assert_eq!(client.ask("get colour"), "get_success colour null");
    assert_eq!(client.ask("QUIT"), "+OK");
    assert!(client.is_closed());
}

#[test]
fn bytes_arrive_in_any_portions() {
    let cluster = Cluster::start(1);
    let mut client = TextClient::connect(cluster.address(0));
    let large = "x".repeat(LARGE_VALUE_BYTES);

    for byte in "put slow value\r\nget slow\nget slow\r\r\n\n\rget slow\r\n".bytes() {
        client.send([byte]);
    }
    assert_eq!(client.line(), "put_success slow");
    (0..3).for_each(|_| assert_eq!(client.line(), "get_success slow value"));

    assert_eq!(client.ask(&format!("put large {large}")), "put_success large");
    assert_eq!(client.ask("get large"), format!("get_success large {large}"));
    assert_eq!(client.ask(&format!("PUT large {large}")), format!("PUT_UPDATE large {large}"));

    // Every byte but the ends of lines is part of a value, in the middle of one at least.
    let odd: Vec<u8> = (0..=u8::MAX).filter(|byte| !b"\r\n".contains(byte)).collect();
    client.send([b"put odd <", odd.as_slice(), b">\r\nget odd\r\n"].concat());
    assert_eq!(client.line(), "put_success odd");
    let shown: String = odd.iter().copied().map(char::from).collect();
    assert_eq!(client.line(), format!("get_success odd <{shown}>"));

    // Requests of one connection are carried out in their order, however many there are at once.
    let mut writer = client.stream.try_clone().expect("a second handle");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for i in 0..PIPELINED {
                writer.write_all(format!("put pipe {i}\r\nget pipe\r\n").as_bytes()).expect("it is read");
            }
        });
        for i in 0..PIPELINED {
            assert_eq!(client.line(), if i == 0 { "put_success pipe" } else { "put_update pipe" });
            assert_eq!(client.line(), format!("get_success pipe {i}"));
        }
    });

    client.send("ping\n".repeat(PIPELINED));
    (0..PIPELINED).for_each(|_| assert_eq!(client.line(), "+PONG"));

    // A client that has sent everything may close its half and still read the replies.
    let puts: String = (0..PIPELINED).map(|i| format!("put last {i}\n")).collect();
    client.send(puts + "get last\nget without an end");
    client.stream.shutdown(std::net::Shutdown::Write).expect("a half can be closed");
    assert_eq!(client.line(), "put_success last");
    (1..PIPELINED).for_each(|_| assert_eq!(client.line(), "put_update last"));
    assert_eq!(client.line(), format!("get_success last {}", PIPELINED - 1));
    assert!(client.is_closed());
}

#[test]
fn the_second_port_greets() {
    let port = free_port();
    let settings = Settings::default().server_args(&["--text-port", &port.to_string(), "--greeting"]);
    let cluster = settings.start(1);
    let mut client = TextClient::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    assert_eq!(client.line(), format!("Connection to Trefoil server established: /127.0.0.1:{port}"));
    assert_eq!(client.ask("put a b"), "put_success a");
    let mut quiet = TextClient::connect(cluster.address(0));
    assert_eq!(quiet.ask("get a"), "get_success a b");
}

#[test]
fn a_server_without_a_cluster_says_so() {
    let mut cluster = Settings::default().start_ecs();
    cluster.kill_ecs();
    cluster.add_server();
    let mut client = TextClient::connect(cluster.address(0));
    assert_eq!(client.ask("get a"), "server_stopped");
    assert_eq!(client.ask("PUT a b"), "SERVER_STOPPED");
    assert_eq!(client.ask("keyrange"), "server_stopped");
    assert_eq!(client.ask("KEYRANGE_READ"), "SERVER_STOPPED");
    assert_eq!(client.ask("PING"), "+PONG");
    cluster.start_ecs();
    wait_until("the server joins", SOON, || client.ask("get a") == "get_error a key not found");
}

#[test]
fn netcat() {
    let cluster = Cluster::start(1);
    let address = cluster.address(0);
    let started = Command::new("nc")
        .args(["-N", &address.ip().to_string(), &address.port().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut nc) = started else {
        skip!(Missing::Netcat);
        return;
    };
    nc.stdin.take().expect("a pipe").write_all(b"put colour green\nget colour\nQUIT\n").expect("it reads");
    let output = nc.wait_with_output().expect("nc ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text, "put_success colour\r\nget_success colour green\r\n+OK\r\n");
}
