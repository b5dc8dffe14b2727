//! From bytes as they arrive to the words of commands.
//!
//! A command is an array of bulk strings (`*2\r\n$3\r\nGET\r\n$1\r\nk\r\n`) or an inline line (`GET k\r\n`) with blanks
//! between its words and perhaps quotes around them. Words are cut off the input as they are complete, so no byte is
//! looked at twice, and what a length announces is waited for, not allocated.

use bytes::{Buf, Bytes, BytesMut};

use super::super::http_request::is_http_request;

/// Elements of one command, at most.
pub const ELEMENTS_MAX: usize = 1 << 20;

/// Bytes of one command with all its words, at most; each word counts 32 bytes besides its own.
pub const COMMAND_BYTES_MAX: usize = 64 << 20;

/// Bytes of memory that a word takes besides its own.
const WORD_BYTES: usize = 32;

/// Bytes of an inline command or of a line with a length, at most, as in Redis.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Bytes of a bulk string that are always accepted, whatever the limit of values: commands have other arguments too.
const BULK_BYTES_MIN: usize = 64 << 10;

/// Words that stay allocated between commands.
const WORDS_KEPT: usize = 64;

/// Malformed input after which nothing can be understood: an error is sent, and the connection closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The number of elements is not a number, or over [`ELEMENTS_MAX`].
    #[error("Protocol error: invalid multibulk length")]
    ArrayLength,
    /// A string's length is not a number, or over the limit.
    #[error("Protocol error: invalid bulk length")]
    BulkLength,
    /// Something else stands where a string must.
    #[error("Protocol error: expected '$', got '{}'", .0.escape_ascii())]
    NoBulk(u8),
    /// A string is longer than its length says.
    #[error("Protocol error: a bulk string does not end where its length says")]
    BulkEnd,
    /// A line with a number is too long.
    #[error("Protocol error: too big mbulk count string")]
    CountLine,
    /// A line with a length is too long.
    #[error("Protocol error: too big bulk count string")]
    LengthLine,
    /// An inline command is too long.
    #[error("Protocol error: too big inline request")]
    InlineTooLong,
    /// An inline command has a quote without its partner.
    #[error("Protocol error: unbalanced quotes in request")]
    Quotes,
    /// An inline command is the first line of an HTTP request.
    #[error("Protocol error: this port speaks no HTTP")]
    Http,
    /// All words together are over [`COMMAND_BYTES_MAX`].
    #[error("Protocol error: the command has more than {COMMAND_BYTES_MAX} bytes")]
    CommandTooLong,
}

/// Cuts commands off the bytes of one connection.
#[derive(Debug)]
pub struct RespDecoder {
    bulk_bytes_max: usize,
    words: Vec<Bytes>,
    /// Words of the present command that are to come, and the length of the next one once it is known.
    left: usize,
    bulk: Option<usize>,
    /// Bytes of the present command so far.
    bytes: usize,
    /// Bytes of the input that are known to have no line end.
    scanned: usize,
}

impl RespDecoder {
    /// A decoder for a new connection, for values of up to `value_bytes_max` bytes.
    #[must_use]
    pub fn new(value_bytes_max: usize) -> Self {
        let bulk_bytes_max = value_bytes_max.max(BULK_BYTES_MIN);
        Self { bulk_bytes_max, words: Vec::new(), left: 0, bulk: None, bytes: 0, scanned: 0 }
    }

