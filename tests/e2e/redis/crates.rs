//! The crates `redis` and `fred`, in both versions of the protocol.

use std::net::SocketAddr;

use fred::prelude::{Builder, ClientLike, Expiration, KeysInterface, TransactionInterface};
use fred::types::RespVersion;
use fred::types::config::{Config, ServerConfig};
use redis::{Commands, ConnectionLike};

use crate::support::Cluster;

fn redis_crate(address: SocketAddr, version: u8) {
    let url = format!("redis://{address}/?protocol=resp{version}");
    let client = redis::Client::open(url).expect("a URL");
    let mut connection = client.get_connection().expect("a connection");
    assert!(connection.check_connection());
    let () = connection.set("crate:a", "1").expect("a set");
    let options = redis::SetOptions::default().conditional_set(redis::ExistenceCheck::NX).get(true);
    let old: Option<String> = connection.set_options("crate:a", "2", options).expect("a set with options");
    assert_eq!(old.as_deref(), Some("1"));
    let sum: i64 = connection.incr("crate:a", 41).expect("a sum");
    assert_eq!(sum, 42);
    let () = connection.pset_ex("crate:b", "v", 100_000).expect("a set with an expiry");
    let left: i64 = connection.pttl("crate:b").expect("a time");
    assert!(left > 90_000, "{left}");
    let both: Vec<Option<String>> = connection.mget(&["crate:a", "nothing"]).expect("values");
    assert_eq!(both, [Some("42".to_owned()), None]);
    let (sum, value): (i64, String) =
        redis::pipe().incr("crate:a", 1).get("crate:a").query(&mut connection).expect("a pipeline");
    assert_eq!((sum, value.as_str()), (43, "43"));
    let (sum,): (i64,) =
        redis::pipe().atomic().incr("crate:a", 1).query(&mut connection).expect("a transaction");
    assert_eq!(sum, 44);
    let error = redis::cmd("INCR").arg("crate:b").query::<i64>(&mut connection).expect_err("no number");
    assert!(error.to_string().contains("not an integer"), "{error}");
    let removed: i64 = connection.del(&["crate:a", "crate:b", "nothing"]).expect("a number");
    assert_eq!(removed, 2);
}

async fn fred_crate(address: SocketAddr, version: RespVersion) {
    let server = ServerConfig::new_centralized(address.ip().to_string(), address.port());
    let config = Config { server, version, ..Config::default() };
    let client = Builder::from_config(config).build().expect("a client");
    client.init().await.expect("a connection");
    let _: () = client.set("fred:a", "1", Some(Expiration::EX(100)), None, false).await.expect("a set");
    assert_eq!(client.incr_by::<i64, _>("fred:a", 41).await.expect("a sum"), 42);
    assert!(client.ttl::<i64, _>("fred:a").await.expect("a time") > 90);
    let both: Vec<Option<String>> = client.mget(vec!["fred:a", "nothing"]).await.expect("values");
    assert_eq!(both, [Some("42".to_owned()), None]);
    let pipeline = client.pipeline();
    for _ in 0..1000 {
        let _: () = pipeline.incr("fred:n").await.expect("queued");
    }
    let sums: Vec<i64> = pipeline.all().await.expect("a pipeline");
    assert_eq!(sums, (1..=1000).collect::<Vec<i64>>());
    let transaction = client.multi();
    let _: () = transaction.set("fred:a", "x", None, None, false).await.expect("queued");
    let _: () = transaction.get("fred:a").await.expect("queued");
    let done: (String, String) = transaction.exec(true).await.expect("a transaction");
    assert_eq!(done, ("OK".to_owned(), "x".to_owned()));
    assert_eq!(client.getdel::<Option<String>, _>("fred:a").await.expect("a value").as_deref(), Some("x"));
    assert_eq!(client.del::<i64, _>(vec!["fred:n", "fred:a"]).await.expect("a number"), 1);
    client.quit().await.expect("an end");
}

#[test]
fn crates_of_others() {
    let cluster = Cluster::start(3);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    for at in 0..3 {
        let address = cluster.address(at);
        for version in [2, 3] {
            redis_crate(address, version);
        }
        for version in [RespVersion::RESP2, RespVersion::RESP3] {
            runtime.block_on(fred_crate(address, version));
        }
    }
}
