//! The shell on a terminal: line editing, history and completion of command names.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{Context, Editor, Helper};

use super::command::Command;
use super::failure::{Exit, Failure};
use super::session::Session;
use super::table::TABLE;
use super::words::Line;
use super::{report, run_command, runtime};

const PROMPT: &str = "kvclient> ";

/// Lines that are remembered.
const HISTORY_LEN: usize = 10_000;

/// Reads and runs lines until `quit` or the end of input.
pub(super) fn run(session: &mut Session) -> Result<(), Failure> {
    let runtime = runtime(true)?;
    let mut editor = editor()?;
    let history = history_file();
    if let Some(path) = &history {
        // A shell without its history is still a shell.
        let _ = editor.load_history(path);
    }
    println!("kvclient for {}; `help` lists the commands, `quit` leaves", session.servers().join(", "));
    let mut interrupted = false;
    loop {
        let text = match editor.readline(PROMPT) {
            Ok(text) => text,
            // The first one drops the line being typed; the second in a row leaves.
            Err(ReadlineError::Interrupted) if interrupted => break,
            Err(ReadlineError::Interrupted) => {
                interrupted = true;
                eprintln!("(Ctrl-C again or `quit` leaves)");
                continue;
            }
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(Failure::usage(format!("cannot read from the terminal: {error}"))),
        };
        interrupted = false;
        if !text.trim().is_empty() {
            let _ = editor.add_history_entry(&text);
            let _ = history.as_ref().map(|path| editor.append_history(path));
        }
        let line = Line::split(text.as_bytes()).map_err(|bad| Failure::usage(bad.to_string()));
        let done = match line.and_then(|line| Command::parse(&line)) {
            Ok(Command::Quit) => break,
            Ok(command) => runtime.block_on(interruptible(session, command)),
            Err(failure) => Err(failure),
        };
        if let Err(failure) = done {
            report(&failure);
        }
    }
    Ok(())
}

/// Runs a command until it is done or Ctrl-C is pressed.
async fn interruptible(session: &mut Session, command: Command) -> Result<(), Failure> {
    let mut out = io::stdout();
    // An import looks for Ctrl-C itself, to save how far it came.
    if matches!(&command, Command::Program(words) if words.first().is_some_and(|name| name == "import")) {
        return run_command(session, command, &mut out).await;
    }
    tokio::select! {
        done = run_command(session, command, &mut out) => done?,
        _ = tokio::signal::ctrl_c() => {
            return Err(Failure::new(Exit::Interrupted, "interrupted; a write may have been carried out"));
        }
    }
    out.flush().map_err(Failure::output)
}

fn editor() -> Result<Editor<Names, DefaultHistory>, Failure> {
    let config = rustyline::Config::builder()
        .max_history_size(HISTORY_LEN)
        .map(|builder| builder.completion_type(rustyline::CompletionType::List).build());
    let editor = config.and_then(Editor::with_config);
    let mut editor = editor.map_err(|error| Failure::usage(format!("cannot use the terminal: {error}")))?;
    editor.set_helper(Some(Names));
    Ok(editor)
}

/// `trefoil/history` in the XDG state directory, for this user's eyes only.
fn history_file() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let folder = state.or_else(home)?.join("trefoil");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).ok()?;
    let path = folder.join("history");
    OpenOptions::new().create(true).append(true).mode(0o600).open(&path).ok()?;
    Some(path)
}

/// Completes the names of commands.
struct Names;

impl Helper for Names {}
impl Highlighter for Names {}
impl Validator for Names {}

impl Hinter for Names {
    type Hint = String;
}

impl Completer for Names {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok((0, completions(&line[..position])))
    }
}

/// The whole lines that `typed` may become: command names, also behind `help`.
fn completions(typed: &str) -> Vec<String> {
    let (before, begun) = match typed.strip_prefix("help ") {
        Some(rest) => ("help ", rest),
        None => ("", typed),
    };
    let names = TABLE.iter().flat_map(|entry| entry.names);
    let begins = |name: &&&str| name.to_ascii_lowercase().starts_with(&begun.to_ascii_lowercase());
    names.filter(begins).map(|name| format!("{before}{name} ")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed() {
        assert_eq!(completions("key"), ["keyrange ", "keyrange_read "]);
        assert_eq!(completions("help ap"), ["help append "]);
        assert!(completions("get k").is_empty());
    }
}
