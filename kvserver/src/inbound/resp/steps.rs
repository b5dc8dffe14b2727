//! Commands that need several steps, or more requests than are kept in order: they are carried out with nothing else
//! of the connection under way.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::messages::Reply;
use kvserver_core::{Ask, Query};
use tokio::sync::Notify;

use super::super::connection::Connection;
use super::super::in_flight::too_much;
use super::pipeline::Pipeline;
use crate::driver::replies::{Deliver, Outbox, Replies};
use crate::limits::{ASKS_AT_ONCE_MAX, GET_BYTES_FIRST, REPLY_BYTES_MAX};

/// The steps of one command.
pub(super) struct Steps<'a> {
    pub(super) connection: &'a Connection<Pipeline>,
    /// The port that the client has connected to.
    pub(super) port: u16,
}

impl Steps<'_> {
    /// Asks all, [`ASKS_AT_ONCE_MAX`] at a time, and waits for all replies.
    pub(super) async fn gather(&self, asks: Vec<Ask>) -> Vec<Reply> {
        let mut replies = Vec::with_capacity(asks.len());
        let mut asks = asks.into_iter().peekable();
        while asks.peek().is_some() {
            let some = asks.by_ref().take(ASKS_AT_ONCE_MAX).collect();
            replies.extend(self.gather_some(some).await);
        }
        replies
    }

    /// Asks all at once, and waits for all replies.
    pub(super) async fn gather_some(&self, asks: Vec<Ask>) -> Vec<Reply> {
        let gather = Gather::new(asks.len());
        let outbox: Outbox = Arc::clone(&gather) as Outbox;
        self.connection.ask_for(outbox, (0..).zip(asks).collect());
        gather.all().await
    }

    /// Asks the parts of a call, and waits for all replies; no more than fit into one are kept.
    pub(super) async fn gather_call(&self, asks: Vec<Ask>, needs_values: bool) -> Vec<Reply> {
        let mut replies = Vec::with_capacity(asks.len());
        let mut bytes = 0;
        let mut asks = asks.into_iter().map(bounded).peekable();
        while asks.peek().is_some() {
            for mut reply in self.gather_some(asks.by_ref().take(ASKS_AT_ONCE_MAX).collect()).await {
                while needs_values && let Reply::TooLarge { key, bytes: more } = reply {
                    reply = match u32::try_from(more) {
                        Ok(more) if bytes + more as usize <= REPLY_BYTES_MAX => {
                            let again = Ask::Read(Query::Get { key, bytes_max: more });
                            self.gather_some(vec![again]).await.pop().unwrap_or_else(too_much)
                        }
                        _ => too_much(),
                    };
                }
                if let Reply::Value { found: Some(found) } = &reply {
                    bytes += found.value.len();
                }
                if bytes > REPLY_BYTES_MAX {
                    reply = too_much();
                }
                replies.push(reply);
            }
        }
        replies
    }
}

/// Gives a get the bound of the first try, so that it returns no large value.
fn bounded(mut ask: Ask) -> Ask {
    if let Ask::Read(Query::Get { bytes_max, .. }) = &mut ask {
        *bytes_max = GET_BYTES_FIRST;
    }
    ask
}

/// Gathers the replies to several requests for a task that waits for all of them.
struct Gather {
    replies: Mutex<(Vec<Option<Reply>>, usize)>,
    complete: Notify,
}

impl Gather {
    fn new(count: usize) -> Arc<Self> {
        let replies = Mutex::new(((0..count).map(|_| None).collect(), count));
        Arc::new(Self { replies, complete: Notify::new() })
    }

    fn replies(&self) -> MutexGuard<'_, (Vec<Option<Reply>>, usize)> {
        self.replies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All replies, in the order of the requests.
    async fn all(&self) -> Vec<Reply> {
        while self.replies().1 > 0 {
            self.complete.notified().await;
        }
        std::mem::take(&mut self.replies().0).into_iter().flatten().collect()
    }
}

impl Deliver for Gather {
    fn deliver(&self, some: Replies) {
        let mut replies = self.replies();
        for (number, reply) in some {
            let slot = usize::try_from(number).ok().and_then(|at| replies.0.get_mut(at));
            if slot.is_some_and(|slot| slot.replace(reply).is_none()) {
                replies.1 -= 1;
            }
        }
        if replies.1 == 0 {
            self.complete.notify_one();
        }
    }
}
