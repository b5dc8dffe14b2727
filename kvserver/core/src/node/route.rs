//! Requests of clients, and their way between servers to the coordinator of their key: at the coordinator
//! `partition/inputs` hands them to `coordinator/writes` and `coordinator/reads`.
//!
//! A coordinator that a server does not hear is asked through another in-sync member of the partition, which answers
//! reads itself. Such a request may come to the coordinator both ways: a write carries its origin, so it is done once.

use common::ids::{PartitionId, ServerId};
use common::messages::{PeerMessage, Reply, Request};
use common::view::ServerState;

use super::super::ask::Ask;
use super::super::io::Token;
use super::super::limits::{BYPASSED_FOR, FORWARD_AGAIN, RELAY_AFTER};
use super::super::requests::{ClientRequest, ReplyTo};
use super::super::routing::{ask_of, check, coordinator_of, partition_of, request_of};
use super::Node;
use super::forwards::{Foreign, Forward};

impl Node {
    /// Sends requests to the next coordinator whose former one coordinates no longer.
    pub(super) fn forward_anew(&mut self) {
        let view = &self.env.cx.view;
        let misled = |forward: &Forward| coordinator_of(view, &forward.unrouted.ask) != Some(forward.to);
        let misled: Vec<u64> =
            self.forwards.open.iter().filter(|(_, forward)| misled(forward)).map(|(n, _)| *n).collect();
        for n in misled {
            if let Some(forward) = self.forwards.open.remove(&n) {
                self.env.requests.unrouted.push(forward.unrouted);
            }
        }
    }

    /// Whether this server coordinates the partition of a request, or no coordinator is known.
    #[must_use]
    pub fn coordinates(&self, ask: &Ask) -> bool {
        coordinator_of(&self.env.cx.view, ask).is_none_or(|server| self.env.cx.is_me(server))
    }

    pub(super) fn on_client(&mut self, token: Token, ask: Ask, foreign: Foreign) {
        let to = ReplyTo::Client { token, session: None };
        if let Err(reason) = check(&ask, self.env.cx.config.value_bytes_max, &self.env.cx.view) {
            return self.env.reply(to, Reply::Refused { reason });
        }
        let Some(partition) = partition_of(&self.env.cx.view, &ask) else {
            let reason = "the server is in no view yet, retry".to_owned();
            return self.env.reply(to, Reply::Busy { reason });
        };
        self.env.trace_received(to, partition);
        let copy = &mut self.copies[usize::from(partition.0)];
        let ask = match ask {
            // A server that does not coordinate the partition says so at once.
            Ask::Watch(asked) => return copy.on_watch(&mut self.env, to, asked),
            ask => ask,
        };
        let now = self.env.cx.now.time;
        let coordinator = self.env.cx.view.assignment(partition).map(|assignment| assignment.coordinator);
        if coordinator.is_some_and(|coordinator| self.env.cx.is_me(coordinator)) {
            return copy.on_ask(&mut self.env, ClientRequest { to, ask, since: now, maybe_done: false });
        }
        if self.is_answered_here(partition, coordinator, &ask, foreign, to) {
            return;
        }
        let (me, assignment) = (self.env.cx.me.server, self.env.cx.view.assignment(partition));
        let has_copy = assignment.is_some_and(|assignment| assignment.in_sync_member(me).is_some());
        let is_read_of_copy = matches!(ask, Ask::Read(_)) && has_copy;
        if foreign == Foreign::PassOn || is_read_of_copy {
            // A server that has a copy, as the view says, passes reads on while it is not in step in this epoch.
            self.env.requests.unrouted.push(ClientRequest { to, ask, since: now, maybe_done: false });
        } else {
            let view = self.env.cx.view.number;
            self.env.reply(to, Reply::Moved { view });
        }
    }

    /// Whether this server's copy takes a read. It does not while the coordinator is not heard and another server may
    /// be asked: another member may reach it.
    fn is_answered_here(
        &mut self,
        partition: PartitionId,
        coordinator: Option<ServerId>,
        ask: &Ask,
        foreign: Foreign,
        to: ReplyTo,
    ) -> bool {
        let Ask::Read(query) = ask else { return false };
        let is_unheard = coordinator.is_some_and(|coordinator| self.is_unheard(coordinator));
        if is_unheard && (foreign == Foreign::PassOn || self.is_in_sync(partition)) {
            return false;
        }
        let now = self.env.cx.now.time;
        self.copies[usize::from(partition.0)].on_replica_read(&mut self.env, to, query, now)
    }

