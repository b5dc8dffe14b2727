//! What the servers of the random test do: they start, say hello, report, propose and complain; a second process of a
//! store does so too.

use common::ids::{Epoch, Incarnation, Nonce, PartitionId, Seq, ServerId};
use common::messages::{CopyState, ProcessId, ServerReport};
use common::view::{Member, ServerState, View};
use ecs_core::{Input, Refusal};

use super::{PARTITIONS, World};

impl World {
    pub(super) fn report(&mut self, server: ServerId, report: ServerReport) {
        let sender = self.servers[&server].sender;
        self.step(Input::Report { sender, report });
    }

    pub(super) fn start(&mut self, server: ServerId) {
        if self.servers[&server].running {
            return;
        }
        let may_lose = self.may_lose(server);
        let new_store = self.random.u32(..10) == 0 && may_lose;
        // The end of its logs, or all of its disk as of an earlier moment.
        let lost_some = self.random.u32(..3) == 0 && may_lose;
        if self.random.u32(..4) > 0 {
            let sender = self.servers[&server].sender;
            self.step(Input::LinkEnded { sender });
        }
        if lost_some || new_store {
            self.whole.values_mut().for_each(|whole| whole.retain(|member| member.server != server));
        }
        self.servers.get_mut(&server).unwrap().sender.store.0 += u128::from(new_store);
        self.boot(server);
    }

    pub(super) fn boot(&mut self, server: ServerId) {
        self.nonces += 1;
        let state = self.servers.get_mut(&server).unwrap();
        state.running = true;
        state.proved.clear();
        state.sender.incarnation.0 += 1;
        state.sender.nonce.0 = self.nonces;
        self.hello(server);
    }

    /// Some other store has all of each partition, also in the view that is on its way to the disk: with all copies
    /// lost for good there is nothing left to test.
    pub(super) fn may_lose(&self, server: ServerId) -> bool {
        let intact = |partition: PartitionId, member: &Member| {
            let kept = self.servers[&member.server].sender.store == member.store;
            let whole = self.whole.get(&partition).is_some_and(|whole| whole.contains(member));
            member.server != server && kept && whole
        };
        let others = |view: &View| {
            let mut all = view.iter();
            all.all(|(partition, now)| now.in_sync.iter().any(|member| intact(partition, member)))
        };
        let pending = self.pending.as_ref().is_none_or(|(_, state)| others(&state.view));
        pending && !self.disk.view.assignments.is_empty() && others(&self.disk.view)
    }

    pub(super) fn hello(&mut self, server: ServerId) {
        let view = self.servers[&server].view.number;
        let address = format!("127.0.0.1:{}", server.0);
        self.servers.get_mut(&server).unwrap().linked = true;
        self.report(
            server,
            ServerReport::Hello { address, weight: 1, view, rebuild: None, tails: Vec::new() },
        );
    }

    pub(super) fn heartbeat(&mut self, server: ServerId) {
        let view = self.servers[&server].view.number;
        let state = &self.servers[&server];
        let copy = |&partition: &PartitionId| {
            let now = state.view.assignment(partition)?;
            let active = now.coordinator == server;
            Some(CopyState { partition, epoch: now.epoch, active, last: 0, applied: 0, proved: true })
        };
        let copies = state.proved.iter().filter_map(copy).collect();
        self.report(
            server,
            ServerReport::Heartbeat {
                view,
                copies,
                requests: 1,
                keys: 1,
                bytes: 1,
                free_bytes: 1,
                health: Default::default(),
            },
        );
    }

    /// A server proposes or complains by its own view, which may be an old one.
    pub(super) fn coordinate(&mut self, server: ServerId, complain: bool) {
        let partition = PartitionId(self.random.u16(..u16::try_from(PARTITIONS).unwrap()));
        let Some(assignment) = self.servers[&server].view.assignment(partition).cloned() else { return };
        if assignment.coordinator != server {
            return;
        }
        if complain {
            let members: Vec<Member> =
                assignment.replicas().chain(assignment.joining.iter().copied()).collect();
            let Some(member) = self.random.choice(members) else { return };
            self.report(
                server,
                ServerReport::Silent { partition, epoch: assignment.epoch, member: member.server },
            );
        } else if let Some(&member) = assignment.joining.first() {
            let now = self.servers[&member.server].sender.incarnation.0;
            let incarnation = Incarnation(now - u64::from(now > 1 && self.random.u32(..10) == 0));
            let epoch = assignment.epoch;
            self.report(server, ServerReport::Propose { partition, epoch, member, incarnation });
        }
    }

