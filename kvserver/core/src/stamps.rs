//! The clock that entries are stamped with, and by which values expire: a wall clock that no single server can move.
//!
//! # Why
//!
//! The log time of a partition is made of stamps, and what has expired in it is gone at every copy for good. A
//! machine's wall clock is no good source of stamps: it is set by hand, by a host, by a battery that is empty, by a
//! time server that is wrong, and it is set back later. One stamp a year ahead would end every value that expires.
//!
//! # How
//!
//! A server counts time by `CLOCK_BOOTTIME`, which cannot be set, and keeps one number: how far the wall clock is from
//! it. Servers send each other their wall clocks (`Clock`, at most once in [`CLOCK_EVERY`]), so each knows this number
//! for all of them; the number that is used is the lower median, the same at all servers but for the time that messages
//! take.
//!
//! - Small differences (up to [`CLOCKS_AGREE`]) are made up for slowly, a sixteenth of the time that passes: the clock
//!   that stamps never goes back and never jumps.
//! - A wall clock that jumps, here or elsewhere, has no effect while the median stays: it is only reported.
//! - If more than half of the wall clocks agree for [`CLOCK_STEP_AFTER`], they are believed, however far they are off.
//!   A server that hears of no other one believes its own clock after [`CLOCK_STEP_ALONE`]. A jump that is set right
//!   before that has no effect at all.
//! - Where half of them say something else (two servers that differ), neither is believed: time goes on by
//!   `CLOCK_BOOTTIME`.
//!
//! # The beginning
//!
//! A new process has no past: until it is *settled*, it adopts what it hears at once. It is settled when a peer agrees,
//! when it is the only server of the cluster, or after [`CLOCK_SETTLES`]. Peers that have been in agreement with others
//! also send the clock that they stamp with; a new process counts it in place of their wall clocks, and prefers it
//! where two differ.
//!
//! # What it lacks
//!
//! Where most wall clocks are wrong for longer than a minute, stamps are wrong, until these clocks are set right and a
//! minute has passed. Log time then falls back (`state::LogTime`). Two servers of which one is started with a wrong
//! clock cannot know which is right, unless the other one has been in agreement with a third before.

use std::collections::{BTreeMap, VecDeque};

use common::ids::ServerId;
use common::time::{Now, Time, WallTime};

use super::limits::{
    CLOCK_EVERY, CLOCK_HEARD_FOR, CLOCK_SAMPLES, CLOCK_SETTLES, CLOCK_SLEW_PART, CLOCK_STEP_AFTER,
    CLOCK_STEP_ALONE, CLOCKS_AGREE,
};

/// How far a clock is from this machine's `CLOCK_BOOTTIME`, in microseconds.
type Offset = i64;

/// The clocks of a peer.
#[derive(Debug)]
struct Heard {
    /// Offsets of its wall clock, by its last messages. A message that was long on its way makes a clock look slow, so
    /// the largest is nearest to the truth.
    walls: VecDeque<Offset>,
    /// The offset of the clock that it stamps with, if it knows that to be good.
    stamps: Option<Offset>,
    at: Time,
}

impl Heard {
    fn wall(&self) -> Offset {
        self.walls.iter().copied().max().unwrap_or_default()
    }
}

/// A notice for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// This server's wall clock differs from the clock that stamps.
    Off(String),
    /// This server's wall clock agrees with it again.
    Right(String),
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct StampClock {
    offset: Offset,
    /// The offset of this server's wall clock when this process began.
    first: Offset,
    /// The offset of this server's wall clock when it was last looked at.
    own: Offset,
    began: Time,
    looked: Time,
    settled: bool,
    /// Another server has agreed since this process began.
    agreed: bool,
    heard: BTreeMap<ServerId, Heard>,
    sent: BTreeMap<ServerId, Time>,
    /// The offset that most clocks agree on, and since when, if it is far from `offset`.
    step: Option<(Offset, Time)>,
    /// It was reported that this server's wall clock is off.
    is_off: bool,
}

