//! How long a server may be silent before it counts as gone: a limit that grows with the jitter that was seen.
//!
//! Heartbeats come at a steady pace from a machine that has time for them. A machine that has not, or a network that
//! is full, delivers most of them on time and some a second late. A limit that suits the first removes healthy
//! servers of the second, and each removal makes more work: copies are made again, which delays more heartbeats. A
//! limit that suits the second leaves partitions without a coordinator for seconds where nothing ever stalls.
//!
//! Failure detectors that adapt keep the gaps between heartbeats and put a margin on what they expect next: Chen,
//! Toueg and Aguilera ("On the Quality of Service of Failure Detectors", 2002) a fixed one on the mean; Bertier, Marin
//! and Sens (2002) one of several mean deviations, as Jacobson's retransmission timer has it; Hayashibara and others
//! ("The φ Accrual Failure Detector", 2004) one that makes a mistake as rare as is wanted, if gaps are normally
//! distributed. Gaps of machines with too much to do are not: nearly all are as they should be, and a few are many
//! times longer, which mean and deviation average away. So what is kept here is the largest gap, forgotten slowly, and
//! the limit is a multiple of it.
//!
//! - **Peak.** A gap above the peak becomes the peak. Below it, the peak falls towards the gap, by half in 140 s
//!   ([`PEAK_FALLS_OVER`]). Any report counts as a heartbeat.
//! - **Limit.** [`MARGIN`] times the peak, from [`Timers::dead`] to [`Timers::dead_max`]. Where these are equal, as in
//!   the fixed profiles, nothing adapts. On a quiet machine gaps are little more than a heartbeat time, and the limit
//!   is the least.
//! - **Common jitter.** The second largest peak of all servers counts for each of them: what two have is of the
//!   machine or the network that they share, or of the ECS's own. What one has is its own.
//! - **Beginning.** Until a process was heard for [`KNOWN_AFTER`], little is known of it, and the limit is
//!   [`UNKNOWN_SHARE`] of the greatest at least.
//! - **A crowd.** When half of the servers are silent at once, and two at least, the limit is the greatest: that many
//!   seldom die together, and a pause that they share, or of the ECS itself, ends.
//! - **Pauses of the ECS.** A short one lengthens all gaps, and so the limits: heartbeats will be read late again. One
//!   beyond the greatest limit (a machine that was suspended) says nothing about servers, and no gap is measured across
//!   it.
//!
//! The end of a link is no silence: a process that dies closes its link, and is given up after a few heartbeats
//! whatever the limit is. A gap across the end of a link is not jitter either, and is not kept.
//!
//! What it lacks: it does not learn that a limit was too short but by the gap that ended late. Such a gap raises the
//! limit at once, so the second mistake of a kind is rare; against those that remain a server that comes back pauses
//! for longer each time (`backoff`).

use std::time::Duration;

use common::limits::Timers;

use super::backoff::Growth;
use crate::limits::HEARTBEATS_AFTER_LINK_END;

/// A server may be silent for this many times its largest gap between reports.
const MARGIN: u32 = 4;

/// The time constant of the peak: while no larger gap comes, the distance between the peak and the gaps falls to `1/e`
/// in this time.
const PEAK_FALLS_OVER: Duration = Duration::from_secs(200);

/// A process counts as known once it has been heard for this long.
const KNOWN_AFTER: Duration = Duration::from_secs(5);

/// The least limit of a process that is not known yet, in fifths of the greatest limit.
const UNKNOWN_SHARE: u32 = 3;

/// A server that was removed, and comes back, and is removed again: each removal costs a fail-over, each return copies.
/// One mistake is mended at once.
pub(super) const FLAPPING: Growth = Growth {
    free: 1,
    first: Duration::from_secs(1),
    most: Duration::from_secs(30),
    memory: Duration::from_secs(300),
};

/// The gaps between a process's reports.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gaps {
    peak: Duration,
    /// For how long they were measured.
    known: Duration,
}

