//! What must be true of a coordinator after every step.

use std::collections::BTreeSet;

use common::ids::ServerId;

use super::super::env::Env;
use super::super::partition::state::PartitionState;
use super::super::planted::PlantedBug;
use super::super::process::Process;
use super::super::requests::ReadKind;
use super::state::Coordinator;

impl Coordinator {
    /// Asserts what must be true after every step.
    pub(crate) fn invariants(&self, p: &PartitionState, env: &Env) {
        self.epoch_invariants(p, env);
        self.commit_invariants(p, env);
        self.member_invariants(p, env);
        self.voter_invariants(p, env);
        self.read_invariants(p, env);
        if let Some(comparison) = &self.comparison {
            let copies: BTreeSet<ServerId> = self.in_sync.iter().copied().chain([env.cx.me.server]).collect();
            comparison.invariants(&copies);
            assert!(
                comparison.at.tag == p.epoch() && comparison.at.seq <= p.log().last(),
                "nothing is compared"
            );
        }
    }

    /// P1 to P3: how far it is with becoming active.
    fn epoch_invariants(&self, p: &PartitionState, env: &Env) {
        let last = p.log().last();
        assert!(!self.active || self.begin.is_some(), "active before the log of the epoch was found");
        assert!(!self.active || self.disagreement.is_none(), "active although the copies disagree");
        assert!(!self.active || self.bounds.is_empty(), "active, and promises of members are remembered");
        assert!(!self.bounds.contains_key(&Process::from(env.cx.me)), "it waits for its own lease");
        assert!(self.ping_floor <= env.promises.leases.next_ping(), "leases of pings to come are needed");
        assert!(self.ticked <= last, "a tick of log time is cut");
        if let Some(fetch) = &self.fetch {
            assert!(self.begin.is_none(), "the log of the epoch is found, and entries are fetched");
            assert!(fetch.prev.seq < fetch.target.seq, "nothing is left to fetch");
            assert!(p.log().contains(fetch.prev), "entries are fetched behind one that is not here");
            assert!(self.in_sync.contains(&fetch.from), "entries are fetched from no member");
        }
        let Some(begin) = self.begin else { return };
        assert!(begin.seq <= last, "the no-op of the epoch is never cut");
        assert!(p.log().contains(begin) || begin.seq < p.log().base().seq, "the no-op is another entry");
        let leaves_no_op_out =
            env.cx.planted(PlantedBug::NoOpLeftOut) || env.cx.planted(PlantedBug::ServesBeforeSync);
        assert!(begin.tag == p.epoch() || leaves_no_op_out, "an epoch begins with its own no-op");
    }

    /// W1: what is committed in this epoch is on the disks of all members.
    fn commit_invariants(&self, p: &PartitionState, env: &Env) {
        const BUGS: [PlantedBug; 5] = [
            PlantedBug::NoOpLeftOut,
            PlantedBug::ServesBeforeSync,
            PlantedBug::AckWithoutOneReplica,
            PlantedBug::OwnCopyBeforeFsync,
            PlantedBug::FetchedNotDurable,
        ];
        let has_committed = self.begin.is_some_and(|begin| p.commit() >= begin.seq);
        if !has_committed || BUGS.iter().any(|bug| env.cx.planted(*bug)) {
            return;
        }
        assert!(p.commit() <= p.log().durable(), "committed before it is on this disk");
        for server in &self.in_sync {
            let acked = self.peers.get(server).and_then(|peer| peer.acked_by_any);
            assert!(acked >= Some(p.commit()), "committed before all members have it");
        }
    }

    fn member_invariants(&self, p: &PartitionState, env: &Env) {
        let voter = self.voter.as_ref().map(|voter| voter.member);
        let assignment = env.cx.view.assignment(p.id());
        assert!(
            self.in_sync.iter().all(|server| self.peers.contains_key(server)),
            "each member is sent the log"
        );
        assert!(!self.peers.contains_key(&env.cx.me.server), "a coordinator sends itself nothing");
        if let Some(assignment) = assignment {
            let listed: Vec<ServerId> = assignment.replicas().map(|member| member.server).collect();
            assert_eq!(self.in_sync, listed, "the in-sync set is that of the view");
        }
        for (server, peer) in &self.peers {
            assert_eq!(peer.member.server, *server, "a member by another name");
            let is_listed = assignment
                .is_some_and(|now| now.in_sync.contains(&peer.member) || now.joining.contains(&peer.member));
            assert!(is_listed || voter == Some(peer.member), "a member that no view lists");
            peer.invariants(p.log().last(), p.commit(), env.cx.latest());
        }
    }

    /// J2, J3: the member that counts before the ECS has answered.
    fn voter_invariants(&self, p: &PartitionState, env: &Env) {
        let Some(voter) = &self.voter else { return };
        assert!(!self.in_sync.contains(&voter.member.server), "a member counts once");
        let peer = self.peers.get(&voter.member.server);
        assert!(peer.is_some_and(|peer| peer.member == voter.member), "a member counts and is sent nothing");
        assert!(self.begin.is_some(), "a member is proposed before the log of the epoch was found");
        assert!(voter.noted || voter.proposed.is_none(), "proposed before the note is on disk");
        assert!(voter.since <= env.cx.latest(), "a member counts from a time to come");
        let noted = p.durable_state();
        assert!(
            noted.proposed_in == p.epoch() && noted.proposed == [voter.member],
            "another member is noted"
        );
    }

    fn read_invariants(&self, p: &PartitionState, env: &Env) {
        assert!(self.noticed <= env.cx.latest(), "members were sent the commit in the future");
        for read in self.reads.iter().filter_map(|id| env.requests.reads.get(id)) {
            assert_eq!(read.partition, p.id(), "a read of another partition");
            assert!(matches!(read.kind, ReadKind::Coordinator(_)), "a read of a replica waits");
        }
    }
}
