//! Comparing the copies of a partition with each other, as their checksums say nothing of a wrong program or memory.
//!
//! # How
//!
//! When the scrub has read a partition through, its coordinator orders an entry that changes nothing
//! ([`Operation::Compare`]). Each copy makes a digest of its records as they are at that entry, beside everything else
//! and within the rate of the scrub, and the coordinator asks for them. The copies that are compared are the in-sync
//! ones of one epoch; with the epoch the comparison ends. One partition at a time at each coordinator.
//!
//! # Which copy is right
//!
//! All copies applied the same entries to the same records, so they are equal or one is wrong. A copy that fails its
//! checksums is wrong, and needs no comparison: its server stops (`damage`). Where all pass them, more than half that agree are
//! right *if all of them were equal before*: then what differs happened to some since, each by itself, and the same
//! mistake twice is no accident. Without that nobody can know. Of two copies that differ either may be wrong. And copies are made
//! of copies: a joiner that was filled from a wrong coordinator agrees with it, and the third one, which is right, would be
//! outvoted. So each copy keeps in its mark with whom it was found equal since it was filled ([`Mark::equal_with`]), and the
//! majority decides only if that is, for every one of the copies compared, all of the others. A copy that was filled anew has
//! nothing there. Else it is said that they differ and who agrees with whom, and nothing is touched.
//!
//! What was found is looked at once more at a new entry before anything is said or done: the first time a reading may
//! have gone wrong.
//!
//! A wrong copy is taken for failed by its own server (`failed`). It is told the digest of the others, again and again
//! until the epoch ends, and checks that it did give another one. Entries of a client's `verify` are not followed up.
//!
//! [`Mark::equal_with`]: super::copy::Mark::equal_with

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use common::codec::Wire;
use common::ids::{LogId, PartitionId, ServerId};
use common::messages::{Digest, Entry, PeerMessage, Sender};
use common::operation::{Command, Operation};
use common::status::Difference;
use common::time::Time;

use super::copy::{PartitionCopy, Role};
use super::env::Env;
use super::limits::{COMPARE_AGAIN, DIFFERENCES_KEPT};

/// What digests say.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// All copies are equal.
    Equal,
    /// These are not as the others, which are more than half and equal to this digest.
    Wrong(BTreeSet<ServerId>, Digest),
    /// They differ, and nobody can know which is right.
    Undecided,
}

/// What a copy has told of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    digest: Digest,
    equal_with: Vec<ServerId>,
}

/// More than half of the copies are right, if all were equal before.
fn judge(told: &BTreeMap<ServerId, Told>) -> Verdict {
    let agree = |right: &Told| told.values().filter(|other| other.digest == right.digest).count();
    let were_equal = told.values().all(|one| told.keys().all(|server| one.equal_with.contains(server)));
    let Some(right) = told.values().find(|one| 2 * agree(one) > told.len()).map(|one| one.digest) else {
        return Verdict::Undecided;
    };
    let wrong: BTreeSet<ServerId> =
        told.iter().filter(|(_, one)| one.digest != right).map(|(&server, _)| server).collect();
    match wrong.is_empty() {
        true => Verdict::Equal,
        false if were_equal => Verdict::Wrong(wrong, right),
        false => Verdict::Undecided,
    }
}

/// Servers by what they have told, most first.
fn groups(told: &BTreeMap<ServerId, Told>) -> Vec<Vec<ServerId>> {
    let mut groups: Vec<(Digest, Vec<ServerId>)> = Vec::new();
    for (&server, one) in told {
        match groups.iter_mut().find(|(digest, _)| *digest == one.digest) {
            Some((_, servers)) => servers.push(server),
            None => groups.push((one.digest, vec![server])),
        }
    }
    groups.sort_by_key(|(_, servers)| std::cmp::Reverse(servers.len()));
    groups.into_iter().map(|(_, servers)| servers).collect()
}

/// A comparison under way, at its coordinator.
#[derive(Debug)]
pub(crate) struct Comparison {
    at: LogId,
    told: BTreeMap<ServerId, Told>,
    /// When digests were last asked for, or wrong copies told. Replicas tell by themselves at first.
    asked: Option<Time>,
    /// Who was wrong at the entry before, if it is the second look.
    before: Option<BTreeSet<ServerId>>,
    /// Judged: these are to be told, and the digest of the others.
    wrong: Option<(BTreeSet<ServerId>, Digest)>,
}

