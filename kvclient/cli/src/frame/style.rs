//! Colours, and the line under a word that is wrong.

use std::fmt::Display;
use std::io::{IsTerminal, stderr, stdout};
use std::ops::Range;

use anstyle::{AnsiColor, Style};
use common::shown::is_harmless;
use unicode_width::UnicodeWidthStr;

/// Columns of a line that are shown around what is wrong in it.
const EXCERPT_COLUMNS: usize = 60;

/// The meaning of a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ink {
    /// Success.
    Good,
    /// A person should look.
    Warning,
    /// A failure.
    Bad,
    /// Less important than the text beside it.
    Faint,
}

impl Ink {
    fn style(self) -> Style {
        match self {
            Self::Good => AnsiColor::Green.on_default(),
            Self::Warning => AnsiColor::Yellow.on_default().bold(),
            Self::Bad => AnsiColor::Red.on_default().bold(),
            Self::Faint => Style::new().dimmed(),
        }
    }
}

/// Whether a stream shows colours: it is a terminal, and `NO_COLOR` is not set (<https://no-color.org>).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Paint(bool);

impl Paint {
    pub(crate) fn for_output() -> Self {
        Self(wanted(stdout().is_terminal()))
    }

    pub(crate) fn for_errors() -> Self {
        Self(wanted(stderr().is_terminal()))
    }

    /// The text in a colour, or as it is.
    pub(crate) fn ink(self, ink: Ink, text: impl Display) -> String {
        let style = ink.style();
        if self.0 { format!("{style}{text}{style:#}") } else { text.to_string() }
    }
}

fn wanted(terminal: bool) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    terminal && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Text as a terminal shows it in one line: what is harmful becomes a blank.
fn printable(text: &[u8]) -> String {
    let shown = |letter| if is_harmless(letter) { letter } else { ' ' };
    String::from_utf8_lossy(text).chars().map(shown).collect()
}

/// The columns that some bytes of a line take: how many come before, and how many they are (one at least).
pub(crate) fn columns(text: &[u8], at: &Range<usize>) -> (usize, usize) {
    let start = at.start.min(text.len());
    let end = at.end.clamp(start, text.len());
    // What is missing stands behind the end.
    let beyond = at.start - start;
    let width = |bytes: &[u8]| printable(bytes).width();
    (width(&text[..start]) + beyond, width(&text[start..end]).max(1))
}

/// The line, or an excerpt around the bytes, and under it a mark for each of their columns.
pub(crate) fn underlined(text: &[u8], at: &Range<usize>, paint: Paint) -> String {
    let (before, len) = columns(text, at);
    let shown = printable(text);
    let shown = shown.trim_end();
    let skip = if before + len > EXCERPT_COLUMNS { before.saturating_sub(EXCERPT_COLUMNS / 3) } else { 0 };
    let (mut excerpt, mut column) = (String::new(), 0);
    for letter in shown.chars() {
        if column >= skip && column < skip + EXCERPT_COLUMNS {
            excerpt.push(letter);
        }
        column += letter.to_string().width();
    }
    let (begin, end) =
        (if skip > 0 { "..." } else { "" }, if column > skip + EXCERPT_COLUMNS { "..." } else { "" });
    let marks = paint.ink(Ink::Bad, "^".repeat(len.min(EXCERPT_COLUMNS)));
    let indent = " ".repeat(begin.len() + before - skip);
    format!("  {begin}{excerpt}{end}\n  {indent}{marks}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_stand_under_their_word() {
        let shown = |text: &str, at| underlined(text.as_bytes(), &at, Paint(false));
        assert_eq!(shown("get k x\n", 6..7), "  get k x\n        ^\n");
        assert_eq!(shown("get", 4..5), "  get\n      ^\n");
        assert_eq!(shown("put \u{5b57} v x", 8..9), "  put \u{5b57} v x\n         ^\n");
        assert_eq!(shown("a\tb c", 4..5), "  a b c\n      ^\n");
    }

    #[test]
    fn of_a_long_line_what_is_near_is_shown() {
        let text = format!("{}WRONG{}", "a".repeat(100), "b".repeat(100));
        let shown = underlined(text.as_bytes(), &(100..105), Paint(false));
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[0].starts_with("  ...aaa") && lines[0].ends_with("bbb..."), "{shown}");
        let at = lines[0].find("WRONG").unwrap();
        assert_eq!(lines[1], format!("{}^^^^^", " ".repeat(at)));
    }

    #[test]
    fn only_what_shows_colours_gets_them() {
        assert_eq!(Paint(false).ink(Ink::Bad, "x"), "x");
        let red = Paint(true).ink(Ink::Bad, "x");
        assert!(red.starts_with("\u{1b}[") && red.ends_with("\u{1b}[0m"), "{red:?}");
        assert!(!wanted(false));
    }
}
