//! Accepting connections, and finding out what they speak.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use common::frame::PREFACE;
use common::stream::{self, Stream};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

use super::first_bytes::{self, First};
use super::permit::{Permit, Permits};
use super::shared::Shared;
use super::silent::Quiet;
use super::{links, resp, text};
use crate::limits::{FIRST_BYTE_FOR, HELLO_FOR};

/// Connections beyond `--max-connections` that are let in until their first bytes show what they are: links of other
/// servers and of the ECS must be possible however many clients there are.
const STRANGERS_MAX: usize = 64;

/// The pause after the system failed to accept a connection, until the next try.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// The protocols that a port takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    /// Everything.
    Any,
    /// Text alone. `greeting`: the server sends one line first.
    Text { greeting: bool },
}

impl Port {
    fn strangers_max(self) -> usize {
        match self {
            Self::Any => STRANGERS_MAX,
            Self::Text { .. } => 0,
        }
    }
}

/// Accepts connections until the port is to close. Those that the system has taken by then are served as well.
pub(crate) async fn accept(
    listener: TcpListener,
    shared: Shared,
    mut closing: watch::Receiver<bool>,
    port: Port,
) {
    let permits = Permits::new(shared.connections.clone(), port.strangers_max());
    let acceptor = Acceptor { shared, permits, port };
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            accepted = stream::accept(&listener) => accepted,
            _closing = closing.wait_for(|closing| *closing) => break,
        };
        match accepted {
            Ok((stream, from)) => {
                failing = false;
                acceptor.admit(stream, from).await;
            }
            Err(error) => {
                // Out of memory or files, which may pass, or a connection that ended at once.
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!("a connection could not be accepted: {error}; trying again");
                }
                let _over = timeout(ACCEPT_PAUSE, std::future::pending::<()>()).await;
            }
        }
    }
    for (stream, from) in stream::close(listener) {
        acceptor.admit(stream, from).await;
    }
}

/// Admits connections at a port.
struct Acceptor {
    shared: Shared,
    permits: Permits,
    port: Port,
}

impl Acceptor {
    async fn admit(&self, stream: Stream, from: SocketAddr) {
        let Some(permit) = self.permits.take().await else {
            tracing::debug!(%from, "refused: --max-connections are open");
            return text::refuse(stream).await;
        };
        let (shared, port) = (self.shared.clone(), self.port);
        let quiet = self.permits.quiet(&permit);
        tokio::spawn(async move {
            if let Err(error) = serve(stream, shared, permit, port, quiet).await {
                tracing::debug!(%from, "connection ended: {error}");
            }
        });
    }
}

/// The first byte of a connection, which stays unread; `None` at its end. A connection that is silent for too long gets
/// an error, and is not served.
async fn first_byte(stream: &Stream, permit: &Permit, quiet: &Quiet) -> std::io::Result<Option<u8>> {
    let mut first = [0; 1];
    let within = if permit.is_client() { FIRST_BYTE_FOR } else { HELLO_FOR };
    let silent = || std::io::Error::new(std::io::ErrorKind::TimedOut, "it has sent nothing");
    let peeked = tokio::select! {
        peeked = timeout(within, stream.peek(&mut first)) => peeked.map_err(|_| silent())??,
        () = quiet.ended() => return Err(silent()),
    };
    Ok((peeked > 0).then_some(first[0]))
}

async fn serve(
    mut stream: Stream,
    mut shared: Shared,
    permit: Permit,
    port: Port,
    quiet: Quiet,
) -> std::io::Result<()> {
    if let Port::Text { greeting: true } = port {
        text::greet(&mut stream).await?;
    }
    let first = tokio::select! {
        first = first_byte(&stream, &permit, &quiet) => first,
        () = shared.last_call.called() => return Ok(()),
    };
    let first = match first {
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
            text::refuse(stream).await;
            return Err(error);
        }
        first => first?,
    };
    drop(quiet);
    match (first, permit) {
        (None, _) => Ok(()),
        (Some(_), _permit) if port != Port::Any => text::serve(stream, shared, BytesMut::new()).await,
        (Some(first), permit) if first == PREFACE[0] => links::serve(stream, shared, permit).await,
        (Some(_), Permit::Client(_permit)) => {
            let (first, input) = tokio::select! {
                read = first_bytes::read(&mut stream) => read?,
                () = shared.last_call.called() => return Ok(()),
            };
            match first {
                First::Resp => resp::serve(stream, shared, input).await,
                First::Text => text::serve(stream, shared, input).await,
            }
        }
        (Some(b'*'), Permit::Stranger(_)) => {
            resp::refuse(stream).await;
            Ok(())
        }
        (Some(_), Permit::Stranger(_)) => {
            text::refuse(stream).await;
            Ok(())
        }
    }
}
