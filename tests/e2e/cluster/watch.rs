//! Clients that watch: every acknowledged change in order, or a gap that says which ones are missing.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use bytes::Bytes;
use common::operation::Version;
use common::ring::Partitions;
use kvclient::{Change, Client, Selection, Watch};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::wait::SOON;
use crate::support::{Cluster, Program, Settings};

const WRITERS: usize = 8;

/// Writes that each writer has acknowledged at least before and after the kill.
const SOME_WRITES: u64 = 30;

/// The version that an acknowledged write made.
fn prefix(text: &'static str) -> Selection {
    Selection::Prefix { prefix: Bytes::from_static(text.as_bytes()) }
}

/// The key's value after a write, none after a delete.
type Written = BTreeMap<Version, Option<String>>;

/// What a watch has delivered: the changes of each key in order, and the gaps of each partition.
#[derive(Default)]
struct Delivered {
    keys: BTreeMap<String, Vec<(Version, Option<String>)>>,
    gaps: Vec<(Version, Version)>,
}

impl Delivered {
    async fn next(&mut self, watch: &mut Watch) -> Change {
        let change = tokio::time::timeout(SOON, watch.next()).await.expect("a change in time");
        let change = change.expect("a watch goes on through everything");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (key, value) = match &change {
            Change::Put { key, found } | Change::Expiry { key, found } => (key, Some(text(&found.value))),
            Change::Delete { key, .. } => (key, None),
            Change::Gap { from, to } => {
                self.gaps.push((*from, *to));
                return change;
            }
        };
        self.keys.entry(text(key)).or_default().push((change.version(), value));
        change
    }

    /// Each key's changes are delivered once, in order, and all that were acknowledged are among them or in a gap.
    fn assert_holds(&self, key: &str, written: &Written) {
        let delivered = self.keys.get(key).map(Vec::as_slice).unwrap_or_default();
        assert!(
            delivered.is_sorted_by(|one, next| one.0.seq < next.0.seq && one.0.tag <= next.0.tag),
            "{key}: {delivered:?}"
        );
        let delivered: BTreeMap<Version, &Option<String>> =
            delivered.iter().map(|(at, value)| (*at, value)).collect();
        for (at, value) in written {
            match delivered.get(at) {
                Some(delivered) => assert_eq!(*delivered, value, "{key} at {at}"),
                None => {
                    let covered = self.gaps.iter().any(|(from, to)| from.seq < at.seq && at.seq <= to.seq);
                    assert!(covered, "{key}: the change {at} was acknowledged and not delivered");
                }
            }
        }
    }
}

/// Puts and deletes one key, again and again, until it is stopped; then puts `end`.
async fn write(
    client: Client,
    key: String,
    done: watch::Sender<u64>,
    stop: watch::Receiver<bool>,
) -> (String, Written) {
    let mut written = Written::new();
    for number in 1_u64.. {
        let last = *stop.borrow();
        let (version, value) = if last {
            (client.put(key.clone(), "end").await, Some("end".to_owned()))
        } else if number % 5 == 0 {
            let deleted = client.delete(key.clone()).await;
            (deleted.map(|version| version.expect("there is a value")), None)
        } else {
            (client.put(key.clone(), number.to_string()).await, Some(number.to_string()))
        };
        written.insert(version.expect("it is retried until it is done"), value);
        done.send_replace(number);
        if last {
            break;
        }
    }
    (key, written)
}

#[test]
fn every_change_is_delivered_though_its_coordinator_is_killed() {
    let mut cluster = Cluster::start(3);
    let db = cluster.client();
    let mut watch = db.block(db.client.watch(prefix("watched/"))).expect("a watch");
    let (stop, stopped) = watch::channel(false);
    let (mut writers, mut counts) = (JoinSet::new(), Vec::new());
    let keys: Vec<String> = (0..WRITERS).map(|n| format!("watched/{n}")).collect();
    let mut reader = JoinSet::new();
    db.block(async {
        for key in &keys {
            let (done, count) = watch::channel(0);
            counts.push(count);
            writers.spawn(write(db.client.clone(), key.clone(), done, stopped.clone()));
        }
        // Changes of other keys are not delivered.
        writers.spawn(write(db.client.clone(), "other".to_owned(), watch::channel(0).0, stopped));
        reader.spawn(async move {
            let mut delivered = Delivered::default();
            let mut ended = 0;
            while ended < WRITERS {
                if let Change::Put { found, .. } = delivered.next(&mut watch).await
                    && found.value == "end"
                {
                    ended += 1;
                }
            }
            delivered
        });
    });
    let some_more = |counts: &mut Vec<watch::Receiver<u64>>| {
        db.block(async {
            for count in counts {
                let enough = *count.borrow() + SOME_WRITES;
                let waited = tokio::time::timeout(SOON, count.wait_for(|count| *count >= enough)).await;
                waited.expect("writes go on").expect("the writer is there");
            }
        });
    };
    some_more(&mut counts);
    // Whoever coordinates the first key.
    let view = db.client.view();
    let coordinator = view.assignment(view.partitions.of_key(b"watched/0")).expect("it has one").coordinator;
    let address = view.servers[&coordinator].address.clone();
    let killed = cluster.addresses().iter().position(|known| known.to_string() == address).expect("a server");
    cluster.kill_server(killed);
    some_more(&mut counts);
    stop.send_replace(true);
    let written: BTreeMap<String, Written> = db.block(writers.join_all()).into_iter().collect();
    let delivered = db.block(reader.join_all()).pop().expect("the reader");
    assert_eq!(delivered.keys.keys().cloned().collect::<Vec<_>>(), keys, "these, and no others");
    for key in &keys {
        delivered.assert_holds(key, &written[key]);
    }
    // All of these changes can be read from the log, and the next coordinators have it.
    assert_eq!(delivered.gaps, [], "{} writes", written.values().map(BTreeMap::len).sum::<usize>());
}

