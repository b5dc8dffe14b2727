//! Permits for connections: how many of them one port takes.

use std::sync::Arc;

use common::clock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::silent::{Quiet, Silent};
use crate::limits::PERMIT_WITHIN;

/// The permit of a connection. Links of members need none.
pub(super) enum Permit {
    /// One of `--max-connections`, kept for as long as the connection is open.
    Client(OwnedSemaphorePermit),
    /// All permits of clients are taken. The connection may stay if it turns out to be a member's link.
    Stranger(
        #[expect(dead_code, reason = "kept until its first bytes show what it is")] OwnedSemaphorePermit,
    ),
}

impl Permit {
    pub(super) fn is_client(&self) -> bool {
        matches!(self, Self::Client(_))
    }
}

/// The permits of one port, and its connections that have sent nothing yet.
pub(super) struct Permits {
    clients: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    silent: Arc<Silent>,
}

impl Permits {
    /// `clients`: shared by all ports. `strangers_max`: connections beyond them that are let in until their first bytes
    /// show what they are.
    pub(super) fn new(clients: Arc<Semaphore>, strangers_max: usize) -> Self {
        Self { clients, strangers: Arc::new(Semaphore::new(strangers_max)), silent: Arc::default() }
    }

    /// A permit for a new connection. If there is none, a connection that has sent nothing for a while is closed to
    /// make room.
    pub(super) async fn take(&self) -> Option<Permit> {
        let clients = || Arc::clone(&self.clients);
        if let Ok(permit) = clients().try_acquire_owned() {
            return Some(Permit::Client(permit));
        }
        if self.silent.end_oldest(true, clock::time())
            && let Ok(Ok(permit)) = timeout(PERMIT_WITHIN, clients().acquire_owned()).await
        {
            return Some(Permit::Client(permit));
        }
        let strangers = || Arc::clone(&self.strangers);
        if let Ok(permit) = strangers().try_acquire_owned() {
            return Some(Permit::Stranger(permit));
        }
        if !self.silent.end_oldest(false, clock::time()) {
            return None;
        }
        timeout(PERMIT_WITHIN, strangers().acquire_owned()).await.ok()?.ok().map(Permit::Stranger)
    }

    /// Notes that the connection with this permit has sent nothing yet.
    pub(super) fn quiet(&self, permit: &Permit) -> Quiet {
        self.silent.begin(permit.is_client(), clock::time())
    }
}
