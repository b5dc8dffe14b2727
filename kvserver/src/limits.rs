//! The shell's limits and defaults, each with its unit and its reason.

use std::time::Duration;

/// Events that the core takes in one batch: bounds the time until a batch's effects leave.
pub(crate) const BATCH_EVENTS_MAX: usize = 512;

/// Bytes of other servers' messages that the core takes in one batch, at least one frame of them.
pub(crate) const BATCH_PEER_BYTES_MAX: usize = 1 << 20;

/// Requests that the core takes on in one batch, over all connections, which take turns. Small, as a write waits for a
/// few batches, here and at its replicas.
pub(crate) const BATCH_REQUESTS_MAX: usize = 128;

/// Bytes of the requests that the core takes on in one batch, with those that they may bring back; one larger request
/// goes alone.
pub(crate) const BATCH_REQUEST_BYTES_MAX: usize = 2 << 20;

/// Bytes of entries that wait for the log's disk; beyond them writes wait, and take turns. A fast disk writes so much
/// in a few milliseconds, and a write waits for no more than that.
pub(crate) const LOG_AHEAD_BYTES_MAX: usize = 2 << 20;

/// Requests that are passed on to one other server and not answered; beyond them they wait, and take turns.
pub(crate) const FORWARDED_MAX: usize = 512;

/// Bytes of the requests that are passed on to one other server and not answered, with those that they may bring back;
/// one larger request goes alone.
pub(crate) const FORWARDED_BYTES_MAX: usize = 16 << 20;

/// Requests passed on by one other server that wait for the core; what is beyond is dropped, and sent again later.
pub(crate) const PEER_REQUESTS_MAX: usize = 4096;

const _: () = assert!(PEER_REQUESTS_MAX > FORWARDED_MAX, "what another server passes on at a time fits");

/// Requests of one connection that are not answered; beyond them the connection is not read.
pub(crate) const PIPELINE_MAX: usize = 4096;

/// Bytes of small messages waiting for one server's first link; what comes beyond is dropped and sent again later.
pub(crate) const LIFE_QUEUE_BYTES_MAX: usize = 16 << 20;

/// Bytes of log entries and requests waiting for one server's second link; what comes beyond is dropped and sent again
/// later.
pub(crate) const DATA_QUEUE_BYTES_MAX: usize = 64 << 20;

/// Bytes of large messages waiting for one server's third link; what comes beyond is dropped and sent again later.
pub(crate) const BULK_QUEUE_BYTES_MAX: usize = 64 << 20;

/// Bytes from which on a request that is passed on, or its answer, goes by the link for large messages.
pub(crate) const BULK_BYTES_MIN: usize = 32 << 10;

/// Requests of one connection that are passed on in one piece.
pub(crate) const ASKS_AT_ONCE_MAX: usize = 256;

/// Bytes that one connection may have open: requests that are not answered, replies that they may bring, and replies
/// that its socket has not taken. Beyond them it is not read.
pub(crate) const CLIENT_OPEN_BYTES_MAX: usize = 32 << 20;

/// Bytes that all connections together may have open. Beyond them, only a connection with less than its share,
/// [`CLIENT_SHARE_BYTES`], is read.
pub(crate) const CLIENTS_OPEN_BYTES_MAX: usize = 128 << 20;

/// Bytes that all connections together may have open with the large values that they get beyond their shares, one at a
/// time each. Beyond them, large values wait.
pub(crate) const CLIENTS_BEYOND_BYTES_MAX: usize = 256 << 20;

/// Bytes that a connection may have open however much others have: enough for many small requests at once.
pub(crate) const CLIENT_SHARE_BYTES: usize = 256 << 10;

/// Bytes of the reply to one command of many keys, at most; what brings more is refused.
pub(crate) const REPLY_BYTES_MAX: usize = 64 << 20;

/// Bytes that a request counts besides its keys, values and reply.
pub(crate) const REQUEST_BYTES: usize = 64;

/// The bound of a new connection's first gets, in bytes of the value: so small that a full pipeline of them
/// ([`PIPELINE_MAX`]) is within [`CLIENT_OPEN_BYTES_MAX`].
pub(crate) const GET_BYTES_FIRST: u32 = 4 << 10;

