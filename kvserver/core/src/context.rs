//! What decisions read: the configuration, the server's identity, the time, and the view.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::ids::ServerId;
use common::messages::{PeerMessage, ProcessId, Promised};
use common::time::{Now, Time};
use common::view::{Member, View};

use super::config::Config;
use super::limits::STALLED;
use super::planted::PlantedBug;

/// Numbers in messages begin after this one: an answer to another process of this server, which may come late, is never
/// taken for an answer to this one, also where a disk went back and its incarnations repeat. No process makes 2^32 of
/// them.
pub(crate) fn first_number(me: ProcessId) -> u64 {
    (me.nonce.0 & 0x7fff_ffff) << 32
}

/// The process of a server that a view names.
pub(crate) fn named_process(view: &View, server: ServerId) -> Option<ProcessId> {
    view.servers.get(&server).map(|info| info.process(server))
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) me: ProcessId,
    pub(crate) now: Now,
    pub(crate) view: Arc<View>,
    /// R6: only views that this promise allows are adopted.
    pub(crate) promised: Option<Promised>,
    view_json: Option<Bytes>,
    /// The total time for which this process has stood still.
    pub(crate) stalled: Duration,
}

impl Context {
    pub(crate) fn new(config: Config, me: ProcessId, view: Arc<View>, now: Now) -> Self {
        let (promised, view_json, stalled) = (None, None, Duration::ZERO);
        Self { config, me, now, view, promised, view_json, stalled }
    }

    /// Whether a bug is planted.
    #[inline]
    pub(crate) fn planted(&self, bug: PlantedBug) -> bool {
        cfg!(feature = "planted-bugs") && self.config.bug == Some(bug)
    }

    pub(crate) fn is_me(&self, server: ServerId) -> bool {
        server == self.me.server
    }

    /// This server with its present store.
    pub(crate) fn my_member(&self) -> Member {
        Member { server: self.me.server, store: self.me.store }
    }

    /// The time without the stalls of this process. Messages that arrived during a stall are not read yet, so other
    /// servers must not count as silent for that time.
    pub(crate) fn watched(&self) -> Time {
        self.now.time - self.stalled
    }

    /// No moment that is remembered is later, for assertions: within a batch the time may go back a little, as not
    /// every input has its own reading of the clock.
    pub(crate) fn latest(&self) -> Time {
        self.now.time + STALLED
    }

    pub(crate) fn set_view(&mut self, view: Arc<View>) {
        assert!(view.number > self.view.number, "a view is replaced by a newer one");
        self.view = view;
        self.view_json = None;
    }

    /// The message that carries this server's view.
    pub(crate) fn view_message(&mut self) -> PeerMessage {
        let view = &self.view;
        let json = self.view_json.get_or_insert_with(|| {
            Bytes::from(serde_json::to_vec(&**view).expect("a view has only names as keys"))
        });
        PeerMessage::View { number: view.number, json: json.clone() }
    }
}
