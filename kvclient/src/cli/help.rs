//! The list of commands, and the explanation of one.

use std::fmt::Write as _;

use super::table::{Entry, TABLE};

/// One line for each command.
pub(super) fn overview() -> String {
    let mut text = "Commands, in the shell or as arguments:\n".to_owned();
    for entry in TABLE {
        let _ = writeln!(text, "  {:<14} {}", entry.names.join(", "), entry.what);
    }
    text.push_str("\n`help COMMAND` tells more. In the shell, \"...\" knows \\n \\t \\\\ \\\" \\xNN and '...' is verbatim.\n");
    text.push_str("Exit codes: 0 done, 1 not found, 2 usage or refused, 3 compare failed, 4 no server, 5 outcome unknown.");
    text
}

/// What a command does.
pub(super) fn explain(entry: &Entry) -> String {
    let mut text = format!("{} {}\n  {}\n", entry.names[0], entry.words, capitalized(entry.what));
    if !entry.more.is_empty() {
        let _ = writeln!(text, "  {}", entry.more);
    }
    if entry.names.len() > 1 {
        let _ = writeln!(text, "  Also: {}", entry.names[1..].join(", "));
    }
    text
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).chain(['.']).collect()
}
