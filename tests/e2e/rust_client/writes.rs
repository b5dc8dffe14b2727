//! Conditions, times to live, numbers, many keys and batches against real servers.

use std::time::Duration;

use kvclient::{BatchOutcome, Client, Condition, Error, Options, Outcome};

use crate::support::cluster::{Cluster, Settings};
use crate::support::db::Db;
use crate::support::wait::{SOON, wait_until};

#[test]
fn a_client_needs_a_server_to_begin_with() {
    let no_servers: [&str; 0] = [];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(Client::connect(no_servers, Options::default())).unwrap_err();
    assert_eq!(error, Error::NoServers);
    assert!(error.to_string().contains("HOST:PORT") && !error.is_retryable(), "{error}");
    assert!(matches!(Client::connect_lazy(no_servers, Options::default()), Err(Error::NoServers)));
}

#[test]
fn writes_do_what_they_were_built_to() {
    let cluster = Cluster::start(3);
    let db = cluster.client();
    let client = &db.client;
    conditions_decide(&db, client);
    values_end(&db, client);
    numbers_are_added_up(&db, client);
    many_keys_are_written_and_read(&db, client);
    batches_are_done_whole_or_not_at_all(&db, client);
}

fn conditions_decide(db: &Db, client: &Client) {
    let version = db.block(client.put("a", "1")).unwrap();
    assert_eq!(
        db.block(client.put("a", "2").if_absent()).unwrap(),
        Outcome::ConditionFailed { current: Some(version) }
    );
    let Outcome::Written { version: newer, replaced: true } =
        db.block(client.put("a", "2").if_version(version)).unwrap()
    else {
        panic!("it has this version")
    };
    assert!(newer > version);
    assert!(matches!(db.block(client.put("a", "3").if_value("2")), Ok(Outcome::Written { .. })));
    let absent = db.block(client.put("b", "1").if_present()).unwrap();
    assert_eq!(absent, Outcome::ConditionFailed { current: None });
    assert!(matches!(db.block(client.delete("a").if_version(newer)), Ok(Outcome::ConditionFailed { .. })));
    assert!(matches!(db.block(client.delete("a").if_value("3")), Ok(Outcome::Deleted { .. })));
    assert_eq!(db.block(client.delete("a")), Ok(None));
}

fn values_end(db: &Db, client: &Client) {
    let soon = Duration::from_millis(300);
    db.block(client.put("short", "lived").ttl(soon)).unwrap();
    let taken = db.block(client.put("taken", "once").ttl(soon).if_absent()).unwrap();
    assert!(matches!(taken, Outcome::Written { replaced: false, .. }));
    db.put("long", "lived");
    assert!(db.block(client.expire("long", soon)).unwrap().is_some());
    db.block(client.put("kept", "after all").ttl(Duration::from_secs(60))).unwrap();
    assert!(db.found("kept").unwrap().expires.is_some());
    assert!(db.block(client.persist("kept")).unwrap().is_some());
    assert!(db.found("kept").unwrap().expires.is_none());
    assert_eq!(db.block(client.expire("never there", soon)), Ok(None));
    for key in ["short", "taken", "long"] {
        wait_until("the value ends", SOON, || db.get(key).is_none());
    }
}

fn numbers_are_added_up(db: &Db, client: &Client) {
    assert_eq!(db.block(client.add("n", 40)).unwrap().value, 40);
    let added = db.block(client.add("n", 2)).unwrap();
    let found = db.found("n").unwrap();
    assert_eq!((added.value, &found.value[..], found.version), (42, &b"42"[..], added.version));
    db.put("n", "many");
    let error = db.block(client.add("n", 1)).unwrap_err();
    assert!(matches!(&error, Error::Refused { .. }) && !error.is_retryable(), "{error}");
}

fn many_keys_are_written_and_read(db: &Db, client: &Client) {
    let key = |number: usize| format!("many/{number}");
    let pairs = (0..1_000).map(|number| (key(number), number.to_string()));
    for put in db.block(client.put_many(pairs)) {
        put.unwrap();
    }
    let found = db.block(client.get_many((0..1_001).map(key))).unwrap();
    assert!(found[1_000].is_none());
    for (number, found) in found[..1_000].iter().enumerate() {
        assert_eq!(found.as_ref().unwrap().value, number.to_string());
    }
}

fn batches_are_done_whole_or_not_at_all(db: &Db, client: &Client) {
    db.put("stock", "3");
    let take = |wanted: &'static str| {
        let batch = client.batch().require("stock", Condition::Value { value: wanted.into() });
        batch.add("stock", -1).get("stock")
    };
    let BatchOutcome::Done { outcomes } = db.block(take("3")).unwrap() else { panic!("there are 3") };
    let [Outcome::Sum { .. }, Outcome::Fetched { found: Some(found) }] = &outcomes[..] else {
        panic!("{outcomes:?}")
    };
    assert_eq!(found.value, "2");
    assert_eq!(db.block(take("3")), Ok(BatchOutcome::ConditionFailed));
    assert_eq!(db.get("stock").as_deref(), Some("2"));
    let view = client.view();
    let of = |key: &str| view.partitions.of_key(key.as_bytes());
    let keys: Vec<String> = (0..10_000).map(|number| format!("part/{number}")).collect();
    let other = keys.iter().find(|key| of(key) != of("stock")).unwrap().clone();
    let same = keys.iter().find(|key| of(key) == of("stock")).unwrap().clone();
    let error = db.block(client.batch().delete("stock").put(other, "x")).unwrap_err();
    assert!(matches!(&error, Error::Refused { reason } if reason.contains("one partition")), "{error}");
    let batch = db.block(client.batch().delete("stock").put(same.clone(), "x")).unwrap();
    assert!(matches!(batch, BatchOutcome::Done { .. }));
    assert_eq!((db.get("stock"), db.get(same).as_deref()), (None, Some("x")));
}

#[test]
fn what_no_server_could_do_may_be_tried_again() {
    let mut cluster = Settings { same_ports: true, ..Settings::default() }.start(1);
    let seeds = cluster.seeds();
    let options = Options { timeout: Duration::from_millis(500), ..Options::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = runtime.block_on(Client::connect(&seeds, options.clone())).unwrap();
    cluster.kill_server(0);
    let error = runtime.block_on(client.get("k")).unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }) && error.is_retryable(), "{error}");
    let lazy = Client::connect_lazy(&seeds, options).unwrap();
    let error = runtime.block_on(async { lazy.put("k", "v").await }).unwrap_err();
    assert!(matches!(&error, Error::Unavailable { tried, .. } if *tried == seeds), "{error}");
    cluster.start_server(0);
    wait_until("the server is back", SOON, || runtime.block_on(async { lazy.put("k", "v").await }).is_ok());
}