fn offset(wall: WallTime, time: Time) -> Offset {
    let wall = i64::try_from(wall.0.saturating_mul(1000)).unwrap_or(i64::MAX / 2).min(i64::MAX / 2);
    wall.saturating_sub(i64::try_from(time.0).unwrap_or(i64::MAX / 2))
}

fn agree(one: Offset, two: Offset) -> bool {
    u128::from(one.abs_diff(two)) <= CLOCKS_AGREE.as_micros()
}

/// The lower median, and whether more than half agree with it.
fn middle(mut voices: Vec<Offset>) -> (Offset, bool) {
    assert!(!voices.is_empty(), "this server's own clock is one of them");
    voices.sort_unstable();
    let middle = voices[(voices.len() - 1) / 2];
    let with_it = voices.iter().filter(|voice| agree(**voice, middle)).count();
    (middle, 2 * with_it > voices.len())
}

impl StampClock {
    pub(crate) fn new(now: Now) -> Self {
        let own = offset(now.wall, now.time);
        Self {
            offset: own,
            first: own,
            own,
            began: now.time,
            looked: now.time,
            settled: false,
            agreed: false,
            heard: BTreeMap::new(),
            sent: BTreeMap::new(),
            step: None,
            is_off: false,
        }
    }

    /// The time by which values expire.
    pub(crate) fn at(&self, time: Time) -> WallTime {
        let micros = i64::try_from(time.0).unwrap_or(i64::MAX / 2).saturating_add(self.offset);
        WallTime(u64::try_from(micros).unwrap_or(0) / 1000)
    }

    /// Microseconds from `CLOCK_BOOTTIME` to the time by which values expire.
    pub(crate) fn offset(&self) -> i64 {
        self.offset
    }

    /// Microseconds that this server's wall clock is ahead of the time by which values expire.
    pub(crate) fn wall_ahead(&self) -> i64 {
        self.own.saturating_sub(self.offset)
    }

    /// The clocks to send a peer, if it is time: the wall clock, and the clock that stamps if it is known to be good.
    pub(crate) fn next_to_send(&mut self, to: ServerId, now: Now) -> Option<(WallTime, Option<WallTime>)> {
        if self.sent.get(&to).is_some_and(|at| now.time.since(*at) < CLOCK_EVERY) {
            return None;
        }
        self.sent.insert(to, now.time);
        Some((now.wall, (self.settled && self.agreed).then(|| self.at(now.time))))
    }

    /// Takes a peer's clocks.
    pub(crate) fn on_heard(&mut self, from: ServerId, wall: WallTime, stamps: Option<WallTime>, time: Time) {
        let new = || Heard { walls: VecDeque::new(), stamps: None, at: time };
        let heard = self.heard.entry(from).or_insert_with(new);
        if heard.walls.len() == CLOCK_SAMPLES {
            heard.walls.pop_front();
        }
        heard.walls.push_back(offset(wall, time));
        assert!(heard.walls.len() <= CLOCK_SAMPLES, "samples are bounded");
        heard.stamps = stamps.map(|stamps| offset(stamps, time));
        heard.at = time;
        if !self.settled {
            // At once, before anything more is stamped.
            self.settle(time, false);
        }
    }

    /// A server has a new process, which knows no clocks yet: the next message to it is due at once.
    pub(crate) fn on_restarted(&mut self, server: ServerId) {
        self.sent.remove(&server);
    }

