use std::sync::Mutex;

use common::ids::{Epoch, LogId, Seq};
use common::operation::Found;

use super::*;
use crate::testing::{Action, Fake, view};

fn at(seq: u64) -> Version {
    LogId { tag: Epoch { generation: 0, version: 1 }, seq: Seq(seq) }
}

fn put(seq: u64, value: &str) -> Change {
    let found = Found { value: value.to_owned().into(), version: at(seq), expires: None };
    Change::Put { key: Bytes::from_static(b"k"), found }
}

fn key() -> Selection {
    Selection::Key { key: Bytes::from_static(b"k") }
}

/// A log of one partition that answers as a server does, and keeps questions without an answer waiting.
fn answer(log: &[Change], request: &Request) -> Action {
    let Request::Watch { after, bytes_max, hold_ms, .. } = request else { panic!("{request:?}") };
    let last = log.last().map_or(at(0), Change::version);
    let mut changes = Vec::new();
    let (mut through, mut next_bytes, mut bytes) = (after.unwrap_or(last), 0, 0);
    for change in log.iter().filter(|change| after.is_some_and(|after| change.version().seq > after.seq)) {
        bytes += change.bytes();
        if bytes > *bytes_max as usize {
            next_bytes = if changes.is_empty() { bytes as u64 } else { 0 };
            break;
        }
        through = change.version();
        changes.push(change.clone());
    }
    if changes.is_empty() && next_bytes == 0 && *hold_ms > 0 {
        return Action::Silence;
    }
    Action::Reply(Reply::Changes { changes, through, next_bytes })
}

#[tokio::test]
async fn changes_come_in_order_each_once_however_large() {
    let log = vec![
        put(1, "before"),
        put(2, &"x".repeat(3000)),
        put(3, "c"),
        put(4, &"y".repeat(2 << 20)),
        put(5, "e"),
    ];
    let delivered = log.clone();
    let fake = Fake::alone(move |request| answer(&log, request)).await;
    let client = fake.client(10_000).await;
    let mut watch = client.watch_key_from("k", at(1)).await.unwrap();
    for change in &delivered[1..] {
        assert_eq!(watch.next().await.unwrap(), *change);
    }
    assert_eq!(watch.positions().values().copied().collect::<Vec<_>>(), [at(5)]);
    // A watch that begins now gets the position at once, and no earlier changes.
    let watch = client.watch(key()).await.unwrap();
    assert_eq!(watch.positions().values().copied().collect::<Vec<_>>(), [at(5)]);
}

#[tokio::test]
async fn the_next_coordinator_is_asked_from_the_last_position() {
    let second = Fake::start(|request| answer(&[put(1, "a"), put(2, "b")], request)).await;
    let first = Fake::start(|request| match request {
        Request::Watch { after: Some(after), .. } if after.seq == Seq(1) => Action::Break,
        request => answer(&[put(1, "a")], request),
    })
    .await;
    let addresses = [&first.address, &second.address];
    first.set_view(view(1, &addresses, 0));
    second.set_view(view(2, &addresses, 1));
    let client = first.client(10_000).await;
    let mut watch = client.watch_key_from("k", at(0)).await.unwrap();
    assert_eq!(watch.next().await.unwrap(), put(1, "a"));
    assert_eq!(watch.next().await.unwrap(), put(2, "b"));
    let after = |request: &Request| match request {
        Request::Watch { after, .. } => *after,
        _ => None,
    };
    assert_eq!(second.requests().first().and_then(after), Some(at(1)));
}

#[tokio::test]
async fn one_that_answers_nothing_is_told_and_asked_further() {
    let answers = std::sync::Arc::new(Mutex::new(false));
    let answering = answers.clone();
    let fake = Fake::alone(move |request| {
        if *answering.lock().unwrap() {
            answer(&[put(1, "a")], request)
        } else {
            Action::Reply(Reply::Busy { reason: "it becomes active".to_owned() })
        }
    })
    .await;
    let client = fake.client(200).await;
    let error = client.watch(key()).await.unwrap_err();
    assert!(matches!(&error, Error::Unavailable { reason, .. } if reason.contains("active")), "{error}");
    let mut watch = client.watch_key_from("k", at(0)).await.unwrap();
    assert!(matches!(watch.next().await, Err(Error::Unavailable { .. })));
    *answers.lock().unwrap() = true;
    let change = loop {
        if let Ok(change) = watch.next().await {
            break change;
        }
    };
    assert_eq!(change, put(1, "a"));
}

#[tokio::test]
async fn what_cannot_be_watched_is_refused() {
    let fake = Fake::alone(|_| Action::Reply(Reply::Refused { reason: "no".to_owned() })).await;
    let client = fake.client(10_000).await;
    let long = Selection::Prefix { prefix: vec![b'x'; KEY_BYTES_MAX + 1].into() };
    assert!(matches!(client.watch(long).await, Err(Error::Invalid(_))));
    assert!(matches!(client.watch(key()).await, Err(Error::Refused { .. })));
    let mut watch = client.watch_key_from("k", at(0)).await.unwrap();
    assert!(matches!(watch.next().await, Err(Error::Refused { .. })));
}