    /// Takes the next command off `input`: true, and its words are in [`Self::words`]; false when more bytes are
    /// needed. Between calls `input` must only grow at its end.
    ///
    /// # Errors
    /// Bytes that are no command; nothing more can be read after them.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<bool, Problem> {
        if self.left == 0 {
            self.begin();
            loop {
                match input.first() {
                    None => return Ok(false),
                    Some(b'*') => {
                        let Some(count) = self.number(input, Problem::CountLine)? else { return Ok(false) };
                        let count = count.ok_or(Problem::ArrayLength)?;
                        if count <= 0 {
                            // Empty commands get no answer.
                            continue;
                        }
                        let count = usize::try_from(count).map_err(|_| Problem::ArrayLength)?;
                        if count > ELEMENTS_MAX {
                            return Err(Problem::ArrayLength);
                        }
                        self.left = count;
                        break;
                    }
                    Some(_) => match self.inline(input)? {
                        Some(false) => {}
                        Some(true) => return Ok(true),
                        None => return Ok(false),
                    },
                }
            }
        }
        while self.left > 0 {
            if !self.word(input)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The words of the command that was decoded last, until the next call of [`Self::decode`].
    #[must_use]
    pub fn words(&self) -> &[Bytes] {
        &self.words
    }

    /// Bytes that are kept of a command that is not whole yet, as [`COMMAND_BYTES_MAX`] counts them.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        if self.left > 0 { self.bytes } else { 0 }
    }

    /// Drops the words of a command that is done: they keep the input's memory alive.
    pub fn release(&mut self) {
        if self.left == 0 {
            self.words.clear();
            self.words.shrink_to(WORDS_KEPT);
        }
    }

    fn begin(&mut self) {
        self.words.clear();
        self.words.shrink_to(WORDS_KEPT);
        self.bytes = 0;
    }

    fn push(&mut self, word: Bytes) -> Result<(), Problem> {
        self.count(word.len())?;
        self.words.push(word);
        Ok(())
    }

    fn count(&mut self, bytes: usize) -> Result<(), Problem> {
        self.bytes += bytes + WORD_BYTES;
        if self.bytes > COMMAND_BYTES_MAX { Err(Problem::CommandTooLong) } else { Ok(()) }
    }

    /// Takes one bulk string; false when it is not there in full.
    fn word(&mut self, input: &mut BytesMut) -> Result<bool, Problem> {
        let len = match self.bulk {
            Some(len) => len,
            None => {
                match input.first() {
                    None => return Ok(false),
                    Some(b'$') => {}
                    Some(&other) => return Err(Problem::NoBulk(other)),
                }
                let Some(len) = self.number(input, Problem::LengthLine)? else { return Ok(false) };
                let len =
                    len.and_then(|len| usize::try_from(len).ok()).filter(|&len| len <= self.bulk_bytes_max);
                let len = len.ok_or(Problem::BulkLength)?;
                if self.bytes + len > COMMAND_BYTES_MAX {
                    return Err(Problem::CommandTooLong);
                }
                self.bulk = Some(len);
                len
            }
        };
        if input.len() < len + 2 {
            return Ok(false);
        }
        if &input[len..len + 2] != b"\r\n" {
            return Err(Problem::BulkEnd);
        }
        let word = input.split_to(len).freeze();
        input.advance(2);
        self.bulk = None;
        self.left -= 1;
        self.push(word)?;
        Ok(true)
    }

    /// Takes a line of one byte and a number: `None` when its end is not there, `Some(None)` when it is no number.
    fn number(&mut self, input: &mut BytesMut, too_long: Problem) -> Result<Option<Option<i64>>, Problem> {
        let end = input[self.scanned..].iter().position(|&byte| byte == b'\r').map(|at| at + self.scanned);
        let Some(end) = end.filter(|end| end + 1 < input.len()) else {
            self.scanned = end.unwrap_or(input.len());
            return if self.scanned > LINE_BYTES_MAX { Err(too_long) } else { Ok(None) };
        };
        self.scanned = 0;
        let is_line = input[end + 1] == b'\n';
        let number = integer(&input[1..end]).filter(|_| is_line);
        input.advance(end + 2);
        Ok(Some(number))
    }

