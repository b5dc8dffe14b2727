//! Bytes that are no commands, and clients that behave badly: they harm no other client.

use crate::support::resp::{RespClient, command};
use crate::support::wait::SOON;
use crate::support::{Cluster, TextClient, wait_until};

#[test]
fn junk_ends_its_own_connection_and_no_other() {
    let cluster = Cluster::start(1);
    let mut good = RespClient::connect(cluster.address(0));
    assert_eq!(good.line("SET k v"), "+OK");
    for (junk, answer) in [
        (&b"*1048577\r\n"[..], "-ERR Protocol error: invalid multibulk length"),
        (b"*1\r\n$999999999\r\n", "-ERR Protocol error: invalid bulk length"),
        (b"*1\r\n$-5\r\n", "-ERR Protocol error: invalid bulk length"),
        (b"*2\r\n$3\r\nGET\r\n*1\r\n*1\r\n*1\r\n", "-ERR Protocol error: expected '$', got '*'"),
        (
            b"*1\r\n$4\r\nPINGPONG\r\n",
            "-ERR Protocol error: a bulk string does not end where its length says",
        ),
        (b"*x\r\n", "-ERR Protocol error: invalid multibulk length"),
        (b"SET k 'v\r\n", "-ERR Protocol error: unbalanced quotes in request"),
    ] {
        let mut bad = RespClient::connect(cluster.address(0));
        bad.send(junk);
        assert_eq!(bad.reply().to_string(), answer);
        assert!(bad.is_closed(), "{}", junk.escape_ascii());
        assert_eq!(good.line("GET k"), "\"v\"");
    }
    // A web page's request: what stands in it and behind it is not carried out, as at Redis.
    for (junk, answer) in [
        (&b"*1\r\n$4\r\nPING\r\nPOST / HTTP/1.1\r\nHost: x\r\nSET k evil\r\n"[..], Some("+PONG")),
        (b"INFO x\r\nhost: x\r\nSET k evil\r\n", Some("\"\"")),
        (b"*1\r\n$5\r\nHost:\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\nevil\r\n", None),
        (b"*1\r\n$5\r\nMULTI\r\nPost / x\r\nSET k evil\r\nEXEC\r\n", Some("+OK")),
        (b"SET k HTTP/1.1\r\nSET k evil\r\n", Some("-ERR Protocol error: this port speaks no HTTP")),
    ] {
        let mut page = RespClient::connect(cluster.address(0));
        page.send(junk);
        if let Some(answer) = answer {
            assert_eq!(page.reply().to_string(), answer);
        }
        assert!(page.is_closed(), "{}", junk.escape_ascii());
        assert_eq!(good.line("GET k"), "\"v\"");
    }
    // Half of a command, and nothing more: it waits, and takes nothing from others.
    let mut half: Vec<RespClient> = (0..50).map(|_| RespClient::connect(cluster.address(0))).collect();
    half.iter_mut().for_each(|client| client.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$8388608\r\nxxx"));
    assert_eq!(good.line("GET k"), "\"v\"");
    drop(half);
    assert_eq!(good.line("PING"), "+PONG");
    let mut text = TextClient::connect(cluster.address(0));
    assert_eq!(text.ask("get k"), "get_success k v");
}

#[test]
fn clients_are_listed_and_ended() {
    let cluster = Cluster::start(1);
    let mut first = RespClient::connect(cluster.address(0));
    let mut second = RespClient::connect(cluster.address(0));
    assert_eq!(second.line("CLIENT SETNAME second"), "+OK");
    assert_eq!(second.line("CLIENT GETNAME"), "\"second\"");
    let id = second.line("CLIENT ID");
    assert!(first.line("CLIENT LIST").contains("name=second"));
    assert_eq!(first.line(&format!("CLIENT KILL ID {id}")), "1");
    assert!(second.is_closed());
    wait_until("it is gone from the list", SOON, || !first.line("CLIENT LIST").contains("name=second"));
    assert_eq!(first.line("CLIENT KILL 1.2.3.4:5"), "-ERR No such client");
    first.send(command(&["CLIENT", "REPLY", "OFF"]));
    first.send(command(&["SET", "k", "quiet"]));
    first.send(command(&["CLIENT", "REPLY", "ON"]));
    assert_eq!(first.reply().to_string(), "+OK");
    first.send(command(&["CLIENT", "REPLY", "SKIP"]));
    first.send(command(&["GET", "k"]));
    assert_eq!(first.line("GET k"), "\"quiet\"");
    assert_eq!(first.line("QUIT"), "+OK");
    assert!(first.is_closed());
}
