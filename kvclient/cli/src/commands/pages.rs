//! Pages that are generated from the list of commands: completions for shells, manual pages.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, Args, Command, ValueHint};
use clap_complete::Shell;

use crate::frame::failure::Failure;
use crate::parse::grammar::{Form, Shape};
use crate::parse::help;
use crate::parse::table::{Entry, TABLE};

/// `kvclient completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell that is to complete
    #[arg(value_enum)]
    shell: Shell,
}

/// `kvclient man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Write a page for each command into this folder, instead of the first one to standard output
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    dir: Option<PathBuf>,
}

/// Prints the script. `programs`: the commands with arguments of a process.
pub(crate) fn completions(
    args: &CompletionsArgs,
    programs: Command,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut whole(programs), "kvclient", &mut script);
    out.write_all(&script).map_err(Failure::output)
}

/// Prints the page, or writes all of them.
pub(crate) fn man(args: &ManArgs, programs: Command, out: &mut dyn Write) -> Result<(), Failure> {
    let Some(dir) = &args.dir else {
        let page = render(whole(programs), "kvclient").map_err(Failure::output)?;
        return out.write_all(&page).map_err(Failure::output);
    };
    let written = write_pages(dir, programs).map_err(|error| {
        let dir = dir.display();
        Failure::usage(format!("cannot write pages into {dir}: {error}; name another folder"))
    })?;
    writeln!(out, "{written} pages in {}", dir.display()).map_err(Failure::output)
}

fn write_pages(dir: &Path, programs: Command) -> io::Result<usize> {
    fs::create_dir_all(dir)?;
    let whole = whole(programs);
    fs::write(dir.join("kvclient.1"), render(whole.clone(), "kvclient")?)?;
    for command in whole.get_subcommands() {
        let name = format!("kvclient-{}", command.get_name());
        fs::write(dir.join(format!("{name}.1")), render(command.clone(), &name)?)?;
    }
    Ok(1 + whole.get_subcommands().count())
}

fn render(command: Command, name: &str) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let named = command.display_name(name.to_owned()).disable_help_subcommand(true);
    clap_mangen::Man::new(named).title(name.to_owned()).render(&mut page)?;
    Ok(page)
}

/// All commands that a process can be started with, those of the shell among them.
fn whole(programs: Command) -> Command {
    let entries = TABLE.iter().filter(|entry| !entry.is_program() && !entry.is_of_shell());
    programs.allow_external_subcommands(false).subcommands(entries.map(command))
}

/// A command of the shell as a clap command, for pages only: it is never parsed so, as a value is the rest of its line.
fn command(entry: &Entry) -> Command {
    let about = help::capitalized(entry.what);
    let mut command = Command::new(entry.names[0])
        .about(about.trim_end_matches('.').to_owned())
        .override_usage(format!("kvclient {} {}", entry.names[0], entry.words).trim_end().to_owned())
        .after_help(help::for_program(entry.names[0]))
        .visible_aliases(entry.names[1..].iter().copied());
    if !entry.more.is_empty() {
        command = command.long_about(format!("{about}\n\n{}", entry.more));
    }
    let mut seen: Vec<&str> = Vec::new();
    for (name, shape) in Form::of_shell(entry).iter().flat_map(Form::shapes) {
        if seen.contains(&name.as_str()) {
            continue;
        }
        let name = kept(name);
        seen.push(name);
        command = command.arg(match shape {
            Shape::Value => Arg::new(name).required(false),
            Shape::Choice(choices) => {
                let choices = choices.into_iter().map(kept);
                Arg::new(name).required(false).value_parser(PossibleValuesParser::new(choices))
            }
            Shape::Flag => Arg::new(name).long(name).action(ArgAction::SetTrue),
            Shape::Option(value) => Arg::new(name).long(name).value_name(kept(value)),
        });
    }
    command
}

/// clap keeps names for as long as the program runs; this one ends when it has printed its pages.
fn kept(name: String) -> &'static str {
    name.leak()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::programs;

    #[test]
    fn all_commands_are_in_the_pages_and_scripts() {
        whole(programs()).debug_assert();
        let dir = tempfile::tempdir().unwrap();
        let pages = write_pages(dir.path(), programs()).unwrap();
        assert_eq!(pages, fs::read_dir(dir.path()).unwrap().count());
        let put = fs::read_to_string(dir.path().join("kvclient-put.1")).unwrap();
        assert!(put.contains("if\\-absent") && put.contains("kvclient put fruit apple"), "{put}");
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            completions(&CompletionsArgs { shell }, programs(), &mut script).unwrap();
            let script = String::from_utf8(script).unwrap();
            for word in ["keyrange_read", "if-absent", "replace", "ndjson"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
            assert!(!script.contains(":watch"), "{shell}");
        }
    }
}
