//! Which servers have a disk that is slow against the others', or full: gray failures, of servers that are alive.
//!
//! A write waits for the slowest disk among its copies, and a server whose disk is below its reserve refuses the writes
//! that it coordinates. Neither is silent, so no failure detector finds them; both are found by comparing what the
//! heartbeats report ("Gray Failure: The Achilles' Heel of Cloud-Scale Systems", Huang and others, 2017: ask those that
//! see the difference).
//!
//! - **Slow**: a sync takes more than [`SLOW_TIMES`] times the median of the other servers, and more than [`SLOW_US`],
//!   in each of [`SLOW_HEARTBEATS`] heartbeats. Where all disks are slow none is: no server could take over.
//! - **Full**: no more is free than the reserve, in each of [`FULL_HEARTBEATS`] heartbeats.
//! - **Well** again: for a while a sync took less than [`WELL_TIMES`] times that median or half of [`SLOW_US`], and
//!   more than the reserve and a quarter of it is free. A server that had to give its copies away needs room for those
//!   that it would get back as well: as much as the others store. The while grows each time ([`RECOVERS`]): what moves
//!   to and fro does not help.
//!
//! What is done about it is decided in `next`: such a server coordinates nothing while others can, and where there
//! are more servers than copies it gives its copies to the others. The state is kept with the cluster's, so that a
//! restart of the ECS moves nothing back.

use std::collections::BTreeMap;
use std::time::Duration;

use common::ids::ServerId;
use common::limits::Timers;
use common::status::{DiskState, Health};
use common::time::Time;
use common::view::View;

use super::backoff::{Backoff, Growth};
use super::state::Registered;

/// A disk is slow from this many times the others' median sync time on.
const SLOW_TIMES: u64 = 5;

/// A slow disk is well again below this many times the others' median sync time.
const WELL_TIMES: u64 = 2;

/// A disk is slow only from this sync time on, in microseconds. A shorter one is not noticed, whatever the others take.
const SLOW_US: u64 = 20_000;

/// Heartbeats, one after the other, that make a disk slow.
const SLOW_HEARTBEATS: u32 = 20;

/// Heartbeats, one after the other, that make a disk full: it refuses writes by then.
const FULL_HEARTBEATS: u32 = 3;

/// How long a server's reported sync time is used for comparison.
const FRESH: Duration = Duration::from_secs(3);

/// For how long a disk must seem well before it counts as well.
const RECOVERS: Growth = Growth {
    free: 0,
    first: Duration::from_secs(10),
    most: Duration::from_secs(300),
    memory: Duration::from_secs(600),
};

/// What a heartbeat reports of a disk.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    pub(super) health: Health,
    pub(super) free_bytes: u64,
    /// Stored by the server.
    pub(super) bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Disk {
    reading: Option<(Time, Reading)>,
    /// Its state, as decisions use it, and since when.
    state: DiskState,
    changed: Time,
    /// The state that the latest reports suggest, and since when without a break.
    seems: DiskState,
    since: Time,
    backoff: Backoff,
}

impl Disk {
    fn new(state: DiskState, now: Time) -> Self {
        Self { reading: None, state, changed: now, seems: state, since: now, backoff: Backoff::default() }
    }

    /// How long reports must suggest a state before it becomes the disk's state.
    fn patience(&self, timers: &Timers) -> Duration {
        match self.seems {
            DiskState::Full => timers.heartbeat * (FULL_HEARTBEATS - 1),
            DiskState::Slow => timers.heartbeat * (SLOW_HEARTBEATS - 1),
            // The failure was before the start of the ECS and was not counted.
            DiskState::Well => self.backoff.pause(&RECOVERS).max(RECOVERS.first),
        }
    }
}

/// The disks of all servers.
#[derive(Debug, Default)]
pub(super) struct Disks(BTreeMap<ServerId, Disk>);

impl Disks {
    /// The disks with the states that they had when the ECS stopped.
    pub(super) fn new(registry: &BTreeMap<ServerId, Registered>, now: Time) -> Self {
        let unwell = registry.iter().filter(|(_, known)| known.disk != DiskState::Well);
        Self(unwell.map(|(&server, known)| (server, Disk::new(known.disk, now))).collect())
    }

    /// The state of a server's disk.
    pub(super) fn state(&self, server: ServerId) -> DiskState {
        self.0.get(&server).map_or(DiskState::Well, |disk| disk.state)
    }

    /// Since when a server's disk has its state.
    pub(super) fn since(&self, server: ServerId) -> Option<Time> {
        self.0.get(&server).map(|disk| disk.changed)
    }

    /// The server's last report of its disk.
    pub(super) fn reading(&self, server: ServerId) -> Reading {
        self.0.get(&server).and_then(|disk| disk.reading).map(|(_, reading)| reading).unwrap_or_default()
    }

