//! The lists that `keyrange` and `keyrange_read` answer: `<from>,<to>,<ip:port>;` one behind the other.
//!
//! Positions are 32 hex digits, both ends of a range belong to it, and a range may wrap around the circle. A
//! list depends on nothing but the view, so each is made once per view, when it is first asked for.
//!
//! A server has many tokens on this ring, not one arc as in the family's. So a server may have several triples
//! even in the merged list; it has exactly one wherever its ranges join to one arc, as with up to three servers.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use common::ids::ServerId;
use common::ring::Position;
use common::view::{Assignment, KeyRange, View};

use super::encode::TextAnswer;
use super::types::{Dialect, TextCommand, TextRequest};

/// Which list is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeKind {
    /// `keyrange`: ranges by coordinator. The circle is covered once.
    Write,
    /// `keyrange_read`: each range with the same coordinator and in-sync set, once for each of these servers,
    /// the coordinator first.
    Read,
    /// `KEYRANGE_READ`: ranges by server that answers gets, joined wherever they touch.
    ReadMerged,
}

impl RangeKind {
    /// The list that a command asks for; `None` when it asks for something else.
    #[must_use]
    pub fn of(command: &TextCommand) -> Option<Self> {
        match (&command.request, command.dialect) {
            (TextRequest::Keyrange, _) => Some(Self::Write),
            (TextRequest::KeyrangeRead, Dialect::Lower) => Some(Self::Read),
            (TextRequest::KeyrangeRead, Dialect::Upper) => Some(Self::ReadMerged),
            _ => None,
        }
    }
}

/// A view and its lists.
#[derive(Debug)]
pub struct RangeLists {
    view: Arc<View>,
    write: OnceLock<Bytes>,
    read: OnceLock<Bytes>,
    read_merged: OnceLock<Bytes>,
}

impl RangeLists {
    /// The lists of a view, none of them made yet.
    #[must_use]
    pub fn new(view: Arc<View>) -> Self {
        let (write, read, read_merged) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Self { view, write, read, read_merged }
    }

    /// The answer to `keyrange` and `keyrange_read`: the list, or [`TextAnswer::Stopped`] when the view has no
    /// servers yet. `None` to every other command.
    #[must_use]
    pub fn answer(&self, command: &TextCommand) -> Option<TextAnswer> {
        let kind = RangeKind::of(command)?;
        let list = match kind {
            RangeKind::Write => &self.write,
            RangeKind::Read => &self.read,
            RangeKind::ReadMerged => &self.read_merged,
        };
        let list = list.get_or_init(|| range_list(&self.view, kind));
        Some(if list.is_empty() { TextAnswer::Stopped } else { TextAnswer::Ranges(list.clone()) })
    }
}

/// A list as it is sent, with its trailing `;`. Empty before the first server has joined.
#[must_use]
pub fn range_list(view: &View, kind: RangeKind) -> Bytes {
    let mut list = String::new();
    match kind {
        RangeKind::Write => view.ranges().iter().for_each(|range| push(&mut list, view, *range)),
        RangeKind::ReadMerged => view.read_ranges().iter().for_each(|range| push(&mut list, view, *range)),
        RangeKind::Read => {
            for Run { first, last, holders } in runs(view) {
                let replicas =
                    holders.servers.iter().copied().filter(|&server| server != holders.coordinator);
                for server in std::iter::once(holders.coordinator).chain(replicas) {
                    push(&mut list, view, KeyRange { first, last, server });
                }
            }
        }
    }
    Bytes::from(list)
}

fn push(list: &mut String, view: &View, range: KeyRange) {
    // A checked view names known servers only; a server without an address cannot be asked by a client.
    if let Some(info) = view.servers.get(&range.server) {
        let _infallible = write!(list, "{},{},{};", range.first, range.last, info.address);
    }
}

/// A range of positions with the same coordinator and replicas.
struct Run {
    first: Position,
    last: Position,
    holders: Holders,
}

/// The servers that answer gets. The order of the replicas makes no difference to a reader.
#[derive(PartialEq, Eq)]
struct Holders {
    coordinator: ServerId,
    servers: BTreeSet<ServerId>,
}

impl Holders {
    fn of(assignment: &Assignment) -> Self {
        let servers = assignment.in_sync.iter().map(|member| member.server).collect();
        Self { coordinator: assignment.coordinator, servers }
    }
}

/// The circle in ring order, neighbours with the same holders as one.
fn runs(view: &View) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (partition, assignment) in view.iter() {
        let (first, last) = (view.partitions.first(partition), view.partitions.last(partition));
        let holders = Holders::of(assignment);
        match runs.last_mut() {
            Some(run) if run.holders == holders => run.last = last,
            _ => runs.push(Run { first, last, holders }),
        }
    }
    // The last one and the first are neighbours too.
    if runs.len() > 1 && runs[0].holders == runs[runs.len() - 1].holders {
        let top = runs.pop().expect("there are two at least");
        runs[0].first = top.first;
    }
    runs
}
