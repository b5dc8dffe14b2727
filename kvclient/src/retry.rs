//! What a request does after each try: the pure part of retrying.
//!
//! A write begins *certain*: nothing of it can have happened. It becomes uncertain when a try that may have reached
//! a server ends without an answer, or with [`Reply::Unknown`]; no later refusal makes it certain again, only an
//! outcome for the same origin does. A request that runs out of time fails accordingly.

use std::time::Duration;

use common::ids::Epoch;
use common::messages::Reply;

use crate::error::Error;
use crate::limits::{BACKOFF_FIRST, BACKOFF_MAX};

/// How one try ended.
#[derive(Debug)]
pub(crate) enum Tried {
    /// With an answer.
    Answered(Reply),
    /// It certainly reached no server.
    NotSent(String),
    /// It may have reached a server, but its answer will not come.
    Lost(String),
}

/// What to do next.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    /// It is answered.
    Done(Reply),
    /// It has failed for good.
    Fail(Error),
    /// Try again.
    Again {
        /// Ask for a newer view first.
        refresh: Refresh,
        /// Wait the backoff time.
        wait: bool,
    },
}

/// Whether a newer view is asked for before the next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refresh {
    /// No, as this client's view is the newer one.
    No,
    /// There may be one.
    Maybe,
    /// There is one: the server that answered has it.
    Certainly,
}

/// What is known about one request.
#[derive(Debug)]
pub(crate) struct Progress {
    write: bool,
    uncertain: bool,
    tries: u32,
    tried: Vec<String>,
    reason: String,
}

impl Progress {
    /// The progress of a request that changes nothing.
    pub(crate) fn read() -> Self {
        Self { write: false, uncertain: false, tries: 0, tried: Vec::new(), reason: String::new() }
    }

    /// The progress of a write.
    pub(crate) fn write() -> Self {
        Self { write: true, ..Self::read() }
    }

    /// Whether the request changes nothing.
    pub(crate) fn is_read(&self) -> bool {
        !self.write
    }

    /// The next step after a try at `server` that was made with the view numbered `ours`.
    pub(crate) fn on_tried(&mut self, server: &str, tried: Tried, ours: Epoch) -> Next {
        self.tries += 1;
        match tried {
            Tried::Answered(Reply::Moved { view }) => {
                self.note(server, format!("it is not the coordinator by its view {view}"));
                let refresh = if view > ours {
                    Refresh::Certainly
                } else if view < ours {
                    Refresh::No
                } else {
                    Refresh::Maybe
                };
                // The first time, a newer view names the server to ask, so no time is lost. After that, wait.
                Next::Again { refresh, wait: refresh != Refresh::Certainly || self.tries > 1 }
            }
            Tried::Answered(Reply::Busy { reason }) => self.again(server, reason),
            Tried::Answered(Reply::Unknown { reason }) => {
                self.uncertain |= self.write;
                self.again(server, reason)
            }
            Tried::Answered(Reply::Refused { reason }) => Next::Fail(self.refused(reason)),
            Tried::Answered(reply) => Next::Done(reply),
            Tried::NotSent(reason) => self.again(server, reason),
            Tried::Lost(reason) => {
                self.uncertain |= self.write;
                self.again(server, reason)
            }
        }
    }

    /// The next step when the view names no coordinator.
    pub(crate) fn on_no_coordinator(&mut self) -> Next {
        self.tries += 1;
        "the cluster has no servers yet".clone_into(&mut self.reason);
        Next::Again { refresh: Refresh::Maybe, wait: true }
    }

    /// The next step when no server answered with a view. Former reasons are kept when the time is `over`, as they say
    /// more.
    pub(crate) fn on_unreachable(&mut self, tried: Vec<String>, reason: String, over: bool) {
        self.tries += 1;
        self.tried = tried;
        if !over || self.reason.is_empty() {
            self.reason = reason;
        }
    }

    /// The error when the time is over.
    pub(crate) fn give_up(self) -> Error {
        let Self { uncertain, tried, reason, tries, .. } = self;
        let reason = if tries == 0 { "there was no time to ask".to_owned() } else { reason };
        if uncertain { Error::OutcomeUnknown { reason } } else { Error::Unavailable { tried, reason } }
    }

