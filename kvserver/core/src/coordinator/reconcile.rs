//! P1: a new coordinator finds the log of its epoch before it does anything else.
//!
//! A view that names this server does not make its log the right one, as its disk may have gone back. Every in-sync
//! member says what its log has, and the log with the largest last `(tag, seq)` is the log of the epoch. One of them
//! lost nothing, and none has an entry beyond what that one acknowledged but of the same or a later coordinator, so
//! that log has all that was ever acknowledged. If it is another member's, what follows the common point is fetched,
//! with its tags. Then the coordinator appends a *no-op* with its own tag: from there on no log of an older epoch is
//! larger, and nothing is committed in the epoch before it (figure 8 of the Raft paper).
//!
//! Where the other log begins behind this one's end, entries alone do not help: the ECS is asked to name that member.
//! Where this copy has applied what the log of the epoch lacks, no log can be right: the partition stops, loudly.

use common::codec::Wire;
use common::ids::{LogId, Seq, ServerId};
use common::messages::{Entry, ProcessId, ServerReport, ToReplica};
use common::operation::{Command, Operation};
use common::time::WallTime;
use common::view::Member;

use super::super::env::Env;
use super::super::limits::{REPORT_AGAIN, RESEND};
use super::super::partition::state::PartitionState;
use super::super::planted::PlantedBug;
use super::super::validate::check_entries;
use super::progress::{Claim, Progress, Stage};
use super::state::{Coordinator, Disagreement, Fetch};

impl Coordinator {
    /// The members' claims, if all of them have answered.
    fn claims(&self, env: &Env) -> Option<Vec<(ServerId, Claim)>> {
        let said = |server: &ServerId| {
            let claim = self.peers.get(server).and_then(|peer| peer.claim.clone());
            claim.map(|claim| (*server, claim))
        };
        let claims: Vec<_> = self.in_sync.iter().filter_map(said).collect();
        let all = self.in_sync.len();
        let enough = self.enough_by_mistake(env, claims.len()).unwrap_or(claims.len() == all);
        enough.then_some(claims)
    }

    /// Planted bugs: the log of the epoch is chosen before all have answered.
    fn enough_by_mistake(&self, env: &Env, claims: usize) -> Option<bool> {
        if env.cx.planted(PlantedBug::SyncOfMajority) {
            Some(2 * (claims + 1) > self.in_sync.len() + 1)
        } else if env.cx.planted(PlantedBug::LearnerAnswersSync) {
            Some(self.peers.values().filter(|peer| peer.claim.is_some()).count() >= self.in_sync.len())
        } else {
            None
        }
    }

    /// P1: takes the next step, if it is possible.
    pub(super) fn choose_log(&mut self, p: &mut PartitionState, env: &mut Env) {
        self.report_disagreement(p, env);
        if self.begin.is_some() || self.disagreement.is_some() || !p.is_idle() {
            return;
        }
        if self.fetch.is_some() {
            return self.ask_for_entries(p, env);
        }
        let Some(claims) = self.claims(env) else { return };
        match largest(env, claims).filter(|(_, claim)| is_larger(env, claim.last, p.log().last_id())) {
            Some((from, claim)) if !env.cx.planted(PlantedBug::OwnLogAuthoritative) => {
                self.fetch(p, env, from, &claim);
            }
            _ => self.begin_epoch(p, env),
        }
    }

    /// P1: another member's log is the log of the epoch, so its entries are fetched.
    fn fetch(&mut self, p: &PartitionState, env: &mut Env, from: ServerId, claim: &Claim) {
        assert!(self.fetch.is_none(), "partition {}: entries are fetched from one member", p.id());
        let common = p.log().common_point(claim.base, claim.last, &claim.runs);
        let (partition, epoch, now, reaching) = (p.id(), p.epoch(), env.cx.now.time, p.reaching());
        let me = env.cx.my_member();
        match common {
            Some(common) if common.seq >= reaching => {
                self.fetch = Some(Fetch { from, prev: common, target: claim.last, asked: None });
                self.ask_for_entries(p, env);
            }
            None if reaching <= claim.base.seq => {
                if self.yielded.is_none_or(|at| now.since(at) >= REPORT_AGAIN) {
                    self.yielded = Some(now);
                    env.out.report(ServerReport::Yield { partition, epoch, to: from });
                }
            }
            _ => self.stop_for_disagreement(p, env, me, reaching),
        }
    }

