//! Which entries have changed nothing: a condition did not hold, there was nothing to delete, it was a retry.
//!
//! An entry of the log says what was asked, not what it did; only applying it tells. With those that did nothing noted,
//! which are few, the log is a history of changes, and no write costs anything for it.

use std::collections::VecDeque;

use common::ids::Seq;
use common::operation::Outcome;

use super::super::limits::VAIN_KEPT;

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Vain {
    /// Of the entries up to here nothing is known.
    after: Seq,
    /// Those that changed nothing, ascending.
    seqs: VecDeque<Seq>,
}

impl Vain {
    /// Nothing is known of the entries up to `after`.
    pub(crate) fn after(after: Seq) -> Self {
        Self { after, seqs: VecDeque::new() }
    }

    /// The next entry was applied.
    pub(crate) fn on_applied(&mut self, seq: Seq, outcome: &Outcome) {
        if has_changed(outcome, seq) {
            return;
        }
        self.seqs.push_back(seq);
        if self.seqs.len() > VAIN_KEPT
            && let Some(oldest) = self.seqs.pop_front()
        {
            self.after = oldest;
        }
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
        | Outcome::Told { .. }
        | Outcome::Aborted {} => false,
        // What a batch did may be told in part only; of a retry it is told by itself. See `history`: what a batch
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
        let mut vain = Vain::after(Seq(4));
        vain.on_applied(Seq(5), &written(5));
        vain.on_applied(Seq(6), &written(5));
        vain.on_applied(Seq(7), &Outcome::NotFound {});
        vain.on_applied(Seq(8), &written(8));
        let changed: Vec<_> = (4..=8).map(|seq| vain.changed(Seq(seq))).collect();
        assert_eq!(changed, [None, Some(true), Some(false), Some(false), Some(true)]);
    }

    #[test]
    fn what_is_noted_is_bounded() {
        let mut vain = Vain::default();
        let many = VAIN_KEPT as u64 + 5;
        (1..=many).for_each(|seq| vain.on_applied(Seq(seq), &Outcome::NotFound {}));
        assert_eq!(vain.seqs.len(), VAIN_KEPT);
        assert_eq!((vain.changed(Seq(5)), vain.changed(Seq(6))), (None, Some(false)));
    }
}
