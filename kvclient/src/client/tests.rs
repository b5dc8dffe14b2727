//! The library against servers that misbehave in every known way.

use std::time::Duration;

use common::ids::{Epoch, RequestNumber};
use common::limits::VALUE_BYTES_MAX;
use common::time::WallTime;
use tokio::task::JoinSet;

use super::*;
use crate::testing::{Action, Fake, Store, key_of, value, view, written};

fn epoch(version: u64) -> Epoch {
    Epoch { generation: 0, version }
}

fn moved(version: u64) -> Action {
    Action::Reply(Reply::Moved { view: epoch(version) })
}

/// Does one thing after the other, and the last for ever.
fn script(mut actions: Vec<fn() -> Action>) -> impl FnMut(&Request) -> Action + Send + 'static {
    move |_| if actions.len() > 1 { actions.remove(0)() } else { actions[0]() }
}

fn done() -> Action {
    Action::Reply(written())
}

fn busy() -> Action {
    Action::Reply(Reply::Busy { reason: "a hand-over is under way".into() })
}

fn unknown() -> Action {
    Action::Reply(Reply::Unknown { reason: "it is in the log".into() })
}

fn refused() -> Action {
    Action::Reply(Reply::Refused { reason: "disk full".into() })
}

fn silence() -> Action {
    Action::Silence
}

fn broken() -> Action {
    Action::Break
}

#[tokio::test]
async fn moved_leads_to_the_right_server_with_the_same_origin() {
    let new = Fake::start(|_| done()).await;
    let old = Fake::start(|_| moved(2)).await;
    old.set_view(view(1, &[&old.address, &new.address], 0));
    let client = old.client(10_000).await;
    let newer = view(2, &[&old.address, &new.address], 1);
    old.set_view(newer.clone());
    new.set_view(newer);
    client.put("k", "v").await.unwrap();
    assert_eq!(client.view().number, epoch(2));
    assert_eq!((old.origins().len(), new.origins().len()), (1, 1));
    assert_eq!(old.origins(), new.origins());
    // From now on it goes there straight away.
    client.put("k", "v").await.unwrap();
    assert_eq!((old.origins().len(), new.origins().len()), (1, 2));
}

#[tokio::test]
async fn many_that_are_moved_refresh_together() {
    let fake = Fake::start(|_| moved(2)).await;
    let new = Fake::start(|_| done()).await;
    fake.set_view(view(1, &[&fake.address, &new.address], 0));
    let client = fake.client(10_000).await;
    fake.set_view(view(2, &[&fake.address, &new.address], 1));
    let mut puts = JoinSet::new();
    for key in 0..100 {
        let client = client.clone();
        puts.spawn(async move { client.put(format!("k{key}"), "v").await.unwrap() });
    }
    assert_eq!(puts.join_all().await.len(), 100);
    assert_eq!(new.origins().len(), 100);
    assert_eq!((fake.connections(), new.connections()), (1, 1));
}

#[tokio::test]
async fn a_write_whose_link_broke_is_repeated_with_its_number() {
    let fake = Fake::alone(script(vec![broken, busy, done])).await;
    let client = fake.client(10_000).await;
    client.put("k", "v").await.unwrap();
    let origins = fake.origins();
    assert_eq!(origins.len(), 3);
    assert_eq!(origins[0].number, RequestNumber(1));
    assert!(origins.iter().all(|origin| *origin == origins[0]));
    assert_eq!(fake.connections(), 2);
}

#[tokio::test]
async fn the_age_of_a_write_grows_with_its_tries() {
    let fake = Fake::alone(script(vec![busy, busy, busy, busy, done])).await;
    fake.client(10_000).await.put("k", "v").await.unwrap();
    let requests = fake.requests();
    let age = |request: &Request| match request {
        Request::Write { age_ms, .. } => *age_ms,
        _ => unreachable!("only writes were sent"),
    };
    assert_eq!(age(&requests[0]), 0);
    assert!(age(&requests[4]) > 0);
}

#[tokio::test]
async fn an_unknown_outcome_is_asked_for_again() {
    let fake = Fake::alone(script(vec![unknown, unknown, done])).await;
    fake.client(10_000).await.put("k", "v").await.unwrap();
    let origins = fake.origins();
    assert_eq!(origins.len(), 3);
    assert!(origins.iter().all(|origin| *origin == origins[0]));
}

#[tokio::test]
async fn what_reached_nobody_is_unavailable() {
    let fake = Fake::alone(script(vec![busy])).await;
    let Err(Error::Unavailable { tried, reason }) = fake.client(100).await.put("k", "v").await else {
        panic!("nothing was done")
    };
    assert_eq!(tried, std::slice::from_ref(&fake.address));
    assert!(reason.contains("hand-over"), "{reason}");
    let client = fake.client(100).await;
    drop(fake);
    assert!(matches!(client.get("k").await, Err(Error::Unavailable { .. })));
}

