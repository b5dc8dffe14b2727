//! Commands as a user types them, against a server in memory.

use common::ids::{ClusterId, Epoch, Incarnation, ServerId, StoreId};
use common::status::{ClusterStatus, ServerStatus};

use kvclient::Options;
use kvclient::testing::{Fake, Store};

use crate::frame::failure::{Exit, Failure};
use crate::frame::logging::Log;
use crate::frame::session::Session;
use crate::frame::style::Paint;
use crate::parse::command::Command;
use crate::parse::line::Line;
use crate::run::run_command;

async fn store() -> Fake {
    let mut store = Store::default();
    Fake::alone(move |request| store.handle(request)).await
}

fn session(fake: &Fake) -> Session {
    Session::new(vec![fake.address.clone()], Options::default(), Log::default())
}

/// What a line prints, or how it fails.
async fn run(session: &mut Session, text: &str) -> Result<String, Failure> {
    let command = Command::parse(&Line::split(text.as_bytes()).unwrap())?;
    let mut out = Vec::new();
    run_command(session, command, &mut out).await?;
    Ok(String::from_utf8(out).unwrap())
}

/// What a line prints, and how it ends.
async fn run_and_exit(session: &mut Session, text: &str) -> (String, Option<Exit>) {
    let command = Command::parse(&Line::split(text.as_bytes()).unwrap()).unwrap();
    let mut out = Vec::new();
    let failure = run_command(session, command, &mut out).await.err();
    (String::from_utf8(out).unwrap(), failure.map(|failure| failure.exit))
}

#[tokio::test]
async fn commands_do_what_they_say() {
    let fake = store().await;
    let mut session = session(&fake);
    let session = &mut session;
    assert!(run(session, "put k hello world").await.unwrap().starts_with("OK  version 1.1, "));
    assert_eq!(run(session, "get k").await.unwrap(), "hello world\n");
    assert_eq!(run(session, "get k --version").await.unwrap(), "1.1\nhello world\n");
    assert!(run(session, "append k !").await.unwrap().starts_with("OK  offset 11, version 1.2, "));
    assert!(run(session, "cas k --version 1.2 new").await.is_ok());
    assert_eq!(run(session, "cas k --version 1.2 newer").await.unwrap_err().exit, Exit::CompareFailed);
    assert_eq!(run(session, "put k v --if-absent").await.unwrap_err().exit, Exit::CompareFailed);
    assert!(run(session, "cas k --value new newer").await.is_ok());
    assert!(run(session, "expire k 1h").await.is_ok());
    assert_eq!(run(session, "scan").await.unwrap(), "k\tnewer\n");
    assert!(run(session, "put k null").await.unwrap().starts_with("OK  deleted, "));
    for text in ["get k", "delete k", "expire k 1h"] {
        let failure = run(session, text).await.unwrap_err();
        assert_eq!(failure.exit, Exit::NotFound, "{text}");
        assert!(failure.message.contains("no value for `k`"), "{failure}");
    }
    assert_eq!(run(session, "put k").await.unwrap_err().exit, Exit::NotFound);
}

#[tokio::test]
async fn a_scan_stops_at_its_limit() {
    let fake = store().await;
    let mut session = session(&fake);
    for number in 0..20 {
        run(&mut session, &format!("put a{number} v")).await.unwrap();
    }
    assert_eq!(run(&mut session, "scan a --limit 5").await.unwrap().lines().count(), 5);
    assert_eq!(run(&mut session, "scan a").await.unwrap().lines().count(), 20);
    assert_eq!(run(&mut session, "scan b").await.unwrap(), "");
}