    /// Sends a request on that has lost its coordinator.
    pub(super) fn route(&mut self, mut unrouted: ClientRequest) {
        let now = self.env.cx.now.time;
        let Some(coordinator) = coordinator_of(&self.env.cx.view, &unrouted.ask) else { return };
        if let ReplyTo::Peer { .. } = unrouted.to {
            // The server that passed it on asks the next coordinator.
            let view = self.env.cx.view.number;
            return self.env.reply(unrouted.to, Reply::Moved { view });
        }
        if now.since(unrouted.since) > self.env.cx.config.park {
            return self.give_up(unrouted);
        }
        if self.env.cx.is_me(coordinator) {
            let partition = partition_of(&self.env.cx.view, &unrouted.ask).expect("it has a coordinator");
            return self.with(partition, |copy, env| copy.on_ask(env, unrouted));
        }
        let elapsed = u64::try_from(now.since(unrouted.since).as_millis()).unwrap_or(u64::MAX);
        if let (Ask::Write { origin: origin @ None, .. }, ReplyTo::Client { session, .. }) =
            (&mut unrouted.ask, &mut unrouted.to)
        {
            let given = self.env.requests.session_origin();
            (*origin, *session) = (Some(given), Some(given.number));
        }
        let Some(request) = request_of(&unrouted.ask, elapsed) else { return };
        let in_doubt = std::mem::replace(&mut unrouted.maybe_done, true);
        let n = self.forwards.next_number();
        let relay = self.is_unheard(coordinator).then(|| self.relay_of(&unrouted.ask, 0)).flatten();
        let (first, relays) = (self.env.cx.watched(), usize::from(relay.is_some()));
        self.env.trace_passed_on(unrouted.to, relay.unwrap_or(coordinator), n);
        self.forwards.note(n, Forward { unrouted, to: coordinator, sent: now, first, relays, in_doubt });
        match relay {
            Some(member) => self.env.out.send(member, PeerMessage::Relay { n, request }),
            None => self.env.out.send(coordinator, PeerMessage::Forward { n, request }),
        }
    }

    /// Whether a server is known not to be heard here.
    fn is_unheard(&self, server: ServerId) -> bool {
        let bypassed = self.forwards.bypassed.get(&server);
        bypassed.is_some_and(|since| self.env.cx.now.time.since(*since) < BYPASSED_FOR)
            || self.unheard.is_unheard(server, self.env.cx.watched(), &self.env.cx.config.timers)
    }

    fn is_in_sync(&self, partition: PartitionId) -> bool {
        let assignment = self.env.cx.view.assignment(partition);
        assignment.is_some_and(|assignment| assignment.in_sync.contains(&self.env.cx.my_member()))
    }

    /// A member that may relay a request: each in turn, first those that are heard. `None`: there is no other.
    fn relay_of(&self, ask: &Ask, turn: usize) -> Option<ServerId> {
        let view = &self.env.cx.view;
        let assignment = partition_of(view, ask).and_then(|partition| view.assignment(partition))?;
        let is_up = |server: &ServerId| {
            !self.env.cx.is_me(*server)
                && view.servers.get(server).is_some_and(|info| info.state != ServerState::Down)
        };
        let mut members: Vec<ServerId> =
            assignment.replicas().map(|member| member.server).filter(is_up).collect();
        members.sort_by_key(|&server| self.is_unheard(server));
        (!members.is_empty()).then(|| members[turn % members.len()])
    }

    /// Sends requests again that were passed on and not answered for a while.
    pub(super) fn retry_forwards(&mut self) {
        let now = self.env.cx.now.time;
        let due = |forward: &Forward| now.since(forward.sent) >= FORWARD_AGAIN;
        let due: Vec<u64> =
            self.forwards.open.iter().filter(|(_, forward)| due(forward)).map(|(n, _)| *n).collect();
        for n in due {
            self.forward_again(n);
        }
    }

    /// Sends a request that was passed on once more, under its number: an answer to any of the tries counts.
    fn forward_again(&mut self, n: u64) {
        let now = self.env.cx.now.time;
        let Some(forward) = self.forwards.open.get_mut(&n) else { return };
        let elapsed = now.since(forward.unrouted.since);
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        match request_of(&forward.unrouted.ask, elapsed_ms).filter(|_| elapsed <= self.env.cx.config.park) {
            Some(request) => {
                forward.sent = now;
                let (to, first) = (forward.to, forward.first);
                self.env.trace_passed_on(forward.unrouted.to, to, n);
                self.env.out.send(to, PeerMessage::Forward { n, request: request.clone() });
                let unheard = self.unheard.is_silent_since(to, first);
                if unheard && self.env.cx.watched().since(first) >= RELAY_AFTER {
                    self.relay(n, request);
                }
            }
            None => {
                let unrouted = self.forwards.open.remove(&n).expect("looked up above").unrouted;
                self.give_up(unrouted);
            }
        }
    }

