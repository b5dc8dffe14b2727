//! Failures of commands: a code for programs, a sentence for people.

use std::fmt;
use std::io;
use std::ops::Range;
use std::process::ExitCode;

use common::shown::lines;

use crate::frame::style::{self, Ink, Paint};
use kvclient::Error;

/// The exit of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The command was carried out.
    Done,
    /// There is no such value.
    NotFound,
    /// The cluster is not healthy.
    NotHealthy,
    /// The command is wrong, or was refused.
    Usage,
    /// A condition was not met; nothing was changed.
    CompareFailed,
    /// No server could answer; nothing was changed.
    Unavailable,
    /// Whether it was done is not known.
    OutcomeUnknown,
    /// Stopped by the user.
    Interrupted,
}

impl Exit {
    /// The exit code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::NotFound | Self::NotHealthy => 1,
            Self::Usage => 2,
            Self::CompareFailed => 3,
            Self::Unavailable => 4,
            Self::OutcomeUnknown => 5,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// A command that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// What happened, why, and what to do next. Empty when it is not to be printed.
    pub(crate) message: String,
    /// The bytes of the line that are meant, if some are.
    pub(crate) at: Option<Range<usize>>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), at: None }
    }

    /// Marks the bytes of the line that are wrong.
    pub(crate) fn at(mut self, at: Range<usize>) -> Self {
        self.at = Some(at);
        self
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The output cannot be written. Silent when the reader has closed the pipe.
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
        // Servers' words are in it, so it is escaped.
        lines(self.message.as_bytes()).fmt(f)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (exit, next) = match &error {
            Error::Unavailable { .. } => (
                Exit::Unavailable,
                "; nothing was changed. Check -s HOST:PORT and that the servers run, then try again",
            ),
            Error::OutcomeUnknown { .. } => {
                (Exit::OutcomeUnknown, "; it may still happen. Read the key before you write it again")
            }
            Error::Incompatible { .. } => (Exit::Usage, "; use kvclient and servers of one version"),
            _ => (Exit::Usage, ""),
        };
        Self::new(exit, format!("{error}{next}"))
    }
}

/// The message, and under it the word of the line that is wrong. Empty if the failure is not to be printed.
pub(crate) fn complaint(line: &[u8], failure: &Failure, paint: Paint) -> String {
    if failure.message.is_empty() {
        return String::new();
    }
    let shown = match &failure.at {
        Some(at) if !line.is_empty() => style::underlined(line, at, paint),
        _ => String::new(),
    };
    format!("{} {failure}\n{shown}", paint.ink(Ink::Bad, "kvclient:"))
}
