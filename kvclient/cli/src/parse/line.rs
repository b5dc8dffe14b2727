//! Splitting a line of the shell into words.
//!
//! Blanks separate words. A word that begins with `"` ends at the next `"`, and inside it `\n \r \t \0 \\ \" \'` and
//! `\xNN` stand for bytes, so that any bytes can be typed. A word that begins with `'` ends at the next `'` and is
//! taken as it is. In other words quotes and backslashes are bytes like all others.

use common::shown::is_harmless;

use crate::frame::failure::Failure;
use std::ffi::OsString;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;

/// A word, and where it stands in its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) bytes: Vec<u8>,
    /// It was typed without quotes, so it may be an option.
    pub(crate) plain: bool,
    /// The range of its bytes in the line, quotes included.
    pub(crate) span: Range<usize>,
}

impl Word {
    /// Whether it is this text, without quotes.
    pub(crate) fn is(&self, text: &str) -> bool {
        self.plain && self.bytes == text.as_bytes()
    }

    /// The word as text, for messages and numbers.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// A line that cannot be split.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadLine {
    #[error("column {0}: the quote is not closed")]
    Open(usize),
    #[error("column {0}: a blank is expected behind the closing quote")]
    Glued(usize),
    #[error(r#"column {0}: unknown escape; in "..." write \n \r \t \0 \\ \" \' or \xNN with two hex digits"#)]
    Escape(usize),
}

impl BadLine {
    /// The failure of the command on the line; it marks the byte where the line is wrong.
    pub(crate) fn failure(&self) -> Failure {
        let (Self::Open(column) | Self::Glued(column) | Self::Escape(column)) = self;
        Failure::usage(self.to_string()).at(column - 1..*column)
    }
}

/// A line and its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) text: Vec<u8>,
    pub(crate) words: Vec<Word>,
}

/// A line that is being typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Begun {
    /// The words that are complete.
    pub(crate) words: Vec<Word>,
    /// The one at the end, without bytes behind a blank; its quote may be open.
    pub(crate) last: Word,
}

impl Line {
    /// Splits a line of the shell.
    pub(crate) fn split(text: &[u8]) -> Result<Self, BadLine> {
        let mut words = Vec::new();
        let mut at = 0;
        while let Some(skipped) = text[at..].iter().position(|byte| !is_blank(*byte)) {
            at += skipped;
            let (bytes, end) = match text[at] {
                b'"' => escaped(text, at)?,
                b'\'' => literal(text, at)?,
                _ => plain(text, at),
            };
            words.push(Word { bytes, plain: !matches!(text[at], b'"' | b'\''), span: at..end });
            at = end;
        }
        Ok(Self { text: text.to_vec(), words })
    }

    /// Splits what is typed so far; `None` when a word of it can only become an error.
    pub(crate) fn begun(text: &[u8]) -> Option<Begun> {
        let mut words = match Self::split(text) {
            Ok(line) => line.words,
            Err(BadLine::Open(column)) => {
                let start = column - 1;
                let quote = text[start];
                let closed = Self::split(&[&text[start..], &[quote]].concat()).ok()?;
                let mut words = Self::split(&text[..start]).ok()?.words;
                let [last] = <[Word; 1]>::try_from(closed.words).ok()?;
                words.push(Word { span: start..text.len(), ..last });
                words
            }
            Err(_) => return None,
        };
        match words.pop() {
            Some(last) if last.span.end == text.len() => Some(Begun { words, last }),
            before => {
                words.extend(before);
                let last = Word { bytes: Vec::new(), plain: true, span: text.len()..text.len() };
                Some(Begun { words, last })
            }
        }
    }

    /// Words that a process was started with, whose quotes the calling shell has removed.
    pub(crate) fn from_args(args: &[OsString]) -> Self {
        let (mut text, mut words) = (Vec::new(), Vec::new());
        for arg in args {
            if !text.is_empty() {
                text.push(b' ');
            }
            let start = text.len();
            text.extend_from_slice(arg.as_bytes());
            words.push(Word { bytes: arg.as_bytes().to_vec(), plain: true, span: start..text.len() });
        }
        Self { text, words }
    }

