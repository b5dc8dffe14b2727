//! What a command is: its name, its words, its keys, and the function that carries it out.

use bytes::Bytes;

use super::answer::Parsed;
use super::encode::Writer;
use super::host::Host;
use super::state::{State, Step, Wide};
use super::words::Refusal;

/// The result of a command that the connection answers by itself.
pub(super) type Answered = Result<(), Refusal>;

/// A command that the connection answers.
pub(super) struct Local<'a> {
    pub(super) state: &'a mut State,
    pub(super) host: &'a dyn Host,
    pub(super) out: &'a mut Vec<u8>,
    /// All commands, in the order of their names.
    pub(super) commands: &'static [Spec],
    /// What is to be done with the answer.
    pub(super) step: Step,
}

impl Local<'_> {
    pub(super) fn writer(&mut self) -> Writer<'_> {
        Writer::new(self.out, self.state.version)
    }
}

/// The function that carries a command out, by what it needs.
#[derive(Clone, Copy)]
pub(super) enum Run {
    /// It needs one call on keys.
    Keys(fn(&[Bytes]) -> Parsed),
    /// The connection answers it by itself.
    Local(fn(&mut Local<'_>, &[Bytes]) -> Answered),
    /// It needs more than one call.
    Wide(fn(&State, &[Bytes]) -> Result<Wide, Refusal>),
}

/// One command.
pub(super) struct Spec {
    pub(super) name: &'static str,
    /// The number of its words with the name; at least so many if negative.
    pub(super) arity: i8,
    /// A letter for each, see `FLAGS`.
    pub(super) flags: &'static str,
    /// Positions of the first and last key, and from one to the next; a negative position counts from the end.
    pub(super) keys: (i8, i8, i8),
    pub(super) group: &'static str,
    pub(super) since: &'static str,
    pub(super) summary: &'static str,
    pub(super) run: Run,
}

/// The longest name of a command.
pub(super) const NAME_BYTES_MAX: usize = 16;

impl Spec {
    /// The command of this name, in any case.
    pub(super) fn find(commands: &'static [Self], name: &[u8]) -> Option<&'static Self> {
        let mut upper = [0; NAME_BYTES_MAX];
        let upper = upper.get_mut(..name.len())?;
        upper.copy_from_slice(name);
        upper.make_ascii_uppercase();
        let upper = &upper[..];
        commands.binary_search_by(|spec| spec.name.as_bytes().cmp(upper)).ok().map(|at| &commands[at])
    }

    /// Whether the command takes so many words.
    pub(super) fn takes(&self, words: usize) -> bool {
        let arity = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 { words >= arity } else { words == arity }
    }

    pub(super) fn lower(&self) -> String {
        self.name.to_ascii_lowercase()
    }

    /// Positions of the keys among so many words.
    pub(super) fn key_positions(&self, words: usize) -> Vec<usize> {
        let (first, last, step) = self.keys;
        let position = |at: i8| {
            if at < 0 { words.checked_sub(usize::from(at.unsigned_abs())) } else { usize::try_from(at).ok() }
        };
        match (position(first), position(last), usize::try_from(step)) {
            (Some(first), Some(last), Ok(step)) if first > 0 && step > 0 => {
                (first..=last.min(words - 1)).step_by(step).collect()
            }
            _ => Vec::new(),
        }
    }
}
