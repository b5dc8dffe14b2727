//! What is stored does not check: what becomes of the server.
//!
//! Bytes that fail their checksums make the whole store untrustworthy (R3): nothing more is acknowledged, the ECS is told,
//! and the process ends; it comes back empty under another store id. The answer to whoever asked is left out: the
//! client asks another server. The exception is a store that is the only one with some data: an empty one in its place
//! would make a loss of what may be one bad sector. It goes on, refuses what it cannot read, and says so.
//!
//! Which store that is, the newest adopted view says: the ECS takes nobody out without a newer one.

use common::ids::PartitionId;
use common::view::{Member, View};

use super::ask::Answer;
use super::env::Env;
use super::io::Effect;
use super::limits::DAMAGE_TOLD_MAX;

/// Partitions that the member alone has in sync: the ECS never takes the last one out (V4), and an empty store in its
/// place would make a loss of what may only be a damaged file.
pub(crate) fn sole_copies(view: &View, me: Member) -> Vec<PartitionId> {
    let sole = view.iter().filter(|(_, assignment)| assignment.in_sync == [me]);
    sole.map(|(partition, _)| partition).collect()
}

impl Env {
    /// Something that was read in the background, or by a client, does not check. Whether the server goes on.
    pub(super) fn goes_on_damaged(&mut self, reason: &str) -> bool {
        if self.condemned {
            return false;
        }
        let sole = sole_copies(&self.view, self.my_member());
        if sole.is_empty() {
            self.condemned = true;
            self.out.effect(Effect::Condemn { reason: reason.to_owned() });
            return false;
        }
        // Once for each place: a file that is read again and again is bad each time.
        if self.told_damage.len() == DAMAGE_TOLD_MAX {
            self.told_damage.clear();
        }
        if self.told_damage.insert(reason.to_owned()) {
            self.alarm(format!(
                "{reason}; the store is kept, as it is the only in-sync copy of {} partitions. What cannot be read is \
                 refused; see \"A disk has changed what was written\" in the operations guide",
                sole.len()
            ));
        }
        true
    }

    /// A read came upon damage: whether there is an answer at all.
    pub(super) fn admits(&mut self, answer: &Answer) -> bool {
        match answer {
            Answer::Damaged(reason) => self.goes_on_damaged(reason),
            _ => true,
        }
    }
}
