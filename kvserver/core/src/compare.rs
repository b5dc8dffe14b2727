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
//! since it was filled ([`DurableState::equal_with`]), and the majority decides only if that is, for every one of the
//! copies compared, all of the others. A copy that was filled anew has nothing there. Otherwise the server reports that
//! the copies differ and which agree, and nothing is changed.
//!
//! A difference is confirmed by a second comparison at a new entry before it is reported or acted on, as the first
//! reading may have gone wrong.
//!
//! A wrong copy is marked as failed by its own server (`failed`). The coordinator sends it the digest of the others,
//! again and again until the epoch ends, and the server checks that its own was another one. Entries of a client's
//! `verify` are not followed up.
//!
//! [`DurableState::equal_with`]: super::partition::durable_state::DurableState::equal_with

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use common::ids::{LogId, PartitionId, ServerId};
use common::messages::{Digest, ToCoordinator};
use common::time::Time;

use super::env::Env;
use super::failed::fail;
use super::partition::state::PartitionState;

/// The verdict on a set of digests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All copies are equal.
    Equal,
    /// These copies differ from the others, which are more than half and have this digest.
    Wrong(BTreeSet<ServerId>, Digest),
    /// They differ, and it is not known which is right.
    Undecided,
}

/// The answer of one copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reported {
    pub(crate) digest: Digest,
    pub(crate) equal_with: Vec<ServerId>,
}

/// The verdict: more than half of the copies are right, if all were equal before.
pub(crate) fn judge(reported: &BTreeMap<ServerId, Reported>) -> Verdict {
    assert!(!reported.is_empty(), "a comparison without copies");
    let agree = |right: &Reported| reported.values().filter(|other| other.digest == right.digest).count();
    let were_equal =
        reported.values().all(|one| reported.keys().all(|server| one.equal_with.contains(server)));
    let Some(right) = reported.values().find(|one| 2 * agree(one) > reported.len()).map(|one| one.digest)
    else {
        return Verdict::Undecided;
    };
    let wrong: BTreeSet<ServerId> =
        reported.iter().filter(|(_, one)| one.digest != right).map(|(&server, _)| server).collect();
    match wrong.is_empty() {
        true => Verdict::Equal,
        false if were_equal => {
            assert!(2 * wrong.len() < reported.len(), "fewer than half are wrong");
            Verdict::Wrong(wrong, right)
        }
        false => Verdict::Undecided,
    }
}

/// Servers with equal digests as groups, the largest first.
pub(crate) fn groups(reported: &BTreeMap<ServerId, Reported>) -> Vec<Vec<ServerId>> {
    let mut groups: Vec<(Digest, Vec<ServerId>)> = Vec::new();
    for (&server, one) in reported {
        match groups.iter_mut().find(|(digest, _)| *digest == one.digest) {
            Some((_, servers)) => servers.push(server),
            None => groups.push((one.digest, vec![server])),
        }
    }
    let in_groups: usize = groups.iter().map(|(_, servers)| servers.len()).sum();
    assert_eq!(in_groups, reported.len(), "each copy is in one group");
    groups.sort_by_key(|(_, servers)| std::cmp::Reverse(servers.len()));
    groups.into_iter().map(|(_, servers)| servers).collect()
}

/// A comparison under way, at its coordinator.
#[derive(Debug)]
pub(crate) struct Comparison {
    pub(crate) at: LogId,
    pub(crate) reported: BTreeMap<ServerId, Reported>,
    /// When digests were last asked for, or sent to wrong copies. At first replicas send theirs unasked.
    pub(crate) asked: Option<Time>,
    /// The copies that were wrong in the first comparison, if this is the second.
    pub(crate) before: Option<BTreeSet<ServerId>>,
    /// The copies that were found wrong and are to be informed, and the digest of the others.
    pub(crate) wrong: Option<(BTreeSet<ServerId>, Digest)>,
}

impl Comparison {
    /// Whether digests are still missing.
    pub(crate) fn is_open(&self) -> bool {
        self.wrong.is_none()
    }

