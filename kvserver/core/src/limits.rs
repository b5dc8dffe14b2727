//! The core's own limits, each with its unit and its reason.

use std::time::Duration;

/// The time between two inputs [`Input::Tick`](crate::Input::Tick).
pub const TICK: Duration = Duration::from_millis(10);

/// Bytes of entries in one append: large enough to fill a disk write, small enough to share a link.
pub(crate) const APPEND_BYTES_MAX: usize = 1 << 20;

/// Bytes of entries sent to a member and not acknowledged, for one partition.
pub(crate) const STREAM_WINDOW_BYTES: usize = 8 << 20;

/// Bytes of applied entries that a copy keeps in memory for members that are behind; older ones are read back.
pub(crate) const TAIL_BYTES_MAX: usize = 1 << 20;

/// The pause between two notices of the commit alone to a member that gets no entries. Its reads ask for the commit
/// anyway, so only how far it has applied depends on them.
pub(crate) const COMMIT_NOTICE: Duration = Duration::from_millis(100);

/// Requests that wait for their coordinator to become active, for one partition.
pub(crate) const PARKED_MAX: usize = 4096;

/// Writes ordered and not yet applied, for one partition: beyond them requests wait.
pub(crate) const PENDING_MAX: usize = 65_536;

/// Bytes of writes ordered and not yet applied, over all partitions: beyond them requests wait.
pub const PENDING_BYTES_MAX: usize = 256 << 20;

/// Bytes of requests that wait for their coordinator, or for those before them to be applied, over all partitions.
pub const PARKED_BYTES_MAX: usize = 128 << 20;

/// A partition may use one in so many bytes of what may wait in all partitions, whatever the others use: a partition
/// that waits for a member delays no other.
pub(crate) const WAITING_SHARES: usize = 256;

/// Requests, and entries of requests, that a server traces at a time; further ones are not logged.
pub(crate) const TRACED_MAX: usize = 4096;

/// How long a traced request is remembered; longer than any may take.
pub(crate) const TRACED_FOR: Duration = Duration::from_secs(120);

/// First time-out before something unanswered is sent again; it doubles up to [`RESEND_MAX`].
pub(crate) const RESEND: Duration = Duration::from_millis(200);

/// Largest time-out before something unanswered is sent again.
pub(crate) const RESEND_MAX: Duration = Duration::from_secs(2);

/// Entries that a joining member may be behind when writes begin to wait for it and it is proposed (J2).
pub(crate) const JOIN_LAG_MAX: u64 = 1000;

/// Entries of a partition from which a joining member that has none of them gets a copy of the records instead of the
/// log: fewer bytes, built beside the core's thread. A copy costs about eight syncs, so for fewer entries the log is
/// faster.
pub const COPY_FROM: u64 = 1000;

/// Report times after which a joining member that answers nothing is reported.
pub(crate) const JOINER_PATIENCE: u32 = 10;

/// The pause between two reports of the same proposal or silence.
pub(crate) const REPORT_AGAIN: Duration = Duration::from_millis(500);

/// Bytes of one piece of the state besides the records: about as large as a chunk of records.
pub(crate) const STATE_PIECE_BYTES: usize = 512 << 10;

/// Unused time of a rate that may be made up for: a few ticks, so that several chunks can be sent within a tick.
pub(crate) const PACE_SLACK: Duration = Duration::from_millis(50);

/// The first reading through after a start begins no later than this: a server that is restarted each day is read too.
pub(crate) const SCRUB_FIRST: Duration = Duration::from_secs(600);

/// Digests of copies that are remembered; the oldest are dropped first.
pub(crate) const DIGESTS_KEPT: usize = 4096;

/// The pause between two questions for a digest, which is made within the rate of the scrub.
pub(crate) const COMPARE_AGAIN: Duration = Duration::from_secs(1);

/// In-sync copies of a partition that are compared, at most: a mark names them. A view lists one more than there are
/// copies.
pub(crate) const COMPARED_MAX: usize = 16;

/// Differences between copies that are kept for the status.
pub(crate) const DIFFERENCES_KEPT: usize = 32;

