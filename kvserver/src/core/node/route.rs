//! Requests: of clients, and passed on between servers to the coordinator of their key.

use std::time::Duration;

use common::ids::{PartitionId, ServerId};
use common::limits::KEY_BYTES_MAX;
use common::messages::{PeerMessage, Reply, Request, Selection};
use common::operation::{InvalidOperation, Operation};
use common::time::Time;
use common::view::View;

use super::super::ask::{Ask, Query, WatchAsk};
use super::super::env::{ReplyTo, Stray};
use super::super::io::Token;
use super::super::keys::is_gathered;
use super::super::limits::{FORWARD_AGAIN, STRAY_FOR};
use super::Node;

/// A request that was passed on.
#[derive(Debug)]
pub(super) struct Forward {
    stray: Stray,
    to: ServerId,
    sent: Time,
    /// It may have been in some log before it was passed on: a refusal says nothing (W2).
    in_doubt: bool,
}

impl Node {
    /// Requests that were passed to a server that coordinates no longer look for the next one.
    pub(super) fn forward_anew(&mut self) {
        let view = &self.env.view;
        let misled = |forward: &Forward| coordinator_of(view, &forward.stray.ask) != Some(forward.to);
        let misled: Vec<u64> =
            self.forwards.iter().filter(|(_, forward)| misled(forward)).map(|(n, _)| *n).collect();
        for n in misled {
            if let Some(forward) = self.forwards.remove(&n) {
                self.env.strays.push(forward.stray);
            }
        }
    }

    pub(super) fn on_client(&mut self, token: Token, ask: Ask, anywhere: bool) {
        let to = ReplyTo::Client { token, session: None };
        if let Err(reason) = check(&ask, self.env.config.value_bytes_max, &self.env.view) {
            return self.env.reply(to, Reply::Refused { reason });
        }
        let Some(partition) = partition_of(&self.env.view, &ask) else {
            let reason = "the server is in no view yet, retry".to_owned();
            return self.env.reply(to, Reply::Busy { reason });
        };
        self.env.trace_received(to, partition);
        let now = self.env.now.time;
        let copy = &mut self.copies[usize::from(partition.0)];
        if let Ask::Watch(asked) = ask {
            // Whoever does not coordinate tells that at once.
            return copy.on_watch(&mut self.env, to, asked);
        }
        if self.env.view.assignment(partition).is_some_and(|a| self.env.is_me(a.coordinator)) {
            return copy.on_ask(&mut self.env, Stray { to, ask, since: now, maybe_done: false });
        }
        if let Ask::Read(query) = &ask {
            if copy.on_replica_read(&mut self.env, to, query, now) {
                return;
            }
            let me = self.env.me.server;
            if self.env.view.assignment(partition).is_some_and(|a| a.in_sync_member(me).is_some()) {
                // It has a copy, as the view tells everybody, but is not in step in this epoch yet.
                return self.env.strays.push(Stray { to, ask, since: now, maybe_done: false });
            }
        }
        if anywhere {
            return self.env.strays.push(Stray { to, ask, since: now, maybe_done: false });
        }
        let view = self.env.view.number;
        self.env.reply(to, Reply::Moved { view });
    }

    /// A request that lost its coordinator.
    pub(super) fn route(&mut self, mut stray: Stray) {
        let now = self.env.now.time;
        let Some(coordinator) = coordinator_of(&self.env.view, &stray.ask) else { return };
        if let ReplyTo::Peer { .. } = stray.to {
            // Whoever passed it on asks the next one.
            let view = self.env.view.number;
            return self.env.reply(stray.to, Reply::Moved { view });
        }
        if now.since(stray.since) > STRAY_FOR {
            return self.give_up(stray);
        }
        if self.env.is_me(coordinator) {
            let partition = partition_of(&self.env.view, &stray.ask).expect("it has a coordinator");
            return self.with(partition, |copy, env| copy.on_ask(env, stray));
        }
        let elapsed = u64::try_from(now.since(stray.since).as_millis()).unwrap_or(u64::MAX);
        if let (Ask::Write { origin: origin @ None, .. }, ReplyTo::Client { session, .. }) =
            (&mut stray.ask, &mut stray.to)
        {
            let given = self.env.session_origin();
            (*origin, *session) = (Some(given), Some(given.number));
        }
        let Some(request) = request_of(&stray.ask, elapsed) else { return };
        let in_doubt = std::mem::replace(&mut stray.maybe_done, true);
        self.last_forward += 1;
        let n = self.last_forward;
        self.env.trace_passed_on(stray.to, coordinator, n);
        self.forwards.insert(n, Forward { stray, to: coordinator, sent: now, in_doubt });
        self.env.out.send(coordinator, PeerMessage::Forward { n, request });
    }

