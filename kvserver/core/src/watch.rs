//! Watching: clients get the changes of keys in the order of the log, all of them, or with a gap named.
//!
//! # How
//!
//! A client asks the coordinator of a partition for the changes behind a position in its log, and is answered when
//! there are some. The answer names the position up to which it goes, and the next question begins there. So each
//! change is delivered once. A slow client asks late, and nothing piles up here for it. The next coordinator goes on
//! from that position, since all coordinators have the same log up to there.
//!
//! # What is delivered
//!
//! Only applied changes: they are committed, and no fail-over undoes them. They come from a partition's recent changes,
//! which are kept in memory as soon as a client watches and for a while after the last one has asked; from the log
//! where these do not reach back so far (`history`); and where neither says what was done, there is a gap.
//!
//! # Invariants
//!
//! `kept` has all changes of the entries behind `from` up to the last applied one, in order. A position in an answer is
//! that of an applied entry.
//!
//! # What it lacks on purpose
//!
//! Replicas do not answer, as they apply later. No lease is needed: a change may be old, and stays true. The log is not
//! kept for clients that watch: a gap does less harm than a full disk. That a value ends by its expiry is no change, as
//! no entry says so.

mod history;
mod no_ops;

use std::collections::VecDeque;

use common::ids::{LogId, Seq};
use common::limits::{WATCH_ANSWER_BYTES_MAX, WATCH_HOLD_MAX};
use common::messages::{Change, Entry, Reply, Selection};
use common::operation::Outcome;
use common::time::Time;

pub use history::changes_of;

use super::ask::WatchAsk;
use super::env::Env;
use super::io::{Later, Reader};
use super::limits::{
    WATCH_KEPT_FOR, WATCH_READ_BYTES, WATCHED_BYTES_MAX, WATCHED_PARTITION_BYTES_MAX, WATCHES_MAX,
};
use super::partition::state::PartitionState;
use super::requests::ReplyTo;
use history::{Page, in_order};
use no_ops::NoOps;

/// A question that waits for a change.
#[derive(Debug)]
struct Wait {
    n: u64,
    to: ReplyTo,
    selection: Selection,
    /// The position up to which the client knows the changes; `None`: it asks for the last position.
    position: Option<LogId>,
    bytes_max: usize,
    until: Time,
}

/// What one entry has changed.
#[derive(Debug)]
struct EntryChanges {
    id: LogId,
    /// `None`: they are too large to be delivered.
    changes: Option<Vec<Change>>,
    bytes: usize,
}

/// Questions and changes of one copy. See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    waits: Vec<Wait>,
    last: u64,
    kept: VecDeque<EntryChanges>,
    kept_bytes: usize,
    /// All changes behind this entry are in `kept`; `None`: no client has watched of late.
    from: Option<Seq>,
    asked: Time,
    /// The question that the log is being read for.
    reading: Option<u64>,
    no_ops: NoOps,
}

/// The result of a look at a question.
enum Looked {
    Answer(Page),
    /// The changes from this entry on are to be read from the log.
    Read(Seq),
    Nothing,
}

impl Watches {
    /// For a copy whose records contain the entries up to `applied`.
    pub(crate) fn new(applied: Seq) -> Self {
        Self { no_ops: NoOps::after(applied), ..Self::default() }
    }

    /// Whether changes of applied entries are to be kept.
    pub(crate) fn is_open(&self) -> bool {
        self.from.is_some()
    }

    /// How many questions wait, and the bytes of changes that are kept.
    pub(crate) fn counted(&self) -> (usize, usize) {
        (self.waits.len(), self.kept_bytes)
    }

