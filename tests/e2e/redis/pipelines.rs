//! Many commands at once: replies in order, and each connection sees its own writes.

use std::io::Write;

use crate::support::Cluster;
use crate::support::resp::{RespClient, Value, command};

/// Commands that are sent before a reply is read.
const PIPELINED: usize = 10_000;

#[test]
fn ten_thousand_commands_are_answered_in_order() {
    let cluster = Cluster::start(3);
    for at in 0..3 {
        let mut client = RespClient::connect(cluster.address(at));
        assert_eq!(client.line("DEL counter"), if at == 0 { "0" } else { "1" });
        let mut writer = client.stream.try_clone().expect("a second handle");
        let bytes: Vec<u8> = (0..PIPELINED)
            .flat_map(|i| match i % 4 {
                0 => command(&["INCR", "counter"]),
                1 => command(&["GET", "counter"]),
                2 => command(&["ECHO", &i.to_string()]),
                _ => command(&["SET", &format!("k{}", i % 97), &i.to_string()]),
            })
            .collect();
        std::thread::scope(|scope| {
            scope.spawn(move || writer.write_all(&bytes).expect("the server reads"));
            for i in 0..PIPELINED {
                let number = (i / 4 + 1).to_string();
                let expected = match i % 4 {
                    0 => Value::Int((i / 4 + 1) as i64),
                    1 => Value::Bulk(number.into_bytes()),
                    2 => Value::Bulk(i.to_string().into_bytes()),
                    _ => Value::Simple("OK".into()),
                };
                assert_eq!(client.reply(), expected, "command {i} at server {at}");
            }
        });
    }
}

#[test]
fn bytes_arrive_in_any_portions() {
    let cluster = Cluster::start(1);
    let mut client = RespClient::connect(cluster.address(0));
    let bytes =
        [command(&["SET", "slow", "a\r\nb"]), command(&["GET", "slow"]), b"ECHO \"in line\"\r\n".to_vec()]
            .concat();
    for byte in bytes {
        client.send([byte]);
    }
    let replies: Vec<String> = (0..3).map(|_| client.reply().to_string()).collect();
    assert_eq!(replies, ["+OK", "\"a\\r\\nb\"", "\"in line\""]);
    // A client that has sent everything may close its half and still read the replies.
    client.send(command(&["INCR", "n"]).repeat(500));
    client.stream.shutdown(std::net::Shutdown::Write).expect("a half can be closed");
    (1..=500).for_each(|n| assert_eq!(client.reply(), Value::Int(n)));
    assert!(client.is_closed());
}

#[test]
fn inline_commands_need_no_array() {
    let cluster = Cluster::start(1);
    let mut client = RespClient::connect(cluster.address(0));
    client.send("SET greeting 'hello there'\r\nGET greeting\r\nPING\r\n");
    let replies: Vec<String> = (0..3).map(|_| client.reply().to_string()).collect();
    assert_eq!(replies, ["+OK", "\"hello there\"", "+PONG"]);
}
