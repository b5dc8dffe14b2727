//! The minimum of copies (`--min-copies`, in the view): with fewer in sync no write is acknowledged, and reads go on.
//!
//! Below it writes wait to be ordered, and nothing that was ordered is committed, with two exceptions that reads need
//! and that acknowledge nothing: what the log had when the epoch began, with the no-op (a former coordinator may have
//! acknowledged any of it, so it must be applied before any read), and ticks of log time behind it. The client of such
//! a write is answered when it asks again and another copy has the write: from the beginning of the epoch on, its
//! requests wait like new ones.
//!
//! The joining voter (J2) does not count for the minimum: the ECS may not know of it, and could drop it.

use common::ids::Seq;

use super::super::env::Env;
use super::super::planted::PlantedBug;
use super::super::requests::ReplyTo;
use super::state::Coordinator;

impl Coordinator {
    /// Whether fewer copies are in sync than the view asks for.
    pub(crate) fn is_short(&self, env: &Env) -> bool {
        let least = usize::from(env.cx.view.min_copies);
        self.in_sync.len() + 1 < least && !env.cx.planted(PlantedBug::MinimumIgnored)
    }

    /// The last entry that may be committed, of those that are on this server's disk.
    pub(super) fn commits_up_to(&self, env: &Env, durable: Seq) -> Seq {
        if self.is_short(env) { self.alone_to() } else { durable }
    }

    /// An entry was ordered. A tick that a read waits for may be committed below the minimum.
    pub(super) fn note_tick(&mut self, to: ReplyTo, seq: Seq) {
        assert!(seq > self.alone_to(), "entries are ordered one after the other");
        if matches!(to, ReplyTo::Read(_)) && self.alone_to().next() == seq {
            self.ticked = seq;
        }
    }

    fn alone_to(&self) -> Seq {
        self.ticked.max(self.begin.map_or(Seq::default(), |begin| begin.seq))
    }
}
