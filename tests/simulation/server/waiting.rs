//! R3: a server that waits with a store that failed, or that cannot be read as a whole. It does nothing but ask the ECS
//! what becomes of the store.

use common::messages::{ServerReport, Suspicion};
use common::view::Member;

use super::super::net::Place;
use super::super::timeline::{Event, MS, Micros, Timeline};
use super::Server;

/// Between two questions.
const ASKS_EVERY: Micros = 300 * MS;

impl Server {
    pub(super) fn must_wait(&self) -> bool {
        self.condemned || self.disk.is_damaged()
    }

    pub(super) fn wait(&mut self, line: &mut Timeline) {
        (self.waits, self.keeps) = (true, false);
        line.note(|| format!("  s{} waits with its store", self.index));
        let (server, life) = (self.index, self.life);
        let first = line.between(10 * MS, ASKS_EVERY);
        line.after(first, Event::AskVerdict { server, life });
    }

    /// Asks the ECS.
    pub(crate) fn on_ask_verdict(&mut self, line: &mut Timeline) {
        let (server, life) = (self.index, self.life);
        line.after(ASKS_EVERY, Event::AskVerdict { server, life });
        let me = Member { server: self.id, store: self.store };
        let partitions = self.disk.durable.view.as_ref().map(|view| {
            let counted = view.iter().filter(|(_, assignment)| assignment.in_sync.contains(&me));
            counted.map(|(partition, _)| partition).collect()
        });
        let view = self.disk.durable.view.as_ref().map(|view| view.number).unwrap_or_default();
        let (address, dir) = (self.address(), format!("dir{server}"));
        let suspicion = Suspicion { address, dir, reason: "its disk failed".to_owned(), partitions, view };
        let event = Event::Report { sender: self.sender(), report: ServerReport::Suspect { suspicion } };
        line.send_in_order(Place::Server(server), Place::Ecs, event);
    }

    /// An operator takes the store back as far as it reads. The process has ended.
    pub(crate) fn reinstate(&mut self) {
        assert!(self.process.is_none() && !self.waits, "taken back under a running process");
        self.condemned = false;
        self.disk.reinstate();
    }
}
