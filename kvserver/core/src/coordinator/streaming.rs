//! What members are sent: the question for their log, the entries that they lack, or a copy of the state.

use common::ids::{LogId, Nonce, Seq, ServerId};
use common::messages::{Entry, ToReplica};

use super::super::env::Env;
use super::super::io::{Later, Reader};
use super::super::limits::{APPEND_BYTES_MAX, STREAM_WINDOW_BYTES};
use super::super::partition::state::PartitionState;
use super::progress::{Progress, Stage, Stream};
use super::state::{Coordinator, counts};

/// How members learn of the commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// With the next entries.
    WithEntries,
    /// Also alone, if they were sent an older one.
    Alone,
}

impl Coordinator {
    /// Sends members what they lack. `notice`: how they learn of the commit.
    pub(super) fn stream(&mut self, p: &PartitionState, env: &mut Env, notice: Notice) {
        let (id, epoch, now) = (p.id(), p.epoch(), env.cx.now.time);
        if self.disagreement.is_some() {
            return;
        }
        let Self { peers, in_sync, voter, .. } = self;
        // One snapshot is read at a time for each partition, also where several of its members need one.
        let mut may_open = !p.is_failed() && !peers.values().any(Progress::has_open_snapshot);
        for (&server, peer) in peers {
            match &mut peer.stage {
                Stage::Probe { asked: Some(_) } => {}
                Stage::Probe { asked } => {
                    *asked = Some(now);
                    env.out.send(server, ToReplica::SyncRequest {}.about(id, epoch));
                }
                Stage::Snapshot(sending) => {
                    let base = p.log().id_at(p.reaching()).filter(|_| may_open);
                    sending.advance(env, server, id, epoch, base);
                    may_open &= !sending.is_open();
                    if let Some(base) = sending.base() {
                        peer.retained = Some(base.seq.next());
                    }
                }
                Stage::Stream(_) => send_log(p, env, server, peer, counts(in_sync, voter, server), notice),
            }
        }
    }

    /// Entries for a member were read back from the commit log.
    pub(crate) fn on_log_read(
        &mut self,
        p: &PartitionState,
        env: &mut Env,
        server: ServerId,
        entries: Option<Vec<Entry>>,
    ) {
        let counts = counts(&self.in_sync, &self.voter, server);
        let Some(peer) = self.peers.get_mut(&server) else { return };
        let sync = peer.asks_to_sync();
        let Stage::Stream(stream) = &mut peer.stage else { return };
        if !std::mem::take(&mut stream.reading) {
            return;
        }
        env.touched.insert(p.id());
        let Some(mut entries) = entries else {
            // The log was trimmed meanwhile: what the member lacks is only in the state.
            peer.probe_again();
            peer.moved = env.cx.now.time;
            return;
        };
        // Entries that were cut and replaced since are not in the log any more.
        entries.retain(|entry| p.log().contains(entry.id));
        if entries.first().is_none_or(|entry| entry.id.seq != stream.next) {
            return;
        }
        let Some(prev) = p.log().id_at(Seq(stream.next.0 - 1)) else { return };
        if !counts {
            count_caught_up(env, &entries);
        }
        stream.send_append(p, env, server, sync, prev, entries);
    }
}

/// Sends a member the entries of the log that it lacks, as many as may be in flight. `counts`: its acknowledgements are
/// needed.
fn send_log(
    p: &PartitionState,
    env: &mut Env,
    server: ServerId,
    peer: &mut Progress,
    counts: bool,
    notice: Notice,
) {
    let sync = peer.asks_to_sync();
    let Stage::Stream(stream) = &mut peer.stage else { return };
    let log = p.log();
    let lacks_commit = |stream: &Stream| notice == Notice::Alone && stream.sent_commit < p.commit();
    if stream.next == log.last().next() && sync.is_none() && !lacks_commit(stream) {
        return;
    }
    let was_idle = stream.in_flight.is_empty();
    let is_trimmed = loop {
        let window: usize = stream.in_flight.iter().map(|(_, bytes)| *bytes).sum();
        // The first append of an epoch travels alone: only it may shorten the member's log.
        let is_alone = sync.is_some() && !stream.in_flight.is_empty();
        if stream.reading || window >= STREAM_WINDOW_BYTES || is_alone {
            break false;
        }
        let Some(prev) = log.id_at(Seq(stream.next.0 - 1)) else { break true };
        if stream.next > log.last() {
            if sync.is_some() || lacks_commit(stream) {
                stream.send_append(p, env, server, sync, prev, Vec::new());
            }
            break false;
        }
        if let Some(entries) = log.in_memory(stream.next, APPEND_BYTES_MAX) {
            if !counts {
                count_caught_up(env, &entries);
            }
            stream.send_append(p, env, server, sync, prev, entries);
        } else {
            stream.reading = true;
            env.out.effect(Later::ReadLog {
                partition: p.id(),
                reader: Reader::Member(server),
                from: stream.next,
                bytes_max: APPEND_BYTES_MAX,
            });
        }
    };
    if was_idle && !stream.in_flight.is_empty() {
        // No answer was awaited before: its time to answer begins now.
        peer.moved = env.cx.now.time;
    }
    if is_trimmed {
        // The log was trimmed beyond what it has while it did not answer.
        peer.probe_again();
        peer.moved = env.cx.now.time;
    }
}

/// Counts entries for a member that does not count yet (`caught_up`).
fn count_caught_up(env: &mut Env, entries: &[Entry]) {
    env.transfers.caught_up.log_entries += entries.len() as u64;
    env.transfers.caught_up.log_bytes += entries.iter().map(|entry| entry.body.len() as u64).sum::<u64>();
}

impl Stream {
    /// Sends one append, and notes that it is under way.
    fn send_append(
        &mut self,
        p: &PartitionState,
        env: &mut Env,
        to: ServerId,
        sync: Option<Nonce>,
        prev: LogId,
        entries: Vec<Entry>,
    ) {
        assert_eq!(prev.seq.next(), self.next, "what is sent follows what was sent");
        let is_next = entries.first().is_none_or(|entry| entry.id.seq == self.next);
        assert!(is_next, "an append begins after the entry that it names");
        let is_own = entries.last().is_none_or(|entry| p.log().contains(entry.id));
        assert!(is_own, "only what is in the log is sent");
        let bytes: usize = entries.iter().map(|entry| entry.body.len() + 1).sum();
        let last = entries.last().map_or(prev.seq, |entry| entry.id.seq);
        if sync.is_some() || bytes > 0 {
            self.in_flight.push_back((last, bytes));
        }
        let commit = p.commit();
        (self.next, self.sent_commit) = (last.next(), commit);
        env.out.send(to, ToReplica::Append { sync, prev, commit, entries }.about(p.id(), p.epoch()));
    }
}
