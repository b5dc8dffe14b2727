//! A connection between its commands: takes one after the other.

use bytes::Bytes;
use common::messages::Reply;
use common::operation::{Operation, Part as BatchPart};

use super::answer::{Part, Queued};
use super::command;
use super::encode::{Version, error_line};
use super::host::Host;
use super::spec::{Local, Run, Spec};
use super::state::{Replies, State, Step};
use super::words::{Refusal, wrong_number};

/// Commands of one transaction at most; its parts have their own limit.
const QUEUED_MAX: usize = 4096;

/// First words of lines of an HTTP request. As Redis does, the connection is closed without a word, so that what a web
/// page has put behind them is not carried out.
const HTTP_WORDS: [&[u8]; 2] = [b"post", b"host:"];

/// The state of one Redis client: reads its commands and makes calls of them.
#[derive(Debug, Default)]
pub struct Session {
    state: State,
}

impl Session {
    /// The version for the reply to the command that was taken last.
    #[must_use]
    pub fn version(&self) -> Version {
        self.state.version
    }

    /// Whether the command that was taken last gets no reply.
    #[must_use]
    pub fn is_mute(&self) -> bool {
        matches!(self.state.replies, Replies::Off | Replies::Skip)
    }

    /// Remembers watched keys with their versions, by the replies to reads of them.
    ///
    /// # Errors
    /// The reply to `WATCH`, when one of the keys could not be read.
    pub fn on_watched(&mut self, keys: Vec<Bytes>, replies: &[Reply]) -> Result<(), String> {
        self.state.on_watched(keys, replies)
    }

    /// Takes a command: its words, with one at least. What is answered at once is appended to `out`.
    pub fn take(&mut self, words: &[Bytes], host: &dyn Host, out: &mut Vec<u8>) -> Step {
        if HTTP_WORDS.iter().any(|word| word.eq_ignore_ascii_case(&words[0])) {
            return Step::Close;
        }
        self.state.replies = match self.state.replies {
            Replies::SkipNext => Replies::Skip,
            Replies::Skip => Replies::On,
            other => other,
        };
        let before = out.len();
        match self.run(words, host, out) {
            Ok(step) => step,
            Err(error) => {
                out.truncate(before);
                if let Some(transaction) = &mut self.state.transaction {
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
        if self.state.transaction.is_some() && !at_once {
            self.queue(spec, words, host)?;
            out.extend_from_slice(b"+QUEUED\r\n");
            return Ok(Step::Done);
        }
        match spec.run {
            Run::Keys(parse) => parse(words).map(Step::Call),
            Run::Wide(begin) => begin(&self.state, words).map(Step::Wide),
            Run::Local(answer) => {
                let mut local = Local {
                    state: &mut self.state,
                    host,
                    out,
                    commands: command::COMMANDS,
                    step: Step::Done,
                };
                answer(&mut local, words)?;
                Ok(local.step)
            }
        }
    }

    fn queue(&mut self, spec: &Spec, words: &[Bytes], host: &dyn Host) -> Result<(), Refusal> {
        let queued = match spec.run {
            Run::Keys(parse) => {
                let call = parse(words)?;
                let (count, form) = (call.len(), call.form);
                if matches!(&call.first, Part::Change(Operation::Batch { .. })) {
                    return Err(not_queued(spec.name));
                }
                let parts = std::iter::once(call.first).chain(call.rest);
                let parts: Vec<_> = parts.map(|part| BatchPart(part.into_operation())).collect();
                let Some(transaction) = &mut self.state.transaction else { return Ok(()) };
                transaction.parts.extend(parts);
                Queued::Call { parts: count, form }
            }
            Run::Wide(_) => return Err(not_queued(spec.name)),
            Run::Local(answer) => {
                let mut bytes = Vec::new();
                let mut local = Local {
                    state: &mut self.state,
                    host,
                    out: &mut bytes,
                    commands: command::COMMANDS,
                    step: Step::Done,
                };
                // An error of its own is a reply like others.
                if let Err(error) = answer(&mut local, words) {
                    bytes.clear();
                    error_line(&mut bytes, &error);
                }
                Queued::Ready(bytes)
            }
        };
        let Some(transaction) = &mut self.state.transaction else { return Ok(()) };
        if transaction.queued.len() == QUEUED_MAX {
            return Err("ERR too many commands in a transaction".into());
        }
        transaction.queued.push(queued);
        Ok(())
    }
}

fn not_queued(name: &str) -> Refusal {
    format!("ERR {name} is not served inside a transaction").into()
}
