//! `docs/configuration.md` lists every option of the programs. Its lists are made from what the programs themselves
//! read. `UPDATE=1 cargo test --test docs configuration` writes them anew.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use clap::builder::PossibleValue;
use clap::{Arg, ArgAction, Command, CommandFactory};

#[path = "../../src/options.rs"]
mod options;

const PAGE: &str = "docs/configuration.md";

/// A list of the page is between these lines, with the program's name in the first.
const BEGIN: &str = "<!-- options of ";
const END: &str = "<!-- end -->";

/// What a value is, by the name that the help text gives to it.
const UNITS: &[(&str, &str)] = &[
    ("ADDRESS", "address"),
    ("BOOL", "`true`, `false`"),
    ("BYTES", "bytes"),
    ("BYTES_PER_SECOND", "bytes a second"),
    ("CLUSTER", "a cluster's id"),
    ("DIR", "directory"),
    ("FILE", "file"),
    ("FOLDER", "the name of a folder"),
    ("FORMAT", "`text`, `json`"),
    ("HOST:PORT", "`host:port`"),
    ("LEVEL", "level"),
    ("MIB", "MiB"),
    ("MS", "ms"),
    ("N", "number"),
    ("NAMES", "host names, with commas"),
    ("PORT", "port"),
    ("SECONDS", "s"),
    ("TIME", "time"),
];

fn program(name: &str) -> Command {
    match name {
        "trefoil" => options::Options::command(),
        "ecs" => ecs::cli::command(),
        "kvserver" => kvserver::cli::command(),
        "kvclient" => cli::command(),
        _ => panic!("{PAGE} asks for the options of `{name}`, which is no program"),
    }
}

/// The options that people are to know.
fn shown(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| arg.get_long().is_some() && !arg.is_hide_set())
}

fn is_in_file(command: &Command, arg: &Arg) -> bool {
    let takes_files = command.get_arguments().any(|arg| arg.get_id() == "config");
    takes_files && common::config::options(command).any(|other| other.get_id() == arg.get_id())
}

/// The longest line of a page.
const LINE_CHARS_MAX: usize = 120;

/// Words with blanks between them, in lines of the page; what is in backquotes stays in one line.
fn wrapped(text: &str, first: &str, further: &str) -> String {
    let mut lines = vec![first.to_owned()];
    let mut is_code = false;
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is the first");
        let fits = line.chars().count() + 1 + word.chars().count() <= LINE_CHARS_MAX;
        if line.ends_with(' ') {
            line.push_str(word);
        } else if fits || is_code {
            let _ = write!(line, " {word}");
        } else {
            lines.push(format!("{further}{word}"));
        }
        is_code ^= word.matches('`').count() % 2 == 1;
    }
    lines.join("\n") + "\n"
}

/// A point for each option: its meaning, then where it may be given, its unit and its default.
fn list(command: &Command) -> String {
    let mut text = String::new();
    for arg in shown(command) {
        let long = arg.get_long().expect("only those are shown");
        let short = arg.get_short().map(|short| format!(", `-{short}`")).unwrap_or_default();
        text.push_str(&wrapped(&format!("`--{long}`{short}: {}.", meaning(arg)), "- ", "  "));
        text.push_str(&wrapped(&facts(command, arg), "  - ", "    "));
    }
    text
}