    /// Requests that were passed on and not answered for a while.
    pub(super) fn retry_forwards(&mut self) {
        let now = self.env.now.time;
        let due = |forward: &Forward| now.since(forward.sent) >= FORWARD_AGAIN;
        let due: Vec<u64> =
            self.forwards.iter().filter(|(_, forward)| due(forward)).map(|(n, _)| *n).collect();
        for n in due {
            self.forward_again(n);
        }
    }

    /// Sends a request that was passed on again, under its number: an answer to any of the tries is good.
    fn forward_again(&mut self, n: u64) {
        let now = self.env.now.time;
        let Some(forward) = self.forwards.get_mut(&n) else { return };
        let elapsed = now.since(forward.stray.since);
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        match request_of(&forward.stray.ask, elapsed_ms).filter(|_| elapsed <= STRAY_FOR) {
            Some(request) => {
                forward.sent = now;
                self.env.trace_passed_on(forward.stray.to, forward.to, n);
                self.env.out.send(forward.to, PeerMessage::Forward { n, request });
            }
            None => {
                let stray = self.forwards.remove(&n).expect("looked up above").stray;
                self.give_up(stray);
            }
        }
    }

    fn give_up(&mut self, stray: Stray) {
        stray.put_off(&mut self.env, "no coordinator has answered in time, retry".to_owned());
    }

    pub(super) fn on_forward_reply(&mut self, from: ServerId, n: u64, reply: Reply) {
        match reply {
            Reply::Moved { view } => {
                if view > self.newest {
                    self.want_view(from);
                }
            }
            // Asked again after a moment.
            Reply::Busy { .. } | Reply::Unknown { .. } => {}
            reply => {
                if let Some(forward) = self.forwards.remove(&n) {
                    let reply = match reply {
                        Reply::Refused { reason } if forward.in_doubt => Reply::Unknown { reason },
                        reply => reply,
                    };
                    self.env.reply(forward.stray.to, reply);
                }
            }
        }
    }

    pub(super) fn on_forward(&mut self, from: ServerId, n: u64, request: Request) {
        let to = ReplyTo::Peer { server: from, n };
        if self.env.answering.contains(&(from, n)) {
            // A further try, and the first one is not answered yet.
            return;
        }
        let Some(ask) = ask_of(request).filter(|ask| !matches!(ask, Ask::Watch(_))) else {
            let reason = "only requests for data are passed on".to_owned();
            return self.env.reply(to, Reply::Refused { reason });
        };
        let now = self.env.now.time;
        match (coordinator_of(&self.env.view, &ask), partition_of(&self.env.view, &ask)) {
            (Some(coordinator), Some(partition)) if self.env.is_me(coordinator) => {
                self.env.answering.insert((from, n));
                self.env.trace_received(to, partition);
                let stray = Stray { to, ask, since: now, maybe_done: false };
                self.with(partition, |copy, env| copy.on_ask(env, stray));
            }
            _ => {
                let view = self.env.view.number;
                self.env.reply(to, Reply::Moved { view });
            }
        }
    }
}

/// The partition that a request is about; none before the first view.
fn partition_of(view: &View, ask: &Ask) -> Option<PartitionId> {
    if view.assignments.is_empty() {
        return None;
    }
    match ask {
        Ask::Write { operation: Operation::Compare { partition }, .. } => Some(*partition),
        Ask::Write { operation, .. } => operation.key().map(|key| view.partitions.of_key(key)),
        Ask::Read(Query::Get { key, .. }) => Some(view.partitions.of_key(key)),
        Ask::Read(
            Query::Scan { partition, .. } | Query::Keys { partition, .. } | Query::Count { partition },
        ) => Some(*partition),
        Ask::Watch(asked) => Some(asked.partition),
        Ask::Read(Query::Nothing) => None,
    }
}

