//! Where a program's options come from: flags, then the environment, then a file in TOML, then defaults.
//!
//! The file has the long names of flags as its keys, without tables:
//!
//! ```toml
//! port = 5001
//! ecs = "10.0.0.1:3000"
//! ```
//!
//! Its content is read as if it were given as flags, so it is checked in the same way, with the same messages.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};

/// The name of the flag that names the file, and its id.
const FILE: &str = "config";
/// The name of the flag that prints where each value comes from, and its id.
const PRINT: &str = "print-config";

/// What is to be done after the options were read.
#[derive(Debug)]
pub enum Read<T> {
    /// Run with them.
    Run(T),
    /// Print this text, and end.
    Print(String),
}

/// Adds `--config FILE`, also in the environment as `variable`, and `--print-config`.
#[must_use]
pub fn with_file(command: Command, variable: &'static str) -> Command {
    let file = Arg::new(FILE)
        .long(FILE)
        .env(variable)
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help("TOML file with options: flags' long names and their values. Flags and the environment take precedence");
    let print = Arg::new(PRINT)
        .long(PRINT)
        .action(ArgAction::SetTrue)
        .help("Print all options, each with its origin, in the form of such a file, and exit");
    command.arg(file).arg(print)
}

/// Reads options of a command that [`with_file`] has made.
///
/// # Errors
/// When a flag, the environment or the file is wrong, or help is asked for.
pub fn read<T: FromArgMatches>(command: &Command, args: &[OsString]) -> Result<Read<T>, clap::Error> {
    // Errors are ignored here; the second reading reports them.
    let first = command.clone().ignore_errors(true).try_get_matches_from(args).unwrap_or_default();
    let file = first.try_get_one::<PathBuf>(FILE).ok().flatten().cloned();
    let from_file = match &file {
        // A subcommand has arguments of its own.
        Some(file) if first.subcommand_name().is_none() => read_file(command, file)?,
        _ => BTreeMap::new(),
    };
    let given = |id: &str| {
        let source = first.try_get_raw(id).ok().flatten().and_then(|_| first.value_source(id));
        source.filter(|source| *source != ValueSource::DefaultValue)
    };
    let mut all: Vec<OsString> = args.iter().take(1).cloned().collect();
    let used = from_file.iter().filter(|(id, _)| given(id).is_none());
    all.extend(used.filter_map(|(_, flag)| flag.clone()).map(OsString::from));
    all.extend(args.iter().skip(1).cloned());
    let matches = command
        .clone()
        .try_get_matches_from(all)
        .map_err(|error| in_file(error, file.as_deref(), &from_file))?;
    if matches.get_flag(PRINT) {
        let source = |id: &str| match given(id) {
            Some(ValueSource::EnvVariable) => Source::Environment,
            Some(_) => Source::Flag,
            None if from_file.contains_key(id) => Source::File,
            None => Source::Default,
        };
        return Ok(Read::Print(listing(command, &matches, file.as_deref(), source)));
    }
    T::from_arg_matches(&matches).map(Read::Run)
}

/// An error in what may come from the file says so.
fn in_file(
    error: clap::Error,
    file: Option<&Path>,
    from_file: &BTreeMap<String, Option<String>>,
) -> clap::Error {
    let (Some(file), false) = (file, from_file.is_empty() || !error.use_stderr()) else { return error };
    let text = error.to_string();
    let note = format!("{}\n\nSome options come from the file {}.\n", text.trim_end(), file.display());
    clap::Error::raw(error.kind(), note.trim_start_matches("error: "))
}

/// The options that may be in a file, by their long names.
pub fn options(command: &Command) -> impl Iterator<Item = &Arg> {
    let own = |arg: &&Arg| ![FILE, PRINT, "help", "version"].contains(&arg.get_id().as_str());
    command.get_arguments().filter(own).filter(|arg| arg.get_long().is_some())
}

/// A file's options by id, as flags; none for a flag that is not to be set.
fn read_file(command: &Command, file: &Path) -> Result<BTreeMap<String, Option<String>>, clap::Error> {
    let name = file.display();
    let wrong = |what: String| clap::Error::raw(ErrorKind::InvalidValue, format!("{name}: {what}\n"));
    let text = std::fs::read_to_string(file).map_err(|error| wrong(format!("it cannot be read: {error}")))?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| wrong(error.to_string()))?;
    let mut found = BTreeMap::new();
    for (key, value) in table {
        let long = key.replace('_', "-");
        let Some(arg) = options(command).find(|arg| arg.get_long() == Some(&long)) else {
            let mut known: Vec<_> =
                options(command).filter(|arg| !arg.is_hide_set()).filter_map(Arg::get_long).collect();
            known.sort_unstable();
            return Err(wrong(format!("there is no option `{key}`; there are {}", known.join(", "))));
        };
        let value = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Float(number) => number.to_string(),
            toml::Value::Boolean(flag) => flag.to_string(),
            _ => return Err(wrong(format!("`{key}` is to be a text, a number, true or false"))),
        };
        let flag = match (arg.get_action(), value.as_str()) {
            (ArgAction::SetTrue, "true") => Some(format!("--{long}")),
            (ArgAction::SetTrue, "false") => None,
            (ArgAction::SetTrue, _) => return Err(wrong(format!("`{key}` is to be true or false"))),
            _ => Some(format!("--{long}={value}")),
        };
        found.insert(arg.get_id().to_string(), flag);
    }
    Ok(found)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Flag,
    Environment,
    File,
    Default,
}