impl Comparison {
    /// Copies are still being looked at.
    pub(crate) fn is_open(&self) -> bool {
        self.wrong.is_none()
    }
}

impl PartitionCopy {
    /// Begins a comparison, if this server coordinates the partition and there is something to compare. Whether it did.
    pub(crate) fn begin_comparison(&mut self, env: &mut Env) -> bool {
        let Role::Coordinator(coordinator) = &self.role else { return false };
        let begins = coordinator.active && coordinator.has_replicas() && coordinator.comparison.is_none();
        if begins && !self.mark.failed {
            self.look_at_copies(env, None);
            return true;
        }
        false
    }

    pub(crate) fn is_comparing(&self) -> bool {
        let Role::Coordinator(coordinator) = &self.role else { return false };
        coordinator.comparison.as_ref().is_some_and(Comparison::is_open)
    }

    fn look_at_copies(&mut self, env: &mut Env, before: Option<BTreeSet<ServerId>>) {
        let at = LogId { tag: self.epoch, seq: self.log.last().next() };
        let operation = Operation::Compare { partition: self.id };
        // No origin: the coordinator itself asks, so digests are made within the rate.
        let body = Command { origin: None, stamp: env.now.wall, operation }.to_wire();
        self.append(env, Entry { id: at, body });
        env.touched.insert(self.id);
        let Role::Coordinator(coordinator) = &mut self.role else { return };
        coordinator.comparison =
            Some(Comparison { at, told: BTreeMap::new(), asked: Some(env.now.time), before, wrong: None });
    }

    fn end_comparison(&mut self) {
        if let Role::Coordinator(coordinator) = &mut self.role {
            coordinator.comparison = None;
        }
    }

    /// Asks for digests, and judges when all have come; tells those whose copies are wrong.
    pub(super) fn go_on_comparing(&mut self, env: &mut Env) {
        let (partition, epoch, applied, now) = (self.id, self.epoch, self.applied, env.now.time);
        let Role::Coordinator(coordinator) = &mut self.role else { return };
        if coordinator.comparison.is_none() {
            return;
        }
        let replicas = coordinator.replicas();
        let Some(comparison) = &mut coordinator.comparison else { return };
        let at = comparison.at;
        let due = comparison.asked.is_none_or(|asked| now.since(asked) >= COMPARE_AGAIN);
        if let Some((wrong, digest)) = &comparison.wrong {
            if due {
                comparison.asked = Some(now);
                for &to in wrong {
                    if !env.is_me(to) {
                        env.out.send(to, PeerMessage::Differs { partition, epoch, at, digest: *digest });
                    }
                }
            }
            return;
        }
        if applied < at.seq {
            return;
        }
        match env.digests.get((partition, at)) {
            Some(digest) => {
                let told = Told { digest, equal_with: self.mark.equal_with.clone() };
                comparison.told.insert(env.me.server, told);
            }
            None if env.digests.is_making((partition, at)) => {}
            None => return self.end_comparison(),
        }
        let silent: Vec<ServerId> =
            replicas.iter().copied().filter(|server| !comparison.told.contains_key(server)).collect();
        if due && !silent.is_empty() {
            comparison.asked = Some(now);
            for &to in &silent {
                env.out.send(to, PeerMessage::DigestRequest { partition, epoch, at });
            }
        }
        if silent.is_empty() && comparison.told.contains_key(&env.me.server) {
            self.judge_copies(env);
        }
    }

    fn judge_copies(&mut self, env: &mut Env) {
        let Role::Coordinator(coordinator) = &mut self.role else { return };
        let Some(comparison) = coordinator.comparison.take() else { return };
        let Comparison { at, told, before, .. } = &comparison;
        let (wrong, right) = match judge(told) {
            Verdict::Equal => {
                if before.is_some() {
                    env.alarm(format!(
                        "partition {}: the copies at {} differed once and are equal at entry {at}: one of these servers \
                         has read wrongly; look at memory and disks",
                        self.id,
                        names(env, told.keys())
                    ));
                }
                env.compared.equal += 1;
                self.forget_undecided(env);
                return self.note_equal(env, &comparison);
            }
            Verdict::Wrong(wrong, right) => (wrong, Some(right)),
            Verdict::Undecided => (BTreeSet::new(), None),
        };
        let Some(before) = before else { return self.look_at_copies(env, Some(wrong)) };
        // The second look must find the same.
        let wrong = if *before == wrong { wrong } else { BTreeSet::new() };
        self.report_difference(env, &comparison, &wrong);
        let Some(right) = right.filter(|_| !wrong.is_empty()) else { return };
        let me = env.me.server;
        if wrong.contains(&me) {
            self.fail(env, &difference(*at));
        }
        if let Role::Coordinator(coordinator) = &mut self.role {
            let (asked, wrong) = (None, Some((wrong, right)));
            coordinator.comparison = Some(Comparison { asked, wrong, ..comparison });
        }
        self.go_on_comparing(env);
    }

