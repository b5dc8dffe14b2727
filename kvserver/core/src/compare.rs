//! Comparing the copies of a partition with each other, as checksums do not show errors of the program or of memory.
//!
//! # How
//!
//! When the scrub has read a partition through, its coordinator orders an entry that changes nothing
//! ([`Operation::Compare`]). Each copy makes a digest of its records as they are at that entry, beside everything else
//! and within the rate of the scrub, and the coordinator asks for them. Only the in-sync copies of one epoch are
//! compared; a new epoch ends the comparison. One partition at a time at each coordinator.
//!
//! # Which copy is right
//!
//! All copies applied the same entries to the same records, so they are equal or one is wrong. A copy that fails its
//! checksums is wrong, and needs no comparison: its server stops (`damage`). Where all pass them, more than half that
//! agree are right *if all of them were equal before*: then the difference arose since, in each copy by itself, and the
//! same error does not happen twice by accident. Without that it cannot be known. Of two copies that differ either may
//! be wrong. And copies are made of copies: a joiner that was filled from a wrong coordinator agrees with it, and the
//! third one, which is right, would be outvoted. So each copy keeps in its mark the copies that it was found equal with
//! since it was filled ([`Mark::equal_with`]), and the majority decides only if that is, for every one of the copies
//! compared, all of the others. A copy that was filled anew has nothing there. Otherwise the server reports that the
//! copies differ and which agree, and nothing is changed.
//!
//! A difference is confirmed by a second comparison at a new entry before it is reported or acted on, as the first
//! reading may have gone wrong.
//!
//! A wrong copy is marked as failed by its own server (`failed`). The coordinator sends it the digest of the others,
//! again and again until the epoch ends, and the server checks that its own was another one. Entries of a client's
//! `verify` are not followed up.
//!
//! [`Mark::equal_with`]: super::copy::Mark::equal_with

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use common::codec::Wire;
use common::ids::{LogId, PartitionId, ServerId};
use common::messages::{Digest, Entry, Sender, ToCoordinator, ToReplica};
use common::operation::{Command, Operation};
use common::status::Difference;
use common::time::Time;

use super::copy::{PartitionCopy, Role};
use super::env::Env;
use super::limits::{COMPARE_AGAIN, DIFFERENCES_KEPT};

/// The verdict on a set of digests.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// All copies are equal.
    Equal,
    /// These copies differ from the others, which are more than half and have this digest.
    Wrong(BTreeSet<ServerId>, Digest),
    /// They differ, and it is not known which is right.
    Undecided,
}

/// The answer of one copy.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    digest: Digest,
    equal_with: Vec<ServerId>,
}

/// The verdict: more than half of the copies are right, if all were equal before.
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

/// Servers with equal digests as groups, the largest first.
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
    /// When digests were last asked for, or sent to wrong copies. At first replicas send theirs unasked.
    asked: Option<Time>,
    /// The copies that were wrong in the first comparison, if this is the second.
    before: Option<BTreeSet<ServerId>>,
    /// The copies that were found wrong and are to be informed, and the digest of the others.
    wrong: Option<(BTreeSet<ServerId>, Digest)>,
}

impl Comparison {
    /// Whether digests are still missing.
    pub(crate) fn is_open(&self) -> bool {
        self.wrong.is_none()
    }
}

