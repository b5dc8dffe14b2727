//! How a command fails: a code for programs, a sentence for people.

use std::fmt;
use std::io;
use std::ops::Range;
use std::process::ExitCode;

use super::words::BadLine;
use crate::error::Error;

/// The program's exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It is done.
    Done = 0,
    /// There is no such value.
    NotFound = 1,
    /// The command is wrong, or was refused.
    Usage = 2,
    /// A condition did not hold; nothing was changed.
    CompareFailed = 3,
    /// No server could do it; nothing was done.
    Unavailable = 4,
    /// Whether it was done is not known.
    OutcomeUnknown = 5,
    /// Stopped by the user.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A command that was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// What happened, why, and what to do next. Empty when there is nobody to tell.
    pub(crate) message: String,
    /// The bytes of the line that are meant, if some are.
    pub(crate) at: Option<Range<usize>>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), at: None }
    }

    /// It is about these bytes of the line.
    pub(crate) fn at(mut self, at: Range<usize>) -> Self {
        self.at = Some(at);
        self
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The output cannot be written. A reader that has seen enough is not told.
    pub(crate) fn output(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::usage("")
        } else {
            Self::usage(format!("cannot write the output: {error}"))
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<BadLine> for Failure {
    fn from(bad: BadLine) -> Self {
        Self::usage(bad.to_string()).at(bad.at()..bad.at() + 1)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (exit, next) = match &error {
            Error::Invalid(_) | Error::Refused { .. } => (Exit::Usage, ""),
            Error::Unavailable { .. } => (
                Exit::Unavailable,
                "; nothing was done. Check -s HOST:PORT and that the servers run, then try again",
            ),
            Error::OutcomeUnknown { .. } => {
                (Exit::OutcomeUnknown, "; it may still happen. Read the key before you write it again")
            }
            Error::Incompatible { .. } => (Exit::Usage, "; use kvclient and servers of one version"),
        };
        Self::new(exit, format!("{error}{next}"))
    }
}
