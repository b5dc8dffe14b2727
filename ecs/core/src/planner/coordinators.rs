//! Which copy of each partition is the coordinator's: the present one where the shares allow.
//!
//! With every server's copies within one of even there is always a choice of coordinators within one of even: let
//! each partition count as a third at each of its holders; that is an even flow, and a flow with whole bounds has a
//! whole solution. Where a heavy server's copies are capped, its share of coordinators is reached as far as the
//! placement allows.

use std::collections::VecDeque;

use super::copies::Placement;
use super::shares::{Share, shares};

struct Roles<'a> {
    placement: &'a Placement,
    /// By partition: its coordinator.
    coordinators: Vec<usize>,
    /// By server: the partitions that it coordinates.
    coordinated: Vec<Vec<usize>>,
    shares: Vec<Share>,
    /// By server: it coordinates only what no other server has.
    relieved: Vec<bool>,
}

/// Chooses a coordinator for each partition among its holders; one of weight 0 where all are.
pub(super) fn choose(placement: &Placement, current: &[Vec<usize>], weights: &[u64]) -> Vec<usize> {
    assert!(weights.iter().any(|&weight| weight > 0), "some server may coordinate");
    let caps: Vec<usize> = (0..weights.len()).map(|server| placement.load(server)).collect();
    let mut roles = Roles {
        placement,
        coordinators: vec![0; current.len()],
        coordinated: vec![Vec::new(); weights.len()],
        shares: shares(current.len(), weights, &caps),
        relieved: weights.iter().map(|&weight| weight == 0).collect(),
    };
    roles.begin(current);
    roles.balance();
    let counted: usize = roles.coordinated.iter().map(Vec::len).sum();
    assert_eq!(counted, current.len(), "each partition has one coordinator");
    roles.coordinators
}

impl Roles<'_> {
    fn load(&self, server: usize) -> usize {
        self.coordinated[server].len()
    }

    /// Keeps coordinators that still hold their partition; elsewhere takes the holder with the most of its share
    /// still open, one that holds the data already before one that does not.
    fn begin(&mut self, current: &[Vec<usize>]) {
        let mut open = Vec::new();
        for (partition, before) in current.iter().enumerate() {
            match before.first() {
                Some(&server)
                    if self.placement.holders(partition).contains(&server) && !self.relieved[server] =>
                {
                    self.appoint(partition, server);
                }
                _ => open.push(partition),
            }
        }
        for partition in open {
            let full = |server: usize| self.load(server) >= self.shares[server].ceil();
            let new = |server: usize| !current[partition].contains(&server);
            // Loads by weight: compared as fractions of the share.
            let filled = |server: usize| (self.load(server) << 20) / self.shares[server].ceil().max(1);
            let holders = self.placement.holders(partition).iter().copied();
            let rank = |&server: &usize| (self.relieved[server], full(server), new(server), filled(server));
            let best = holders.min_by_key(rank);
            self.appoint(partition, best.expect("every partition has a holder"));
        }
    }

    fn appoint(&mut self, partition: usize, server: usize) {
        assert!(self.placement.holders(partition).contains(&server), "a coordinator holds its partition");
        self.coordinators[partition] = server;
        self.coordinated[server].push(partition);
    }

    fn hand_over(&mut self, partition: usize, to: usize) {
        let from = self.coordinators[partition];
        assert_ne!(from, to, "a partition is handed to another server");
        self.coordinated[from].retain(|&other| other != partition);
        self.appoint(partition, to);
    }

    /// Brings each server within the share rounded down and up, by the shortest chains of hand-overs: first to those
    /// below it, then down to the share rounded up, then up to the share rounded down.
    fn balance(&mut self) {
        while self.chain(|load, share| load > share.ceil(), |load, share| load < share.floor) {}
        while self.chain(|load, share| load > share.ceil(), |load, share| load < share.ceil()) {}
        while self.chain(|load, share| load > share.floor, |load, share| load < share.floor) {}
    }

    /// Follows one shortest chain from a server that may give to one that may take. `false`: there is none.
    fn chain(&mut self, gives: impl Fn(usize, Share) -> bool, takes: impl Fn(usize, Share) -> bool) -> bool {
        let servers = self.shares.len();
        let mut from: Vec<Option<usize>> = vec![None; servers];
        let mut seen: Vec<bool> =
            (0..servers).map(|server| gives(self.load(server), self.shares[server])).collect();
        let mut queue: VecDeque<usize> = (0..servers).filter(|&server| seen[server]).collect();
        if !(0..servers).any(|server| takes(self.load(server), self.shares[server])) {
            return false;
        }
        while let Some(server) = queue.pop_front() {
            for &partition in &self.coordinated[server] {
                for &to in self.placement.holders(partition) {
                    if seen[to] {
                        continue;
                    }
                    seen[to] = true;
                    from[to] = Some(partition);
                    if takes(self.load(to), self.shares[to]) {
                        self.follow(to, &from);
                        return true;
                    }
                    queue.push_back(to);
                }
            }
        }
        false
    }

    fn follow(&mut self, end: usize, from: &[Option<usize>]) {
        let mut to = end;
        while let Some(partition) = from[to] {
            let giver = self.coordinators[partition];
            self.hand_over(partition, to);
            to = giver;
        }
    }
}
