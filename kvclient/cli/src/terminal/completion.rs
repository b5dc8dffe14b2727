//! Completions and hints for a line that is being typed.

use std::ops::Range;

use crate::args::programs;
use crate::parse::grammar;
use crate::parse::line::{Begun, Line, Word};
use crate::parse::table::{Entry, TABLE, find};

/// The completions of the word at the end, and its position in the line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) span: Range<usize>,
    /// The bytes of the word so far.
    pub(crate) begun: Vec<u8>,
    /// Fixed words that begin with these bytes.
    pub(crate) words: Vec<String>,
    /// The source of other words.
    pub(crate) source: Source,
}

/// A source of words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Source {
    #[default]
    Nowhere,
    /// The keys that are stored.
    Keys,
    /// The addresses of the servers.
    Servers,
    /// The files of this machine.
    Files,
}

/// The source for the slots of [`grammar`].
fn source(slots: &[String]) -> Source {
    let slot = slots.first().map(String::as_str);
    match slot {
        Some("KEY" | "PREFIX") => Source::Keys,
        Some("SERVER" | "OLD" | "NEW" | "HOST") => Source::Servers,
        Some("FILE" | "DIR") => Source::Files,
        _ => Source::Nowhere,
    }
}

/// What may be typed at the end of `text`; `None` if it cannot be split into words.
pub(crate) fn wanted(text: &str) -> Option<Wanted> {
    let Begun { words, last } = Line::begun(text.as_bytes())?;
    let Word { bytes: begun, span, plain } = last;
    let wanted = |candidates: Vec<String>, source| {
        let fold = String::from_utf8_lossy(&begun).to_ascii_lowercase();
        let fits = |word: &String| word.to_ascii_lowercase().starts_with(&fold);
        let words = if plain { candidates.into_iter().filter(fits).collect() } else { Vec::new() };
        Some(Wanted { span: span.clone(), begun: begun.clone(), words, source })
    };
    let Some((name, words)) = words.split_first() else { return wanted(names(&begun), Source::Nowhere) };
    let Ok(entry) = find(&name.text()) else { return wanted(Vec::new(), Source::Nowhere) };
    match (entry.names[0], words) {
        ("help", []) => return wanted(names(&begun), Source::Nowhere),
        ("logLevel", []) => {
            let levels = ["off", "error", "warn", "info", "debug", "trace"];
            return wanted(levels.map(str::to_owned).into(), Source::Nowhere);
        }
        _ => {}
    }
    let next = grammar::next(entry, words, programs);
    let mut candidates = next.choices;
    // Options are many: they are offered once a dash is typed, or when there is nothing else.
    if begun.starts_with(b"-") || next.slots.is_empty() && candidates.is_empty() {
        candidates.extend(next.options);
    }
    let source = if begun.starts_with(b"-") && plain { Source::Nowhere } else { source(&next.slots) };
    // The values of `cas` cannot be guessed.
    let source = if entry.names[0] == "cas" && source == Source::Servers { Source::Nowhere } else { source };
    wanted(candidates, source)
}

/// The names of the commands; other names of one only if they are typed.
fn names(begun: &[u8]) -> Vec<String> {
    let aliases = !begun.is_empty();
    TABLE
        .iter()
        .flat_map(|entry| &entry.names[..if aliases { entry.names.len() } else { 1 }])
        .map(ToString::to_string)
        .collect()
}

/// The hint after `text`, and how much of it is typed for the user when it is accepted.
pub(crate) fn hint(text: &str) -> Option<(String, usize)> {
    let Begun { words, last } = Line::begun(text.as_bytes())?;
    let Some((name, words)) = words.split_first() else {
        return name_hint(&last);
    };
    let entry = find(&name.text()).ok()?;
    let mut words = words.to_vec();
    let ended = last.bytes.is_empty() && last.plain;
    if !ended {
        words.push(last);
    }
    let hint = grammar::hint(entry, &words, programs);
    let gap = if ended { "" } else { " " };
    (!hint.is_empty()).then(|| (format!("{gap}{hint}"), 0))
}

/// The rest of a command's name where it is clear, and its words.
fn name_hint(typed: &Word) -> Option<(String, usize)> {
    let typed = typed.text();
    if typed.is_empty() {
        return None;
    }
    let first =
        |entry: &&'static Entry| entry.names[0].to_ascii_lowercase().starts_with(&typed.to_ascii_lowercase());
    let exact = TABLE.iter().find(|entry| entry.names.iter().any(|name| name.eq_ignore_ascii_case(&typed)));
    let entry = exact.or_else(|| TABLE.iter().find(first))?;
    let rest = if exact.is_some() { "" } else { entry.names[0].get(typed.len()..)? };
    let words = grammar::hint(entry, &[], programs);
    let hint = format!("{rest} {words}").trim_end().to_owned();
    (!hint.is_empty()).then_some((hint, rest.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        wanted(text).unwrap().words
    }

    #[test]
    fn names_options_and_words_are_completed() {
        assert_eq!(words("key"), ["keyrange", "keyrange_read"]);
        assert_eq!(words("help ap"), ["append"]);
        assert_eq!(words("loglevel d"), ["debug"]);
        assert_eq!(words("get k "), ["--version", "--json"]);
        assert_eq!(words("put --if-a"), ["--if-absent"]);
        assert_eq!(words("put k v --"), ["--if-absent", "--if-present", "--ttl"]);
        assert_eq!(words("expire k n"), ["never"]);
        assert_eq!(words("import f --format t"), ["tsv"]);
        assert_eq!(words("admin pl"), ["plan"]);
        assert_eq!(words("admin plan "), ["add", "drain", "replace"]);
        assert!(words("frobnicate x").is_empty());
        assert!(words("get \"k\" '--v").is_empty());
    }

    #[test]
    fn keys_servers_and_files_come_from_elsewhere() {
        let source = |text: &str| wanted(text).unwrap().source;
        assert_eq!(source("get us"), Source::Keys);
        assert_eq!(source("scan us"), Source::Keys);
        assert_eq!(source("put --if-absent \"a b"), Source::Keys);
        assert_eq!(source("put k us"), Source::Nowhere);
        assert_eq!(source("put -"), Source::Nowhere);
        assert_eq!(source("cas k --value o"), Source::Nowhere);
        assert_eq!(source("admin drain 127"), Source::Servers);
        assert_eq!(source("import /tm"), Source::Files);
        let wanted = wanted("get \"a b").unwrap();
        assert_eq!((wanted.span, wanted.begun), (4..8, b"a b".to_vec()));
        assert_eq!(super::wanted("get \"\\q"), None);
    }

    #[test]
    fn hints_follow_what_is_typed() {
        let shown = |text: &str| hint(text).map(|(hint, _)| hint).unwrap_or_default();
        assert_eq!(shown(""), "");
        assert_eq!(hint("ge"), Some(("t KEY [--version] [--json]".to_owned(), 1)));
        assert_eq!(hint("get"), Some((" KEY [--version] [--json]".to_owned(), 0)));
        assert_eq!(shown("get "), "KEY [--version] [--json]");
        assert_eq!(shown("get k"), " [--version] [--json]");
        assert_eq!(shown("get k --json "), "[--version]");
        assert_eq!(shown("frob"), "");
    }
}
