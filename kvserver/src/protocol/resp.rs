//! The Redis protocol, RESP2 and RESP3: bytes to calls, and replies to bytes.
//!
//! The way of a command: [`RespDecoder::decode`] takes the words of one command off the bytes that have arrived;
//! [`Session::take`] looks its name up in the table of `command` and reads it, which gives a [`Step`]: bytes that
//! answer it at once, a [`Call`] on keys, or something about all keys. The server asks for the call's [`Part`]s and
//! gives the replies to the form of the call, which writes the answer. `docs/redis.md` says what is served.
//!
//! Invariants:
//! - The same bytes give the same commands and problems, however the reads split them.
//! - Keys and values are slices of the bytes that arrived, and a `GET` or `SET` allocates nothing of its own.
//! - One command gets one reply, and an error is one line, whatever bytes the words of the command have.
//! - No memory is allocated for bytes that a client announces, before they have arrived.
//!
//! Lacking on purpose: sockets, clocks, the order of replies, and every command on other data than strings.

mod answer;
mod client;
mod command;
mod config;
mod decode;
mod describe;
mod encode;
mod expiry;
mod failure;
mod glob;
mod host;
mod info;
mod local;
mod parse;
mod scripts;
mod session;
mod spec;
mod state;
#[cfg(test)]
mod testing;
mod transactions;
mod words;

pub use answer::{Call, Form, Part};
pub use command::is_command;
pub use config::SETTINGS;
pub use decode::{COMMAND_BYTES_MAX, ELEMENTS_MAX, Problem, RespDecoder};
pub use encode::{Version, Writer, error_line};
pub use failure::failure;
pub use glob::matches;
pub use host::{ClientFacts, Host, Kill};
pub use info::{Facts, write_info};
pub use session::Session;
pub use state::{Step, Wide};
