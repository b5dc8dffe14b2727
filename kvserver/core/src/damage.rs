//! What a server does when stored bytes fail their checksums.
//!
//! Bytes that fail their checksums make the whole store untrustworthy (R3): nothing more is acknowledged, the failure
//! is reported to the ECS, and the process ends; at the next start the ECS says what becomes of the store. The request
//! that met the damage gets no answer: the client asks another server. The exception is a store that is the only one
//! with some data: an empty one in its place would turn one bad sector into a loss. It goes on, refuses what it cannot
//! read, and reports it.
//!
//! The newest adopted view says which store that is: the ECS removes no member without a newer view.

use common::ids::PartitionId;
use common::view::{Member, View};

use super::ask::Answer;
use super::env::Env;
use super::io::Later;
use super::limits::DAMAGE_REPORTED_MAX;

/// Partitions that have the member in sync.
pub fn in_sync_partitions(view: &View, me: Member) -> Vec<PartitionId> {
    let counted = view.iter().filter(|(_, assignment)| assignment.in_sync.contains(&me));
    counted.map(|(partition, _)| partition).collect()
}

/// Partitions that the member alone has in sync: the ECS never takes the last one out (V4), and an empty store in its
/// place would turn a damaged file into a loss.
fn sole_copies(view: &View, me: Member) -> Vec<PartitionId> {
    let sole = view.iter().filter(|(_, assignment)| assignment.in_sync == [me]);
    sole.map(|(partition, _)| partition).collect()
}

impl Env {
    /// Bytes that were read in the background, or for a client, fail their checksum. Returns whether the server goes
    /// on.
    pub(super) fn goes_on_damaged(&mut self, reason: &str) -> bool {
        if self.integrity.condemned {
            return false;
        }
        let sole = sole_copies(&self.cx.view, self.cx.my_member());
        if sole.is_empty() {
            self.integrity.condemned = true;
            self.out.effect(Later::Condemn { reason: reason.to_owned() });
            return false;
        }
        // Reported once for each place, as a damaged file may be read again and again.
        if self.integrity.reported_damage.len() == DAMAGE_REPORTED_MAX {
            self.integrity.reported_damage.clear();
        }
        assert!(self.integrity.reported_damage.len() < DAMAGE_REPORTED_MAX, "reported damage is bounded");
        if self.integrity.reported_damage.insert(reason.to_owned()) {
            self.out.alarm(format!(
                "{reason}; the store is kept, as it is the only in-sync copy of {} partitions. What cannot be read is \
                 refused; see \"A disk has changed what was written\" in the operations guide",
                sole.len()
            ));
        }
        true
    }

    /// Whether a read gets an answer, as it may have met damage.
    pub(super) fn admits(&mut self, answer: &Answer) -> bool {
        match answer {
            Answer::Damaged(reason) => self.goes_on_damaged(reason),
            _ => true,
        }
    }
}
