//! `docs/configuration.md` lists every option of the programs. Its tables are made from what the programs themselves
//! read. `UPDATE=1 cargo test --test configuration` writes them anew.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use clap::builder::PossibleValue;
use clap::{Arg, ArgAction, Command, CommandFactory};

#[path = "../src/options.rs"]
mod options;

const PAGE: &str = "docs/configuration.md";

/// A table of the page is between these lines, with the program's name in the first.
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
    ("FORMAT", "`text`, `json`"),
    ("HOST:PORT", "`host:port`"),
    ("LEVEL", "level"),
    ("MIB", "MiB"),
    ("MS", "ms"),
    ("N", "number"),
    ("PORT", "port"),
    ("SECONDS", "s"),
    ("TIME", "time"),
];

fn program(name: &str) -> Command {
    match name {
        "trefoil" => options::Options::command(),
        "ecs" => ecs::cli::command(),
        "kvserver" => kvserver::cli::command(),
        "kvclient" => kvclient::cli::command(),
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

fn table(command: &Command) -> String {
    let with_files = shown(command).any(|arg| is_in_file(command, arg));
    let (head, rule) = if with_files { (" in a file |", "---|") } else { ("", "") };
    let mut text =
        format!("| option |{head} environment | default | unit | meaning |\n|---|{rule}---|---|---|---|\n");
    for arg in shown(command) {
        let long = arg.get_long().expect("only those are shown");
        let short = arg.get_short().map(|short| format!(", `-{short}`")).unwrap_or_default();
        let key = match with_files {
            true if is_in_file(command, arg) => format!(" `{long}` |"),
            true => " |".to_owned(),
            false => String::new(),
        };
        let variable = arg.get_env().map(|name| format!("`{}`", name.to_string_lossy())).unwrap_or_default();
        let (default, meaning) = (default(arg), meaning(arg));
        let _ = writeln!(
            text,
            "| `--{long}`{short} |{key} {variable} | {default} | {} | {meaning} |",
            unit(command, arg)
        );
    }
    text
}

fn is_flag(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

fn help(arg: &Arg) -> String {
    let help = arg.get_long_help().or_else(|| arg.get_help());
    help.map(ToString::to_string).unwrap_or_default().replace('\n', " ")
}

/// An option that stays unset has its default told by its help text.
const TOLD_DEFAULT: &str = " [default: ";

fn default(arg: &Arg) -> String {
    let known = arg.get_default_values().first().map(|value| value.to_string_lossy().into_owned());
    let told = || help(arg).split_once(TOLD_DEFAULT).map(|(_, rest)| rest.trim_end_matches(']').to_owned());
    let default = if is_flag(arg) { Some("false".to_owned()) } else { known.or_else(told) };
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
    let mut text = help.split_once(TOLD_DEFAULT).map_or(help.as_str(), |(text, _)| text).to_owned();
    let told = |choice: &PossibleValue| {
        let help = choice.get_help()?.to_string();
        Some(format!(" `{}`: {}.", choice.get_name(), help.trim_end_matches('.')))
    };
    let choices: String = if is_flag(arg) {
        String::new()
    } else {
        arg.get_possible_values().iter().filter_map(told).collect()
    };
    if !choices.is_empty() {
        text.push('.');
        text.push_str(&choices);
    }
    text.trim_end_matches('.').replace('|', "\\|").replace('<', "&lt;")
}

/// The page with its tables made anew.
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
        text.push_str(&table(&command));
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
        assert!(page.contains(&format!("{BEGIN}{name} -->")), "{PAGE} has no table of `{name}`");
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
        "{PAGE} is out of date; `UPDATE=1 cargo test --test configuration` writes it anew. It lacks these lines, or has \
         others that are to go:\n{}",
        differing.join("\n")
    );
}

#[test]
fn a_page_that_is_out_of_date_is_noticed() {
    let page = format!("{BEGIN}trefoil -->\n| `--loud` | |\n{END}\nprose\n");
    let anew = made_anew(&page);
    assert!(anew.contains("`--servers`") && !anew.contains("--loud"), "{anew}");
    assert!(anew.ends_with("-->\nprose\n"), "{anew}");
    assert_eq!(made_anew(&anew), anew);
}

#[test]
fn units_and_defaults_are_told() {
    let table = table(&program("kvserver"));
    for row in [
        "| `--port`, `-p` | `port` | `TREFOIL_PORT` | `5001` | port |",
        "| `--transfer-rate` | `transfer-rate` | `TREFOIL_TRANSFER_RATE` | 67108864 (64 MiB) | bytes a second |",
        "| `--reads` | `reads` | `TREFOIL_READS` | `lease` | `lease`, `barrier` |",
        "| `--config` | | `TREFOIL_CONFIG` |  | file |",
    ] {
        assert!(table.contains(row), "{row}\n{table}");
    }
    assert!(default_of("ecs", "min-copies").contains("`1`"));
}

fn default_of(name: &str, long: &str) -> String {
    let command = program(name);
    default(shown(&command).find(|arg| arg.get_long() == Some(long)).expect("there is such an option"))
}
