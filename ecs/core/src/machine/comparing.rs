//! V6: the comparison of this ECS's view with those of the servers, after its start.

use std::collections::BTreeSet;
use std::time::Duration;

use common::ids::ServerId;
use common::time::Time;
use common::view::View;

/// V6: the servers whose views are to be known before the first view is made. Its directory may be an older copy of
/// itself: then numbers that servers have seen would be used again.
#[derive(Debug, Default)]
pub(super) struct Comparing {
    pub(super) with: BTreeSet<ServerId>,
    /// When it ends at the latest; `None`: there is no limit.
    until: Option<Time>,
}

impl Comparing {
    /// Begins to compare, with all members of the view.
    pub(super) fn begin(view: &View, wait: Option<Duration>, now: Time) -> Self {
        let with: BTreeSet<ServerId> = view.servers.keys().copied().collect();
        let until = wait.map(|wait| now + wait).filter(|_| !with.is_empty());
        assert!(until.is_none_or(|until| until >= now), "comparing ends later than it begins");
        Self { with, until }
    }

    pub(super) fn is_over(&self, now: Time) -> bool {
        self.with.is_empty() || self.until.is_some_and(|until| until <= now)
    }

    /// When comparing ends at the latest.
    pub(super) fn until(&self) -> Option<Time> {
        self.until.filter(|_| !self.with.is_empty())
    }
}
