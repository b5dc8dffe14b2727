//! Replies to a Redis client, in the order of its commands. Each command has a slot, which is filled as replies come.

use std::collections::VecDeque;

use common::messages::Reply;
use kvserver_core::Ask;

use super::super::in_flight::{Charge, InFlight, Wanted};
use super::super::order::KeyUses;
use super::super::reply_queue::Answers;
use crate::agreed::AgreedClock;
use crate::net::rope::Rope;
use crate::protocol::resp::{Form, Version};

/// A command's reply among the others.
enum Slot {
    Ready(Rope),
    Call {
        form: Form,
        version: Version,
        mute: bool,
        uses: KeyUses,
        replies: Vec<Option<Reply>>,
        missing: usize,
        /// The number of the call's first part.
        id: u64,
        charge: Charge,
    },
}

/// The replies to one Redis client: a slot for each command that is not answered, in their order.
pub(super) struct Pipeline {
    slots: VecDeque<Slot>,
    /// The number of the next part.
    next: u64,
    /// The clock by which values expire.
    agreed: AgreedClock,
}

impl Pipeline {
    pub(super) fn new(agreed: AgreedClock) -> Self {
        Self { slots: VecDeque::new(), next: 0, agreed }
    }

    /// The number of the next part.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Appends a reply that is known.
    pub(super) fn push_ready(&mut self, reply: Rope, in_flight: &mut InFlight) {
        in_flight.window.open(reply.len());
        match self.slots.back_mut() {
            Some(Slot::Ready(before)) => before.append(reply),
            _ => self.slots.push_back(Slot::Ready(reply)),
        }
    }

    /// Gives a call its slot. Its parts have the numbers from [`Self::next`] on.
    pub(super) fn push_call(
        &mut self,
        form: Form,
        version: Version,
        mute: bool,
        uses: KeyUses,
        asks: &mut [(u64, Ask)],
        in_flight: &mut InFlight,
    ) {
        let wanted = if form.needs_values() { Wanted::All } else { Wanted::Sizes };
        let charge = in_flight.begin(asks.iter_mut().map(|(_, ask)| ask), 0, wanted);
        let (id, missing) = (self.next, asks.len());
        let replies = asks.iter().map(|_| None).collect();
        self.next += asks.len() as u64;
        self.slots.push_back(Slot::Call { form, version, mute, uses, replies, missing, id, charge });
    }
}

impl Answers for Pipeline {
    fn len(&self) -> usize {
        self.slots.len()
    }

    fn on_reply(&mut self, number: u64, reply: Reply, in_flight: &mut InFlight) {
        // Calls are in the order of their numbers; ready slots between them have none.
        let found = find(&self.slots, number).and_then(|at| self.slots.get_mut(at));
        let Some(Slot::Call { replies, missing, uses, id, charge, .. }) = found else { return };
        let Some(reply) = in_flight.accept(number, reply, charge) else { return };
        let part = usize::try_from(number - *id).ok().and_then(|part| replies.get_mut(part));
        if part.is_some_and(|part| part.replace(reply).is_none()) {
            *missing -= 1;
            if *missing == 0 {
                in_flight.order.end(uses);
            }
        }
    }

    fn find(&mut self, number: u64, _large: usize) -> Option<(&mut Charge, bool)> {
        let at = find(&self.slots, number)?;
        match self.slots.get_mut(at)? {
            Slot::Call { charge, .. } => Some((charge, at == 0)),
            Slot::Ready(_) => None,
        }
    }

    fn has_next(&self) -> bool {
        match self.slots.front() {
            Some(Slot::Ready(_)) => true,
            Some(Slot::Call { missing, .. }) => *missing == 0,
            None => false,
        }
    }

    fn write_next(&mut self, out: &mut Rope, in_flight: &mut InFlight) {
        while self.has_next()
            && let Some(slot) = self.slots.pop_front()
        {
            match slot {
                Slot::Ready(reply) => {
                    in_flight.window.close(reply.len());
                    out.append(reply);
                }
                Slot::Call { form, version, mute, replies, charge, .. } => {
                    in_flight.end(&charge);
                    if !mute {
                        let replies: Vec<Reply> = replies.into_iter().flatten().collect();
                        form.answer(&replies, self.agreed.now(), out, version);
                    }
                }
            }
        }
    }
}

/// The slot of the call with a part of this number.
fn find(slots: &VecDeque<Slot>, number: u64) -> Option<usize> {
    let begins = |at: usize| match &slots[at] {
        Slot::Call { id, .. } => Some(*id),
        Slot::Ready(_) => None,
    };
    let (mut low, mut high) = (0, slots.len());
    while low < high {
        let middle = low + (high - low) / 2;
        // Ready slots are never two in a row, so one step finds a call.
        let (at, id) = match begins(middle) {
            Some(id) => (middle, id),
            None if middle > low => (middle - 1, begins(middle - 1)?),
            None => {
                low = middle + 1;
                continue;
            }
        };
        match &slots[at] {
            Slot::Call { replies, .. } if number >= id && number < id + replies.len() as u64 => {
                return Some(at);
            }
            _ if number < id => high = at,
            _ => low = middle + 1,
        }
    }
    None
}