    /// Takes an inline command: whether it has words, `None` when its end is not there.
    fn inline(&mut self, input: &mut BytesMut) -> Result<Option<bool>, Problem> {
        let end = input[self.scanned..].iter().position(|&byte| byte == b'\n').map(|at| at + self.scanned);
        if end.unwrap_or(input.len()) > LINE_BYTES_MAX {
            return Err(Problem::InlineTooLong);
        }
        let Some(end) = end else {
            self.scanned = input.len();
            return Ok(None);
        };
        self.scanned = 0;
        let line = input.split_to(end).freeze();
        input.advance(1);
        // `POST` closes the connection without a word, which the session does.
        let is_post = line.get(..5).is_some_and(|begin| begin.eq_ignore_ascii_case(b"post "));
        if is_http_request(&line) && !is_post {
            return Err(Problem::Http);
        }
        for word in words_of(line.strip_suffix(b"\r").unwrap_or(&line)).ok_or(Problem::Quotes)? {
            self.push(word.into())?;
        }
        Ok(Some(!self.words.is_empty()))
    }
}

/// A decimal number as Redis takes it in a header: digits with perhaps a minus, nothing else.
fn integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    Some(if negative { -value } else { value })
}

/// The words of an inline command: blanks separate them; `"..."` with escapes and `'...'` may contain blanks.
fn words_of(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        let blanks = rest.iter().take_while(|byte| byte.is_ascii_whitespace() || **byte == 0x0b).count();
        rest = &rest[blanks..];
        if rest.is_empty() {
            return Some(words);
        }
        let (word, behind) = match rest {
            [b'"', quoted @ ..] => double_quoted(quoted)?,
            [b'\'', quoted @ ..] => single_quoted(quoted)?,
            _ => plain(rest)?,
        };
        words.push(word);
        rest = behind;
    }
}

type Word<'a> = Option<(Vec<u8>, &'a [u8])>;

/// A word may go on with a quote in its middle.
fn plain(text: &[u8]) -> Word<'_> {
    let end = text.iter().position(|byte| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\''));
    let end = end.unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let quoted = match rest {
        [b'"', quoted @ ..] => double_quoted(quoted)?,
        [b'\'', quoted @ ..] => single_quoted(quoted)?,
        _ => return Some((word.to_vec(), rest)),
    };
    Some(([word, &quoted.0].concat(), quoted.1))
}

/// What follows a closing quote must be a blank or the end.
fn closed(word: Vec<u8>, rest: &[u8]) -> Word<'_> {
    rest.first().is_none_or(u8::is_ascii_whitespace).then_some((word, rest))
}

