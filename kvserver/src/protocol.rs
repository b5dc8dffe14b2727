//! What clients speak, as values: bytes to commands and answers to bytes. Nothing here opens a socket, waits
//! or knows who asks.

pub mod resp;
pub mod text;
