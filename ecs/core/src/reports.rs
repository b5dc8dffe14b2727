//! What servers have reported since this ECS started: of themselves, of their disks and copies, and of each other.

use std::collections::BTreeMap;

use common::ids::{Epoch, Incarnation, PartitionId, ServerId};
use common::messages::ProcessId;
use common::time::Time;
use common::view::Member;

use crate::config::Config;
use crate::disks::Disks;
use crate::peers::{Complaints, Disagreements, FailedCopies, LostEntries, Peer, Yields};
use crate::planted::PlantedBug;
use crate::reach::edges::Edges;
use crate::state::State;

/// What a server said in its hello.
#[derive(Clone, Debug)]
pub(crate) struct Registration {
    pub(crate) sender: ProcessId,
    pub(crate) address: String,
    pub(crate) weight: u32,
}

/// A coordinator's wish to take a member into the in-sync set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proposal {
    pub(crate) sender: ProcessId,
    pub(crate) epoch: Epoch,
    pub(crate) member: Member,
    pub(crate) incarnation: Incarnation,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Reports {
    pub(crate) peers: BTreeMap<ServerId, Peer>,
    pub(crate) disks: Disks,
    /// Hellos that no view has taken up, in the order of their arrival.
    pub(crate) registrations: Vec<Registration>,
    pub(crate) proposals: BTreeMap<PartitionId, Proposal>,
    pub(crate) complaints: Complaints,
    pub(crate) edges: Edges,
    pub(crate) failed_copies: FailedCopies,
    pub(crate) lost_entries: LostEntries,
    pub(crate) yields: Yields,
    /// P2: disagreements of copies, those of the newest state and those found since.
    pub(crate) disagreements: Disagreements,
    /// V6: the newest view that a server reported which this ECS does not know, and refused: its number may have been
    /// given.
    pub(crate) strangers_view: Epoch,
}

impl Reports {
    /// Nothing is reported yet. All members of the durable view are expected to report.
    pub(crate) fn new(state: &State, now: Time) -> Self {
        let peers = state.view.servers.iter().map(|(&server, info)| {
            let sender = info.process(server);
            (server, Peer::new(sender, now))
        });
        Self {
            peers: peers.collect(),
            disks: Disks::new(&state.registry, now),
            registrations: Vec::new(),
            proposals: BTreeMap::new(),
            complaints: Complaints::default(),
            edges: Edges::default(),
            failed_copies: FailedCopies::new(),
            lost_entries: LostEntries::new(),
            yields: Yields::new(),
            disagreements: state.disagreements.clone(),
            strangers_view: Epoch::default(),
        }
    }

    /// V6: the newest number of a view that was given, as far as is known. An ECS on an older copy of its directory may
    /// have given more than it knows of.
    pub(crate) fn given(&self, own: Epoch, config: &Config) -> Epoch {
        let counts = self.strangers_view.generation == own.generation;
        if counts && !config.planted(PlantedBug::NumberGivenAgain) {
            own.max(self.strangers_view)
        } else {
            own
        }
    }
}
