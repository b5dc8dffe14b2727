//! Which servers report that they do not hear each other, over time; and, for a while, the servers that were taken off
//! partitions because of it.
//!
//! An edge is *there* from the first complaint until [`EDGE_REPORTS`] report times after the last one. It *counts* when
//! complaints have gone on for so long that the silence is as long as one after which either of the two would count as
//! gone (`silence`): links and servers that stall for less change nothing. A link that flaps has an edge that stays.
//!
//! What is said of or by a server that has not taken the newest view is left out: it may not know yet which servers it
//! is to ping.
//!
//! A server that lost a part gets no new one before it has had no edge to any server for a pause. The pause doubles
//! when it happens again soon: what flaps for long is tried ever more seldom. All of it is forgotten at a restart of
//! the ECS.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::ids::ServerId;
use common::limits::Timers;
use common::time::Time;

use crate::limits::{EDGE_REPORTS, FLAPS_WITHIN, PAUSE_FIRST, PAUSE_MAX};

/// Two servers of which one does not hear the other, the lower id first.
pub type Edge = (ServerId, ServerId);

/// The edge between two servers.
#[must_use]
pub fn edge(one: ServerId, other: ServerId) -> Edge {
    (one.min(other), one.max(other))
}

/// Complaints about one pair of servers that go on from each other.
#[derive(Clone, Copy, Debug)]
struct Complaints {
    first: Time,
    last: Time,
    /// They have gone on for long enough.
    counts: bool,
}

/// A server that lost a part.
#[derive(Clone, Copy, Debug)]
struct Pause {
    /// Losses in a row.
    losses: u32,
    /// From when on it has had no edge, as far as is known.
    whole: Time,
}

impl Pause {
    fn until(&self) -> Time {
        let doubled = PAUSE_FIRST.saturating_mul(1 << self.losses.saturating_sub(1).min(16));
        self.whole + doubled.min(PAUSE_MAX)
    }
}

/// See the module's text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Edges {
    complaints: BTreeMap<Edge, Complaints>,
    pauses: BTreeMap<ServerId, Pause>,
}

fn lasts(timers: &Timers) -> Duration {
    timers.report * EDGE_REPORTS
}

impl Edges {
    /// `from` has heard nothing of `about` for the report time. `gone`: after which silence either of the two counts as
    /// gone. Whether the edge between them counts now.
    pub(crate) fn on_unheard(
        &mut self,
        from: ServerId,
        about: ServerId,
        now: Time,
        timers: &Timers,
        gone: Duration,
    ) -> bool {
        let new = Complaints { first: now, last: now, counts: false };
        let complaints = self.complaints.entry(edge(from, about)).or_insert(new);
        if now.since(complaints.last) >= timers.dead + timers.report {
            *complaints = new;
        }
        assert!(complaints.first <= now, "time goes on");
        complaints.last = now;
        // The first complaint came after a silence of the report time already.
        complaints.counts |= now.since(complaints.first) + timers.report >= gone;
        for server in [from, about] {
            if let Some(pause) = self.pauses.get_mut(&server).filter(|pause| pause.until() > now) {
                pause.whole = now + lasts(timers);
            }
        }
        complaints.counts
    }

    /// The edges that count.
    pub(crate) fn counting(&self, now: Time, timers: &Timers) -> BTreeSet<Edge> {
        let counts = |complaints: &Complaints| complaints.counts && is_there(complaints, now, timers);
        self.complaints.iter().filter(|(_, complaints)| counts(complaints)).map(|(&edge, _)| edge).collect()
    }

    /// The edges that are there, whether they count or not.
    pub(crate) fn there(&self, now: Time, timers: &Timers) -> BTreeSet<Edge> {
        let there = self.complaints.iter().filter(|(_, complaints)| is_there(complaints, now, timers));
        there.map(|(&edge, _)| edge).collect()
    }

    /// The other ends of the edges that a server has, whether they count or not.
    pub(crate) fn of(&self, server: ServerId, now: Time, timers: &Timers) -> Vec<ServerId> {
        let there = self.complaints.iter().filter(|(_, complaints)| is_there(complaints, now, timers));
        there
            .filter_map(|(&(one, other), _)| match server {
                _ if server == one => Some(other),
                _ if server == other => Some(one),
                _ => None,
            })
            .collect()
    }

    /// When the next edge goes, if no server complains again.
    pub(crate) fn next_end(&self, now: Time, timers: &Timers) -> Option<Time> {
        let there = self.complaints.values().filter(|complaints| is_there(complaints, now, timers));
        there.map(|complaints| complaints.last + lasts(timers)).min()
    }

    /// A server lost a part. In its pause that is the same loss.
    pub(crate) fn on_lost(&mut self, server: ServerId, now: Time, timers: &Timers) {
        let whole = now + lasts(timers);
        let pause = self.pauses.entry(server).or_insert(Pause { losses: 0, whole });
        if now.since(pause.until()) >= FLAPS_WITHIN {
            pause.losses = 0;
        }
        if pause.losses == 0 || pause.until() <= now {
            pause.losses += 1;
        }
        pause.whole = whole;
        assert!(pause.losses >= 1, "a pause has a reason");
        assert!(pause.until() > now, "a server that lost a part waits");
    }

    /// Until when a server gets no new part, as far as is known.
    pub(crate) fn pause(&self, server: ServerId, now: Time) -> Option<Time> {
        self.pauses.get(&server).map(Pause::until).filter(|until| *until > now)
    }

