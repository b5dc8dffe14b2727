//! The link by which a message goes to a server. Messages that keep a server alive, and those that other servers wait
//! for, must never wait behind large ones:
//!
//! - *life*: pings, promises, acknowledgements, questions and answers about logs, leases and views. All are small.
//! - *data*: the log's entries for members that count, and small requests that are passed on, with their answers.
//! - *bulk*: copies of partitions, entries for members that catch up, and requests and answers with large values.
//!
//! Messages of two links may pass each other, as they may in the network; those of one log and of one copy go by one
//! link, so that they arrive in order as a rule. A member changes from bulk to data with a new epoch, in which its log
//! is compared anew.

use bytes::Bytes;
use common::ids::{PartitionId, ServerId};
use common::messages::{PartitionMessage, PeerMessage, Reply, Request, ToReplica};
use common::view::View;

use crate::limits::BULK_BYTES_MIN;

/// One of the three links to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// For small messages that keep servers alive, or that others wait for.
    Life,
    /// For the log entries of members that count, and small requests that are passed on.
    Data,
    /// For large messages.
    Bulk,
}

impl Lane {
    /// The lane of a message to a server.
    pub(super) fn of(message: &PeerMessage, to: ServerId, view: Option<&View>) -> Self {
        match message {
            PeerMessage::Partition { message: PartitionMessage::ToReplica(message), partition, .. } => {
                match message {
                    ToReplica::Append { .. } | ToReplica::TraceEntry { .. } => {
                        if counts(view, *partition, to) { Self::Data } else { Self::Bulk }
                    }
                    ToReplica::SnapshotBegin { .. } | ToReplica::SnapshotChunk { .. } => Self::Bulk,
                    _ => Self::Life,
                }
            }
            PeerMessage::Forward { .. } | PeerMessage::ForwardReply { .. } => {
                if large_bytes(message) >= BULK_BYTES_MIN { Self::Bulk } else { Self::Data }
            }
            PeerMessage::TraceForward { .. } => Self::Data,
            _ => Self::Life,
        }
    }
}

/// Whether writes wait for the server's acknowledgements, by the view.
fn counts(view: Option<&View>, partition: PartitionId, server: ServerId) -> bool {
    view.and_then(|view| view.assignment(partition))
        .is_some_and(|assignment| assignment.in_sync_member(server).is_some())
}

/// Bytes of the parts of a message that may be large.
pub(super) fn large_bytes(message: &PeerMessage) -> usize {
    match message {
        PeerMessage::Partition { message: PartitionMessage::ToReplica(message), .. } => match message {
            ToReplica::Append { entries, .. } => entries.iter().map(|entry| entry.body.len()).sum(),
            ToReplica::SnapshotChunk { state, pairs, .. } => {
                state.len() + pairs.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>()
            }
            _ => 0,
        },
        PeerMessage::Forward { request: Request::Write { operation, .. }, .. } => operation.bytes(),
        PeerMessage::ForwardReply { reply, .. } => match reply {
            Reply::Value { found: Some(found) } => found.value.len(),
            Reply::Page { pairs, .. } => {
                pairs.iter().map(|pair| pair.key.len() + pair.found.value.len()).sum()
            }
            Reply::Keys { keys, .. } => keys.iter().map(Bytes::len).sum(),
            // Former values that it returns.
            Reply::Outcome { outcome } => outcome.returned_bytes(),
            _ => 0,
        },
        PeerMessage::View { json, .. } => json.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::ids::{ClientId, ClusterId, Epoch, LogId, RequestNumber, Seq, StoreId};
    use common::messages::ToCoordinator;
    use common::operation::{Found, Operation, Origin};
    use common::ring::Partitions;
    use common::view::{Assignment, Member};

    const P: PartitionId = PartitionId(0);

    fn member(server: u128) -> Member {
        Member { server: ServerId(server), store: StoreId(server) }
    }

    fn append() -> PeerMessage {
        let (epoch, prev) = (Epoch::default(), LogId::default());
        ToReplica::Append { sync: None, prev, commit: Seq(0), entries: vec![] }.about(P, epoch)
    }

    fn value(bytes: usize) -> PeerMessage {
        let value = Bytes::from(vec![0; bytes]);
        let found = Some(Found { value, version: LogId::default(), expires: None });
        PeerMessage::ForwardReply { n: 1, reply: Reply::Value { found } }
    }

    fn write(bytes: usize) -> PeerMessage {
        let number = RequestNumber(1);
        let origin = Origin { client: ClientId(1), number, first_unanswered: number };
        let operation = Operation::put("k", vec![0; bytes]);
        PeerMessage::Forward { n: 1, request: Request::Write { origin, age_ms: 0, operation } }
    }

    #[test]
    fn what_is_large_or_can_wait_never_stands_before_what_keeps_a_server_alive() {
        let mut view = View::new(ClusterId(1), Epoch::default(), Partitions::default());
        view.assignments = vec![Assignment {
            epoch: Epoch::default(),
            coordinator: ServerId(1),
            in_sync: vec![member(1), member(2)],
            joining: vec![member(3)],
        }];
        let (epoch, partition) = (Epoch::default(), P);
        let (seq, n) = (Seq(1), 1);
        for (message, to, lane) in [
            (PeerMessage::Ping { n, view: epoch }, 2, Lane::Life),
            (PeerMessage::Pong { n, view: epoch }, 2, Lane::Life),
            (
                ToCoordinator::Ack { seq, clean: true, bound: Vec::new() }.about(partition, epoch),
                2,
                Lane::Life,
            ),
            (append(), 2, Lane::Data),
            (append(), 3, Lane::Bulk),
            (append(), 4, Lane::Bulk),
            (write(10), 2, Lane::Data),
            (write(BULK_BYTES_MIN), 2, Lane::Bulk),
            (value(10), 2, Lane::Data),
            (value(BULK_BYTES_MIN), 2, Lane::Bulk),
        ] {
            assert_eq!(Lane::of(&message, ServerId(to), Some(&view)), lane, "{message:?} to {to}");
        }
    }
}
