//! Which process of a server counts (S2, N1), and from when on this process may make promises (S4).
//!
//! A disk that went back has lost its promises as well as its entries: which view it had adopted, and so which
//! coordinators it must refuse. So a process acknowledges nothing, promises nothing and says nothing of its logs before
//! it has adopted a view that names it: the ECS makes one for each hello of a new process, and that view is the newest
//! one. Where the ECS cannot be reached, answers of all other members of a partition, that they know no newer view,
//! serve instead.

use std::collections::{BTreeMap, BTreeSet};

use common::ids::{Epoch, Incarnation, Nonce, ServerId, StoreId};
use common::messages::ProcessId;
use common::time::Time;
use common::view::{Assignment, Member};

/// One start of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Process {
    pub(crate) server: ServerId,
    pub(crate) nonce: Nonce,
}

impl From<ProcessId> for Process {
    fn from(sender: ProcessId) -> Self {
        Self { server: sender.server, nonce: sender.nonce }
    }
}

/// What is new of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anew {
    /// The link to it: what was sent may be lost.
    Link,
    /// Another process of it.
    Process,
}

/// How the process of a message's sender compares with the newest one known of its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// An older process, or another one with the same incarnation: its messages are dropped.
    Refused,
    /// The process that counts.
    Present,
    /// A newer process, which counts from now on.
    Newer,
    /// A newer process that no view names and that has sent no vow: it may be a second one of a copied directory.
    Unnamed,
}

/// The process of a store that counts.
#[derive(Clone, Copy, Debug)]
struct Known {
    incarnation: Incarnation,
    nonce: Nonce,
    /// The newest view that was known when it was last heard or named: what it said may rest on that one.
    view: Epoch,
}

impl Known {
    fn is(&self, process: ProcessId) -> bool {
        (self.incarnation, self.nonce) == (process.incarnation, process.nonce)
    }
}

/// The process of each store that counts, over all epochs: the newest that was heard of, unless a later view names
/// another one.
#[derive(Debug, Default)]
pub(crate) struct Processes(BTreeMap<(ServerId, StoreId), Known>);

impl Processes {
    /// Judges the sender of a message, which knows `view` or a newer one. `is_vow`: a process sends such a message only
    /// when it may speak (S4), in answer to a question that went to the address in the view. A newer process counts
    /// from its first vow on, or when a view names it; before, any copy of a directory could take the place of its
    /// original.
    pub(crate) fn hear(&mut self, from: ProcessId, is_vow: bool, view: Epoch) -> Heard {
        let said = Known { incarnation: from.incarnation, nonce: from.nonce, view };
        let known = self.0.entry((from.server, from.store)).or_insert(said);
        if known.is(from) {
            known.view = known.view.max(view);
            Heard::Present
        } else if from.incarnation > known.incarnation && is_vow {
            *known = said;
            Heard::Newer
        } else if from.incarnation > known.incarnation {
            Heard::Unnamed
        } else {
            Heard::Refused
        }
    }

    /// View `view` names `process`; whether it is another one than was known.
    ///
    /// A view that was made before a restart may come after the first word of the new process, and does not bring the
    /// old one back. One that was made later does: the ECS has taken that process and refuses the other, which spoke
    /// while the ECS was away (N1).
    pub(crate) fn name(&mut self, process: ProcessId, view: Epoch) -> bool {
        let named = Known { incarnation: process.incarnation, nonce: process.nonce, view };
        let known = self.0.entry((process.server, process.store)).or_insert(named);
        if known.is(process) {
            known.view = known.view.max(view);
            return false;
        }
        let counts = named.incarnation >= known.incarnation || view > known.view;
        if counts {
            *known = named;
        }
        counts
    }
}

/// Whether this process may make promises.
#[derive(Debug)]
pub(crate) struct Vows {
    /// The view in use names this process.
    pub(crate) is_named: bool,
    /// Members that have said, since the view in use was adopted, that they know no newer one. The word of one store
    /// does not count for another store of the same server.
    shown: BTreeSet<Member>,
    /// The time from which on other members are asked, if the ECS has not answered.
    ask_from: Time,
}

