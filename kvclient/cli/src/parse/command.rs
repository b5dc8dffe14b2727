//! From the words of a line to a command.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use bytes::Bytes;
use common::messages::Selection;
use common::operation::{Condition, Version};

use clap::ValueEnum;

use crate::frame::failure::Failure;
use crate::frame::output::Format;
use crate::limits::{EVENTS_SHOWN, LARGEST_SHOWN, LATENCY_FOR, STAT_EVERY, WATCH_EVERY, WATCH_EVERY_LEAST};
use crate::parse::grammar;
use crate::parse::line::{Line, Word};
use crate::parse::table::{Entry, find};
use common::logging::Level;

/// A command, as a line asks for it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Command {
    /// A line without words, or a comment.
    Nothing,
    Put {
        key: Bytes,
        value: Bytes,
        ttl: Option<Duration>,
        condition: Condition,
    },
    Get {
        key: Bytes,
        version: bool,
    },
    Delete {
        key: Bytes,
    },
    Append {
        key: Bytes,
        value: Bytes,
    },
    Cas {
        key: Bytes,
        expected: Condition,
        value: Bytes,
    },
    Expire {
        key: Bytes,
        after: Option<Duration>,
    },
    Scan {
        prefix: Bytes,
        limit: Option<u64>,
    },
    KeyRange {
        read: bool,
    },
    Status,
    /// The newest so many changes of the cluster.
    Events {
        limit: usize,
    },
    Partitions {
        key: Option<Bytes>,
    },
    Hot,
    Stat {
        every: Duration,
        count: Option<u64>,
    },
    Latency {
        duration: Duration,
    },
    /// The largest so many values.
    Largest {
        prefix: Bytes,
        limit: usize,
    },
    /// Prints changes, all or `count` of them.
    Watch {
        keys: Selection,
        from: Option<Version>,
        count: Option<u64>,
    },
    /// Ends a watch of the shell; `None`: all of them.
    Unwatch {
        keys: Option<Selection>,
    },
    /// A command whose answer is written in this form.
    As(Format, Box<Command>),
    /// Prints how long commands take from now on, or not; `None`: the other way round.
    Timing(Option<bool>),
    /// Traces requests for keys from now on, or not; `None`: the other way round.
    Trace(Option<bool>),
    /// Writes answers in this form from now on; `None`: prints the present form.
    Output(Option<Format>),
    /// Runs a line again and again; `None`: the last one.
    Repeat {
        every: Duration,
        line: Option<Vec<u8>>,
    },
    Connect {
        server: String,
    },
    Disconnect,
    LogLevel {
        level: Level,
    },
    /// A command with arguments of a process: import, export, bench.
    Program(Vec<OsString>),
    Help {
        command: Option<&'static Entry>,
    },
    Quit,
}

impl Command {
    /// Whether `:watch` may run it again when no line is named.
    pub(crate) fn is_remembered(&self) -> bool {
        !matches!(self, Self::Nothing | Self::Repeat { .. } | Self::Quit)
    }

    /// Whether it begins to watch, in whatever form.
    pub(crate) fn is_watch(&self) -> bool {
        match self {
            Self::As(_, command) => command.is_watch(),
            command => matches!(command, Self::Watch { .. }),
        }
    }

    /// Reads the words of a line.
    pub(crate) fn parse(line: &Line) -> Result<Self, Failure> {
        let Some((name, words)) = line.words.split_first() else { return Ok(Self::Nothing) };
        if name.plain && name.bytes.starts_with(b"#") {
            return Ok(Self::Nothing);
        }
        let entry = find(&name.text()).map_err(|failure| failure.at(name.span.clone()))?;
        if let Some(command) = Self::with_option_of_all(entry, line, words)? {
            return Ok(command);
        }
        if matches!(entry.names[0], "put" | "append" | "cas")
            && let Some(failure) = grammar::mistyped_option(entry, words)
        {
            return Err(failure);
        }
        let name = entry.names[0];
        let parsed = about_keys(name, line, words)?
            .or(about_cluster(name, words)?)
            .or(about_connection(name, words)?)
            .or(about_shell(name, line, words)?)
            .or_else(|| entry.is_program().then(|| program(name, words)));
        parsed.ok_or_else(|| grammar::misfit(entry, line, words))
    }

