//! The copies while they are placed: which servers have what, which are above or below the share, and the moves.

use std::collections::{BTreeSet, VecDeque};

use common::ids::{PartitionId, ServerId};
use common::limits::TOKENS_PER_SERVER;
use common::ring::{Partitions, Position};

use super::shares::{quotas, shares};

/// A placement in the making. Servers and partitions are indices.
pub(super) struct Placement {
    partitions: Partitions,
    /// Copies that each partition is to have.
    copies: usize,
    /// By partition: the servers that have a copy.
    holders: Vec<Vec<usize>>,
    /// By partition: the servers that had a copy when the planning began.
    before: Vec<Vec<usize>>,
    /// By server: what it holds.
    held: Vec<BTreeSet<usize>>,
    /// By server: how many it is to hold.
    quotas: Vec<usize>,
    /// Tokens of the servers that had room in the beginning, in ring order. The others hold their share: the walk
    /// would pass over them.
    ring: Vec<(Position, usize)>,
}

/// One exchange of a chain: `server` gives up `partition`, which the server before it in the chain takes.
struct Hop {
    server: usize,
    partition: usize,
    to: usize,
}

impl Placement {
    pub(super) fn new(
        partitions: Partitions,
        copies: usize,
        current: &[Vec<usize>],
        servers: &[ServerId],
        weights: &[u64],
    ) -> Self {
        assert_eq!(servers.len(), weights.len());
        assert!(copies <= servers.len(), "no server has two copies of a partition");
        assert!(weights.iter().all(|&weight| weight > 0), "a member without a weight has no share");
        let mut held = vec![BTreeSet::new(); servers.len()];
        for (partition, holders) in current.iter().enumerate() {
            for &server in holders {
                held[server].insert(partition);
            }
        }
        let total = copies * current.len();
        let shares = shares(total, weights, &vec![current.len(); servers.len()]);
        let loads: Vec<usize> = held.iter().map(BTreeSet::len).collect();
        let quotas = quotas(total, &shares, &loads);
        assert_eq!(quotas.iter().sum::<usize>(), total, "the shares are all there is");
        let mut placement = Self {
            partitions,
            copies,
            holders: current.to_vec(),
            before: current.to_vec(),
            held,
            quotas,
            ring: Vec::new(),
        };
        placement.trim();
        assert!(placement.holders.iter().all(|holders| holders.len() <= copies));
        placement.ring = placement.tokens(servers, weights);
        placement
    }

    /// The servers that have a partition: those that had it before come first.
    pub(super) fn holders(&self, partition: usize) -> &[usize] {
        &self.holders[partition]
    }

    /// How many copies a server holds.
    pub(super) fn load(&self, server: usize) -> usize {
        self.held[server].len()
    }

    fn tokens(&self, servers: &[ServerId], weights: &[u64]) -> Vec<(Position, usize)> {
        let mut ring = Vec::new();
        for (index, &server) in servers.iter().enumerate().filter(|&(index, _)| self.room(index)) {
            let tokens = TOKENS_PER_SERVER * u32::try_from(weights[index]).expect("a clamped weight");
            ring.extend((0..tokens).map(|token| (Position::of_token(server, token), index)));
        }
        ring.sort_unstable();
        ring
    }

    fn room(&self, server: usize) -> bool {
        self.load(server) < self.quotas[server]
    }

    fn surplus(&self, server: usize) -> usize {
        self.load(server).saturating_sub(self.quotas[server])
    }

    fn holds(&self, server: usize, partition: usize) -> bool {
        self.holders[partition].contains(&server)
    }

    fn take(&mut self, server: usize, partition: usize) {
        assert!(!self.holds(server, partition), "a server takes a partition once");
        self.holders[partition].push(server);
        assert!(self.held[server].insert(partition), "both sides list the same copies");
    }

    fn give_up(&mut self, server: usize, partition: usize) {
        assert!(self.holds(server, partition), "only what is held is given up");
        self.holders[partition].retain(|&holder| holder != server);
        assert!(self.held[server].remove(&partition), "both sides list the same copies");
    }

    /// Drops what partitions hold above the wanted number, from the servers furthest above their share; the
    /// coordinator's only if no other is as far above.
    fn trim(&mut self) {
        for partition in 0..self.holders.len() {
            while self.holders[partition].len() > self.copies {
                let holders = &self.holders[partition];
                let above = |place: usize| {
                    let server = holders[place];
                    let above = isize_of(self.load(server)) - isize_of(self.quotas[server]);
                    (above, place)
                };
                let place = (0..holders.len()).max_by_key(|&place| above(place)).expect("more than none");
                self.give_up(holders[place], partition);
            }
        }
    }

    /// Gives partitions to servers that have old data of them and room.
    pub(super) fn reuse(&mut self, leftovers: &[(usize, usize)]) {
        for &(server, partition) in leftovers {
            if !self.room(server) || self.holds(server, partition) {
                continue;
            }
            if self.holders[partition].len() < self.copies {
                self.take(server, partition);
            } else if let Some(from) = self.giver(partition) {
                self.give_up(from, partition);
                self.take(server, partition);
            }
        }
    }

