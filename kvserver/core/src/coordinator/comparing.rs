//! Comparisons at the coordinator (`compare`): it orders the entry, asks for digests, judges them, and informs the
//! servers whose copies are wrong.

use std::collections::{BTreeMap, BTreeSet};

use common::codec::Wire;
use common::ids::{LogId, ServerId};
use common::messages::{Digest, Entry, ProcessId, ToReplica};
use common::operation::{Command, Operation};
use common::status::Difference;

use super::super::compare::{self, Comparison, Reported, Verdict, difference, groups, judge};
use super::super::env::Env;
use super::super::failed::fail;
use super::super::limits::{COMPARE_AGAIN, DIFFERENCES_KEPT};
use super::super::partition::state::PartitionState;
use super::state::Coordinator;

impl Coordinator {
    /// Begins a comparison, if there are replicas to compare with. Returns whether it did.
    pub(crate) fn begin_comparison(&mut self, p: &mut PartitionState, env: &mut Env) -> bool {
        let begins = self.active && !self.in_sync.is_empty() && self.comparison.is_none() && !p.is_failed();
        if begins {
            self.look_at_copies(p, env, None);
            assert!(self.is_comparing(), "partition {}: a comparison begins with its entry", p.id());
        }
        begins
    }

    fn look_at_copies(&mut self, p: &mut PartitionState, env: &mut Env, before: Option<BTreeSet<ServerId>>) {
        assert!(self.comparison.is_none(), "partition {}: one comparison at a time", p.id());
        let at = LogId { tag: p.epoch(), seq: p.log().last().next() };
        let operation = Operation::Compare { partition: p.id() };
        // Without an origin, as the coordinator itself asks: digests are made within the scrub's rate.
        let body = Command { origin: None, stamp: env.stamp(), operation }.to_wire();
        p.append(env, Entry { id: at, body });
        let (reported, asked) = (BTreeMap::new(), Some(env.cx.now.time));
        self.comparison = Some(Comparison { at, reported, asked, before, wrong: None });
    }

    /// Asks for digests, judges when all have come, and informs servers whose copies are wrong.
    pub(super) fn go_on_comparing(&mut self, p: &mut PartitionState, env: &mut Env) {
        let Some(comparison) = &mut self.comparison else { return };
        let (at, now) = (comparison.at, env.cx.now.time);
        let due = comparison.asked.is_none_or(|asked| now.since(asked) >= COMPARE_AGAIN);
        if let Some((wrong, digest)) = &comparison.wrong {
            if due {
                comparison.asked = Some(now);
                for &to in wrong.iter().filter(|to| !env.cx.is_me(**to)) {
                    let differs = ToReplica::Differs { at, digest: *digest };
                    env.out.send(to, differs.about(p.id(), p.epoch()));
                }
            }
            return;
        }
        if p.applied() < at.seq {
            return;
        }
        match env.integrity.digests.get((p.id(), at)) {
            Some(digest) => {
                let reported = Reported { digest, equal_with: p.durable_state().equal_with.clone() };
                comparison.reported.insert(env.cx.me.server, reported);
            }
            None if env.integrity.digests.is_making((p.id(), at)) => {}
            None => {
                self.comparison = None;
                return;
            }
        }
        let silent = self.in_sync.iter().copied().filter(|server| !comparison.reported.contains_key(server));
        let silent: Vec<ServerId> = silent.collect();
        if due && !silent.is_empty() {
            comparison.asked = Some(now);
            for &to in &silent {
                env.out.send(to, ToReplica::DigestRequest { at }.about(p.id(), p.epoch()));
            }
        }
        if silent.is_empty() && comparison.reported.contains_key(&env.cx.me.server) {
            self.judge_copies(p, env);
        }
    }