impl Gaps {
    /// Records the time between two reports of the process.
    pub(super) fn record(&mut self, gap: Duration, timers: &Timers) {
        self.known = self.known.saturating_add(gap);
        // A longer one would make no other limit, and be forgotten later.
        let counted = gap.min(timers.dead_max / MARGIN);
        if counted >= self.peak {
            self.peak = counted;
            return;
        }
        assert!(counted < self.peak);
        let above = (self.peak - counted).as_micros();
        let falls = above * gap.min(PEAK_FALLS_OVER).as_micros() / PEAK_FALLS_OVER.as_micros();
        self.peak -= Duration::from_micros(u64::try_from(falls).unwrap_or(u64::MAX));
        assert!(self.peak >= counted, "the peak falls towards the gap and not below");
    }
}

/// How patient the ECS is at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    timers: Timers,
    /// The second largest peak.
    common: Duration,
    /// Many are silent at once.
    crowd: bool,
}

/// How one process is heard.
pub(super) struct Rhythm<'a> {
    pub(super) gaps: &'a Gaps,
    /// It has been silent for some heartbeats, though its link has not ended.
    pub(super) is_silent: bool,
}

impl Patience {
    /// The patience at one moment; `servers`: how those are heard that are not down.
    pub(super) fn new<'a>(timers: Timers, servers: impl Iterator<Item = Rhythm<'a>>) -> Self {
        let mut patience = Self { timers, common: Duration::ZERO, crowd: false };
        if timers.dead >= timers.dead_max {
            return patience;
        }
        let (mut largest, mut all, mut silent) = (Duration::ZERO, 0, 0);
        for Rhythm { gaps, is_silent } in servers {
            let peak = gaps.peak;
            patience.common = patience.common.max(peak.min(largest));
            largest = largest.max(peak);
            all += 1;
            silent += usize::from(is_silent);
        }
        assert!(silent <= all);
        assert!(patience.common <= largest, "the second largest is not above the largest");
        patience.crowd = silent >= 2 && 2 * silent >= all;
        patience
    }

    /// The limits of silence that this patience was made of.
    pub(super) fn timers(&self) -> &Timers {
        &self.timers
    }

    /// How long a process with these gaps may be silent now.
    pub(super) fn limit(&self, gaps: &Gaps) -> Duration {
        let Timers { dead, dead_max, .. } = self.timers;
        if self.crowd || dead >= dead_max {
            return dead_max.max(dead);
        }
        let least = if gaps.known < KNOWN_AFTER { (dead_max * UNKNOWN_SHARE / 5).max(dead) } else { dead };
        (gaps.peak.max(self.common) * MARGIN).clamp(least, dead_max)
    }

    /// Silence of such a process that is no proof, but supports what others say: a few heartbeats, or, where the limit
    /// adapts, three times the largest gap, as a stall that its coordinator noticed as well is still a stall.
    pub(super) fn doubt(&self, gaps: &Gaps) -> Duration {
        let few = self.timers.heartbeat * HEARTBEATS_AFTER_LINK_END;
        if self.adapts() { (self.limit(gaps) * 3 / 4).max(few) } else { few }
    }

    /// For how long such a process may be heard and acknowledge nothing. Where machines stall disks do, and a disk that
    /// rests is not dead.
    pub(super) fn stuck(&self, gaps: &Gaps) -> Duration {
        let limit = self.limit(gaps);
        if self.adapts() { (limit * 2).min(self.timers.dead_max) } else { limit }
    }

    fn adapts(&self) -> bool {
        self.timers.dead < self.timers.dead_max
    }
}

#[cfg(test)]
mod tests {
    use std::iter::repeat_n;

    use super::*;
    use crate::peers::{Gone, Peer};
    use common::ids::{Incarnation, Nonce, ServerId, StoreId};
    use common::messages::ProcessId;
    use common::time::Time;

    const TIMERS: Timers = Timers::ADAPTIVE;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// Servers that are heard since they were started, and the clock.
    struct World {
        peers: Vec<Peer>,
        now: Time,
        judged_from: Time,
    }

    impl World {
        fn new(servers: u128) -> Self {
            let now = Time(1_000_000);
            let peer = |id| {
                let (server, store) = (ServerId(id), StoreId(id));
                let sender = ProcessId { server, store, incarnation: Incarnation(1), nonce: Nonce(1) };
                let mut peer = Peer::new(sender, now);
                peer.hear(now, now, &TIMERS);
                peer
            };
            Self { peers: (0..servers).map(peer).collect(), now, judged_from: now }
        }

