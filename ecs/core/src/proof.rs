//! V4a: which copies are known to hold all that they have acknowledged, and which servers are waited for where none is.
//!
//! A member is *proved* when its present process was in step in an epoch whose coordinator became active: then its log
//! was that epoch's log. Its heartbeats say so; a coordinator that is active is proved by that; and one that was taken
//! into the in-sync set on its coordinator's proposal is proved by the acknowledgements that were counted. After a
//! restart nothing is known of a copy: its disk may have lost the end of its log, or may be an older one altogether. So
//! while no living member is proved, a member that is not heard is the only one that may hold all, and stays.

use std::collections::BTreeMap;

use common::ids::{PartitionId, ServerId};
use common::view::{Assignment, Member, ServerState, View};

use super::peers::{FailedCopies, Peer};

/// What is known of the servers, as of a view.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) view: &'a View,
    pub(super) peers: &'a BTreeMap<ServerId, Peer>,
    pub(super) failed: &'a FailedCopies,
}

impl Known<'_> {
    /// The member's server is heard and has that store, and does not say that the copy has failed.
    pub(super) fn is_well(&self, partition: PartitionId, member: Member) -> bool {
        let info = self.view.servers.get(&member.server);
        info.is_some_and(|info| info.store == member.store && info.state != ServerState::Down)
            && !self.failed.contains(&(partition, member))
    }

    /// See the module's text.
    pub(super) fn is_proved(&self, partition: PartitionId, member: Member) -> bool {
        let proved = |peer: &Peer| {
            peer.sender.store == member.store && !peer.doubted && peer.proved.contains(&partition)
        };
        self.is_well(partition, member) && self.peers.get(&member.server).is_some_and(proved)
    }

    /// The members that a partition waits for: those that are not well, while no other one is proved. A new coordinator
    /// asks all members for their logs (P1), so until then the partition is not served.
    pub(super) fn awaited(&self, partition: PartitionId, now: &Assignment) -> Vec<Member> {
        if now.in_sync.iter().any(|&member| self.is_proved(partition, member)) {
            return Vec::new();
        }
        now.in_sync.iter().copied().filter(|&member| !self.is_well(partition, member)).collect()
    }
}