impl Vows {
    pub(crate) fn new(ask_from: Time) -> Self {
        Self { is_named: false, shown: BTreeSet::new(), ask_from }
    }

    /// Notes a new view.
    pub(crate) fn on_view(&mut self, is_named: bool) {
        self.is_named = is_named;
        self.shown.clear();
    }

    /// Notes that `member` knows no newer view than the one in use.
    pub(crate) fn on_shown(&mut self, member: Member) {
        self.shown.insert(member);
    }

    /// Whether the other members are to be asked, as the ECS has been silent for long.
    pub(crate) fn asks(&self, now: Time) -> bool {
        !self.is_named && now >= self.ask_from
    }

    /// Whether promises may be made for a partition.
    pub(crate) fn may_speak(&self, me: ServerId, assignment: &Assignment) -> bool {
        let mut others = assignment.in_sync.iter().chain(&assignment.joining);
        self.is_named || others.all(|other| other.server == me || self.shown.contains(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(incarnation: u64, nonce: u64) -> ProcessId {
        ProcessId {
            server: ServerId(1),
            store: StoreId(1),
            incarnation: Incarnation(incarnation),
            nonce: Nonce(nonce),
        }
    }

    fn view(version: u64) -> Epoch {
        Epoch { generation: 0, version }
    }

    #[test]
    fn a_twin_is_refused_until_a_view_names_it() {
        let mut known = Processes::default();
        assert_eq!(known.hear(sender(2, 7), false, view(1)), Heard::Present);
        assert_eq!(known.hear(sender(2, 8), true, view(1)), Heard::Refused);
        assert_eq!(known.hear(sender(1, 9), true, view(1)), Heard::Refused);
        assert!(known.name(sender(2, 8), view(2)));
        assert_eq!(known.hear(sender(2, 7), true, view(2)), Heard::Refused);
        assert_eq!(known.hear(sender(3, 1), false, view(3)), Heard::Unnamed);
        assert_eq!(known.hear(sender(2, 8), false, view(3)), Heard::Present);
        assert_eq!(known.hear(sender(3, 1), true, view(3)), Heard::Newer);
        assert!(!known.name(sender(2, 8), view(3)), "a late view does not bring an older process back");
        assert_eq!(known.hear(sender(3, 1), false, view(3)), Heard::Present);
    }

    #[test]
    fn an_older_process_that_a_later_view_names_counts() {
        let mut known = Processes::default();
        assert!(!known.name(sender(3, 1), view(1)));
        assert_eq!(known.hear(sender(5, 2), true, view(2)), Heard::Newer, "it spoke while the ECS was away");
        assert!(known.name(sender(4, 3), view(3)), "which took a copy of the directory when it came back");
        assert_eq!(known.hear(sender(4, 3), false, view(3)), Heard::Present);
        assert_eq!(known.hear(sender(5, 2), false, view(3)), Heard::Unnamed);
        // What is named again is no change, and an older view than the last is none either.
        assert!(!known.name(sender(4, 3), view(5)));
        assert!(!known.name(sender(3, 1), view(5)));
    }

    #[test]
    fn without_the_ecs_the_word_of_all_other_members_is_needed() {
        let member = |id| Member { server: ServerId(id), store: StoreId(id) };
        let assignment = Assignment {
            epoch: Epoch::default(),
            coordinator: ServerId(2),
            in_sync: vec![member(1), member(2)],
            joining: vec![member(3)],
        };
        let mut vows = Vows::new(Time(10));
        assert!(!vows.asks(Time(9)) && vows.asks(Time(10)));
        let may_speak = |vows: &Vows| vows.may_speak(ServerId(1), &assignment);
        vows.on_shown(member(3));
        assert!(!may_speak(&vows));
        vows.on_shown(Member { store: StoreId(9), ..member(2) });
        assert!(!may_speak(&vows), "another store of that server says nothing for the lost one");
        vows.on_shown(member(2));
        assert!(may_speak(&vows));
        vows.on_view(false);
        assert!(!may_speak(&vows), "what was said of an older view says nothing of this one");
        vows.on_view(true);
        assert!(may_speak(&vows) && !vows.asks(Time(10)));
    }
}