    /// A heartbeat tells of a disk. `gave_up`: the server has given its copies away. Whether the state is another one.
    pub(super) fn on_reading(
        &mut self,
        server: ServerId,
        reading: Reading,
        gave_up: bool,
        timers: &Timers,
        now: Time,
    ) -> bool {
        let before = self.state(server);
        let seems = if self.is_full(server, &reading, before, gave_up, now) {
            DiskState::Full
        } else {
            match self.is_slow(server, &reading, before, now) {
                Some(true) => DiskState::Slow,
                Some(false) => DiskState::Well,
                None if before == DiskState::Full => DiskState::Well,
                None => before,
            }
        };
        let disk = self.0.entry(server).or_insert_with(|| Disk::new(DiskState::Well, now));
        let broken = disk.reading.is_none_or(|(last, _)| now.since(last) >= FRESH);
        disk.reading = Some((now, reading));
        if disk.seems != seems || broken {
            (disk.seems, disk.since) = (seems, now);
        }
        assert!(disk.since <= now);
        assert!(disk.changed <= now);
        if disk.state == seems || now.since(disk.since) < disk.patience(timers) {
            return false;
        }
        assert_ne!(disk.state, seems, "a change of the state is a change");
        (disk.state, disk.changed) = (seems, now);
        if before == DiskState::Well {
            disk.backoff.on_failure(&RECOVERS, now);
        }
        true
    }

    /// Forgets servers that have left.
    pub(super) fn retain(&mut self, view: &View) {
        self.0.retain(|server, _| view.servers.contains_key(server));
    }

    fn is_full(
        &self,
        server: ServerId,
        reading: &Reading,
        before: DiskState,
        gave_up: bool,
        now: Time,
    ) -> bool {
        if before != DiskState::Full || reading.health.disk_full {
            return reading.health.disk_full;
        }
        let Some(reserve) = reading.health.reserve_bytes else { return false };
        // What it would store in addition once it has its share again.
        let share =
            if gave_up { self.median_of_others(server, now, |other| Some(other.bytes)) } else { None };
        let returns = share.unwrap_or(0).saturating_sub(reading.bytes);
        reading.free_bytes <= reserve.saturating_add(reserve / 4).saturating_add(returns)
    }

    /// Whether the disk is slow; `None`: there is nothing to compare.
    fn is_slow(&self, server: ServerId, reading: &Reading, before: DiskState, now: Time) -> Option<bool> {
        let own = reading.health.sync_us?;
        let (times, least) = match before {
            DiskState::Slow => (WELL_TIMES, SLOW_US / 2),
            DiskState::Well | DiskState::Full => (SLOW_TIMES, SLOW_US),
        };
        if own <= least {
            // The common case needs no median.
            return Some(false);
        }
        let others = self.median_of_others(server, now, |other| other.health.sync_us)?;
        Some(own > others.saturating_mul(times))
    }

