//! The decisions of the ECS, as values: no clock, no socket, no disk, no randomness.
//!
//! The ECS decides which servers are members of the cluster, and for each partition which of them coordinates it, is in
//! sync, or joins. A numbered [`View`](common::view::View) says so, and servers follow the newest one. [`Ecs`] takes
//! one [`Input`] at a time, with the time at which it came, and gives [`Effect`]s, which the shell (`ecs/src/shell`)
//! carries out. A step goes like this:
//!
//! 1. **Hear** (`machine/reports`). A report becomes a fact: about a server's process (`peers`), its disk (`disks`),
//!    the copies that it has (`proof`, `served`), or a link that it complains of (`reach/edges`). A process that may
//!    not be a server is refused with the reason (`refusal`, `left_out`); one that is the second of its store waits
//!    (`machine/twins`); one whose store failed asks what becomes of it (`machine/suspects`). All of it is kept in
//!    `reports` until a view takes it up.
//! 2. **Judge silence** (`silence`, `backoff`, `machine/timing`). How long a server may be silent follows the gaps
//!    between its heartbeats, and one that falls silent again and again comes back later each time. An ECS that was
//!    itself suspended, or has just started, removes no server for a moment (the quiet time).
//! 3. **See whether a view may be made** (`machine/views`). One is under way at a time. After a start none is made
//!    before the servers' views were compared with the ECS's own (`machine/restart`), and an ECS that lost its disk
//!    first gathers what the servers have (`machine/rebuild`, [`rebuild`]).
//! 4. **Make it** (`next`): a pure function of the last state and the facts. Members (`next/members`); what each
//!    partition loses and gains (`next/reconcile`), by links that are cut (`next/reach`, [`reach`]) and by slow or full
//!    disks (`next/relief`) too; where copies should be ([`planner`]); and a bounded number of steps to get there
//!    (`next/steps`), none in a partition whose last change is not in use yet (`settling`). What one view leaves for
//!    the next ones is in `rebalancing`.
//! 5. **Check it** ([`rules`]). Between two views V2 to V5 of docs/protocol.md hold. A broken rule is a bug: it panics.
//! 6. **Persist it, then publish it** (V1). [`Effect::Persist`] has a ticket; after [`Input::Durable`] of that ticket
//!    the view goes to the servers, and the reasons for it to the log and the events ([`cause`]).
//!
//! Beside the steps: an operator's [`Order`] is planned before it is given ([`plan`]), so that it moves what was shown;
//! `summary` puts the cluster's state in figures, and [`verdict`] says whether it is healthy, and if not, what to do.
//!
//! What is durable when: [`State`] (the newest view, what must be remembered of servers, the settings, copies that are
//! known to disagree or were left out) is on disk before any of it is published or answered as done. One persist is
//! under way at a time, and what is heard meanwhile goes into the next view. Everything else is forgotten at a restart
//! and heard again: heartbeats, complaints, proposals, refusals, back-off.
//!
//! What it lacks on purpose: a second ECS that takes over (reads and writes go on without it); time other than what
//! comes in with an input; zones, and any weight but the one that a server gives. Everything that it keeps is bounded
//! ([`limits`]); [`planted`] names the bugs that tests plant.

mod backoff;
pub mod cause;
mod config;
mod disks;
mod left_out;
pub mod limits;
pub mod machine;
mod next;
mod peers;
pub mod plan;
pub mod planner;
pub mod planted;
mod proof;
pub mod reach;
mod rebalancing;
pub mod rebuild;
mod refusal;
mod reports;
pub mod rules;
mod served;
mod settling;
mod silence;
pub mod state;
mod summary;
pub mod verdict;

pub use cause::{Cause, Change, Event, Severity};
pub use config::Config;
pub use machine::{Ecs, Effect, Input, KeptStore};
pub use peers::{Disagreement, Disagreements};
pub use plan::{Order, Plan, RequestedState, Unfit};
pub use planted::PlantedBug;
pub use refusal::Refusal;
pub use state::{Registered, Settings, State};