    /// The rest of the line from the first of `words` to the last, as it was typed; `None` when there are quotes
    /// in it and more than one word.
    pub(crate) fn joined(&self, words: &[Word]) -> Option<Vec<u8>> {
        match words {
            [word] => Some(word.bytes.clone()),
            [first, .., last] if words.iter().all(|word| word.plain) => {
                Some(self.text[first.span.start..last.span.end].to_vec())
            }
            _ => None,
        }
    }
}

/// Bytes as a word of the shell: as they are where that is the same word, else in quotes.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    let plain = |letter: char| is_harmless(letter) && !letter.is_whitespace();
    if let Ok(text) = std::str::from_utf8(bytes)
        && !text.starts_with(['"', '\'', '-', '#'])
        && !text.is_empty()
        && text.chars().all(plain)
    {
        return text.to_owned();
    }
    let mut quoted = "\"".to_owned();
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\n' => quoted.push_str("\\n"),
                '\r' => quoted.push_str("\\r"),
                '\t' => quoted.push_str("\\t"),
                '"' | '\\' => quoted.extend(['\\', letter]),
                letter if letter == ' ' || plain(letter) => quoted.push(letter),
                letter => push_hex(&mut quoted, letter.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        push_hex(&mut quoted, chunk.invalid());
    }
    quoted.push('"');
    quoted
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        text.push_str(&format!("\\x{byte:02x}"));
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn plain(text: &[u8], start: usize) -> (Vec<u8>, usize) {
    let len = text[start..].iter().position(|byte| is_blank(*byte)).unwrap_or(text.len() - start);
    (text[start..start + len].to_vec(), start + len)
}

fn literal(text: &[u8], start: usize) -> Result<(Vec<u8>, usize), BadLine> {
    let inner = start + 1;
    let len = text[inner..].iter().position(|byte| *byte == b'\'').ok_or(BadLine::Open(inner))?;
    Ok((text[inner..inner + len].to_vec(), closed(text, inner + len + 1)?))
}

fn escaped(text: &[u8], start: usize) -> Result<(Vec<u8>, usize), BadLine> {
    let mut bytes = Vec::new();
    let mut at = start + 1;
    loop {
        match *text.get(at).ok_or(BadLine::Open(start + 1))? {
            b'"' => return Ok((bytes, closed(text, at + 1)?)),
            b'\\' => {
                let (byte, len) = escape(&text[at + 1..]).ok_or(BadLine::Escape(at + 1))?;
                bytes.push(byte);
                at += 1 + len;
            }
            byte => {
                bytes.push(byte);
                at += 1;
            }
        }
    }
}

/// Reads what follows a backslash: the byte that it stands for, and how much of the text it takes.
fn escape(text: &[u8]) -> Option<(u8, usize)> {
    Some(match text.first()? {
        b'n' => (b'\n', 1),
        b'r' => (b'\r', 1),
        b't' => (b'\t', 1),
        b'0' => (0, 1),
        quoted @ (b'\\' | b'"' | b'\'') => (*quoted, 1),
        b'x' => {
            let digit = |at: usize| char::from(*text.get(at)?).to_digit(16);
            (u8::try_from(digit(1)? * 16 + digit(2)?).ok()?, 3)
        }
        _ => return None,
    })
}