    /// Time has passed. `is_alone`: the cluster has no other server.
    pub(crate) fn look(&mut self, now: Now, is_alone: bool) -> Option<Notice> {
        self.own = offset(now.wall, now.time);
        self.heard.retain(|_, heard| now.time.since(heard.at) < CLOCK_HEARD_FOR);
        self.sent.retain(|_, at| now.time.since(*at) < CLOCK_HEARD_FOR);
        let passed = now.time.since(std::mem::replace(&mut self.looked, now.time));
        if !self.settled {
            self.settle(now.time, is_alone);
            return self.notice();
        }
        let (middle, most) = middle(self.walls());
        if agree(middle, self.offset) {
            self.step = None;
            self.agreed |= most && !self.heard.is_empty();
            let most = i64::try_from(passed.as_micros()).unwrap_or(i64::MAX) / CLOCK_SLEW_PART;
            self.offset += (middle - self.offset).clamp(-most, most);
        } else if most {
            let patience = if self.heard.is_empty() { CLOCK_STEP_ALONE } else { CLOCK_STEP_AFTER };
            let (to, since) = *self.step.get_or_insert((middle, now.time));
            if !agree(to, middle) {
                self.step = Some((middle, now.time));
            } else if now.time.since(since) >= patience {
                return Some(self.step_to(middle));
            }
        } else {
            self.step = None;
        }
        self.notice()
    }

    /// The wall clock here and those of the peers.
    fn walls(&self) -> Vec<Offset> {
        self.heard.values().map(Heard::wall).chain([self.own]).collect()
    }

    /// Until the clock is settled, adopts what is heard at once.
    fn settle(&mut self, time: Time, is_alone: bool) {
        let known: Vec<Offset> = self.heard.values().filter_map(|heard| heard.stamps).collect();
        let others = self.heard.values().map(|heard| heard.stamps.unwrap_or_else(|| heard.wall()));
        // The clock with which this process began counts, so that a jump of the wall clock meanwhile has no effect.
        let (middle, most) = middle(others.chain([self.first]).collect());
        self.offset = match known[..] {
            // Of two clocks, the one that has been in agreement with a third counts.
            [known] if self.heard.len() == 1 => known,
            _ => middle,
        };
        self.agreed = (most && !self.heard.is_empty()) || !known.is_empty();
        self.settled = self.agreed || is_alone || time.since(self.began) >= CLOCK_SETTLES;
    }

    /// Asserts what must be true after every step.
    pub(crate) fn invariants(&self, me: ServerId) {
        assert!(self.settled || !self.agreed, "another server has agreed, and the clock is not settled");
        assert!(self.settled || self.step.is_none(), "a clock that is not settled is to be set");
        assert!(self.settled || !self.is_off, "a clock that is not settled is off");
        assert!(!self.heard.contains_key(&me) && !self.sent.contains_key(&me), "a server is its own peer");
        let sampled = |heard: &Heard| (1..=CLOCK_SAMPLES).contains(&heard.walls.len());
        assert!(self.heard.values().all(sampled), "a clock is known by its last messages");
    }

    fn step_to(&mut self, to: Offset) -> Notice {
        assert!(self.settled, "a clock that is not settled adopts what it hears");
        let by = seconds(to.saturating_sub(self.offset));
        (self.offset, self.step, self.is_off) = (to, None, false);
        Notice::Off(format!(
            "the clock that values expire by is set by {by} s, as the wall clocks of most servers have said for a \
             while; if they are wrong, set them right (see \"Clocks\" in the operations guide)"
        ))
    }

    /// Reports once that this server's wall clock is off, and once that it is right again.
    fn notice(&mut self) -> Option<Notice> {
        let off = self.settled && !agree(self.own, self.offset);
        if off == std::mem::replace(&mut self.is_off, off) {
            return None;
        }
        Some(match off {
            true => Notice::Off(format!(
                "the wall clock of this server is {} s off: it has jumped, or is not as those of its peers. Values go \
                 on expiring by the clock of before, or by theirs; set this one right (see \"Clocks\" in the \
                 operations guide)",
                seconds(self.wall_ahead())
            )),
            false => Notice::Right("the wall clock of this server is right again".to_owned()),
        })
    }
}