fn double_quoted(mut text: &[u8]) -> Word<'_> {
    let hex = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut word = Vec::new();
    loop {
        match text {
            [] => return None,
            [b'"', rest @ ..] => return closed(word, rest),
            [b'\\', b'x', high, low, rest @ ..] if hex(*high).is_some() && hex(*low).is_some() => {
                word.push(hex(*high)? * 16 + hex(*low)?);
                text = rest;
            }
            [b'\\', byte, rest @ ..] => {
                word.push(match byte {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                text = rest;
            }
            [byte, rest @ ..] => {
                word.push(*byte);
                text = rest;
            }
        }
    }
}

fn single_quoted(mut text: &[u8]) -> Word<'_> {
    let mut word = Vec::new();
    loop {
        match text {
            [] => return None,
            [b'\'', rest @ ..] => return closed(word, rest),
            [b'\\', b'\'', rest @ ..] => {
                word.push(b'\'');
                text = rest;
            }
            [byte, rest @ ..] => {
                word.push(*byte);
                text = rest;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> (Vec<Vec<String>>, Option<Problem>) {
        let mut decoder = RespDecoder::new(1 << 20);
        let mut input = BytesMut::from(bytes);
        let mut commands = Vec::new();
        loop {
            match decoder.decode(&mut input) {
                Ok(true) => commands
                    .push(decoder.words().iter().map(|word| word.escape_ascii().to_string()).collect()),
                Ok(false) => return (commands, None),
                Err(problem) => return (commands, Some(problem)),
            }
        }
    }

    #[test]
    fn arrays_and_lines_are_commands() {
        let (commands, problem) =
            all(b"*2\r\n$3\r\nGET\r\n$2\r\n\r\n\r\n*0\r\n*-1\r\nPING\r\n\r\n  set \"a b\\x41\\n\" 'c''\r\n");
        assert_eq!(problem, Some(Problem::Quotes));
        assert_eq!(commands, [vec!["GET", "\\r\\n"], vec!["PING"]]);
        let (commands, _) = all(b"set \"a b\\x41\\n\" 'c d' e\n");
        assert_eq!(commands, [["set", "a bA\\n", "c d", "e"]]);
    }

    #[test]
    fn what_is_no_command_says_why() {
        for (bytes, problem) in [
            (&b"*x\r\n"[..], Problem::ArrayLength),
            (b"*1048577\r\n", Problem::ArrayLength),
            (b"*99999999999999999999\r\n", Problem::ArrayLength),
            (b"*1\r\n:1\r\n", Problem::NoBulk(b':')),
            (b"*1\r\n*1\r\n", Problem::NoBulk(b'*')),
            (b"*1\r\n$-1\r\n", Problem::BulkLength),
            (b"*1\r\n$1048577\r\n", Problem::BulkLength),
            (b"*1\r\n$3\r\nGETS\r\n", Problem::BulkEnd),
            (b"get 'k\r\n", Problem::Quotes),
        ] {
            assert_eq!(all(bytes).1, Some(problem), "{}", bytes.escape_ascii());
        }
        let long = [b'1'; LINE_BYTES_MAX + 2];
        assert_eq!(all(&[b"*", &long[..]].concat()).1, Some(Problem::CountLine));
        assert_eq!(all(&long).1, Some(Problem::InlineTooLong));
    }

    #[test]
    fn commands_come_out_whole_however_they_arrive() {
        let bytes = b"*2\r\n$3\r\nGET\r\n$2\r\nk1\r\n\r\nset a 'b c'\r\n*1\r\n$4\r\nPING\r\n";
        let whole = all(bytes).0;
        assert_eq!(whole.len(), 3);
        for size in 1..bytes.len() {
            let mut decoder = RespDecoder::new(1 << 20);
            let (mut input, mut commands) = (BytesMut::new(), Vec::new());
            for part in bytes.chunks(size) {
                input.extend_from_slice(part);
                while decoder.decode(&mut input).unwrap() {
                    let words = decoder.words().iter().map(|word| word.escape_ascii().to_string());
                    commands.push(words.collect::<Vec<_>>());
                }
                decoder.release();
            }
            assert_eq!(commands, whole, "in parts of {size} bytes");
        }
    }

    #[test]
    fn announced_bytes_are_not_allocated() {
        let mut decoder = RespDecoder::new(8 << 20);
        let mut input = BytesMut::from(&b"*1048576\r\n$8388608\r\n"[..]);
        assert_eq!(decoder.decode(&mut input), Ok(false));
        assert!(input.capacity() <= 64, "{}", input.capacity());
        assert!(decoder.words.capacity() <= WORDS_KEPT);
    }

    #[test]
    fn what_is_kept_of_an_unfinished_command_is_known() {
        let mut decoder = RespDecoder::new(1 << 20);
        let mut input = BytesMut::from(&b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nval"[..]);
        assert_eq!(decoder.decode(&mut input), Ok(false));
        assert_eq!((decoder.kept_bytes(), &input[..]), (2 * WORD_BYTES + 4, &b"val"[..]));
        input.extend_from_slice(b"ue\r\n");
        assert_eq!(decoder.decode(&mut input), Ok(true));
        assert_eq!(decoder.kept_bytes(), 0);
    }

    #[test]
    fn a_command_of_many_words_has_an_end() {
        let words = COMMAND_BYTES_MAX / (WORD_BYTES + (1 << 20)) + 1;
        let mut decoder = RespDecoder::new(1 << 20);
        let mut input = BytesMut::from(&b"*1000\r\n"[..]);
        let word = [b"$1048576\r\n", &vec![b'x'; 1 << 20][..], b"\r\n"].concat();
        for at in 0..words {
            input.extend_from_slice(&word);
            let decoded = decoder.decode(&mut input);
            assert_eq!(decoded.is_err(), at + 1 == words, "word {at}: {decoded:?}");
        }
    }
}