#[tokio::test]
async fn what_may_have_reached_one_is_unknown_whatever_is_answered_later() {
    for actions in [
        vec![silence as fn() -> Action],
        vec![broken, busy],
        vec![unknown, busy],
        vec![broken, refused],
        vec![unknown, refused],
    ] {
        let fake = Fake::alone(script(actions)).await;
        let result = fake.client(100).await.put("k", "v").await;
        assert!(matches!(result, Err(Error::OutcomeUnknown { .. })), "{result:?}");
    }
    let fake = Fake::alone(script(vec![broken, unknown, done])).await;
    fake.client(10_000).await.put("k", "v").await.unwrap();
}

#[tokio::test]
async fn reads_are_repeated_and_never_unknown() {
    let replies = vec![broken as fn() -> Action, unknown, busy, || Action::Reply(value("v"))];
    let fake = Fake::alone(script(replies)).await;
    assert_eq!(fake.client(10_000).await.get("k").await.unwrap().unwrap().value, "v");
    let fake = Fake::alone(script(vec![broken, silence])).await;
    assert!(matches!(fake.client(100).await.get("k").await, Err(Error::Unavailable { .. })));
}

#[tokio::test]
async fn reads_spread_over_the_in_sync_servers_and_writes_do_not() {
    let servers =
        [Fake::start(|_| Action::Reply(value("v"))).await, Fake::start(|_| Action::Reply(value("v"))).await];
    let view = view(1, &[&servers[0].address, &servers[1].address], 0);
    servers.iter().for_each(|server| server.set_view(view.clone()));
    let options = Options { read_from: ReadFrom::InSync, ..Options::default() };
    let client = Client::connect([&servers[0].address], options).await.unwrap();
    for _ in 0..200 {
        client.get("k").await.unwrap();
    }
    let (first, second) = (servers[0].requests().len(), servers[1].requests().len());
    assert_eq!(first + second, 200);
    assert!(first.min(second) > 40, "{first} here, {second} there");
}

#[tokio::test]
async fn a_replica_that_cannot_answer_leads_to_the_coordinator() {
    let coordinator = Fake::start(|_| Action::Reply(value("v"))).await;
    let replica = Fake::start(|_| busy()).await;
    let view = view(1, &[&coordinator.address, &replica.address], 0);
    coordinator.set_view(view.clone());
    replica.set_view(view);
    let options = Options { read_from: ReadFrom::InSync, ..Options::default() };
    let client = Client::connect([&coordinator.address], options).await.unwrap();
    for _ in 0..20 {
        client.get("k").await.unwrap();
    }
    assert_eq!(coordinator.requests().len(), 20);
    assert!(!replica.requests().is_empty());
}

#[tokio::test]
async fn a_refusal_is_final() {
    let fake = Fake::alone(script(vec![refused])).await;
    let refusal = fake.client(10_000).await.put("k", "v").await;
    assert_eq!(refusal, Err(Error::Refused { reason: "disk full".into() }));
    assert_eq!(fake.requests().len(), 1);
}

#[tokio::test]
async fn an_older_view_at_a_server_is_waited_for() {
    let fake = Fake::start(script(vec![|| moved(1), || moved(1), || moved(1), done])).await;
    let other = Fake::start(|_| done()).await;
    other.set_view(view(2, &[&fake.address, &other.address], 0));
    fake.set_view(view(1, &[&fake.address, &other.address], 1));
    let client = other.client(10_000).await;
    client.put("k", "v").await.unwrap();
    assert_eq!(client.view().number, epoch(2));
    assert_eq!((fake.requests().len(), other.requests().len()), (4, 0));
}

#[tokio::test]
async fn a_silent_coordinator_is_left_when_another_one_takes_over() {
    let silent = Fake::start(|_| Action::Silence).await;
    let next = Fake::start(|_| done()).await;
    next.set_view(view(1, &[&silent.address, &next.address], 0));
    let client = next.client(10_000).await;
    next.set_view(view(2, &[&silent.address, &next.address], 1));
    client.put("k", "v").await.unwrap();
    assert_eq!(silent.origins(), next.origins());
}

#[tokio::test]
async fn a_dead_server_is_got_round_by_way_of_the_others() {
    let [first, second] = [Fake::start(|_| done()).await, Fake::start(|_| done()).await];
    let servers = [&first.address, &second.address];
    first.set_view(view(1, &servers, 0));
    second.set_view(view(2, &servers, 1));
    let client = first.client(10_000).await;
    drop(first);
    client.put("k", "v").await.unwrap();
    assert_eq!(second.requests().len(), 1);
}

