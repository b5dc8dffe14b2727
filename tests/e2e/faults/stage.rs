//! What all tests of faults share: a cluster with data and a recorded load, and what must hold at the end.
//!
//! At the end all faults are over, and: every partition has all its copies; every request of the writers that keep
//! record has succeeded and is there; some sequential order explains what all clients and readers saw; every
//! server that has a copy of a key returns the same value; and all copies of all partitions are equal, byte by byte.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use common::clock;
use common::ids::ServerId;
use common::limits::COPIES;
use common::view::{ServerState, View};
use kvclient::Comparison;
use skipped::{Missing, skip};

use crate::faults::history::recorder::{Plan, Recorder, observed_in};
use crate::faults::history::{self, Invocation, Observed, Operated};
use crate::support::db::{self, Db};
use crate::support::wait::SOON;
use crate::support::{Cluster, Load, Settings, Stopwatch, TextClient, http, wait_for, wait_until};

/// Clients whose requests are recorded, and the keys that they share: some clients for each key at a time.
const CLIENTS: usize = 5;
const KEYS: usize = 12;

/// Writers with keys of their own.
const WRITERS: usize = 2;

/// Values that are there before: with them a transfer lasts long enough to be met by a fault.
const DATA_COUNT: usize = 1500;
const DATA_BYTES: usize = 8 << 10;

/// Answers between two faults.
pub(crate) const SOME: u64 = 300;

/// Whether all tests are wanted; without `FAULTS=all` this one is skipped.
pub(crate) fn all_wanted() -> bool {
    let all = std::env::var("FAULTS").is_ok_and(|faults| faults == "all");
    if !all {
        skip!(Missing::FaultsAll);
    }
    all
}

/// A cluster under load.
pub(crate) struct Stage {
    pub(crate) cluster: Cluster,
    pub(crate) db: Db,
    pub(crate) recorder: Recorder,
    load: Load,
    data: BTreeMap<String, String>,
    /// The ECS is killed and started again right after each fault.
    ecs_restarts: bool,
}

impl Stage {
    /// Starts a cluster, puts data into it, and starts the load.
    pub(crate) fn start(settings: Settings, servers: usize) -> Self {
        let cluster = Settings { same_ports: true, ..settings }.start(servers);
        let db = cluster.client();
        let value = |i: usize| format!("{i} {}", "d".repeat(DATA_BYTES));
        let data: BTreeMap<_, _> = (0..DATA_COUNT).map(|i| (format!("data/{i}"), value(i))).collect();
        db.put_many(&data);
        let plan =
            Plan { seeds: cluster.seeds(), readers: cluster.addresses(), clients: CLIENTS, keys: KEYS };
        let recorder = Recorder::start(plan);
        let load = Load::start("load", &cluster.seeds(), WRITERS);
        recorder.wait_for_more(SOME);
        Self { cluster, db, recorder, load, data, ecs_restarts: false }
    }

    /// From now on the ECS is killed and started again right after each fault.
    pub(crate) fn with_ecs_restarts(mut self) -> Self {
        self.ecs_restarts = true;
        self
    }

    /// To be called after each fault.
    pub(crate) fn after_fault(&mut self) {
        if self.ecs_restarts {
            self.cluster.kill_ecs();
            self.cluster.start_ecs();
        }
    }

    /// `kill -9` to servers, all before any of them can notice.
    pub(crate) fn kill(&mut self, servers: &[usize]) {
        servers.iter().for_each(|&server| self.cluster.server(server).signal(rustix::process::Signal::KILL));
        servers.iter().for_each(|&server| self.cluster.kill_server(server));
        self.after_fault();
    }

    /// Lets the load go on for a while.
    #[track_caller]
    pub(crate) fn go_on(&self) {
        self.recorder.wait_for_more(SOME);
        self.load.wait_for_more(SOME);
    }

    /// The newest view of the ECS.
    pub(crate) fn view(&self) -> Result<View, String> {
        let (code, body) =
            http::get(self.cluster.ecs_address(), "/api/v1/view").map_err(|error| error.to_string())?;
        if code == 200 { serde_json::from_str(&body).map_err(|error| error.to_string()) } else { Err(body) }
    }

    /// Waits until a copy is being brought up to date, and returns its receiver and its source.
    #[track_caller]
    pub(crate) fn wait_transfer(&self) -> Transfer {
        self.wait_transfer_to(|_| true)
    }

    /// Waits until a copy is being brought up to date at a server that `receives` chooses.
    #[track_caller]
    pub(crate) fn wait_transfer_to(&self, receives: impl Fn(usize) -> bool) -> Transfer {
        wait_for("a transfer", SOON, || {
            let view = self.view()?;
            let mut transfers = view.assignments.iter().filter_map(|assignment| {
                let joining = self.server_of(&view, assignment.joining.first()?.server)?;
                let source = self.server_of(&view, assignment.coordinator)?;
                receives(joining).then_some(Transfer { joining, source })
            });
            transfers.next().ok_or_else(|| "no copy is joining".to_owned())
        })
    }

    /// The number of a running server.
    fn server_of(&self, view: &View, server: ServerId) -> Option<usize> {
        let address = &view.servers.get(&server)?.address;
        self.cluster.running().find(|&index| self.cluster.address(index).to_string() == *address)
    }

    /// A server that coordinates the partition of a key.
    pub(crate) fn coordinator_of(&self, key: &str) -> usize {
        let view = self.view().expect("the ECS answers");
        let partition = view.partitions.of_key(key.as_bytes());
        let server = view.assignments[usize::from(partition.0)].coordinator;
        self.server_of(&view, server).expect("it runs")
    }

