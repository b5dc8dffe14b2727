//! The load against a server in memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use clap::Parser;
use common::clock;
use common::ids::{ClientId, RequestNumber};
use common::messages::{Reply, Request as Message};
use common::operation::{Condition, Operation, Origin};
use serde_json::Value;
use tokio::sync::Notify;

use super::*;
use kvclient::Error;
use kvclient::testing::{Action, Fake, Store, operation_of};

#[derive(Parser)]
struct Bench {
    #[command(flatten)]
    args: BenchArgs,
}

fn args(words: &[&str]) -> BenchArgs {
    Bench::parse_from(["bench"].iter().chain(words)).args
}

async fn store() -> Fake {
    let mut store = Store::default();
    Fake::alone(move |request| store.handle(request)).await
}

async fn bench(fake: &Fake, words: &[&str]) -> Result<String, Failure> {
    let mut out = Vec::new();
    run(std::slice::from_ref(&fake.address), &Options::default(), &args(words), &mut out).await?;
    Ok(String::from_utf8(out).unwrap())
}

async fn bench_json(fake: &Fake, words: &[&str]) -> Value {
    let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
    serde_json::from_str(&bench(fake, &words).await.unwrap()).unwrap()
}

#[tokio::test]
async fn puts_are_counted_and_reported() {
    let fake = store().await;
    let folder = tempfile::tempdir().unwrap();
    let probe = folder.path().to_str().unwrap();
    let words = ["--requests", "500", "--clients", "4", "--value-bytes", "9", "--probe-disk", probe];
    let shown = bench(&fake, &words).await.unwrap();
    assert!(
        shown.contains("500 requests") && shown.contains("0 errors") && shown.contains("put p50 / fdatasync")
    );
    assert!(!shown.contains("\nget "), "{shown}");
    assert_eq!(fake.requests().iter().filter(|request| operation_of(request).is_some()).count(), 500);
    assert_eq!(fake.connections(), 4);
}

#[tokio::test]
async fn gets_find_what_was_put_first() {
    let fake = store().await;
    let words = ["--requests", "300", "--reads", "100", "--keys", "50", "--shared", "--seed", "3"];
    let shown = bench(&fake, &words).await.unwrap();
    assert!(shown.contains("\nget ") && !shown.contains("found nothing"), "{shown}");
    assert_eq!((fake.connections(), fake.requests().len()), (1, 350));
}

#[tokio::test]
async fn keys_can_be_put_alone_or_be_there_already() {
    let fake = store().await;
    assert_eq!(bench(&fake, &["--preload", "only", "--keys", "70"]).await.unwrap(), "");
    assert_eq!(fake.requests().len(), 70);
    let words = ["--preload", "no", "--keys", "70", "--workload", "c", "--requests", "90"];
    assert!(!bench(&fake, &words).await.unwrap().contains("found nothing"));
    assert_eq!(fake.requests().len(), 160);
    // Without them, each get of a key that is not there is a miss.
    let words = ["--preload", "no", "--prefix", "none", "--workload", "c", "--requests", "20"];
    assert!(bench(&fake, &words).await.unwrap().contains("20 gets found nothing"));
}

#[tokio::test]
async fn workloads_ask_for_their_kinds() {
    for (workload, kinds) in [
        ("a", ["get", "put"].as_slice()),
        ("b", &["get", "put"]),
        ("c", &["get"]),
        ("d", &["get", "insert"]),
        ("e", &["insert", "scan"]),
        ("f", &["get", "read_modify_write"]),
    ] {
        let fake = store().await;
        let words = ["--workload", workload, "--requests", "1000", "--keys", "60", "--value-bytes", "5-9"];
        let report = bench_json(&fake, &words).await;
        let operations = report["operations"].as_object().unwrap();
        assert_eq!(operations.keys().collect::<Vec<_>>(), kinds, "workload {workload}");
        assert_eq!((report["ops"].as_u64(), report["misses"].as_u64()), (Some(1000), Some(0)), "{report}");
        assert_eq!(report["workload"].as_str(), Some(workload));
        for latency in operations.values() {
            let histogram = latency["histogram"].as_array().unwrap();
            let counted: u64 = histogram.iter().map(|bar| bar[1].as_u64().unwrap()).sum();
            assert_eq!(Some(counted), latency["count"].as_u64());
            assert!(latency["p50_us"].as_u64() <= latency["p9999_us"].as_u64(), "{latency}");
            assert!(latency["p9999_us"].as_u64() <= latency["max_us"].as_u64(), "{latency}");
        }
        let sizes: Vec<usize> = fake.requests().iter().filter_map(written_bytes).collect();
        assert!(
            sizes.iter().all(|bytes| (5..=9).contains(bytes)) && sizes.contains(&5) && sizes.contains(&9)
        );
        assert_eq!(report["scanned"].as_u64() > Some(0), workload == "e");
    }
}

