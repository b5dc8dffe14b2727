//! Leases and promises between servers (docs/protocol.md: L1, P3).
//!
//! One ping counts for all partitions that two servers share. As *holder*, a coordinator counts a lease from the moment
//! that it sent the ping which was answered. As *granter*, a server that answers is bound from the moment that it
//! received the ping, for longer than the holder counts. A restart forgets promises, so a restarted server waits for
//! the longest one that it can have given. A promise is given by a member, with its store: a server that lost its disk
//! forgot the views that bind it, and promises as another member.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use common::ids::{Epoch, ServerId, StoreId};
use common::limits::Timers;
use common::time::Time;
use common::view::Member;

use super::process::Process;

/// Unanswered pings that are remembered; an answer to an older one comes too late to be a lease.
const PINGS_REMEMBERED: usize = 32;

/// The newest ping that a peer answered.
#[derive(Clone, Copy, Debug)]
struct Answered {
    n: u64,
    /// The store of the process that answered.
    store: StoreId,
    sent: Time,
    /// The granter's view when it promised.
    view: Epoch,
    /// When the answer came; only used by a planted bug, which counts from here.
    #[cfg(feature = "planted-bugs")]
    received: Time,
}

#[derive(Debug, Default)]
struct Granter {
    pings: VecDeque<(u64, Time)>,
    answered: Option<Answered>,
}

/// Both sides of a server's leases.
#[derive(Debug)]
pub(crate) struct Leases {
    timers: Timers,
    next_ping: u64,
    granters: BTreeMap<ServerId, Granter>,
    /// When the last promise to each process was given.
    given: BTreeMap<Process, Time>,
    /// Count a lease from the receipt of its answer: a planted bug.
    #[cfg(feature = "planted-bugs")]
    pub(crate) count_from_receipt: bool,
}

impl Leases {
    pub(crate) fn new(timers: Timers, next_ping: u64) -> Self {
        assert!(timers.lease < timers.promise, "a lease ends before the promise that it rests on");
        Self {
            timers,
            next_ping,
            granters: BTreeMap::new(),
            given: BTreeMap::new(),
            #[cfg(feature = "planted-bugs")]
            count_from_receipt: false,
        }
    }

    /// The number of the next ping: pings from here on are sent after this moment.
    pub(crate) fn next_ping(&self) -> u64 {
        self.next_ping
    }

    /// Notes a ping that leaves now, and returns its number.
    pub(crate) fn on_ping_sent(&mut self, to: ServerId, now: Time) -> u64 {
        let n = self.next_ping;
        self.next_ping += 1;
        let granter = self.granters.entry(to).or_default();
        if granter.pings.len() == PINGS_REMEMBERED {
            granter.pings.pop_front();
        }
        assert!(granter.pings.back().is_none_or(|(last, _)| *last < n), "pings are numbered upwards");
        granter.pings.push_back((n, now));
        assert!(granter.pings.len() <= PINGS_REMEMBERED, "pings that are remembered are bounded");
        n
    }

    /// `from` has promised in answer to ping `n`, with the view `view`, not newer than ours.
    pub(crate) fn on_pong(&mut self, from: Member, n: u64, view: Epoch, now: Time) {
        let Some(granter) = self.granters.get_mut(&from.server) else { return };
        let Some(&(_, sent)) = granter.pings.iter().find(|(sent_n, _)| *sent_n == n) else { return };
        // The same ping may be answered again, by then in a newer view.
        granter.pings.retain(|(sent_n, _)| *sent_n >= n);
        assert!(n < self.next_ping, "a ping is answered that was never sent");
        if granter.answered.is_none_or(|answered| (answered.n, answered.view) < (n, view)) {
            granter.answered = Some(Answered {
                n,
                store: from.store,
                sent,
                view,
                #[cfg(feature = "planted-bugs")]
                received: now,
            });
        }
        let _ = now;
    }

    /// Whether `granter` has answered ping `floor` or a later one in `epoch`: a confirmation that needs no clock.
    pub(crate) fn confirmed(&self, granter: Member, floor: u64, epoch: Epoch) -> bool {
        self.answered(granter, floor, epoch).is_some()
    }

    /// The newest answer of `granter`, if it is to ping `floor` or a later one, in `epoch` or a later one.
    fn answered(&self, granter: Member, floor: u64, epoch: Epoch) -> Option<Answered> {
        let answered = self.granters.get(&granter.server)?.answered?;
        let counts = answered.store == granter.store && answered.n >= floor && answered.view >= epoch;
        counts.then_some(answered)
    }

    /// Whether a ping with this number or a later one is on its way to `granter`, sent less than `again` ago.
    pub(crate) fn is_asked(&self, granter: ServerId, floor: u64, again: Duration, now: Time) -> bool {
        let newest = self.granters.get(&granter).and_then(|granter| granter.pings.back());
        let answered =
            self.granters.get(&granter).and_then(|granter| granter.answered).map(|answered| answered.n);
        let on_its_way = |n: u64| answered.is_none_or(|answered| answered < n);
        newest.is_some_and(|(n, sent)| *n >= floor && on_its_way(*n) && now.since(*sent) < again)
    }

    /// Until when a lease from `granter` counts, as in [`Self::holds`].
    pub(crate) fn until(&self, granter: Member, floor: u64, epoch: Epoch) -> Option<Time> {
        let answered = self.answered(granter, floor, epoch)?;
        Some(self.counted_from(answered) + self.timers.lease)
    }

