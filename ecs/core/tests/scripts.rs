//! Golden scripts of the core: `tests/scripts/*.txt`.
//!
//! A line is an input; the indented lines after it are what came of it: persists, views with their causes and the
//! partitions that changed, and the servers that got it. `UPDATE=1 cargo test -p trefoil-ecs-core --test scripts`
//! writes the outcome anew, to be read before it is committed. Servers are letters. Inputs:
//!
//! - `config KEY=VALUE...` at the beginning: `partitions`, `copies`, `min_copies` (a number or `auto`, which is the
//!   default), `joining` and `moving` (copies in the making for each server), `disk=manual`, `timers=adaptive` instead
//!   of `fast`, `active=manual` (coordinators do not say by themselves that they are active), `wait` (after restarts,
//!   in milliseconds, or `never`)
//! - `rebuild` at the beginning: an ECS that lost its disk; `bug NAME`: a planted bug
//! - `holds SERVER VIEW COORDINATOR IN_SYNC [OPTION...]` with `join=SERVERS`, `epoch=N`, `forced=N`,
//!   `proposed=SERVERS`, `promised=N`, `to=N`, `partitions=N`: a server reports to it a view of one partition, or of
//!   several that are all alike, or of `none`, and the members that it has proposed in the partition's epoch there;
//!   which generation it has promised (1), and to which rebuild if not to this one; `holds SERVER`: it has no view
//! - `hello SERVER [OPTION...]` with `inc=N`, `nonce=N`, `store=N`, `last=EPOCH.SEQ` (of partition 0), `at=ADDRESS`,
//!   `weight=N`, `view=N`, `late` or `twin`; `link_ended SERVER [inc=N] [nonce=N]`; a view is one of before a rebuild,
//!   or of this one with `ours`. The link of a former process has ended before, unless it is its `twin`
//! - `propose PARTITION MEMBER [epoch=N] [inc=N] [store=N]`, by the coordinator
//! - `silent PARTITION MEMBER`, by the coordinator; `store_failed SERVER`; `leave SERVER`
//! - `unheard SERVER SERVERS`: it hears nothing of them
//! - `differ SERVER N`: its heartbeats report from now on so many partitions whose copies differ
//! - `disk SERVER [sync_ms=N] [reserve=BYTES] [free=BYTES] [bytes=BYTES]`: what its heartbeats report of its disk from
//!   now on
//! - `suspect SERVER [view=N] [PARTITION...]`: it waits with a store that failed, which was in sync for these
//!   partitions (where that is not known none are named) by the last view that it saw; `active PARTITION`, by the
//!   coordinator; `kept PARTITION`: the stores that may hold it
//! - `aside SERVER FOLDER PARTITION...`: it keeps a store that was set aside
//! - `leaves SERVER`: is asked whether it leaves
//! - `copy_failed SERVER PARTITION [epoch=N]`: its copy of a partition is not what it should be
//! - `plan add SERVER`, `plan drain SERVER`, `plan replace OLD NEW`: what it would move; `order ...`: an operator
//!   orders it, `cancel [SERVERS]`: and takes it back
//! - `set [min_copies=N|auto] [paused=true|false] [stand_by=true|false]`: an operator sets it;
//!   `recover PARTITION SERVER`: one forces a partition to go on (R7)
//! - `yield PARTITION MEMBER`, `lost PARTITION MEMBER`, `disagree PARTITION MEMBER`, by the coordinator: it wants that
//!   one to coordinate (P1), has found that it lost entries (P5), or that it is ahead (P2)
//! - `holds_still SERVER PARTITION LAST`: a heartbeat tells how far the log of a copy reaches that no view lists; 0:
//!   nothing is left of it
//! - `unproved SERVERS`: their heartbeats do not say any more that their copies are proved (V4a), `proved SERVERS`:
//!   they do
//! - `durable`: the persist under way is done (with `disk=manual`)
//! - `run MILLISECONDS [SERVER...]`: time passes, with heartbeats of these servers; `pause MILLISECONDS`: this
//!   process was stopped for that long
//! - `settle [SERVER...]`: heartbeats, and each joining copy is proposed, until nothing happens any more
//! - `heartbeat SERVER [view=N] [full]`: one heartbeat, with the view that the server has, and whether its disk is full
//! - `stuck SERVER VIEW`: it takes no views from now on and tells of this one; `stuck SERVER`: it takes them again
//! - `foreign SERVER cluster=N`: a server of another cluster wants to report
//! - `status`: prints the verdict, and all conditions by name
//! - `restart`: the ECS starts anew from what is on disk

