//! Taking a joining member into the in-sync set (J2, J3): it counts before the ECS is asked, and goes on counting
//! until a newer epoch, whatever the answer.

use common::ids::{Epoch, Seq};
use common::messages::ServerReport;
use common::view::Member;

use super::super::env::Env;
use super::super::limits::{JOIN_LAG_MAX, REPORT_AGAIN};
use super::super::partition::state::PartitionState;
use super::super::planted::PlantedBug;
use super::state::{Coordinator, JoiningVoter};

impl Coordinator {
    /// J2: lets a joining member that has almost caught up count, and proposes it when it has all that is committed.
    /// One at a time, as writes wait for it.
    pub(super) fn consider_joiners(&mut self, p: &mut PartitionState, env: &mut Env) {
        let (id, epoch, commit, last, now) = (p.id(), p.epoch(), p.commit(), p.log().last(), env.cx.now.time);
        let early = env.cx.planted(PlantedBug::ProposedBeforeCaughtUp);
        // While a promise of this server binds it, the former coordinator may still read: a joiner, which promised it
        // nothing, could be made coordinator and would wait for nothing. A coordinator whose copy has failed fills no
        // joiners: its successor does.
        let is_ready = self.active || env.cx.planted(PlantedBug::ProposedWhileBound);
        let Some(begin) = self.begin.filter(|_| is_ready && !p.is_failed()) else { return };
        let needed = commit.max(begin.seq);
        if self.voter.is_none() {
            // R6: the report to the ECS that is being rebuilt named the members proposed so far, and must stay
            // complete.
            if env.cx.promised.is_some_and(|promised| promised.generation > epoch.generation) {
                return;
            }
            let in_sync = &self.in_sync;
            let near = |acked: Seq| last.0 - acked.0 <= JOIN_LAG_MAX;
            let joiner = self.peers.iter().find(|(server, peer)| {
                !in_sync.contains(server)
                    && (peer.acked.is_some_and(near) || (early && peer.process.is_some()))
            });
            let Some((_, peer)) = joiner else { return };
            let (member, incarnation) = (peer.member, peer.incarnation());
            self.voter = Some(JoiningVoter { member, incarnation, noted: false, proposed: None, since: now });
            assert!(!self.in_sync.contains(&member.server), "a member of the in-sync set is proposed");
            p.note_proposed(env, member);
            return;
        }
        let peers = &self.peers;
        let Some(voter) = &mut self.voter else { return };
        let peer = peers.get(&voter.member.server);
        let caught_up = peer.is_some_and(|peer| peer.acked.is_some_and(|acked| acked >= needed));
        if let Some(peer) = peer.filter(|_| caught_up) {
            // After a restart the joiner's acknowledgements were counted anew: they are those of its new process.
            voter.incarnation = peer.incarnation();
        }
        let again = voter.proposed.is_none_or(|at| now.since(at) >= REPORT_AGAIN);
        if voter.noted && again && (caught_up || early) {
            voter.proposed = Some(now);
            let (member, incarnation) = (voter.member, voter.incarnation);
            let noted = p.durable_state();
            assert!(
                noted.proposed_in == epoch && noted.proposed == [member],
                "proposed before it is noted (J2)"
            );
            env.out.report(ServerReport::Propose { partition: id, epoch, member, incarnation });
        }
    }

    /// The note of a proposal is on disk.
    pub(crate) fn on_proposal_noted(
        &mut self,
        p: &PartitionState,
        env: &mut Env,
        epoch: Epoch,
        member: Member,
    ) {
        if epoch != p.epoch() {
            return;
        }
        if let Some(voter) = self.voter.as_mut().filter(|voter| voter.member == member) {
            voter.noted = true;
        }
        env.touched.insert(p.id());
    }
}
