//! A server's address and the connection to it, made when it is needed.

use std::sync::{Arc, Mutex, PoisonError};

use common::messages::{Reply, Request};
use tokio::time::timeout;

use crate::limits::ASK_FOR;
use crate::link::Link;
use crate::retry::Tried;

/// A server.
#[derive(Debug)]
pub(crate) struct Peer {
    address: String,
    link: Mutex<Option<Arc<Link>>>,
    /// Locked while connecting.
    connecting: tokio::sync::Mutex<()>,
    /// The number of failed tries to connect, and the error of the last one.
    failed: Mutex<(u64, String)>,
}

impl Peer {
    pub(crate) fn new(address: String) -> Self {
        let failed = Mutex::new((0, String::new()));
        Self { address, link: Mutex::new(None), connecting: tokio::sync::Mutex::new(()), failed }
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The connection, if there is one.
    pub(crate) fn live(&self) -> Option<Arc<Link>> {
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        link.as_ref().filter(|link| !link.is_closed()).map(Arc::clone)
    }

    /// The connection, made if there is none. Callers that wait for the same try share how it ends.
    pub(crate) async fn link(&self) -> Result<Arc<Link>, String> {
        if let Some(link) = self.live() {
            return Ok(link);
        }
        let failures = self.failed().0;
        let _connecting = self.connecting.lock().await;
        if let Some(link) = self.live() {
            return Ok(link);
        }
        let (count, reason) = self.failed();
        if count != failures {
            return Err(reason);
        }
        match Link::connect(&self.address).await {
            Ok(link) => {
                let link = Arc::new(link);
                *self.link.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&link));
                Ok(link)
            }
            Err(reason) => {
                *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = (count + 1, reason.clone());
                Err(reason)
            }
        }
    }

    /// Asks a question once that a server can answer at once.
    pub(crate) async fn ask(&self, request: Request) -> Result<Reply, String> {
        let asking = async {
            let link = self.link().await?;
            match link.slot().await?.send(request, None).await {
                Ok(Tried::Answered(reply)) => Ok(reply),
                Ok(Tried::NotSent(reason) | Tried::Lost(reason)) => Err(reason),
                Err(_) => Err("the connection was closed".to_owned()),
            }
        };
        timeout(ASK_FOR, asking).await.unwrap_or_else(|_| Err(format!("no answer within {ASK_FOR:?}")))
    }

    fn failed(&self) -> (u64, String) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