    fn ask_for_entries(&mut self, p: &PartitionState, env: &mut Env) {
        let (partition, epoch, now) = (p.id(), p.epoch(), env.cx.now.time);
        let Some(fetch) = &mut self.fetch else { return };
        assert!(self.in_sync.contains(&fetch.from), "partition {partition}: fetched from no member (P1)");
        if fetch.asked.is_none_or(|at| now.since(at) >= RESEND) {
            fetch.asked = Some(now);
            env.out.send(fetch.from, ToReplica::FetchRequest { prev: fetch.prev }.about(partition, epoch));
        }
    }

    /// Entries of the log of the epoch. They reach the disk in this order, perhaps in parts, and nothing depends on
    /// them before the no-op after them is durable.
    pub(crate) fn on_fetched(
        &mut self,
        p: &mut PartitionState,
        env: &mut Env,
        from: ProcessId,
        prev: LogId,
        mut entries: Vec<Entry>,
    ) {
        let (partition, epoch) = (p.id(), p.epoch());
        let Some(fetch) = self.fetch.as_mut().filter(|fetch| fetch.from == from.server && fetch.prev == prev)
        else {
            return;
        };
        let is_claimed = self.peers.get(&from.server).is_some_and(|peer| peer.process == Some(from));
        entries.retain(|entry| entry.id.seq <= fetch.target.seq);
        if let Err(reason) = check_entries(prev, &entries, epoch) {
            return env.out.warn(format!("partition {partition}: fetched entries are dropped: {reason}"));
        }
        let Some(last) = entries.last().map(|entry| entry.id).filter(|_| is_claimed) else { return };
        (fetch.prev, fetch.asked) = (last, None);
        assert!(self.begin.is_none(), "partition {partition}: fetched after the epoch has begun");
        let is_whole = last.seq == fetch.target.seq;
        if is_whole {
            self.fetch = None;
        }
        // Only the first part finds entries of its own behind the common point.
        p.cut(env, prev.seq);
        for entry in entries {
            p.append(env, entry);
        }
        env.touched.insert(partition);
        if is_whole {
            self.begin_epoch(p, env);
        }
    }

    /// The log is that of the epoch: its no-op is appended, and members that have answered are brought in step.
    fn begin_epoch(&mut self, p: &mut PartitionState, env: &mut Env) {
        assert!(self.begin.is_none() && self.fetch.is_none(), "partition {}: an epoch begins once", p.id());
        let begin = if env.cx.planted(PlantedBug::NoOpLeftOut) {
            p.log().last_id()
        } else {
            let id = LogId { tag: p.epoch(), seq: p.log().last().next() };
            // Without a stamp, so that nothing expires by it: the clocks of the members may not be known yet.
            let command = Command { origin: None, stamp: WallTime::default(), operation: Operation::NoOp {} };
            p.append(env, Entry { id, body: command.to_wire() });
            id
        };
        self.begin = Some(begin);
        assert!(p.log().last_id() == begin, "partition {}: an epoch begins with its no-op", p.id());
        let answered = |(server, peer): (&ServerId, &Progress)| peer.claim.is_some().then_some(*server);
        let answered: Vec<ServerId> = self.peers.iter().filter_map(answered).collect();
        for server in answered {
            self.bring_in_step(p, env, server);
        }
    }