/// Damaged places that are remembered as reported while the server goes on with them; beyond so many they are reported
/// again.
pub(crate) const DAMAGE_REPORTED_MAX: usize = 1024;

/// Chunks of a copy that are sent and not acknowledged.
pub(crate) const SNAPSHOT_WINDOW: u64 = 4;

/// Read leases run for this part of the coordinators' own leases, and bind for this part of their promises: short, so
/// that a dead replica that had one delays no writes after its removal.
pub(crate) const READ_LEASE_PART: u32 = 2;

/// A replica asks for a read lease as long as its last read of the partition is not older than this.
pub(crate) const READ_LEASE_WANTED_FOR: Duration = Duration::from_secs(2);

/// Questions for read leases that are remembered; an answer to an older one comes too late to be of use.
pub(crate) const READ_LEASE_QUESTIONS: usize = 64;

/// Keys in the index of pending entries that are pending no longer, before they are removed from it.
pub(crate) const PENDING_KEYS_SLACK: usize = 256;

/// The time before a ping that reads wait for (`--reads barrier`) is sent again.
pub(crate) const CONFIRM_AGAIN: Duration = Duration::from_millis(50);

/// Copies that one server sends at the same time; others wait.
pub(crate) const SNAPSHOTS_SENT_MAX: usize = 4;

/// The silence of a coordinator after a request was passed on to it, after which another member is asked to pass the
/// request on. Longer than a write takes where disks are slow, and shorter than clients wait.
pub(crate) const RELAY_AFTER: Duration = Duration::from_millis(250);

/// How long requests for such a coordinator then go to other members at once, before it is tried again.
pub(crate) const BYPASSED_FOR: Duration = Duration::from_secs(2);

/// The time between two inputs from which on the process counts as stalled, in a write or without a processor: several
/// ticks are missing.
pub(crate) const STALLED: Duration = Duration::from_millis(50);

/// A process that was stopped this long takes no writes for a while: what waited in its sockets may be older than the
/// memory of its first try's result ([`common::limits::RESULTS_KEPT_FOR`]), though it says another age.
pub(crate) const STOPPED_LONG: Duration = Duration::from_secs(60);

/// How long no writes are taken after such a stop: enough to read all that waits in the sockets.
pub(crate) const DOUBTFUL_FOR: Duration = Duration::from_secs(2);

/// The pause between two tries to pass a request on.
pub(crate) const FORWARD_AGAIN: Duration = Duration::from_millis(100);

/// How long a copy that no view lists is kept: a server that was removed by mistake catches up from it.
pub(crate) const UNLISTED_KEPT: Duration = Duration::from_secs(60);

/// Messages of future epochs that are kept until their view is here: a few for each partition.
pub(crate) const EARLY_MESSAGES_MAX: usize = 4096;

/// Bytes of messages of future epochs that are kept until their view is here.
pub(crate) const EARLY_BYTES_MAX: usize = 8 << 20;

/// The pause between two questions of a process that waits for the ECS (S4) to the same server, whether it knows a
/// newer view.
pub(crate) const SHOW_VIEW_AGAIN: Duration = Duration::from_millis(500);

/// The pause between two requests for a newer view to the same server.
pub(crate) const WANT_VIEW_AGAIN: Duration = Duration::from_millis(50);

/// Bytes of an encoded command besides its keys and values, about: see
/// [`Command`](common::operation::Command).
pub(crate) const COMMAND_BYTES: usize = 72;

/// Requests for changes that wait, in all partitions. Each takes some 200 bytes, and its key or prefix.
pub(crate) const WATCHES_MAX: usize = 65_536;

/// Bytes of changes that a partition keeps in memory for clients that watch; older ones are read from the log.
pub(crate) const WATCHED_PARTITION_BYTES_MAX: usize = 1 << 20;

/// Bytes of changes that all partitions together keep in memory for clients that watch.
pub(crate) const WATCHED_BYTES_MAX: usize = 64 << 20;

/// How long a partition keeps changes after a client has asked for them: longer than a fail-over, or a pause of a
/// client.
pub(crate) const WATCH_KEPT_FOR: Duration = Duration::from_secs(30);