    /// Waits until the ECS counts a server as up no longer, or as up again.
    #[track_caller]
    pub(crate) fn wait_state(&self, address: SocketAddr, up: bool) {
        let what = format!("{address} is {}", if up { "up" } else { "removed" });
        wait_for(&what, SOON, || {
            let status = self.cluster.status()?;
            let is_up = status
                .servers
                .iter()
                .any(|server| server.address == address.to_string() && server.state == ServerState::Up);
            if is_up == up { Ok(()) } else { Err(format!("{status:?}")) }
        });
    }

    /// Waits until every key takes writes.
    #[track_caller]
    pub(crate) fn wait_writable(&self) {
        let took = self.recorder.wait_all_keys(&self.db);
        println!("all keys take writes after {took:?}");
    }

    /// All faults are over: waits until the cluster is whole, ends the load, and checks everything.
    #[track_caller]
    pub(crate) fn finish(self) {
        let watch = Stopwatch::start();
        self.cluster.wait_settled();
        let whole = watch.elapsed();
        self.go_on();
        let Self { cluster, recorder, load, data, .. } = self;
        let keys = recorder.keys();
        let db = cluster.client();
        let history = recorder.stop(&db);
        let recording = load.stop();
        let partitions = db.client.view().partitions;
        let watch = Stopwatch::start();
        let summary = history::check(&history.operations, partitions);
        println!(
            "whole again after {whole:?}; {summary:?} checked in {:?}; {} requests failed; {} other writes, the \
             slowest request took {:?}",
            watch.elapsed(),
            history.failed,
            recording.acked(),
            recording.slowest()
        );
        recording.assert_no_failures();
        recording.verify(&db);
        assert!(db.scan("data/") == data, "the data of before is not as it was");
        let keys: Vec<String> = keys.into_iter().chain(data.into_keys().take(KEYS)).collect();
        assert_copies_equal(&cluster, &db, &keys);
        assert_digests_equal(&cluster, &db);
    }
}

/// A copy that is being brought up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transfer {
    pub(crate) joining: usize,
    pub(crate) source: usize,
}

/// Every server that has a copy of a key returns the same value.
#[track_caller]
fn assert_copies_equal(cluster: &Cluster, db: &Db, keys: &[String]) {
    let mut lines: Vec<_> = cluster.addresses().into_iter().map(TextClient::connect).collect();
    let copies = lines.len().min(COPIES);
    for key in keys {
        let value = db.get(key.clone());
        wait_until(&format!("{copies} copies of {key} answer, all with one value"), SOON, || {
            let answers: Vec<_> = lines
                .iter_mut()
                .filter_map(|line| observed_in(&line.ask(&format!("get {key}")), key))
                .collect();
            for answer in &answers {
                assert_eq!(
                    *answer,
                    Observed::Value { value: value.clone(), version: None },
                    "{key} at one of {answers:?}"
                );
            }
            answers.len() == copies
        });
    }
}

/// Each partition has all its copies, and each of them, read as a whole at one entry of the log, gives the same digest:
/// what `kvclient verify` looks at.
#[track_caller]
fn assert_digests_equal(cluster: &Cluster, db: &Db) {
    let servers = cluster.running().count();
    let watch = Stopwatch::start();
    let all = wait_for("every copy gives a digest", SOON, || {
        let all = db.block(db.client.compare_all()).map_err(|error| error.to_string())?;
        let whole = |one: &Comparison| one.is_complete() && one.copies.len() == servers.min(COPIES);
        match all.iter().find(|one| !whole(one)) {
            Some(one) => Err(format!("{one:?}")),
            None => Ok(all),
        }
    });
    let different: Vec<_> = all.iter().filter(|one| one.differs()).collect();
    assert!(different.is_empty(), "copies differ: {different:?}");
    let records: u64 = all.iter().filter_map(|one| one.copies[0].digest).map(|digest| digest.records).sum();
    assert!(records >= DATA_COUNT as u64, "the digests are of {records} records");
    println!(
        "{servers} servers, {} partitions, {records} records compared in {:?}",
        all.len(),
        watch.elapsed()
    );
}

/// Asks a server for keys in one piece, by lines, without waiting; [`Asking::answers`] are for the history.
pub(crate) struct Asking {
    lines: TextClient,
    invocation: Vec<(String, u64)>,
}

impl Asking {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self { lines: TextClient::connect(address), invocation: Vec::new() }
    }

    pub(crate) fn ask(&mut self, keys: &[String]) {
        for key in keys {
            self.invocation.push((key.clone(), clock::time().0));
            self.lines.send(format!("get {key}\r\n"));
        }
    }

    /// What the server says to them, refusals left out.
    pub(crate) fn answers(mut self) -> Vec<Operated> {
        let mut answers = Vec::new();
        for (key, invoked) in std::mem::take(&mut self.invocation) {
            let line = self.lines.line();
            if let Some(observed) = observed_in(&line, &key) {
                answers.push(Operated {
                    key,
                    invocation: Invocation::Get,
                    invoked,
                    returned: clock::time().0,
                    observed,
                });
            }
        }
        answers
    }
}

/// Settings of all these tests.
pub(crate) fn settings() -> Settings {
    Settings::default().server_args(&["--log-mb", "64"])
}

/// Where an ECS restarts beside a server that was killed: it waits that short a time for it before it replaces it. Not
/// where all come back: one that is late would be left out for good, with what it alone has.
pub(crate) fn settings_of_ecs_restarts() -> Settings {
    settings().ecs_args(&["--restart-wait", "1s"])
}

/// A value that a test reads back.
pub(crate) fn pairs() -> BTreeMap<String, String> {
    db::pairs("more/", 200)
}
