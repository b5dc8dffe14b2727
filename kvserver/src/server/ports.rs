//! The ports of a server.

use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::error::Error;

/// Binds the port that a server is to use.
///
/// # Errors
/// When the address cannot be used.
pub async fn bind(address: &str, port: u16) -> Result<TcpListener, Error> {
    let listen = |source| Error::Listen { address: format!("{address}:{port}"), source };
    TcpListener::bind((address, port)).await.map_err(listen)
}

/// Binds the port for metrics and health.
pub(super) async fn bind_http(address: &str) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Http { address: address.to_owned(), source })
}

/// The port for everything, and the one for text alone.
pub(super) struct Ports {
    pub(super) listener: TcpListener,
    pub(super) text: Option<TcpListener>,
}

impl Ports {
    /// Moves ports that were bound on another runtime to `runtime`, which serves them.
    pub(super) fn move_to(self, runtime: &Runtime) -> Result<Self, Error> {
        let _handle = runtime.enter();
        let moved = |port: TcpListener| {
            let moved = port.into_std().and_then(TcpListener::from_std);
            moved.map_err(|source| Error::Io { action: "serve the bound port", source })
        };
        Ok(Self { listener: moved(self.listener)?, text: self.text.map(moved).transpose()? })
    }
}
