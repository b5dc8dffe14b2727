//! Bytes of strangers on a terminal or in a log: the one place that decides which of them are shown as they are.
//!
//! Keys, values, addresses and words of other programs may hold anything. A terminal obeys escape sequences, which
//! begin with ESC or with a C1 control (U+0080 to U+009F, as one character of UTF-8 as well); characters that change
//! the direction of text show another order than there is ("Trojan Source", CVE-2021-42574); a newline begins what
//! looks like a line of the program's own. What is harmful is shown as `\n`, `\t`, `\xNN` or `\u{NNNN}`, everything
//! else as it is.

use std::fmt::{self, Display, Write as _};
use std::io;

/// A character that a terminal shows, and does nothing else with. Newline and tab are not harmless.
#[must_use]
pub fn is_harmless(letter: char) -> bool {
    let hidden = matches!(
        letter,
        '\u{61c}'
            | '\u{200b}'
            | '\u{200e}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    );
    !letter.is_control() && !hidden
}

/// Bytes in one line: what is harmful, and what is no UTF-8, escaped. Not to be read back: a backslash stays one.
#[must_use]
pub fn one_line(bytes: &[u8]) -> impl Display {
    Shown { bytes, lines: false }
}

/// Text of several lines: newlines and tabs stay.
#[must_use]
pub fn lines(bytes: &[u8]) -> impl Display {
    Shown { bytes, lines: true }
}

struct Shown<'a> {
    bytes: &'a [u8],
    lines: bool,
}

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.bytes.utf8_chunks() {
            for letter in chunk.valid().chars() {
                match letter {
                    '\n' | '\t' if self.lines => f.write_char(letter)?,
                    '\n' => f.write_str("\\n")?,
                    '\t' => f.write_str("\\t")?,
                    '\r' => f.write_str("\\r")?,
                    _ if is_harmless(letter) => f.write_char(letter)?,
                    _ if letter.is_ascii() => write!(f, "\\x{:02x}", u32::from(letter))?,
                    _ => write!(f, "\\u{{{:x}}}", u32::from(letter))?,
                }
            }
            chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
        }
        Ok(())
    }
}

/// JSON with what is harmful written `\uNNNN`, which is the same JSON: it can only stand in strings.
#[must_use]
pub fn json(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter == '\n' || is_harmless(letter) {
            shown.push(letter);
        } else {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                let _infallible = write!(shown, "\\u{unit:04x}");
            }
        }
    }
    shown
}

/// A writer to a terminal that passes nothing harmful on: what is written is escaped as by [`lines`], but for the
/// colours that programs give their own words (`ESC [`, digits and semicolons, `m`). Words of strangers are to be
/// escaped before, since they could carry colours as well.
///
/// Each write is escaped by itself, so a character must not be split between two writes.
#[derive(Debug)]
pub struct Terminal<W>(W);

impl<W: io::Write> Terminal<W> {
    /// Guards a terminal.
    pub fn new(terminal: W) -> Self {
        Self(terminal)
    }
}

impl<W: io::Write> io::Write for Terminal<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while let Some(start) = rest.windows(2).position(|two| two == b"\x1b[") {
            let end = rest[start + 2..].iter().position(|byte| !byte.is_ascii_digit() && *byte != b';');
            let colour = end.map(|end| start + 2 + end).filter(|&end| rest[end] == b'm');
            // What is no colour is shown with what comes before it, its ESC escaped.
            let (shown, next) = colour.map_or((start + 2, start + 2), |end| (start, end + 1));
            write!(self.0, "{}", lines(&rest[..shown]))?;
            self.0.write_all(&rest[shown..next])?;
            rest = &rest[next..];
        }
        write!(self.0, "{}", lines(rest))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const HARMFUL: &str = "\u{1b}]0;x\u{7}\u{9b}31m\u{202e}\u{2066}\u{feff}\u{e0041}\u{7f}";

    #[test]
    fn nothing_harmful_is_shown() {
        assert_eq!(one_line("k\u{e4}y \u{1f980} \\".as_bytes()).to_string(), "k\u{e4}y \u{1f980} \\");
        assert_eq!(one_line(b"a\nb\r\tc\xff").to_string(), r"a\nb\r\tc\xff");
        assert_eq!(lines(b"a\nb\r\tc").to_string(), "a\nb\\r\tc");
        assert_eq!(
            one_line(HARMFUL.as_bytes()).to_string(),
            r"\x1b]0;x\x07\u{9b}31m\u{202e}\u{2066}\u{feff}\u{e0041}\x7f"
        );
        // A C1 control as a byte of its own is no UTF-8.
        assert_eq!(one_line(b"\x9b31m").to_string(), r"\x9b31m");
    }

    #[test]
    fn json_stays_the_same() {
        let value = serde_json::json!({ HARMFUL: [HARMFUL, "a\nb", "\u{e4}"] });
        for text in [value.to_string(), format!("{value:#}")] {
            let shown = json(&text);
            assert!(shown.chars().all(|letter| letter == '\n' || is_harmless(letter)), "{shown}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        }
    }

    #[test]
    fn a_terminal_gets_colours_and_text() {
        let shown = |text: &[u8]| {
            let mut out = Vec::new();
            Terminal::new(&mut out).write_all(text).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(shown(b"\x1b[1;31mred\x1b[0m\n\tnext"), "\x1b[1;31mred\x1b[0m\n\tnext");
        assert_eq!(shown(b"\x1b[2J\x1b[31m"), "\\x1b[2J\x1b[31m");
        assert_eq!(shown(b"\x1b[\x1b[0m\x1b["), "\\x1b[\x1b[0m\\x1b[");
        assert_eq!(shown(b"a\x1b"), "a\\x1b");
        assert_eq!(shown(HARMFUL.as_bytes()), one_line(HARMFUL.as_bytes()).to_string());
    }
}
