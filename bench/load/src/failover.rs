//! How long clients wait when a server is killed: writers of one key each go on until all of them have been answered
//! again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::clock;
use kvclient::{Client, Options};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use crate::etcd::Etcd;
use crate::resp::{Resp, Value};

/// Writers, each with a key of its own.
const WRITERS: usize = 48;

/// Between two puts of a writer, and two tries of one put.
const PACE: Duration = Duration::from_millis(20);

/// For one try, where the client itself has to give up: what fast Redis clients wait by default.
const TRY_FOR: Duration = Duration::from_millis(250);

/// Puts of each writer before the kill.
const PUTS_BEFORE: u64 = 25;

/// Which service says where the writes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Trefoil's own library
    Trefoil,
    /// Redis, by its Sentinels: the servers named are those
    Sentinel,
    /// Redis Cluster
    Cluster,
    /// Any member of etcd
    Etcd,
}

/// A way to put, tried until it works.
#[derive(Clone)]
enum Store {
    Trefoil(Client),
    Other { kind: Kind, servers: Arc<[String]> },
}

/// The connection that a writer uses until it fails.
enum Connection {
    Resp(Resp),
    Etcd(Etcd),
}

/// Kills process `pid` with -9 under load; the time until every writer has put again.
pub(crate) async fn run(kind: Kind, servers: &[String], pid: u32) -> Result<Duration, String> {
    let store = if kind == Kind::Trefoil {
        let client = Client::connect(servers, Options::default()).await;
        Store::Trefoil(client.map_err(|error| error.to_string())?)
    } else {
        Store::Other { kind, servers: servers.into() }
    };
    let killed_at = Arc::new(AtomicU64::new(u64::MAX));
    let (warm, again) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        let (killed_at, warm, again) = (Arc::clone(&killed_at), Arc::clone(&warm), Arc::clone(&again));
        let store = store.clone();
        writers.spawn(async move {
            let mut writer = Writer { store, next: number, connection: None };
            let key = Bytes::from(format!("failover:{number}"));
            let mut ticks = interval(PACE);
            let mut puts = 0;
            loop {
                ticks.tick().await;
                let began = clock::time().0;
                writer.put(&key).await;
                puts += 1;
                if puts == PUTS_BEFORE {
                    warm.fetch_add(1, Ordering::Relaxed);
                }
                let killed = killed_at.load(Ordering::Relaxed);
                if began >= killed {
                    again.lock().await.push(clock::time().0 - killed);
                    return;
                }
            }
        });
    }
    let mut looks = interval(PACE);
    while warm.load(Ordering::Relaxed) < WRITERS as u64 {
        looks.tick().await;
    }
    killed_at.store(clock::time().0, Ordering::Relaxed);
    let killed = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
    if !killed.is_ok_and(|status| status.success()) {
        return Err(format!("process {pid} cannot be killed; is it one of the servers?"));
    }
    while writers.join_next().await.is_some() {}
    let longest = again.lock().await.iter().copied().max().unwrap_or(0);
    Ok(Duration::from_micros(longest))
}

/// One writer, and the servers that it uses.
struct Writer {
    store: Store,
    /// Counts through the servers.
    next: usize,
    connection: Option<Connection>,
}

impl Writer {
    /// Puts, however many tries it takes.
    async fn put(&mut self, key: &Bytes) {
        let mut tries = interval(PACE);
        loop {
            tries.tick().await;
            let done = match self.store.clone() {
                Store::Trefoil(client) => client.put(key.clone(), "v").await.is_ok(),
                Store::Other { kind, servers } => {
                    timeout(TRY_FOR, self.put_once(kind, &servers, key)).await.is_ok_and(|done| done.is_ok())
                }
            };
            if done {
                return;
            }
            self.connection = None;
            self.next += 1;
        }
    }

    async fn put_once(&mut self, kind: Kind, servers: &[String], key: &Bytes) -> Result<(), String> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(connect(kind, &servers[self.next % servers.len()], key).await?),
        };
        match connection {
            Connection::Resp(resp) => {
                let words = vec!["SET".into(), key.clone(), "v".into()];
                resp.call(words, false).await.map(drop).map_err(|error| error.to_string())
            }
            Connection::Etcd(etcd) => {
                etcd.put(key.clone(), "v".into()).await.map_err(|error| error.to_string())
            }
        }
    }
}

/// A connection to where this key is written, by what `server` says of it.
async fn connect(kind: Kind, server: &str, key: &Bytes) -> Result<Connection, String> {
    let text = |error: crate::resp::Error| error.to_string();
    match kind {
        Kind::Trefoil | Kind::Etcd => {
            Etcd::connect(server).await.map(Connection::Etcd).map_err(|error| error.to_string())
        }
        Kind::Sentinel => {
            let asked = Resp::connect(server, None).await.map_err(text)?;
            let words = ["SENTINEL", "get-master-addr-by-name", "main"].map(Bytes::from).into();
            let Value::List(place) = asked.call(words, false).await.map_err(text)? else {
                return Err("the sentinel knows no master".to_owned());
            };
            let address =
                address(place.first(), place.get(1)).ok_or("the sentinel's answer has no address")?;
            Resp::connect(&address, None).await.map(Connection::Resp).map_err(text)
        }
        Kind::Cluster => {
            let asked = Resp::connect(server, None).await.map_err(text)?;
            let words = vec!["CLUSTER".into(), "KEYSLOT".into(), key.clone()];
            let Value::Number(slot) = asked.call(words, false).await.map_err(text)? else {
                return Err("no slot".to_owned());
            };
            let slots = asked.call(vec!["CLUSTER".into(), "SLOTS".into()], false).await.map_err(text)?;
            let address = coordinator(&slots, slot).ok_or("no server has the slot")?;
            Resp::connect(&address, None).await.map(Connection::Resp).map_err(text)
        }
    }
}

/// The master of `slot` in an answer to `CLUSTER SLOTS`: lists of first slot, last slot, master, replicas.
fn coordinator(slots: &Value, slot: i64) -> Option<String> {
    let Value::List(ranges) = slots else { return None };
    ranges.iter().find_map(|range| {
        let Value::List(range) = range else { return None };
        let [Value::Number(first), Value::Number(last), Value::List(master), ..] = &range[..] else {
            return None;
        };
        if !(*first..=*last).contains(&slot) {
            return None;
        }
        address(master.first(), master.get(1))
    })
}

fn address(host: Option<&Value>, port: Option<&Value>) -> Option<String> {
    let Value::Text(host) = host? else { return None };
    let host = std::str::from_utf8(host).ok()?;
    match port? {
        Value::Number(port) => Some(format!("{host}:{port}")),
        Value::Text(port) => Some(format!("{host}:{}", std::str::from_utf8(port).ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_master_of_a_slot_is_found() {
        let text = |text: &'static str| Value::Text(text.into());
        let range = |first, last, port| {
            let node = |port| Value::List(vec![text("127.0.0.1"), Value::Number(port), text("id")]);
            Value::List(vec![Value::Number(first), Value::Number(last), node(port), node(port + 10)])
        };
        let slots = Value::List(vec![range(0, 99, 7001), range(100, 16383, 7002)]);
        assert_eq!(coordinator(&slots, 99).as_deref(), Some("127.0.0.1:7001"));
        assert_eq!(coordinator(&slots, 100).as_deref(), Some("127.0.0.1:7002"));
        assert_eq!(coordinator(&Value::List(vec![]), 5), None);
    }
}