    /// By its own view, which may be an old one.
    pub(super) fn fail_copy(&mut self, server: ServerId) {
        let partition = PartitionId(self.random.u16(..u16::try_from(PARTITIONS).unwrap()));
        let Some(assignment) = self.servers[&server].view.assignment(partition) else { return };
        let epoch = assignment.epoch;
        self.failed.extend(assignment.in_sync_member(server).map(|member| (partition, member)));
        self.report(server, ServerReport::CopyFailed { partition, epoch });
    }

    /// What a coordinator may have found at the members, by its own view.
    pub(super) fn find(&mut self, server: ServerId) {
        let partition = PartitionId(self.random.u16(..u16::try_from(PARTITIONS).unwrap()));
        let Some(now) = self.servers[&server].view.assignment(partition).cloned() else { return };
        let members: Vec<Member> = now.in_sync.iter().chain(&now.joining).copied().collect();
        let (Some(member), epoch) = (self.random.choice(members), now.epoch) else { return };
        let report = match self.random.u32(..8) {
            0 => {
                self.failed.insert((partition, member));
                ServerReport::LostEntries { partition, epoch, member }
            }
            1 => ServerReport::CopiesDisagree { partition, epoch, member, commit: Seq(1) },
            _ => ServerReport::Yield { partition, epoch, to: member.server },
        };
        self.report(server, report);
    }

    /// N1: while a server runs, another process of its store says hello, also to an ECS that was just started and that
    /// the server has not come back to. No view names that one.
    pub(super) fn start_twin(&mut self, server: ServerId) {
        let sender = self.servers[&server].sender;
        let is_known = |view: &View| {
            let info = view.servers.get(&server);
            info.is_some_and(|info| info.process(server) == sender && info.state != ServerState::Down)
        };
        if !self.servers[&server].running {
            return;
        }
        self.heartbeat(server);
        // It may be about to leave.
        if self.pending.is_some() || !is_known(&self.disk.view) {
            return;
        }
        self.nonces += 1;
        let ahead = self.random.u64(..2);
        let incarnation = Incarnation(sender.incarnation.0 + ahead);
        let twin = ProcessId { incarnation, nonce: Nonce(self.nonces), ..sender };
        let report = ServerReport::Hello {
            address: "127.0.0.1:9".to_owned(),
            weight: 1,
            view: Epoch::default(),
            rebuild: None,
            tails: Vec::new(),
        };
        self.refused.clear();
        if self.random.bool() {
            self.restart(self.disk.clone());
        }
        self.step(Input::Report { sender: twin, report });
        let until = self.now + self.config.timers.promise + self.config.timers.heartbeat;
        while self.now < until {
            if self.servers[&server].linked {
                self.heartbeat(server)
            } else {
                self.hello(server)
            }
            let (view, copies, health) = (Epoch::default(), Vec::new(), Default::default());
            let (requests, keys, bytes, free_bytes) = Default::default();
            let report = ServerReport::Heartbeat { view, copies, requests, keys, bytes, free_bytes, health };
            self.step(Input::Report { sender: twin, report });
            self.work();
            let info = &self.disk.view.servers.get(&server);
            assert!(info.is_none_or(|info| info.nonce != twin.nonce), "N1: a twin of {server:?} is taken");
        }
        let is_refusal = |(of, refusal): &(ProcessId, Refusal)| {
            *of == twin && matches!(refusal, Refusal::Twin { newcomer, .. } if newcomer == "127.0.0.1:9")
        };
        let is_refused = self.refused.iter().any(is_refusal) || !is_known(&self.disk.view);
        assert!(is_refused, "N1: a twin of {server:?} is not refused: {:?}", self.refused);
    }
}
