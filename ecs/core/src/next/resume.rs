//! R6: what was reported to an ECS that is being rebuilt, and the partitions that may be resumed by it.

use common::ids::{Epoch, PartitionId, ServerId};
use common::view::Assignment;

use super::builder::Builder;
use crate::cause::Change;

impl Builder<'_> {
    /// Takes the reports that came since the last view.
    pub(super) fn take_holdings(&mut self) {
        let Some(rebuild) = &mut self.rebuild else { return };
        for holding in self.facts.holdings {
            rebuild.generation = holding.generation;
            rebuild.take(&mut self.view, &holding.view);
            rebuild.note(holding.member.store, holding.report.clone());
            self.view.rebuild = Some(rebuild.id);
            self.view.counted.insert(holding.member.store);
            let version = self.number.version.max(holding.view.number.version + 1);
            self.number = Epoch { generation: rebuild.generation, version };
            self.causes.entry((holding.member.server, Change::Reported)).or_default();
        }
    }

    /// Resumes a partition that may be, with a new epoch and the same in-sync set, or lets it begin anew where an
    /// operator forces it. Whether it still waits, or was resumed only in this view: then nothing else changes there.
    pub(super) fn holds_still(&mut self, partition: PartitionId) -> bool {
        let bug = self.facts.config.bug.filter(|_| cfg!(feature = "planted-bugs"));
        let Some(rebuild) = self.rebuild.as_ref().filter(|rebuild| rebuild.waiting.contains(&partition))
        else {
            return false;
        };
        let old = self.old[usize::from(partition.0)].clone();
        let resumed = if rebuild.missing(partition, &old, bug).is_empty() {
            self.resume(partition, &old);
            true
        } else {
            self.force(partition)
        };
        if let Some(rebuild) = self.rebuild.as_mut().filter(|_| resumed) {
            rebuild.waiting.remove(&partition);
        }
        self.frozen.insert(partition);
        true
    }

    fn resume(&mut self, partition: PartitionId, old: &Assignment) {
        let lives = |&server: &ServerId| old.in_sync_member(server).is_some_and(|member| self.living(member));
        let mut candidates =
            std::iter::once(old.coordinator).chain(old.replicas().map(|member| member.server));
        let coordinator = candidates.find(lives).unwrap_or(old.coordinator);
        let joining = old.joining.iter().copied().filter(|&member| self.living(member)).collect();
        self.note(coordinator, Change::Resumed, 1);
        self.view.assignments[usize::from(partition.0)] =
            Assignment { epoch: self.number, coordinator, in_sync: old.in_sync.clone(), joining };
    }
}
