//! Splitting a line of the shell into words.
//!
//! Blanks part words. A word that begins with `"` ends at the next `"`, and inside it `\n \r \t \0 \\ \" \'` and
//! `\xNN` stand for bytes, so that any bytes can be typed. A word that begins with `'` ends at the next `'` and is
//! taken as it is. In other words quotes and backslashes are bytes like all others.

use std::ffi::OsString;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;

/// A word, and where it stands in its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) bytes: Vec<u8>,
    /// Without quotes: it may be an option.
    pub(super) plain: bool,
    span: Range<usize>,
}

impl Word {
    /// It is this text, without quotes.
    pub(super) fn is(&self, text: &str) -> bool {
        self.plain && self.bytes == text.as_bytes()
    }

    /// As text, for messages and numbers.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// A line that cannot be split.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadLine {
    #[error("column {0}: the quote is not closed")]
    Open(usize),
    #[error("column {0}: a blank is expected behind the closing quote")]
    Glued(usize),
    #[error(r#"column {0}: unknown escape; in "..." write \n \r \t \0 \\ \" \' or \xNN with two hex digits"#)]
    Escape(usize),
}

/// A line and its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    text: Vec<u8>,
    pub(super) words: Vec<Word>,
}

impl Line {
    /// Splits a line of the shell.
    pub(super) fn split(text: &[u8]) -> Result<Self, BadLine> {
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

    /// Words that a process was started with: what quotes were there, its parent has taken away.
    pub(super) fn from_args(args: &[OsString]) -> Self {
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
    pub(super) fn joined(&self, words: &[Word]) -> Option<Vec<u8>> {
        match words {
            [word] => Some(word.bytes.clone()),
            [first, .., last] if words.iter().all(|word| word.plain) => {
                Some(self.text[first.span.start..last.span.end].to_vec())
            }
            _ => None,
        }
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

/// What stands behind a backslash: its byte, and how much of the text it takes.
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
        fn no_line_is_too_strange(text in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Line::split(&text);
        }
    }
}