    /// Asserts what must be true after every step. `members`: the servers whose copies are compared.
    pub(crate) fn invariants(&self, members: &BTreeSet<ServerId>) {
        assert!(self.reported.keys().all(|server| members.contains(server)), "a copy that is not compared");
        if let Some((wrong, right)) = &self.wrong {
            assert!(!wrong.is_empty(), "no copy is wrong, and one is to be informed");
            assert!(
                wrong.iter().all(|server| members.contains(server)),
                "a copy that is not compared is wrong"
            );
            assert_eq!(self.before.as_ref(), Some(wrong), "copies are found wrong twice");
            let differs =
                |server: &ServerId| self.reported.get(server).is_none_or(|one| one.digest != *right);
            assert!(wrong.iter().all(differs), "a copy that is right is found wrong");
        }
    }
}

/// What is wrong with a copy that differs from most others.
pub(crate) fn difference(at: LogId) -> String {
    format!("the copy here differs from most others at entry {at}, seen twice")
}

/// The copies of these servers were found equal. If this message is lost, the next comparison repeats it.
pub(crate) fn on_equal(p: &mut PartitionState, env: &mut Env, at: LogId, servers: Vec<ServerId>) {
    let assignment = env.cx.view.assignment(p.id());
    let counts = |server: &ServerId| assignment.is_some_and(|now| now.in_sync_member(*server).is_some());
    let known = servers.contains(&env.cx.me.server) && servers.iter().all(counts);
    let is_mine = known && env.integrity.digests.get((p.id(), at)).is_some();
    if is_mine && !p.is_failed() {
        p.note_equal_with(env, servers);
    }
}

/// The coordinator asks for the digest of this copy.
pub(crate) fn on_digest_request(p: &PartitionState, env: &mut Env, from: ServerId, at: LogId) {
    let partition = p.id();
    let digest = env.integrity.digests.get((partition, at));
    // The entry is still to be applied, or its digest is being made.
    let awaited = p.applied() < at.seq || env.integrity.digests.is_making((partition, at));
    if digest.is_some() || !awaited {
        send_digest(p, env, from, at, digest);
    }
}

fn send_digest(p: &PartitionState, env: &mut Env, to: ServerId, at: LogId, digest: Option<Digest>) {
    let equal_with = p.durable_state().equal_with.clone();
    env.out.send(to, ToCoordinator::DigestReply { at, digest, equal_with }.about(p.id(), p.epoch()));
}

/// The coordinator has found that this copy differs from most others. Returns whether it has failed now.
pub(crate) fn on_differs(
    p: &mut PartitionState,
    env: &mut Env,
    from: ServerId,
    at: LogId,
    digest: Digest,
) -> bool {
    match env.integrity.digests.get((p.id(), at)) {
        Some(own) if own != digest => fail(p, env, &difference(at)),
        // The digest was another process's, or is not the one that was sent: the next comparison finds the difference
        // again.
        digest => {
            send_digest(p, env, from, at, digest);
            false
        }
    }
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
        if let Some(partition) = self.now {
            let waited = self.waiting.remove(&partition);
            assert!(waited, "partition {partition}: it has one turn");
        }
        self.now
    }

    /// Asserts what must be true after every step.
    pub(crate) fn invariants(&self) {
        assert_eq!(self.order.len(), self.waiting.len(), "each partition has one turn");
        assert!(self.order.iter().all(|partition| self.waiting.contains(partition)), "it waits for its turn");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdict on digests with these sums, of servers from 1 on, each with the servers that it was equal with.
    fn verdict(copies: &[(u128, &[u128])]) -> Verdict {
        let reported = |&(sum, equal_with): &(u128, &[u128])| Reported {
            digest: Digest { sum, records: 1, bytes: 1 },
            equal_with: equal_with.iter().copied().map(ServerId).collect(),
        };
        judge(&copies.iter().zip(1..).map(|(copy, server)| (ServerId(server), reported(copy))).collect())
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
