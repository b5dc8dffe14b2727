//! What all copies of a server share while they decide: what they read, the effects that are being collected, and the
//! state of all copies together.

use std::collections::BTreeSet;
use std::sync::Arc;

use common::ids::{PartitionId, ServerId};
use common::messages::{PeerMessage, ProcessId, Reply};
use common::status::{CaughtUp, ComparedStatus};
use common::time::{Now, WallTime};
use common::view::{Assignment, View};

use super::ask::Ask;
use super::bounded_queue::ByteBudget;
use super::config::Config;
use super::context::{Context, first_number, named_process};
use super::digests::Digests;
use super::io::{Later, ReadId};
use super::limits::{
    DAMAGE_REPORTED_MAX, DIFFERENCES_KEPT, DOUBTFUL_FOR, SNAPSHOTS_SENT_MAX, STALLED, STOPPED_LONG,
    WATCHES_MAX,
};
use super::out::Out;
use super::pace::Pace;
use super::partition_set::PartitionSet;
use super::planted::PlantedBug;
use super::promises::Promises;
use super::requests::{ClientRequest, ReplyTo, Requests};
use super::stamps::{Notice, StampClock};
use super::trace_step::TraceStep;
use super::traces::Traces;

/// Copies of partitions that are sent and received.
#[derive(Debug)]
pub(crate) struct Transfers {
    /// The number of the last copy that was sent.
    pub(crate) last_transfer: u64,
    /// The number of the last copy that was received.
    pub(crate) last_staging: u64,
    /// Copies that are being sent, over all partitions.
    pub(crate) open: usize,
    pub(crate) pace: Pace,
    pub(crate) caught_up: CaughtUp,
}

/// What is known of damage and of copies that differ.
#[derive(Debug, Default)]
pub(crate) struct Integrity {
    pub(crate) digests: Digests,
    /// The store must not be used any more (R3): the process is about to end.
    pub(crate) condemned: bool,
    /// Damage that was reported and that the server goes on with.
    pub(crate) reported_damage: BTreeSet<String>,
    pub(crate) compared: ComparedStatus,
}

/// What waits in memory in all copies together.
#[derive(Debug)]
pub(crate) struct Budgets {
    /// Writes that are ordered and not applied, in all copies.
    pub(crate) pending: ByteBudget,
    /// Requests that wait in all copies.
    pub(crate) parked: ByteBudget,
    /// Requests for changes that wait in all copies.
    pub(crate) watches: usize,
    /// Bytes of changes that are kept for them, in all copies.
    pub(crate) change_bytes: usize,
}

impl Budgets {
    fn invariants(&self) {
        assert!(self.watches <= WATCHES_MAX, "requests for changes are bounded");
    }
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Env {
    pub(crate) cx: Context,
    pub(crate) out: Out,
    pub(crate) clock: StampClock,
    pub(crate) promises: Promises,
    pub(crate) requests: Requests,
    pub(crate) transfers: Transfers,
    pub(crate) integrity: Integrity,
    pub(crate) budgets: Budgets,
    /// Copies that clients watch, or have watched of late.
    pub(crate) watched: BTreeSet<PartitionId>,
    /// Copies that were touched in this batch.
    pub(crate) touched: PartitionSet,
    pub(crate) traces: Traces,
}

impl Env {
    pub(crate) fn new(config: Config, me: ProcessId, view: Arc<View>, now: Now) -> Self {
        let number = first_number(me);
        Self {
            out: Out::default(),
            clock: StampClock::new(now),
            promises: Promises::new(&config, me, now),
            requests: Requests::new(config.session, number),
            transfers: Transfers {
                last_transfer: number,
                last_staging: number,
                open: 0,
                pace: Pace::default(),
                caught_up: CaughtUp::default(),
            },
            integrity: Integrity::default(),
            budgets: Budgets {
                pending: ByteBudget::new(config.pending_bytes_max),
                parked: ByteBudget::new(config.parked_bytes_max),
                watches: 0,
                change_bytes: 0,
            },
            watched: BTreeSet::new(),
            touched: PartitionSet::default(),
            traces: Traces::default(),
            cx: Context::new(config, me, view, now),
        }
    }

    /// Asserts what must be true after every step.
    pub(crate) fn invariants(&self) {
        self.budgets.invariants();
        self.promises.invariants(self.cx.me, self.cx.latest());
        self.requests.invariants();
        self.integrity.digests.invariants();
        self.clock.invariants(self.cx.me.server);
        self.traces.invariants();
        self.out.invariants();
        assert!(self.transfers.open <= SNAPSHOTS_SENT_MAX, "copies that are sent at a time are bounded");
        assert!(self.integrity.reported_damage.len() <= DAMAGE_REPORTED_MAX, "reported damage is bounded");
        let differences = self.integrity.compared.differences.len();
        assert!(differences <= DIFFERENCES_KEPT, "differences are bounded");
    }

