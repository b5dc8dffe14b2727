//! The core's own limits, each with its unit and its reason.

use std::time::Duration;

/// How often the core wants to be told the time.
pub const TICK: Duration = Duration::from_millis(10);

/// Bytes of entries in one append: large enough to fill a disk write, small enough to share a link.
pub(crate) const APPEND_BYTES_MAX: usize = 1 << 20;

/// Bytes of entries sent to a member and not acknowledged, for one partition.
pub(crate) const STREAM_WINDOW_BYTES: usize = 8 << 20;

/// Bytes of applied entries that a copy keeps in memory for members that are behind; older ones are read back.
pub(crate) const TAIL_BYTES_MAX: usize = 1 << 20;

/// Between two notices of the commit alone to a member that gets no entries: its reads ask for the commit anyway, so
/// only how far it has applied depends on it.
pub(crate) const COMMIT_NOTICE: Duration = Duration::from_millis(100);

/// Requests that wait for their coordinator to become active, for one partition.
pub(crate) const PARKED_MAX: usize = 4096;

/// Writes ordered and not yet applied, for one partition: beyond them requests wait.
pub(crate) const PENDING_MAX: usize = 65_536;

/// Bytes of writes ordered and not yet applied, over all partitions: beyond them requests wait.
pub const PENDING_BYTES_MAX: usize = 256 << 20;

/// Bytes of requests that wait for their coordinator, or for those before them to be applied, over all partitions.
pub const PARKED_BYTES_MAX: usize = 128 << 20;

/// Of what may wait in all partitions together, each has this part for itself: one that waits for a member holds no
/// other up.
pub(crate) const WAITING_SHARES: usize = 256;

/// Requests, and entries of requests, that a server follows at a time: what is beyond them is not logged.
pub(crate) const TRACED_MAX: usize = 4096;

/// How long a traced request is followed; longer than any may take.
pub(crate) const TRACED_FOR: Duration = Duration::from_secs(120);

/// First time-out before something unanswered is sent again; it doubles up to [`RESEND_MAX`].
pub(crate) const RESEND: Duration = Duration::from_millis(200);

/// Largest time-out before something unanswered is sent again.
pub(crate) const RESEND_MAX: Duration = Duration::from_secs(2);

/// A joining member this many entries behind is counted in acknowledgements and proposed.
pub(crate) const JOIN_LAG_MAX: u64 = 1000;

/// Entries of a partition from which a joining member that has none of them gets a copy of the records instead of the
/// log: fewer bytes, built beside the core's thread. A copy costs about eight syncs, so for fewer entries the log is faster.
pub const COPY_FROM: u64 = 1000;

/// Report times after which a joining member that answers nothing is reported.
pub(crate) const JOINER_PATIENCE: u32 = 10;

/// Between two reports of the same proposal or silence.
pub(crate) const REPORT_AGAIN: Duration = Duration::from_millis(500);

/// Bytes of one piece of the state besides the records: about as large as a chunk of records.
pub(crate) const STATE_PIECE_BYTES: usize = 512 << 10;

/// What the limit of a rate may be behind by: a tick's worth, so that chunks can follow each other within a tick.
pub(crate) const PACE_SLACK: Duration = Duration::from_millis(50);

/// The first reading through after a start begins no later than this: a server that is restarted each day is read too.
pub(crate) const SCRUB_FIRST: Duration = Duration::from_secs(600);

/// Digests of copies that are remembered; the oldest go first.
pub(crate) const DIGESTS_KEPT: usize = 4096;

/// Between two questions for a digest, which is made within the rate of the scrub.
pub(crate) const COMPARE_AGAIN: Duration = Duration::from_secs(1);

/// In-sync copies of a partition that are compared, at most: a mark names them. A view lists one more than there are copies.
pub(crate) const COMPARED_MAX: usize = 16;

/// Differences between copies that are told in the status.
pub(crate) const DIFFERENCES_KEPT: usize = 32;

