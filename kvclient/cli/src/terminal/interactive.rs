//! The shell on a terminal: it reads lines, remembers them and runs them.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Editor, ExternalPrinter};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use unicode_width::UnicodeWidthStr;

use crate::commands::connection;
use crate::frame::failure::{self, Exit, Failure};
use crate::frame::output::stdout;
use crate::frame::session::Session;
use crate::frame::style::{self, Ink, Paint};
use crate::parse::command::Command;
use crate::parse::line::Line;
use crate::run::{run_command, runtime};
use crate::terminal::editor::Assistant;

const PROMPT: &str = "kvclient> ";

/// Lines that are remembered.
const HISTORY_LEN: usize = 10_000;

/// Columns of a terminal that does not report them.
const COLUMNS_USUAL: usize = 80;

/// Changes that wait to be shown.
const CHANGES_AHEAD: usize = 64;

type Lines = Editor<Assistant, FileHistory>;

/// Reads and runs lines until `quit` or the end of input.
pub(crate) fn run(session: &mut Session) -> Result<(), Failure> {
    let runtime = runtime(true)?;
    let paint = Paint::for_errors();
    let mut editor = editor(&runtime)?;
    let history = history_file();
    if let Some(path) = &history {
        // A shell without its history is still a shell.
        let _ = editor.load_history(path);
    }
    greet(&runtime, session, paint);
    let mut interrupted = false;
    loop {
        if let Some(assistant) = editor.helper_mut() {
            assistant.client = session.connected();
            assistant.begin_line();
        }
        let text = match editor.readline(PROMPT) {
            Ok(text) => text,
            // Ctrl-C on a line with text only drops the text; on an empty line the second in a row leaves.
            Err(ReadlineError::Interrupted) if editor.helper().is_some_and(Assistant::has_text) => {
                interrupted = false;
                continue;
            }
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
        if !text.trim().is_empty() && matches!(editor.add_history_entry(&text), Ok(true)) {
            let _ = history.as_ref().map(|path| editor.append_history(path));
        }
        // Pasted text may be several lines.
        for text in text.lines() {
            match run_line(&runtime, session, &mut editor, text) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(failure) => {
                    let width =
                        editor.dimensions().map_or(COLUMNS_USUAL, |(columns, _)| usize::from(columns));
                    eprint!("{}", complaint(text, &failure, width, paint));
                }
            }
        }
    }
    Ok(())
}

/// Shows changes above the line being typed. A thread of its own does that, as the editor takes a line when it likes,
/// and connections go on meanwhile. Only once something is watched: an editor that also looks for such lines (rustyline
/// 17) waits for the next key when several have come at once, and takes them then.
fn show_changes(editor: &mut Lines, session: &mut Session) {
    // A terminal that cannot show lines above the prompt shows changes only while the command runs.
    let Ok(mut printer) = editor.create_external_printer() else { return };
    let (lines, mut changes) = mpsc::channel(CHANGES_AHEAD);
    session.watching.show_above(lines);
    std::thread::spawn(move || {
        while let Some(line) = changes.blocking_recv() {
            if printer.print(line).is_err() {
                return;
            }
        }
    });
}

/// Runs a line; returns `false` when it ends the shell.
fn run_line(
    runtime: &Runtime,
    session: &mut Session,
    editor: &mut Lines,
    text: &str,
) -> Result<bool, Failure> {
    let command = Command::parse(&Line::split(text.as_bytes()).map_err(|bad| bad.failure())?)?;
    if command == Command::Quit {
        return Ok(false);
    }
    if command.is_watch() && !session.watching.is_shown_above() {
        show_changes(editor, session);
    }
    if command.is_remembered() {
        session.remember(text.as_bytes());
    }
    runtime.block_on(interruptible(session, command)).map(|()| true)
}

/// Prints which cluster the shell is connected to. If no server answers, the user may `connect` elsewhere.
fn greet(runtime: &Runtime, session: &mut Session, paint: Paint) {
    let greeted = runtime.block_on(async {
        tokio::select! {
            client = session.client() => client.map(|client| connection::connected(&session.servers().join(", \
                "), &client.view())),
            _ = tokio::signal::ctrl_c() => Err(Failure::new(Exit::Interrupted, "interrupted; not connected")),
        }
    });
    match greeted {
        Ok(connected) => eprint!("{connected}"),
        Err(failure) => {
            eprint!("{}", complaint("", &failure, COLUMNS_USUAL, paint));
            eprintln!("`connect HOST PORT` asks another server");
        }
    }
    eprintln!("Tab completes, `help` lists the commands, `quit` leaves");
}

