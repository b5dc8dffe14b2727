//! The shell's limits and defaults, each with its unit and its reason.

use std::time::Duration;

/// Events that the core takes in one batch: bounds the time until a batch's effects leave.
pub(crate) const BATCH_EVENTS_MAX: usize = 512;

/// Requests of one connection that are not answered; beyond them the connection is not read.
pub(crate) const PIPELINE_MAX: usize = 4096;

/// Bytes of messages waiting for one peer's link; what comes beyond is dropped and sent again later.
pub(crate) const PEER_QUEUE_BYTES_MAX: usize = 128 << 20;

/// Requests of one connection that are passed on in one piece.
pub(crate) const ASKS_AT_ONCE_MAX: usize = 256;

/// Bytes that one connection may have open: requests that are not answered, replies that they may bring, and replies
/// that its socket has not taken. Beyond them it is not read.
pub(crate) const CLIENT_OPEN_BYTES_MAX: usize = 32 << 20;

/// The same of all connections together; beyond them each has its share, [`CLIENT_SHARE_BYTES`].
pub(crate) const CLIENTS_OPEN_BYTES_MAX: usize = 128 << 20;

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
pub(crate) const PEER_INTAKE_BYTES_MAX: usize = 64 << 20;

const _: () = assert!(PEER_INTAKE_BYTES_MAX >= common::limits::FRAME_BYTES_MAX, "a frame fits");
const _: () = assert!(PIPELINE_MAX * (REQUEST_BYTES + GET_BYTES_FIRST as usize) <= CLIENT_OPEN_BYTES_MAX);

/// Between two looks at whether a client's socket takes replies again.
pub(crate) const ROOM_LOOK: Duration = Duration::from_millis(5);

/// Bytes of messages that a peer's link puts into one frame, if there are that many.
pub(crate) const PEER_FRAME_BYTES: usize = 1 << 20;

/// A link that has sent nonsense is kept silent for this long: its server makes another one at once, which says the same.
pub(crate) const PEER_REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// Bytes of one chunk of a state copy.
pub(crate) const CHUNK_BYTES: usize = 512 << 10;

/// Pictures for digests that one batch of entries leaves at most; who compares asks again for what is left out.
pub(crate) const DIGESTS_WAITING_MAX: usize = 64;

/// Bytes that the scrub reads at once: few enough that its rate is kept evenly.
pub(crate) const SCRUB_BYTES: usize = 128 << 10;

/// Bytes of one page of a scan.
pub(crate) const PAGE_BYTES_MAX: usize = 1 << 20;

/// Keys of one page of a scan.
pub(crate) const PAGE_KEYS_MAX: u32 = 10_000;

/// Bytes of records in one batch of the commit log; a larger write is split (a single record is not).
pub(crate) const LOG_BATCH_BYTES: usize = 4 << 20;

/// First and last time-out between two tries to connect.
pub(crate) const CONNECT_AGAIN: (Duration, Duration) =
    (Duration::from_millis(20), Duration::from_millis(500));

/// A try to connect ends after this.
pub(crate) const CONNECT_FOR: Duration = Duration::from_secs(2);

/// A new connection must say what it is within this time, if it is a binary link.
pub(crate) const HELLO_FOR: Duration = Duration::from_secs(5);

/// Between two looks at the room on the disk: what is written meanwhile must be little beside the reserve.
pub(crate) const ROOM_AGAIN: Duration = Duration::from_millis(100);

/// Bytes that a connection reads at once.
pub(crate) const READ_BYTES: usize = 64 << 10;

/// Records that the core's thread writes to the commit log by itself; more are the log thread's work.
pub(crate) const INLINE_RECORDS_MAX: usize = 4;

/// A disk whose fdatasync takes longer is waited for by the log thread alone, in microseconds. A handover to it
/// and back takes 20 to 50.
pub(crate) const INLINE_SYNC_US_MAX: u64 = 200;

/// After everything is handed over, connections stay until no client has said anything for this long: clients that
/// know this server alone learn where to go before their connection ends.
pub(crate) const LINGER: Duration = Duration::from_millis(500);

/// The link to a server that has left the view is kept for this long: the answers to what it had passed on leave by it.
pub(crate) const LINKED_AFTER: Duration = Duration::from_secs(10);

/// Clients that go on asking a server that has left are cut off after this long.
pub(crate) const LINGER_MAX: Duration = Duration::from_secs(10);

/// How long a disk may take no write, in silences after which the ECS takes a server for dead
/// ([`common::limits::Timers::dead`]), before the server lets itself be taken for dead.
pub(crate) const DISK_RESTS: u32 = 3;

/// Connections to the HTTP port at once: programs that watch are few.
pub(crate) const HTTP_CONNECTIONS_MAX: usize = 64;

/// A connection to the HTTP port ends after this: who has kept it open connects anew.
pub(crate) const HTTP_CONNECTION_FOR: Duration = Duration::from_secs(3600);
