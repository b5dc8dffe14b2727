//! The loop of the driver, and what it does in each turn. Requests wait for their turn first (`requests`); what the
//! core decides is carried out at the end (`effects`).

use common::clock;
use common::messages::PeerMessage;
use common::time::Time;
use kvserver_core::{Input, ScrubStep, TICK};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::event::Event;
use super::state::{Driver, Parts, hand};
use crate::error::Failure;
use crate::limits::{BATCH_EVENTS_MAX, BATCH_PEER_BYTES_MAX, ROOM_AGAIN, SWEEP_FOR, SWEEP_LOOK};
use crate::workers::digest::DigestJob;
use crate::workers::pieces::{DigestPiece, ScrubPiece};
use crate::workers::scrub::ScrubJob;

impl Driver {
    /// Runs until the server is to stop, or until going on would break a promise: then it returns the reason.
    pub(crate) async fn run(mut self, mut events: UnboundedReceiver<Event>) -> Result<(), Failure> {
        self.carry_out()?;
        let mut more = false;
        loop {
            let wait = self.next_tick.since(clock::time());
            let first = if more || wait.is_zero() {
                // Sockets are read in between, however long a tick takes: pings and promises come by them.
                yield_now().await;
                events.try_recv().ok()
            } else {
                match timeout(wait, events.recv()).await {
                    Ok(None) => return Ok(()),
                    Ok(event) => event,
                    Err(_elapsed) => None,
                }
            };
            self.queue.begin_batch();
            if let Some(first) = first
                && !self.take_batch(first, &mut events)?
            {
                return Ok(());
            }
            more = self.ask_waiting();
            self.tick(events.len())?;
            self.carry_out()?;
            self.parts.traffic.set_unanswered(self.open.len() + self.queue.waiting());
        }
    }

    /// Takes events that have come, as many as a batch may have. Returns `false` if the server is to stop.
    fn take_batch(&mut self, first: Event, events: &mut UnboundedReceiver<Event>) -> Result<bool, Failure> {
        let (mut next, mut taken, mut peer_bytes) = (Some(first), 0, 0);
        while let Some(event) = next {
            if let Event::Peer(.., room) = &event {
                peer_bytes += room.num_permits();
            }
            if !self.take(event)? {
                return Ok(false);
            }
            taken += 1;
            let is_full = taken > BATCH_EVENTS_MAX as u64 || peer_bytes >= BATCH_PEER_BYTES_MAX;
            next = if is_full { None } else { events.try_recv().ok() };
        }
        self.meter.on_batch(taken);
        Ok(true)
    }

    pub(super) fn step(&mut self, input: Input) {
        self.parts.node.step(clock::now(), input);
    }

    /// Takes one event. Returns `false` if the server is to stop.
    fn take(&mut self, event: Event) -> Result<bool, Failure> {
        match event {
            Event::Core(input) => {
                if let Input::Durable { ticket } = input {
                    self.parts.log.on_durable(ticket);
                }
                self.step(input);
            }
            Event::Peer(from, messages, _room) => {
                let now = clock::now();
                for message in messages {
                    match message {
                        PeerMessage::Forward { n, request } => self.on_passed(from, n, request),
                        message => self.parts.node.step(now, Input::Peer { from, message }),
                    }
                }
            }
            Event::Incoming(from, address) => self.parts.peers.on_incoming(from, address),
            Event::IncomingEnded(from) => self.parts.peers.on_incoming_ended(from),
            Event::Asks(outbox, asks) => self.on_asks(&outbox, asks, false),
            Event::Traced(outbox, id, ask, request) => self.on_traced(&outbox, id, ask, request),
            Event::AsksAnywhere(outbox, asks) => self.on_asks(&outbox, asks, true),
            Event::Hello(answer) => {
                let _gone = answer.send(self.parts.node.hello(self.parts.address.clone(), self.parts.weight));
            }
            Event::Status(answer) => {
                let _gone = answer.send(self.status());
            }
            Event::Staged { copy: (partition, staging), index, whole } => {
                let generation = whole.map(|whole| self.parts.machine.keep_whole(partition, whole));
                self.step(Input::Staged { partition, staging, index, generation });
            }
            Event::DigestRead(DigestPiece { bytes, done }) => {
                self.parts.scrub.on_digest_read(clock::time(), bytes, done);
                self.scrub()?;
            }
            Event::Digest(partition, at, answer) => {
                let _gone = answer.send(self.parts.node.digest(partition, at));
            }
            Event::Scrubbed(piece) => self.on_scrubbed(piece)?,
            Event::Failed(Failure::Damaged(reason)) => self.step(Input::Damaged { reason }),
            Event::Failed(failure) => return Err(failure),
            Event::Stop => return Ok(false),
        }
        Ok(true)
    }