fn closed(text: &[u8], at: usize) -> Result<usize, BadLine> {
    match text.get(at) {
        Some(byte) if !is_blank(*byte) => Err(BadLine::Glued(at + 1)),
        _ => Ok(at),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &str) -> Vec<Vec<u8>> {
        Line::split(text.as_bytes()).unwrap().words.into_iter().map(|word| word.bytes).collect()
    }

    #[test]
    fn blanks_part_words_and_quotes_keep_them() {
        assert_eq!(words("  put  k\tv \r\n"), [b"put".to_vec(), b"k".to_vec(), b"v".to_vec()]);
        assert_eq!(
            words(r#"put "a b" 'c "d"' it's"#)[1..],
            [b"a b".to_vec(), b"c \"d\"".to_vec(), b"it's".to_vec()]
        );
        assert_eq!(
            words(r#""\x00\xfF\n\t\\\"" "" a\n"#),
            [b"\0\xff\n\t\\\"".to_vec(), Vec::new(), b"a\\n".to_vec()]
        );
        assert!(words("").is_empty());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_column() {
        let split = |text: &str| Line::split(text.as_bytes()).unwrap_err();
        assert_eq!(split("put \"k"), BadLine::Open(5));
        assert_eq!(split("put 'k"), BadLine::Open(5));
        assert_eq!(split("\"a\"b"), BadLine::Glued(4));
        for text in [r#""\q""#, r#""\x1""#, r#""\xg0""#] {
            assert_eq!(split(text), BadLine::Escape(2), "{text}");
        }
    }

    #[test]
    fn a_line_that_is_being_typed_has_a_last_word() {
        let begun = |text: &str| {
            let begun = Line::begun(text.as_bytes()).unwrap();
            (begun.words.len(), String::from_utf8(begun.last.bytes).unwrap(), begun.last.span.start)
        };
        assert_eq!(begun(""), (0, String::new(), 0));
        assert_eq!(begun("ge"), (0, "ge".to_owned(), 0));
        assert_eq!(begun("get "), (1, String::new(), 4));
        assert_eq!(begun("get ab"), (1, "ab".to_owned(), 4));
        assert_eq!(begun("get \"a b"), (1, "a b".to_owned(), 4));
        assert_eq!(begun("get 'a b"), (1, "a b".to_owned(), 4));
        assert_eq!(begun(r#"get "a\x20"#), (1, "a ".to_owned(), 4));
        assert_eq!(Line::begun(br#"get "a\"#), None);
        assert_eq!(Line::begun(b"get \"a\"b "), None);
    }

    #[test]
    fn words_are_quoted_only_where_they_must() {
        let cases: [(&[u8], &str); 7] = [
            (b"user:1", "user:1"),
            ("b\u{e4}r".as_bytes(), "b\u{e4}r"),
            (b"it's", "it's"),
            (b"a b", "\"a b\""),
            (b"--ttl", "\"--ttl\""),
            (b"\xff\0\n", r#""\xff\x00\n""#),
            (b"", "\"\""),
        ];
        for (bytes, shown) in cases {
            assert_eq!(quoted(bytes), shown);
        }
    }

    #[test]
    fn the_rest_of_a_line_keeps_its_inner_blanks() {
        let line = Line::split(b"put k hello   my  world  ").unwrap();
        assert_eq!(line.joined(&line.words[2..]).unwrap(), b"hello   my  world");
        let quoted = Line::split(b"put k 'hello my' world").unwrap();
        assert_eq!(quoted.joined(&quoted.words[2..]), None);
        let args = Line::from_args(&["put", "k", "a b", "c"].map(OsString::from));
        assert_eq!(args.joined(&args.words[2..]).unwrap(), b"a b c");
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_typed(words in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..5)) {
            let quote = |word: &Vec<u8>| {
                let hex: String = word.iter().map(|byte| format!("\\x{byte:02x}")).collect();
                format!("\"{hex}\"")
            };
            let text = words.iter().map(quote).collect::<Vec<_>>().join(" ");
            let line = Line::split(text.as_bytes()).unwrap();
            prop_assert_eq!(line.words.into_iter().map(|word| word.bytes).collect::<Vec<_>>(), words);
        }

        #[test]
        fn what_is_quoted_is_one_word_again(bytes in prop::collection::vec(any::<u8>(), 0..20), text in ".{0,20}") {
            for bytes in [bytes, text.into_bytes()] {
                let quoted = quoted(&bytes);
                prop_assert!(!quoted.chars().any(char::is_control), "{quoted:?}");
                let line = Line::split(quoted.as_bytes()).unwrap();
                prop_assert_eq!(line.words.into_iter().map(|word| word.bytes).collect::<Vec<_>>(), [bytes]);
            }
        }

        #[test]
        fn any_bytes_can_be_split(text in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Line::split(&text);
            if let Some(begun) = Line::begun(&text) {
                prop_assert_eq!(begun.last.span.end, text.len());
            }
        }
    }
}