fn written_bytes(request: &Message) -> Option<usize> {
    match operation_of(request) {
        Some(Operation::Put { value, .. }) => Some(value.len()),
        _ => None,
    }
}

#[tokio::test]
async fn read_modify_writes_count_their_conflicts() {
    let mut store = Store::default();
    let mut disturbed = false;
    let fake = Fake::alone(move |request| {
        let answer = store.handle(request);
        if !disturbed && matches!(request, Message::Get { .. }) {
            // Another client writes after the first read.
            let Message::Get { key } = request else { unreachable!() };
            disturbed = true;
            let (client, number) = (ClientId(1), RequestNumber(1));
            let origin = Origin { client, number, first_unanswered: number };
            let operation = Operation::put(key.clone(), "other");
            store.handle(&Message::Write { origin, age_ms: 0, operation });
        }
        answer
    })
    .await;
    let client = fake.client(5000).await;
    client.put("k", "first").await.unwrap();
    let update = Request::Update { key: "k".into(), value: "mine".into() };
    assert_eq!(client.perform(update).await.unwrap(), Answered { conflicts: 1, ..Answered::default() });
    let on_version = |request: &&Message| {
        matches!(operation_of(request), Some(Operation::Put { condition: Condition::Version { .. }, .. }))
    };
    assert_eq!(fake.requests().iter().filter(on_version).count(), 2);
}

/// Answers nothing before `more` requests were due after the first, by its own clock.
#[derive(Clone)]
struct Stalls {
    first: Arc<AtomicBool>,
    go_on: Arc<Notify>,
    asked: Arc<Mutex<BTreeMap<Bytes, u64>>>,
}

impl Target for Stalls {
    type Error = Error;

    const KINDS: &'static [Kind] = &[Kind::Put];

    async fn perform(&self, request: Request) -> Result<Answered, Error> {
        if let Request::Put { key, .. } = request {
            *self.asked.lock().unwrap().entry(key).or_default() += 1;
        }
        if self.first.swap(false, Ordering::Relaxed) {
            self.go_on.notified().await;
        }
        Ok(Answered::default())
    }
}

/// A stall of 100 ms at a thousand requests a second, one at a time: in an open loop the hundred requests that were due
/// meanwhile have waited too; a closed loop shows one.
#[tokio::test]
async fn a_stall_is_seen_by_all_that_were_due() {
    for (rate, slow) in [(Some("1000"), 40..=400), (None, 1..=10)] {
        let target = Stalls { first: Arc::new(true.into()), go_on: Arc::default(), asked: Arc::default() };
        let mut words = vec!["--clients", "1", "--requests", "400"];
        words.extend(rate.iter().flat_map(|rate| ["--rate", rate]));
        let (args, go_on) = (args(&words), Arc::clone(&target.go_on));
        let started = clock::time();
        let stall = async {
            let mut looks = tokio::time::interval(std::time::Duration::from_millis(1));
            while clock::time().since(started).as_millis() < 100 {
                looks.tick().await;
            }
            go_on.notify_one();
        };
        let targets = [target];
        let (report, ()) = tokio::join!(measure(&targets, &args), stall);
        let mut out = Vec::new();
        report.unwrap().write(true, &mut out).unwrap();
        let report: Value = serde_json::from_slice(&out).unwrap();
        let histogram = report["operations"]["put"]["histogram"].as_array().unwrap();
        let waited: u64 = histogram
            .iter()
            .filter(|bar| bar[0].as_u64() >= Some(50_000))
            .map(|bar| bar[1].as_u64().unwrap())
            .sum();
        assert_eq!(report["ops"].as_u64(), Some(400));
        assert!(slow.contains(&waited), "rate {rate:?}: {waited} waited 50 ms");
        assert_eq!(targets[0].asked.lock().unwrap().values().sum::<u64>(), 400);
    }
}

#[tokio::test]
async fn what_cannot_be_done_is_said_before() {
    for (words, said) in [
        (["--theta", "1"], "--theta"),
        (["--theta", "NaN"], "--theta"),
        (["--pipeline", "100000"], "--pipeline"),
    ] {
        let error = args(&words).check(&Kind::ALL).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
    let error = args(&["--workload", "e"]).check(&[Kind::Get, Kind::Insert]).unwrap_err();
    assert!(error.contains("`scan`"), "{error}");
}

#[tokio::test]
async fn a_run_without_success_fails() {
    let fake = Fake::alone(|_| Action::Reply(Reply::Refused { reason: "disk full".into() })).await;
    let failure = bench(&fake, &["--requests", "10"]).await.unwrap_err();
    assert!(failure.message.contains("disk full"), "{failure}");
}
