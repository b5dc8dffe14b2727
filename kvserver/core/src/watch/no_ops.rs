//! Entries that have changed nothing: a condition was not met, there was nothing to delete, it was a retry.
//!
//! An entry of the log says what was asked, not what it did; that is known when it is applied. As the few entries that
//! did nothing are noted, the log is a history of changes, at no cost for writes.

use std::collections::VecDeque;

use common::ids::Seq;
use common::operation::Outcome;

use super::super::limits::NO_OPS_KEPT;

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct NoOps {
    /// Nothing is known about the entries up to this one.
    after: Seq,
    /// Entries that changed nothing, ascending.
    seqs: VecDeque<Seq>,
}

impl NoOps {
    /// Begins after an entry: nothing is known about the entries up to it.
    pub(crate) fn after(after: Seq) -> Self {
        Self { after, seqs: VecDeque::new() }
    }

    /// The next entry was applied.
    pub(crate) fn on_applied(&mut self, seq: Seq, outcome: &Outcome) {
        if has_changed(outcome, seq) {
            return;
        }
        assert!(self.seqs.back().is_none_or(|last| *last < seq), "entries are applied in order");
        self.seqs.push_back(seq);
        if self.seqs.len() > NO_OPS_KEPT
            && let Some(oldest) = self.seqs.pop_front()
        {
            self.after = oldest;
        }
    }

    /// Asserts what must be true after every step.
    pub(super) fn invariants(&self, applied: Seq) {
        assert!(self.after <= applied, "something is known of entries to come");
        assert!(self.seqs.len() <= NO_OPS_KEPT, "entries that are remembered are bounded");
        assert!(self.seqs.front().is_none_or(|first| *first > self.after), "nothing is known of that entry");
        assert!(self.seqs.back().is_none_or(|last| *last <= applied), "an entry that is not applied");
    }

    /// Whether an applied entry has changed something; `None`: that is not known.
    pub(super) fn changed(&self, seq: Seq) -> Option<bool> {
        (seq > self.after).then(|| self.seqs.binary_search(&seq).is_err())
    }
}

/// Whether the entry at `seq` has changed something. A retry's outcome has the version of the first try.
fn has_changed(outcome: &Outcome, seq: Seq) -> bool {
    match outcome {
        Outcome::Written { version, .. }
        | Outcome::Appended { version, .. }
        | Outcome::Deleted { version }
        | Outcome::Changed { version, .. }
        | Outcome::Sum { version, .. }
        | Outcome::Length { version, .. } => version.seq == seq,
        Outcome::All { results } => results.iter().any(|result| has_changed(&result.0, seq)),
        Outcome::NotFound {}
        | Outcome::ConditionFailed { .. }
        | Outcome::TooLarge { .. }
        | Outcome::Ticked {}
        | Outcome::Compared { .. }
        | Outcome::Superseded {}
        | Outcome::Kept { .. }
        | Outcome::NotANumber {}
        | Outcome::OutOfRange {}
        | Outcome::Fetched { .. }
        | Outcome::Aborted {} => false,
        // An outcome may name what a batch did in part only, and that of a retry nothing. See `history`: what a batch
        // did is not taken from the log in any case.
        Outcome::Forgotten {} => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::ids::{Epoch, LogId};

    fn written(seq: u64) -> Outcome {
        let version = LogId { tag: Epoch { generation: 0, version: 1 }, seq: Seq(seq) };
        Outcome::Written { version, replaced: false }
    }

    #[test]
    fn a_retry_and_a_refusal_changed_nothing() {
        let mut no_ops = NoOps::after(Seq(4));
        no_ops.on_applied(Seq(5), &written(5));
        no_ops.on_applied(Seq(6), &written(5));
        no_ops.on_applied(Seq(7), &Outcome::NotFound {});
        no_ops.on_applied(Seq(8), &written(8));
        let changed: Vec<_> = (4..=8).map(|seq| no_ops.changed(Seq(seq))).collect();
        assert_eq!(changed, [None, Some(true), Some(false), Some(false), Some(true)]);
    }

    #[test]
    fn what_is_noted_is_bounded() {
        let mut no_ops = NoOps::default();
        let many = NO_OPS_KEPT as u64 + 5;
        (1..=many).for_each(|seq| no_ops.on_applied(Seq(seq), &Outcome::NotFound {}));
        assert_eq!(no_ops.seqs.len(), NO_OPS_KEPT);
        assert_eq!((no_ops.changed(Seq(5)), no_ops.changed(Seq(6))), (None, Some(false)));
    }
}
