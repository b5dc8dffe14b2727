//! Values and replies of many bytes.

use common::limits::VALUE_BYTES_MAX;

use crate::support::Settings;
use crate::support::resp::{RespClient, Value, command};

/// More of them than one reply holds.
const KEYS: usize = 9;

#[test]
fn large_values_are_returned_whole_or_not_at_all() {
    // Megabytes delay pings and each other on a busy machine: with short leases, or a short wait, a reply may be that
    // they are waited for.
    let settings = Settings { timers: "steady", ..Settings::default() };
    let cluster = settings.server_args(&["--park-ms", "30000"]).start(3);
    let mut client = RespClient::connect(cluster.address(0));
    let value = |key: usize| vec![b'a' + key as u8; VALUE_BYTES_MAX];
    let name = |key: usize| format!("large:{key}");
    for key in 0..KEYS {
        client.send(command(&[b"SET".as_slice(), name(key).as_bytes(), &value(key)]));
        assert_eq!(client.reply(), Value::Simple("OK".into()));
    }
    let many = |verb: &'static str, keys: usize, fill: usize| {
        let fill = (0..fill).map(|n| format!("none:{n}"));
        let words: Vec<String> =
            std::iter::once(verb.to_owned()).chain((0..keys).map(name)).chain(fill).collect();
        command(&words)
    };
    for at in 0..3 {
        let mut client = RespClient::connect(cluster.address(at));
        // Gets, and questions that need no value, in one go.
        for key in 0..KEYS {
            client.send(command(&["GET", &name(key)]));
            client.send(command(&["STRLEN", &name(key)]));
            client.send(command(&["TYPE", &name(key)]));
            client.send(command(&["GETRANGE", &name(key), "-2", "-1"]));
            client.send(command(&["PTTL", &name(key)]));
        }
        for key in 0..KEYS {
            let reply = client.reply();
            assert!(
                reply == Value::Bulk(value(key)),
                "large:{key} at server {at}: {:.200}",
                reply.to_string()
            );
            assert_eq!(client.reply(), Value::Int(VALUE_BYTES_MAX as i64));
            assert_eq!(client.reply(), Value::Simple("string".into()));
            assert_eq!(client.reply(), Value::Bulk(vec![b'a' + key as u8; 2]));
            assert_eq!(client.reply(), Value::Int(-1));
        }
        // As one call beside others, and as one by itself, which has more than 64 keys.
        for fill in [0, 100] {
            client.send(many("EXISTS", KEYS, fill));
            assert_eq!(client.reply(), Value::Int(KEYS as i64));
            client.send(many("MGET", KEYS, fill));
            let reply = client.reply().to_string();
            assert!(reply.starts_with("-ERR the reply would have more than 67108864 bytes"), "{reply:.80}");
            client.send(many("MGET", 3, fill));
            let Value::Array(values) = client.reply() else { panic!("an array") };
            assert_eq!(values.len(), 3 + fill);
            assert!((0..3).all(|key| values[key] == Value::Bulk(value(key))));
            assert!(values[3..].iter().all(|value| *value == Value::Null));
        }
        // A watched value may be large, and so may one that a transaction returns.
        client.send(many("WATCH", 1, 0));
        assert_eq!(client.reply(), Value::Simple("OK".into()));
        assert_eq!(client.line("MULTI"), "+OK");
        assert_eq!(client.line("GET large:0"), "+QUEUED");
        client.send(command(&["EXEC"]));
        assert!(client.reply() == Value::Array(vec![Value::Bulk(value(0))]));
    }
}
