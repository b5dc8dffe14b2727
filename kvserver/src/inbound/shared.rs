//! State that all connections share.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use common::ids::{Epoch, LogId, PartitionId};
use common::messages::{ProcessId, Reply};
use common::view::View;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot, watch};

use super::intake::InputBudget;
use super::resp::Registry;
use crate::agreed::AgreedClock;
use crate::driver::{Event, Events};
use crate::net::byte_counter::ByteCounter;
use crate::protocol::text::RangeLists;
use crate::server::shutdown::{LastCall, Traffic};

/// What every connection has: the way to the core, the view, budgets and permits.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) me: ProcessId,
    pub(crate) events: Events,
    pub(crate) views: watch::Receiver<Option<Arc<View>>>,
    /// The view that was last sent to clients, encoded once for all of them.
    pub(crate) encoded_view: Arc<Mutex<Option<(Epoch, Bytes)>>>,
    pub(crate) ranges: watch::Receiver<Arc<RangeLists>>,
    pub(crate) value_bytes_max: usize,
    /// Bytes that all connections have open, see [`super::window`].
    pub(crate) open_bytes: ByteCounter,
    /// Budgets for unfinished requests: of clients, and of other servers and the ECS.
    pub(crate) input: InputBudget,
    pub(crate) members_input: InputBudget,
    /// The runtime of the thread that serves links of large messages.
    pub(crate) bulk: Handle,
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) resp: Arc<Registry>,
    /// The clock by which values expire.
    pub(crate) agreed: AgreedClock,
    pub(crate) traffic: Traffic,
    /// Says when connections are to read no more.
    pub(crate) last_call: LastCall,
}

impl Shared {
    /// Whether this server has a role in some partition of the view.
    pub(crate) fn serves(&self) -> bool {
        self.views.borrow().as_ref().is_some_and(|view| view.servers.contains_key(&self.me.server))
    }

    /// The view in use, as JSON.
    pub(crate) fn view_json(&self) -> Option<Bytes> {
        let view = self.views.borrow().clone()?;
        let mut encoded_view = self.encoded_view.lock().unwrap_or_else(PoisonError::into_inner);
        if encoded_view.as_ref().is_none_or(|(number, _)| *number != view.number) {
            let json = serde_json::to_vec(&*view).expect("a view is JSON");
            *encoded_view = Some((view.number, json.into()));
        }
        encoded_view.as_ref().map(|(_, json)| json.clone())
    }

    /// The server's status, as JSON.
    pub(crate) async fn status(&self) -> Option<Vec<u8>> {
        let (answer, status) = oneshot::channel();
        self.events.send(Event::Status(answer)).ok()?;
        Some(serde_json::to_vec(&status.await.ok()?).expect("a status is JSON"))
    }

    /// The digest of the copy here as it was at an entry.
    pub(crate) async fn digest(&self, partition: PartitionId, at: LogId) -> Reply {
        let (answer, digest) = oneshot::channel();
        let _gone = self.events.send(Event::Digest(partition, at, answer));
        match digest.await.ok().flatten() {
            Some(digest) => Reply::Digest { digest },
            None => Reply::Busy {
                reason: format!("there is no digest of partition {partition} at entry {at} yet"),
            },
        }
    }
}