    /// The time goes on. If the process was stopped for long, the age of requests that wait in its sockets is not
    /// known.
    pub(crate) fn set_now(&mut self, now: Now) {
        let gap = now.time.since(self.cx.now.time);
        if gap >= STALLED {
            self.cx.stalled += gap;
        }
        if now.time.since(self.cx.now.time) >= STOPPED_LONG {
            self.requests.doubtful_until = now.time + DOUBTFUL_FOR;
        }
        self.cx.now = now;
    }

    /// The present time of the clock by which values expire.
    pub(crate) fn stamp(&self) -> WallTime {
        if self.cx.planted(PlantedBug::StampsFromWallClock) {
            self.cx.now.wall
        } else {
            self.clock.at(self.cx.now.time)
        }
    }

    /// Looks at the wall clocks, here and of the peers.
    pub(crate) fn look_at_clocks(&mut self) {
        let is_alone = self.cx.view.servers.len() == 1;
        match self.clock.look(self.cx.now, is_alone) {
            Some(Notice::Off(reason)) => self.out.alarm(reason),
            Some(Notice::Right(reason)) => self.out.warn(reason),
            None => {}
        }
    }

    /// Sends a server the clocks of this one, at intervals.
    pub(crate) fn send_clock(&mut self, to: ServerId) {
        if let Some((wall, stamps)) = self.clock.next_to_send(to, self.cx.now) {
            self.out.send(to, PeerMessage::Clock { wall, stamps });
        }
    }

    pub(crate) fn set_view(&mut self, view: Arc<View>) {
        let names_me = named_process(&view, self.cx.me.server).is_some_and(|named| {
            named.store == self.cx.me.store
                && named.incarnation == self.cx.me.incarnation
                && (named.nonce == self.cx.me.nonce || self.cx.planted(PlantedBug::RoleByTable))
        });
        self.promises.vows.on_view(names_me);
        self.cx.set_view(view);
    }

    /// S4: whether this process may acknowledge, promise, or say what its log of a partition has.
    pub(crate) fn may_speak(&self, partition: PartitionId) -> bool {
        let assignment = self.cx.view.assignment(partition);
        self.cx.planted(PlantedBug::ActsBeforeHello)
            || assignment
                .is_some_and(|assignment| self.promises.vows.may_speak(self.cx.me.server, assignment))
    }

    /// S4: whether this process may promise for all partitions that it shares with `server` as coordinator.
    pub(crate) fn may_promise(&self, server: ServerId) -> bool {
        let me = self.cx.me.server;
        let is_shared = |assignment: &Assignment| {
            let mut listed = assignment.in_sync.iter().chain(&assignment.joining);
            assignment.coordinator == server && listed.any(|member| member.server == me)
        };
        let mut shared = self.cx.view.assignments.iter().filter(|now| is_shared(now));
        self.promises.vows.is_named
            || self.cx.planted(PlantedBug::ActsBeforeHello)
            || shared.all(|now| self.promises.vows.may_speak(me, now))
    }

    /// Sends this server's view to one whose view is older.
    pub(crate) fn send_view(&mut self, to: ServerId) {
        let message = self.cx.view_message();
        self.out.send(to, message);
    }

    /// Sends a reply to where the request came from.
    pub(crate) fn reply(&mut self, to: ReplyTo, reply: Reply) {
        self.trace_answered(to, &reply);
        match to {
            ReplyTo::Client { token, session } => {
                if let Some(number) = session {
                    self.requests.on_session_answered(number);
                }
                self.out.effect(Later::Reply { token, reply });
            }
            ReplyTo::Peer { server, n } => {
                self.requests.answering.remove(&(server, n));
                self.out.send(server, PeerMessage::ForwardReply { n, reply });
            }
            // The tick is applied and its copy looks at the read again; a question is answered by the commit alone.
            ReplyTo::Read(_) | ReplyTo::Question { .. } => {}
        }
    }

    /// Answers that a request cannot be done now: as busy, or as unknown if it may be in some log (W2).
    pub(crate) fn reject_busy(&mut self, unrouted: ClientRequest, reason: String) {
        let reply = match unrouted.ask {
            Ask::Write { .. } if unrouted.maybe_done => Reply::Unknown { reason },
            _ => Reply::Busy { reason },
        };
        self.reply(unrouted.to, reply);
    }

    /// Asks the shell to carry out a noted read.
    pub(crate) fn issue_read(&mut self, id: ReadId) {
        let Some(read) = self.requests.reads.get(&id) else { return };
        assert!(!matches!(read.to, ReplyTo::Read(_)), "a read is not answered to another read");
        let (to, partition, query) = (read.to, read.partition, read.query.clone());
        self.trace_request(to, TraceStep::Read {});
        self.out.effect(Later::Read { read: id, partition, query });
    }
}
