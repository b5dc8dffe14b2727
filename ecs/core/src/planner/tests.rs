//! What every plan must satisfy, over 1 to 1000 servers, and what joins and leaves move.

use super::*;

const COPIES: usize = 3;

/// A cluster that the planner is the only one to move.
struct Cluster {
    members: BTreeMap<ServerId, u32>,
    /// They are to coordinate nothing.
    relieved: BTreeSet<ServerId>,
    partitions: Partitions,
    placement: Target,
}

/// What a change moved.
#[derive(Clone, Copy, Debug, Default)]
struct Moved {
    /// Copies on servers that did not hold them.
    copies: usize,
    /// The fewest copies that the new shares allow to move.
    least: usize,
    /// Partitions with another coordinator.
    coordinators: usize,
}

fn server(number: u32) -> ServerId {
    ServerId(common::ring::Position::of_key(&number.to_be_bytes()).0)
}

impl Cluster {
    fn new(partitions: u32) -> Self {
        let partitions = Partitions::try_from(partitions).unwrap();
        let (members, relieved) = (BTreeMap::new(), BTreeSet::new());
        Self { members, relieved, partitions, placement: Vec::new() }
    }

    fn plan(&mut self) -> Moved {
        let problem = Problem {
            members: &self.members,
            relieved: &self.relieved,
            partitions: self.partitions,
            copies: COPIES,
            current: &self.placement,
            leftovers: &BTreeSet::new(),
        };
        let target = plan(&problem);
        let moved = self.moved(&target);
        self.placement = target;
        self.check();
        moved
    }

    fn join(&mut self, number: u32, weight: u32) -> Moved {
        self.members.insert(server(number), weight);
        self.plan()
    }

    fn join_all(&mut self, count: u32) {
        for number in 0..count {
            self.join(number, 1);
        }
    }

    fn leave(&mut self, number: u32) -> Moved {
        self.members.remove(&server(number)).unwrap();
        self.plan()
    }

    fn moved(&self, target: &Target) -> Moved {
        let mut moved = Moved::default();
        let (before, after) = (loads(&self.placement), loads(target));
        if before.is_empty() {
            return moved;
        }
        for member in self.members.keys() {
            let load = |loads: &BTreeMap<ServerId, usize>| loads.get(member).copied().unwrap_or(0);
            moved.least += load(&after).saturating_sub(load(&before));
        }
        for (old, new) in self.placement.iter().zip(target) {
            moved.copies += new.iter().filter(|server| !old.contains(server)).count();
            moved.coordinators += usize::from(old.first() != new.first());
        }
        moved
    }

    /// Distinct servers, as many copies as wanted or possible, and each server within one of even.
    fn check(&self) {
        let wanted = COPIES.min(self.members.len());
        for holders in &self.placement {
            assert_eq!(holders.len(), wanted);
            assert_eq!(holders.iter().collect::<BTreeSet<_>>().len(), wanted, "distinct: {holders:?}");
            assert!(holders.iter().all(|server| self.members.contains_key(server)));
        }
        let coordinate = self.members.iter().filter(|(server, _)| !self.relieved.contains(server));
        let sum: u32 = coordinate.map(|(_, weight)| weight).sum();
        let (copies, coordinators) = (loads(&self.placement), roles(&self.placement));
        let even_copies = self.even_copies(wanted);
        for (server, &weight) in &self.members {
            let have = copies.get(server).copied().unwrap_or(0) as f64;
            let even = even_copies[server];
            assert!((have - even).abs() <= 1.0, "{have} copies of {server:?}, even is {even}");
            if self.relieved.contains(server) {
                assert_eq!(coordinators.get(server), None, "{server:?} is relieved");
                continue;
            }
            if even >= self.placement.len() as f64 {
                continue; // It may coordinate no more than it holds, which is less than its share by weight.
            }
            let lead = coordinators.get(server).copied().unwrap_or(0) as f64;
            let even = self.placement.len() as f64 * f64::from(weight) / f64::from(sum);
            if self.relieved.is_empty() {
                assert!((lead - even).abs() <= 1.0, "{lead} partitions of {server:?}, even is {even}");
                continue;
            }
            // Servers that share their partitions with none of the relieved have nothing to take over, so what is sure
            // is the share as if none was relieved, and no more than all that they gave up beyond it.
            let all: u32 = self.members.values().sum();
            let least = self.placement.len() as f64 * f64::from(weight) / f64::from(all);
            let given = self.placement.len() as f64 * f64::from(all - sum) / f64::from(all);
            assert!(lead >= least - 1.0, "{lead} partitions of {server:?}, its share of all is {least}");
            assert!(lead <= least + given + 1.0, "{lead} partitions of {server:?}, relieved gave {given}");
        }
    }