#[tokio::test]
async fn the_first_unanswered_number_advances_with_the_answers() {
    // The put to `slow` stays open until the third put after it.
    let mut others = 0;
    let fake = Fake::alone(move |request| {
        others += u32::from(key_of(request) != "slow");
        match (key_of(request) == "slow", others) {
            (true, ..3) => busy(),
            _ => done(),
        }
    })
    .await;
    let client = fake.client(10_000).await;
    let mut slow = client.put("slow", "v").into_future();
    for _ in 0..3 {
        tokio::select! {
            biased;
            result = &mut slow => panic!("{result:?} came too early"),
            result = client.put("k", "v").into_future() => result.unwrap(),
        };
    }
    slow.await.unwrap();
    client.put("k", "v").await.unwrap();
    let mut others: Vec<(u64, u64)> = (fake.requests().iter())
        .filter(|request| key_of(request) == "k")
        .filter_map(|request| match request {
            Request::Write { origin, .. } => Some((origin.number.0, origin.first_unanswered.0)),
            _ => None,
        })
        .collect();
    others.dedup();
    assert_eq!(others, [(2, 1), (3, 1), (4, 1), (5, 5)]);
}

#[tokio::test]
async fn ten_thousand_requests_share_one_link() {
    let mut store = Store::default();
    let fake = Fake::alone(move |request| store.handle(request)).await;
    let client = fake.client(60_000).await;
    let mut requests = JoinSet::new();
    for number in 0..10_000 {
        let client = client.clone();
        requests.spawn(async move {
            let (key, value) = (format!("key {number}"), format!("value {number}"));
            client.put(key.clone(), value.clone()).await.unwrap();
            assert_eq!(client.get(key).await.unwrap().unwrap().value, value);
        });
    }
    while let Some(done) = requests.join_next().await {
        done.unwrap();
    }
    assert_eq!((fake.connections(), fake.requests().len()), (1, 20_000));
}

#[tokio::test]
async fn the_largest_values_fit() {
    let mut store = Store::default();
    let fake = Fake::alone(move |request| store.handle(request)).await;
    let client = fake.client(60_000).await;
    let large = vec![7; VALUE_BYTES_MAX];
    let puts = ["a", "b", "c", "d"].map(|key| client.put(key, large.clone()));
    for put in puts {
        put.await.unwrap();
    }
    let swapped = client.put("a", large.clone()).if_value(large.clone()).await.unwrap();
    assert!(matches!(swapped, Outcome::Written { replaced: true, .. }));
    assert_eq!(client.get("b").await.unwrap().unwrap().value, large);
    let too_large = client.put("a", vec![0; VALUE_BYTES_MAX + 1]).await;
    assert!(matches!(too_large, Err(Error::Invalid(_))));
    assert!(matches!(client.get("").await, Err(Error::Invalid(_))));
}

#[tokio::test]
async fn every_operation_reaches_the_server_as_itself() {
    let mut store = Store::default();
    let fake = Fake::alone(move |request| store.handle(request)).await;
    let client = fake.client(10_000).await;
    assert!(matches!(client.put("k", "1").if_absent().await, Ok(Outcome::Written { replaced: false, .. })));
    assert!(matches!(
        client.put("k", "2").if_absent().await,
        Ok(Outcome::ConditionFailed { current: Some(_) })
    ));
    let version = client.get("k").await.unwrap().unwrap().version;
    assert!(matches!(client.put("k", "3").if_version(version).await, Ok(Outcome::Written { .. })));
    assert!(matches!(client.put("k", "4").if_version(version).await, Ok(Outcome::ConditionFailed { .. })));
    assert!(matches!(client.put("k", "5").if_value("3").await, Ok(Outcome::Written { .. })));
    assert_eq!(client.append("k", "67").await.unwrap().offset, 1);
    client.expire_at("k", WallTime(u64::MAX)).await.unwrap();
    let found = client.get("k").await.unwrap().unwrap();
    assert_eq!((&found.value[..], found.expires), (&b"567"[..], Some(WallTime(u64::MAX))));
    assert!(client.delete("k").await.unwrap().is_some());
    assert_eq!(client.delete("k").await, Ok(None));
    assert_eq!(client.get("k").await, Ok(None));
    assert!(matches!(client.write(Operation::Tick {}).await, Err(Error::Refused { .. })));
}

