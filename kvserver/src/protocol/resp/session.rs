//! What a connection knows between its commands: version, name, transaction. Takes one command after the other.

use bytes::Bytes;
use common::messages::Reply;
use common::operation::{Check, Condition, Operation, Outcome, Part as BatchPart};

use super::answer::{Call, Form, Part, Queued};
use super::command::{self, Run};
use super::encode::{Version, Writer, error_line};
use super::local::{Host, Local};
use super::parse::{Refusal, check_keys};

/// Commands of one transaction at most; its parts have their own limit.
const QUEUED_MAX: usize = 4096;

/// Keys that one connection watches at most.
const WATCHED_MAX: usize = 1024;

/// What is to be done for a command.
#[derive(Debug)]
pub enum Step {
    /// Its reply is in the bytes.
    Done,
    /// The same, and the connection ends behind it.
    Close,
    /// Keys are asked for.
    Call(Call),
    /// More than one call can do.
    Wide(Wide),
}

/// What needs several steps, and nothing of the same connection beside it.
#[derive(Debug, PartialEq, Eq)]
pub enum Wide {
    /// A part of all keys.
    Scan {
        /// As an earlier reply gave it, or 0.
        cursor: u64,
        /// Only keys that fit.
        pattern: Option<Bytes>,
        /// Keys at least, if there are so many.
        count: u32,
        /// A type was asked for that no value has.
        nothing: bool,
    },
    /// All keys that fit.
    Keys {
        /// The pattern.
        pattern: Bytes,
    },
    /// The number of keys.
    Size,
    /// Any key.
    Random,
    /// Removes all keys.
    Flush,
    /// How the server does.
    Info {
        /// In lower case; empty: the usual ones.
        sections: Vec<String>,
    },
    /// Remembers keys as they are, see [`Session::on_watched`].
    Watch {
        /// The keys.
        keys: Vec<Bytes>,
    },
}

/// When replies are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Replies {
    #[default]
    On,
    Off,
    /// The next command's is not.
    SkipNext,
    /// This command's is not.
    Skip,
}

#[derive(Debug, Default)]
struct Transaction {
    queued: Vec<Queued>,
    parts: Vec<BatchPart>,
    /// A command was refused: nothing will be done.
    broken: bool,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Session {
    pub(super) version: Version,
    pub(super) replies: Replies,
    transaction: Option<Transaction>,
    watched: Vec<Check>,
}

impl Session {
    /// The version for the reply to the command that was taken last.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether the command that was taken last gets no reply.
    #[must_use]
    pub fn is_mute(&self) -> bool {
        matches!(self.replies, Replies::Off | Replies::Skip)
    }

    /// Takes a command: its words, with one at least. What is answered at once is appended to `out`.
    pub fn take(&mut self, words: &[Bytes], host: &dyn Host, out: &mut Vec<u8>) -> Step {
        self.replies = match self.replies {
            Replies::SkipNext => Replies::Skip,
            Replies::Skip => Replies::On,
            other => other,
        };
        let before = out.len();
        match self.run(words, host, out) {
            Ok(step) => step,
            Err(error) => {
                out.truncate(before);
                if let Some(transaction) = &mut self.transaction {
                    transaction.broken = true;
                }
                error_line(out, &error);
                Step::Done
            }
        }
    }

    fn run(&mut self, words: &[Bytes], host: &dyn Host, out: &mut Vec<u8>) -> Result<Step, Refusal> {
        let spec = command::find(&words[0]).ok_or_else(|| command::unknown(words))?;
        if !spec.takes(words.len()) {
            return Err(wrong_number(spec.name));
        }
        let at_once = ["EXEC", "DISCARD", "MULTI", "WATCH", "QUIT", "RESET"].contains(&spec.name);
        if self.transaction.is_some() && !at_once {
            self.queue(spec, words, host)?;
            out.extend_from_slice(b"+QUEUED\r\n");
            return Ok(Step::Done);
        }
        match spec.run {
            Run::Keys(parse) => parse(words).map(Step::Call),
            Run::Wide(begin) => begin(self, words).map(Step::Wide),
            Run::Local(answer) => {
                let mut local = Local { session: self, host, out, step: Step::Done };
                answer(&mut local, words)?;
                Ok(local.step)
            }
        }
    }

    fn queue(&mut self, spec: &command::Spec, words: &[Bytes], host: &dyn Host) -> Result<(), Refusal> {
        let queued = match spec.run {
            Run::Keys(parse) => {
                let call = parse(words)?;
                let (count, form) = (call.len(), call.form);
                if matches!(&call.first, Part::Change(Operation::Batch { .. })) {
                    return Err(not_queued(spec.name));
                }
                let parts = std::iter::once(call.first).chain(call.rest);
                let parts: Vec<_> = parts.map(|part| BatchPart(part.into_operation())).collect();
                let Some(transaction) = &mut self.transaction else { return Ok(()) };
                transaction.parts.extend(parts);
                Queued::Call { parts: count, form }
            }
            Run::Wide(_) => return Err(not_queued(spec.name)),
            Run::Local(answer) => {
                let mut bytes = Vec::new();
                let mut local = Local { session: self, host, out: &mut bytes, step: Step::Done };
                // An error of its own is a reply like others.
                if let Err(error) = answer(&mut local, words) {
                    bytes.clear();
                    error_line(&mut bytes, &error);
                }
                Queued::Ready(bytes)
            }
        };
        let Some(transaction) = &mut self.transaction else { return Ok(()) };
        if transaction.queued.len() == QUEUED_MAX {
            return Err("ERR too many commands in a transaction".into());
        }
        transaction.queued.push(queued);
        Ok(())
    }

