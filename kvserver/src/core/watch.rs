//! Watching: clients are told of changes of keys, in the order of the log, all of them or with the gap named.
//!
//! # How
//!
//! A client asks the coordinator of a partition for the changes behind a place in its log, and is answered when there are
//! some. The answer names the place up to which it goes, and the next question begins there. So each change is told once;
//! a client that is slow asks late, and nothing piles up here for it; and whoever coordinates next goes on from
//! that place, since all coordinators have the same log up to there.
//!
//! # What is told
//!
//! Only what is applied: it is committed, and no fail-over undoes it. Told from a partition's recent changes, which are
//! kept in memory as soon as somebody watches and for a while after the last one has asked; from the log where they do not
//! reach back so far (`history`); and where neither says what was done, a gap is told.
//!
//! # Invariants
//!
//! `told` holds all changes of the entries behind `from` up to the last applied one, in order. A place that was
//! told is that of an applied entry.
//!
//! # What it lacks on purpose
//!
//! No replica tells: it applies later. No lease is needed: what is told may be old, and is true for ever. The log is
//! not kept for those who watch: a gap harms nobody, a full disk everybody. No value is told to end by its expiry: no
//! entry says so.

mod history;
mod vain;

use std::collections::VecDeque;

use common::ids::{LogId, Seq};
use common::limits::{WATCH_ANSWER_BYTES_MAX, WATCH_HOLD_MAX};
use common::messages::{Change, Entry, Reply, Selection};
use common::time::Time;

pub use history::changes_of;
pub(crate) use vain::Vain;

use super::ask::WatchAsk;
use super::copy::{PartitionCopy, Role};
use super::env::{Env, ReplyTo};
use super::io::{Effect, Reader};
use super::limits::{
    WATCH_KEPT_FOR, WATCH_READ_BYTES, WATCHED_BYTES_MAX, WATCHED_PARTITION_BYTES_MAX, WATCHES_MAX,
};
use history::{Page, in_order};

/// A question that waits for a change.
#[derive(Debug)]
struct Wait {
    n: u64,
    to: ReplyTo,
    selection: Selection,
    /// Told up to here; `None`: it asks for the last place.
    place: Option<LogId>,
    bytes_max: usize,
    until: Time,
}

/// The changes of one entry.
#[derive(Debug)]
struct Told {
    id: LogId,
    /// None: they are too many to be told.
    changes: Option<Vec<Change>>,
    bytes: usize,
}

/// What a copy has for those who watch. See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    waits: Vec<Wait>,
    last: u64,
    told: VecDeque<Told>,
    told_bytes: usize,
    /// Behind this entry all changes are in `told`; `None`: nobody has watched of late.
    from: Option<Seq>,
    asked: Time,
    /// The question that the log is being read for.
    reading: Option<u64>,
    pub(crate) vain: Vain,
}

/// What becomes of a question.
enum Looked {
    Answer(Page),
    /// The log says more, from this entry on.
    Read(Seq),
    Nothing,
}

impl Watches {
    /// What is to be kept of a copy whose records contain the entries up to `applied`.
    pub(crate) fn new(applied: Seq) -> Self {
        Self { vain: Vain::after(applied), ..Self::default() }
    }

    /// Changes are wanted of what is applied.
    pub(crate) fn is_open(&self) -> bool {
        self.from.is_some()
    }

    /// Questions that wait, and bytes of changes that are kept.
    pub(crate) fn held(&self) -> (usize, usize) {
        (self.waits.len(), self.told_bytes)
    }

