//! What goes into the state machine and what comes out.

use std::sync::Arc;

use common::ids::{ClusterId, PartitionId, ServerId};
use common::messages::{ProcessId, Promised, ServerReport, StoreVerdict};
use common::view::View;

use crate::cause::Event;
use crate::peers::Disagreement;
use crate::plan::RequestedState;
use crate::refusal::Refusal;
use crate::state::{Settings, State};

/// What goes into the core of the ECS.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A server's report. The shell refuses links of another cluster before.
    Report {
        /// The process that sent it.
        sender: ProcessId,
        /// What it says of itself, its copies, or others.
        report: ServerReport,
    },
    /// A server's report link ended.
    LinkEnded {
        /// The process whose link it was.
        sender: ProcessId,
    },
    /// A server of another cluster wants to report; the shell closes its link.
    Foreign {
        /// The process.
        sender: ProcessId,
        /// The cluster that it says it is of.
        cluster: ClusterId,
    },
    /// The state of this persist is on disk.
    Durable {
        /// The ticket of the [`Effect::Persist`].
        ticket: u64,
    },
    /// An operator requests other states of servers, all in one view.
    Order {
        /// The servers and their states.
        states: Vec<(ServerId, RequestedState)>,
    },
    /// R7: an operator lets a partition that is offline begin anew from what this server has of it. Acknowledged writes
    /// that only other copies hold are lost.
    Recover {
        /// The partition that begins anew.
        partition: PartitionId,
        /// A server that is up.
        server: ServerId,
    },
    /// An operator sets something.
    Set(Settings),
    /// Time has passed: wanted at [`Ecs::deadline`](super::Ecs::deadline) at the latest.
    Tick,
}

/// What the core wants done, in the order in which it is returned.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Write the state to disk, then give the core [`Input::Durable`]. Only one is under way at a time.
    Persist {
        /// Names this persist.
        ticket: u64,
        /// All of the durable state.
        state: State,
    },
    /// Send this view to a server. A newer one replaces it if it was not sent yet.
    Publish {
        /// The server.
        to: ServerId,
        /// Where it listens.
        address: String,
        /// A durable view.
        view: Arc<View>,
    },
    /// R6: ask a server for a promise, and for a report of its copies.
    Ask {
        /// The server.
        to: ServerId,
        /// Where it listens.
        address: String,
        /// What the server is to promise: to follow this rebuild of the ECS and no earlier one.
        promise: Promised,
    },
    /// R3: inform a server that waits with a store what becomes of the store.
    Verdict {
        /// The process.
        to: ProcessId,
        /// Where it listens.
        address: String,
        /// What becomes of it, as things are now.
        verdict: StoreVerdict,
    },
    /// A new view is durable, for the log and the list of events.
    Made(Event),
    /// Close the report link of a process: it is not a member, or not any more, and must say hello (again).
    EndLink {
        /// Which process.
        sender: ProcessId,
    },
    /// P2: a partition has stopped, as its copies disagree, and needs an operator.
    CopiesDisagree {
        /// The partition that has stopped.
        partition: PartitionId,
        /// What was found.
        found: Disagreement,
    },
    /// A hello was not accepted: log it, and send the refusal to the server.
    Refused {
        /// The process that said hello.
        sender: ProcessId,
        /// Where it listens, if that is known.
        address: Option<String>,
        /// Why not.
        refusal: Refusal,
    },
}