    /// P2: a member has committed entries that the log of this epoch lacks. Its log is not the wrong one, so no log is
    /// cut, and nothing is served.
    pub(crate) fn on_member_ahead(
        &mut self,
        p: &PartitionState,
        env: &mut Env,
        from: ProcessId,
        commit: Seq,
    ) {
        let Some(peer) = self.peers.get(&from.server) else { return };
        if peer.process != Some(from) || self.disagreement.is_some() {
            return;
        }
        let member = peer.member;
        if self.in_sync.contains(&from.server) {
            self.stop_for_disagreement(p, env, member, commit);
        } else {
            self.keep_aside(p, env, member, commit);
        }
    }

    /// V4a: a joining member has more than the log of the epoch. The partition goes on, and that copy is kept as it is,
    /// not cut and not counted, until a person has decided.
    fn keep_aside(&mut self, p: &PartitionState, env: &mut Env, member: Member, commit: Seq) {
        let (partition, now) = (p.id(), env.cx.now.time);
        let Some(peer) = self.peers.get_mut(&member.server) else { return };
        let Some(claim) = peer.claim.clone() else { return };
        if let Stage::Snapshot(sending) = &mut peer.stage {
            sending.close(env, partition);
        }
        peer.stage = Stage::Probe { asked: Some(now) };
        peer.retained = None;
        peer.on_moved(now);
        let last = claim.last.seq.max(commit);
        let what = match p.log().common_point(claim.base, claim.last, &claim.runs) {
            Some(LogId { seq: common, .. }) => {
                let more = last.0.saturating_sub(common.0);
                format!("{more} entries behind entry {common} that no in-sync copy has")
            }
            None => format!("entries up to {last} that the log here begins too late to be compared with"),
        };
        env.out.alarm(format!(
            "partition {partition}: server {} holds {what}, and joins no more with this directory: the partition went \
             on without it. When `kvclient status` shows that no partition has its only copy there, stop that server, \
             keep its directory if these entries may matter, and start it with an empty one",
            member.server.short()
        ));
    }

    fn stop_for_disagreement(&mut self, p: &PartitionState, env: &mut Env, member: Member, commit: Seq) {
        let (partition, epoch, last, now) = (p.id(), p.epoch(), p.log().last(), env.cx.now.time);
        assert!(self.disagreement.is_none(), "partition {partition}: it stops once");
        self.active = false;
        self.disagreement = Some(Disagreement { member, commit, reported: now });
        env.out.alarm(format!(
            "COPIES DISAGREE: partition {partition}: entries up to {commit} are committed at server {}, and the log of \
             epoch {epoch} does not have them (it ends at {last}). More disks have lost what they had than can be made \
             good. The partition is offline; `kvclient admin recover-partition {partition}` shows the copies that \
             there are and brings back the one that is chosen",
            member.server.short()
        ));
        env.out.report(ServerReport::CopiesDisagree { partition, epoch, member, commit });
    }

    fn report_disagreement(&mut self, p: &PartitionState, env: &mut Env) {
        let (partition, epoch, now) = (p.id(), p.epoch(), env.cx.now.time);
        let Some(Disagreement { member, commit, reported }) = &mut self.disagreement else { return };
        if now.since(*reported) >= REPORT_AGAIN {
            *reported = now;
            let (member, commit) = (*member, *commit);
            env.out.report(ServerReport::CopiesDisagree { partition, epoch, member, commit });
        }
    }
}

/// The claim with the largest last entry, by tag and position.
fn largest(env: &Env, claims: Vec<(ServerId, Claim)>) -> Option<(ServerId, Claim)> {
    if env.cx.planted(PlantedBug::LargestBySeqAlone) {
        return claims.into_iter().max_by_key(|(_, claim)| claim.last.seq);
    }
    claims.into_iter().max_by_key(|(_, claim)| claim.last)
}

/// Whether a log that ends at `last` is larger than one that ends at `own`.
fn is_larger(env: &Env, last: LogId, own: LogId) -> bool {
    if env.cx.planted(PlantedBug::LargestBySeqAlone) { last.seq > own.seq } else { last > own }
}
