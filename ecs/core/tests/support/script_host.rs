//! What surrounds the core in a script: the disk, the servers' heartbeats, time, and the printing of effects.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use common::ids::{Epoch, Incarnation, PartitionId, StoreId};
use common::messages::{CopyState, ServerReport, StoreVerdict};
use common::status::Health;
use common::view::{Assignment, Member, ServerState};
use ecs_core::{Effect, Input};

use super::names::{id, name, text};
use super::{Disk, SETTLE_STEPS_MAX, Script};

impl Script {
    pub(super) fn report(&mut self, name: char, report: ServerReport) {
        let sender = self.processes[&name];
        self.step(Input::Report { sender, report });
    }

    pub(super) fn step(&mut self, input: Input) {
        let now = self.now;
        self.ecs().step(now, input);
        self.drain();
    }

    pub(super) fn drain(&mut self) {
        self.ecs().invariants();
        let mut published: BTreeMap<Epoch, String> = BTreeMap::new();
        let mut made_durable = false;
        for effect in self.ecs().effects() {
            match effect {
                Effect::Persist { ticket, state } => {
                    if !self.auto_disk {
                        let _ = writeln!(self.out, "  persist {ticket}: view {}", state.view.number);
                    }
                    assert!(self.pending.replace((ticket, state)).is_none(), "one persist at a time");
                    made_durable = self.auto_disk;
                }
                Effect::Publish { to, view, .. } => {
                    assert_eq!(view.number, self.disk.view.number, "V1: only what is on disk is published");
                    published.entry(view.number).or_default().push(name(to));
                }
                Effect::Made(event) => {
                    let cause = |cause: &ecs_core::Cause| {
                        let text = cause.change.sentence(name(cause.server));
                        if cause.partitions == 0 { text } else { format!("{text} ({})", cause.partitions) }
                    };
                    let causes: Vec<String> = event.causes.iter().map(cause).collect();
                    let _ = writeln!(self.out, "  view {}: {}", event.view, causes.join("; "));
                    self.show();
                }
                Effect::EndLink { sender } => {
                    let _ = writeln!(self.out, "  {} is to say hello again", name(sender.server));
                }
                Effect::Ask { to, promise, .. } => {
                    let (name, generation) = (name(to), promise.generation);
                    let _ = writeln!(self.out, "  asked {name} for what it holds, generation {generation}");
                }
                Effect::Verdict { to, verdict, .. } => {
                    let text = match verdict {
                        StoreVerdict::SetAside {} => "set its store aside".to_owned(),
                        StoreVerdict::Keep { unserved } => {
                            let unserved: Vec<String> = unserved.iter().map(ToString::to_string).collect();
                            format!("keep its store, for {}", unserved.join(" "))
                        }
                    };
                    let _ = writeln!(self.out, "  told {} to {text}", name(to.server));
                }
                Effect::CopiesDisagree { partition, found } => {
                    let member = name(found.member);
                    let _ = writeln!(self.out, "  COPIES DISAGREE: {partition}, {member} is ahead");
                }
                Effect::Refused { sender, refusal, .. } => {
                    let _ = writeln!(self.out, "  refused {}: {refusal}", name(sender.server));
                }
            }
        }
        for (view, servers) in published {
            let _ = writeln!(self.out, "  published {view} to {servers}");
        }
        if made_durable {
            self.durable();
        }
    }

    pub(super) fn durable(&mut self) {
        let (ticket, state) = self.pending.take().expect("a persist is under way");
        self.disk = state;
        self.step(Input::Durable { ticket });
    }

    /// The servers that are not simply up, and the partitions that changed.
    pub(super) fn show(&mut self) {
        let view = self.disk.view.clone();
        for (&server, info) in &view.servers {
            let before = self.shown.servers.get(&server).map_or(ServerState::Up, |info| info.state);
            if before != info.state {
                let _ = writeln!(self.out, "    {}: {:?}", name(server), info.state);
            }
        }
        for (partition, assignment) in view.iter() {
            if self.shown.assignment(partition) != Some(assignment) {
                let _ = writeln!(self.out, "    {partition}: {}", text(assignment));
            }
        }
        if self.shown.resumed != view.resumed {
            let resumed: Vec<String> =
                view.resumed.iter().map(|(of, epoch)| format!("{of} in e{epoch}")).collect();
            let _ = writeln!(self.out, "    resumed: {}", resumed.join(" "));
        }
        self.shown = view;
    }