#[tokio::test]
async fn a_scan_finds_everything_by_partition_and_key() {
    let mut store = Store::default();
    let fake = Fake::alone(move |request| store.handle(request)).await;
    let client = fake.client(10_000).await;
    for number in 0..50 {
        client.put(format!("a{number:02}"), "v").await.unwrap();
        client.put(format!("b{number:02}"), "v").await.unwrap();
    }
    let mut scan = client.scan("a").page_pairs(7);
    let mut keys = Vec::new();
    while let Some(pairs) = scan.next().await.unwrap() {
        assert!(!pairs.is_empty());
        keys.extend(pairs.into_iter().map(|pair| pair.key));
    }
    let mut wanted: Vec<Bytes> = (0..50).map(|number| Bytes::from(format!("a{number:02}"))).collect();
    let partitions = client.view().partitions;
    wanted.sort_by_key(|key| (partitions.of_key(key), key.clone()));
    assert_eq!(keys, wanted);
    assert_eq!(scan.next().await, Ok(None));
}

#[tokio::test]
async fn a_cluster_without_servers_is_connected_to_and_waited_for() {
    let fake = Fake::start(|_| done()).await;
    let client = fake.client(500).await;
    assert!(matches!(client.put("k", "v").await, Err(Error::Unavailable { .. })));
    assert!(client.scan("").next().await.is_err());
    fake.set_view(view(1, &[&fake.address], 0));
    client.put("k", "v").await.unwrap();
}

#[tokio::test]
async fn nobody_at_any_seed_is_told_with_the_seeds() {
    let fake = Fake::alone(|_| done()).await;
    let seeds = [fake.address.clone()];
    drop(fake);
    let options = Options { connect_timeout: Duration::from_millis(50), ..Options::default() };
    let Err(Error::Unavailable { tried, reason }) = Client::connect(&seeds, options).await else {
        panic!("no server is there")
    };
    assert_eq!(tried, seeds);
    assert!(reason.contains("cannot connect"), "{reason}");
}

#[tokio::test]
async fn any_seed_will_do_and_another_clusters_view_is_not_taken() {
    let dead = Fake::alone(|_| done()).await.address;
    let fake = Fake::alone(|_| done()).await;
    let seeds = [dead, fake.address.clone()];
    let client = Client::connect(&seeds, Options::default()).await.unwrap();
    client.put("k", "v").await.unwrap();
    let mut foreign = view(9, &[&fake.address], 0);
    foreign.cluster = common::ids::ClusterId(1);
    fake.set_view(foreign);
    assert_eq!(client.refresh_view().await.unwrap().number, epoch(1));
}

#[tokio::test]
async fn connections_end_with_the_last_clone() {
    let fake = Fake::alone(|_| done()).await;
    let client = fake.client(10_000).await;
    client.put("k", "v").await.unwrap();
    let link = Arc::downgrade(&client.router().peer(&fake.address).live().unwrap());
    let clone = client.clone();
    drop(client);
    clone.put("k", "v").await.unwrap();
    assert_eq!(fake.connections(), 1);
    drop(clone);
    assert!(link.upgrade().is_none());
}

#[tokio::test]
async fn a_traced_write_keeps_its_id_over_all_tries_and_others_have_none() {
    let server = Fake::start(script(vec![busy, done])).await;
    server.set_view(view(1, &[&server.address], 0));
    let client = server.client(10_000).await;
    let ids = Arc::new(std::sync::Mutex::new(Vec::new()));
    let note = Arc::clone(&ids);
    let traced = client.traced(move |request| note.lock().unwrap().push(request));
    traced.put("k", "v").await.unwrap();
    client.put("k", "v").await.unwrap();
    let ids = ids.lock().unwrap().clone();
    let [id] = ids[..] else { panic!("one request is traced: {ids:?}") };
    let asked = server.requests();
    let [
        Request::Trace { request: first },
        Request::Write { origin, .. },
        Request::Trace { request: second },
        Request::Write { .. },
        Request::Write { .. },
    ] = asked[..]
    else {
        panic!("{asked:?}")
    };
    assert_eq!((first, second, origin.client, origin.number), (id, id, id.client, id.number));
}

#[tokio::test]
async fn a_lazy_client_asks_when_it_is_asked() {
    let fake = Fake::alone(|_| done()).await;
    let client = Client::connect_lazy([&fake.address], Options::default()).unwrap();
    assert_eq!((fake.connections(), client.view().number), (0, Epoch::default()));
    client.put("k", "v").await.unwrap();
    assert_eq!(client.view().number, epoch(1));
    let options = Options { timeout: Duration::from_millis(50), ..Options::default() };
    // No program listens at the port of the discard service.
    let client = Client::connect_lazy(["127.0.0.1:9"], options).unwrap();
    let Err(Error::Unavailable { tried, reason }) = client.put("k", "v").await else {
        panic!("no server is there")
    };
    assert_eq!(tried, ["127.0.0.1:9"]);
    assert!(reason.contains("cannot connect"), "{reason}");
}