    /// What could not be told apart is settled, or is about to be told anew.
    fn forget_undecided(&self, env: &mut Env) {
        env.compared.differences.retain(|one| one.partition != self.id.0 || !one.wrong.is_empty());
    }

    /// All copies are equal: each keeps with whom, if it does not know.
    fn note_equal(&mut self, env: &mut Env, comparison: &Comparison) {
        let (partition, epoch, at) = (self.id, self.epoch, comparison.at);
        let servers: Vec<ServerId> = comparison.told.keys().copied().collect();
        for (&to, one) in &comparison.told {
            if one.equal_with == servers {
                continue;
            }
            let servers = servers.clone();
            if env.is_me(to) {
                self.on_equal(env, at, servers);
            } else {
                env.out.send(to, PeerMessage::Equal { partition, epoch, at, servers });
            }
        }
    }

    /// The copies of these servers were found equal. If this is lost it is said after the next comparison.
    pub(crate) fn on_equal(&mut self, env: &mut Env, at: LogId, servers: Vec<ServerId>) {
        let counts = |server: &ServerId| {
            let assignment = env.view.assignment(self.id);
            assignment.is_some_and(|now| now.in_sync_member(*server).is_some())
        };
        let known = servers.contains(&env.me.server) && servers.iter().all(counts);
        let is_mine = known && env.digests.get((self.id, at)).is_some();
        if is_mine && !self.mark.failed && self.mark.equal_with != servers {
            self.mark.equal_with = servers;
            self.persist_mark(env);
        }
    }

    fn report_difference(&mut self, env: &mut Env, comparison: &Comparison, wrong: &BTreeSet<ServerId>) {
        let Comparison { at, told, .. } = comparison;
        let groups = groups(told);
        let equal: Vec<String> = groups.iter().map(|group| names(env, group.iter())).collect();
        let differ = format!("partition {}: copies differ at entry {at}: {}", self.id, equal.join(" / "));
        if wrong.is_empty() {
            env.alarm(format!(
                "{differ}. It cannot be told which is right, and nothing is done. Do not move or drain these servers; see \
                 \"Copies differ\" in the operations guide"
            ));
        } else {
            env.alarm(format!("{differ}. That at {} is wrong, and is filled anew", names(env, wrong.iter())));
        }
        let found =
            Difference { partition: self.id.0, entry: *at, wrong: wrong.iter().copied().collect(), groups };
        self.forget_undecided(env);
        if env.compared.differences.len() == DIFFERENCES_KEPT {
            env.compared.differences.remove(0);
        }
        env.compared.differences.push(found);
    }

    /// A digest is made here, or left out: a coordinator that compares waits for it.
    pub(crate) fn on_digested(&mut self, env: &mut Env, at: LogId) {
        if let Role::Replica(replica) = &self.role
            && at.tag == self.epoch
        {
            self.on_digest_request(env, replica.coordinator(), at);
        }
    }

    /// The coordinator asks for the digest of this copy.
    pub(crate) fn on_digest_request(&mut self, env: &mut Env, from: ServerId, at: LogId) {
        let (partition, epoch) = (self.id, self.epoch);
        let digest = env.digests.get((partition, at));
        let equal_with = self.mark.equal_with.clone();
        // It is on its way to the records, or is being made.
        let awaited = self.applied < at.seq || env.digests.is_making((partition, at));
        if digest.is_some() || !awaited {
            env.out.send(from, PeerMessage::DigestReply { partition, epoch, at, digest, equal_with });
        }
    }

    /// A member has told its digest; or that it has none, or not the one that it was said to have: then another try is
    /// made with the next reading.
    pub(crate) fn on_digest_reply(
        &mut self,
        env: &mut Env,
        from: Sender,
        at: LogId,
        digest: Option<Digest>,
        equal_with: Vec<ServerId>,
    ) {
        let Role::Coordinator(coordinator) = &mut self.role else { return };
        let counts = coordinator.is_replica(from);
        let Some(comparison) = coordinator.comparison.as_mut().filter(|now| now.at == at && counts) else {
            return;
        };
        match digest.filter(|_| comparison.is_open()) {
            Some(digest) => _ = comparison.told.insert(from.server, Told { digest, equal_with }),
            None => coordinator.comparison = None,
        }
        env.touched.insert(self.id);
    }

