//! Requests of clients, and those that other servers forward, on their way to the core: they wait in
//! [`super::request_queue`] for their turn, and go into the core (`Node::step`, in `kvserver/core/src/node/step.rs`).

use std::sync::Arc;

use common::clock;
use common::ids::{RequestId, ServerId};
use common::messages::{PeerMessage, ProcessId, Reply, Request};
use common::time::Now;
use kvserver_core::{Ask, Input, Token, ask_of, coordinator_of};

use super::replies::Outbox;
use super::request_queue::{Queued, QueuedClient, bytes_of};
use super::state::{Driver, Open};
use super::turns::{Flow, Next, Verdict};
use crate::limits::{PEER_REQUESTS_MAX, REQUEST_BYTES};

impl Driver {
    pub(super) fn on_asks(&mut self, outbox: &Outbox, asks: Vec<(u64, Ask)>, anywhere: bool) {
        let now = clock::now();
        for (id, ask) in asks {
            self.on_client_request(outbox, id, ask, anywhere, None, now);
        }
    }

    /// A request of a connection that is traced.
    pub(super) fn on_traced(&mut self, outbox: &Outbox, id: u64, ask: Ask, request: RequestId) {
        self.on_client_request(outbox, id, ask, false, Some(request), clock::now());
    }

    fn on_client_request(
        &mut self,
        outbox: &Outbox,
        id: u64,
        ask: Ask,
        anywhere: bool,
        traced: Option<RequestId>,
        now: Now,
    ) {
        self.requests += 1;
        let view = self.parts.node.view();
        let asked = self.meter.on_ask(now.time, &ask, view.partitions);
        let elsewhere = |server: &ServerId| *server != self.parts.me.server;
        let to = if anywhere { coordinator_of(view, &ask).filter(elsewhere) } else { None };
        let (outbox, bytes) = (outbox.clone(), bytes_of(&ask));
        let flow = Flow::Client(Arc::as_ptr(&outbox).addr());
        let request = QueuedClient { outbox, id, ask, asked, to, anywhere, traced, now, bytes };
        self.on_request(flow, Queued::Client(request), now);
    }

    /// Another server passes a request on.
    pub(super) fn on_passed(&mut self, from: ProcessId, n: u64, request: Request) {
        let (writes, bytes) = match ask_of(request.clone()) {
            Some(ask) => (matches!(ask, Ask::Write { .. }), bytes_of(&ask)),
            None => (false, REQUEST_BYTES),
        };
        let flow = Flow::Server(from.server);
        // A request that waits may have been sent again. One beyond the limit is dropped, and will be sent again.
        let waits = self.queue.numbers.contains(&(from.server, n));
        if !waits && self.queue.turns.len_of(flow) < PEER_REQUESTS_MAX {
            self.on_request(flow, Queued::Server { from, n, request, writes, bytes }, clock::now());
        }
    }

    /// Takes a request: at once if none wait, else it waits for its turn.
    fn on_request(&mut self, flow: Flow, waiting: Queued, now: Now) {
        let ahead = self.parts.log.bytes_ahead();
        if self.queue.turns.is_empty() && self.queue.judge(&waiting, ahead) == Verdict::Go {
            self.queue.count(&waiting);
            return self.give_to_core(waiting, now);
        }
        if let Queued::Server { from, n, .. } = &waiting {
            self.queue.numbers.insert((from.server, *n));
        }
        self.queue.turns.push(flow, waiting);
    }

    /// Asks the requests that may go in this batch. Returns whether others may go in the next one.
    pub(super) fn ask_waiting(&mut self) -> bool {
        if self.queue.turns.is_empty() {
            return false;
        }
        let now = clock::now();
        let mut turns = std::mem::take(&mut self.queue.turns);
        let more = loop {
            let ahead = self.parts.log.bytes_ahead();
            match turns.next(|waiting| self.queue.judge(waiting, ahead)) {
                Next::Go(waiting) => {
                    self.queue.count(&waiting);
                    self.give_to_core(waiting, now);
                }
                Next::Blocked => break false,
                Next::Over => break true,
            }
        };
        self.queue.turns = turns;
        more
    }

    /// A request whose turn it is goes into the core.
    fn give_to_core(&mut self, waiting: Queued, now: Now) {
        match waiting {
            Queued::Server { from, n, request, .. } => {
                self.queue.numbers.remove(&(from.server, n));
                let message = PeerMessage::Forward { n, request };
                self.parts.node.step(now, Input::Peer { from, message });
            }
            Queued::Client(request) => self.give_client_request(request, now),
        }
    }

    fn give_client_request(&mut self, request: QueuedClient, now: Now) {
        let QueuedClient { outbox, id, mut ask, asked, to, anywhere, traced, now: came, bytes } = request;
        let passed = to.map(|to| (to, bytes));
        // Writes that other servers coordinate are taken or refused there.
        if !self.has_room && matches!(ask, Ask::Write { .. }) && self.parts.node.coordinates(&ask) {
            if let Some(request) = traced {
                tracing::info!(%request, "refused: the disk is full");
            }
            let reason = format!(
                "disk full: {} bytes are free, less than the reserve; free some, reads go on",
                self.free_bytes
            );
            let reply = Reply::Refused { reason };
            self.meter.on_reply(now.time, &asked, &reply);
            self.replies.push(&outbox, id, reply);
            if let Some((to, bytes)) = passed {
                self.queue.on_answered(to, bytes);
            }
            return;
        }
        if let Ask::Write { age_ms, .. } = &mut ask {
            let waited = u64::try_from(now.time.since(came.time).as_millis()).unwrap_or(u64::MAX);
            *age_ms = age_ms.saturating_add(waited);
        }
        self.last_token += 1;
        let token = Token(self.last_token);
        if let Some(request) = traced {
            self.step(Input::Trace { token, request });
        }
        self.open.insert(token, Open { outbox, id, asked, passed });
        let input =
            if anywhere { Input::ClientAnywhere { token, ask } } else { Input::Client { token, ask } };
        self.parts.node.step(now, input);
    }
}
