//! What the builders send, and what they make of the answers.

use std::time::SystemTime;

use common::messages::Reply;
use common::operation::{Found, Pair};

use super::*;
use crate::testing::{Action, Fake, Store};

async fn store() -> (Fake, Client) {
    let mut store = Store::default();
    let fake = Fake::alone(move |request| store.handle(request)).await;
    let client = fake.client(10_000).await;
    (fake, client)
}

/// The operation that was sent last.
fn last(fake: &Fake) -> Operation {
    fake.requests().iter().rev().find_map(crate::testing::operation_of).cloned().expect("a write was sent")
}

#[tokio::test]
async fn nothing_is_sent_before_it_is_awaited() {
    let (fake, client) = store().await;
    drop((
        client.put("k", "v").ttl(Duration::from_secs(1)),
        client.delete("k"),
        client.batch().put("k", "v"),
    ));
    assert!(fake.requests().is_empty());
}

#[tokio::test]
async fn a_put_is_what_was_built() {
    let (fake, client) = store().await;
    client.put("k", "v").await.unwrap();
    assert_eq!(last(&fake), Operation::put("k", "v"));
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(4_000_000_000_123);
    let put = client.put("k", "w").expires_at(at).if_value("v").await.unwrap();
    assert!(matches!(put, Outcome::Written { replaced: true, .. }));
    let (expires, condition) = (Some(WallTime(4_000_000_000_123)), Condition::Value { value: "v".into() });
    assert_eq!(last(&fake), Operation::Put { key: "k".into(), value: "w".into(), expires, condition });
    for put in [
        client.put("k", "x").ttl(Duration::from_micros(1_500)).if_absent(),
        client.put("k", "x").if_absent().ttl(Duration::from_millis(2)),
    ] {
        let Ok(Outcome::ConditionFailed { current: Some(_) }) = put.await else { panic!("there is a value") };
        let (expiry, condition) = (Expiry::In { ms: 2 }, Condition::Absent {});
        let set = Operation::Set { key: "k".into(), value: "x".into(), expiry, condition, return_old: false };
        assert_eq!(last(&fake), set);
    }
    let version = client.put("k", "y").await.unwrap();
    assert!(matches!(client.put("k", "z").if_version(version).await, Ok(Outcome::Written { .. })));
    assert!(matches!(
        client.put("none", "z").if_present().await,
        Ok(Outcome::ConditionFailed { current: None })
    ));
}

#[tokio::test]
async fn a_delete_says_whether_there_was_a_value() {
    let (_fake, client) = store().await;
    let version = client.put("k", "v").await.unwrap();
    assert!(matches!(client.delete("k").if_value("w").await, Ok(Outcome::ConditionFailed { .. })));
    assert!(matches!(client.delete("k").if_version(version).await, Ok(Outcome::Deleted { .. })));
    assert_eq!(client.delete("k").await, Ok(None));
    client.put("k", "v").await.unwrap();
    assert!(client.delete("k").await.unwrap().is_some());
}

#[tokio::test]
async fn numbers_are_added_up() {
    let (_fake, client) = store().await;
    assert_eq!(client.add("n", 7).await.unwrap().value, 7);
    let added = client.add("n", -9).await.unwrap();
    assert_eq!((added.value, client.get("n").await.unwrap().unwrap().version), (-2, added.version));
    client.put("n", "many").await.unwrap();
    let error = client.add("n", 1).await.unwrap_err();
    assert!(matches!(&error, Error::Refused { reason } if reason.contains("no whole number")), "{error}");
    client.put("n", i64::MAX.to_string()).await.unwrap();
    let error = client.add("n", 1).await.unwrap_err();
    assert!(!error.is_retryable() && error.to_string().contains("64 bits"), "{error}");
}

#[tokio::test]
async fn an_expiry_is_set_and_removed() {
    let (_fake, client) = store().await;
    assert_eq!(client.expire("k", Duration::from_secs(1)).await, Ok(None));
    client.put("k", "v").await.unwrap();
    assert!(client.expire_at("k", WallTime(u64::MAX)).await.unwrap().is_some());
    assert_eq!(client.get("k").await.unwrap().unwrap().expires, Some(WallTime(u64::MAX)));
    let version = client.persist("k").await.unwrap();
    let found = client.get("k").await.unwrap().unwrap();
    assert_eq!((found.expires, Some(found.version)), (None, version));
}

#[tokio::test]
async fn many_are_answered_in_their_order() {
    let (_fake, client) = store().await;
    let pairs = (0..600).map(|number| (format!("k{number}"), number.to_string()));
    let puts: Result<Vec<_>, _> = client.put_many(pairs).await.into_iter().collect();
    assert_eq!(puts.unwrap().len(), 600);
    let keys = [599, 0, 700, 3].map(|number| format!("k{number}"));
    let found = client.get_many(keys).await.unwrap();
    let values: Vec<_> = found.into_iter().map(|found| found.map(|found| found.value)).collect();
    assert_eq!(values, [Some("599".into()), Some("0".into()), None, Some("3".into())]);
    let nothing: [(&str, &str); 0] = [];
    assert!(client.put_many(nothing).await.is_empty());
    let puts = client.put_many([("", "no key"), ("k", "v")]).await;
    assert!(matches!(puts[..], [Err(Error::Invalid(_)), Ok(_)]), "{puts:?}");
}

#[tokio::test]
async fn a_foreign_answer_is_unexpected() {
    let page = Reply::Page { pairs: Vec::<Pair>::new(), more: false };
    let fake = Fake::alone(move |_| Action::Reply(page.clone())).await;
    let client = fake.client(10_000).await;
    let found: Result<Option<Found>, Error> = client.get("k").await;
    assert!(matches!(found, Err(Error::Incompatible { .. })));
    assert!(matches!(client.put("k", "v").await, Err(Error::OutcomeUnknown { .. })));
}
