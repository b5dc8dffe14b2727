//! Lines as people type them, and the commands that they mean.

use super::*;

fn parse(text: &str) -> Result<Command, Failure> {
    Command::parse(&Line::split(text.as_bytes()).unwrap())
}

fn put(key: &'static str, value: &'static str) -> Command {
    let (key, value) = (Bytes::from(key), Bytes::from(value));
    Command::Put { key, value, ttl: None, condition: Condition::Always {} }
}

#[test]
fn a_value_is_the_rest_of_the_line() {
    assert_eq!(parse("put k v"), Ok(put("k", "v")));
    assert_eq!(parse("PUT k hello  world "), Ok(put("k", "hello  world")));
    assert_eq!(parse("put k 'a b'"), Ok(put("k", "a b")));
    assert_eq!(parse("put k \"\""), Ok(put("k", "")));
    assert!(parse("put k 'a b' c").unwrap_err().message.contains("quotes"));
}

#[test]
fn null_deletes_unless_quoted() {
    let delete = Command::Delete { key: Bytes::from("k") };
    for text in ["put k", "put k null", "delete k", "del k"] {
        assert_eq!(parse(text).as_ref(), Ok(&delete), "{text}");
    }
    assert_eq!(parse("put k \"null\""), Ok(put("k", "null")));
    assert_eq!(parse("put k -- null"), Ok(put("k", "null")));
}

#[test]
fn options_of_put_stand_before_the_key_or_at_the_end() {
    let wanted = Command::Put {
        key: Bytes::from("k"),
        value: Bytes::from("a b"),
        ttl: Some(Duration::from_secs(10)),
        condition: Condition::Absent {},
    };
    for text in [
        "put k a b --ttl 10s --if-absent",
        "put k a b --if-absent --ttl 10s",
        "put --ttl 10s --if-absent k a b",
        "put --if-absent k 'a b' --ttl 10s",
    ] {
        assert_eq!(parse(text).as_ref(), Ok(&wanted), "{text}");
    }
    assert_eq!(parse("put k -- a --if-absent"), Ok(put("k", "a --if-absent")));
    assert_eq!(parse("put k '--if-absent'"), Ok(put("k", "--if-absent")));
    for wrong in ["put", "put k --ttl 10s", "put k v --if-absent --if-present", "put k v --ttl soon"] {
        assert_eq!(parse(wrong).unwrap_err().exit, crate::frame::failure::Exit::Usage, "{wrong}");
    }
}

#[test]
fn a_line_is_watched_as_it_was_typed() {
    let every = Duration::from_secs(5);
    let line = Some(b"get 'a  b' --version".to_vec());
    assert_eq!(parse(":watch 5s get 'a  b' --version"), Ok(Command::Repeat { every, line }));
    assert_eq!(parse(":watch"), Ok(Command::Repeat { every: Duration::from_secs(2), line: None }));
    assert_eq!(parse(":watch 5"), Ok(Command::Repeat { every, line: None }));
    assert_eq!(parse(":watch 1ms status").unwrap_err().at, Some(7..10));
}

#[test]
fn compare_and_set_by_version_or_value() {
    let version = "41.7".parse().unwrap();
    let (key, value) = (Bytes::from("k"), Bytes::from("new"));
    let expected = Condition::Version { version };
    assert_eq!(
        parse("cas k --version 41.7 new"),
        Ok(Command::Cas { key: key.clone(), expected, value: value.clone() })
    );
    let expected = Condition::Value { value: Bytes::from("old one") };
    assert_eq!(parse("cas k --value 'old one' new"), Ok(Command::Cas { key, expected, value }));
    assert!(parse("cas k --version x new").unwrap_err().message.contains("no version"));
    assert!(parse("cas k new").unwrap_err().message.contains("usage: cas"));
}

#[test]
fn the_other_commands_are_read() {
    assert_eq!(parse("scan"), Ok(Command::Scan { prefix: Bytes::new(), limit: None }));
    assert_eq!(parse("scan a --limit 5"), Ok(Command::Scan { prefix: Bytes::from("a"), limit: Some(5) }));
    assert_eq!(parse("connect h 5001"), Ok(Command::Connect { server: "h:5001".into() }));
    assert_eq!(parse("loglevel ALL"), Ok(Command::LogLevel { level: "trace".parse().unwrap() }));
    assert_eq!(parse("expire k never"), Ok(Command::Expire { key: Bytes::from("k"), after: None }));
    assert_eq!(parse("get k --version"), Ok(Command::Get { key: Bytes::from("k"), version: true }));
    assert_eq!(parse("events"), Ok(Command::Events { limit: 20 }));
    let json = |command| Ok(Command::As(Format::Json, Box::new(command)));
    assert_eq!(parse("events --limit 5 --json"), json(Command::Events { limit: 5 }));
    assert_eq!(parse("get --json k"), json(Command::Get { key: Bytes::from("k"), version: false }));
    assert_eq!(parse("put k --json"), Ok(put("k", "--json")));
    assert_eq!(parse("partitions k"), Ok(Command::Partitions { key: Some(Bytes::from("k")) }));
    let every = Duration::from_secs(5);
    assert_eq!(parse("stat 5s --count 3"), Ok(Command::Stat { every, count: Some(3) }));
    assert_eq!(parse("stat"), Ok(Command::Stat { every: Duration::from_secs(1), count: None }));
    assert_eq!(parse("stat --count x").unwrap_err().at, Some(13..14));
    assert_eq!(parse("latency --json"), json(Command::Latency { duration: every }));
    assert_eq!(parse("big a --limit 3"), Ok(Command::Largest { prefix: Bytes::from("a"), limit: 3 }));
    let fruit = || Selection::Key { key: Bytes::from("fruit") };
    let from = Some("41.7".parse().unwrap());
    assert_eq!(parse("watch fruit"), Ok(Command::Watch { keys: fruit(), from: None, count: None }));
    for text in ["watch fruit --from 41.7 --count 2", "watch --count 2 --from 41.7 fruit"] {
        assert_eq!(parse(text), Ok(Command::Watch { keys: fruit(), from, count: Some(2) }), "{text}");
    }
    let keys = Selection::Prefix { prefix: Bytes::from("a b") };
    assert_eq!(
        parse("watch --prefix 'a b'"),
        Ok(Command::Watch { keys: keys.clone(), from: None, count: None })
    );
    assert_eq!(parse("unwatch --prefix 'a b'"), Ok(Command::Unwatch { keys: Some(keys) }));
    assert_eq!(parse("unwatch"), Ok(Command::Unwatch { keys: None }));
    assert_eq!(parse("watch k --from x").unwrap_err().at, Some(15..16));
    for wrong in
        ["watch", "watch a b", "watch a --prefix b", "watch --prefix a --from 1.1", "unwatch a --count 1"]
    {
        assert_eq!(parse(wrong).unwrap_err().exit, crate::frame::failure::Exit::Usage, "{wrong}");
    }
    assert_eq!(parse("hot"), Ok(Command::Hot));
    assert_eq!(parse(":timing on"), Ok(Command::Timing(Some(true))));
    assert_eq!(parse(":trace"), Ok(Command::Trace(None)));
    assert_eq!(parse(":output ndjson"), Ok(Command::Output(Some(Format::Ndjson))));
    assert!(parse(":output xml").is_err());
    assert_eq!(parse("# a comment"), Ok(Command::Nothing));
    assert_eq!(parse("  "), Ok(Command::Nothing));
    assert!(matches!(parse("help put"), Ok(Command::Help { command: Some(_) })));
    assert!(matches!(parse("import 'a b' --resume"), Ok(Command::Program(words)) if words.len() == 3));
}
