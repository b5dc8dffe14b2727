//! The state of a connection between its commands: version, name, transaction.

use bytes::Bytes;
use common::messages::Reply;
use common::operation::{Check, Condition, Part as BatchPart};

use super::answer::{Call, Queued};
use super::encode::Version;
use super::failure::failure;

/// What is to be done for a command.
#[derive(Debug)]
pub enum Step {
    /// The reply is written.
    Done,
    /// The reply is written, and the connection ends after it.
    Close,
    /// Keys are asked for.
    Call(Call),
    /// The command needs more than one call.
    Wide(Wide),
}

/// A command that needs several steps, with nothing else of its connection under way.
#[derive(Debug, PartialEq, Eq)]
pub enum Wide {
    /// A part of all keys.
    Scan {
        /// The cursor of an earlier reply, or 0.
        cursor: u64,
        /// Only keys that match this pattern.
        pattern: Option<Bytes>,
        /// The number of keys to return at least, if there are so many.
        count: u32,
        /// A type was asked for that no value has.
        nothing: bool,
    },
    /// All keys that match a pattern.
    Keys {
        /// A glob of Redis, with `*`, `?`, `[...]` and backslashes.
        pattern: Bytes,
    },
    /// The number of keys.
    Size,
    /// Any key.
    Random,
    /// Removes all keys.
    Flush,
    /// The server's facts.
    Info {
        /// Names of sections, in lower case; empty: the usual ones.
        sections: Vec<String>,
    },
    /// Remembers keys as they are, see [`Session::on_watched`](super::Session::on_watched).
    Watch {
        /// The keys of one `WATCH` command.
        keys: Vec<Bytes>,
    },
}

/// Which replies are sent (`CLIENT REPLY`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Replies {
    #[default]
    On,
    Off,
    /// The next command's reply is not sent.
    SkipNext,
    /// This command's reply is not sent.
    Skip,
}

#[derive(Debug, Default)]
pub(super) struct Transaction {
    pub(super) queued: Vec<Queued>,
    pub(super) parts: Vec<BatchPart>,
    /// A command was refused: nothing will be done.
    pub(super) broken: bool,
}

/// What a Redis client has set for its connection: version, replies, a transaction, watched keys.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) version: Version,
    pub(super) replies: Replies,
    pub(super) transaction: Option<Transaction>,
    pub(super) watched: Vec<Check>,
}

impl State {
    /// Remembers watched keys with their versions, by the replies to reads of them.
    ///
    /// # Errors
    /// The reply to `WATCH`, when one of the keys could not be read.
    pub(super) fn on_watched(&mut self, keys: Vec<Bytes>, replies: &[Reply]) -> Result<(), String> {
        for (key, reply) in keys.into_iter().zip(replies) {
            let condition = match reply {
                Reply::Value { found: Some(found) } => Condition::Version { version: found.version },
                Reply::Value { found: None } => Condition::Absent {},
                other => {
                    return Err(failure(other).unwrap_or_else(|| "ERR unexpected answer; report this".into()));
                }
            };
            // The first look counts.
            if !self.watched.iter().any(|check| check.key == key) {
                self.watched.push(Check { key, condition });
            }
        }
        Ok(())
    }

    /// Returns to the state at the connection's beginning.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}