    /// How long to wait before the next try; `random` in 0..1 spreads clients that failed together.
    pub(crate) fn backoff(&self, random: f64) -> Duration {
        let doublings = self.tries.saturating_sub(1).min(16);
        let whole = BACKOFF_FIRST.saturating_mul(1 << doublings).min(BACKOFF_MAX);
        whole.mul_f64(0.5 + random / 2.0)
    }

    fn again(&mut self, server: &str, reason: String) -> Next {
        self.note(server, reason);
        Next::Again { refresh: Refresh::Maybe, wait: true }
    }

    fn note(&mut self, server: &str, reason: String) {
        if !self.tried.iter().any(|known| known == server) {
            self.tried.push(server.to_owned());
        }
        self.reason = format!("{server}: {reason}");
    }

    fn refused(&self, reason: String) -> Error {
        if self.uncertain {
            let reason = format!("an earlier try got no answer, and the last one was refused: {reason}");
            Error::OutcomeUnknown { reason }
        } else {
            Error::Refused { reason }
        }
    }
}

#[cfg(test)]
mod tests {
    use common::ids::LogId;
    use common::operation::Outcome;

    use super::*;

    fn epoch(version: u64) -> Epoch {
        Epoch { generation: 0, version }
    }

    fn busy() -> Tried {
        Tried::Answered(Reply::Busy { reason: "waits".into() })
    }

    fn refused() -> Tried {
        Tried::Answered(Reply::Refused { reason: "no".into() })
    }

    #[test]
    fn a_write_that_reached_nobody_is_unavailable() {
        let mut progress = Progress::write();
        progress.on_tried("a", busy(), epoch(1));
        progress.on_tried("b", Tried::NotSent("refused".into()), epoch(1));
        progress.on_tried("a", Tried::Answered(Reply::Moved { view: epoch(2) }), epoch(1));
        let Error::Unavailable { tried, reason } = progress.give_up() else { panic!("it is certain") };
        assert_eq!(tried, ["a", "b"]);
        assert!(reason.starts_with("a: "), "{reason}");
    }

    #[test]
    fn once_uncertain_only_an_outcome_ends_the_doubt() {
        for doubt in [Tried::Lost("reset".into()), Tried::Answered(Reply::Unknown { reason: "log".into() })] {
            let mut progress = Progress::write();
            progress.on_tried("a", doubt, epoch(1));
            progress.on_tried("a", busy(), epoch(1));
            let next = progress.on_tried("a", refused(), epoch(1));
            assert!(matches!(next, Next::Fail(Error::OutcomeUnknown { .. })));
            let outcome = Outcome::Written { version: LogId::default(), replaced: false };
            let next = progress.on_tried("a", Tried::Answered(Reply::Outcome { outcome }), epoch(1));
            assert!(matches!(next, Next::Done(_)));
            assert!(matches!(progress.give_up(), Error::OutcomeUnknown { .. }));
        }
    }

    #[test]
    fn reads_are_never_uncertain() {
        let mut progress = Progress::read();
        progress.on_tried("a", Tried::Lost("reset".into()), epoch(1));
        assert!(matches!(progress.on_tried("a", refused(), epoch(1)), Next::Fail(Error::Refused { .. })));
    }

    #[test]
    fn a_newer_view_is_fetched_at_once_an_older_one_waited_for() {
        let mut progress = Progress::read();
        let moved = |view| Tried::Answered(Reply::Moved { view: epoch(view) });
        let next = progress.on_tried("a", moved(5), epoch(4));
        assert_eq!(next, Next::Again { refresh: Refresh::Certainly, wait: false });
        let next = progress.on_tried("a", moved(4), epoch(5));
        assert_eq!(next, Next::Again { refresh: Refresh::No, wait: true });
        let next = progress.on_tried("a", moved(6), epoch(5));
        assert_eq!(next, Next::Again { refresh: Refresh::Certainly, wait: true });
    }

    #[test]
    fn the_wait_doubles_up_to_its_limit() {
        let mut progress = Progress::read();
        let mut last = Duration::ZERO;
        for _ in 0..100 {
            progress.on_tried("a", busy(), epoch(1));
            let wait = progress.backoff(1.0);
            assert!(wait >= last && wait <= BACKOFF_MAX);
            last = wait;
        }
        assert_eq!(last, BACKOFF_MAX);
        assert_eq!(progress.backoff(0.0), BACKOFF_MAX / 2);
    }
}