/// Bytes of messages of one peer's link that the core has not taken; beyond them the link is not read.
pub(crate) const PEER_INTAKE_BYTES_MAX: usize = 32 << 20;

const _: () = assert!(PEER_INTAKE_BYTES_MAX >= common::limits::FRAME_BYTES_MAX, "a frame fits");
const _: () = assert!(PIPELINE_MAX * (REQUEST_BYTES + GET_BYTES_FIRST as usize) <= CLIENT_OPEN_BYTES_MAX);

/// A client's socket that takes nothing for this long is closed, if all connections together are at their limit: other
/// clients need the memory that its replies take.
pub(crate) const STALLED_FOR: Duration = Duration::from_secs(10);

/// First and last pause between two looks at whether there is room for a connection's requests. They grow, as hundreds
/// of clients that read nothing would keep the core's thread busy.
pub(crate) const ROOM_LOOK: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(320));

/// Requests that a connection's task decodes before other connections have their turn.
pub(crate) const DECODED_AT_ONCE: usize = 32;

/// Bytes of messages that a peer's link puts into one frame, if there are that many.
pub(crate) const PEER_FRAME_BYTES: usize = 1 << 20;

/// A link that has sent malformed messages is kept open and silent for this long: its server would open another one at
/// once and send the same.
pub(crate) const PEER_REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// Bytes of one chunk of a state copy.
pub(crate) const CHUNK_BYTES: usize = 512 << 10;

/// Snapshots for digests that one batch of entries takes at most; a coordinator asks again for those that are left out.
pub(crate) const DIGESTS_WAITING_MAX: usize = 64;

/// Bytes that the scrub reads at once: few enough that its rate is kept evenly.
pub(crate) const SCRUB_BYTES: usize = 128 << 10;

/// Bytes of one page of a scan.
pub(crate) const PAGE_BYTES_MAX: usize = 1 << 20;

/// Keys of one page of a scan.
pub(crate) const PAGE_KEYS_MAX: u32 = 10_000;

/// Bytes of records in one batch of the commit log; a larger write is split (a single record is not).
pub(crate) const LOG_BATCH_BYTES: usize = 4 << 20;

/// A log that was written to, and then not for this long, is [vouched for](storage::LogWriter::vouch): that is long
/// beside the pauses of a log at work, where the next batch vouches, and short beside the time until a server is likely
/// to be killed.
pub(crate) const VOUCH_AFTER: Duration = Duration::from_millis(20);

/// The pause between two questions of a server that waits with a failed store, to the ECS.
pub(crate) const SUSPECT_AGAIN: Duration = Duration::from_secs(1);

/// Links without a hello that a server that waits with its store takes at a time, and as many of clients.
pub(crate) const SUSPECT_LINKS_MAX: usize = 64;

/// First and last time-out between two tries to connect.
pub(crate) const CONNECT_AGAIN: (Duration, Duration) =
    (Duration::from_millis(20), Duration::from_millis(500));

/// A try to connect ends after this.
pub(crate) const CONNECT_FOR: Duration = Duration::from_secs(2);

/// A new binary link must send its hello within this time.
pub(crate) const HELLO_FOR: Duration = Duration::from_secs(5);

/// A new connection that sends nothing is closed after this, which leaves time for a person who types. Where other
/// connections need its permit, it is closed after [`SILENT_AT_LEAST`].
pub(crate) const FIRST_BYTE_FOR: Duration = Duration::from_secs(60);

/// A new connection may be silent this long though other connections need its permit, as its first bytes may be under
/// way.
pub(crate) const SILENT_AT_LEAST: Duration = Duration::from_secs(1);

/// How long a connection that has to make room may take to end.
pub(crate) const PERMIT_WITHIN: Duration = Duration::from_millis(100);

/// The pause between two looks at the room on the disk: little is written meanwhile, beside the reserve.
pub(crate) const ROOM_AGAIN: Duration = Duration::from_millis(100);

/// Bytes that a connection reads at once, if it brings that many.
pub(crate) const READ_BYTES: usize = 64 << 10;

/// Bytes that a new connection reads at once: most bring little, and each keeps a buffer of this size while it waits.
pub(crate) const FIRST_READ_BYTES: usize = 4 << 10;

/// Bytes of unfinished requests of all clients together, beyond their shares; and as many of all links of servers.
pub(crate) const UNFINISHED_BYTES_MAX: usize = 16 << 20;

