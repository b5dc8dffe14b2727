//! A server's clients: their requests, and the answers with what can be checked of them at once.

use common::ids::{LogId, PartitionId};
use common::messages::Reply;
use common::operation::{Found, Outcome, PartOutcome};
use kvserver_core::{Ask, Input, Query, Token};

use super::super::net::Place;
use super::super::process::Waiting;
use super::super::timeline::{Event, Timeline};
use super::super::truth::Truth;
use super::{Server, right};

impl Server {
    /// A client sends a request; it gets no answer while there is no process.
    pub(crate) fn take_request(&mut self, line: &mut Timeline, client: usize, call: u64, ask: Ask) {
        let Some(process) = &mut self.process else {
            let delay = line.net.delay(&mut line.rng);
            return line.after(delay, Event::Response { client, call, reply: None });
        };
        process.last_token += 1;
        let token = Token(process.last_token);
        let key = match &ask {
            Ask::Write { operation, .. } => operation.key(),
            Ask::Read(Query::Get { key, .. }) => Some(key),
            Ask::Read(_) | Ask::Watch(_) => None,
        };
        let view = process.node.view();
        let scanned = match &ask {
            Ask::Read(Query::Scan { partition, .. }) => Some(*partition),
            _ => None,
        };
        let partition = scanned.or(key.map(|key| view.partitions.of_key(key)));
        let partition = partition.filter(|_| !view.assignments.is_empty());
        process.waiting.insert(token, Waiting { client, call, partition });
        process.inbox.push(Input::Client { token, ask });
        self.wake(line);
    }

    pub(super) fn reply(&mut self, line: &mut Timeline, truth: &mut Truth, token: Token, reply: Reply) {
        let Some(process) = &mut self.process else { return };
        let Some(Waiting { client, call, partition }) = process.waiting.remove(&token) else {
            panic!("server {}: a second answer to {token:?}", self.index)
        };
        if let (Reply::Outcome { outcome }, Some(partition)) = (&reply, partition)
            && let Some(version) = version_of(outcome)
        {
            truth.on_acknowledged(partition, version);
            let view = process.node.view();
            if view.assignment(partition).is_some_and(|assignment| assignment.coordinator == self.id) {
                truth.rested.push((partition, version, view.min_copies));
            }
        }
        if let Reply::Value { found: Some(Found { expires: Some(expires), .. }) } = &reply {
            truth.check_alive(*expires, right(line.now));
        }
        let coordinates = |partition: &PartitionId| {
            let assignment = process.node.view().assignment(*partition);
            assignment.is_some_and(|assignment| assignment.coordinator == self.id)
        };
        if let Reply::Moved { view } = reply
            && view == process.node.view().number
        {
            assert!(!partition.as_ref().is_some_and(coordinates), "a coordinator sends a client to itself");
        }
        let event = Event::Response { client, call, reply: Some(reply) };
        if line.net.passes(Place::Server(self.index), Place::Clients) {
            let delay = line.net.delay(&mut line.rng);
            line.after(delay, event);
        }
    }
}

/// The entry that an outcome names as its own.
pub(crate) fn version_of(outcome: &Outcome) -> Option<LogId> {
    match outcome {
        Outcome::Written { version, .. }
        | Outcome::Appended { version, .. }
        | Outcome::Deleted { version }
        | Outcome::Changed { version, .. }
        | Outcome::Sum { version, .. } => Some(*version),
        Outcome::All { results } => results.iter().find_map(|PartOutcome(outcome)| version_of(outcome)),
        _ => None,
    }
}
