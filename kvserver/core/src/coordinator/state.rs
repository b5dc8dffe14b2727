//! What a coordinator knows in its epoch: how far it is, its members, and the reads that wait.

use std::collections::{BTreeMap, VecDeque};

use common::ids::{Incarnation, LogId, PartitionId, Seq, ServerId};
use common::messages::ProcessId;
use common::status::TransferStatus;
use common::time::Time;
use common::view::{Assignment, Member};

use super::super::compare::Comparison;
use super::super::env::Env;
use super::super::io::ReadId;
use super::super::process::Process;
use super::progress::{Progress, Stage};

/// Entries that are being fetched from the member with the largest log.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) from: ServerId,
    /// The last entry that both logs have.
    pub(super) prev: LogId,
    /// The last entry that was claimed.
    pub(super) target: LogId,
    pub(super) asked: Option<Time>,
}

/// The members' logs contradict each other: the partition stops until an operator decides (P2).
#[derive(Debug)]
pub(super) struct Disagreement {
    pub(super) member: Member,
    pub(super) commit: Seq,
    pub(super) reported: Time,
}

/// The one proposed joining member, which counts before the ECS has answered.
#[derive(Debug)]
pub(super) struct JoiningVoter {
    pub(super) member: Member,
    pub(super) incarnation: Incarnation,
    /// The note of the proposal is on disk.
    pub(super) noted: bool,
    pub(super) proposed: Option<Time>,
    pub(super) since: Time,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Coordinator {
    pub(super) active: bool,
    /// Pings from this number on were sent after the epoch was adopted.
    pub(super) ping_floor: u64,
    /// The no-op of the epoch, once its log was found (P1): nothing is committed in the epoch before it is.
    pub(super) begin: Option<LogId>,
    pub(super) fetch: Option<Fetch>,
    /// When the ECS was last asked to name another member as coordinator (P1).
    pub(super) yielded: Option<Time>,
    pub(super) disagreement: Option<Disagreement>,
    /// P3b: promises to former coordinators that members have named in acknowledgements of this epoch, and until when
    /// they bind.
    pub(super) bounds: BTreeMap<Process, Time>,
    /// The last tick of log time that follows the no-op of the epoch with nothing but ticks between, see `minimum`.
    pub(super) ticked: Seq,
    /// The in-sync members other than this server.
    pub(super) in_sync: Vec<ServerId>,
    pub(super) peers: BTreeMap<ServerId, Progress>,
    pub(super) voter: Option<JoiningVoter>,
    /// Reads that wait for leases.
    pub(super) reads: VecDeque<ReadId>,
    /// When members were last sent the commit alone, without entries.
    pub(super) noticed: Time,
    pub(super) comparison: Option<Comparison>,
}

impl Coordinator {
    /// Takes over the joining members of a view: they come and go without a new epoch.
    pub(crate) fn relist(&mut self, env: &mut Env, partition: PartitionId, assignment: &Assignment) {
        let listed: Vec<Member> = assignment.replicas().chain(assignment.joining.iter().copied()).collect();
        let voter = self.voter.as_ref().map(|voter| voter.member);
        self.peers.retain(|_, peer| {
            let stays = listed.contains(&peer.member) || Some(peer.member) == voter;
            if let Stage::Snapshot(sending) = &peer.stage
                && !stays
            {
                sending.close(env, partition);
            }
            stays
        });
        for member in listed {
            self.peers.entry(member.server).or_insert_with(|| Progress::new(member, env.cx.now.time));
        }
        assert!(self.needed().all(|server| self.peers.contains_key(&server)), "each member is sent the log");
    }

    /// Ends the copies under way: this server no longer coordinates.
    pub(crate) fn close_transfers(&mut self, env: &mut Env, partition: PartitionId) {
        for peer in self.peers.values() {
            if let Stage::Snapshot(sending) = &peer.stage {
                sending.close(env, partition);
            }
        }
    }

    /// The first entry that the log is to keep for members.
    pub(crate) fn retained_from(&self) -> Option<Seq> {
        self.peers.values().filter_map(|peer| peer.retained).min()
    }