    /// The coordinator has found that this copy is not as most others.
    pub(crate) fn on_differs(&mut self, env: &mut Env, from: ServerId, at: LogId, digest: Digest) {
        let (partition, epoch) = (self.id, self.epoch);
        match env.digests.get((partition, at)) {
            Some(own) if own != digest => self.fail(env, &difference(at)),
            // Told by a former process of this server, or not told so: the next comparison finds it again.
            digest => {
                let equal_with = self.mark.equal_with.clone();
                env.out.send(from, PeerMessage::DigestReply { partition, epoch, at, digest, equal_with });
            }
        }
    }
}

fn difference(at: LogId) -> String {
    format!("the copy here differs from most others at entry {at}, seen twice")
}

/// Servers as an operator knows them.
fn names<'a>(env: &Env, servers: impl Iterator<Item = &'a ServerId>) -> String {
    let address = |server: &ServerId| {
        env.view.servers.get(server).map_or_else(|| server.short(), |info| info.address.clone())
    };
    servers.map(address).collect::<Vec<_>>().join(", ")
}

/// Whose turn it is: comparisons of one server come one after the other, and whoever waits is not passed over by those that
/// are read through again meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    order: VecDeque<PartitionId>,
    waiting: BTreeSet<PartitionId>,
    pub(crate) now: Option<PartitionId>,
}

impl Turns {
    pub(crate) fn add(&mut self, partition: PartitionId) {
        if self.waiting.insert(partition) {
            self.order.push_back(partition);
        }
    }

    pub(crate) fn next(&mut self) -> Option<PartitionId> {
        self.now = self.order.pop_front();
        self.now.inspect(|partition| _ = self.waiting.remove(partition))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Servers from 1 on have told digests with these sums, and with whom they were equal.
    fn verdict(copies: &[(u128, &[u128])]) -> Verdict {
        let told = |&(sum, equal_with): &(u128, &[u128])| Told {
            digest: Digest { sum, records: 1, bytes: 1 },
            equal_with: equal_with.iter().copied().map(ServerId).collect(),
        };
        judge(&copies.iter().zip(1..).map(|(copy, server)| (ServerId(server), told(copy))).collect())
    }

    #[test]
    fn more_than_half_are_right_if_all_were_equal_before() {
        let all: &[u128] = &[1, 2, 3, 4];
        assert_eq!(verdict(&[(7, &[]), (7, &[]), (7, &[])]), Verdict::Equal);
        let right = Digest { sum: 7, records: 1, bytes: 1 };
        let wrong = |server| Verdict::Wrong(BTreeSet::from([ServerId(server)]), right);
        assert_eq!(verdict(&[(7, all), (8, all), (7, all)]), wrong(2));
        assert_eq!(verdict(&[(8, all), (7, all), (7, all)]), wrong(1));
        assert_eq!(verdict(&[(7, all), (8, all)]), Verdict::Undecided);
        assert_eq!(verdict(&[(7, all), (8, all), (9, all)]), Verdict::Undecided);
        assert_eq!(verdict(&[(7, all), (7, all), (8, all), (8, all)]), Verdict::Undecided);
    }

    #[test]
    fn nobody_is_passed_over() {
        let mut turns = Turns::default();
        let p = PartitionId;
        [1, 2, 3].into_iter().for_each(|partition| turns.add(p(partition)));
        assert_eq!(turns.next(), Some(p(1)));
        [1, 2, 3].into_iter().for_each(|partition| turns.add(p(partition)));
        let rest: Vec<_> = std::iter::from_fn(|| turns.next()).collect();
        assert_eq!((rest, turns.now), (vec![p(2), p(3), p(1)], None));
    }

    #[test]
    fn a_copy_of_a_wrong_copy_does_not_outvote_the_right_one() {
        // 1 and 2 were equal; 1 went wrong, and 3 was filled from it. 2 is right.
        assert_eq!(verdict(&[(8, &[1, 2]), (7, &[1, 2]), (8, &[])]), Verdict::Undecided);
        // 1 and 3 were found equal while 2 was away.
        assert_eq!(verdict(&[(8, &[1, 3]), (7, &[1, 2]), (8, &[1, 3])]), Verdict::Undecided);
    }
}