    /// Servers that lost a part, until their pause has been over for as long as an edge takes to go: one that is given
    /// parts, and is not heard, has an edge by then.
    pub(crate) fn lost(&self, now: Time, timers: &Timers) -> impl Iterator<Item = ServerId> {
        let lately = move |pause: &Pause| now < pause.until() + lasts(timers);
        self.pauses.iter().filter(move |(_, pause)| lately(pause)).map(|(&server, _)| server)
    }

    /// Asserts what must be true between steps.
    pub(crate) fn invariants(&self) {
        assert!(self.complaints.keys().all(|(one, other)| one < other), "a pair is listed once");
        assert!(self.complaints.values().all(|complaints| complaints.first <= complaints.last));
        assert!(self.pauses.values().all(|pause| pause.losses >= 1), "a pause has a reason");
    }

    /// It is down, or a new process: what was said of the former one is over.
    pub(crate) fn forget(&mut self, server: ServerId) {
        self.complaints.retain(|(one, other), _| *one != server && *other != server);
    }

    /// Forgets what is over.
    pub(crate) fn sift(&mut self, now: Time, timers: &Timers) {
        self.complaints.retain(|_, complaints| is_there(complaints, now, timers));
        self.pauses.retain(|_, pause| now.since(pause.until()) < FLAPS_WITHIN);
    }
}

fn is_there(complaints: &Complaints, now: Time, timers: &Timers) -> bool {
    now.since(complaints.last) < lasts(timers)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMERS: Timers = Timers::FAST;
    const ONE: ServerId = ServerId(1);
    const TWO: ServerId = ServerId(2);

    fn counting(edges: &Edges, ms: u64) -> usize {
        edges.counting(at(ms), &TIMERS).len()
    }

    fn unheard(edges: &mut Edges, from: ServerId, about: ServerId, ms: u64) -> bool {
        edges.on_unheard(from, about, at(ms), &TIMERS, TIMERS.dead)
    }

    fn at(ms: u64) -> Time {
        Time(1_000_000 + ms * 1000)
    }

    #[test]
    fn an_edge_counts_after_the_time_of_a_dead_server_and_goes_some_reports_after_the_last() {
        let mut edges = Edges::default();
        assert!(!unheard(&mut edges, ONE, TWO, 0));
        assert_eq!(counting(&edges, 10_000), 0, "time alone proves nothing");
        assert!(unheard(&mut edges, TWO, ONE, 400), "either of the two may complain");
        assert_eq!(counting(&edges, 4_399), 1);
        assert_eq!(edges.next_end(at(401), &TIMERS), Some(at(4_400)));
        assert!(edges.there(at(4_400), &TIMERS).is_empty());
    }

    #[test]
    fn stalls_that_are_far_apart_are_not_added_up_and_those_of_a_flapping_link_are() {
        let mut edges = Edges::default();
        for stall in 0..5 {
            assert!(!unheard(&mut edges, ONE, TWO, stall * 1_200));
        }
        let mut edges = Edges::default();
        assert!(!unheard(&mut edges, ONE, TWO, 0));
        assert!(unheard(&mut edges, ONE, TWO, 1_000));
    }

    #[test]
    fn what_did_not_count_does_not_when_the_limit_falls() {
        let mut edges = Edges::default();
        for ms in [0, 400, 800] {
            assert!(!edges.on_unheard(ONE, TWO, at(ms), &TIMERS, Duration::from_secs(3)));
        }
        assert_eq!(counting(&edges, 900), 0);
    }

    #[test]
    fn what_is_said_of_a_former_process_is_forgotten() {
        let mut edges = Edges::default();
        unheard(&mut edges, ONE, TWO, 0);
        edges.forget(TWO);
        assert!(edges.there(at(1), &TIMERS).is_empty());
    }

    #[test]
    fn the_pause_begins_when_the_last_edge_is_gone_and_doubles_up_to_its_limit() {
        let mut edges = Edges::default();
        unheard(&mut edges, ONE, TWO, 0);
        edges.on_lost(ONE, at(0), &TIMERS);
        unheard(&mut edges, ONE, TWO, 3_000);
        assert_eq!(edges.pause(ONE, at(3_000)), Some(at(3_000 + 4_000 + 10_000)));
        assert_eq!(edges.pause(ONE, at(17_000)), None);
        assert_eq!(edges.lost(at(20_999), &TIMERS).collect::<Vec<_>>(), [ONE]);
        assert_eq!(edges.lost(at(21_000), &TIMERS).count(), 0);
        assert_eq!(edges.pause(TWO, at(1)), None, "it lost nothing");
        let mut now = 17_000;
        let mut pauses = Vec::new();
        for _ in 0..7 {
            edges.on_lost(ONE, at(now), &TIMERS);
            edges.on_lost(ONE, at(now), &TIMERS);
            let until = edges.pause(ONE, at(now)).unwrap();
            pauses.push(until.since(at(now + 4_000)).as_secs());
            now = until.since(at(0)).as_millis() as u64;
            edges.sift(at(now), &TIMERS);
        }
        assert_eq!(pauses, [20, 40, 80, 160, 300, 300, 300]);
        now += 300_000;
        edges.on_lost(ONE, at(now), &TIMERS);
        assert_eq!(edges.pause(ONE, at(now)), Some(at(now + 14_000)), "long ago");
    }
}