/// The error for a line after the prompt: under its word if there is room.
fn complaint(text: &str, failure: &Failure, width: usize, paint: Paint) -> String {
    let Some(at) = &failure.at else { return failure::complaint(b"", failure, paint) };
    let (before, len) = style::columns(text.as_bytes(), at);
    let before = before + PROMPT.len();
    if before + len >= width || PROMPT.len() + style::columns(text.as_bytes(), &(0..text.len())).1 >= width {
        return failure::complaint(text.as_bytes(), failure, paint);
    }
    let marks = format!("{}{}", " ".repeat(before), paint.ink(Ink::Bad, "^".repeat(len)));
    if before + len + 1 + failure.message.width() < width {
        format!("{marks} {failure}\n")
    } else {
        format!("{marks}\n{}", failure::complaint(b"", failure, paint))
    }
}

/// Runs a command until it is done or Ctrl-C is pressed.
async fn interruptible(session: &mut Session, command: Command) -> Result<(), Failure> {
    let mut out = stdout();
    // An import looks for Ctrl-C itself, to save how far it came.
    if matches!(&command, Command::Program(words) if words.first().is_some_and(|name| name == "import")) {
        return run_command(session, command, &mut out).await;
    }
    let watching = matches!(command, Command::Repeat { .. } | Command::Stat { .. } | Command::Watch { .. });
    tokio::select! {
        done = run_command(session, command, &mut out) => done?,
        _ = tokio::signal::ctrl_c() => {
            if watching {
                return Ok(());
            }
            return Err(Failure::new(Exit::Interrupted, "interrupted; a write may have been carried out"));
        }
    }
    out.flush().map_err(Failure::output)
}

fn editor(runtime: &Runtime) -> Result<Lines, Failure> {
    let config = rustyline::Config::builder()
        .completion_type(rustyline::CompletionType::List)
        // A line that begins with a blank is not remembered.
        .history_ignore_space(true)
        .max_history_size(HISTORY_LEN)
        .and_then(|builder| builder.history_ignore_dups(true))
        .map(rustyline::config::Builder::build);
    let editor = config.and_then(Editor::with_config);
    let mut editor = editor.map_err(|error| Failure::usage(format!("cannot use the terminal: {error}")))?;
    editor.set_helper(Some(Assistant::new(runtime.handle().clone(), Paint::for_output())));
    Ok(editor)
}

/// `trefoil/history` in the XDG state directory.
fn history_file() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    history_in(&state.or_else(home)?)
}

/// The file in `state`, made if it is not there, for this user's eyes only.
fn history_in(state: &Path) -> Option<PathBuf> {
    let folder = state.join("trefoil");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).ok()?;
    let path = folder.join("history");
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path).ok()?;
    file.set_permissions(fs::Permissions::from_mode(0o600)).ok()?;
    Some(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn history_is_for_its_user_alone() {
        let state = tempfile::tempdir().unwrap();
        let path = history_in(state.path()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(mode(&history_in(state.path()).unwrap()), 0o600);
    }

    #[test]
    fn a_mark_stands_under_the_typed_word() {
        let failure = Failure::usage("wrong").at(4..5);
        let paint = Paint::default();
        assert_eq!(
            complaint("get x", &failure, 80, paint),
            format!("{}^ wrong\n", " ".repeat(PROMPT.len() + 4))
        );
        let below = format!("{}^\nkvclient: wrong\n", " ".repeat(PROMPT.len() + 4));
        assert_eq!(complaint("get x", &failure, 20, paint), below);
        assert_eq!(complaint("get x", &failure, 10, paint), "kvclient: wrong\n  get x\n      ^\n");
        assert_eq!(complaint("get x", &Failure::usage("wrong"), 80, paint), "kvclient: wrong\n");
        assert_eq!(complaint("get x", &Failure::usage(""), 80, paint), "");
    }
}