    /// Has another member pass a request on, beside the tries to reach the coordinator. Only for requests of this
    /// server's clients: other servers find another way for theirs.
    fn relay(&mut self, n: u64, request: Request) {
        let Some(forward) = self.forwards.open.get(&n) else { return };
        if matches!(forward.unrouted.to, ReplyTo::Peer { .. }) {
            return;
        }
        let now = self.env.cx.now.time;
        let since = self.forwards.bypassed.entry(forward.to).or_insert(now);
        if now.since(*since) >= BYPASSED_FOR {
            *since = now;
        }
        let Some(member) = self.relay_of(&forward.unrouted.ask, forward.relays) else { return };
        if let Some(forward) = self.forwards.open.get_mut(&n) {
            forward.relays += 1;
            // It may take two ways at once: a refusal on the one says nothing about the other (W2).
            forward.in_doubt = true;
        }
        self.env.out.send(member, PeerMessage::Relay { n, request });
    }

    /// Another server does not hear the coordinator of a partition that has a copy in sync here.
    pub(super) fn on_relay(&mut self, from: ServerId, n: u64, request: Request) {
        let to = ReplyTo::Peer { server: from, n };
        if self.is_under_way(from, n) {
            return;
        }
        let ask = ask_of(request.clone()).filter(|ask| !matches!(ask, Ask::Watch(_)));
        let partition = ask.as_ref().and_then(|ask| partition_of(&self.env.cx.view, ask));
        let (Some(ask), Some(partition)) = (ask, partition) else { return };
        let now = self.env.cx.now.time;
        let coordinator = coordinator_of(&self.env.cx.view, &ask).filter(|&other| !self.env.cx.is_me(other));
        let Some(coordinator) = coordinator.filter(|_| self.is_in_sync(partition)) else {
            // This server is the coordinator, or has no copy.
            return self.on_forward(from, n, request);
        };
        self.env.requests.begin_answering(from, n);
        self.env.trace_received(to, partition);
        let copy = &mut self.copies[usize::from(partition.0)];
        if let Ask::Read(query) = &ask
            && copy.on_replica_read(&mut self.env, to, query, now)
        {
            return;
        }
        let (n, first, in_doubt) = (self.forwards.next_number(), self.env.cx.watched(), false);
        let unrouted = ClientRequest { to, ask, since: now, maybe_done: true };
        self.forwards.note(n, Forward { unrouted, to: coordinator, sent: now, first, relays: 0, in_doubt });
        self.env.out.send(coordinator, PeerMessage::Forward { n, request });
    }

    /// Whether this is a further try of a request whose first one is not answered yet. The sender learns that it is
    /// heard.
    fn is_under_way(&mut self, from: ServerId, n: u64) -> bool {
        let is_known = self.env.requests.answering.contains(&(from, n));
        if is_known {
            let reply = Reply::Busy { reason: "it is under way".to_owned() };
            self.env.out.send(from, PeerMessage::ForwardReply { n, reply });
        }
        is_known
    }

    fn give_up(&mut self, unrouted: ClientRequest) {
        self.env.reject_busy(unrouted, "no coordinator has answered in time, retry".to_owned());
    }

    pub(super) fn on_forward_reply(&mut self, from: ServerId, n: u64, reply: Reply) {
        match reply {
            Reply::Moved { view } => {
                if view > self.newest.number {
                    self.want_view(from);
                }
            }
            // Asked again after a moment.
            Reply::Busy { .. } | Reply::Unknown { .. } => {}
            reply => {
                if let Some(forward) = self.forwards.open.remove(&n) {
                    let reply = match reply {
                        Reply::Refused { reason } if forward.in_doubt => Reply::Unknown { reason },
                        reply => reply,
                    };
                    self.env.reply(forward.unrouted.to, reply);
                }
            }
        }
    }

    pub(super) fn on_forward(&mut self, from: ServerId, n: u64, request: Request) {
        let to = ReplyTo::Peer { server: from, n };
        if self.is_under_way(from, n) {
            return;
        }
        let Some(ask) = ask_of(request).filter(|ask| !matches!(ask, Ask::Watch(_))) else {
            let reason = "only requests for data are passed on".to_owned();
            return self.env.reply(to, Reply::Refused { reason });
        };
        let now = self.env.cx.now.time;
        match (coordinator_of(&self.env.cx.view, &ask), partition_of(&self.env.cx.view, &ask)) {
            (Some(coordinator), Some(partition)) if self.env.cx.is_me(coordinator) => {
                self.env.requests.begin_answering(from, n);
                self.env.trace_received(to, partition);
                let unrouted = ClientRequest { to, ask, since: now, maybe_done: false };
                self.with(partition, |copy, env| copy.on_ask(env, unrouted));
            }
            _ => {
                let view = self.env.cx.view.number;
                self.env.reply(to, Reply::Moved { view });
            }
        }
    }
}
