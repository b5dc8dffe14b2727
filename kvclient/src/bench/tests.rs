//! The load against a server in memory.

use clap::Parser;

use super::*;
use crate::testing::{Action, Fake, Store, operation_of};
use common::messages::Reply;

#[derive(Parser)]
struct Bench {
    #[command(flatten)]
    args: BenchArgs,
}

async fn bench(fake: &Fake, words: &[&str]) -> Result<String, Failure> {
    let args = Bench::parse_from(["bench"].iter().chain(words)).args;
    let mut out = Vec::new();
    run(std::slice::from_ref(&fake.address), &Options::default(), &args, &mut out).await?;
    Ok(String::from_utf8(out).unwrap())
}

#[tokio::test]
async fn puts_are_counted_and_reported() {
    let mut store = Store::default();
    let fake = Fake::alone(move |request| store.handle(request)).await;
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
    let mut store = Store::default();
    let fake = Fake::alone(move |request| store.handle(request)).await;
    let words = ["--requests", "300", "--reads", "100", "--keys", "50", "--shared", "--seed", "3"];
    let shown = bench(&fake, &words).await.unwrap();
    assert!(shown.contains("\nget ") && !shown.contains("found nothing"), "{shown}");
    assert_eq!((fake.connections(), fake.requests().len()), (1, 350));
}

#[tokio::test]
async fn a_run_without_success_fails() {
    let fake = Fake::alone(|_| Action::Reply(Reply::Refused { reason: "disk full".into() })).await;
    let failure = bench(&fake, &["--requests", "10"]).await.unwrap_err();
    assert!(failure.message.contains("disk full"), "{failure}");
}