/// Places that do not check, of those that were told and that the server goes on with; after so many they are told again.
pub(crate) const DAMAGE_TOLD_MAX: usize = 1024;

/// Chunks of a copy that are sent and not acknowledged.
pub(crate) const SNAPSHOT_WINDOW: u64 = 4;

/// Read leases run for this part of the coordinators' own leases, and bind for this part of their promises: short,
/// so that a dead replica that had one holds no writes up after its removal.
pub(crate) const READ_LEASE_PART: u32 = 2;

/// A replica asks for a read lease as long as its last read of the partition is not older than this.
pub(crate) const READ_LEASE_WANTED_FOR: Duration = Duration::from_secs(2);

/// Questions for read leases that are remembered; an answer to an older one comes too late to be of use.
pub(crate) const READ_LEASE_QUESTIONS: usize = 64;

/// Keys of pending entries that are kept beyond those that are pending, before they are sifted.
pub(crate) const PENDING_KEYS_SLACK: usize = 256;

/// Before a ping that reads wait for (`--reads barrier`) is sent again.
pub(crate) const CONFIRM_AGAIN: Duration = Duration::from_millis(50);

/// Copies that one server sends at the same time; others wait.
pub(crate) const SNAPSHOTS_SENT_MAX: usize = 4;

/// How long a request without a coordinator is passed on before its outcome is given up.
pub(crate) const STRAY_FOR: Duration = Duration::from_secs(10);

/// Between two inputs: several ticks have been left out, so the process stood still, in a write or without a core.
pub(crate) const STALLED: Duration = Duration::from_millis(50);

/// A process that was stopped this long takes no writes for a while: what waited in its sockets may be older than the
/// memory of its first try's result ([`common::limits::RESULTS_KEPT_FOR`]), though it says another age.
pub(crate) const STOPPED_LONG: Duration = Duration::from_secs(60);

/// How long after that: enough to read all that the sockets hold.
pub(crate) const DOUBTFUL_FOR: Duration = Duration::from_secs(2);

/// Between two tries to pass a request on.
pub(crate) const FORWARD_AGAIN: Duration = Duration::from_millis(100);

/// A copy that no view lists is kept this long: a server that was taken out by mistake catches up from it.
pub(crate) const UNLISTED_KEPT: Duration = Duration::from_secs(60);

/// Messages of epochs not heard of yet that are kept until their view is here: a few for each partition.
pub(crate) const EARLY_MESSAGES_MAX: usize = 4096;

/// Bytes of the same.
pub(crate) const EARLY_BYTES_MAX: usize = 8 << 20;

/// Between two requests for a newer view to the same server.
pub(crate) const WANT_VIEW_AGAIN: Duration = Duration::from_millis(50);

/// What a command takes when it is written, besides the keys and values in it, about: see
/// [`Command`](common::operation::Command).
pub(crate) const COMMAND_BYTES: usize = 72;

/// Requests for changes that wait, in all partitions. Each takes some 200 bytes, and its key or prefix.
pub(crate) const WATCHES_MAX: usize = 65_536;

/// Bytes of changes that a partition keeps in memory for those who watch; older ones are read from the log.
pub(crate) const WATCHED_PARTITION_BYTES_MAX: usize = 1 << 20;

/// The same of all partitions together.
pub(crate) const WATCHED_BYTES_MAX: usize = 64 << 20;

/// A partition keeps changes for so long after somebody has asked for them: longer than a fail-over, or a pause of a
/// client.
pub(crate) const WATCH_KEPT_FOR: Duration = Duration::from_secs(30);

/// Bytes of the log that are read for one answer to who watches.
pub(crate) const WATCH_READ_BYTES: usize = 256 << 10;

/// Between two looks at whether those who watch have waited long enough.
pub(crate) const WATCH_LOOK: Duration = Duration::from_millis(50);

/// Entries of a partition's log that are remembered to have changed nothing.
pub(crate) const VAIN_KEPT: usize = 1024;
