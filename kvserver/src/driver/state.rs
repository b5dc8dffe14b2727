//! What the driver has: its parts, and what is under way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender as JobSender;

use common::clock;
use common::ids::ServerId;
use common::messages::{PeerMessage, ProcessId, ServerReport};
use common::time::Time;
use common::view::View;
use kvserver_core::{Node, Scrub, Token};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use super::replies::{BatchReplies, Outbox};
use super::request_queue::RequestQueue;
use super::traces::TraceLog;
use crate::agreed::AgreedClock;
use crate::error::Failure;
use crate::limits::SWEEP_LOOK;
use crate::metrics::{Asked, Meter, MetricsReport, Sizes, SlowLog};
use crate::net::peers::Peers;
use crate::server::shutdown::Traffic;
use crate::store::log_writer::LogQueue;
use crate::store::state_machine::StateMachine;
use crate::workers::digest::DigestJob;
use crate::workers::key_scan::KeyScan;
use crate::workers::scrub::ScrubJob;
use crate::workers::transfer::{BuildJob, ReadJob};

/// The parts that the driver is made of.
pub(crate) struct Parts {
    pub(crate) node: Node,
    pub(crate) machine: StateMachine,
    pub(crate) log: LogQueue,
    pub(crate) readers: JobSender<ReadJob>,
    pub(crate) builders: JobSender<BuildJob>,
    pub(crate) scrubber: JobSender<ScrubJob>,
    pub(crate) digester: JobSender<DigestJob>,
    pub(crate) key_scanner: JobSender<KeyScan>,
    pub(crate) scrub: Scrub,
    pub(crate) peers: Peers,
    pub(crate) views: watch::Sender<Option<Arc<View>>>,
    pub(crate) reports: UnboundedSender<ServerReport>,
    pub(crate) metrics_reports: watch::Sender<Option<Arc<MetricsReport>>>,
    pub(crate) traffic: Traffic,
    pub(crate) me: ProcessId,
    pub(crate) address: String,
    pub(crate) ecs: String,
    pub(crate) weight: u32,
    pub(crate) slow_ms: u64,
    pub(crate) reserve_bytes: u64,
    pub(crate) traces: TraceLog,
    pub(crate) agreed: AgreedClock,
}

/// The loop that owns the core, see [`super`].
pub(crate) struct Driver {
    pub(super) parts: Parts,
    /// Requests that the core has not answered.
    pub(super) open: BTreeMap<Token, Open>,
    pub(super) last_token: u64,
    /// Requests that the core has not taken.
    pub(super) queue: RequestQueue,
    pub(super) outgoing: BTreeMap<ServerId, Vec<PeerMessage>>,
    pub(super) replies: BatchReplies,
    pub(super) next_tick: Time,
    pub(super) next_room: Time,
    pub(super) next_sweep: Time,
    pub(super) free_bytes: u64,
    pub(super) has_room: bool,
    pub(super) sizes: Sizes,
    /// Requests that were asked since the last heartbeat.
    pub(super) requests: u64,
    pub(super) meter: Meter,
    /// The time of the first reply of a batch; the others leave with it.
    pub(super) replied: Option<Time>,
    pub(super) reported_damage: bool,
}

/// A request that is not answered, and where its reply goes.
pub(super) struct Open {
    pub(super) outbox: Outbox,
    pub(super) id: u64,
    pub(super) asked: Asked,
    /// The server that it was passed on to, and the bytes that it counts there.
    pub(super) passed: Option<(ServerId, usize)>,
}

impl Driver {
    /// A driver that has done nothing yet.
    pub(crate) fn new(parts: Parts) -> Self {
        let now = clock::time();
        Self {
            open: BTreeMap::new(),
            last_token: 0,
            queue: RequestQueue::default(),
            outgoing: BTreeMap::new(),
            replies: BatchReplies::default(),
            next_tick: now,
            next_room: now,
            next_sweep: now + SWEEP_LOOK,
            free_bytes: 0,
            has_room: true,
            sizes: Sizes::default(),
            requests: 0,
            meter: Meter::new(now, SlowLog::new(parts.slow_ms)),
            replied: None,
            reported_damage: false,
            parts,
        }
    }
}

/// Gives a thread a job. A thread that has ended has reported why before, or has panicked.
pub(super) fn hand<T>(thread: &JobSender<T>, job: T) -> Result<(), Failure> {
    thread.send(job).map_err(|_| Failure::Stopped("a thread has ended; see the log above".to_owned()))
}