/// Bytes of the log that are read for one answer to a client that watches.
pub(crate) const WATCH_READ_BYTES: usize = 256 << 10;

/// The pause between two looks at whether clients that watch have waited long enough.
pub(crate) const WATCH_LOOK: Duration = Duration::from_millis(50);

/// Entries of a partition's log that are remembered to have changed nothing.
pub(crate) const NO_OPS_KEPT: usize = 1024;

/// The pause between two messages with this server's clocks to the same server.
pub(crate) const CLOCK_EVERY: Duration = Duration::from_secs(1);

/// How long a server's wall clock counts after it was last heard: longer than a fail-over.
pub(crate) const CLOCK_HEARD_FOR: Duration = Duration::from_secs(60);

/// Last messages of a server from which its wall clock is estimated, as some may have been long on their way.
pub(crate) const CLOCK_SAMPLES: usize = 4;

/// The difference up to which wall clocks agree: far more than NTP leaves, less than people notice of an expiry.
pub(crate) const CLOCKS_AGREE: Duration = Duration::from_secs(1);

/// The clock that stamps runs slower or faster by one part in so many while it makes up for a difference.
pub(crate) const CLOCK_SLEW_PART: i64 = 16;

/// The time after which a process that hears no peer believes its own wall clock.
pub(crate) const CLOCK_SETTLES: Duration = Duration::from_secs(5);

/// How long most wall clocks must agree on another time before they are believed: a jump that is set right soon has no
/// effect.
pub(crate) const CLOCK_STEP_AFTER: Duration = Duration::from_secs(60);

/// How long a jump of the only known wall clock must last before it is believed, as no other clock confirms it.
pub(crate) const CLOCK_STEP_ALONE: Duration = Duration::from_secs(600);

/// Milliseconds by which a stamp must be behind log time to take it back: more than the clocks of two successive
/// coordinators ever differ by. For a smaller difference, log time stands still until the stamps have caught up.
pub(crate) const LOG_TIME_FALLS_MS: u64 = 5_000;

/// Falls of log time that a partition remembers, until log time is where it was before. With so many it does not fall.
pub(crate) const FALLS_MAX: usize = 8;

// How these limits depend on each other.
const _: () = {
    const fn at_most(one: Duration, other: Duration) -> bool {
        one.as_nanos() <= other.as_nanos()
    }
    assert!(APPEND_BYTES_MAX <= STREAM_WINDOW_BYTES, "a window has room for an append");
    assert!(
        WATCHED_PARTITION_BYTES_MAX <= WATCHED_BYTES_MAX,
        "changes of one partition fit in what all may have"
    );
    assert!(WATCH_READ_BYTES <= WATCHED_PARTITION_BYTES_MAX, "one answer takes a part of what is kept");
    assert!(JOIN_LAG_MAX <= COPY_FROM, "an empty member gets a copy only where it is far behind");
    assert!(COMPARED_MAX > common::limits::COPIES, "all copies can be compared, and one more");
    assert!(at_most(RESEND, RESEND_MAX), "a time-out grows");
    assert!(at_most(TICK, STALLED), "a process that ticks in time does not count as stalled");
    assert!(at_most(DOUBTFUL_FOR, STOPPED_LONG), "a pause is doubted for less than it lasted");
    assert!(
        at_most(STOPPED_LONG, common::limits::RESULTS_KEPT_FOR),
        "a stop is noticed while results are kept"
    );
    assert!(at_most(FORWARD_AGAIN, RELAY_AFTER), "a coordinator is asked twice before it is bypassed");
    assert!(at_most(RELAY_AFTER, BYPASSED_FOR), "a bypass lasts longer than it took to begin");
    assert!(at_most(CLOCK_EVERY, CLOCK_HEARD_FOR), "a clock is heard again before it is forgotten");
    assert!(at_most(CLOCK_STEP_AFTER, CLOCK_STEP_ALONE), "one clock alone is believed later than several");
    assert!(at_most(CLOCK_HEARD_FOR, CLOCK_STEP_AFTER), "clocks are heard again before they are believed");
};
