//! The state of a connection between its commands: version, name, transaction. Takes one command after the other.

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
        /// The pattern.
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
    /// Remembers keys as they are, see [`Session::on_watched`].
    Watch {
        /// The keys.
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

/// First words of lines of an HTTP request. As Redis does, the connection is closed without a word, so that what a web
/// page has put behind them is not carried out.
const HTTP_WORDS: [&[u8]; 2] = [b"post", b"host:"];

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
        if HTTP_WORDS.iter().any(|word| word.eq_ignore_ascii_case(&words[0])) {
            return Step::Close;
        }
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

    /// Remembers watched keys with their versions, by the replies to reads of them.
    ///
    /// # Errors
    /// The reply to `WATCH`, when one of the keys could not be read.
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

    /// Returns to the state at the connection's beginning.
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

/// The error line for a reply that is a failure; `None` for other replies.
///
/// The line for a condition that passes begins with `LOADING`, at which clients retry. The line for a write that may
/// have been done does not, as a retry could do it twice.
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
                "UNKNOWN the write was done, but the value that it returned was too long to be kept for a retry"
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