#[path = "support/script_host.rs"]
mod host;
#[path = "support/script_names.rs"]
mod names;
#[path = "support/orders.rs"]
mod orders;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::ids::{ClusterId, Epoch, Incarnation, LogId, Nonce, PartitionId, RebuildId, Seq};
use common::limits::Timers;
use common::messages::{AsideStore, CopyState, LogTail, ProcessId, Promised, ServerReport, Suspicion};
use common::ring::Partitions;
use common::status::Health;
use common::time::Time;
use common::view::View;
use ecs_core::{Config, Ecs, Input, PlantedBug, Settings, State};

use names::{epoch, held, id, milliseconds, name, store, the_member};
use orders::order;

/// The rebuild of an ECS that lost its disk.
const REBUILD: RebuildId = RebuildId(71);

/// Steps of `settle`, at most: more means that it never comes to rest.
const SETTLE_STEPS_MAX: usize = 2000;

/// What a server tells of its disk.
#[derive(Clone, Copy, Default)]
struct Disk {
    health: Health,
    bytes: u64,
    free_bytes: u64,
}

struct Script {
    config: Config,
    partitions: u32,
    auto_disk: bool,
    auto_active: bool,
    now: Time,
    ecs: Option<Ecs>,
    disk: State,
    pending: Option<(u64, State)>,
    /// The newest process of each server.
    processes: BTreeMap<char, ProcessId>,
    disks: BTreeMap<char, Disk>,
    /// Servers that take no views, and those that they have.
    stuck: BTreeMap<char, Epoch>,
    unproved: BTreeSet<char>,
    shown: Arc<View>,
    out: String,
}

impl Script {
    fn new() -> Self {
        let state = State::new(ClusterId(1), Partitions::try_from(4).unwrap());
        Self {
            config: Config::default(),
            partitions: 4,
            auto_disk: true,
            auto_active: true,
            now: Time(1_000_000),
            ecs: None,
            shown: state.view.clone(),
            disk: state,
            pending: None,
            processes: BTreeMap::new(),
            disks: BTreeMap::new(),
            stuck: BTreeMap::new(),
            unproved: BTreeSet::new(),
            out: String::new(),
        }
    }

    fn ecs(&mut self) -> &mut Ecs {
        if self.ecs.is_none() {
            if self.disk.view.assignments.is_empty() && self.disk.rebuild.is_none() {
                let settings = self.disk.settings;
                self.disk = State::new(ClusterId(1), Partitions::try_from(self.partitions).unwrap());
                self.disk.settings = settings;
            }
            self.shown = self.disk.view.clone();
            self.ecs = Some(Ecs::new(self.config, self.disk.clone(), self.now));
        }
        self.ecs.as_mut().unwrap()
    }