        /// All reports of the servers named come after each of these gaps.
        fn hear(&mut self, servers: &[usize], gaps: impl IntoIterator<Item = u64>) {
            for gap in gaps {
                self.now = self.now + ms(gap);
                for &server in servers {
                    self.peers[server].hear(self.now, self.judged_from, &TIMERS);
                }
            }
        }

        fn patience(&self) -> Patience {
            Patience::new(TIMERS, self.peers.iter().map(|peer| peer.rhythm(self.now, &TIMERS)))
        }

        fn limit(&self, server: usize) -> u128 {
            self.patience().limit(self.peers[server].gaps()).as_millis()
        }

        fn gone(&self, server: usize) -> Option<Gone> {
            self.peers[server].gone(self.now, &self.patience())
        }
    }

    /// Ten seconds of heartbeats as a quiet machine sends them.
    fn quiet() -> impl Iterator<Item = u64> + Clone {
        [100, 101, 100, 99, 104, 100, 100, 96, 100, 100].into_iter().cycle().take(100)
    }

    /// Gaps as they were seen with twenty programs that compute on two processors: a few long ones among many.
    fn jittery() -> impl Iterator<Item = u64> + Clone {
        [100, 130, 90, 410, 40, 100, 160, 100, 620, 20, 100, 240, 100, 100, 330, 60].into_iter().cycle()
    }

    #[test]
    fn a_quiet_server_is_given_up_at_the_least_limit() {
        let mut world = World::new(3);
        world.hear(&[0, 1, 2], quiet());
        assert_eq!(world.limit(0), 800);
        world.hear(&[1, 2], repeat_n(100, 7));
        assert_eq!(world.gone(0), None);
        world.hear(&[1, 2], [100]);
        assert_eq!(world.gone(0), Some(Gone::Silent));
        assert_eq!(world.gone(1), None);
    }

    #[test]
    fn a_process_that_is_new_is_given_more_time() {
        let mut world = World::new(3);
        world.hear(&[0, 1, 2], repeat_n(100, 10));
        assert_eq!(world.limit(0), 3000, "it was heard for a second");
        world.hear(&[0, 1, 2], repeat_n(100, 40));
        assert_eq!(world.limit(0), 800);
    }

    #[test]
    fn jitter_makes_the_limit_longer_and_is_forgotten_slowly() {
        let mut world = World::new(3);
        world.hear(&[0, 1, 2], quiet());
        world.hear(&[0, 1, 2], jittery().take(160));
        assert!((2400..=2480).contains(&world.limit(0)), "{}", world.limit(0));
        // Minutes later it is still patient, and after ten it is as at first.
        world.hear(&[0, 1, 2], quiet().cycle().take(1_400));
        assert!((1200..=1700).contains(&world.limit(0)), "{}", world.limit(0));
        world.hear(&[0, 1, 2], quiet().cycle().take(6_000));
        assert_eq!(world.limit(0), 800);
    }

    #[test]
    fn what_others_say_of_a_stall_is_believed_later_where_the_limit_adapts() {
        let mut world = World::new(3);
        world.hear(&[0, 1, 2], quiet());
        let (doubt, stuck) =
            (world.patience().doubt(world.peers[0].gaps()), world.patience().stuck(world.peers[0].gaps()));
        assert_eq!((doubt, stuck), (ms(600), ms(1600)));
        world.hear(&[0, 1, 2], jittery().take(160));
        assert!(world.patience().doubt(world.peers[0].gaps()) >= ms(1800));
        assert!((ms(4800)..=ms(5000)).contains(&world.patience().stuck(world.peers[0].gaps())));
    }

    #[test]
    fn nothing_makes_it_longer_than_the_greatest() {
        let mut world = World::new(1);
        world.hear(&[0], [100, 9_000, 100, 30_000]);
        assert_eq!(world.limit(0), 5000);
    }

