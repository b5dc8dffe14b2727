//! Entries of the coordinator at a replica. The first append of an epoch may shorten the log, once; no other ever does.
//! When they are on disk `following` acknowledges them.

use common::ids::{LogId, Nonce, Seq};
use common::messages::{Entry, ProcessId, ToCoordinator};

use super::super::env::Env;
use super::super::partition::removal::was_left_out;
use super::super::partition::state::PartitionState;
use super::super::planted::PlantedBug;
use super::super::validate::check_entries;
use super::state::Replica;

/// The content of an append.
#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) sync: Option<Nonce>,
    pub(crate) prev: LogId,
    pub(crate) commit: Seq,
    pub(crate) entries: Vec<Entry>,
}

impl Replica {
    /// Takes the entries that are new, and the commit as far as the log is known to be the coordinator's.
    pub(crate) fn on_append(
        &mut self,
        p: &mut PartitionState,
        env: &mut Env,
        from: ProcessId,
        append: Append,
    ) {
        if !p.is_idle() {
            return;
        }
        env.touched.insert(p.id());
        if let Err(reason) = check_entries(append.prev, &append.entries, p.epoch()) {
            let (id, server) = (p.id(), from.server);
            return env.out.warn(format!("partition {id}: an append of {server} is dropped: {reason}"));
        }
        let is_sync = append.sync == Some(env.cx.me.nonce);
        if !self.is_in_line(p, env, from, &append, is_sync) {
            return;
        }
        let Append { prev, commit, entries, .. } = append;
        let reaches = entries.last().map_or(prev.seq, |entry| entry.id.seq);
        let owed = is_sync || !entries.is_empty();
        add_new(p, env, entries);
        let has_no_op = p.has_no_op() || env.cx.planted(PlantedBug::NoOpLeftOut);
        if p.durable_state().synced != p.epoch() && has_no_op {
            p.get_in_step(env);
        }
        p.advance_commit_to(commit.min(reaches).min(p.log().last()));
        if is_sync {
            self.probed_at.get_or_insert(commit);
        }
        self.note_activity(p);
        self.ack_due |= owed;
        if env.cx.planted(PlantedBug::AckBeforeFsync) {
            let (seq, clean, bound) = (p.log().last(), true, Vec::new());
            env.out.send(from.server, ToCoordinator::Ack { seq, clean, bound }.about(p.id(), p.epoch()));
        }
    }

    /// Whether the log is a prefix of the coordinator's up to where an append begins. It is made one with the first
    /// append of an epoch, which `is_sync` says that this is.
    fn is_in_line(
        &mut self,
        p: &mut PartitionState,
        env: &mut Env,
        from: ProcessId,
        append: &Append,
        is_sync: bool,
    ) -> bool {
        let (prev, last) = (append.prev, p.log().last());
        // Entries before the base are applied, hence committed, hence in every coordinator's log.
        let known = p.log().contains(prev) || prev.seq < p.log().base().seq;
        if !self.follows(p) {
            if !is_sync || !env.may_speak(p.id()) {
                return false;
            }
            if !known {
                // The log has changed since the coordinator asked: it is described again.
                env.out.send(from.server, p.sync_reply());
                return false;
            }
            if !cut_to_common(p, env, from, prev.seq, &append.entries) {
                return false;
            }
            self.follows = true;
            self.receiving = None;
        } else if env.cx.planted(PlantedBug::LateAppendCuts) && known && prev.seq < last {
            p.cut(env, prev.seq.max(p.reaching()).max(p.log().base().seq));
        } else if prev.seq > last {
            env.out.send(from.server, ToCoordinator::Gap { last }.about(p.id(), p.epoch()));
            return false;
        }
        true
    }
}

/// Adds the entries that the log does not have yet.
fn add_new(p: &mut PartitionState, env: &mut Env, mut entries: Vec<Entry>) {
    entries.retain(|entry| entry.id.seq > p.log().last());
    for entry in entries {
        if entry.id.seq != p.log().last().next() || entry.id.tag < p.log().last_tag() {
            break;
        }
        let id = entry.id;
        p.append(env, entry);
        env.trace_appended(p.id(), id);
    }
}

/// P2: cuts the log after the common point, which is `prev` or later: what is committed here is in the coordinator's
/// log too, though it may not have been on disk, and so not reported, when the coordinator asked. Returns `false` if it
/// is not there: then the coordinator's log is wrong, and this one is not cut.
fn cut_to_common(
    p: &mut PartitionState,
    env: &mut Env,
    from: ProcessId,
    prev: Seq,
    entries: &[Entry],
) -> bool {
    let after = prev.max(p.commit().min(p.log().last()));
    let base = p.log().base().seq;
    let differs = |entry: &Entry| entry.id.seq > base && entry.id.seq <= after && !p.log().contains(entry.id);
    if entries.iter().any(differs) || after < p.reaching() {
        send_ahead(p, env, from, p.commit());
        return false;
    }
    if env.cx.planted(PlantedBug::LogNotCut) {
        return true;
    }
    if p.log().last() > after && was_left_out(p, env) {
        // V4a: perhaps no other copy has the entries behind the common point, so the copy is kept aside and not cut.
        send_ahead(p, env, from, p.log().last());
        return false;
    }
    p.cut(env, after);
    p.log().last() <= after
}

/// Says that this log has more than the coordinator's may have.
fn send_ahead(p: &PartitionState, env: &mut Env, to: ProcessId, commit: Seq) {
    env.out.send(to.server, ToCoordinator::Ahead { commit }.about(p.id(), p.epoch()));
}