fn seconds(micros: i64) -> String {
    let sign = if micros < 0 { '-' } else { '+' };
    let tenths = (micros.unsigned_abs() + 50_000) / 100_000;
    format!("{sign}{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const BEGIN_MS: u64 = 1_700_000_000_000;
    const YEAR_MS: i64 = 365 * 86_400_000;
    const LOOK: Duration = Duration::from_millis(10);

    /// A machine of a cluster whose clocks are all right but for these differences, in milliseconds.
    struct Machine {
        clock: StampClock,
        time: Time,
        wall_off_ms: i64,
        peers_off_ms: Vec<i64>,
        alone: bool,
        notices: Vec<Notice>,
    }

    fn right(time: Time) -> u64 {
        BEGIN_MS + time.0 / 1000
    }

    impl Machine {
        fn new(wall_off_ms: i64, peers_off_ms: &[i64]) -> Self {
            let time = Time(5_000_000);
            let wall = WallTime(right(time).saturating_add_signed(wall_off_ms));
            let clock = StampClock::new(Now { time, wall });
            let (peers_off_ms, alone) = (peers_off_ms.to_vec(), peers_off_ms.is_empty());
            Self { clock, time, wall_off_ms, peers_off_ms, alone, notices: Vec::new() }
        }

        fn now(&self) -> Now {
            Now { time: self.time, wall: WallTime(right(self.time).saturating_add_signed(self.wall_off_ms)) }
        }

        fn run(&mut self, lasts: Duration) {
            let end = self.time + lasts;
            let mut next_sent = self.time;
            while self.time < end {
                if self.time >= next_sent {
                    next_sent = self.time + CLOCK_EVERY;
                    for (index, off) in self.peers_off_ms.iter().enumerate() {
                        let wall = WallTime(right(self.time).saturating_add_signed(*off));
                        self.clock.on_heard(ServerId(index as u128), wall, None, self.time);
                    }
                }
                let before = self.clock.at(self.time);
                self.time = self.time + LOOK;
                let notice = self.clock.look(self.now(), self.alone);
                self.notices.extend(notice);
                let stepped = self.clock.at(self.time).0.abs_diff(before.0) > 100;
                assert!(stepped || self.clock.at(self.time) >= before, "it went back");
            }
        }

        /// Milliseconds that stamps are ahead of what is right.
        fn ahead(&self) -> i64 {
            i64::try_from(self.clock.at(self.time).0).unwrap() - i64::try_from(right(self.time)).unwrap()
        }
    }

    #[test]
    fn small_differences_are_taken_up_slowly_and_the_middle_is_used() {
        let mut machine = Machine::new(0, &[10, -20]);
        machine.run(Duration::from_secs(2));
        assert_eq!((machine.ahead(), machine.clock.agreed), (0, true));
        machine.peers_off_ms = vec![500, 600];
        machine.run(Duration::from_secs(4));
        assert!((200..300).contains(&machine.ahead()), "{}", machine.ahead());
        machine.run(Duration::from_secs(8));
        assert_eq!((machine.ahead(), machine.notices.len()), (500, 0));
    }

    #[test]
    fn a_clock_that_jumps_here_moves_nothing_and_is_reported_once() {
        for off in [YEAR_MS, -YEAR_MS, 7_200_000, 1_500] {
            for peers in [&[0, 0][..], &[0], &[]] {
                let mut machine = Machine::new(0, peers);
                machine.run(Duration::from_secs(10));
                machine.wall_off_ms = off;
                machine.run(CLOCK_STEP_AFTER / 2);
                assert_eq!(machine.ahead(), 0, "{off} beside {peers:?}");
                machine.wall_off_ms = 0;
                machine.run(Duration::from_secs(5));
                assert_eq!(machine.ahead(), 0);
                assert!(
                    matches!(&machine.notices[..], [Notice::Off(_), Notice::Right(_)]),
                    "{:?}",
                    machine.notices
                );
            }
        }
    }

    #[test]
    fn a_clock_that_is_wrong_for_good_moves_nothing_while_the_peers_are_right() {
        for peers in [&[0, 0][..], &[0]] {
            let mut machine = Machine::new(0, peers);
            machine.run(Duration::from_secs(10));
            machine.wall_off_ms = YEAR_MS;
            machine.run(CLOCK_STEP_ALONE + CLOCK_STEP_AFTER);
            assert_eq!((machine.ahead(), machine.notices.len()), (0, 1));
        }
    }

    #[test]
    fn a_peer_that_jumps_moves_nothing_here() {
        let mut machine = Machine::new(0, &[0, 0, 0]);
        machine.run(Duration::from_secs(10));
        machine.peers_off_ms[1] = YEAR_MS;
        machine.run(CLOCK_STEP_AFTER * 3);
        machine.peers_off_ms[2] = -YEAR_MS;
        machine.run(CLOCK_STEP_AFTER * 3);
        assert_eq!((machine.ahead(), machine.notices.len()), (0, 0));
    }

    #[test]
    fn most_clocks_are_believed_after_a_while() {
        let mut machine = Machine::new(0, &[0, 0]);
        machine.run(Duration::from_secs(10));
        (machine.wall_off_ms, machine.peers_off_ms) = (60_000, vec![60_000, 60_200]);
        machine.run(CLOCK_STEP_AFTER - Duration::from_secs(5));
        assert_eq!(machine.ahead(), 0);
        machine.run(Duration::from_secs(10));
        assert_eq!(machine.ahead(), 60_000);
    }

    #[test]
    fn a_server_that_is_alone_believes_its_clock_later_still() {
        let mut machine = Machine::new(0, &[]);
        machine.run(Duration::from_secs(10));
        machine.wall_off_ms = 60_000;
        machine.run(CLOCK_STEP_ALONE - Duration::from_secs(1));
        assert_eq!(machine.ahead(), 0);
        machine.run(Duration::from_secs(2));
        assert_eq!(machine.ahead(), 60_000);
    }

    #[test]
    fn a_process_that_begins_with_a_wrong_clock_takes_that_of_its_peers_at_once() {
        for off in [YEAR_MS, -YEAR_MS] {
            let mut machine = Machine::new(off, &[0, 0]);
            machine.run(CLOCK_EVERY);
            assert_eq!(machine.ahead(), 0);
        }
        // Of two, the one that has been in agreement with a third; else the earlier one.
        for (off, known, ahead) in [(-YEAR_MS, true, 0), (YEAR_MS, true, 0), (-YEAR_MS, false, -YEAR_MS)] {
            let mut machine = Machine::new(off, &[0]);
            let wall = WallTime(right(machine.time));
            machine.clock.on_heard(ServerId(0), wall, known.then_some(wall), machine.time);
            assert_eq!(machine.ahead(), ahead, "{off} {known}");
        }
    }

    #[test]
    fn a_message_that_was_long_on_its_way_counts_less_than_a_fast_one() {
        let mut machine = Machine::new(0, &[0, 0]);
        machine.run(Duration::from_secs(10));
        let late = WallTime(right(machine.time) - 900);
        for server in [0, 1] {
            machine.clock.on_heard(ServerId(server), late, None, machine.time);
        }
        machine.clock.look(machine.now(), false);
        machine.time = machine.time + Duration::from_secs(1);
        machine.clock.look(machine.now(), false);
        assert_eq!(machine.ahead(), 0);
    }

    #[test]
    fn clocks_that_make_no_sense_are_taken_as_far_off() {
        let mut machine = Machine::new(0, &[0, 0]);
        machine.run(Duration::from_secs(10));
        for wall in [0, u64::MAX] {
            machine.clock.on_heard(ServerId(0), WallTime(wall), Some(WallTime(wall)), machine.time);
            machine.clock.look(machine.now(), false);
            assert_eq!(machine.ahead(), 0);
        }
    }
}