    /// Has stored data read through, as far as the rate allows.
    fn scrub(&mut self) -> Result<(), Failure> {
        loop {
            let Parts { machine, scrub, scrubber, digester, .. } = &mut self.parts;
            match scrub.next(clock::time(), || machine.partitions()) {
                None => return Ok(()),
                Some(ScrubStep::Open(partition)) => match machine.open_for_scrub(partition) {
                    Ok(stored) => hand(scrubber, ScrubJob::Open(stored))?,
                    Err(Failure::Damaged(reason)) => {
                        scrub.on_damaged();
                        self.step(Input::Damaged { reason });
                    }
                    Err(failure) => return Err(failure),
                },
                Some(ScrubStep::Read) => hand(scrubber, ScrubJob::Read)?,
                Some(ScrubStep::ReadDigest) => hand(digester, DigestJob::Read)?,
            }
        }
    }

    fn on_scrubbed(&mut self, piece: ScrubPiece) -> Result<(), Failure> {
        let ScrubPiece { partition, bytes, expired, is_good, done } = piece;
        for key in expired {
            if self.parts.machine.remove_expired(partition, &key)? {
                self.parts.scrub.on_removed(1);
            }
        }
        if is_good {
            self.parts.scrub.on_read(clock::time(), bytes, done);
        } else {
            self.parts.scrub.on_damaged();
        }
        if is_good && done {
            self.step(Input::Compare { partition });
        }
        self.scrub()
    }

    /// Removes expired records, for a moment in each tick. Now and then it looks for more, and reports to the core the
    /// partitions whose log time is behind: without writes it stands still.
    fn sweep(&mut self, now: Time) -> Result<(), Failure> {
        if now >= self.next_sweep {
            self.next_sweep = now + SWEEP_LOOK;
            match self.parts.machine.look_for_expired(self.parts.agreed.now()) {
                Ok(behind) => {
                    behind.into_iter().for_each(|partition| self.step(Input::Expiring { partition }));
                }
                Err(Failure::Damaged(reason)) => self.step(Input::Damaged { reason }),
                Err(failure) => return Err(failure),
            }
        }
        while clock::time().since(now) < SWEEP_FOR {
            match self.parts.machine.sweep() {
                Ok(Some(removed)) => self.parts.scrub.on_removed(removed),
                Ok(None) => break,
                Err(Failure::Damaged(reason)) => self.step(Input::Damaged { reason }),
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    /// `waiting`: events that were not taken yet.
    fn tick(&mut self, waiting: usize) -> Result<(), Failure> {
        let now = clock::time();
        if now < self.next_tick {
            return Ok(());
        }
        self.next_tick = now + TICK;
        self.step(Input::Tick);
        self.parts.agreed.set(self.parts.node.stamp_offset());
        self.parts.machine.seal_due()?;
        self.parts.machine.make_tree();
        if !self.reported_damage
            && let Some(reason) = self.parts.machine.damage()
        {
            self.reported_damage = true;
            self.step(Input::Damaged { reason });
        }
        self.scrub()?;
        self.sweep(now)?;
        if now >= self.next_room {
            self.next_room = now + ROOM_AGAIN;
            let (free, has_room) = self.parts.machine.room();
            if has_room != self.has_room {
                tracing::warn!(
                    "{free} bytes are free on the disk: writes are {}",
                    if has_room { "taken" } else { "refused" }
                );
            }
            (self.free_bytes, self.has_room) = (free, has_room);
        }
        self.report_figures(now, waiting);
        Ok(())
    }
}