    /// Whether a lease from `granter` holds at `now` for a partition whose `epoch` this server adopted when ping
    /// `floor` was the next one: the ping was sent after that, and the granter promised in the same epoch.
    pub(crate) fn holds(&self, granter: Member, floor: u64, epoch: Epoch, now: Time) -> bool {
        self.until(granter, floor, epoch).is_some_and(|until| now < until)
    }

    #[cfg(feature = "planted-bugs")]
    fn counted_from(&self, answered: Answered) -> Time {
        if self.count_from_receipt { answered.received } else { answered.sent }
    }

    #[cfg(not(feature = "planted-bugs"))]
    fn counted_from(&self, answered: Answered) -> Time {
        answered.sent
    }

    /// Notes a promise to `holder`, in answer to a ping received now.
    pub(crate) fn on_promise(&mut self, holder: Process, now: Time) {
        self.given.insert(holder, now);
    }

    /// Until when the last promise to `holder` binds; `None` if there never was one.
    pub(crate) fn bound_until(&self, holder: Process) -> Option<Time> {
        self.given.get(&holder).map(|&given| given + self.timers.promise)
    }

    /// Asserts what must be true after every step.
    pub(crate) fn invariants(&self, me: ServerId, latest: Time) {
        assert!(!self.granters.contains_key(&me), "a server needs no lease of its own");
        assert!(self.given.values().all(|given| *given <= latest), "a promise was given in the future");
        for Granter { pings, answered } in self.granters.values() {
            let numbers = || pings.iter().map(|(n, _)| *n);
            assert!(
                numbers().zip(numbers().skip(1)).all(|(one, next)| one < next),
                "pings are numbered upwards"
            );
            assert!(numbers().all(|n| n < self.next_ping), "a ping that was never sent");
            assert!(pings.len() <= PINGS_REMEMBERED, "pings that are remembered are bounded");
            assert!(pings.iter().all(|(_, sent)| *sent <= latest), "a ping left in the future");
            let Some(answered) = answered else { continue };
            assert!(answered.n < self.next_ping, "a ping is answered that was never sent");
            assert!(answered.sent <= latest, "a lease begins in the future (L1)");
            assert!(
                numbers().all(|n| n >= answered.n),
                "pings before the one that was answered are forgotten"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: ServerId = ServerId(7);
    const PEER: Member = Member { server: SERVER, store: StoreId(70) };

    fn epoch(version: u64) -> Epoch {
        Epoch { generation: 0, version }
    }

    #[test]
    fn a_lease_counts_from_the_ping_not_from_its_answer() {
        let mut leases = Leases::new(Timers::FAST, 1);
        let sent = Time(1_000_000);
        let n = leases.on_ping_sent(SERVER, sent);
        leases.on_pong(PEER, n, epoch(1), sent + Duration::from_millis(300));
        assert!(leases.holds(PEER, n, epoch(1), sent + Duration::from_millis(399)));
        assert!(!leases.holds(PEER, n, epoch(1), sent + Duration::from_millis(400)));
    }

    #[test]
    fn pings_from_before_an_epoch_give_no_lease_in_it() {
        let mut leases = Leases::new(Timers::FAST, 1);
        let before = leases.on_ping_sent(SERVER, Time(0));
        let floor = leases.next_ping();
        leases.on_pong(PEER, before, epoch(9), Time(1));
        assert!(!leases.holds(PEER, floor, epoch(2), Time(2)));
        let after = leases.on_ping_sent(SERVER, Time(3));
        leases.on_pong(PEER, after, epoch(1), Time(4));
        assert!(!leases.holds(PEER, floor, epoch(2), Time(5)), "promised in an older epoch");
        let later = leases.on_ping_sent(SERVER, Time(6));
        leases.on_pong(PEER, later, epoch(2), Time(7));
        assert!(leases.holds(PEER, floor, epoch(2), Time(8)));
    }

    #[test]
    fn a_ping_that_is_answered_again_in_a_newer_view_counts_there_from_its_sending() {
        let mut leases = Leases::new(Timers::FAST, 1);
        let n = leases.on_ping_sent(SERVER, Time(0));
        leases.on_pong(PEER, n, epoch(1), Time(1));
        assert!(!leases.holds(PEER, n, epoch(2), Time(2)));
        leases.on_pong(PEER, n, epoch(2), Time(90_000));
        assert!(leases.holds(PEER, n, epoch(2), Time(399_999)));
        assert!(!leases.holds(PEER, n, epoch(2), Time(400_000)));
        leases.on_pong(PEER, n, epoch(1), Time(100_000));
        assert!(leases.holds(PEER, n, epoch(2), Time(399_999)), "the first answer, once more");
    }

    #[test]
    fn an_old_answer_does_not_replace_a_newer_one() {
        let mut leases = Leases::new(Timers::FAST, 1);
        let first = leases.on_ping_sent(SERVER, Time(0));
        let second = leases.on_ping_sent(SERVER, Time(100_000));
        leases.on_pong(PEER, second, epoch(1), Time(100_001));
        leases.on_pong(PEER, first, epoch(1), Time(100_002));
        assert!(leases.holds(PEER, first, epoch(1), Time(450_000)));
    }

    #[test]
    fn what_a_server_promises_without_its_former_disk_is_no_promise_of_the_member() {
        let mut leases = Leases::new(Timers::FAST, 1);
        let n = leases.on_ping_sent(SERVER, Time(0));
        leases.on_pong(Member { server: SERVER, store: StoreId(71) }, n, epoch(1), Time(1));
        assert!(!leases.holds(PEER, n, epoch(1), Time(2)));
        assert!(!leases.confirmed(PEER, n, epoch(1)));
    }
}
