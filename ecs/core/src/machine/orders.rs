//! What operators order, and what it would move.

use common::ids::ServerId;
use common::time::Time;
use common::view::{ServerInfo, ServerState};

use super::Ecs;
use crate::next;
use crate::plan::{Order, Plan, RequestedState, Unfit};
use crate::state::Settings;

impl Ecs {
    /// What an order would move, by the newest durable view. Nothing is changed.
    ///
    /// # Errors
    /// When the order cannot be given.
    pub fn plan(&self, now: Time, order: Order) -> Result<Plan, Unfit> {
        self.check_order(order)?;
        let states = order.states().into_iter().collect();
        let facts = self.facts(now);
        let target = next::preview(&self.durable, next::Facts { requested_states: &states, ..facts });
        Ok(Plan::new(&self.durable.view, &target))
    }

    /// How many orders, settings and recoveries were accepted, and how many of them are on disk: an operator gets the
    /// answer only when the order is among those.
    #[must_use]
    pub fn orders(&self) -> (u64, u64) {
        (self.orders.given, self.orders.durable)
    }

    /// Whether no other view is under way: a plan for the newest one is still right.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.persists.under_way.is_none()
    }

    /// Whether an order can be given.
    ///
    /// # Errors
    /// When it cannot.
    pub fn check_order(&self, order: Order) -> Result<(), Unfit> {
        match order {
            Order::Add(server) => self.check_addition(server),
            Order::Drain(server) => self.check_leave(server, None),
            Order::Replace { old, new } => {
                self.check_addition(new)?;
                self.check_leave(old, Some(new))
            }
        }
    }

    /// The states that servers had before the orders that are under way with them; if no server is named, those of all
    /// servers with such an order.
    ///
    /// # Errors
    /// When nothing is under way with one of them, or to take it back alone would cost copies.
    pub fn states_before(&self, servers: &[ServerId]) -> Result<Vec<(ServerId, RequestedState)>, Unfit> {
        let before = |&server: &ServerId| Ok((server, self.state_before(server)?));
        let states: Vec<(ServerId, RequestedState)> = if servers.is_empty() {
            self.durable.view.servers.keys().filter_map(|server| before(server).ok()).collect()
        } else {
            servers.iter().map(before).collect::<Result<_, _>>()?
        };
        let serves_then = |server: ServerId, info: &ServerInfo| {
            let then = states.iter().find(|(other, _)| *other == server).map(|(_, state)| *state);
            let serves = !self.is_leaving(server) && !self.stands_by(server);
            info.state != ServerState::Down && then.map_or(serves, |state| state == RequestedState::Serve)
        };
        let all = self.durable.view.servers.iter();
        let serving = all.filter(|&(&server, info)| serves_then(server, info)).count();
        let stops = states.iter().find(|(_, state)| *state == RequestedState::StandBy);
        let others_leave = self
            .durable
            .view
            .servers
            .keys()
            .any(|&server| self.is_leaving(server) && !states.iter().any(|(other, _)| *other == server));
        match stops {
            Some(&(server, _)) if serving == 0 || (others_leave && serving < self.config.copies) => {
                Err(Unfit::Needed(server))
            }
            _ => Ok(states),
        }
    }

    /// An operator chose these settings; a minimum of copies above the number of copies is brought down to it.
    pub(super) fn on_set(&mut self, settings: Settings) {
        let min_copies = settings.min_copies.map(|number| number.clamp(1, self.config.copies));
        self.orders.settings = Some(Settings { min_copies, ..settings });
    }

    fn state_before(&self, server: ServerId) -> Result<RequestedState, Unfit> {
        self.member(server)?;
        if self.is_leaving(server) {
            return Ok(if self.stands_by(server) { RequestedState::StandBy } else { RequestedState::Serve });
        }
        let assignments = self.durable.view.assignments.iter().zip(self.rebalancing.planned.target());
        let mut lacking = assignments.filter(|(now, target)| {
            let holds = now.in_sync_member(server).is_some();
            now.joining_member(server).is_some() || (target.contains(&server) && !holds)
        });
        let is_new = self.newest().registry.get(&server).is_some_and(|known| known.added);
        if self.stands_by(server) || !is_new || lacking.next().is_none() {
            return Err(Unfit::Settled(server));
        }
        Ok(RequestedState::StandBy)
    }

    fn member(&self, server: ServerId) -> Result<&ServerInfo, Unfit> {
        self.durable.view.servers.get(&server).ok_or(Unfit::Unknown(server))
    }

    /// Whether a server is leaving, or about to, or has left in a view that is on its way to the disk.
    #[must_use]
    pub fn leaves(&self, server: ServerId) -> bool {
        match self.orders.states.get(&server) {
            Some(state) => matches!(state, RequestedState::Leave | RequestedState::Replaced { .. }),
            None => self.is_leaving(server) || !self.newest().view.servers.contains_key(&server),
        }
    }

    fn is_leaving(&self, server: ServerId) -> bool {
        self.newest().registry.get(&server).is_some_and(|known| known.leaving)
    }

    /// Whether a server stands by: it gets no copies until it is ordered to serve.
    #[must_use]
    pub fn stands_by(&self, server: ServerId) -> bool {
        self.newest().registry.get(&server).is_some_and(|known| known.stands_by)
    }

    fn check_addition(&self, server: ServerId) -> Result<(), Unfit> {
        let state = self.member(server)?.state;
        if self.is_leaving(server) {
            return Err(Unfit::Leaves(server));
        }
        if state == ServerState::Down {
            return Err(Unfit::Down(server));
        }
        if self.stands_by(server) { Ok(()) } else { Err(Unfit::Serves(server)) }
    }

    fn check_leave(&self, server: ServerId, with: Option<ServerId>) -> Result<(), Unfit> {
        self.member(server)?;
        if self.is_leaving(server) {
            return Err(Unfit::Leaves(server));
        }
        self.check_heir(server, with)
    }

    /// Checks that another server that is up serves, or is to serve.
    fn check_heir(&self, server: ServerId, with: Option<ServerId>) -> Result<(), Unfit> {
        let heir = |(&other, info): (&ServerId, &ServerInfo)| {
            let serves = Some(other) == with || !self.stands_by(other);
            other != server && info.state == ServerState::Up && serves
        };
        if self.durable.view.servers.iter().any(heir) { Ok(()) } else { Err(Unfit::Last) }
    }
}