#[test]
fn a_slow_reader_gets_a_gap_for_what_it_has_missed() {
    const VALUE_BYTES: usize = 256 << 10;
    let settings = Settings::default().server_args(&["--log-mb", "64"]);
    let cluster = settings.start(1);
    let db = cluster.client();
    let first = db.put("slow", "first");
    let mut slow = db.block(db.client.watch_key_from("slow", first)).expect("a watch");
    let mut written = Written::new();
    let fill = |number: usize| format!("{number} {}", "x".repeat(VALUE_BYTES));
    // Until the log no longer holds the first of them.
    let mut number = 0;
    loop {
        for _ in 0..64 {
            number += 1;
            let version = db.put("slow", fill(number));
            written.insert(version, Some(fill(number)));
        }
        let gap = db.block(async {
            let mut late = db.client.watch_key_from("slow", first).await.expect("a watch");
            matches!(late.next().await.expect("a change"), Change::Gap { .. })
        });
        if gap {
            break;
        }
        assert!(number < 10_000, "the log is never trimmed");
    }
    written.insert(db.put("slow", "end"), Some("end".to_owned()));
    let delivered = db.block(async {
        let mut delivered = Delivered::default();
        while !matches!(delivered.next(&mut slow).await, Change::Put { found, .. } if found.value == "end") {}
        delivered
    });
    assert!(!delivered.gaps.is_empty(), "{} changes were delivered", delivered.keys["slow"].len());
    delivered.assert_holds("slow", &written);
    // It goes on from where it is, and so does one that begins there.
    let partition = Partitions::of_key(db.client.view().partitions, b"slow");
    let place = slow.positions()[&partition];
    let last = db.put("slow", "again");
    db.block(async {
        let mut other = db.client.watch_from(prefix("sl"), slow.positions().clone()).await.expect("a watch");
        for watch in [&mut slow, &mut other] {
            let change = tokio::time::timeout(SOON, watch.next()).await.expect("in time").expect("a change");
            assert_eq!(change.version(), last);
        }
    });
    assert!(place.seq < last.seq);
}

/// `kvclient watch ...`, once it says that it watches.
fn watching(cluster: &Cluster, args: &[&str]) -> std::process::Child {
    let mut command = Program::Client.command();
    command.args(["-s", &cluster.address(0).to_string(), "watch"]).args(args);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("kvclient starts");
    let mut said = String::new();
    BufReader::new(child.stderr.as_mut().expect("a pipe")).read_line(&mut said).expect("it says something");
    assert!(said.starts_with("watching "), "{said}");
    child
}

fn printed(mut child: std::process::Child) -> String {
    let mut text = String::new();
    child.stdout.as_mut().expect("a pipe").read_to_string(&mut text).expect("text");
    assert!(child.wait().expect("it ends").success(), "{text}");
    text
}

#[test]
fn the_program_prints_changes_and_ends_after_so_many() {
    let cluster = Cluster::start(1);
    let db = cluster.client();
    let key = watching(&cluster, &["fruit", "--count", "3"]);
    let prefix = watching(&cluster, &["--prefix", "fr", "--count", "4", "--json"]);
    let put = db.put("fruit", "red apple");
    db.put("other", "x");
    let in_an_hour = common::time::WallTime(common::clock::wall().0 + 3_600_000);
    db.block(db.client.expire_at("fruit", in_an_hour)).expect("it is there");
    let deleted = db.block(db.client.delete("fruit")).unwrap().expect("it is there");
    let last = db.put("frost", "\n");
    let text = printed(key);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], format!("put fruit \"red apple\"  (version {put})"));
    assert!(
        lines[1].starts_with("expire fruit \"red apple\"  (version ") && lines[1].contains(", ends in "),
        "{text}"
    );
    assert_eq!((lines[2], lines.len()), (&*format!("delete fruit  (version {deleted})"), 3));
    let text = printed(prefix);
    let delivered: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of_fruit: Vec<&str> = delivered
        .iter()
        .filter(|one| one["key"] == "fruit")
        .filter_map(|one| one["change"].as_str())
        .collect();
    assert_eq!(of_fruit, ["put", "expire", "delete"]);
    let frost = delivered.iter().find(|one| one["key"] == "frost").expect("it was delivered");
    assert_eq!((frost["value"].as_str(), frost["version"].as_str()), (Some("\n"), Some(&*last.to_string())));
    // From a version: what came after it, at once.
    let from = put.to_string();
    let output = cluster.kvclient(0, &["-o", "raw", "watch", "fruit", "--from", &from, "--count", "2"]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.lines().nth(1).is_some_and(|line| line.starts_with(&deleted.to_string())), "{text}");
}