    /// Remembers watched keys as the replies to reads of them tell; else the reply to `WATCH` is this error.
    ///
    /// # Errors
    /// When one of them could not be read.
    pub fn on_watched(&mut self, keys: Vec<Bytes>, replies: &[Reply]) -> Result<(), String> {
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

    /// Forgets the transaction and all else, as at the connection's beginning.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

pub(super) fn wrong_number(name: &str) -> Refusal {
    format!("ERR wrong number of arguments for '{}' command", name.to_ascii_lowercase()).into()
}

fn not_queued(name: &str) -> Refusal {
    format!("ERR {name} is not served inside a transaction").into()
}

pub(super) fn multi(local: &mut Local<'_>, _: &[Bytes]) -> Result<(), Refusal> {
    if local.session.transaction.is_some() {
        // The transaction goes on, as in Redis.
        Writer::new(local.out, local.session.version).error("ERR MULTI calls can not be nested");
        return Ok(());
    }
    local.session.transaction = Some(Transaction::default());
    local.writer().ok();
    Ok(())
}

pub(super) fn discard(local: &mut Local<'_>, _: &[Bytes]) -> Result<(), Refusal> {
    if local.session.transaction.take().is_none() {
        return Err("ERR DISCARD without MULTI".into());
    }
    local.session.watched.clear();
    local.writer().ok();
    Ok(())
}

pub(super) fn unwatch(local: &mut Local<'_>, _: &[Bytes]) -> Result<(), Refusal> {
    local.session.watched.clear();
    local.writer().ok();
    Ok(())
}

pub(super) fn watch(session: &Session, words: &[Bytes]) -> Result<Wide, Refusal> {
    if session.transaction.is_some() {
        return Err("ERR WATCH inside MULTI is not allowed".into());
    }
    check_keys(&words[1..])?;
    if session.watched.len() + words.len() > WATCHED_MAX {
        return Err("ERR too many watched keys".into());
    }
    Ok(Wide::Watch { keys: words[1..].to_vec() })
}

pub(super) fn exec(local: &mut Local<'_>, _: &[Bytes]) -> Result<(), Refusal> {
    let Some(transaction) = local.session.transaction.take() else {
        return Err("ERR EXEC without MULTI".into());
    };
    let checks = std::mem::take(&mut local.session.watched);
    if transaction.broken {
        return Err("EXECABORT Transaction discarded because of previous errors.".into());
    }
    let Transaction { queued, parts, .. } = transaction;
    if parts.is_empty() && checks.is_empty() {
        local.writer().array(queued.len());
        for queued in queued {
            if let Queued::Ready(bytes) = queued {
                local.out.extend_from_slice(&bytes);
            }
        }
        return Ok(());
    }
    let batch = Operation::Batch { checks, parts };
    local.step = Step::Call(Call::change(batch, Form::Transaction(queued)));
    Ok(())
}

/// The error line for a reply that is none, or nothing if it is one.
///
/// What will pass begins with `LOADING`: clients that retry do it at this word. What may have been done does not, as a
/// retry could do it twice.
#[must_use]
pub fn failure(reply: &Reply) -> Option<String> {
    Some(match reply {
        Reply::Busy { reason } => format!("LOADING {reason}"),
        Reply::Moved { .. } => "LOADING the partition is on its way to another server, retry".to_owned(),
        Reply::Unknown { reason } => format!("UNKNOWN the write may have been done or not: {reason}"),
        Reply::Refused { reason } => format!("ERR {reason}"),
        Reply::Outcome { outcome } => match outcome {
            Outcome::NotANumber {} => "ERR value is not an integer or out of range".to_owned(),
            Outcome::OutOfRange {} => "ERR increment or decrement would overflow".to_owned(),
            Outcome::TooLarge { bytes } => super::parse::too_large(*bytes).into_owned(),
            Outcome::Superseded {} => "UNKNOWN the write was done or given up long ago".to_owned(),
            Outcome::Forgotten {} => {
                "UNKNOWN the write was done, but the value that it told was too long to be kept for a retry"
                    .to_owned()
            }
            _ => return None,
        },
        Reply::Value { .. } | Reply::TooLarge { .. } | Reply::Page { .. } | Reply::Keys { .. } => {
            return None;
        }
        Reply::View { .. } | Reply::Status { .. } | Reply::Digest { .. } | Reply::Changes { .. } => {
            "ERR unexpected answer; report this".to_owned()
        }
    })
}