/// Where an option may be given besides the command line, its unit and its default.
fn facts(command: &Command, arg: &Arg) -> String {
    let file =
        is_in_file(command, arg).then(|| format!("file `{}`", arg.get_long().expect("only those are shown")));
    let variable = arg.get_env().map(|name| format!("environment `{}`", name.to_string_lossy()));
    let unit = Some(format!("value: {}", unit(command, arg)));
    let default = Some(default(arg)).filter(|default| !default.is_empty());
    let facts = [file, variable, unit, default.map(|default| format!("default {default}"))];
    facts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn is_flag(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

fn help(arg: &Arg) -> String {
    let help = arg.get_long_help().or_else(|| arg.get_help());
    help.map(ToString::to_string).unwrap_or_default().replace('\n', " ")
}

/// Before the default in the help text of an option that has no default value.
const DEFAULT_IN_HELP: &str = " [default: ";

fn default(arg: &Arg) -> String {
    let known = arg.get_default_values().first().map(|value| value.to_string_lossy().into_owned());
    let in_help =
        || help(arg).split_once(DEFAULT_IN_HELP).map(|(_, rest)| rest.trim_end_matches(']').to_owned());
    let default = if is_flag(arg) { Some("false".to_owned()) } else { known.or_else(in_help) };
    let Some(default) = default else { return String::new() };
    let counts_bytes = value_name(arg).is_some_and(|name| name.starts_with("BYTES"));
    match default.parse::<u64>() {
        Ok(bytes) if counts_bytes => format!("{bytes} ({} MiB)", bytes >> 20),
        _ => format!("`{default}`"),
    }
}

fn value_name(arg: &Arg) -> Option<String> {
    arg.get_value_names().and_then(<[_]>::first).map(ToString::to_string)
}

fn unit(command: &Command, arg: &Arg) -> String {
    if is_flag(arg) {
        return "`true`, `false`".to_owned();
    }
    let choices = arg.get_possible_values();
    if !choices.is_empty() {
        let names: Vec<_> = choices.iter().map(|choice| format!("`{}`", choice.get_name())).collect();
        return names.join(", ");
    }
    let name = value_name(arg);
    let found = UNITS.iter().find(|(known, _)| name.as_deref() == Some(known));
    let Some((_, unit)) = found else {
        panic!(
            "{} --{}: the value's name is {name:?}; give it `value_name`, one of {:?}, or add one in {}",
            command.get_name(),
            arg.get_long().unwrap_or_default(),
            UNITS.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            file!(),
        )
    };
    (*unit).to_owned()
}

fn meaning(arg: &Arg) -> String {
    let help = help(arg);
    let mut text = help.split_once(DEFAULT_IN_HELP).map_or(help.as_str(), |(text, _)| text).to_owned();
    let described = |choice: &PossibleValue| {
        let help = choice.get_help()?.to_string();
        Some(format!(" `{}`: {}.", choice.get_name(), help.trim_end_matches('.')))
    };
    let choices: String = if is_flag(arg) {
        String::new()
    } else {
        arg.get_possible_values().iter().filter_map(described).collect()
    };
    if !choices.is_empty() {
        text.push('.');
        text.push_str(&choices);
    }
    text.trim_end_matches('.').replace('<', "&lt;")
}

/// The page with its lists made anew.
fn made_anew(page: &str) -> String {
    let mut text = String::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let _ = writeln!(text, "{line}");
        let Some(rest) = line.strip_prefix(BEGIN) else { continue };
        let names: Vec<&str> = rest.trim_end_matches(" -->").split(' ').collect();
        let mut command = program(names[0]);
        for name in &names[1..] {
            let found = command.find_subcommand(name);
            command = found.unwrap_or_else(|| panic!("{line}: there is no such command")).clone();
        }
        text.push_str(&list(&command));
        assert!(lines.by_ref().any(|line| line == END), "{PAGE}: `{line}` has no `{END}`");
        let _ = writeln!(text, "{END}");
    }
    text
}

#[test]
fn the_page_has_the_options_as_they_are() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = fs::read_to_string(&path).unwrap();
    for name in ["trefoil", "ecs", "kvserver", "kvserver inspect", "kvclient"] {
        assert!(page.contains(&format!("{BEGIN}{name} -->")), "{PAGE} has no list of `{name}`");
    }
    let anew = made_anew(&page);
    if page == anew {
        return;
    }
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, anew).unwrap();
        return;
    }
    let old: Vec<&str> = page.lines().collect();
    let differing: Vec<&str> = anew.lines().filter(|line| !old.contains(line)).collect();
    panic!(
        "{PAGE} is out of date; `UPDATE=1 cargo test --test docs configuration` writes it anew. It lacks these lines, \
         or has others that are to go:\n{}",
        differing.join("\n")
    );
}

#[test]
fn a_page_that_is_out_of_date_is_noticed() {
    let page = format!("{BEGIN}trefoil -->\n- `--loud`\n{END}\nprose\n");
    let anew = made_anew(&page);
    assert!(anew.contains("`--servers`") && !anew.contains("--loud"), "{anew}");
    assert!(anew.ends_with("-->\nprose\n"), "{anew}");
    assert_eq!(made_anew(&anew), anew);
}

#[test]
fn units_and_defaults_are_listed() {
    let list = list(&program("kvserver"));
    for line in [
        "- `--port`, `-p`: Port for clients and servers",
        "  - file `port`; environment `TREFOIL_PORT`; value: port; default `5001`\n",
        "  - file `transfer-rate`; environment `TREFOIL_TRANSFER_RATE`; value: bytes a second; default 67108864 (64 \
         MiB)\n",
        "  - file `reads`; environment `TREFOIL_READS`; value: `lease`, `barrier`; default `lease`\n",
        "  - environment `TREFOIL_CONFIG`; value: file\n",
    ] {
        assert!(list.contains(line), "{line}\n{list}");
    }
    assert!(default_of("ecs", "min-copies").contains("`auto`"));
}

#[test]
fn lines_are_wrapped_outside_of_code() {
    let code = format!("`{} b`", "a".repeat(110));
    assert_eq!(
        wrapped(&format!("one two {code} three"), "- ", "  "),
        format!("- one two\n  {code}\n  three\n")
    );
    assert!(list(&program("kvserver")).lines().all(|line| line.chars().count() <= LINE_CHARS_MAX));
}

fn default_of(name: &str, long: &str) -> String {
    let command = program(name);
    default(shown(&command).find(|arg| arg.get_long() == Some(long)).expect("there is such an option"))
}