    /// Somebody waits for an answer.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.waits.is_empty()
    }

    /// Entries were applied, and these are their changes.
    fn on_changes(&mut self, env: &mut Env, changes: Vec<(LogId, Vec<Change>)>) {
        let Some(mut from) = self.from else { return };
        for (id, changes) in changes {
            if id.seq <= from {
                continue;
            }
            let bytes: usize = changes.iter().map(Change::bytes).sum();
            let fits = bytes <= WATCH_ANSWER_BYTES_MAX;
            let bytes = if fits { bytes } else { 0 };
            self.told.push_back(Told { id, changes: fits.then_some(changes), bytes });
            self.told_bytes += bytes;
            env.told_bytes += bytes;
        }
        // The newest stays, however large: those who wait are about to be told.
        while self.told.len() > 1
            && (self.told_bytes > WATCHED_PARTITION_BYTES_MAX || env.told_bytes > WATCHED_BYTES_MAX)
            && let Some(oldest) = self.told.pop_front()
        {
            from = oldest.id.seq;
            self.told_bytes -= oldest.bytes;
            env.told_bytes -= oldest.bytes;
        }
        self.from = Some(from);
    }

    /// What was kept is no longer wanted, or no longer true.
    fn close(&mut self, env: &mut Env) {
        env.told_bytes -= std::mem::take(&mut self.told_bytes);
        self.told.clear();
        self.from = None;
    }

    /// The next changes for a question, from memory.
    fn page(&self, wait: &Wait, place: LogId, applied: LogId) -> Page {
        let mut page = Page::new(place, wait.bytes_max);
        let first = self.told.partition_point(|told| told.id.seq <= place.seq);
        for Told { id, changes, .. } in self.told.range(first..) {
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
}

impl PartitionCopy {
    /// A client asks for changes.
    pub(crate) fn on_watch(&mut self, env: &mut Env, to: ReplyTo, asked: WatchAsk) {
        if env.watches >= WATCHES_MAX {
            let reason = format!("{WATCHES_MAX} watches wait at this server already, retry");
            return env.reply(to, Reply::Busy { reason });
        }
        env.watches += 1;
        env.watched.insert(self.id);
        env.touched.insert(self.id);
        let reaching = self.reaching();
        let watches = &mut self.watches;
        watches.from.get_or_insert(reaching);
        watches.asked = env.now.time;
        watches.last += 1;
        watches.waits.push(Wait {
            n: watches.last,
            to,
            selection: asked.selection,
            place: asked.after,
            bytes_max: asked.bytes_max.min(WATCH_ANSWER_BYTES_MAX),
            until: env.now.time + asked.hold.min(WATCH_HOLD_MAX),
        });
    }

    /// Entries were applied, and these are their changes.
    pub(crate) fn on_changes(&mut self, env: &mut Env, changes: Vec<(LogId, Vec<Change>)>) {
        if self.mark.failed {
            // Made of wrong records.
            self.watches.close(env);
        } else {
            self.watches.on_changes(env, changes);
        }
    }

    /// The records are others now: they contain the entries up to `applied`.
    pub(crate) fn forget_changes(&mut self, env: &mut Env, applied: Seq) {
        self.send_away(env);
        self.watches.close(env);
        self.watches.vain = Vain::after(applied);
    }

    /// Answers who waits, as far as there is something to tell.
    pub(crate) fn tell(&mut self, env: &mut Env) {
        if !self.watches.is_awaited() {
            return;
        }
        let Role::Coordinator(coordinator) = &self.role else { return self.send_away(env) };
        if !coordinator.has_applied_all(self.applied) || self.mark.failed || self.dropping {
            return;
        }
        let Some(applied) = self.log.id_at(self.applied) else { return };
        let mut waits = std::mem::take(&mut self.watches.waits);
        let mut reading = self.watches.reading;
        waits.retain_mut(|wait| match self.look(wait, applied) {
            Looked::Answer(page) => {
                answer(env, wait.to, page);
                false
            }
            Looked::Read(from) => {
                if reading.is_none() {
                    reading = Some(wait.n);
                    let (partition, reader, bytes_max) = (self.id, Reader::Watch, WATCH_READ_BYTES);
                    env.out.effect(Effect::ReadLog { partition, reader, from, bytes_max });
                }
                true
            }
            Looked::Nothing => match wait.place {
                // It does not want to wait, or not any longer.
                Some(place) if env.now.time >= wait.until => {
                    answer(env, wait.to, Page::new(place, 0));
                    false
                }
                _ => true,
            },
        });
        self.watches.waits = waits;
        self.watches.reading = reading;
    }

    fn look(&self, wait: &mut Wait, applied: LogId) -> Looked {
        let Some(place) = wait.place else { return Looked::Answer(Page::new(applied, 0)) };
        if self.log.contains(place) && place.seq >= applied.seq {
            return Looked::Nothing;
        }
        let from = self.watches.from.unwrap_or(self.applied);
        let base = self.log.base();
        let mut page = Page::new(place, wait.bytes_max);
        if place.seq < base.seq && place.tag <= base.tag {
            // The log begins later.
            page.skip(base);
            return Looked::Answer(page);
        }
        if !self.log.contains(place) {
            // This log has never had it: a partition that was let begin anew, or a version that nobody told.
            page.skip(applied);
            return Looked::Answer(page);
        }
        if place.seq < from {
            return Looked::Read(place.seq.next());
        }
        let page = self.watches.page(wait, place, applied);
        if page.is_empty() {
            wait.place = Some(page.through);
            return Looked::Nothing;
        }
        Looked::Answer(page)
    }

    /// Entries for a question were read back.
    pub(crate) fn on_read_for_watch(&mut self, env: &mut Env, entries: Option<Vec<Entry>>) {
        let Some(n) = self.watches.reading.take() else { return };
        env.touched.insert(self.id);
        let Some(at) = self.watches.waits.iter().position(|wait| wait.n == n) else { return };
        let Some(place) = self.watches.waits[at].place else { return };
        let last = self.watches.from.map_or(self.applied, |from| from.min(self.applied));
        let entries = entries.unwrap_or_default();
        let usable = in_order(&entries, place.seq, last);
        let cut = usable.iter().position(|entry| !self.log.contains(entry.id));
        let usable = &usable[..cut.unwrap_or(usable.len())];
        if usable.is_empty() && place.seq >= self.log.base().seq && place.seq < last {
            // The commit log does not have what it should: not told of, but not passed over in silence.
            let to = self.watches.waits.remove(at).to;
            env.watches -= 1;
            let reason = format!("partition {}: entry {} cannot be read back", self.id, place.seq.next());
            return env.reply(to, Reply::Busy { reason });
        }
        let wait = &self.watches.waits[at];
        let mut page = Page::new(place, wait.bytes_max);
        for entry in usable {
            if !page.add_entry(entry, &wait.selection, &self.watches.vain) {
                break;
            }
        }
        if page.through != place || !page.is_empty() {
            // Also without changes: what is read for one answer is little, and others have their turn.
            let wait = self.watches.waits.remove(at);
            answer(env, wait.to, page);
        }
    }

    /// Another server coordinates, or will.
    fn send_away(&mut self, env: &mut Env) {
        let view = env.view.number;
        self.watches.reading = None;
        for wait in std::mem::take(&mut self.watches.waits) {
            env.watches -= 1;
            env.reply(wait.to, Reply::Moved { view });
        }
    }

    /// Time has passed: who has waited long enough is answered, and what nobody wants is no longer kept.
    pub(crate) fn watch_tick(&mut self, env: &mut Env) {
        let now = env.now.time;
        let current = match &self.role {
            Role::Coordinator(coordinator) => {
                coordinator.has_applied_all(self.applied) && !self.mark.failed && !self.dropping
            }
            _ => false,
        };
        let reading = self.watches.reading;
        let partition = self.id;
        self.watches.waits.retain(|wait| {
            if now < wait.until || reading == Some(wait.n) {
                return true;
            }
            match wait.place.filter(|_| current) {
                Some(place) => answer(env, wait.to, Page::new(place, 0)),
                None => {
                    env.watches -= 1;
                    let reason =
                        format!("partition {partition} waits for its coordinator to become active, retry");
                    env.reply(wait.to, Reply::Busy { reason });
                }
            }
            false
        });
        if !self.watches.is_awaited() && now.since(self.watches.asked) > WATCH_KEPT_FOR {
            self.watches.close(env);
            env.watched.remove(&self.id);
        }
    }
}

fn answer(env: &mut Env, to: ReplyTo, page: Page) {
    env.watches -= 1;
    let Page { changes, through, next_bytes, .. } = page;
    env.reply(to, Reply::Changes { changes, through, next_bytes: next_bytes as u64 });
}
