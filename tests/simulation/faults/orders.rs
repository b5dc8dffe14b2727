//! What operators order.

use common::ids::ServerId;
use ecs_core::{Ecs, Order, RequestedState, Unfit};

use super::super::world::World;

impl World {
    pub(super) fn join(&mut self) {
        let away = (0..self.servers.len()).find(|&index| {
            let server = &self.servers[index];
            server.process.is_none() && !server.lost && (server.life == 0 || server.gone)
        });
        if let Some(index) = away {
            self.servers[index].gone = false;
            self.servers[index].leaving = false;
            self.servers[index].start(&mut self.line);
        }
    }

    /// A planned leave, as long as two servers stay.
    pub(super) fn leave(&mut self) {
        if let Some(server) = self.some_running() {
            self.leave_as_planned(server);
        }
    }

    pub(super) fn leave_as_planned(&mut self, server: usize) {
        let stays =
            self.servers.iter().filter(|server| server.life > 0 && !server.gone && !server.leaving).count();
        let least = self.scenario.min_in_sync.max(2);
        if stays > least && !self.servers[server].leaving && self.servers[server].process.is_some() {
            self.servers[server].leaving = true;
            let id = self.servers[server].id;
            self.ecs.leave(&mut self.line, &mut self.truth, id);
        }
    }

    /// An operator orders something, if it can be done. `order` gets a server that stands by and one that serves.
    pub(super) fn order(
        &mut self,
        order: impl FnOnce(
            &Ecs,
            Option<ServerId>,
            Option<ServerId>,
        ) -> Result<Vec<(ServerId, RequestedState)>, Unfit>,
    ) {
        let Some(core) = &self.ecs.core else { return };
        let members = self.truth.newest().map(|view| view.servers.keys().copied()).into_iter().flatten();
        let (standing, serving): (Vec<ServerId>, Vec<ServerId>) =
            members.partition(|&server| core.stands_by(server));
        let mut one_of = |servers: &[ServerId]| self.line.rng.choice(servers).copied();
        let (standing, serving) = (one_of(&standing), one_of(&serving));
        let stays =
            self.servers.iter().filter(|server| server.life > 0 && !server.gone && !server.leaving).count();
        let least = self.scenario.min_in_sync.max(2);
        let order = |ecs: &Ecs| {
            let states = order(ecs, standing, serving)?;
            let leaves = states.iter().filter(|(_, state)| *state == RequestedState::Leave).count();
            if leaves > 0 && stays <= least { Err(Unfit::Last) } else { Ok(states) }
        };
        for (server, state) in self.ecs.order(&mut self.line, &mut self.truth, order) {
            let index = self.index_of(server);
            self.servers[index].leaving = state == RequestedState::Leave;
        }
    }

    /// Everything that stands by serves, and nothing is held.
    pub(crate) fn end_orders(&mut self) {
        self.ecs.let_all_serve(&mut self.line, &mut self.truth);
        self.all_serve();
    }

    /// Whoever stands by is ordered to serve.
    pub(crate) fn all_serve(&mut self) {
        let members: Vec<ServerId> =
            self.truth.newest().map(|view| view.servers.keys().copied().collect()).unwrap_or_default();
        self.ecs.order(&mut self.line, &mut self.truth, |ecs| {
            Ok(members
                .into_iter()
                .filter(|&server| ecs.stands_by(server))
                .map(|server| (server, RequestedState::Serve))
                .collect())
        });
    }
}

pub(super) fn checked(ecs: &Ecs, order: Order) -> Result<Vec<(ServerId, RequestedState)>, Unfit> {
    ecs.check_order(order)?;
    Ok(order.states())
}
