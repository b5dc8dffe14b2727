//! What the verdict rests on, and how conditions are put into words.

use std::collections::BTreeMap;
use std::time::Duration;

use common::ids::{PartitionId, ServerId};
use common::status::WaitingStore;
use common::time::Time;
use common::view::{Assignment, Member, ServerState, View};

use crate::backoff::Backoff;
use crate::config::Config;
use crate::left_out::LeftOut;
use crate::peers::{Behind, FailedCopies};
use crate::reports::Reports;
use crate::served::Served;
use crate::silence::Patience;
use crate::state::State;

/// What the verdict rests on.
pub(crate) struct Known<'a> {
    pub(crate) state: &'a State,
    pub(crate) reports: &'a Reports,
    /// How often servers were removed recently.
    pub(crate) falls: &'a BTreeMap<ServerId, Backoff>,
    pub(crate) config: &'a Config,
    /// V6: the servers that the ECS waits for.
    pub(crate) comparing: Vec<ServerId>,
    pub(crate) behind: Option<Behind>,
    pub(crate) patience: Patience,
    /// R3: the stores that servers wait with.
    pub(crate) stores: Vec<WaitingStore>,
    pub(crate) left_out: &'a LeftOut,
    pub(crate) served: &'a Served,
    /// For how long a state has been on its way to the disk.
    pub(crate) persisting: Option<Duration>,
    pub(crate) now: Time,
}

/// What was found of one kind.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) servers: Vec<ServerId>,
    pub(super) what: String,
    pub(super) next: String,
}

/// In-sync copies at servers that are heard, have the store that was counted, and do not say that it has failed there.
pub(crate) fn living(
    view: &View,
    failed: &FailedCopies,
    partition: PartitionId,
    assignment: &Assignment,
) -> usize {
    let is_living = |member: &&Member| {
        let info = view.servers.get(&member.server);
        info.is_some_and(|info| info.store == member.store && info.state != ServerState::Down)
            && !failed.contains(&(partition, **member))
    };
    assignment.in_sync.iter().filter(is_living).count()
}

/// `1 server`, `3 servers`.
pub(super) fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Names that a line has room for.
pub(super) fn listed(names: &[&str]) -> String {
    const SHOWN_MAX: usize = 4;
    let shown = names.iter().take(SHOWN_MAX).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
