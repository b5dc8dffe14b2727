//! The queue of large messages to one server. They wait unencoded, so that a value is in memory once, and are encoded
//! frame by frame when the socket takes more, on the thread of large messages.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::codec::Wire;
use common::messages::{PartitionMessage, PeerMessage, ToReplica};
use common::stream::WriteHalf;
use tokio::sync::Notify;

use super::lanes::large_bytes;
use crate::limits::{BULK_QUEUE_BYTES_MAX, PEER_FRAME_BYTES};
use crate::net::rope::Rope;

/// Bytes of a message besides its large parts, about.
const MESSAGE_BYTES: usize = 128;

/// The large messages that wait for one server. Shared by the driver and the task of the link.
#[derive(Default)]
pub(super) struct BulkQueue {
    waiting: Mutex<Waiting>,
    some: Notify,
}

#[derive(Default)]
struct Waiting {
    open: bool,
    /// Log entries, which go first: writes may wait for the member that catches up.
    entries: VecDeque<PeerMessage>,
    others: VecDeque<PeerMessage>,
    bytes: usize,
}

impl Waiting {
    fn clear(&mut self, open: bool) {
        *self = Self { open, ..Self::default() };
    }

    fn pop(&mut self) -> Option<PeerMessage> {
        let message = self.entries.pop_front().or_else(|| self.others.pop_front())?;
        self.bytes -= bytes_of(&message);
        Some(message)
    }
}

fn bytes_of(message: &PeerMessage) -> usize {
    MESSAGE_BYTES + large_bytes(message)
}

/// It is, or announces, entries of a log.
fn is_of_entries(message: &PeerMessage) -> bool {
    let PeerMessage::Partition { message: PartitionMessage::ToReplica(message), .. } = message else {
        return false;
    };
    matches!(message, ToReplica::Append { .. } | ToReplica::TraceEntry { .. })
}

impl BulkQueue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets messages wait from now on; what waited before is dropped.
    pub(super) fn expect(&self) {
        self.waiting().clear(true);
    }

    /// Drops what waits, and takes nothing until [`Self::expect`].
    pub(super) fn close(&self) {
        self.waiting().clear(false);
    }

    /// Sends messages later, as many as there is room for.
    pub(super) fn send(&self, messages: Vec<PeerMessage>) {
        let mut waiting = self.waiting();
        for message in messages {
            if !waiting.open || waiting.bytes >= BULK_QUEUE_BYTES_MAX {
                break;
            }
            waiting.bytes += bytes_of(&message);
            let queue = if is_of_entries(&message) { &mut waiting.entries } else { &mut waiting.others };
            queue.push_back(message);
        }
        drop(waiting);
        self.some.notify_one();
    }

    /// Waits until there are messages.
    pub(super) async fn wanted(&self) {
        while self.waiting().bytes == 0 {
            self.some.notified().await;
        }
    }

    /// The next frame: some messages, or one that is larger. Empty if nothing waits.
    fn next_frame(&self) -> Rope {
        let mut rope = Rope::default();
        let mut waiting = self.waiting();
        if let Some(first) = waiting.pop() {
            rope.frame(|payload| {
                first.write(payload);
                while payload.len() < PEER_FRAME_BYTES
                    && let Some(message) = waiting.pop()
                {
                    message.write(payload);
                }
            });
        }
        rope
    }

    /// Sends what waits, until the socket breaks.
    pub(super) async fn drain(&self, stream: &Arc<WriteHalf>) -> io::Error {
        loop {
            self.wanted().await;
            if let Err(error) = write(stream, self.next_frame()).await {
                return error;
            }
        }
    }
}

async fn write(stream: &WriteHalf, mut rope: Rope) -> io::Result<()> {
    while !rope.is_empty() {
        stream.writable().await?;
        let (slices, count) = rope.slices(usize::MAX);
        match stream.try_write_vectored(&slices[..count]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => rope.advance(written),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{Bytes, BytesMut};
    use common::frame::take_frame;
    use common::ids::{Epoch, LogId, PartitionId, Seq};
    use common::messages::{Entry, Reply};
    use common::operation::Found;

    fn value(n: u64, bytes: usize) -> PeerMessage {
        let value = Bytes::from(vec![n as u8; bytes]);
        let found = Some(Found { value, version: LogId::default(), expires: None });
        PeerMessage::ForwardReply { n, reply: Reply::Value { found } }
    }

    fn append(bytes: usize) -> PeerMessage {
        let (partition, epoch, prev) = (PartitionId(0), Epoch::default(), LogId::default());
        let id = LogId { tag: epoch, seq: Seq(1) };
        let entries = vec![Entry { id, body: Bytes::from(vec![0; bytes]) }];
        ToReplica::Append { sync: None, prev, commit: Seq(0), entries }.about(partition, epoch)
    }

    fn messages(queue: &BulkQueue) -> Vec<PeerMessage> {
        let mut input = BytesMut::from(&queue.next_frame().to_vec()[..]);
        let mut frame = take_frame(&mut input).unwrap().unwrap_or_default();
        assert!(input.is_empty());
        std::iter::from_fn(|| (!frame.is_empty()).then(|| PeerMessage::read(&mut frame).unwrap())).collect()
    }

    #[test]
    fn entries_go_first_and_frames_end_behind_what_is_large() {
        let queue = BulkQueue::default();
        queue.send(vec![value(1, 10)]);
        assert!(messages(&queue).is_empty(), "no link serves it");
        queue.expect();
        let large = PEER_FRAME_BYTES + 1;
        queue.send(vec![value(1, large), value(2, 10), append(10), value(3, 10)]);
        assert_eq!(messages(&queue), [append(10), value(1, large)]);
        assert_eq!(messages(&queue), [value(2, 10), value(3, 10)]);
        assert!(messages(&queue).is_empty() && queue.waiting().bytes == 0);
    }

    #[test]
    fn what_does_not_fit_is_dropped() {
        let queue = BulkQueue::default();
        queue.expect();
        let large = BULK_QUEUE_BYTES_MAX / 2;
        queue.send((0..9).map(|n| value(n, large)).collect());
        assert!(queue.waiting().others.len() == 2);
        queue.close();
        queue.expect();
        assert_eq!(queue.waiting().bytes, 0);
    }
}
