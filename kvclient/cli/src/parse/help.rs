//! The list of commands, and the explanation of one.

use std::fmt::Write as _;

use crate::parse::table::{Entry, TABLE};

/// One line for each command, behind the list of those that the process knows by itself.
pub(crate) fn for_process() -> String {
    let mut text = "Commands of the shell, also as arguments:\n".to_owned();
    list(&mut text, |entry| !entry.is_program());
    text.push_str("\n`kvclient help COMMAND` says more.\n");
    text.push_str(
        "Exit codes: 0 done, 1 not found or not healthy, 2 usage or refused, 3 compare failed, 4 no server, \
         5 outcome unknown.",
    );
    text
}

/// One line for each command.
pub(crate) fn overview() -> String {
    let mut text = String::new();
    list(&mut text, |_| true);
    text.push_str("`help COMMAND` says more. In \"...\" write \\n \\t \\\\ \\\" \\xNN; '...' is verbatim.\n");
    text
}

fn list(text: &mut String, wanted: impl Fn(&Entry) -> bool) {
    for entry in TABLE.iter().filter(|entry| wanted(entry)) {
        let _ = writeln!(text, "  {:<14} {}", entry.names.join(", "), entry.what);
    }
}

/// What a command does.
pub(crate) fn explain(entry: &Entry) -> String {
    let usage = format!("{} {}", entry.names[0], entry.words);
    let mut text = format!("{}\n  {}\n", usage.trim_end(), capitalized(entry.what));
    if !entry.more.is_empty() {
        let _ = writeln!(text, "  {}", entry.more);
    }
    if entry.names.len() > 1 {
        let _ = writeln!(text, "  Also: {}", entry.names[1..].join(", "));
    }
    let examples = examples(entry, "");
    if !examples.is_empty() {
        let _ = writeln!(text, "{examples}");
    }
    text
}

/// Its examples, for the help of a process.
pub(crate) fn for_program(name: &str) -> String {
    let entry = TABLE.iter().find(|entry| entry.names[0] == name);
    entry.map(|entry| examples(entry, "kvclient ")).unwrap_or_default()
}

fn examples(entry: &Entry, before: &str) -> String {
    let lines: Vec<String> = entry.examples.iter().map(|line| format!("  {before}{line}")).collect();
    if lines.is_empty() { String::new() } else { format!("Examples:\n{}", lines.join("\n")) }
}

pub(crate) fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).chain(['.']).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Args;
    use crate::parse::command::Command;
    use crate::parse::line::Line;

    #[test]
    fn every_example_is_one() {
        for entry in TABLE {
            assert!(entry.examples.is_empty() || entry.examples.len() == 2, "{:?}", entry.names);
            for example in entry.examples {
                let line = Line::split(example.as_bytes()).unwrap();
                assert!(entry.names.contains(&&*line.words[0].text()), "{example}");
                if entry.is_program() {
                    let words = line.words.iter().map(|word| word.text());
                    let words = std::iter::once("kvclient".to_owned()).chain(words);
                    assert!(Args::try_parse_from(words).is_ok(), "{example}");
                } else {
                    let command = Command::parse(&line);
                    assert!(!matches!(command, Err(_) | Ok(Command::Nothing)), "{example}: {command:?}");
                }
            }
        }
    }
}