    #[test]
    fn what_one_server_has_is_its_own_and_what_two_have_is_common() {
        let mut world = World::new(4);
        world.hear(&[0, 1, 2, 3], quiet());
        world.hear(&[1, 2, 3], repeat_n(100, 4));
        world.hear(&[0, 1, 2, 3], [100]);
        assert_eq!((world.limit(0), world.limit(3)), (2000, 800), "one has stalled");
        world.hear(&[0, 2, 3], repeat_n(100, 3));
        world.hear(&[0, 1, 2, 3], [100]);
        assert!(world.limit(3) >= 1500, "{}", world.limit(3));
    }

    #[test]
    fn many_that_are_silent_at_once_are_waited_for() {
        let mut world = World::new(5);
        world.hear(&[0, 1, 2, 3, 4], quiet());
        world.hear(&[3, 4], repeat_n(100, 48));
        assert_eq!(world.limit(0), 5000);
        assert_eq!([0, 1, 2].map(|server| world.gone(server)), [None; 3]);
        world.hear(&[3, 4], repeat_n(100, 2));
        assert_eq!(world.gone(0), Some(Gone::Silent), "not for ever");

        let mut world = World::new(5);
        world.hear(&[0, 1, 2, 3, 4], quiet());
        world.hear(&[2, 3, 4], repeat_n(100, 8));
        assert_eq!(
            [0, 1].map(|server| world.gone(server)),
            [Some(Gone::Silent); 2],
            "two of five are no crowd"
        );
    }

    #[test]
    fn a_death_after_jitter_is_noticed_by_the_link_at_once_and_by_silence_within_the_greatest_limit() {
        let mut world = World::new(3);
        world.hear(&[0, 1, 2], jittery().take(400));
        world.peers[0].on_link_ended(world.now);
        world.hear(&[1, 2], repeat_n(100, 3));
        assert_eq!(world.gone(0), Some(Gone::LinkEnded));

        let mut world = World::new(3);
        world.hear(&[0, 1, 2], jittery().take(400));
        world.hear(&[1, 2], repeat_n(100, 20));
        assert_eq!(world.gone(0), None);
        world.hear(&[1, 2], repeat_n(100, 30));
        assert_eq!(world.gone(0), Some(Gone::Silent));
    }

    #[test]
    fn two_that_die_together_are_given_up_at_once_where_their_links_end() {
        let mut world = World::new(3);
        world.hear(&[0, 1, 2], quiet());
        [0, 1].into_iter().for_each(|server| world.peers[server].on_link_ended(world.now));
        world.hear(&[2], repeat_n(100, 3));
        assert_eq!([0, 1].map(|server| world.gone(server)), [Some(Gone::LinkEnded); 2]);
    }

    #[test]
    fn a_link_that_broke_and_a_pause_of_the_ecs_are_no_jitter() {
        let mut world = World::new(2);
        world.hear(&[0, 1], quiet());
        world.peers[0].on_link_ended(world.now);
        world.hear(&[0, 1], [200]);
        world.now = world.now + ms(60_000);
        world.judged_from = world.now;
        world.hear(&[0, 1], [0]);
        assert_eq!((world.limit(0), world.limit(1)), (800, 800));
    }

    #[test]
    fn a_server_that_flaps_teaches_its_limit_by_the_first_mistake() {
        let mut world = World::new(3);
        world.hear(&[0, 1, 2], quiet());
        let silence = |world: &mut World| {
            world.hear(&[1, 2], repeat_n(100, 8));
            let gone = world.gone(0);
            world.hear(&[0, 1, 2], repeat_n(100, 10));
            gone
        };
        let gone: Vec<_> = (0..4).map(|_| silence(&mut world)).collect();
        assert_eq!(gone, [Some(Gone::Silent), None, None, None]);
    }

    #[test]
    fn a_fixed_profile_does_not_adapt() {
        let mut world = World::new(4);
        world.hear(&[0, 1, 2, 3], [100, 5_000, 100]);
        for timers in [Timers::FAST, Timers::STEADY] {
            let now = world.now + ms(10_000);
            let patience = Patience::new(timers, world.peers.iter().map(|peer| peer.rhythm(now, &timers)));
            assert_eq!(patience.limit(world.peers[0].gaps()), timers.dead);
            assert_eq!(patience.doubt(world.peers[0].gaps()), timers.heartbeat * 3);
            assert_eq!(patience.stuck(world.peers[0].gaps()), timers.dead);
        }
    }
}