    /// The lower median: with as many slow as fast ones the fast ones are what is compared with.
    fn median_of_others(
        &self,
        server: ServerId,
        now: Time,
        figure: impl Fn(&Reading) -> Option<u64>,
    ) -> Option<u64> {
        let others = self.0.iter().filter(|(other, _)| **other != server);
        let fresh = others.filter_map(|(_, disk)| disk.reading).filter(|(at, _)| now.since(*at) < FRESH);
        let mut figures: Vec<u64> = fresh.filter_map(|(_, reading)| figure(&reading)).collect();
        figures.sort_unstable();
        assert!(figures.len() <= self.0.len(), "each server has one figure");
        figures.get(figures.len().checked_sub(1)? / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMERS: Timers = Timers::ADAPTIVE;
    const MB: u64 = 1 << 20;

    struct World {
        disks: Disks,
        now: Time,
        readings: Vec<Reading>,
        gave_up: bool,
    }

    impl World {
        fn new(servers: usize) -> Self {
            let health = Health { sync_us: Some(3_000), reserve_bytes: Some(512 * MB), ..Health::default() };
            let reading = Reading { health, free_bytes: 9_000 * MB, bytes: 100 * MB };
            let now = Time(1_000_000);
            Self { disks: Disks::default(), now, readings: vec![reading; servers], gave_up: false }
        }

        fn sync_ms(&mut self, server: usize, time: u64) {
            self.readings[server].health.sync_us = Some(time * 1000);
        }

        fn beats(&mut self) -> Option<u32> {
            self.beats_up_to(2000)
        }

        /// Heartbeats of all, until the first server's state is another one: how many.
        fn beats_up_to(&mut self, most: u32) -> Option<u32> {
            for beat in 1..=most {
                self.now = self.now + TIMERS.heartbeat;
                let mut changed = false;
                for (server, mut reading) in (0..).zip(self.readings.clone()) {
                    let reserve = reading.health.reserve_bytes.unwrap_or(0);
                    reading.health.disk_full = reading.free_bytes <= reserve;
                    let gave_up = self.gave_up && server == 0;
                    let is_other =
                        self.disks.on_reading(ServerId(server), reading, gave_up, &TIMERS, self.now);
                    changed |= is_other && server == 0;
                }
                if changed {
                    return Some(beat);
                }
            }
            None
        }

        fn state(&self) -> DiskState {
            self.disks.state(ServerId(0))
        }
    }

    #[test]
    fn a_disk_is_slow_against_the_others_for_a_while_and_well_for_longer() {
        let mut world = World::new(5);
        assert_eq!(world.beats(), None);
        world.sync_ms(0, 300);
        assert_eq!((world.beats(), world.state()), (Some(20), DiskState::Slow));
        // Better, and not well.
        world.sync_ms(0, 11);
        assert_eq!(world.beats_up_to(300), None);
        world.sync_ms(0, 5);
        assert_eq!((world.beats(), world.state()), (Some(101), DiskState::Well));
        // Slow again soon: it must be well for longer.
        world.sync_ms(0, 300);
        assert_eq!(world.beats(), Some(20));
        world.sync_ms(0, 5);
        assert_eq!((world.beats(), world.state()), (Some(201), DiskState::Well));
    }

    #[test]
    fn a_stall_is_no_slow_disk() {
        let mut world = World::new(3);
        for _ in 0..30 {
            world.sync_ms(0, 300);
            (0..19).for_each(|_| {
                world.now = world.now + TIMERS.heartbeat;
                let reading = world.readings[0];
                assert!(!world.disks.on_reading(ServerId(0), reading, false, &TIMERS, world.now));
                let reading = world.readings[1];
                world.disks.on_reading(ServerId(1), reading, false, &TIMERS, world.now);
            });
            world.now = world.now + TIMERS.heartbeat;
            world.sync_ms(0, 3);
            let reading = world.readings[0];
            assert!(!world.disks.on_reading(ServerId(0), reading, false, &TIMERS, world.now));
        }
        assert_eq!(world.state(), DiskState::Well);
    }

    #[test]
    fn where_all_are_slow_or_nobody_is_there_to_compare_none_is() {
        let mut world = World::new(3);
        (0..3).for_each(|server| world.sync_ms(server, 200 + 50 * server as u64));
        assert_eq!(world.beats(), None);
        let mut world = World::new(1);
        world.sync_ms(0, 900);
        assert_eq!(world.beats(), None);
        // 0.2 ms against 15 ms: no client notices.
        let mut world = World::new(3);
        world.sync_ms(0, 15);
        world.readings[1].health.sync_us = Some(200);
        assert_eq!(world.beats(), None);
    }

    #[test]
    fn two_of_three_may_be_slow() {
        let mut world = World::new(3);
        world.beats_up_to(1);
        world.sync_ms(0, 300);
        world.sync_ms(1, 300);
        assert_eq!((world.beats(), world.state()), (Some(20), DiskState::Slow));
        assert_eq!(world.disks.state(ServerId(1)), DiskState::Slow);
        assert_eq!(world.disks.state(ServerId(2)), DiskState::Well);
    }

    #[test]
    fn a_full_disk_needs_room_beyond_its_reserve() {
        let mut world = World::new(3);
        world.readings[0].free_bytes = 512 * MB;
        assert_eq!((world.beats(), world.state()), (Some(3), DiskState::Full));
        world.readings[0].free_bytes = 600 * MB;
        assert_eq!(world.beats(), None);
        world.readings[0].free_bytes = 700 * MB;
        assert_eq!((world.beats(), world.state()), (Some(101), DiskState::Well));
    }

    #[test]
    fn a_full_disk_that_gave_its_copies_away_needs_room_for_them() {
        let mut world = World::new(5);
        (world.readings[0].free_bytes, world.gave_up) = (500 * MB, true);
        (1..5).for_each(|other| world.readings[other].bytes = 4_000 * MB);
        assert_eq!((world.beats(), world.state()), (Some(3), DiskState::Full));
        // What it stored is gone; with its share it would be as full as before.
        (world.readings[0].free_bytes, world.readings[0].bytes) = (4_200 * MB, 60 * MB);
        assert_eq!(world.beats(), None);
        world.readings[0].free_bytes = 5_000 * MB;
        assert_eq!((world.beats(), world.state()), (Some(101), DiskState::Well));
    }

    #[test]
    fn what_is_not_known_changes_nothing() {
        let mut world = World::new(3);
        world.beats_up_to(1);
        world.sync_ms(0, 300);
        assert_eq!(world.beats(), Some(20));
        world.readings[0].health = Health::default();
        assert_eq!(
            (world.beats(), world.state()),
            (None, DiskState::Slow),
            "a new process has synced nothing"
        );
    }
}
