//! Requests that wait for the core: they take turns ([`Turns`]), and so few are under way that those behind them wait
//! only shortly.
//!
//! Bounded are: the requests that one batch takes on, and the bytes that they carry or may bring; entries that wait for
//! this server's log; and requests passed on to each other server and not answered. Further requests wait here, within
//! what their connections may have open.

use std::collections::{BTreeMap, BTreeSet};

use common::ids::{RequestId, ServerId};
use common::limits::VALUE_BYTES_MAX;
use common::messages::{ProcessId, Request};
use common::time::Now;
use kvserver_core::{Ask, Query};

use super::replies::Outbox;
use super::turns::{Turns, Verdict};
use crate::limits::{
    BATCH_REQUEST_BYTES_MAX, BATCH_REQUESTS_MAX, FORWARDED_BYTES_MAX, FORWARDED_MAX, LOG_AHEAD_BYTES_MAX,
    PAGE_BYTES_MAX, REQUEST_BYTES,
};
use crate::metrics::Asked;

/// Bytes that are counted for a get while the size of its value is not known.
const GET_BYTES: usize = 64 << 10;

/// A request that waits for its turn.
pub(super) enum Queued {
    Client(QueuedClient),
    /// A request that another server passes on, by that server's number of it.
    Server {
        from: ProcessId,
        n: u64,
        request: Request,
        writes: bool,
        bytes: usize,
    },
}

/// A request of a connection.
pub(super) struct QueuedClient {
    pub(super) outbox: Outbox,
    pub(super) id: u64,
    pub(super) ask: Ask,
    pub(super) asked: Asked,
    /// The server that coordinates it by the present view, if it is to be passed on.
    pub(super) to: Option<ServerId>,
    pub(super) anywhere: bool,
    pub(super) traced: Option<RequestId>,
    pub(super) now: Now,
    pub(super) bytes: usize,
}

impl Queued {
    fn bytes(&self) -> usize {
        match self {
            Self::Client(request) => request.bytes,
            Self::Server { bytes, .. } => *bytes,
        }
    }
}

/// Requests that were passed on to one server and are not answered: how many, and their bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Passed {
    requests: usize,
    bytes: usize,
}

impl Passed {
    /// Whether a further request of so many bytes may go; the first one may in any case.
    fn has_room(self, bytes: usize) -> bool {
        self.requests == 0 || (self.requests < FORWARDED_MAX && self.bytes + bytes <= FORWARDED_BYTES_MAX)
    }
}

/// The requests that wait for the core, and what bounds those that the core takes on.
#[derive(Default)]
pub(super) struct RequestQueue {
    pub(super) turns: Turns<Queued>,
    /// The waiting requests that other servers pass on: the server, and its number.
    pub(super) numbers: BTreeSet<(ServerId, u64)>,
    passed: BTreeMap<ServerId, Passed>,
    /// Requests that the present batch has taken on.
    requests: usize,
    bytes: usize,
}

/// Bytes that a request carries, and that its reply may have.
pub(super) fn bytes_of(ask: &Ask) -> usize {
    let reply = match ask {
        Ask::Read(Query::Get { bytes_max: u32::MAX, .. }) => GET_BYTES,
        Ask::Read(Query::Get { bytes_max, .. }) => (*bytes_max as usize).min(VALUE_BYTES_MAX),
        Ask::Read(Query::Scan { .. } | Query::Keys { .. }) => PAGE_BYTES_MAX,
        Ask::Read(Query::Count { .. } | Query::Nothing) | Ask::Watch(_) => 0,
        Ask::Write { operation, .. } => operation.returned_bytes_max(),
    };
    REQUEST_BYTES + ask.bytes() + reply
}

impl RequestQueue {
    pub(super) fn waiting(&self) -> usize {
        self.turns.len()
    }

    /// Begins a new batch.
    pub(super) fn begin_batch(&mut self) {
        (self.requests, self.bytes) = (0, 0);
    }