    fn line(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let command = words.next().unwrap();
        let (mut plain, mut named) = (Vec::new(), BTreeMap::new());
        for word in words {
            match word.split_once('=') {
                Some((key, value)) => drop(named.insert(key, value)),
                None => plain.push(word),
            }
        }
        let server = || plain[0].chars().next().unwrap();
        let number = |key: &str| named.get(key).map(|value| value.parse::<u64>().unwrap());
        match command {
            "config" => self.configure(&named),
            "hello" => {
                let name = server();
                let known = self.processes.get(&name).copied();
                let incarnation = number("inc").map_or(known.map_or(1, |known| known.incarnation.0), |n| n);
                let store_number = number("store").map(|number| store(name, number.into()));
                let store = store_number.or(known.map(|known| known.store)).unwrap_or(store(name, 1));
                let sender = ProcessId {
                    server: id(name),
                    store,
                    incarnation: Incarnation(incarnation),
                    nonce: Nonce(number("nonce").unwrap_or(incarnation)),
                };
                let (late, twin) = (plain.contains(&"late"), plain.contains(&"twin"));
                if let Some(known) = known.filter(|known| *known != sender && !late && !twin) {
                    self.step(Input::LinkEnded { sender: known });
                }
                if !late && !twin {
                    self.processes.insert(name, sender);
                }
                let address = named.get("at").map_or(format!("{name}:1"), |at| (*at).to_owned());
                let weight = number("weight").map_or(1, |weight| u32::try_from(weight).unwrap());
                let view = named.get("view").map_or(Epoch::default(), |text| epoch(text));
                let rebuild = plain.contains(&"ours").then_some(REBUILD);
                let tail = |text: &&str| {
                    let (tag, seq) = text.split_once('.').expect("a last entry is EPOCH.SEQ");
                    let last = LogId { tag: epoch(tag), seq: Seq(seq.parse().unwrap()) };
                    let (partition, epoch, proposed) = (PartitionId(0), Epoch::default(), Vec::new());
                    LogTail { partition, last, proposed, epoch }
                };
                let tails = named.get("last").map(tail).into_iter().collect();
                let report = ServerReport::Hello { address, weight, view, rebuild, tails };
                self.step(Input::Report { sender, report });
            }
            "link_ended" => {
                let mut sender = self.processes[&server()];
                sender.incarnation = number("inc").map_or(sender.incarnation, Incarnation);
                sender.nonce = number("nonce").or(number("inc")).map_or(sender.nonce, Nonce);
                self.step(Input::LinkEnded { sender });
            }
            "rebuild" => self.disk = State::rebuild(ClusterId(1), REBUILD),
            "bug" => {
                self.config.bug = Some(match plain[0] {
                    "NoProvedRule" => PlantedBug::NoProvedRule,
                    "ActsBeforeCompared" => PlantedBug::ActsBeforeCompared,
                    "TwinTaken" => PlantedBug::TwinTaken,
                    "SuspicionBelieved" => PlantedBug::SuspicionBelieved,
                    "HeardMemberWaitedOut" => PlantedBug::HeardMemberWaitedOut,
                    "NumberGivenAgain" => PlantedBug::NumberGivenAgain,
                    "RebuildMajority" => PlantedBug::RebuildMajority,
                    "RebuildIgnoresProposals" => PlantedBug::RebuildIgnoresProposals,
                    other => panic!("unknown bug `{other}`"),
                });
            }
            "holds" => {
                let view = match plain[1..] {
                    [number, coordinator, in_sync] => held(number, coordinator, in_sync, &named),
                    _ => State::new(ClusterId(0), Partitions::default()).view.as_ref().clone(),
                };
                let proposed = named.get("proposed").map_or("", |names| *names);
                let tail = LogTail {
                    partition: PartitionId(0),
                    last: LogId::default(),
                    proposed: proposed.chars().map(the_member).collect(),
                    epoch: view.assignments.first().map_or(view.number, |now| now.epoch),
                };
                let generation = number("promised").map_or(1, |number| u32::try_from(number).unwrap());
                let rebuild = number("to").map_or(REBUILD, |other| RebuildId(u128::from(other)));
                let promised = Some(Promised { generation, rebuild });
                let report = ServerReport::Holdings { promised, view: view.into(), tails: vec![tail] };
                self.report(server(), report);
            }
            "propose" => {
                let partition = PartitionId(plain[0].parse().unwrap());
                let member = plain[1].chars().next().unwrap();
                let epoch = number("epoch").map(|version| Epoch { generation: 0, version });
                let store = number("store").map(|number| store(member, number.into()));
                self.propose(partition, member, epoch, number("inc"), store);
            }
            "silent" => {
                let partition = PartitionId(plain[0].parse().unwrap());
                let assignment = self.ecs().view().assignment(partition).unwrap().clone();
                let member = id(plain[1].chars().next().unwrap());
                let report = ServerReport::Silent { partition, epoch: assignment.epoch, member };
                self.report(name(assignment.coordinator), report);
            }
            "unheard" => {
                let servers = plain[1].chars().map(id).collect();
                self.report(server(), ServerReport::Unheard { servers });
            }
            "active" => {
                let partition = PartitionId(plain[0].parse().unwrap());
                let assignment = self.ecs().view().assignment(partition).unwrap().clone();
                let copy = CopyState {
                    partition,
                    epoch: assignment.epoch,
                    active: true,
                    last: 0,
                    applied: 0,
                    proved: false,
                };
                self.heartbeat_of(name(assignment.coordinator), vec![copy]);
            }
            "holds_still" => {
                let partition = PartitionId(plain[1].parse().unwrap());
                let copy = CopyState {
                    partition,
                    epoch: self.ecs().view().assignment(partition).unwrap().epoch,
                    active: false,
                    last: plain[2].parse().unwrap(),
                    applied: 0,
                    proved: false,
                };
                self.heartbeat_of(server(), vec![copy]);
            }
            "suspect" => {
                let partitions: Vec<_> =
                    plain[1..].iter().map(|word| PartitionId(word.parse().unwrap())).collect();
                let name = server();
                let suspicion = Suspicion {
                    address: format!("{name}:1"),
                    dir: "data".to_owned(),
                    reason: "fsync".to_owned(),
                    partitions: (!partitions.is_empty()).then_some(partitions),
                    view: named.get("view").map_or(Epoch::default(), |text| epoch(text)),
                };
                let first = ProcessId {
                    server: id(name),
                    store: store(name, 1),
                    incarnation: Incarnation(1),
                    nonce: Nonce(1),
                };
                let process = self.processes.entry(name).or_insert(first);
                process.incarnation = number("inc").map_or(process.incarnation, Incarnation);
                process.nonce = Nonce(process.incarnation.0);
                self.report(name, ServerReport::Suspect { suspicion });
            }
            "aside" => {
                let store = AsideStore {
                    dir: "data".to_owned(),
                    folder: plain[1].to_owned(),
                    store: store(server(), 1),
                    reason: "fsync".to_owned(),
                    partitions: Some(
                        plain[2..].iter().map(|word| PartitionId(word.parse().unwrap())).collect(),
                    ),
                };
                self.report(server(), ServerReport::Aside { stores: vec![store] });
            }
            "kept" => {
                let partition = PartitionId(plain[0].parse().unwrap());
                let stores = self.ecs().kept_stores();
                for store in stores.iter().filter(|store| store.may_hold(partition)) {
                    let folder = store.folder.as_deref().unwrap_or("waits");
                    let _ = writeln!(self.out, "  {} {}: {folder}", name(store.server), store.dir);
                }
                let now = self.now;
                for waiting in self.ecs().status(now).stores_waiting {
                    let (name, unserved) = (name(waiting.server), waiting.unserved);
                    let _ = writeln!(self.out, "  {name} waits, {unserved} partitions are not served");
                }
            }
            "yield" | "lost" | "disagree" => {
                let partition = PartitionId(plain[0].parse().unwrap());
                let assignment = self.ecs().view().assignment(partition).unwrap().clone();
                let (epoch, letter) = (assignment.epoch, plain[1].chars().next().unwrap());
                let member = assignment.in_sync_member(id(letter)).unwrap_or(the_member(letter));
                let report = match command {
                    "yield" => ServerReport::Yield { partition, epoch, to: id(letter) },
                    "lost" => ServerReport::LostEntries { partition, epoch, member },
                    _ => ServerReport::CopiesDisagree { partition, epoch, member, commit: Seq(7) },
                };
                self.report(name(assignment.coordinator), report);
            }
            "unproved" => self.unproved.extend(plain[0].chars()),
            "proved" => self.unproved.retain(|name| !plain[0].contains(*name)),
            "store_failed" => self.report(server(), ServerReport::StoreFailed { reason: "fsync".to_owned() }),
            "copy_failed" => {
                let partition = PartitionId(plain[1].parse().unwrap());
                let now = self.ecs().view().assignment(partition).unwrap().epoch;
                let epoch = number("epoch").map_or(now, |version| Epoch { generation: 0, version });
                self.report(server(), ServerReport::CopyFailed { partition, epoch });
            }
            "disk" => {
                let mut disk = self.disks.get(&server()).copied().unwrap_or_default();
                disk.health.sync_us = number("sync_ms").map(|time| time * 1000).or(disk.health.sync_us);
                disk.health.reserve_bytes = number("reserve").or(disk.health.reserve_bytes);
                disk.free_bytes = number("free").unwrap_or(disk.free_bytes);
                disk.health.disk_full =
                    disk.health.reserve_bytes.is_some_and(|least| disk.free_bytes <= least);
                disk.bytes = number("bytes").unwrap_or(disk.bytes);
                self.disks.insert(server(), disk);
            }
            "differ" => {
                let differ = plain[1].parse().unwrap();
                self.disks.entry(server()).or_default().health.copies_differ = differ;
            }
            "leaves" => {
                let leaves = self.ecs().leaves(id(server()));
                let _ = writeln!(self.out, "  {}", if leaves { "yes" } else { "no" });
            }
            "leave" => self.report(server(), ServerReport::Leave {}),
            "plan" => self.plan(order(&plain)),
            "order" => match self.ecs().check_order(order(&plain)) {
                Ok(()) => self.step(Input::Order { states: order(&plain).states() }),
                Err(unfit) => self.say(&unfit),
            },
            "cancel" => {
                let servers: Vec<_> = plain.first().map_or("", |names| *names).chars().map(id).collect();
                match self.ecs().states_before(&servers) {
                    Ok(states) => self.step(Input::Order { states }),
                    Err(unfit) => self.say(&unfit),
                }
            }
            "recover" => {
                let partition = PartitionId(plain[0].parse().unwrap());
                let server = id(plain[1].chars().next().unwrap());
                self.step(Input::Recover { partition, server });
            }
            "set" => {
                let now = self.ecs().settings();
                let switch = |key, now| named.get(key).map_or(now, |value| *value == "true");
                let copies = named.get("min_copies").and_then(|text| text.parse::<usize>().ok());
                self.step(Input::Set(Settings {
                    min_copies: if named.get("min_copies") == Some(&"auto") {
                        None
                    } else {
                        copies.or(now.min_copies)
                    },
                    paused: switch("paused", now.paused),
                    stand_by: switch("stand_by", now.stand_by),
                }));
            }
            "durable" => self.durable(),
            "run" => self.run(milliseconds(plain[0]), &plain[1..]),
            "pause" => {
                self.now = self.now + milliseconds(plain[0]);
                self.step(Input::Tick);
            }
            "settle" => self.settle(&plain),
            "stuck" => match plain.get(1) {
                Some(view) => drop(self.stuck.insert(server(), epoch(view))),
                None => drop(self.stuck.remove(&server())),
            },
            "foreign" => {
                let cluster = ClusterId(number("cluster").unwrap().into());
                let name = server();
                let sender = ProcessId {
                    server: id(name),
                    store: store(name, 1),
                    incarnation: Incarnation(1),
                    nonce: Nonce(1),
                };
                self.step(Input::Foreign { sender, cluster });
            }
            "heartbeat" => {
                let view = named.get("view").map_or(self.ecs().view().number, |text| epoch(text));
                let health = Health { disk_full: plain.contains(&"full"), ..Health::default() };
                self.heartbeat_as(server(), view, Vec::new(), health);
            }
            "status" => self.status(),
            "restart" => {
                self.ecs = None;
                self.pending = None;
                self.ecs();
                self.drain();
            }
            _ => panic!("unknown input `{command}`"),
        }
    }

