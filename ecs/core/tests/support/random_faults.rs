//! What befalls the random test: crashes, lost and older disks, orders of operators.

use std::time::Duration;

use common::ids::{PartitionId, ServerId};
use common::messages::ServerReport;
use common::view::Member;
use ecs_core::{Ecs, Input, Order, Settings, State};

use super::{SERVERS, Server, World};

impl World {
    /// V6: the ECS is started with an older copy of its directory, while a server knows a newer view. It makes none,
    /// whichever comes first.
    pub(super) fn start_with_older_disk(&mut self) {
        if self.config.restart_wait.is_some() || self.older.is_empty() {
            return;
        }
        let older = self.older[self.random.usize(..self.older.len())].clone();
        let knows = |server: &ServerId| {
            let server = &self.servers[server];
            server.running && server.view.number > older.view.number
        };
        if older.view.servers.is_empty() || !older.view.servers.keys().any(knows) {
            return;
        }
        self.pending = None;
        let newest = std::mem::replace(&mut self.disk, older.clone());
        self.restart(older);
        for _ in 0..40 {
            self.now = self.now + Duration::from_millis(self.random.u64(..30));
            self.step(Input::Tick);
            let server = self.any();
            match &self.servers[&server] {
                Server { running: false, .. } => self.boot(server),
                Server { linked: true, .. } => self.heartbeat(server),
                _ => self.hello(server),
            }
            let made = self.pending.as_ref().map(|(_, state)| state.view.number);
            assert!(made.is_none(), "V6: view {made:?} is made again");
        }
        self.disk = newest;
        self.restart(self.disk.clone());
    }

    /// Another process of the ECS; all have to say hello to it.
    pub(super) fn restart(&mut self, disk: State) {
        self.ecs = Ecs::new(self.config, disk, self.now);
        self.servers.values_mut().for_each(|server| server.linked = false);
    }

    pub(super) fn any(&mut self) -> ServerId {
        ServerId(u128::from(self.random.u64(1..=SERVERS)))
    }

    pub(super) fn fault(&mut self) {
        let server = self.any();
        let running = self.servers[&server].running;
        let sender = self.servers[&server].sender;
        match self.random.u32(..18) {
            0..=3 => self.start(server),
            4 => self.servers.get_mut(&server).unwrap().running = false,
            5 => self.step(Input::LinkEnded { sender }),
            6 if running => self.hello(server),
            7 if running => self.coordinate(server, true),
            8 if running && self.random.u32(..4) == 0 => self.report(server, ServerReport::Leave {}),
            9 if running && self.random.u32(..4) == 0 && self.may_lose(server) => {
                self.report(server, ServerReport::StoreFailed { reason: String::new() });
                let state = self.servers.get_mut(&server).unwrap();
                state.running = false;
                state.sender.store.0 += 1;
                self.whole.values_mut().for_each(|whole| whole.retain(|member| member.server != server));
            }
            12 if running => self.fail_copy(server),
            10 => {
                if let Some(index) = (!self.late.is_empty()).then(|| self.random.usize(..self.late.len())) {
                    let late = self.late[index].clone();
                    if !matches!(late, Input::Durable { .. }) {
                        self.step(late);
                    }
                }
            }
            11 if self.random.u32(..10) == 1 => {
                let min_copies = [None, Some(1), Some(2)][self.random.usize(..3)];
                let settings = self.ecs.settings();
                self.step(Input::Set(Settings { min_copies, ..settings }));
            }
            11 if self.random.u32(..10) == 0 => {
                // The ECS is killed: what was not durable is gone.
                self.pending = None;
                self.restart(self.disk.clone());
                if self.random.bool() {
                    self.now = self.now + Duration::from_secs(3);
                }
            }
            13 => {
                let (paused, stand_by) = (self.random.u32(..4) == 0, self.random.bool());
                let settings = self.ecs.settings();
                self.step(Input::Set(Settings { paused, stand_by, ..settings }));
            }
            16 if running => self.find(server),
            17 if self.random.u32(..4) == 0 => self.start_twin(server),
            17 if self.random.u32(..4) == 0 => self.start_with_older_disk(),
            14 => self.order(server),
            15 => {
                let named: &[ServerId] = if self.random.bool() { &[server] } else { &[] };
                if let Ok(states) = self.ecs.states_before(named) {
                    self.step(Input::Order { states });
                }
            }
            _ => (),
        }
    }

    /// An operator looks at a plan and applies it.
    pub(super) fn order(&mut self, server: ServerId) {
        let servers: Vec<ServerId> = self.servers.keys().copied().collect();
        let new = servers[self.random.usize(..servers.len())];
        let order = match self.random.u32(..3) {
            0 => Order::Add(server),
            1 => Order::Drain(server),
            _ => Order::Replace { old: server, new },
        };
        if let Ok(plan) = self.ecs.plan(self.now, order) {
            assert!(plan.copies >= plan.copies_least, "{plan:?}");
            self.step(Input::Order { states: order.states() });
        }
    }

    /// P2, and V4a where a store is gone for good: an operator decides, for a copy that holds all.
    pub(super) fn recover(&mut self) {
        let all: Vec<PartitionId> = self.disk.view.iter().map(|(partition, _)| partition).collect();
        let disagree = |partition| self.ecs.disagreements().any(|(other, _)| other == partition);
        let waits = |partition| !self.ecs.awaited_since_restart(partition).is_empty();
        let stuck = all.into_iter().filter(|&partition| disagree(partition) || waits(partition));
        for partition in stuck.collect::<Vec<_>>() {
            let has_all = |&server: &ServerId| {
                let sender = self.servers[&server].sender;
                self.whole[&partition].contains(&Member { server, store: sender.store })
            };
            if let Some(server) = self.servers.keys().copied().find(has_all) {
                self.step(Input::Recover { partition, server });
            }
        }
    }
}