    /// Whether a client waits for an answer.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.waits.is_empty()
    }

    /// Keeps the changes of applied entries.
    fn keep(&mut self, env: &mut Env, changes: Vec<(LogId, Vec<Change>)>) {
        let Some(mut from) = self.from else { return };
        for (id, changes) in changes {
            if id.seq <= from {
                continue;
            }
            let bytes: usize = changes.iter().map(Change::bytes).sum();
            let fits = bytes <= WATCH_ANSWER_BYTES_MAX;
            let bytes = if fits { bytes } else { 0 };
            self.kept.push_back(EntryChanges { id, changes: fits.then_some(changes), bytes });
            self.kept_bytes += bytes;
            env.budgets.change_bytes += bytes;
        }
        // The newest stays, however large, as waiting clients are about to get it.
        while self.kept.len() > 1
            && (self.kept_bytes > WATCHED_PARTITION_BYTES_MAX || env.budgets.change_bytes > WATCHED_BYTES_MAX)
            && let Some(oldest) = self.kept.pop_front()
        {
            from = oldest.id.seq;
            self.kept_bytes -= oldest.bytes;
            env.budgets.change_bytes -= oldest.bytes;
        }
        assert!(self.kept_bytes <= env.budgets.change_bytes, "what is kept here is counted for all copies");
        self.from = Some(from);
    }

    /// Drops the changes that are kept: they are no longer needed, or no longer true.
    fn close(&mut self, env: &mut Env) {
        assert!(self.kept_bytes <= env.budgets.change_bytes, "what is kept here is counted for all copies");
        env.budgets.change_bytes -= std::mem::take(&mut self.kept_bytes);
        self.kept.clear();
        self.from = None;
    }

    /// The next changes for a question, from memory.
    fn page(&self, wait: &Wait, position: LogId, applied: LogId) -> Page {
        let mut page = Page::new(position, wait.bytes_max);
        let first = self.kept.partition_point(|kept| kept.id.seq <= position.seq);
        for EntryChanges { id, changes, .. } in self.kept.range(first..) {
            let Some(changes) = changes else {
                page.skip(*id);
                continue;
            };
            let watched = |change: &&Change| change.key().is_some_and(|key| wait.selection.contains(key));
            if !page.add(*id, changes.iter().filter(watched).cloned().collect()) {
                return page;
            }
        }
        page.through = applied;
        page
    }

    /// A client asks for changes.
    pub(crate) fn on_watch(&mut self, p: &PartitionState, env: &mut Env, to: ReplyTo, asked: WatchAsk) {
        if env.budgets.watches >= WATCHES_MAX {
            let reason = format!("{WATCHES_MAX} watches wait at this server already, retry");
            return env.reply(to, Reply::Busy { reason });
        }
        assert!(asked.partition == p.id(), "changes of another partition");
        env.budgets.watches += 1;
        env.watched.insert(p.id());
        env.touched.insert(p.id());
        self.from.get_or_insert(p.reaching());
        self.asked = env.cx.now.time;
        self.last += 1;
        self.waits.push(Wait {
            n: self.last,
            to,
            selection: asked.selection,
            position: asked.after,
            bytes_max: asked.bytes_max.min(WATCH_ANSWER_BYTES_MAX),
            until: env.cx.now.time + asked.hold.min(WATCH_HOLD_MAX),
        });
    }

    /// The entries behind `applied` are applied.
    pub(crate) fn on_applied(&mut self, applied: Seq, outcomes: &[Outcome]) {
        for (index, outcome) in outcomes.iter().enumerate() {
            self.no_ops.on_applied(Seq(applied.0 + 1 + index as u64), outcome);
        }
    }

    /// Entries were applied, and these are their changes.
    pub(crate) fn on_changes(
        &mut self,
        p: &PartitionState,
        env: &mut Env,
        changes: Vec<(LogId, Vec<Change>)>,
    ) {
        if p.is_failed() {
            // The changes are those of wrong records.
            self.close(env);
        } else {
            self.keep(env, changes);
        }
    }

    /// The records were replaced: they contain the entries up to `applied`.
    pub(crate) fn forget(&mut self, env: &mut Env, applied: Seq) {
        self.send_away(env);
        self.close(env);
        self.no_ops = NoOps::after(applied);
    }

    /// Answers waiting clients, as far as there are changes for them.
    pub(crate) fn answer(&mut self, p: &PartitionState, env: &mut Env) {
        let Some(applied) = p.log().id_at(p.applied()) else { return };
        let mut waits = std::mem::take(&mut self.waits);
        let mut reading = self.reading;
        waits.retain_mut(|wait| match self.look(p, wait, applied) {
            Looked::Answer(page) => {
                answer(env, wait.to, page);
                false
            }
            Looked::Read(from) => {
                if reading.is_none() {
                    reading = Some(wait.n);
                    let (partition, reader, bytes_max) = (p.id(), Reader::Watch, WATCH_READ_BYTES);
                    env.out.effect(Later::ReadLog { partition, reader, from, bytes_max });
                }
                true
            }
            Looked::Nothing => match wait.position {
                // The client does not want to wait, or not any longer.
                Some(position) if env.cx.now.time >= wait.until => {
                    answer(env, wait.to, Page::new(position, 0));
                    false
                }
                _ => true,
            },
        });
        self.waits = waits;
        self.reading = reading;
    }

    fn look(&self, p: &PartitionState, wait: &mut Wait, applied: LogId) -> Looked {
        let Some(position) = wait.position else { return Looked::Answer(Page::new(applied, 0)) };
        if p.log().contains(position) && position.seq >= applied.seq {
            return Looked::Nothing;
        }
        let from = self.from.unwrap_or(p.applied());
        let base = p.log().base();
        let mut page = Page::new(position, wait.bytes_max);
        if position.seq < base.seq && position.tag <= base.tag {
            // The log begins after that position.
            page.skip(base);
            return Looked::Answer(page);
        }
        if !p.log().contains(position) {
            // This log has never had that position: the partition began anew, or the version is made up.
            page.skip(applied);
            return Looked::Answer(page);
        }
        if position.seq < from {
            return Looked::Read(position.seq.next());
        }
        let page = self.page(wait, position, applied);
        if page.is_empty() {
            wait.position = Some(page.through);
            return Looked::Nothing;
        }
        Looked::Answer(page)
    }

    /// Entries for a question were read back.
    pub(crate) fn on_log_read(&mut self, p: &PartitionState, env: &mut Env, entries: Option<Vec<Entry>>) {
        let Some(n) = self.reading.take() else { return };
        env.touched.insert(p.id());
        let Some(at) = self.waits.iter().position(|wait| wait.n == n) else { return };
        let Some(position) = self.waits[at].position else { return };
        let last = self.from.map_or(p.applied(), |from| from.min(p.applied()));
        let entries = entries.unwrap_or_default();
        let usable = in_order(&entries, position.seq, last);
        let cut = usable.iter().position(|entry| !p.log().contains(entry.id));
        let usable = &usable[..cut.unwrap_or(usable.len())];
        if usable.is_empty() && position.seq >= p.log().base().seq && position.seq < last {
            // The commit log lacks entries that it should have: the client is to ask again, and gets no gap.
            let to = self.waits.remove(at).to;
            end_wait(env);
            let reason = format!("partition {}: entry {} cannot be read back", p.id(), position.seq.next());
            return env.reply(to, Reply::Busy { reason });
        }
        let wait = &self.waits[at];
        let mut page = Page::new(position, wait.bytes_max);
        for entry in usable {
            if !page.add_entry(entry, &wait.selection, &self.no_ops) {
                break;
            }
        }
        if page.through != position || !page.is_empty() {
            // Also without changes: little is read for one answer, so that others have their turn.
            let wait = self.waits.remove(at);
            answer(env, wait.to, page);
        }
    }

    /// Sends clients away, as another server coordinates, or will.
    pub(crate) fn send_away(&mut self, env: &mut Env) {
        let view = env.cx.view.number;
        self.reading = None;
        for wait in std::mem::take(&mut self.waits) {
            end_wait(env);
            env.reply(wait.to, Reply::Moved { view });
        }
    }

    /// Answers clients that have waited long enough, and drops changes that no client has asked for of late.
    /// `shows_changes`: this server coordinates, and its records are whole.
    pub(crate) fn on_tick(&mut self, p: &PartitionState, env: &mut Env, shows_changes: bool) {
        let now = env.cx.now.time;
        let reading = self.reading;
        let partition = p.id();
        self.waits.retain(|wait| {
            if now < wait.until || reading == Some(wait.n) {
                return true;
            }
            match wait.position.filter(|_| shows_changes) {
                Some(position) => answer(env, wait.to, Page::new(position, 0)),
                None => {
                    end_wait(env);
                    let reason =
                        format!("partition {partition} waits for its coordinator to become active, retry");
                    env.reply(wait.to, Reply::Busy { reason });
                }
            }
            false
        });
        if !self.is_awaited() && now.since(self.asked) > WATCH_KEPT_FOR {
            self.close(env);
            env.watched.remove(&p.id());
        }
    }

    /// Asserts what must be true after every step.
    pub(crate) fn invariants(&self, applied: Seq) {
        self.no_ops.invariants(applied);
        let numbers = || self.waits.iter().map(|wait| wait.n);
        assert!(
            numbers().zip(numbers().skip(1)).all(|(one, next)| one < next),
            "questions wait in their order"
        );
        assert!(numbers().all(|n| n <= self.last), "a question that was never asked");
        assert!(
            self.kept.len() <= 1 || self.kept_bytes <= WATCHED_PARTITION_BYTES_MAX,
            "changes are bounded"
        );
        assert!(self.kept.back().is_none_or(|kept| kept.id.seq <= applied), "a change that is not applied");
        assert!(self.from.is_some() || self.kept.is_empty(), "changes are kept for no client");
        assert_eq!(self.kept_bytes, self.kept.iter().map(|kept| kept.bytes).sum::<usize>());
        let ids = || self.kept.iter().map(|kept| kept.id);
        assert!(
            ids().zip(ids().skip(1)).all(|(one, next)| one < next),
            "changes are in the order of the log"
        );
        assert!(ids().all(|id| self.from.is_some_and(|from| id.seq > from)), "changes follow the position");
    }
}

/// Counts a question that is answered.
fn end_wait(env: &mut Env) {
    assert!(env.budgets.watches > 0, "a question is answered once");
    env.budgets.watches -= 1;
}

fn answer(env: &mut Env, to: ReplyTo, page: Page) {
    end_wait(env);
    let Page { changes, through, next_bytes, .. } = page;
    env.reply(to, Reply::Changes { changes, through, next_bytes: next_bytes as u64 });
}