fn listing(
    command: &Command,
    matches: &ArgMatches,
    file: Option<&Path>,
    source: impl Fn(&str) -> Source,
) -> String {
    let mut text = String::new();
    for arg in options(command).filter(|arg| !arg.is_hide_set()) {
        let (id, long) = (arg.get_id().as_str(), arg.get_long().unwrap_or_default());
        let value = matches.get_raw(id).and_then(|mut values| values.next());
        let Some(value) = value.map(|value| value.to_string_lossy().into_owned()) else {
            let _ = writeln!(text, "# {long} is not set");
            continue;
        };
        let origin = match source(id) {
            Source::Flag => format!("--{long}"),
            Source::Environment => {
                format!("environment {}", arg.get_env().unwrap_or_default().to_string_lossy())
            }
            Source::File => format!("file {}", file.unwrap_or(Path::new("")).display()),
            Source::Default => "default".to_owned(),
        };
        let line = format!("{long} = {}", literal(&value));
        let _ = writeln!(text, "{line:<40} # {origin}");
    }
    text
}

/// A value as TOML has it.
fn literal(value: &str) -> String {
    let is_plain = value == "true"
        || value == "false"
        || value.parse::<i64>().is_ok_and(|number| number.to_string() == value);
    if is_plain { value.to_owned() } else { toml::Value::String(value.to_owned()).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[derive(Debug, PartialEq, Parser)]
    struct Options {
        #[arg(short, long, default_value_t = 1)]
        port: u16,
        #[arg(long, env = "TREFOIL_TEST_CONFIG_NAME", default_value = "none")]
        long_name: String,
        #[arg(long)]
        loud: bool,
        #[arg(long)]
        unset: Option<String>,
    }

    fn read_with(file: &str, args: &[&str]) -> Result<Read<Options>, clap::Error> {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("trefoil-config-{}-{number}.toml", std::process::id()));
        std::fs::write(&path, file).unwrap();
        let command = with_file(Options::command(), "TREFOIL_TEST_CONFIG");
        command.clone().debug_assert();
        let begin = ["program".into(), OsString::from("--config"), path.clone().into()];
        let args: Vec<OsString> = begin.into_iter().chain(args.iter().map(OsString::from)).collect();
        let read = read(&command, &args);
        std::fs::remove_file(&path).unwrap();
        read
    }

    fn options(file: &str, args: &[&str]) -> Options {
        match read_with(file, args).unwrap() {
            Read::Run(options) => options,
            Read::Print(text) => panic!("{text}"),
        }
    }

    #[test]
    fn flags_come_before_the_file_and_the_file_before_defaults() {
        let file = "port = 7\nlong_name = \"a b\"\nloud = true\n";
        let expected = Options { port: 7, long_name: "a b".into(), loud: true, unset: None };
        assert_eq!(options(file, &[]), expected);
        assert_eq!(options(file, &["-p", "9"]), Options { port: 9, ..expected });
        let none = Options { port: 1, long_name: "none".into(), loud: false, unset: None };
        assert_eq!(options("loud = false", &[]), none);
    }

    #[test]
    fn a_wrong_file_is_refused_with_what_would_be_right() {
        for (file, expected) in [
            ("prot = 1", "there is no option `prot`; there are long-name, loud, port, unset"),
            ("port = 70000", "Some options come from the file"),
            ("port = [1]", "is to be a text"),
            ("loud = 3", "true or false"),
            ("port = ", "line 1"),
            ("config = \"other\"", "there is no option `config`"),
        ] {
            let error = read_with(file, &[]).unwrap_err();
            assert!(error.to_string().contains(expected), "{file}: {error}");
            assert!(error.use_stderr());
        }
        assert_eq!(read_with("port = 7", &["--help"]).unwrap_err().kind(), ErrorKind::DisplayHelp);
    }

    #[test]
    fn the_listing_says_where_values_come_from_and_is_such_a_file() {
        let Read::Print(text) =
            read_with("port = 7\nlong-name = \"x\"", &["--loud", "--print-config"]).unwrap()
        else {
            panic!("a listing");
        };
        let origin = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{text}"));
            line.split_once("# ").unwrap().1.to_owned()
        };
        assert!(origin("port = 7").starts_with("file "), "{text}");
        assert!(origin("long-name = \"x\"").starts_with("file "));
        assert_eq!(origin("loud = true"), "--loud");
        assert!(text.contains("# unset is not set"));
        let expected = Options { port: 7, long_name: "x".into(), loud: true, unset: None };
        assert_eq!(options(&text, &[]), expected, "it can be read again");
    }
}