    /// Finds a holder for every missing copy, for the partitions with the fewest copies first.
    pub(super) fn fill(&mut self) {
        let mut open: Vec<usize> = (0..self.holders.len())
            .filter(|&partition| self.holders[partition].len() < self.copies)
            .collect();
        open.sort_by_key(|&partition| self.holders[partition].len());
        for partition in open {
            while self.holders[partition].len() < self.copies {
                let server = match self.walk(partition) {
                    Some((_, server)) => server,
                    None => self.free_a_place(partition),
                };
                self.take(server, partition);
            }
            assert_eq!(self.holders[partition].len(), self.copies);
        }
    }

    /// Moves copies from servers above their share to servers below, the shortest walks first.
    pub(super) fn shed(&mut self) {
        let mut walks: Vec<(usize, usize)> = (0..self.holders.len())
            .filter(|&partition| self.giver(partition).is_some())
            .filter_map(|partition| self.walk(partition).map(|(steps, _)| (steps, partition)))
            .collect();
        walks.sort_unstable();
        for (_, partition) in walks {
            let Some(from) = self.giver(partition) else { continue };
            if let Some((_, to)) = self.walk(partition) {
                self.give_up(from, partition);
                self.take(to, partition);
            }
        }
        for server in 0..self.held.len() {
            while self.surplus(server) > 0 {
                let hops =
                    self.chain(&[server]).expect("shares add up: a server below its share is reachable");
                self.follow(hops);
            }
            assert_eq!(self.surplus(server), 0, "every server is brought down to its share");
        }
    }

    /// The holder of a partition that is furthest above its share; the coordinator only if no other is above, which
    /// saves a hand-over. `None` if none is above.
    fn giver(&self, partition: usize) -> Option<usize> {
        let coordinator = self.before[partition].first().copied();
        let above = self.holders[partition].iter().copied().filter(|&server| self.surplus(server) > 0);
        above.max_by_key(|&server| (Some(server) != coordinator, self.surplus(server)))
    }

    /// The first server clockwise from the partition's end that has room and does not hold it, and the number of
    /// tokens that were passed over.
    fn walk(&self, partition: usize) -> Option<(usize, usize)> {
        let id = PartitionId(u16::try_from(partition).expect("16384 partitions at most"));
        let end = self.partitions.last(id);
        let start = self.ring.partition_point(|&(position, _)| position < end);
        let clockwise = self.ring[start..].iter().chain(&self.ring[..start]);
        clockwise
            .map(|&(_, server)| server)
            .enumerate()
            .find(|&(_, server)| self.room(server) && !self.holds(server, partition))
    }

    /// Makes room at a server that does not hold the partition, by the shortest chain of exchanges.
    fn free_a_place(&mut self, partition: usize) -> usize {
        let starts: Vec<usize> =
            (0..self.held.len()).filter(|&server| !self.holds(server, partition)).collect();
        let hops = self.chain(&starts).expect("shares add up: a server below its share is reachable");
        let first = hops.last().expect("a chain has a hop").server;
        self.follow(hops);
        assert!(!self.holds(first, partition), "a chain does not bring its first server the partition");
        first
    }

    /// The shortest chain from one of `starts` to a server with room, its last exchange first.
    fn chain(&self, starts: &[usize]) -> Option<Vec<Hop>> {
        let mut from: Vec<Option<(usize, usize)>> = vec![None; self.held.len()];
        let mut seen = vec![false; self.held.len()];
        let mut queue = VecDeque::new();
        for &start in starts {
            assert!(!seen[start], "starts differ");
            seen[start] = true;
            queue.push_back(start);
        }
        while let Some(server) = queue.pop_front() {
            for to in 0..self.held.len() {
                if seen[to] {
                    continue;
                }
                let Some(partition) = self.exchangeable(server, to) else { continue };
                seen[to] = true;
                from[to] = Some((server, partition));
                if self.room(to) {
                    return Some(backwards(to, &from));
                }
                queue.push_back(to);
            }
        }
        None
    }

    /// A partition that `server` may give to `to`: rather one that it has only just been given, rather none that it
    /// coordinates.
    fn exchangeable(&self, server: usize, to: usize) -> Option<usize> {
        let rank = |partition: usize| match self.before[partition].iter().position(|&holder| holder == server)
        {
            None => 0,
            Some(0) => 2,
            Some(_) => 1,
        };
        let candidates = self.held[server].iter().copied().filter(|&partition| !self.holds(to, partition));
        candidates.min_by_key(|&partition| rank(partition))
    }

    fn follow(&mut self, hops: Vec<Hop>) {
        for hop in hops {
            assert_ne!(hop.server, hop.to, "a hop leads to another server");
            self.give_up(hop.server, hop.partition);
            self.take(hop.to, hop.partition);
        }
    }
}

fn backwards(end: usize, from: &[Option<(usize, usize)>]) -> Vec<Hop> {
    let mut hops = Vec::new();
    let mut to = end;
    while let Some((server, partition)) = from[to] {
        assert!(hops.len() < from.len(), "a shortest chain passes no server twice");
        hops.push(Hop { server, partition, to });
        to = server;
    }
    hops
}

fn isize_of(number: usize) -> isize {
    isize::try_from(number).expect("a number of copies")
}