    fn judge_copies(&mut self, p: &mut PartitionState, env: &mut Env) {
        let Some(comparison) = self.comparison.take() else { return };
        let Comparison { at, reported, before, .. } = &comparison;
        let (wrong, right) = match judge(reported) {
            Verdict::Equal => {
                if before.is_some() {
                    env.out.alarm(format!(
                        "partition {}: the copies at {} differed once and are equal at entry {at}: one of these \
                         servers has read wrongly; look at memory and disks",
                        p.id(),
                        names(env, reported.keys())
                    ));
                }
                env.integrity.compared.equal += 1;
                forget_undecided(p, env);
                return note_equal(p, env, &comparison);
            }
            Verdict::Wrong(wrong, right) => (wrong, Some(right)),
            Verdict::Undecided => (BTreeSet::new(), None),
        };
        let Some(before) = before else { return self.look_at_copies(p, env, Some(wrong)) };
        // The second comparison must find the same copies wrong.
        let wrong = if *before == wrong { wrong } else { BTreeSet::new() };
        report_difference(p, env, &comparison, &wrong);
        let Some(right) = right.filter(|_| !wrong.is_empty()) else { return };
        if wrong.contains(&env.cx.me.server) {
            fail(p, env, &difference(*at));
        }
        let (asked, wrong) = (None, Some((wrong, right)));
        self.comparison = Some(Comparison { asked, wrong, ..comparison });
        self.go_on_comparing(p, env);
    }

    /// A member has sent its digest, or that it has none; then the comparison is repeated with the next pass of the
    /// scrub.
    pub(crate) fn on_digest_reply(
        &mut self,
        p: &PartitionState,
        env: &mut Env,
        from: ProcessId,
        at: LogId,
        digest: Option<Digest>,
        equal_with: Vec<ServerId>,
    ) {
        let counts = self.is_replica(from);
        let Some(comparison) = self.comparison.as_mut().filter(|now| now.at == at && counts) else { return };
        match digest.filter(|_| comparison.is_open()) {
            Some(digest) => _ = comparison.reported.insert(from.server, Reported { digest, equal_with }),
            None => self.comparison = None,
        }
        env.touched.insert(p.id());
    }
}

/// Drops the reported difference of this partition: it is settled, or is about to be reported anew.
fn forget_undecided(p: &PartitionState, env: &mut Env) {
    env.integrity.compared.differences.retain(|one| one.partition != p.id().0 || !one.wrong.is_empty());
}

/// All copies are equal: notes it at each copy that does not know it.
fn note_equal(p: &mut PartitionState, env: &mut Env, comparison: &Comparison) {
    let at = comparison.at;
    let servers: Vec<ServerId> = comparison.reported.keys().copied().collect();
    for (&to, one) in &comparison.reported {
        if one.equal_with == servers {
            continue;
        }
        let servers = servers.clone();
        if env.cx.is_me(to) {
            compare::on_equal(p, env, at, servers);
        } else {
            env.out.send(to, ToReplica::Equal { at, servers }.about(p.id(), p.epoch()));
        }
    }
}

fn report_difference(p: &PartitionState, env: &mut Env, comparison: &Comparison, wrong: &BTreeSet<ServerId>) {
    let Comparison { at, reported, .. } = comparison;
    let groups = groups(reported);
    let equal: Vec<String> = groups.iter().map(|group| names(env, group.iter())).collect();
    let differ = format!("partition {}: copies differ at entry {at}: {}", p.id(), equal.join(" / "));
    if wrong.is_empty() {
        env.out.alarm(format!(
            "{differ}. It cannot be told which is right, and nothing is done. Do not move or drain these servers; see \
             \"Copies differ\" in the operations guide"
        ));
    } else {
        let at = names(env, wrong.iter());
        env.out.alarm(format!("{differ}. That at {at} is wrong, and is filled anew"));
    }
    let found =
        Difference { partition: p.id().0, entry: *at, wrong: wrong.iter().copied().collect(), groups };
    forget_undecided(p, env);
    let differences = &mut env.integrity.compared.differences;
    if differences.len() == DIFFERENCES_KEPT {
        differences.remove(0);
    }
    differences.push(found);
    assert!(differences.len() <= DIFFERENCES_KEPT, "differences are bounded");
}

/// Servers by their addresses, for people.
fn names<'a>(env: &Env, servers: impl Iterator<Item = &'a ServerId>) -> String {
    let address = |server: &ServerId| {
        env.cx.view.servers.get(server).map_or_else(|| server.short(), |info| info.address.clone())
    };
    servers.map(address).collect::<Vec<_>>().join(", ")
}