impl PartitionCopy {
    /// Begins a comparison, if this server coordinates the partition and has replicas to compare with. Returns whether
    /// it did.
    pub(crate) fn begin_comparison(&mut self, env: &mut Env) -> bool {
        let Role::Coordinator(coordinator) = &self.role else { return false };
        let begins = coordinator.active && coordinator.has_replicas() && coordinator.comparison.is_none();
        if begins && !self.disk.mark.failed {
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
        // Without an origin, as the coordinator itself asks: digests are made within the scrub's rate.
        let body = Command { origin: None, stamp: env.stamp(), operation }.to_wire();
        self.append(env, Entry { id: at, body });
        env.touched.insert(self.id);
        let Role::Coordinator(coordinator) = &mut self.role else { return };
        coordinator.comparison =
            Some(Comparison { at, told: BTreeMap::new(), asked: Some(env.cx.now.time), before, wrong: None });
    }

    fn end_comparison(&mut self) {
        if let Role::Coordinator(coordinator) = &mut self.role {
            coordinator.comparison = None;
        }
    }

    /// Asks for digests, judges when all have come, and informs servers whose copies are wrong.
    pub(super) fn go_on_comparing(&mut self, env: &mut Env) {
        let (partition, epoch, applied, now) = (self.id, self.epoch, self.applied, env.cx.now.time);
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
                    if !env.cx.is_me(to) {
                        env.out.send(to, ToReplica::Differs { at, digest: *digest }.about(partition, epoch));
                    }
                }
            }
            return;
        }
        if applied < at.seq {
            return;
        }
        match env.integrity.digests.get((partition, at)) {
            Some(digest) => {
                let told = Told { digest, equal_with: self.disk.mark.equal_with.clone() };
                comparison.told.insert(env.cx.me.server, told);
            }
            None if env.integrity.digests.is_making((partition, at)) => {}
            None => return self.end_comparison(),
        }
        let silent: Vec<ServerId> =
            replicas.iter().copied().filter(|server| !comparison.told.contains_key(server)).collect();
        if due && !silent.is_empty() {
            comparison.asked = Some(now);
            for &to in &silent {
                env.out.send(to, ToReplica::DigestRequest { at }.about(partition, epoch));
            }
        }
        if silent.is_empty() && comparison.told.contains_key(&env.cx.me.server) {
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
                    env.out.alarm(format!(
                        "partition {}: the copies at {} differed once and are equal at entry {at}: one of these \
                         servers has read wrongly; look at memory and disks",
                        self.id,
                        names(env, told.keys())
                    ));
                }
                env.integrity.compared.equal += 1;
                self.forget_undecided(env);
                return self.note_equal(env, &comparison);
            }
            Verdict::Wrong(wrong, right) => (wrong, Some(right)),
            Verdict::Undecided => (BTreeSet::new(), None),
        };
        let Some(before) = before else { return self.look_at_copies(env, Some(wrong)) };
        // The second comparison must find the same copies wrong.
        let wrong = if *before == wrong { wrong } else { BTreeSet::new() };
        self.report_difference(env, &comparison, &wrong);
        let Some(right) = right.filter(|_| !wrong.is_empty()) else { return };
        let me = env.cx.me.server;
        if wrong.contains(&me) {
            self.fail(env, &difference(*at));
        }
        if let Role::Coordinator(coordinator) = &mut self.role {
            let (asked, wrong) = (None, Some((wrong, right)));
            coordinator.comparison = Some(Comparison { asked, wrong, ..comparison });
        }
        self.go_on_comparing(env);
    }

    /// Drops the reported difference of this partition: it is settled, or is about to be reported anew.
    fn forget_undecided(&self, env: &mut Env) {
        env.integrity.compared.differences.retain(|one| one.partition != self.id.0 || !one.wrong.is_empty());
    }

    /// All copies are equal: notes it at each copy that does not know it.
    fn note_equal(&mut self, env: &mut Env, comparison: &Comparison) {
        let (partition, epoch, at) = (self.id, self.epoch, comparison.at);
        let servers: Vec<ServerId> = comparison.told.keys().copied().collect();
        for (&to, one) in &comparison.told {
            if one.equal_with == servers {
                continue;
            }
            let servers = servers.clone();
            if env.cx.is_me(to) {
                self.on_equal(env, at, servers);
            } else {
                env.out.send(to, ToReplica::Equal { at, servers }.about(partition, epoch));
            }
        }
    }

    /// The copies of these servers were found equal. If this message is lost, the next comparison repeats it.
    pub(crate) fn on_equal(&mut self, env: &mut Env, at: LogId, servers: Vec<ServerId>) {
        let counts = |server: &ServerId| {
            let assignment = env.cx.view.assignment(self.id);
            assignment.is_some_and(|now| now.in_sync_member(*server).is_some())
        };
        let known = servers.contains(&env.cx.me.server) && servers.iter().all(counts);
        let is_mine = known && env.integrity.digests.get((self.id, at)).is_some();
        if is_mine && !self.disk.mark.failed && self.disk.mark.equal_with != servers {
            self.disk.mark.equal_with = servers;
            self.persist_mark(env);
        }
    }

    fn report_difference(&mut self, env: &mut Env, comparison: &Comparison, wrong: &BTreeSet<ServerId>) {
        let Comparison { at, told, .. } = comparison;
        let groups = groups(told);
        let equal: Vec<String> = groups.iter().map(|group| names(env, group.iter())).collect();
        let differ = format!("partition {}: copies differ at entry {at}: {}", self.id, equal.join(" / "));
        if wrong.is_empty() {
            env.out.alarm(format!(
                "{differ}. It cannot be told which is right, and nothing is done. Do not move or drain these servers; \
                 see \"Copies differ\" in the operations guide"
            ));
        } else {
            env.out.alarm(format!(
                "{differ}. That at {} is wrong, and is filled anew",
                names(env, wrong.iter())
            ));
        }
        let found =
            Difference { partition: self.id.0, entry: *at, wrong: wrong.iter().copied().collect(), groups };
        self.forget_undecided(env);
        if env.integrity.compared.differences.len() == DIFFERENCES_KEPT {
            env.integrity.compared.differences.remove(0);
        }
        env.integrity.compared.differences.push(found);
    }

    /// A digest of this copy is made, or will not be made. A coordinator that compares waits for it.
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
        let digest = env.integrity.digests.get((partition, at));
        let equal_with = self.disk.mark.equal_with.clone();
        // The entry is still to be applied, or its digest is being made.
        let awaited = self.applied < at.seq || env.integrity.digests.is_making((partition, at));
        if digest.is_some() || !awaited {
            env.out.send(from, ToCoordinator::DigestReply { at, digest, equal_with }.about(partition, epoch));
        }
    }

    /// A member has sent its digest, or that it has none; then the comparison is repeated with the next pass of the
    /// scrub.
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

    /// The coordinator has found that this copy differs from most others.
    pub(crate) fn on_differs(&mut self, env: &mut Env, from: ServerId, at: LogId, digest: Digest) {
        let (partition, epoch) = (self.id, self.epoch);
        match env.integrity.digests.get((partition, at)) {
            Some(own) if own != digest => self.fail(env, &difference(at)),
            // The digest was another process's, or is not the one that was sent: the next comparison finds the
            // difference again.
            digest => {
                let equal_with = self.disk.mark.equal_with.clone();
                env.out.send(
                    from,
                    ToCoordinator::DigestReply { at, digest, equal_with }.about(partition, epoch),
                );
            }
        }
    }
}

fn difference(at: LogId) -> String {
    format!("the copy here differs from most others at entry {at}, seen twice")
}

/// Servers by their addresses, for people.
fn names<'a>(env: &Env, servers: impl Iterator<Item = &'a ServerId>) -> String {
    let address = |server: &ServerId| {
        env.cx.view.servers.get(server).map_or_else(|| server.short(), |info| info.address.clone())
    };
    servers.map(address).collect::<Vec<_>>().join(", ")
}

/// Partitions that wait for a comparison. A server compares one after the other, and a partition that waits keeps its
/// turn when others are read through again meanwhile.
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

    /// The verdict on digests with these sums, of servers from 1 on, each with the servers that it was equal with.
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