    /// Each server's share of all copies by weight, where no server can have more than one of each partition: what the
    /// heavy ones cannot take is shared among the others by weight, as water finds its level.
    fn even_copies(&self, wanted: usize) -> BTreeMap<ServerId, f64> {
        let cap = self.placement.len() as f64;
        let mut left = cap * wanted as f64;
        let mut open = self.members.clone();
        let mut shares = BTreeMap::new();
        loop {
            let sum: u32 = open.values().sum();
            let share = |weight: u32| left * f64::from(weight) / f64::from(sum);
            let full: Vec<ServerId> =
                open.iter().filter(|&(_, &weight)| share(weight) >= cap).map(|(server, _)| *server).collect();
            if full.is_empty() {
                shares.extend(open.iter().map(|(&server, &weight)| (server, share(weight))));
                return shares;
            }
            left -= cap * full.len() as f64;
            for server in full {
                open.remove(&server);
                shares.insert(server, cap);
            }
        }
    }
}

fn loads(placement: &Target) -> BTreeMap<ServerId, usize> {
    let mut loads = BTreeMap::new();
    for &server in placement.iter().flatten() {
        *loads.entry(server).or_default() += 1;
    }
    loads
}

fn roles(placement: &Target) -> BTreeMap<ServerId, usize> {
    let mut roles = BTreeMap::new();
    for &server in placement.iter().filter_map(|holders| holders.first()) {
        *roles.entry(server).or_default() += 1;
    }
    roles
}

fn add(sum: &mut Moved, moved: Moved) {
    sum.copies += moved.copies;
    sum.least += moved.least;
    sum.coordinators += moved.coordinators;
}

fn report(what: &str, sum: Moved) {
    let above = 100.0 * (sum.copies as f64 / sum.least.max(1) as f64 - 1.0);
    println!(
        "{what}: {} copies moved, the minimum is {} ({above:+.2} %), {} coordinators moved",
        sum.copies, sum.least, sum.coordinators
    );
    assert!(above < 5.0, "{what}: {sum:?}");
}

#[test]
fn one_to_a_thousand_servers_one_by_one_and_back() {
    let mut cluster = Cluster::new(256);
    let bounds = [1, 3, 10, 100, 1000];
    for pair in bounds.windows(2) {
        let mut sum = Moved::default();
        for number in pair[0]..pair[1] {
            add(&mut sum, cluster.join(number, 1));
        }
        report(&format!("256 partitions, joins {}..{}", pair[0], pair[1]), sum);
    }
    for pair in bounds.windows(2).rev() {
        let mut sum = Moved::default();
        for number in (pair[0]..pair[1]).rev().filter(|&number| number > 1) {
            add(&mut sum, cluster.leave(number));
        }
        report(&format!("256 partitions, leaves {}..{}", pair[0], pair[1]), sum);
    }
    assert_eq!(cluster.members.len(), 1);
}