    pub(super) fn propose(
        &mut self,
        partition: PartitionId,
        member: char,
        epoch: Option<Epoch>,
        incarnation: Option<u64>,
        store: Option<StoreId>,
    ) {
        let assignment = self.ecs().view().assignment(partition).unwrap().clone();
        let process = self.processes[&member];
        let report = ServerReport::Propose {
            partition,
            epoch: epoch.unwrap_or(assignment.epoch),
            member: Member { server: id(member), store: store.unwrap_or(process.store) },
            incarnation: incarnation.map_or(process.incarnation, Incarnation),
        };
        self.report(name(assignment.coordinator), report);
    }

    pub(super) fn heartbeat(&mut self, names: &[&str]) {
        for server in names.iter().flat_map(|names| names.chars()) {
            let copies = self.proved(server);
            self.heartbeat_of(server, copies);
        }
    }

    /// What a server says of the copies that count, unless it is not to.
    pub(super) fn proved(&mut self, server: char) -> Vec<CopyState> {
        if self.unproved.contains(&server) {
            return Vec::new();
        }
        let member = Member { server: id(server), store: self.processes[&server].store };
        let view = self.ecs().view().clone();
        let auto_active = self.auto_active;
        let counts = view.iter().filter(|(_, now)| now.in_sync.contains(&member));
        let state = |(partition, now): (PartitionId, &Assignment)| CopyState {
            partition,
            epoch: now.epoch,
            active: auto_active && now.coordinator == id(server),
            last: 0,
            applied: 0,
            proved: true,
        };
        counts.map(state).collect()
    }

    pub(super) fn heartbeat_of(&mut self, server: char, copies: Vec<CopyState>) {
        let newest = self.ecs().view().number;
        let view = self.stuck.get(&server).copied().unwrap_or(newest);
        self.heartbeat_as(server, view, copies, Health::default());
    }

    pub(super) fn heartbeat_as(&mut self, server: char, view: Epoch, copies: Vec<CopyState>, health: Health) {
        let Disk { health: disk, bytes, free_bytes } = self.disks.get(&server).copied().unwrap_or_default();
        let health = Health { disk_full: health.disk_full || disk.disk_full, ..disk };
        let (requests, keys) = (0, 0);
        let report = ServerReport::Heartbeat { view, copies, requests, keys, bytes, free_bytes, health };
        self.report(server, report);
    }

    pub(super) fn status(&mut self) {
        let now = self.now;
        let status = self.ecs().status(now);
        let _ = writeln!(self.out, "  {}", status.verdict);
        assert_eq!(status.healthy, status.conditions.is_empty());
        for condition in status.conditions {
            let servers: String = condition.servers.into_iter().map(name).collect();
            let _ = writeln!(self.out, "    {} {servers}", condition.name);
        }
    }

    /// Lets time pass, with all ticks that are wanted and a heartbeat of each of these servers every heartbeat time.
    pub(super) fn run(&mut self, time: Duration, names: &[&str]) {
        let end = self.now + time;
        let mut beat = self.now;
        while self.now < end {
            if self.now >= beat {
                self.heartbeat(names);
                beat = self.now + self.config.timers.heartbeat;
            }
            let deadline = self.ecs().deadline().unwrap_or(end).max(self.now + Duration::from_millis(1));
            self.now = deadline.min(end).min(beat);
            self.step(Input::Tick);
        }
    }

    pub(super) fn settle(&mut self, names: &[&str]) {
        let mut idle = 0;
        for _ in 0..SETTLE_STEPS_MAX {
            let before = self.ecs().view().number;
            let view = self.ecs().view().clone();
            for (partition, assignment) in view.iter() {
                if let Some(member) = assignment.joining.first() {
                    let member = name(member.server);
                    self.propose(partition, member, Some(assignment.epoch), None, None);
                }
            }
            self.run(Duration::from_millis(50), names);
            idle = if self.ecs().view().number == before { idle + 1 } else { 0 };
            if idle == 20 {
                return;
            }
        }
        panic!("it never settles");
    }
}
