//! Read leases between servers (7.1): one question for all partitions that two servers share and
//! that clients read of late at the replica, with the pings.

use std::collections::{BTreeMap, BTreeSet};

use common::ids::{Epoch, PartitionId, ServerId};
use common::messages::{PeerMessage, ProcessId, ReadGrant};

use super::super::limits::READ_LEASE_QUESTIONS;
use super::Node;

impl Node {
    /// Asks for read leases on partitions that clients read here.
    pub(super) fn ask_read_leases(&mut self) {
        let mut wanted: BTreeMap<ServerId, Vec<(PartitionId, Epoch)>> = BTreeMap::new();
        for copy in &self.copies {
            if let Some(coordinator) = copy.wants_read_lease(&self.env) {
                wanted.entry(coordinator).or_default().push((copy.id(), copy.state().epoch()));
            }
        }
        for (server, partitions) in wanted {
            self.ask_read_lease(server, partitions);
        }
    }

    /// Informs coordinators of former epochs that their read leases are void.
    pub(super) fn give_back_read_leases(&mut self, givers: BTreeSet<ServerId>) {
        for server in givers {
            self.ask_read_lease(server, Vec::new());
        }
    }

    fn ask_read_lease(&mut self, server: ServerId, partitions: Vec<(PartitionId, Epoch)>) {
        self.env.requests.last_question += 1;
        let (n, view) = (self.env.requests.last_question, self.env.cx.view.number);
        if self.read_questions.len() == READ_LEASE_QUESTIONS {
            self.read_questions.pop_front();
        }
        self.read_questions.push_back((n, self.env.cx.now.time));
        assert!(self.read_questions.len() <= READ_LEASE_QUESTIONS, "questions are bounded");
        self.env.out.send(server, PeerMessage::ReadLeaseRequest { n, view, partitions });
    }

    pub(super) fn on_read_lease_request(
        &mut self,
        from: ProcessId,
        n: u64,
        view: Epoch,
        wanted: &[(PartitionId, Epoch)],
    ) {
        self.env.promises.saw_view(from.into(), view);
        // Copies that waited for the end of a read lease go on.
        self.env.touched.extend(&self.busy);
        let (copies, env) = (&mut self.copies, &self.env);
        let grant = |(partition, epoch): &(PartitionId, Epoch)| {
            copies.get_mut(usize::from(partition.0))?.grant_read_lease(env, from, *epoch)
        };
        let partitions: Vec<ReadGrant> = wanted.iter().filter_map(grant).collect();
        if !partitions.is_empty() {
            self.env.out.send(from.server, PeerMessage::ReadLease { n, partitions });
        }
    }

    pub(super) fn on_read_lease(&mut self, from: ServerId, n: u64, partitions: Vec<ReadGrant>) {
        let Some(&(_, asked)) = self.read_questions.iter().find(|(number, _)| *number == n) else { return };
        for grant in partitions {
            if let Some(copy) = self.copies.get_mut(usize::from(grant.partition.0)) {
                copy.on_read_lease(&self.env, from, grant, asked);
            }
        }
    }
}