    /// Notes that a request that was passed on is answered.
    pub(super) fn on_answered(&mut self, to: ServerId, bytes: usize) {
        if let Some(passed) = self.passed.get_mut(&to) {
            passed.requests -= 1;
            passed.bytes -= bytes;
            if passed.requests == 0 {
                self.passed.remove(&to);
            }
        }
    }

    /// Whether a waiting request may go now. `ahead`: bytes that wait for the log.
    pub(super) fn judge(&self, waiting: &Queued, ahead: usize) -> Verdict {
        let is_first = self.requests == 0;
        let fits =
            self.requests < BATCH_REQUESTS_MAX && self.bytes + waiting.bytes() <= BATCH_REQUEST_BYTES_MAX;
        if !fits && !is_first {
            return Verdict::Over;
        }
        let has_room = match waiting {
            Queued::Client(QueuedClient { to: Some(to), bytes, .. }) => {
                self.passed.get(to).copied().unwrap_or_default().has_room(*bytes)
            }
            Queued::Client(QueuedClient { ask: Ask::Write { .. }, .. })
            | Queued::Server { writes: true, .. } => ahead < LOG_AHEAD_BYTES_MAX,
            _ => true,
        };
        if has_room { Verdict::Go } else { Verdict::Wait }
    }

    pub(super) fn count(&mut self, waiting: &Queued) {
        self.requests += 1;
        self.bytes += waiting.bytes();
        if let Queued::Client(QueuedClient { to: Some(to), bytes, .. }) = waiting {
            let passed = self.passed.entry(*to).or_default();
            passed.requests += 1;
            passed.bytes += bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use common::ids::{Incarnation, Nonce, StoreId};

    fn passed_on(n: u64, bytes: usize, writes: bool) -> Queued {
        let from = ProcessId {
            server: ServerId(1),
            store: StoreId(1),
            incarnation: Incarnation(1),
            nonce: Nonce::default(),
        };
        let request = Request::Get { key: Bytes::from_static(b"k") };
        Queued::Server { from, n, request, writes, bytes }
    }

    #[test]
    fn a_batch_takes_so_much_and_one_request_in_any_case() {
        let mut requests = RequestQueue::default();
        let large = passed_on(1, 2 * BATCH_REQUEST_BYTES_MAX, false);
        assert_eq!(requests.judge(&large, 0), Verdict::Go);
        requests.count(&large);
        assert_eq!(requests.judge(&passed_on(2, 1, false), 0), Verdict::Over);
        requests.begin_batch();
        (0..BATCH_REQUESTS_MAX as u64).for_each(|n| requests.count(&passed_on(n, 1, false)));
        assert_eq!(requests.judge(&passed_on(2, 1, false), 0), Verdict::Over);
    }

    #[test]
    fn writes_wait_for_the_log_and_reads_pass_them() {
        let requests = RequestQueue::default();
        assert_eq!(requests.judge(&passed_on(1, 1, true), LOG_AHEAD_BYTES_MAX), Verdict::Wait);
        assert_eq!(requests.judge(&passed_on(1, 1, false), LOG_AHEAD_BYTES_MAX), Verdict::Go);
        assert_eq!(requests.judge(&passed_on(1, 1, true), LOG_AHEAD_BYTES_MAX - 1), Verdict::Go);
    }

    #[test]
    fn so_much_is_passed_on_to_a_server_at_a_time() {
        let none = Passed::default();
        assert!(none.has_room(2 * FORWARDED_BYTES_MAX), "a large one goes alone");
        let some = Passed { requests: 1, bytes: 10 };
        assert!(some.has_room(FORWARDED_BYTES_MAX - 10) && !some.has_room(FORWARDED_BYTES_MAX));
        assert!(!Passed { requests: FORWARDED_MAX, bytes: 10 }.has_room(1));
    }
}
