//! On whose behalf a connection asks, and what it may do: the one place that each request of a client passes.
//!
//! There are no users yet: every connection is [`Principal::Anyone`], which may do everything.

use common::messages::Reply;
use kvserver_core::Ask;

/// A user with rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Principal {
    /// Any client: none has to log in.
    Anyone,
}

/// What a request needs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Access<'a> {
    /// Reads or writes of the data.
    Data(#[expect(dead_code, reason = "anyone may ask for everything")] &'a Ask),
    /// What the server reports about itself: its status and its view, digests of its copies.
    Facts,
}

/// Why a request is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Denied {
    reason: &'static str,
}

impl Principal {
    /// Checks whether a request may be carried out.
    ///
    /// # Errors
    /// When the principal has no right to it: nothing is done, and the client gets the reason.
    #[inline]
    pub(super) fn check(self, access: Access<'_>) -> Result<(), Denied> {
        match (self, access) {
            (Self::Anyone, Access::Data(_) | Access::Facts) => Ok(()),
        }
    }
}

impl From<Denied> for Reply {
    fn from(denied: Denied) -> Self {
        Self::Refused { reason: denied.reason.to_owned() }
    }
}
