//! From bytes as they arrive to lines.
//!
//! States: *reading* a line whose first bytes are known to have no line end; *skipping* the rest of a line
//! that is too long; *ended*, when nothing more is to be read.

use std::ops::ControlFlow::{self, Break, Continue};

use bytes::{Buf, BytesMut};
use common::limits::KEY_BYTES_MAX;

use super::parse::{dialect_of_beginning, parse};
use super::problem::{TextProblem, Wrong};
use super::scan::{find_end, is_end};
use super::types::{Dialect, TextCommand, TextRequest};

/// Bytes of a line besides its key and value, at most: the verb and some blanks.
const LINE_OVERHEAD_BYTES: usize = 64;

/// Bytes of a line that are skipped beyond its limit, at most. A client that sends a file by mistake keeps its
/// connection; one that never ends a line loses it.
pub const SKIPPED_BYTES_MAX: usize = 64 << 20;

/// Bytes of the longest line, without its end, for values of up to `value_bytes_max` bytes.
#[must_use]
pub const fn line_bytes_max(value_bytes_max: usize) -> usize {
    value_bytes_max + KEY_BYTES_MAX + LINE_OVERHEAD_BYTES
}

/// Cuts requests off the bytes of one connection.
#[derive(Debug)]
pub struct TextDecoder {
    line_bytes_max: usize,
    value_bytes_max: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The first `scanned` bytes of the input have no line end.
    Reading { scanned: usize },
    /// Of a line that is too long, `skipped` bytes beyond the limit were dropped.
    Skipping { dialect: Dialect, skipped: usize },
    /// The client has quit, or there was a problem that closes the connection.
    Ended,
}

/// To be returned, or to go on with the state that was set.
type Step = ControlFlow<Option<Result<TextCommand, TextProblem>>>;

impl TextDecoder {
    /// A decoder for a new connection. [`line_bytes_max`] computes the limit of a line from that of a value.
    #[must_use]
    pub fn new(line_bytes_max: usize, value_bytes_max: usize) -> Self {
        Self { line_bytes_max, value_bytes_max, state: State::Reading { scanned: 0 } }
    }

    /// Takes the next request off `input`. Call it until it returns `None`, append what the next read brings,
    /// and begin again; between the calls `input` must only grow at its end.
    ///
    /// After `None` there are at most `line_bytes_max` bytes left in `input`. Keys and values share the memory of
    /// `input`: a caller that keeps one for long should copy it.
    ///
    /// # Errors
    /// A line that is no request. The next call goes on after it, unless [`TextProblem::closes`]: then, and after
    /// `QUIT`, nothing more is read.
    pub fn decode(&mut self, input: &mut BytesMut) -> Option<Result<TextCommand, TextProblem>> {
        loop {
            let step = match self.state {
                State::Reading { scanned } => self.read(input, scanned),
                State::Skipping { dialect, skipped } => self.skip(input, dialect, skipped),
                State::Ended => {
                    input.clear();
                    Break(None)
                }
            };
            if let Break(found) = step {
                let last = match &found {
                    Some(Ok(command)) => command.request == TextRequest::Quit,
                    Some(Err(problem)) => problem.closes(),
                    None => false,
                };
                if last {
                    self.state = State::Ended;
                }
                return found;
            }
        }
    }

    /// Takes one line, if its end is there.
    fn read(&mut self, input: &mut BytesMut, scanned: usize) -> Step {
        if scanned == 0 {
            // Line ends of empty lines, and the second byte of a line end of two bytes.
            let ends = input.iter().take_while(|&&byte| is_end(byte)).count();
            input.advance(ends);
        }
        let end = find_end(&input[scanned..]).map(|at| scanned + at);
        if end.unwrap_or(input.len()) > self.line_bytes_max {
            return Break(Some(Err(self.too_long(input))));
        }
        let Some(end) = end else {
            self.state = State::Reading { scanned: input.len() };
            return Break(None);
        };
        self.state = State::Reading { scanned: 0 };
        let line = input.split_to(end).freeze();
        match parse(&line, self.value_bytes_max) {
            Some(found) => Break(Some(found)),
            None => Continue(()),
        }
    }

    /// Drops the part of a line that is within the limit: the same bytes, wherever a read has ended.
    fn too_long(&mut self, input: &mut BytesMut) -> TextProblem {
        let dialect = dialect_of_beginning(&input[..self.line_bytes_max]);
        input.advance(self.line_bytes_max);
        self.state = State::Skipping { dialect, skipped: 0 };
        let (line_bytes_max, value_bytes_max) = (self.line_bytes_max, self.value_bytes_max);
        TextProblem { dialect, wrong: Wrong::LineTooLong { line_bytes_max, value_bytes_max } }
    }

    /// Drops the rest of a line that is too long.
    fn skip(&mut self, input: &mut BytesMut, dialect: Dialect, skipped: usize) -> Step {
        let end = find_end(input);
        let skipped = skipped + end.unwrap_or(input.len());
        if skipped > SKIPPED_BYTES_MAX {
            return Break(Some(Err(TextProblem { dialect, wrong: Wrong::Endless })));
        }
        match end {
            Some(end) => {
                input.advance(end);
                self.state = State::Reading { scanned: 0 };
                Continue(())
            }
            None => {
                input.clear();
                self.state = State::Skipping { dialect, skipped };
                Break(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_byte_is_searched_twice() {
        let mut decoder = TextDecoder::new(100, 100);
        let mut input = BytesMut::from(&b"put k long"[..]);
        assert_eq!(decoder.decode(&mut input), None);
        // An end before the position up to which was searched is not looked for again.
        input[3] = b'\n';
        assert_eq!(decoder.decode(&mut input), None);
        input.extend_from_slice(b"\n");
        assert!(decoder.decode(&mut input).is_some());
    }

    #[test]
    fn a_value_is_a_slice_of_the_input() {
        let mut decoder = TextDecoder::new(100, 100);
        let mut input = BytesMut::from(&b"put k value\r\n"[..]);
        let start = input.as_ptr().addr();
        let Some(Ok(TextCommand { request: TextRequest::Put { key, value }, .. })) =
            decoder.decode(&mut input)
        else {
            panic!("a put");
        };
        assert_eq!((key.as_ptr().addr() - start, value.as_ptr().addr() - start), (4, 6));
    }

    #[test]
    fn a_line_without_end_closes_the_connection() {
        let mut decoder = TextDecoder::new(100, 100);
        let mut input = BytesMut::from(&[b'x'; 101][..]);
        let problem = decoder.decode(&mut input).unwrap().unwrap_err();
        assert!(!problem.closes());
        let mut skipped = 1;
        let closing = loop {
            match decoder.decode(&mut input) {
                Some(found) => break found.unwrap_err(),
                None => assert!(input.is_empty()),
            }
            input.resize(1 << 20, b'x');
            skipped += input.len();
        };
        assert!(closing.closes() && skipped > SKIPPED_BYTES_MAX);
        let mut out = Vec::new();
        closing.encode(&mut out);
        assert!(out.is_empty(), "the line was answered when it became too long");
        input.clear();
        input.extend_from_slice(b"\nget k\n");
        assert_eq!(decoder.decode(&mut input), None);
        assert!(input.is_empty());
    }
}