    /// How many snapshots for members are open.
    pub(crate) fn open_snapshots(&self) -> usize {
        self.peers.values().filter(|peer| peer.has_open_snapshot()).count()
    }

    /// The copies that are being sent, for the status.
    pub(crate) fn transfers(&self, now: Time, partition: PartitionId, me: ServerId) -> Vec<TransferStatus> {
        let status = |(&server, peer): (&ServerId, &Progress)| match &peer.stage {
            Stage::Snapshot(sending) => sending.status(now, partition, me, server),
            _ => None,
        };
        self.peers.iter().filter_map(status).collect()
    }

    /// Whether it orders and acknowledges writes.
    pub(crate) fn is_active(&self) -> bool {
        self.active
    }

    /// Whether digests of the copies are still missing.
    pub(crate) fn is_comparing(&self) -> bool {
        self.comparison.as_ref().is_some_and(Comparison::is_open)
    }

    pub(crate) fn take_reads(&mut self) -> VecDeque<ReadId> {
        std::mem::take(&mut self.reads)
    }

    /// The members whose acknowledgements and leases are needed: the in-sync set and the joining voter.
    pub(super) fn needed(&self) -> impl Iterator<Item = ServerId> + '_ {
        self.in_sync.iter().copied().chain(self.voter.iter().map(|voter| voter.member.server))
    }

    /// Whether the records have all that a former coordinator may have acknowledged: the no-op of the epoch is applied.
    pub(crate) fn has_applied_all(&self, applied: Seq) -> bool {
        self.active && self.begin.is_some_and(|begin| applied >= begin.seq)
    }

    /// Whether the member has acknowledged the no-op of the epoch, and so the whole log before it.
    pub(super) fn has_synced(&self, server: ServerId) -> bool {
        let acked = self.peers.get(&server).and_then(|peer| peer.acked);
        self.begin.is_some_and(|begin| acked.is_some_and(|acked| acked >= begin.seq))
    }

    /// S2, 7.2: the process is the one whose acknowledgements count.
    pub(super) fn counts_process(&self, process: Process) -> bool {
        let peer = self.peers.get(&process.server);
        let is_present = peer.is_some_and(|peer| peer.process.map(Process::from) == Some(process));
        is_present && self.needed().any(|server| server == process.server)
    }

    /// Whether a message is of an in-sync member, with the store that counts.
    pub(crate) fn is_replica(&self, from: ProcessId) -> bool {
        let counts = self.in_sync.contains(&from.server);
        counts && self.peers.get(&from.server).is_some_and(|peer| peer.member.store == from.store)
    }

    /// Servers to ping.
    pub(crate) fn granters(&self) -> impl Iterator<Item = ServerId> + '_ {
        self.peers.keys().copied()
    }

    /// The first entry that a member may still need from memory.
    pub(crate) fn needs_from(&self, reaching: Seq) -> Seq {
        let streamed = self.peers.values().filter_map(|peer| match &peer.stage {
            Stage::Stream(_) => Some(peer.acked.map_or(reaching, |acked| acked.min(reaching))),
            _ => None,
        });
        streamed.min().unwrap_or(reaching).min(reaching).next()
    }

    pub(crate) fn is_busy(&self, last: Seq, commit: Seq) -> bool {
        let untold = |peer: &Progress| match &peer.stage {
            Stage::Stream(stream) => stream.sent_commit < commit,
            _ => true,
        };
        !self.active
            || commit < last
            || !self.reads.is_empty()
            || self.voter.is_some()
            || self.comparison.is_some()
            || self.peers.values().any(|peer| peer.waits(last) || untold(peer))
    }
}

/// Whether a server is one of [`Coordinator::needed`].
pub(super) fn counts(in_sync: &[ServerId], voter: &Option<JoiningVoter>, server: ServerId) -> bool {
    in_sync.contains(&server) || voter.as_ref().is_some_and(|voter| voter.member.server == server)
}