#[test]
fn servers_come_and_go_in_any_order() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut cluster = Cluster::new(256);
    let mut sum = Moved::default();
    for round in 0..400 {
        let present: Vec<u32> =
            (0..40).filter(|&number| cluster.members.contains_key(&server(number))).collect();
        if present.len() > 2 && random.bool() {
            add(&mut sum, cluster.leave(present[random.usize(..present.len())]));
        } else {
            let number = random.u32(..40);
            if !present.contains(&number) {
                add(&mut sum, cluster.join(number, 1));
            }
        }
        assert!(round >= 2 || !cluster.members.is_empty());
    }
    report("256 partitions, 400 joins and leaves", sum);
}

#[test]
fn weights_are_followed() {
    let mut random = fastrand::Rng::with_seed(11);
    let mut cluster = Cluster::new(1024);
    let mut sum = Moved::default();
    for number in 0..60 {
        add(&mut sum, cluster.join(number, random.u32(1..=4)));
    }
    for number in 0..50 {
        add(&mut sum, cluster.leave(number));
    }
    report("1024 partitions, weights 1 to 4", sum);
}

#[test]
fn weights_are_followed_from_one_server_to_a_thousand() {
    let mut random = fastrand::Rng::with_seed(13);
    for count in [1, 2, 3, 4, 5, 7, 10, 30, 100, 300, 1000] {
        for heaviest in [2, 10, WEIGHT_MAX] {
            let mut cluster = Cluster::new(1024);
            cluster.members = (0..count).map(|number| (server(number), random.u32(1..=heaviest))).collect();
            cluster.plan();
            cluster.join(count, random.u32(1..=heaviest));
            cluster.leave(random.u32(..count));
        }
    }
}

#[test]
fn a_giant_among_dwarfs_holds_one_copy_of_each() {
    let mut cluster = Cluster::new(64);
    cluster.join(0, 100);
    for number in 1..6 {
        cluster.join(number, 1);
    }
    assert_eq!(loads(&cluster.placement)[&server(0)], 64);
    assert!(roles(&cluster.placement)[&server(0)] > 50, "{:?}", roles(&cluster.placement));
}

#[test]
fn what_is_even_stays() {
    for servers in [1, 2, 3, 4, 7, 50, 300] {
        let mut cluster = Cluster::new(256);
        cluster.members = (0..servers).map(|number| (server(number), 1)).collect();
        cluster.plan();
        let again = cluster.plan();
        assert_eq!((again.copies, again.coordinators), (0, 0), "{servers} servers");
    }
}

#[test]
fn a_plan_in_the_middle_of_a_move_goes_on_with_it() {
    let mut cluster = Cluster::new(256);
    cluster.join_all(5);
    let before = cluster.placement.clone();
    cluster.join(5, 1);
    let target = cluster.placement.clone();
    // Half of the joiner's copies are there, and nothing was dropped yet.
    for (partition, old) in before.iter().enumerate() {
        let mut holders = old.clone();
        if partition % 2 == 0 {
            holders.extend(target[partition].iter().filter(|server| !old.contains(server)));
        }
        cluster.placement[partition] = holders;
    }
    let middle = cluster.placement.clone();
    cluster.plan();
    let added: usize = cluster
        .placement
        .iter()
        .zip(&middle)
        .map(|(new, old)| new.iter().filter(|s| !old.contains(s)).count())
        .sum();
    let waiting: usize =
        target.iter().zip(&middle).map(|(new, old)| new.iter().filter(|s| !old.contains(s)).count()).sum();
    assert!(added <= waiting + 3, "{added} copies are still to be moved, {waiting} were");
}

