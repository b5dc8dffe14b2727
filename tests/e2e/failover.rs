//! How long clients wait when a server is killed: a measurement, not a test. `bench/failover` runs it.
//!
//! Two tasks for each key, one that puts and one that gets, ask all the time. After each kill of a server (not
//! always the same one), the first request of each task that began after the kill and was answered says when its key
//! takes reads or writes again. Keys are distinguished by the role of the killed server.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::support::wait::{SOON, wait_until};
use crate::support::{Cluster, Settings};
use common::clock;
use common::ids::ServerId;
use common::view::View;
use kvclient::{Client, Options};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Kills, unless `KILLS` says otherwise.
const KILLS: usize = 20;

/// Servers: more than copies, so that there are partitions which the killed one has nothing to do with.
const SERVERS: usize = 5;

/// Keys that are asked for all the time.
const KEYS: usize = 96;

/// Between two requests of one task.
const PACE: Duration = Duration::from_millis(20);

/// What is watched after a kill.
const WINDOW: Duration = Duration::from_secs(4);

/// What is taken for the normal time of a request, before each kill.
const BEFORE: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug)]
struct Request {
    key: usize,
    write: bool,
    began: u64,
    ended: u64,
}

/// What the killed server was for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Coordinator,
    Replica,
    Nothing,
}

type Requests = Arc<Mutex<Vec<Request>>>;

#[test]
#[ignore = "a measurement: bench/failover runs it"]
fn failover() {
    let kills = std::env::var("KILLS").map_or(KILLS, |kills| kills.parse().expect("KILLS is a number"));
    let settings = Settings { same_ports: true, ecs_args: Vec::new(), ..Settings::default() };
    let mut cluster = settings.start(SERVERS);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let options = Options { timeout: SOON, connect_timeout: SOON, ..Options::default() };
    let client = runtime.block_on(Client::connect(&cluster.seeds(), options)).expect("the cluster answers");
    let requests = Requests::default();
    let (stop, stopped) = watch::channel(false);
    for key in 0..KEYS {
        for write in [true, false] {
            runtime.spawn(ask(client.clone(), key, write, Arc::clone(&requests), stopped.clone()));
        }
    }
    let mut kinds: BTreeMap<(Part, &str), Vec<u64>> = BTreeMap::new();
    let mut slowest_before = Vec::new();
    let mut slowest_others = Vec::new();
    let mut alls = Vec::new();
    println!("ms after the kill until all keys of a kind take reads or writes again");
    for kill in 0..kills {
        let parts = parts(&cluster, &runtime, &client, kill % SERVERS);
        let from = clock::time().0;
        wait_until("requests before the kill", SOON, || clock::time().0 - from > BEFORE.as_micros() as u64);
        let seen = client.view().number;
        let at = clock::time().0;
        cluster.kill_server(kill % SERVERS);
        let mut viewed = None;
        wait_until("requests after the kill", SOON, || {
            if viewed.is_none() && client.view().number > seen {
                viewed = Some(clock::time().0 - at);
            }
            clock::time().0 - at > WINDOW.as_micros() as u64
        });
        let done = std::mem::take(&mut *requests.lock().unwrap_or_else(PoisonError::into_inner));
        let mut line = String::new();
        let mut all = 0;
        for (part, write) in [
            (Part::Coordinator, false),
            (Part::Coordinator, true),
            (Part::Replica, false),
            (Part::Replica, true),
            (Part::Nothing, false),
            (Part::Nothing, true),
        ] {
            let keys = (0..KEYS).filter(|key| parts[*key] == part);
            let again = keys.map(|key| {
                let after = done
                    .iter()
                    .filter(|request| request.key == key && request.write == write && request.began >= at);
                // A request that was under way is what a client waited for longest.
                let over = done.iter().filter(|request| {
                    request.key == key && request.write == write && request.began < at && request.ended >= at
                });
                let first =
                    after.map(|request| request.ended - at).min().expect("it is answered within the window");
                over.map(|request| request.ended - at).max().unwrap_or(0).max(first)
            });
            let again = again.max().unwrap_or(0);
            all = all.max(again);
            let name = if write { "writes" } else { "reads" };
            kinds.entry((part, name)).or_default().push(again);
            line += &format!("  {part:?} {name} {:>4}", again / 1000);
        }
        let time = |request: &&Request| request.ended - request.began;
        let before = done.iter().filter(|request| request.ended < at).map(|request| time(&request)).max();
        let others = done.iter().filter(|request| request.ended >= at && parts[request.key] == Part::Nothing);
        let others = others.map(|request| time(&request)).max().unwrap_or(0);
        slowest_before.push(before.unwrap_or(0));
        slowest_others.push(others);
        alls.push(all);
        println!(
            "kill {kill:>2}:{line}  all {:>4}; client has a newer view {:>4}; other partitions' slowest request {:>4}, \
             slowest of all before the kill {:>4}",
            all / 1000,
            viewed.map_or(0, |viewed| viewed / 1000),
            others / 1000,
            before.unwrap_or(0) / 1000
        );
        cluster.start_server(kill % SERVERS);
        cluster.wait_settled();
        requests.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
    stop.send_replace(true);
    println!("\n{kills} kills, {SERVERS} servers, {KEYS} keys: median and largest, ms");
    for ((part, name), times) in &mut kinds {
        println!("{:<28}{}", format!("{part:?} {name}"), middle(times));
    }
    println!("{:<28}{}", "all keys, reads and writes", middle(&mut alls));
    println!("{:<28}{}", "others' slowest request", middle(&mut slowest_others));
    println!("{:<28}{}", "slowest before the kill", middle(&mut slowest_before));
}

fn middle(times: &mut [u64]) -> String {
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or(0);
    format!("{:>8.1} {:>8.1}", median as f64 / 1e3, times.last().copied().unwrap_or(0) as f64 / 1e3)
}

/// What a server is for each key.
fn parts(cluster: &Cluster, runtime: &tokio::runtime::Runtime, client: &Client, server: usize) -> Vec<Part> {
    let view = runtime.block_on(client.refresh_view()).expect("the cluster answers");
    let address = cluster.address(server).to_string();
    let (&id, _) = view.servers.iter().find(|(_, info)| info.address == address).expect("it is a member");
    (0..KEYS).map(|key| part(&view, id, &key_name(key))).collect()
}

fn part(view: &View, server: ServerId, key: &str) -> Part {
    let assignment = &view.assignments[usize::from(view.partitions.of_key(key.as_bytes()).0)];
    if assignment.coordinator == server {
        Part::Coordinator
    } else if assignment.in_sync_member(server).is_some() {
        Part::Replica
    } else {
        Part::Nothing
    }
}

fn key_name(key: usize) -> String {
    format!("failover/{key}")
}

async fn ask(client: Client, key: usize, write: bool, requests: Requests, stopped: watch::Receiver<bool>) {
    for number in 0_u64.. {
        if *stopped.borrow() {
            return;
        }
        let next = Instant::now() + PACE;
        let began = clock::time().0;
        if write {
            client.put(key_name(key), number.to_string()).await.expect("a put succeeds");
        } else {
            client.get(key_name(key)).await.expect("a get succeeds");
        }
        let request = Request { key, write, began, ended: clock::time().0 };
        requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        sleep_until(next).await;
    }
}
