//! Replies on their way to the connections that asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use common::messages::Reply;

/// Replies of one batch to one connection, with the connection's own numbers of the requests.
pub(crate) type Replies = Vec<(u64, Reply)>;

/// Takes a connection's replies; implemented by `inbound::reply_queue`. They are bounded by the requests that the
/// connection may have open.
pub(crate) trait Deliver: Send + Sync {
    /// Takes replies, without waiting. Those of a connection that is gone are dropped.
    fn deliver(&self, replies: Replies);
}

/// A connection's outbox, shared.
pub(crate) type Outbox = Arc<dyn Deliver>;

/// Replies of one batch, by connection.
#[derive(Default)]
pub(crate) struct BatchReplies {
    lists: Vec<(Outbox, Replies)>,
    /// The position in `lists` of each outbox, by its address.
    positions: BTreeMap<usize, usize>,
}

impl BatchReplies {
    /// Adds a reply to those that its connection gets with this batch.
    pub(crate) fn push(&mut self, outbox: &Outbox, id: u64, reply: Reply) {
        let lists = &mut self.lists;
        let position = *self.positions.entry(Arc::as_ptr(outbox).addr()).or_insert_with(|| {
            lists.push((outbox.clone(), Vec::new()));
            lists.len() - 1
        });
        lists[position].1.push((id, reply));
    }

    pub(crate) fn deliver(&mut self) {
        self.positions.clear();
        for (outbox, replies) in self.lists.drain(..) {
            outbox.deliver(replies);
        }
    }
}