/// Bytes of an unfinished request that a connection may have whatever the others have.
pub(crate) const UNFINISHED_SHARE_BYTES: usize = 16 << 10;

/// Bytes that must come of a request beyond its share in each [`UNFINISHED_WITHIN`]: as slow as a modem.
pub(crate) const UNFINISHED_BYTES_MIN: usize = 64 << 10;

/// The time in which [`UNFINISHED_BYTES_MIN`] must come of an unfinished request.
pub(crate) const UNFINISHED_WITHIN: Duration = Duration::from_secs(10);

/// Records that the core's thread writes to the commit log by itself; more are the log thread's work.
pub(crate) const INLINE_RECORDS_MAX: usize = 4;

/// Microseconds of an fdatasync above which the core's thread leaves all writes to the log thread. Waking that thread
/// and being woken by it takes 20 to 50.
pub(crate) const INLINE_SYNC_US_MAX: u64 = 200;

/// Microseconds of the last syncs from which on the disk is tried while nothing is written: the ECS may have moved the
/// server's copies away because of them. It is half of the least time that the ECS calls slow.
pub(crate) const TRY_DISK_ABOVE_US: u64 = 10_000;

/// The pause between two trials of a slow disk: times that were measured under a load that is over are replaced before
/// the ECS acts on them.
pub(crate) const TRY_DISK_EVERY: Duration = Duration::from_millis(250);

/// Expired records that are removed at a time, within [`SWEEP_FOR`].
pub(crate) const SWEEP_KEYS: usize = 16;

/// Time for the removal of expired records in each tick: a tenth of the core's time at most.
pub(crate) const SWEEP_FOR: Duration = Duration::from_millis(1);

/// The pause between two looks for expired records. In a partition without writes, each look may cost an entry of the
/// log.
pub(crate) const SWEEP_LOOK: Duration = Duration::from_secs(5);

/// After everything is handed over, connections stay until no client has sent anything for this long, so that clients
/// that know this server alone learn of the others before their connection ends.
pub(crate) const LINGER: Duration = Duration::from_millis(500);

/// How long requests that were read are answered after [`LINGER_MAX`]: longer than a request is passed on for.
pub(crate) const LAST_ANSWERS_FOR: Duration = Duration::from_secs(15);

/// Servers outside the view that this server keeps a link to, at most: those that have left and go on passing requests
/// on, and those that are about to join.
pub(crate) const STRANGERS_LINKED_MAX: usize = 64;

/// The pause between two requests for the ECS's view, of a server that is in no view: the ECS does not send it new
/// ones.
pub(crate) const FOLLOW_EVERY: Duration = Duration::from_millis(500);

/// What clients send after their last answer is read and dropped for this long, unless they close before.
pub(crate) const DISCARD_FOR: Duration = Duration::from_millis(500);

/// The link to a server that has left the view is kept for this long: the answers to what it passes on leave by it, and
/// it goes on answering clients for up to [`LINGER_MAX`] and [`LAST_ANSWERS_FOR`].
pub(crate) const LINKED_AFTER: Duration = Duration::from_secs(40);
const _: () = assert!(LINKED_AFTER.as_secs() > LINGER_MAX.as_secs() + LAST_ANSWERS_FOR.as_secs());

/// How long clients that go on asking a server that has left are answered.
pub(crate) const LINGER_MAX: Duration = Duration::from_secs(10);

/// How long a disk may take no write before its server stops sending heartbeats, so that the ECS takes it for dead: a
/// multiple of [`common::limits::Timers::dead`].
pub(crate) const DISK_STALL_SILENCES: u32 = 3;

/// Connections to the HTTP port at once: programs that watch are few.
pub(crate) const HTTP_CONNECTIONS_MAX: usize = 64;

/// A connection to the HTTP port ends after this; a program that keeps it open connects anew.
pub(crate) const HTTP_CONNECTION_FOR: Duration = Duration::from_secs(3600);

/// Bytes of the file that is given up when a view, or another small file, does not fit on a full disk: views of the
/// largest clusters fit.
pub(crate) const SPARE_BYTES: u64 = 4 << 20;

/// The file is made when the disk has so many times its size free.
pub(crate) const SPARE_SHARE: u64 = 8;
