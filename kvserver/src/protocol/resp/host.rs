//! The server and its other clients, as a connection sees them.

use common::time::WallTime;

/// The facts of one client, for `CLIENT LIST`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFacts {
    /// The client's id, ascending over the server's life.
    pub id: u64,
    /// The client's address and port.
    pub address: String,
    /// The server's address of the connection.
    pub local: String,
    /// Given with `CLIENT SETNAME`.
    pub name: String,
    /// Given with `CLIENT SETINFO`.
    pub library: String,
    /// Given with `CLIENT SETINFO`.
    pub library_version: String,
    /// 2 or 3.
    pub version: u8,
    /// When the client connected.
    pub since: WallTime,
}

/// The clients that `CLIENT KILL` is to end: all that is given must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kill {
    /// The client's id.
    pub id: Option<u64>,
    /// The client's address and port.
    pub address: Option<String>,
    /// The server's address of the connection.
    pub local: Option<String>,
    /// Spare the client that asks.
    pub skip_me: bool,
}

/// The server, as a connection sees it.
pub trait Host {
    /// The time.
    fn now(&self) -> WallTime;
    /// This client.
    fn me(&self) -> ClientFacts;
    /// Changes this client's facts.
    fn set_me(&self, facts: ClientFacts);
    /// All clients.
    fn clients(&self) -> Vec<ClientFacts>;
    /// Ends connections; returns how many.
    fn kill(&self, kill: &Kill) -> usize;
    /// Copies besides the first that every acknowledged write has, at least.
    fn copies(&self) -> usize;
}
