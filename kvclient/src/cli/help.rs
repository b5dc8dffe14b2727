//! The list of commands, and the explanation of one.

use std::fmt::Write as _;

use super::table::{Entry, TABLE};

/// One line for each command, behind the list of those that the process knows by itself.
pub(super) fn for_process() -> String {
    let mut text = "Commands of the shell, also as arguments:\n".to_owned();
    list(&mut text, |entry| !entry.is_program());
    text.push_str("\n`kvclient help COMMAND` tells more.\n");
    text.push_str("Exit codes: 0 done, 1 not found, 2 usage or refused, 3 compare failed, 4 no server, 5 outcome unknown.");
    text
}

/// One line for each command.
pub(super) fn overview() -> String {
    let mut text = String::new();
    list(&mut text, |_| true);
    text.push_str(
        "`help COMMAND` tells more. In \"...\" write \\n \\t \\\\ \\\" \\xNN; '...' is verbatim.\n",
    );
    text
}

fn list(text: &mut String, wanted: impl Fn(&Entry) -> bool) {
    for entry in TABLE.iter().filter(|entry| wanted(entry)) {
        let _ = writeln!(text, "  {:<14} {}", entry.names.join(", "), entry.what);
    }
}

/// What a command does.
pub(super) fn explain(entry: &Entry) -> String {
    let usage = format!("{} {}", entry.names[0], entry.words);
    let mut text = format!("{}\n  {}\n", usage.trim_end(), capitalized(entry.what));
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