    fn configure(&mut self, named: &BTreeMap<&str, &str>) {
        for (&key, value) in named {
            match key {
                "partitions" => self.partitions = value.parse().unwrap(),
                "joining" => self.config.joining_per_server_max = value.parse().unwrap(),
                "moving" => self.config.moving_per_server_max = value.parse().unwrap(),
                "wait" => {
                    self.config.restart_wait = (*value != "never").then(|| milliseconds(value));
                }
                "copies" => self.config.copies = value.parse().unwrap(),
                "timers" => {
                    self.config.timers = match *value {
                        "adaptive" => Timers::ADAPTIVE,
                        "fast" => Timers::FAST,
                        _ => panic!("unknown timers `{value}`"),
                    }
                }
                "min_copies" => self.disk.settings.min_copies = value.parse().ok(),
                "active" => self.auto_active = *value != "manual",
                "disk" => self.auto_disk = *value != "manual",
                _ => panic!("unknown setting `{key}`"),
            }
        }
    }
}

fn outcome(input: &str) -> String {
    let mut script = Script::new();
    for line in input.lines().filter(|line| !line.starts_with("  ")) {
        script.out.push_str(line);
        script.out.push('\n');
        if !line.is_empty() && !line.starts_with('#') {
            script.line(line);
        }
    }
    script.out
}

/// Those in `planted` show what planted bugs do.
fn scripts(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let entries = std::fs::read_dir(&folder).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn scripts_come_out_as_written() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut different = Vec::new();
    let planted = if cfg!(feature = "planted-bugs") { scripts("planted") } else { Vec::new() };
    for path in scripts("scripts").into_iter().chain(planted) {
        let expected = std::fs::read_to_string(&path).unwrap();
        let outcome = outcome(&expected);
        if update {
            std::fs::write(&path, &outcome).unwrap();
        } else if outcome != expected {
            different.push(format!("{}:\n{outcome}", path.display()));
        }
    }
    assert!(different.is_empty(), "{}\nUPDATE=1 writes this to the scripts", different.join("\n"));
}