    /// A command with an option that many commands have, `--json` or `--help`. Programs read theirs on their own.
    fn with_option_of_all(
        entry: &'static Entry,
        line: &Line,
        words: &[Word],
    ) -> Result<Option<Self>, Failure> {
        if entry.is_program() {
            return Ok(None);
        }
        if entry.words.contains("[--json]")
            && let Some(at) = words.iter().position(|word| word.is("--json"))
        {
            let words = line.words.iter().enumerate().filter(|(index, _)| *index != at + 1);
            let words = words.map(|(_, word)| word.clone()).collect();
            let command = Self::parse(&Line { text: line.text.clone(), words })?;
            return Ok(Some(Self::As(Format::Json, Box::new(command))));
        }
        let is_help = matches!(words, [only] if only.is("--help"));
        Ok(is_help.then_some(Self::Help { command: Some(entry) }))
    }
}

/// Commands that read, write and watch keys. `None`: it is none of these, or its words do not fit it.
fn about_keys(name: &str, line: &Line, words: &[Word]) -> Result<Option<Command>, Failure> {
    Ok(match (name, words) {
        ("put", words) => put(line, words)?,
        ("get", [key]) => Some(Command::Get { key: bytes(key), version: false }),
        ("get", [key, option]) | ("get", [option, key]) if option.is("--version") => {
            Some(Command::Get { key: bytes(key), version: true })
        }
        ("delete", [key]) => Some(Command::Delete { key: bytes(key) }),
        ("append", [key, value @ ..]) if !value.is_empty() => {
            Some(Command::Append { key: bytes(key), value: joined(line, value)? })
        }
        ("cas", words) => cas(line, words)?,
        ("expire", [key, time]) => {
            let after = if time.is("never") { None } else { Some(duration(time)?) };
            Some(Command::Expire { key: bytes(key), after })
        }
        ("scan", words) => scan(words)?.map(|(prefix, limit)| Command::Scan { prefix, limit }),
        ("big", words) => scan(words)?.map(|(prefix, limit)| {
            let limit = limit.map_or(LARGEST_SHOWN, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
            Command::Largest { prefix, limit }
        }),
        ("watch", words) => watch(words)?,
        ("unwatch", []) => Some(Command::Unwatch { keys: None }),
        ("unwatch", words) => match watch(words)? {
            Some(Command::Watch { keys, from: None, count: None }) => {
                Some(Command::Unwatch { keys: Some(keys) })
            }
            _ => None,
        },
        _ => None,
    })
}

/// Commands that show the cluster. `None`: it is none of these, or its words do not fit it.
fn about_cluster(name: &str, words: &[Word]) -> Result<Option<Command>, Failure> {
    Ok(match (name, words) {
        ("keyrange", []) => Some(Command::KeyRange { read: false }),
        ("keyrange_read", []) => Some(Command::KeyRange { read: true }),
        ("status", []) => Some(Command::Status),
        ("events", []) => Some(Command::Events { limit: EVENTS_SHOWN }),
        ("events", [option, number]) if option.is("--limit") => {
            let limit = number.text().parse();
            let wrong = |_| at(number, format!("`{}` is no number of events", number.text()));
            Some(Command::Events { limit: limit.map_err(wrong)? })
        }
        ("partitions", []) => Some(Command::Partitions { key: None }),
        ("partitions", [key]) if !key.plain || !key.bytes.starts_with(b"--") => {
            Some(Command::Partitions { key: Some(bytes(key)) })
        }
        ("hot", []) => Some(Command::Hot),
        ("stat", words) => stat(words)?,
        ("latency", []) => Some(Command::Latency { duration: LATENCY_FOR }),
        ("latency", [time]) => Some(Command::Latency { duration: duration(time)? }),
        _ => None,
    })
}

/// Commands that choose the server and its log level. `None`: it is none of these, or its words do not fit it.
fn about_connection(name: &str, words: &[Word]) -> Result<Option<Command>, Failure> {
    Ok(match (name, words) {
        ("connect", [host, port]) => {
            Some(Command::Connect { server: format!("{}:{}", host.text(), port.text()) })
        }
        ("connect", [server]) if server.bytes.contains(&b':') => {
            Some(Command::Connect { server: server.text() })
        }
        ("disconnect", []) => Some(Command::Disconnect),
        ("logLevel", [level]) => {
            let parsed = level.text().parse();
            Some(Command::LogLevel { level: parsed.map_err(|wrong| at(level, wrong))? })
        }
        _ => None,
    })
}

/// Commands of the shell itself. `None`: it is none of these, or its words do not fit it.
fn about_shell(name: &str, line: &Line, words: &[Word]) -> Result<Option<Command>, Failure> {
    let on_or_off = |word: &Word| word.is("on") || word.is("off");
    Ok(match (name, words) {
        (":timing", []) => Some(Command::Timing(None)),
        (":timing", [word]) if on_or_off(word) => Some(Command::Timing(Some(word.is("on")))),
        (":trace", []) => Some(Command::Trace(None)),
        (":trace", [word]) if on_or_off(word) => Some(Command::Trace(Some(word.is("on")))),
        (":output", []) => Some(Command::Output(None)),
        (":output", [word]) => {
            Format::from_str(&word.text(), true).ok().map(|format| Command::Output(Some(format)))
        }
        (":watch", words) => Some(repeat(line, words)?),
        ("help", []) => Some(Command::Help { command: None }),
        ("help", [command]) => {
            let entry = find(&command.text()).map_err(|failure| failure.at(command.span.clone()))?;
            Some(Command::Help { command: Some(entry) })
        }
        ("quit", []) => Some(Command::Quit),
        _ => None,
    })
}

/// A command with arguments as a process has them.
fn program(name: &str, words: &[Word]) -> Command {
    let words = words.iter().map(|word| OsString::from_vec(word.bytes.clone()));
    Command::Program(std::iter::once(OsString::from(name)).chain(words).collect())
}

/// A failure that is about a word.
fn at(word: &Word, message: impl Into<String>) -> Failure {
    Failure::usage(message).at(word.span.clone())
}

fn bytes(word: &Word) -> Bytes {
    Bytes::copy_from_slice(&word.bytes)
}

fn joined(line: &Line, words: &[Word]) -> Result<Bytes, Failure> {
    let several = || {
        let span =
            words.first().map_or(0, |word| word.span.start)..words.last().map_or(0, |word| word.span.end);
        Failure::usage("the value is several words; put one pair of quotes around all of it").at(span)
    };
    line.joined(words).map(Bytes::from).ok_or_else(several)
}

fn duration(word: &Word) -> Result<Duration, Failure> {
    common::duration::parse(&word.text()).map_err(|wrong| at(word, wrong))
}

fn put(line: &Line, mut words: &[Word]) -> Result<Option<Command>, Failure> {
    let mut ttl = None;
    let mut conditions = Vec::new();
    let verbatim = words.get(1).is_some_and(|word| word.is("--"));
    // Options stand before the key or at the end: in between, everything is the value.
    loop {
        words = match words {
            [option, time, rest @ ..] if option.is("--ttl") => {
                ttl = Some(duration(time)?);
                rest
            }
            [option, rest @ ..] if condition(option).is_some() => {
                conditions.extend(condition(option));
                rest
            }
            [_, .., option, time] if !verbatim && option.is("--ttl") => {
                ttl = Some(duration(time)?);
                &words[..words.len() - 2]
            }
            [_, .., option] if !verbatim && condition(option).is_some() => {
                conditions.extend(condition(option));
                &words[..words.len() - 1]
            }
            _ => break,
        };
    }
    let condition = match conditions.as_slice() {
        [] => Condition::Always {},
        [one] => one.clone(),
        _ => return Ok(None),
    };
    let plain = ttl.is_none() && condition == Condition::Always {};
    Ok(match words {
        [key] if plain => Some(Command::Delete { key: bytes(key) }),
        [key, null] if plain && null.is("null") => Some(Command::Delete { key: bytes(key) }),
        [key, dashes, value @ ..] if dashes.is("--") && !value.is_empty() => {
            Some(Command::Put { key: bytes(key), value: joined(line, value)?, ttl, condition })
        }
        [key, value @ ..] if !value.is_empty() => {
            Some(Command::Put { key: bytes(key), value: joined(line, value)?, ttl, condition })
        }
        _ => None,
    })
}

fn stat(words: &[Word]) -> Result<Option<Command>, Failure> {
    let (time, number) = match words {
        [] => (None, None),
        [option, number] if option.is("--count") => (None, Some(number)),
        [time] => (Some(time), None),
        [time, option, number] if option.is("--count") => (Some(time), Some(number)),
        [option, number, time] if option.is("--count") => (Some(time), Some(number)),
        _ => return Ok(None),
    };
    let every = time.map_or(Ok(STAT_EVERY), pause)?;
    let count = number.map(|word| {
        let wrong = |_| at(word, format!("`{}` is no number of lines; write it in digits", word.text()));
        word.text().parse().map_err(wrong)
    });
    Ok(Some(Command::Stat { every, count: count.transpose()? }))
}

/// A key, or `--prefix` and what keys begin with, with options before or behind it.
fn watch(mut words: &[Word]) -> Result<Option<Command>, Failure> {
    let (mut keys, mut from, mut count) = (None, None, None);
    loop {
        words = match words {
            [] => break,
            [option, prefix, rest @ ..] if option.is("--prefix") && keys.is_none() => {
                keys = Some(Selection::Prefix { prefix: bytes(prefix) });
                rest
            }
            [option, version, rest @ ..] if option.is("--from") && from.is_none() => {
                from = Some(self::version(version)?);
                rest
            }
            [option, number, rest @ ..] if option.is("--count") && count.is_none() => {
                let wrong = |_| {
                    at(number, format!("`{}` is no number of changes; write it in digits", number.text()))
                };
                count = Some(number.text().parse().map_err(wrong)?);
                rest
            }
            [key, rest @ ..] if keys.is_none() && !(key.plain && key.bytes.starts_with(b"--")) => {
                keys = Some(Selection::Key { key: bytes(key) });
                rest
            }
            _ => return Ok(None),
        };
    }
    let many = matches!(keys, Some(Selection::Prefix { .. }));
    if many && from.is_some() {
        return Err(Failure::usage(
            "a version is a position in the log of one key's partition: name a key with --from, not a prefix",
        ));
    }
    Ok(keys.map(|keys| Command::Watch { keys, from, count }))
}

fn version(word: &Word) -> Result<Version, Failure> {
    word.text().parse().map_err(|_| {
        let text = word.text();
        at(word, format!("`{text}` is no version; `get KEY --version` prints one, such as 41.7"))
    })
}

/// Reads the time between two runs.
fn pause(word: &Word) -> Result<Duration, Failure> {
    let every = duration(word)?;
    if every < WATCH_EVERY_LEAST {
        return Err(at(word, format!("the shortest time is {} ms", WATCH_EVERY_LEAST.as_millis())));
    }
    Ok(every)
}

/// `:watch`: a time if the first word is one, and the rest of the line.
fn repeat(line: &Line, words: &[Word]) -> Result<Command, Failure> {
    let timed = words.first().filter(|word| word.bytes.first().is_some_and(u8::is_ascii_digit));
    let every = timed.map_or(Ok(WATCH_EVERY), pause)?;
    let words = &words[usize::from(timed.is_some())..];
    let line = words.first().map(|first| line.text[first.span.start..].to_vec());
    Ok(Command::Repeat { every, line })
}

fn condition(option: &Word) -> Option<Condition> {
    if option.is("--if-absent") {
        Some(Condition::Absent {})
    } else if option.is("--if-present") {
        Some(Condition::Present {})
    } else {
        None
    }
}

fn cas(line: &Line, words: &[Word]) -> Result<Option<Command>, Failure> {
    Ok(match words {
        [key, option, version, value @ ..] if option.is("--version") && !value.is_empty() => {
            let expected = Condition::Version { version: self::version(version)? };
            Some(Command::Cas { key: bytes(key), expected, value: joined(line, value)? })
        }
        [key, option, old, value @ ..] if option.is("--value") && !value.is_empty() => {
            let expected = Condition::Value { value: bytes(old) };
            Some(Command::Cas { key: bytes(key), expected, value: joined(line, value)? })
        }
        _ => None,
    })
}

/// A prefix, none for all keys, and how many keys at most.
fn scan(words: &[Word]) -> Result<Option<(Bytes, Option<u64>)>, Failure> {
    let (prefix, limit) = match words {
        [] => (Bytes::new(), None),
        [option, number] if option.is("--limit") => (Bytes::new(), Some(number)),
        [prefix] => (bytes(prefix), None),
        [prefix, option, number] if option.is("--limit") => (bytes(prefix), Some(number)),
        [option, number, prefix] if option.is("--limit") => (bytes(prefix), Some(number)),
        _ => return Ok(None),
    };
    let limit = limit.map(|word| {
        let wrong = |_| at(word, format!("`{}` is no number of keys; write it in digits", word.text()));
        word.text().parse().map_err(wrong)
    });
    Ok(Some((prefix, limit.transpose()?)))
}

#[cfg(test)]
mod tests;
