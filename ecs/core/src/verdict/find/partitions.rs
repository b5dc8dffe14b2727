//! Partitions that are not served as they should be: no requests are answered, or no writes, or writes may be missing.

use std::collections::BTreeSet;

use common::ids::{PartitionId, ServerId};
use common::status::ClusterStatus;
use common::view::{Assignment, Member};

use crate::limits::ACTIVE_WITHIN;
use crate::proof;
use crate::verdict::known::{Found, Known, counted};

impl Known<'_> {
    pub(super) fn offline(&self) -> Option<Found> {
        let offline: Vec<&Assignment> =
            self.state.view.iter().filter(|&now| self.living(now) == 0).map(|(_, now)| now).collect();
        if offline.is_empty() {
            return None;
        }
        let down = self.down(offline.iter().copied());
        let what = format!(
            "{} neither read nor written: no in-sync copy is at a server that is up",
            counted(offline.len(), "partition is", "partitions are")
        );
        let next = match &down[..] {
            [] => "`kvclient partitions` lists them; \"The last copy is lost for good\" in docs/operations.md says \
                   what can be done"
                .to_owned(),
            down => format!("start {} with the same directory", self.names(down)),
        };
        Some(Found { servers: down, what, next })
    }

    pub(super) fn copies_disagree(&self) -> Option<Found> {
        let (&partition, found) = self.reports.disagreements.first_key_value()?;
        let servers = vec![found.coordinator, found.member];
        let what = format!(
            "COPIES DISAGREE in {}: {} holds entries of partition {partition}, committed up to {}, that {} lacks, and \
             neither gives way",
            counted(self.reports.disagreements.len(), "partition", "partitions"),
            self.name(found.member),
            found.commit,
            self.name(found.coordinator),
        );
        let next = format!(
            "decide from which copy it goes on: kvclient admin recover-partition {partition} lists them"
        );
        Some(Found { servers, what, next })
    }

    /// V4a. Partitions without a living copy are offline for that reason alone.
    pub(super) fn awaits_members(&self) -> Option<Found> {
        let (view, peers, failed) = (&*self.state.view, &self.reports.peers, &self.reports.failed_copies);
        let proof = proof::Known { view, peers, failed };
        let waits = view.iter().filter(|&now| self.living(now) > 0);
        let awaited: Vec<Vec<Member>> = waits
            .map(|(partition, now)| proof.awaited(partition, now))
            .filter(|awaited| !awaited.is_empty())
            .collect();
        if awaited.is_empty() {
            return None;
        }
        let servers: BTreeSet<ServerId> = awaited.iter().flatten().map(|member| member.server).collect();
        let servers: Vec<ServerId> = servers.into_iter().collect();
        let names = self.names(&servers);
        let what = format!(
            "{} for {names}: since the restart no other copy is known to hold all that was acknowledged",
            counted(awaited.len(), "partition waits", "partitions wait")
        );
        let until = match self.config.restart_wait {
            Some(wait) => format!("after {wait:?} (--restart-wait) they go on without it"),
            None => "if it is lost for good: kvclient admin recover-partition".to_owned(),
        };
        Some(Found { servers, what, next: format!("start {names} with the same directory; {until}") })
    }

    /// P3: partitions whose coordinators are not active. Those that another condition explains are left out.
    pub(super) fn not_active(&self) -> Option<Found> {
        let (view, peers, failed) = (&*self.state.view, &self.reports.peers, &self.reports.failed_copies);
        let proof = proof::Known { view, peers, failed };
        let moment = self.config.timers.promise + ACTIVE_WITHIN;
        let is_missed = |&(partition, now): &(PartitionId, &Assignment)| {
            let coordinator = peers.get(&now.coordinator).filter(|peer| peer.spoke());
            let is_named = self.living((partition, now)) == 0
                || self.reports.disagreements.contains_key(&partition)
                || !proof.awaited(partition, now).is_empty()
                || self.is_down(now.coordinator);
            coordinator.is_some_and(|peer| {
                let has_told = peer.heartbeat.is_some();
                !is_named && self.served.is_missed(partition, now, has_told, self.now, moment)
            })
        };
        let missed: Vec<&Assignment> = view.iter().filter(is_missed).map(|(_, now)| now).collect();
        let servers: BTreeSet<ServerId> = missed.iter().map(|now| now.coordinator).collect();
        let servers: Vec<ServerId> = servers.into_iter().collect();
        (!missed.is_empty()).then(|| {
            let names = self.names(&servers);
            let what = format!(
                "{} neither read nor written yet: to coordinate, {names} must hear all in-sync copies, and promises to \
                 former coordinators must run out",
                counted(missed.len(), "partition is", "partitions are")
            );
            let next = format!("wait a moment; if it stays so, the log of {names} says what is waited for");
            Found { servers, what, next }
        })
    }

    /// V4a: partitions that went on after a restart without members that may have more.
    pub(super) fn resumed_without(&self) -> Option<Found> {
        let left_out = &self.state.left_out;
        let servers: BTreeSet<ServerId> = left_out.values().flatten().map(|member| member.server).collect();
        let servers: Vec<ServerId> = servers.into_iter().collect();
        (!servers.is_empty()).then(|| {
            let names = self.names(&servers);
            let what = format!(
                "{} resumed without {names}, not heard since the restart: what only it had acknowledged is missing",
                counted(left_out.len(), "partition was", "partitions were")
            );
            let down: Vec<ServerId> = servers.iter().copied().filter(|&server| self.is_down(server)).collect();
            let next = if down.is_empty() {
                "wait: it joins again, or gives up what others have as well; if the servers' logs say that it holds \
                 more, stop it, keep its directory if that may matter, and start it with an empty one"
                    .to_owned()
            } else {
                let names = self.names(&down);
                format!("start {names}; if it is lost for good: kvclient admin plan drain {names}")
            };
            Found { servers, what, next }
        })
    }

    /// Fewer copies live than a write needs: reads go on, and writes wait.
    pub(super) fn writes_wait(&self) -> Option<Found> {
        let floor = usize::from(self.state.view.min_copies);
        let rebuilt = self.state.rebuild.as_ref();
        let waits = |&(partition, now): &(PartitionId, &Assignment)| {
            let living = self.living((partition, now));
            (1..floor).contains(&living)
                && rebuilt.is_none_or(|rebuilt| !rebuilt.waiting.contains(&partition))
        };
        let waiting: Vec<&Assignment> = self.state.view.iter().filter(waits).map(|(_, now)| now).collect();
        if waiting.is_empty() {
            return None;
        }
        let servers = self.state.view.servers.keys().copied();
        let down: Vec<ServerId> = servers.filter(|&server| self.is_down(server)).collect();
        let what = format!(
            "{} no writes: fewer than {floor} copies are in sync (--min-copies). Reads go on",
            counted(waiting.len(), "partition takes", "partitions take")
        );
        let next = match &down[..] {
            [] => "wait until a copy is made again, or add a server".to_owned(),
            down => format!("wait until copies are made again; start {}, or add a server", self.names(down)),
        };
        Some(Found { servers: down, what, next })
    }

    pub(super) fn waiting(&self, status: &ClusterStatus) -> Option<Found> {
        if status.waiting == 0 || status.gathering {
            return None;
        }
        let names = self.names(&status.awaited);
        let what = format!(
            "{} for the rebuilt ECS to hear {names}",
            counted(status.waiting as usize, "partition waits", "partitions wait")
        );
        let next = format!(
            "start {names} with the same directory; if it is lost for good: kvclient admin recover-partition"
        );
        Some(Found { servers: status.awaited.clone(), what, next })
    }
}