#[tokio::test]
async fn answers_have_the_form_that_is_wanted() {
    let fake = store().await;
    let mut session = session(&fake);
    let session = &mut session;
    let parsed = |text: String| serde_json::from_str::<serde_json::Value>(&text).expect(&text);
    run(session, r#"put k "\x1b[2J\xff""#).await.unwrap();
    assert_eq!(parsed(run(session, "get k --json").await.unwrap())["value_base64"], "G1sySv8=");
    run(session, "put k v").await.unwrap();
    let pair = parsed(run(session, "scan --json").await.unwrap());
    assert_eq!(
        (&pair[0]["key"], &pair[0]["value"], &pair[0]["version"]),
        (&"k".into(), &"v".into(), &"1.2".into())
    );
    assert_eq!(run(session, "scan other --json").await.unwrap(), "[]\n");
    assert_eq!(run(session, ":output json").await.unwrap(), "output is json\n");
    let written = parsed(run(session, "append k w").await.unwrap());
    assert_eq!(
        (&written["offset"], &written["version"], &written["copies"]),
        (&1.into(), &"1.3".into(), &1.into())
    );
    run(session, ":output ndjson").await.unwrap();
    assert_eq!(run(session, "scan").await.unwrap().lines().count(), 1);
    run(session, ":output raw").await.unwrap();
    assert_eq!(run(session, "get k").await.unwrap(), "vw");
    assert_eq!(run(session, "put k v").await.unwrap(), "1.4\n");
    run(session, ":output table").await.unwrap();
    let largest = run(session, "big --limit 1").await.unwrap();
    assert!(
        largest.ends_with("1 keys, 1 B; values 1 B: half of them up to 1 B, 99 % up to 1 B, all up to 1 B\n"),
        "{largest}"
    );
    let times = parsed(run(session, "latency 50ms --json").await.unwrap());
    assert!(times["servers"][0]["gets"].as_u64() > Some(0), "{times}");
}

#[tokio::test]
async fn a_terminal_is_told_nothing_that_would_change_it() {
    let fake = store().await;
    let mut session = session(&fake);
    session.for_terminal(Paint::default());
    run(&mut session, r#"put k "\x1b[2J\xff""#).await.unwrap();
    assert_eq!(run(&mut session, "get k").await.unwrap(), "\"\\x1b[2J\\xff\"\n");
    run(&mut session, "put k 'b\u{e4}r'").await.unwrap();
    assert_eq!(run(&mut session, "get k").await.unwrap(), "b\u{e4}r\n");
    // ESC, C1 in UTF-8, a character that turns the direction of text, and a line of its own.
    run(&mut session, r#"put "k\x1b[31m" "\xc2\x9b2J\xe2\x80\xae\nkvclient: forged""#).await.unwrap();
    let table = run(&mut session, r#"scan "k\x1b""#).await.unwrap();
    assert_eq!(table, "k\\x1b[31m\t\\u{9b}2J\\u{202e}\\nkvclient: forged\n");
    for words in [r#"scan "k\x1b" --json"#, r#"get "k\x1b[31m" --json"#, r#"get "k\x1b[31m""#] {
        let shown = run(&mut session, words).await.unwrap();
        assert!(
            shown.chars().all(|letter| letter == '\n' || common::shown::is_harmless(letter)),
            "{shown:?}"
        );
        assert!(!shown.contains("\nkvclient"), "{shown}");
    }
}

#[tokio::test]
async fn a_command_is_watched_until_it_is_wrong() {
    let fake = store().await;
    let mut session = session(&fake);
    let failure = run(&mut session, ":watch").await.unwrap_err();
    assert!(failure.message.contains("no command was run before"), "{failure}");
    let failure = run(&mut session, ":watch 100ms :watch").await.unwrap_err();
    assert!(failure.message.contains("no command to watch"), "{failure}");
    assert!(run(&mut session, ":watch gte k").await.unwrap_err().message.contains("`get`"));
}

#[tokio::test]
async fn ranges_are_listed_as_by_servers() {
    let fake = store().await;
    let mut session = session(&fake);
    let whole = format!("{},{},{};\n", "0".repeat(32), "f".repeat(32), fake.address);
    assert_eq!(run(&mut session, "keyrange").await.unwrap(), whole);
    assert_eq!(run(&mut session, "keyrange_read").await.unwrap(), whole);
}

#[tokio::test]
async fn connections_are_changed_by_command() {
    let (first, second) = (store().await, store().await);
    let mut session = session(&first);
    run(&mut session, "put k first").await.unwrap();
    assert_eq!(run(&mut session, "disconnect").await.unwrap(), "disconnected\n");
    let failure = run(&mut session, "get k").await.unwrap_err();
    assert!(failure.message.contains("connect HOST PORT"), "{failure}");
    let (host, port) = second.address.split_once(':').unwrap();
    let connected = run(&mut session, &format!("connect {host} {port}")).await.unwrap();
    assert!(connected.ends_with("1 server, view 1\n"), "{connected}");
    assert_eq!(run(&mut session, "get k").await.unwrap_err().exit, Exit::NotFound);
    assert!(run(&mut session, "logLevel DEBUG").await.is_ok());
}

#[tokio::test]
async fn status_comes_from_the_ecs_or_from_the_servers() {
    let (fake, ecs) = (store().await, store().await);
    let view = Epoch { generation: 0, version: 1 };
    let mut status = ServerStatus {
        server: ServerId(1),
        store: StoreId(1),
        incarnation: Incarnation(1),
        address: fake.address.clone(),
        ecs: ecs.address.clone(),
        view,
        copies: Vec::new(),
        keys: 0,
        expiring: 0,
        bytes: 0,
        free_bytes: 0,
        transfers: Vec::new(),
        caught_up: Default::default(),
        scrub: Default::default(),
        compared: Default::default(),
    };
    fake.set_status(serde_json::to_vec(&status).unwrap());
    let mut cluster = ClusterStatus {
        healthy: false,
        verdict: "DEGRADED: no servers yet; start one".to_owned(),
        cluster: ClusterId(9),
        view,
        partitions: 4,
        ..ClusterStatus::default()
    };
    ecs.set_status(serde_json::to_vec(&cluster).unwrap());
    let mut session = session(&fake);
    let (shown, exit) = run_and_exit(&mut session, "status").await;
    assert!(shown.starts_with("DEGRADED: no servers yet"), "{shown}");
    assert_eq!(exit, Some(Exit::NotHealthy));
    (cluster.healthy, cluster.verdict) = (true, "healthy, 1 server".to_owned());
    ecs.set_status(serde_json::to_vec(&cluster).unwrap());
    let (shown, exit) = run_and_exit(&mut session, "status").await;
    assert!(shown.starts_with("healthy, 1 server\n"), "{shown}");
    assert_eq!(exit, None);
    let gone = store().await.address;
    status.ecs = gone;
    fake.set_status(serde_json::to_vec(&status).unwrap());
    let (shown, exit) = run_and_exit(&mut session, "status").await;
    assert_eq!(exit, Some(Exit::NotHealthy));
    assert!(shown.starts_with("ECS DOWN: ") && shown.contains(&fake.address), "{shown}");
}

#[tokio::test]
async fn programs_can_be_named_in_any_case_and_ask_for_help() {
    let fake = store().await;
    let mut session = session(&fake);
    assert!(run(&mut session, "BENCH --help").await.unwrap().contains("--pipeline"));
    assert_eq!(run(&mut session, "import").await.unwrap_err().exit, Exit::Usage);
    let bench = "bench --requests 200 --clients 3 --pipeline 2 --keys 10 --reads 50 --json";
    let report: serde_json::Value = serde_json::from_str(&run(&mut session, bench).await.unwrap()).unwrap();
    assert_eq!((report["ops"].as_u64(), report["errors"].as_u64()), (Some(200), Some(0)));
    assert_eq!(report["misses"].as_u64(), Some(0));
}

#[tokio::test]
async fn no_server_is_code_four_with_advice() {
    let gone = store().await.address;
    let options = Options { connect_timeout: std::time::Duration::from_millis(20), ..Options::default() };
    let mut session = Session::new(vec![gone.clone()], options, Log::default());
    let failure = run(&mut session, "get k").await.unwrap_err();
    assert_eq!(failure.exit, Exit::Unavailable);
    assert!(failure.message.contains(&gone) && failure.message.contains("-s HOST:PORT"), "{failure}");
}
