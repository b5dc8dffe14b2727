//! What the server for tests does.

use common::messages::Reply;

/// An action of the server for a request.
#[derive(Debug)]
pub enum Action {
    /// Answers.
    Reply(Reply),
    /// Keeps the connection and says nothing.
    Silence,
    /// Closes the connection.
    Break,
}
