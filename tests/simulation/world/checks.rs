//! The checks after every step that need more than one server: I2, I5, I6, and which copies are whole.

use common::ids::PartitionId;
use common::view::{Member, View};
use kvserver_core::testkit::PartitionLog;

use super::super::server::Server;
use super::super::truth::Truth;
use super::World;

impl World {
    /// Disks are lost in no scenario that asks for more than one.
    pub(super) fn check_rests(&mut self) {
        for (partition, id, least) in std::mem::take(&mut self.truth.rested) {
            let holds =
                |server: &&Server| server.disk.durable.logs.get(&partition).is_some_and(|log| log.holds(id));
            Truth::check_rests(partition, id, least, self.servers.iter().filter(holds).count());
        }
    }

    /// I2: looked at whenever an entry is committed, members change, or a disk loses entries.
    pub(super) fn check_copies(&mut self) {
        let lost_some = self.servers.iter().any(|server| !server.disk.lost.is_empty());
        if self.truth.fresh.is_empty() && self.truth.changed.is_empty() && !lost_some {
            return;
        }
        let Some(view) = self.truth.newest().cloned() else { return };
        self.judge_twins();
        self.servers.iter_mut().for_each(Server::look_at_losses);
        for (partition, id) in std::mem::take(&mut self.truth.fresh) {
            for index in self.whole(partition) {
                let log = self.servers[index].disk.durable.logs.get(&partition);
                self.truth.check_held(partition, id, index, log);
            }
        }
        let changed = std::mem::take(&mut self.truth.changed);
        if changed.is_empty() && !lost_some {
            return;
        }
        for partition in view.partitions.all().take(view.assignments.len()) {
            let whole = self.whole(partition);
            // A last disk that is lost, with its server, is another matter (R7).
            if whole.is_empty() && !self.in_sync(partition).is_empty() {
                let waited = view.resumed.contains_key(&partition);
                assert!(
                    waited,
                    "V4a: partition {partition} has no whole member left in view {}",
                    view.number
                );
                self.truth.is_beyond = true;
            }
            for index in whole {
                let lost = self.servers[index].disk.lost.contains(&partition);
                if lost || changed.contains(&partition) {
                    let log = self.servers[index].disk.durable.logs.get(&partition);
                    self.truth.check_held_all(partition, index, log);
                }
            }
        }
        self.servers.iter_mut().for_each(|server| server.disk.lost.clear());
    }

    /// The servers of the in-sync set in the newest view that have not lost what they had.
    pub(crate) fn in_sync(&self, partition: PartitionId) -> Vec<usize> {
        self.truth.newest().map(|view| self.in_sync_of(view, partition)).unwrap_or_default()
    }

    /// The servers of the in-sync set in a view that have not lost what they had.
    pub(crate) fn in_sync_of(&self, view: &View, partition: PartitionId) -> Vec<usize> {
        let members = view.assignment(partition).map_or(&[][..], |assignment| &assignment.in_sync);
        let present = |index: &usize| !self.servers[*index].lost;
        let same_store = |member: &&Member| self.servers[self.index_of(member.server)].store == member.store;
        members.iter().filter(same_store).map(|member| self.index_of(member.server)).filter(present).collect()
    }

    /// A copy of a directory has taken the place of its original: what that one has acknowledged is in its log.
    fn judge_twins(&mut self) {
        for index in 0..self.servers.len() {
            self.find_former_twin(index);
            for partition in self.servers[index].unknown_in_place() {
                // Until its coordinator among the others uses the view that names the copy, it counts what the original
                // says.
                if self.servers.iter().any(|other| self.counts_original(index, partition, other)) {
                    continue;
                }
                self.truth.is_beyond |= self.lives_alone_beside(index, partition);
                let id = self.servers[index].id;
                let originals = self.servers.iter().filter(|other| other.index != index && other.id == id);
                let logs = originals.filter_map(|original| original.disk.written.logs.get(&partition));
                let last = logs.map(PartitionLog::last).max().unwrap_or_default();
                self.servers[index].on_in_place(partition, last);
            }
        }
    }

    /// Whether the original of the copy `index` lives, and some view that it uses, or may still use, made its store the
    /// only member. Nothing fences it there, as no other member grants it a lease: two processes of one store may then
    /// coordinate, which is beyond the promise.
    fn lives_alone_beside(&self, index: usize, partition: PartitionId) -> bool {
        let Server { id, named_in, .. } = self.servers[index];
        let lives = |other: &&Server| other.index != index && other.id == id && other.process.is_some();
        let used = self.servers.iter().filter(lives).filter_map(|other| other.process.as_ref());
        let used = used.map(|process| process.node.view().number).min();
        used.is_some_and(|used| self.truth.was_alone(partition, id, used, named_in))
    }

    /// Whether a server coordinates a partition in a view of before the one that names the copy `index`.
    fn counts_original(&self, index: usize, partition: PartitionId, other: &Server) -> bool {
        let Server { id, named_in, .. } = self.servers[index];
        let used = other.process.as_ref().map(|process| process.node.view());
        other.id != id
            && used.is_some_and(|used| {
                let now = used.assignment(partition);
                used.number < named_in && now.is_some_and(|now| now.coordinator == other.id)
            })
    }

    /// A process is named after another one with its id, which was named since this one was last.
    fn find_former_twin(&mut self, index: usize) {
        let Server { id, named_in, judged_in, .. } = self.servers[index];
        let is_twin = |other: &&Server| other.index != index && other.id == id;
        let Some(other) = self.servers.iter().filter(is_twin).map(|other| other.named_in).max() else {
            return;
        };
        if named_in <= other || other <= judged_in {
            return;
        }
        self.servers[index].judged_in = named_in;
        let view = self.truth.newest().cloned();
        if let Some(view) = view.filter(|_| self.servers[index].unknown_in_place().is_empty()) {
            self.servers[index].on_after_twin(&view);
        }
    }

    /// Those of them whose disks have all that they acknowledged.
    fn whole(&self, partition: PartitionId) -> Vec<usize> {
        let mut members = self.in_sync(partition);
        members.retain(|index| self.servers[*index].is_whole(partition));
        members
    }

    /// I5: at most one reader, and it has all that was acknowledged.
    pub(super) fn check_readers(&mut self, acted: usize) {
        let now = self.line.now;
        for &(partition, applied) in &self.servers[acted].readers {
            let reads = |server: &&Server| {
                server.index != acted && server.facts(partition, now).is_some_and(|facts| facts.may_read)
            };
            let other = self.servers.iter().find(reads).map(|server| (acted, server.index));
            self.truth.on_reader(partition, applied, other);
        }
    }

    /// I6: a replica that may read alone has all that was acknowledged, applied or pending. Looked at for the server
    /// that acted, and for all when something was acknowledged.
    pub(super) fn check_lone_readers(&mut self, acted: usize) {
        let now = self.line.now;
        for &partition in &self.servers[acted].lone {
            let log = self.servers[acted].disk.written.logs.get(&partition);
            self.truth.on_lone_reader(partition, acted, log);
        }
        for partition in std::mem::take(&mut self.truth.acknowledging) {
            for server in &self.servers {
                if server.facts(partition, now).is_some_and(|facts| facts.has_read_lease) {
                    let log = server.disk.written.logs.get(&partition);
                    self.truth.on_lone_reader(partition, server.index, log);
                }
            }
        }
    }
}
