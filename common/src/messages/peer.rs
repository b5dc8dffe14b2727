//! Between servers. docs/protocol.md has the rules that comments name (P1, S4, ...).

use bytes::Bytes;

use super::client::{Reply, Request};
use super::partition::{PartitionMessage, ToCoordinator, ToReplica};
use crate::codec::{wire_enum, wire_struct};
use crate::ids::{Epoch, Nonce, PartitionId, RequestId};
use crate::time::WallTime;

/// A read lease on one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadGrant {
    /// The partition that the receiver may read.
    pub partition: PartitionId,
    /// The epoch in which it is given; it is void in any other.
    pub epoch: Epoch,
    /// How long it runs, in microseconds.
    pub for_us: u64,
}
wire_struct!(ReadGrant { partition, epoch, for_us });

/// Messages between servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerMessage {
    /// A message about one partition. A receiver with a newer epoch does nothing with it, and answers
    /// [`PeerMessage::View`] if the message asks for something.
    Partition {
        /// The partition that the message is about.
        partition: PartitionId,
        /// The partition's epoch at the sender.
        epoch: Epoch,
        /// What is asked, answered or sent, with its direction.
        message: PartitionMessage,
    },
    /// From a coordinator to a replica, one for each pair of servers: asks for a promise (and so for leases on all
    /// partitions that the two share). The receiver answers [`PeerMessage::Pong`], or its view if that is newer.
    Ping {
        /// Names the ping; ascending within the sender's incarnation.
        n: u64,
        /// The number of the sender's view.
        view: Epoch,
    },
    /// The answer to a ping: a promise (L1). For the promise time from the receipt of the ping, its sender will
    /// coordinate no partition that the receiver coordinates in the sender's view.
    Pong {
        /// The `n` of the ping.
        n: u64,
        /// The number of the sender's view when it promised.
        view: Epoch,
    },
    /// A newer view than the receiver seems to have, as JSON. It replaces every other answer to a message of
    /// an old epoch.
    View {
        /// Its number: a receiver that has this view or a newer one need not read it.
        number: Epoch,
        /// An encoded [`View`](crate::view::View).
        json: Bytes,
    },
    /// The sender has an older view than the receiver, and asks for the newer one.
    WantView {
        /// The number of the view that the sender has.
        have: Epoch,
    },
    /// From a replica to a coordinator, one for each pair of servers: asks for read leases on these partitions (7.1).
    /// The receiver answers [`PeerMessage::ReadLease`] where it may give them. Without partitions the message only
    /// names the view in use: read leases of older epochs are void.
    ReadLeaseRequest {
        /// Names the question; ascending within the sender's incarnation.
        n: u64,
        /// The number of the sender's view.
        view: Epoch,
        /// Partitions that clients read at the sender, with their epochs.
        partitions: Vec<(PartitionId, Epoch)>,
    },
    /// The answer to a [`PeerMessage::ReadLeaseRequest`], of an active coordinator with leases of its own. While one of
    /// these read leases may run, it commits nothing that the receiver lacks (7.2).
    ReadLease {
        /// The `n` of the question. The read leases count from when that was sent.
        n: u64,
        /// The partitions in which the receiver may answer reads alone.
        partitions: Vec<ReadGrant>,
    },
    /// A client's request, passed on to the coordinator of its key. The origin of a write stays that of the client,
    /// so passing it on twice does no harm.
    Forward {
        /// Names the request; ascending at the sender.
        n: u64,
        /// What the client asked.
        request: Request,
    },
    /// A client's request for a coordinator that the sender does not hear. The receiver has a copy in sync, and answers
    /// a read itself or passes the request on with a [`PeerMessage::Forward`] of its own. A relayed request is not
    /// relayed again. The answer is a [`PeerMessage::ForwardReply`].
    Relay {
        /// The `n` of the sender's [`PeerMessage::Forward`] of the same request; whichever answer comes first counts.
        n: u64,
        /// What the client asked.
        request: Request,
    },
    /// The answer to a forwarded request.
    ForwardReply {
        /// The `n` of the forwarded request.
        n: u64,
        /// The reply for the client.
        reply: Reply,
    },
    /// The [`PeerMessage::Forward`] after this message passes on a request that is traced. Only for the log: it may be
    /// lost.
    TraceForward {
        /// The `n` of that forward.
        n: u64,
        /// The id under which the request is traced.
        request: RequestId,
    },
    /// S4: the answer to [`PeerMessage::WantView`] of a process that waits for the ECS, where there is no newer view.
    NoNewerView {
        /// The number of the newest view that the sender knows.
        number: Epoch,
        /// The process that asked.
        to: Nonce,
    },
    /// The sender's clocks at the moment of sending. With them servers agree on the time by which values expire.
    Clock {
        /// Its wall clock.
        wall: WallTime,
        /// The clock that it stamps entries with, if it has been in agreement with another server.
        stamps: Option<WallTime>,
    },
}
wire_enum!(PeerMessage {
    1 => Ping { n, view },
    2 => Pong { n, view },
    3 => View { number, json },
    4 => WantView { have },
    15 => Forward { n, request },
    16 => ForwardReply { n, reply },
    17 => ReadLeaseRequest { n, view, partitions },
    18 => ReadLease { n, partitions },
    23 => TraceForward { n, request },
    28 => NoNewerView { number, to },
    29 => Clock { wall, stamps },
    30 => Relay { n, request },
    else Partition { partition, epoch } message: PartitionMessage,
});

impl ToCoordinator {
    /// This message about a partition, in an epoch.
    pub fn about(self, partition: PartitionId, epoch: Epoch) -> PeerMessage {
        PeerMessage::Partition { partition, epoch, message: PartitionMessage::ToCoordinator(self) }
    }
}

impl ToReplica {
    /// This message about a partition, in an epoch.
    pub fn about(self, partition: PartitionId, epoch: Epoch) -> PeerMessage {
        PeerMessage::Partition { partition, epoch, message: PartitionMessage::ToReplica(self) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Malformed, Tagged, Wire};
    use crate::ids::Seq;

    #[test]
    fn a_message_is_its_tag_what_it_is_about_and_its_fields() {
        let (partition, epoch) = (PartitionId(7), Epoch { generation: 1, version: 2 });
        let head = [partition.to_wire(), epoch.to_wire()].concat();
        for (message, tag, fields) in [
            (ToReplica::SyncRequest {}.about(partition, epoch), 5, Bytes::new()),
            (ToCoordinator::Gap { last: Seq(3) }.about(partition, epoch), 9, Seq(3).to_wire()),
            (ToCoordinator::ReadIndex { n: 4 }.about(partition, epoch), 13, 4_u64.to_wire()),
        ] {
            let bytes = [&[tag], &head[..], &fields].concat();
            assert_eq!(message.to_wire(), bytes);
            assert_eq!(PeerMessage::from_wire(bytes.into()), Ok(message));
        }
    }

    #[test]
    fn a_tag_names_one_message() {
        for tag in 0..=u8::MAX {
            assert!(!(ToCoordinator::has(tag) && ToReplica::has(tag)), "{tag}");
            let is_known = PartitionMessage::has(tag);
            let read = PeerMessage::from_wire(Bytes::from(vec![tag]));
            let is_unknown = matches!(read, Err(Malformed::Variant { what: "PeerMessage", .. }));
            assert!(!(is_known && is_unknown) && (1..=30).contains(&tag) != is_unknown, "{tag}");
        }
    }
}
