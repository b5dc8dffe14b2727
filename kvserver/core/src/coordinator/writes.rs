//! Requests at the coordinator: writes are ordered and committed (W1-W3), and each batch is settled: entries leave
//! (`streaming`), and what all members that count have acknowledged (`members`) is committed and applied
//! (`partition/state`).

use bytes::Bytes;
use common::codec::Wire;
use common::ids::{LogId, Seq, ServerId};
use common::limits::CLIENT_RETRY_FOR;
use common::messages::{Entry, Reply};
use common::operation::{Command, InvalidOperation};
use common::time::Time;

use super::super::ask::Ask;
use super::super::env::Env;
use super::super::keys::is_gathered;
use super::super::limits::COMMAND_BYTES;
use super::super::partition::state::PartitionState;
use super::super::partition::waiting::Pending;
use super::super::planted::PlantedBug;
use super::super::requests::{ClientRequest, ReplyTo};
use super::reads::note_read;
use super::state::Coordinator;
use super::streaming::Notice;

impl Coordinator {
    /// A request for this partition.
    pub(crate) fn on_ask(&mut self, p: &mut PartitionState, env: &mut Env, asked: ClientRequest) {
        if matches!(asked.ask, Ask::Write { .. }) && p.waiting.has_parked() {
            // A write must not overtake writes that wait.
            return p.waiting.park(env, asked);
        }
        self.admit(p, env, asked);
    }

    /// Takes a request whose turn it is.
    fn admit(&mut self, p: &mut PartitionState, env: &mut Env, asked: ClientRequest) {
        match asked {
            ClientRequest { to, ask: Ask::Read(query), since, .. } => {
                let id = note_read(p, env, to, query, since);
                self.start_read(p, env, id);
            }
            asked => self.on_write(p, env, asked),
        }
    }

    fn on_write(&mut self, p: &mut PartitionState, env: &mut Env, asked: ClientRequest) {
        let ClientRequest { to, ask, since, maybe_done } = &asked;
        let (to, since) = (*to, *since);
        let Ask::Write { age_ms, operation, .. } = ask else { return };
        let gathered = is_gathered(&env.cx.view, operation);
        let checked = operation.check(env.cx.config.value_bytes_max);
        if let Err(error) = checked.and(gathered.then_some(()).ok_or(InvalidOperation::BatchScattered)) {
            let reason = error.to_string();
            let reply = if *maybe_done { Reply::Unknown { reason } } else { Reply::Refused { reason } };
            return env.reply(to, reply);
        }
        let age_ms = u128::from(*age_ms) + env.cx.now.time.since(since).as_millis();
        if age_ms > CLIENT_RETRY_FOR.as_millis() {
            let reason =
                format!("the write was first asked for {age_ms} ms ago; its outcome is no longer known");
            return env.reply(to, Reply::Unknown { reason });
        }
        if env.cx.now.time < env.requests.doubtful_until {
            let reason = "the server was stopped for long: it does not know how old the write is, retry";
            return env.reply(to, Reply::Unknown { reason: reason.to_owned() });
        }
        if self.active && !p.waiting.is_full(env) && !self.is_short(env) {
            self.order(p, env, to, asked.ask, since);
        } else {
            p.waiting.park(env, asked);
        }
    }

    /// W1: gives a write its position in the log.
    pub(super) fn order(
        &mut self,
        p: &mut PartitionState,
        env: &mut Env,
        to: ReplyTo,
        ask: Ask,
        since: Time,
    ) {
        assert!(self.active, "partition {}: ordered by a coordinator that is not active", p.id());
        assert!(self.begin.is_some(), "partition {}: ordered before the log of the epoch was found", p.id());
        let Ask::Write { origin, operation, .. } = ask else { return };
        let (to, origin) = match (to, origin) {
            (ReplyTo::Client { token, session: None }, None) => {
                let origin = env.requests.session_origin();
                (ReplyTo::Client { token, session: Some(origin.number) }, Some(origin))
            }
            other => other,
        };
        let id = LogId { tag: p.epoch(), seq: p.log().last().next() };
        // The body stays in memory for a while: it is allocated once, in its exact size.
        let mut body = Vec::with_capacity(COMMAND_BYTES + operation.bytes());
        Command { origin, stamp: env.stamp(), operation }.write(&mut body);
        let body = Bytes::from(body);
        let bytes = body.len();
        env.trace_ordered(to, p.id(), id, self.needed());
        self.note_tick(to, id.seq);
        p.append(env, Entry { id, body });
        p.await_applied(env, Pending { seq: id.seq, to, since }, bytes);
    }

    /// Ends a batch: does once what its inputs made possible.
    pub(crate) fn settle(&mut self, p: &mut PartitionState, env: &mut Env) {
        self.choose_log(p, env);
        self.try_activate(p, env);
        if self.active && !self.is_short(env) {
            while !p.waiting.is_full(env) {
                let Some(asked) = p.waiting.pop_parked(env) else { break };
                self.admit(p, env, asked);
            }
        }
        self.stream(p, env, Notice::WithEntries);
        self.advance_commit(p, env);
        self.consider_joiners(p, env);
        self.settle_retained(p);
        self.retry_reads(p, env);
        self.go_on_comparing(p, env);
    }

    /// W1: commits what all members that count have on disk. 7.2: commits nothing while a process that does not count,
    /// or not any more, may still have a read lease that this server gave.
    fn advance_commit(&self, p: &mut PartitionState, env: &Env) {
        self.prune_read_leases(p, env);
        if !self.active || self.awaits_read_leases(p, env) {
            return;
        }
        assert!(self.disagreement.is_none(), "partition {}: committed although the copies disagree", p.id());
        let own = self.own_copy(p, env);
        let commit = self.least_acked(env).unwrap_or(own).min(own).min(self.commits_up_to(env, own));
        p.advance_commit_to(commit);
    }

    /// Whether a process that does not count may still have a read lease that this server gave (7.2).
    fn awaits_read_leases(&self, p: &PartitionState, env: &Env) -> bool {
        p.given().read_leases().any(|process| !self.counts_process(*process))
            && !env.cx.planted(PlantedBug::ReadGrantIgnored)
    }

    /// The last entry that counts as stored by this server: what its disk has.
    fn own_copy(&self, p: &PartitionState, env: &Env) -> Seq {
        let log = p.log();
        let own = if env.cx.planted(PlantedBug::OwnCopyBeforeFsync) { log.last() } else { log.durable() };
        let fetched = self.begin.filter(|_| env.cx.planted(PlantedBug::FetchedNotDurable));
        own.max(fetched.map(|begin| begin.seq).unwrap_or_default())
    }

    /// The last entry that all other members that count have acknowledged; `None` without such members.
    fn least_acked(&self, env: &Env) -> Option<Seq> {
        let acked =
            |server: ServerId| self.peers.get(&server).and_then(|peer| peer.acked).unwrap_or_default();
        self.least_acked_by_mistake(env, &acked).unwrap_or_else(|| self.needed().map(acked).min())
    }

    /// Planted bugs: a member that counts is not awaited.
    fn least_acked_by_mistake(&self, env: &Env, acked: &impl Fn(ServerId) -> Seq) -> Option<Option<Seq>> {
        if env.cx.planted(PlantedBug::JoinerNotAwaited) {
            Some(self.in_sync.iter().copied().map(acked).min())
        } else if env.cx.planted(PlantedBug::AckWithoutOneReplica) {
            let mut acks: Vec<Seq> = self.needed().map(acked).collect();
            acks.sort_unstable();
            Some(acks.get(1).or(acks.first()).copied())
        } else {
            None
        }
    }
}