#[test]
fn a_server_that_comes_back_gets_its_old_partitions() {
    let mut cluster = Cluster::new(256);
    cluster.join_all(6);
    let held = |placement: &Target| -> BTreeSet<(ServerId, PartitionId)> {
        let ids = (0..256).map(PartitionId);
        let with = ids.zip(placement).filter(|(_, holders)| holders.contains(&server(3)));
        with.map(|(partition, _)| (server(3), partition)).collect()
    };
    let leftovers = held(&cluster.placement);
    cluster.leave(3);
    cluster.members.insert(server(3), 1);
    let target = plan(&Problem {
        members: &cluster.members,
        relieved: &BTreeSet::new(),
        partitions: cluster.partitions,
        copies: COPIES,
        current: &cluster.placement,
        leftovers: &leftovers,
    });
    let again = held(&target);
    assert!(again.intersection(&leftovers).count() * 10 > again.len() * 9, "nearly all are old ones");
}

#[test]
fn a_relieved_server_coordinates_nothing_and_keeps_its_copies() {
    for servers in [2, 3, 5, 10] {
        let mut cluster = Cluster::new(256);
        cluster.join_all(servers);
        cluster.relieved.insert(server(0));
        let moved = cluster.plan();
        assert_eq!(moved.copies, 0, "a hand-over moves no data");
        // Its own, and as many again where they go by way of a third server.
        let share = 256 / servers as usize + 1;
        assert!(moved.coordinators <= 2 * share, "{moved:?}");
        cluster.relieved.clear();
        let moved = cluster.plan();
        assert!(moved.copies == 0 && moved.coordinators <= 2 * share, "{moved:?}");
    }
}

#[test]
fn where_all_are_relieved_none_is() {
    let mut cluster = Cluster::new(64);
    cluster.join_all(3);
    let relieved = cluster.members.keys().copied().collect();
    let target = plan(&Problem {
        members: &cluster.members,
        relieved: &relieved,
        partitions: cluster.partitions,
        copies: COPIES,
        current: &cluster.placement,
        leftovers: &BTreeSet::new(),
    });
    assert_eq!(target, cluster.placement);
}

#[test]
fn a_thousand_servers_and_sixteen_thousand_partitions() {
    let mut cluster = Cluster::new(16384);
    cluster.members = (0..1000).map(|number| (server(number), 1)).collect();
    cluster.plan();
    let mut sum = Moved::default();
    for number in 1000..1004 {
        add(&mut sum, cluster.join(number, 1));
    }
    for number in 0..4 {
        add(&mut sum, cluster.leave(number));
    }
    report("16384 partitions, 1000 servers, 4 joins and 4 leaves", sum);
}

/// Members come and go while copies of former plans are made only in part: every plan is whole (`check` in the
/// planner), whatever it begins with.
#[test]
fn plans_are_whole_whatever_they_begin_with() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |limit: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(random >> 33).unwrap() % limit
    };
    for _ in 0..300 {
        let partitions = Partitions::try_from(1_u32 << below(7)).unwrap();
        let mut placement: Target = vec![Vec::new(); partitions.count()];
        for _ in 0..12 {
            let count = 1 + below(9);
            let members: BTreeMap<ServerId, u32> = (0..count)
                .map(|_| (server(u32::try_from(below(12)).unwrap()), 1 + u32::try_from(below(4)).unwrap()))
                .collect();
            let relieved = members.keys().copied().filter(|_| below(5) == 0).collect();
            let leftovers: BTreeSet<(ServerId, PartitionId)> = (0..below(20))
                .map(|_| {
                    let partition = u16::try_from(below(partitions.count())).unwrap();
                    (server(u32::try_from(below(12)).unwrap()), PartitionId(partition))
                })
                .collect();
            let problem = Problem {
                members: &members,
                relieved: &relieved,
                partitions,
                copies: 1 + below(4),
                current: &placement,
                leftovers: &leftovers,
            };
            let target = plan(&problem);
            // Of each partition some copies are where they were, some where they are to be, and some are nowhere.
            for (now, target) in placement.iter_mut().zip(target) {
                let all: BTreeSet<ServerId> = now.iter().copied().chain(target).collect();
                *now = all.into_iter().filter(|_| below(3) > 0).collect();
            }
        }
    }
}
