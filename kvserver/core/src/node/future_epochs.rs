//! Messages of future epochs: kept until the view is here, as if the network had been slower. Dropped, they would be
//! sent again only after a time-out, and a partition would wait for that with each change of the view.

use std::collections::VecDeque;

use common::messages::{PartitionMessage, PeerMessage, ProcessId, ToCoordinator, ToReplica};

use super::super::limits::{EARLY_BYTES_MAX, EARLY_MESSAGES_MAX};

/// See the module's text. Messages beyond the limits are dropped: the sender sends them again.
#[derive(Debug, Default)]
pub(super) struct FutureEpochs {
    messages: VecDeque<(ProcessId, PeerMessage)>,
    bytes: usize,
}

impl FutureEpochs {
    pub(super) fn keep(&mut self, from: ProcessId, message: PeerMessage) {
        let bytes = bulk(&message);
        if self.messages.len() < EARLY_MESSAGES_MAX && self.bytes + bytes <= EARLY_BYTES_MAX {
            self.bytes += bytes;
            self.messages.push_back((from, message));
            assert!(self.bytes <= EARLY_BYTES_MAX, "what is kept is bounded");
        }
    }

    /// All messages, in the order of arrival.
    pub(super) fn take(&mut self) -> VecDeque<(ProcessId, PeerMessage)> {
        self.bytes = 0;
        std::mem::take(&mut self.messages)
    }

    /// Asserts what must be true after every step.
    pub(super) fn invariants(&self) {
        assert!(self.messages.len() <= EARLY_MESSAGES_MAX, "messages are bounded");
        assert!(self.bytes <= EARLY_BYTES_MAX, "what is kept is bounded");
        let bytes: usize = self.messages.iter().map(|(_, message)| bulk(message)).sum();
        assert_eq!(bytes, self.bytes, "the bytes that are counted are kept");
    }
}

/// Bytes of the parts of a message that may be large.
fn bulk(message: &PeerMessage) -> usize {
    let PeerMessage::Partition { message, .. } = message else { return 0 };
    match message {
        PartitionMessage::ToReplica(ToReplica::Append { entries, .. })
        | PartitionMessage::ToCoordinator(ToCoordinator::FetchReply { entries, .. }) => {
            entries.iter().map(|entry| entry.body.len()).sum()
        }
        PartitionMessage::ToReplica(ToReplica::SnapshotChunk { state, pairs, .. }) => {
            state.len() + pairs.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>()
        }
        PartitionMessage::ToCoordinator(ToCoordinator::SyncReply { runs, .. }) => {
            std::mem::size_of_val(runs.as_slice())
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use common::ids::{Epoch, Incarnation, LogId, Nonce, PartitionId, Seq, ServerId, StoreId};
    use common::messages::Entry;

    const FROM: ProcessId =
        ProcessId { server: ServerId(1), store: StoreId(1), incarnation: Incarnation(1), nonce: Nonce(1) };

    fn append(bytes: usize) -> PeerMessage {
        let epoch = Epoch { generation: 0, version: 9 };
        let entry = Entry { id: LogId { tag: epoch, seq: Seq(1) }, body: Bytes::from(vec![0; bytes]) };
        let (partition, prev, commit) = (PartitionId(0), LogId::default(), Seq(0));
        ToReplica::Append { sync: None, prev, commit, entries: vec![entry] }.about(partition, epoch)
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_there_is_room_again_later() {
        let mut early = FutureEpochs::default();
        for (bytes, kept) in [(EARLY_BYTES_MAX - 1, 1), (2, 1), (1, 2), (1, 2)] {
            early.keep(FROM, append(bytes));
            assert_eq!(early.messages.len(), kept);
        }
        assert_eq!(early.take().len(), 2);
        for _ in 0..2 * EARLY_MESSAGES_MAX {
            early.keep(FROM, append(0));
        }
        assert_eq!(early.take().len(), EARLY_MESSAGES_MAX);
        assert_eq!(early.take().len(), 0);
    }
}
