//! What a coordinator does as time passes: it sends unanswered messages again, reports silent members, and gives up
//! reads that have waited too long.

use common::ids::ServerId;
use common::messages::{Reply, ServerReport};

use super::super::env::Env;
use super::super::limits::{COMMIT_NOTICE, JOINER_PATIENCE, REPORT_AGAIN, RESEND_MAX};
use super::super::partition::state::PartitionState;
use super::super::planted::PlantedBug;
use super::progress::{Progress, Stage};
use super::state::Coordinator;
use super::streaming::Notice;

impl Coordinator {
    /// Time has passed.
    pub(crate) fn on_tick(&mut self, p: &mut PartitionState, env: &mut Env) {
        env.touched.insert(p.id());
        let now = env.cx.now.time;
        let mut notice = Notice::WithEntries;
        if now.since(self.noticed) >= COMMIT_NOTICE {
            self.noticed = now;
            notice = Notice::Alone;
        }
        self.stream(p, env, notice);
        self.look_at_members(p, env);
        if env.cx.planted(PlantedBug::ProposalDropped)
            && self.voter.as_ref().is_some_and(|voter| now.since(voter.since) > REPORT_AGAIN / 4)
        {
            self.voter = None;
        }
        self.give_up_reads(p, env);
    }

    /// Sends again what a member has not answered, and reports it when it is silent for long.
    fn look_at_members(&mut self, p: &PartitionState, env: &mut Env) {
        let (last, now) = (p.log().last(), env.cx.now.time);
        let stopped = self.disagreement.is_some();
        let needed: Vec<ServerId> = self.needed().collect();
        // A member that has all entries and answers no pings delays reads, also in a partition without writes.
        let reads_wait = self.active && !self.reads.is_empty();
        let floor = self.ping_floor;
        for (&server, peer) in &mut self.peers {
            let waits = peer.waits(last) && !stopped;
            let counts = needed.contains(&server);
            let is_leased = || env.promises.leases.holds(peer.member, floor, p.epoch(), now);
            if !waits && (!counts || is_leased()) {
                peer.awaited = None;
                continue;
            }
            if !waits && !reads_wait {
                continue;
            }
            if waits && now.since(peer.moved) >= peer.patience {
                peer.patience = (peer.patience * 2).min(RESEND_MAX);
                if let Stage::Snapshot(sending) = &peer.stage
                    && sending.is_lost()
                {
                    sending.close(env, p.id());
                    peer.probe_again();
                }
                peer.rewind(now);
            }
            report_if_silent(p, env, server, peer, counts);
        }
    }

    /// Answers reads that have waited too long.
    fn give_up_reads(&mut self, p: &PartitionState, env: &mut Env) {
        let (id, now) = (p.id(), env.cx.now.time);
        let mut late = Vec::new();
        while let Some(&read) = self.reads.front() {
            if env.requests.reads.get(&read).is_some_and(|read| now.since(read.since) <= env.cx.config.park) {
                break;
            }
            self.reads.pop_front();
            late.push(read);
        }
        for read in late {
            if let Some(read) = env.requests.reads.remove(&read) {
                let reason = format!("partition {id} waits for the leases of its coordinator, retry");
                env.reply(read.to, Reply::Busy { reason });
            }
        }
    }
}

/// Reports a member of which an answer is awaited, when it has been silent for the report time.
fn report_if_silent(p: &PartitionState, env: &mut Env, server: ServerId, peer: &mut Progress, counts: bool) {
    if matches!(&peer.stage, Stage::Snapshot(sending) if !sending.is_open() || sending.is_idle()) {
        // The copy waits for its turn at this server, or for the rate: the member is not silent.
        peer.awaited = None;
        return;
    }
    let awaited = *peer.awaited.get_or_insert(env.cx.watched());
    // A silent joining member delays no write, but it takes one of the slots for joining members, and the log is kept
    // for its copy.
    let patience = if counts { 1 } else { JOINER_PATIENCE };
    if env.cx.watched().since(awaited) < env.cx.config.timers.report * patience {
        return;
    }
    peer.awaited = Some(env.cx.watched());
    env.out.report(ServerReport::Silent { partition: p.id(), epoch: p.epoch(), member: server });
    if !counts {
        // The log is not kept for it any longer: a member that is away for long gets a copy.
        if let Stage::Snapshot(sending) = &peer.stage {
            sending.close(env, p.id());
            peer.probe_again();
        }
        peer.retained = None;
    }
}
