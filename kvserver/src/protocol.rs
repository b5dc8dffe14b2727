//! The protocols of clients, as values: bytes to commands and answers to bytes. Nothing here opens a socket, waits or
//! knows the client.

mod http_request;
pub mod resp;
pub mod text;
