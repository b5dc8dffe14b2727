//! One step: an input, and what follows from it.

use common::time::Time;

use super::ecs::Ecs;
use super::io::Input;
use crate::refusal::Refusal;

impl Ecs {
    /// Takes one input.
    pub fn step(&mut self, now: Time, input: Input) {
        self.notice_own_pause(now);
        let is_order = matches!(input, Input::Order { .. } | Input::Set(_) | Input::Recover { .. });
        assert!(self.orders.durable <= self.orders.given, "no order is durable that was not given");
        self.orders.given += u64::from(is_order);
        // An order that changes nothing gets an answer too.
        self.wanted |= is_order;
        match input {
            Input::Report { sender, report } => self.on_report(now, sender, report),
            Input::LinkEnded { sender } => self.on_link_ended(now, sender),
            Input::Durable { ticket } => self.on_durable(now, ticket),
            Input::Order { states } => {
                states.into_iter().for_each(|(server, state)| self.on_requested_state(server, state));
            }
            Input::Recover { partition, server } => drop(self.orders.recoveries.insert(partition, server)),
            Input::Foreign { sender, cluster } => {
                self.left_out.note(now, sender, None, Refusal::OtherCluster(cluster));
            }
            Input::Set(settings) => self.on_set(settings),
            Input::Tick => (),
        }
        self.judge_newcomers(now);
        self.notice_changes(now);
        self.advance(now);
        self.publish_pending(now);
        self.timing.expected = self.next_deadline(now);
    }
}