fn coordinator_of(view: &View, ask: &Ask) -> Option<ServerId> {
    partition_of(view, ask).and_then(|partition| view.assignment(partition)).map(|found| found.coordinator)
}

/// What is refused before anything else is looked at.
fn check(ask: &Ask, value_bytes_max: usize, view: &View) -> Result<(), String> {
    match ask {
        Ask::Write { operation: Operation::Compare { partition }, .. }
        | Ask::Read(
            Query::Scan { partition, .. } | Query::Keys { partition, .. } | Query::Count { partition },
        )
        | Ask::Watch(WatchAsk { partition, .. })
            if !view.assignments.is_empty() && usize::from(partition.0) >= view.partitions.count() =>
        {
            Err(format!("partition {partition} does not exist; there are {}", view.partitions.count()))
        }
        Ask::Write { operation: Operation::Compare { .. }, .. } => Ok(()),
        Ask::Write { operation, .. } if operation.key().is_none() => {
            Err("this is no operation on a key".to_owned())
        }
        Ask::Write { operation, .. } => {
            operation.check(value_bytes_max).map_err(|error| error.to_string())?;
            let gathered = view.assignments.is_empty() || is_gathered(view, operation);
            if gathered { Ok(()) } else { Err(InvalidOperation::BatchScattered.to_string()) }
        }
        Ask::Read(Query::Get { key, .. }) => {
            common::operation::check_key(key).map_err(|error| error.to_string())
        }
        Ask::Watch(WatchAsk { selection: Selection::Key { key }, .. }) => {
            common::operation::check_key(key).map_err(|error| error.to_string())
        }
        Ask::Watch(WatchAsk { selection: Selection::Prefix { prefix }, .. })
            if prefix.len() > KEY_BYTES_MAX =>
        {
            Err(format!("the prefix has {} bytes; a key has {KEY_BYTES_MAX} at most", prefix.len()))
        }
        Ask::Read(_) | Ask::Watch(_) => Ok(()),
    }
}

/// What a client's request asks of the data; none for requests about the server.
#[must_use]
pub fn ask_of(request: Request) -> Option<Ask> {
    Some(match request {
        Request::Write { origin, age_ms, operation } => {
            Ask::Write { origin: Some(origin), age_ms, operation }
        }
        Request::Get { key } => Ask::Read(Query::get(key)),
        Request::GetUpTo { key, bytes_max } => Ask::Read(Query::Get { key, bytes_max }),
        Request::Scan { partition, after, prefix, limit } => {
            Ask::Read(Query::Scan { partition, after, prefix, limit })
        }
        Request::Keys { partition, after, limit } => Ask::Read(Query::Keys { partition, after, limit }),
        Request::Count { partition } => Ask::Read(Query::Count { partition }),
        Request::Watch { partition, after, selection, bytes_max, hold_ms } => {
            let (bytes_max, hold) = (bytes_max as usize, Duration::from_millis(hold_ms.into()));
            Ask::Watch(WatchAsk { partition, after, selection, bytes_max, hold })
        }
        Request::View {} | Request::Status {} | Request::Digest { .. } | Request::Trace { .. } => {
            return None;
        }
    })
}

/// The request that passes an ask on.
fn request_of(ask: &Ask, elapsed_ms: u64) -> Option<Request> {
    Some(match ask.clone() {
        Ask::Write { origin, age_ms, operation } => {
            Request::Write { origin: origin?, age_ms: age_ms.saturating_add(elapsed_ms), operation }
        }
        Ask::Read(Query::Get { key, bytes_max }) => Request::GetUpTo { key, bytes_max },
        Ask::Read(Query::Scan { partition, after, prefix, limit }) => {
            Request::Scan { partition, after, prefix, limit }
        }
        Ask::Read(Query::Keys { partition, after, limit }) => Request::Keys { partition, after, limit },
        Ask::Read(Query::Count { partition }) => Request::Count { partition },
        // Only its coordinator has to do with it.
        Ask::Read(Query::Nothing) | Ask::Watch(_) => return None,
    })
}
