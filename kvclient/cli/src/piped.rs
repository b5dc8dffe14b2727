//! Lines from a pipe or a file: no prompt, errors name the line, and the first failure decides the exit code.

use std::io::{self, BufRead, Write};

use tokio::runtime::Runtime;

use crate::frame::failure::Failure;
use crate::frame::output::stdout;
use crate::frame::session::Session;
use crate::frame::style::{self, Paint};
use crate::parse::command::Command;
use crate::parse::line::Line;
use crate::run::run_command;

/// Runs the lines of `input` to their end or to `quit`.
pub(crate) fn run(runtime: &Runtime, session: &mut Session, input: impl BufRead) -> Result<(), Failure> {
    let mut out = io::BufWriter::new(stdout());
    let first = run_lines(runtime, session, input, &mut out, &mut io::stderr())?;
    out.flush().map_err(Failure::output)?;
    // All failures were printed when they happened.
    first.map_or(Ok(()), |failure| Err(Failure::new(failure.exit, "")))
}

/// The first failure of all lines, if there was one. The error is one that ends the run.
fn run_lines(
    runtime: &Runtime,
    session: &mut Session,
    mut input: impl BufRead,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<Option<Failure>, Failure> {
    let mut first = None;
    let mut text = Vec::new();
    for number in 1_u64.. {
        text.clear();
        let read = input.read_until(b'\n', &mut text);
        if read.map_err(|error| Failure::usage(format!("line {number}: cannot read it: {error}")))? == 0 {
            break;
        }
        let line = Line::split(&text).map_err(|bad| bad.failure());
        let failure = match line.and_then(|line| Command::parse(&line)) {
            Ok(Command::Quit) => break,
            Ok(command) => {
                if command.is_remembered() {
                    session.remember(&text);
                }
                runtime.block_on(run_command(session, command, out)).err()
            }
            Err(failure) => Some(failure),
        };
        if let Some(failure) = failure {
            // Flushed first, so that output and error are in order where both go to one place.
            out.flush().map_err(Failure::output)?;
            if !failure.message.is_empty() {
                let _ = write!(errors, "kvclient: line {number}: {failure}\n{}", underline(&text, &failure));
            }
            first.get_or_insert(failure);
        }
    }
    Ok(first)
}

/// The line with a mark under the word that is wrong, if one is.
fn underline(text: &[u8], failure: &Failure) -> String {
    let paint = Paint::for_errors();
    failure.at.as_ref().map_or_else(String::new, |at| style::underlined(text, at, paint))
}

#[cfg(test)]
mod tests {
    use crate::frame::failure::Exit;
    use crate::frame::logging::Log;
    use kvclient::Options;

    use super::*;

    #[test]
    fn it_goes_on_after_an_error_and_the_first_decides() {
        let runtime = crate::run::runtime(false).unwrap();
        let mut session = Session::new(Vec::new(), Options::default(), Log::default());
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        let input = b"# comment\n\nput 'k\nget k\nhelp get\nquit\nnever seen\n";
        let first = run_lines(&runtime, &mut session, &input[..], &mut out, &mut errors).unwrap().unwrap();
        assert_eq!(first.exit, Exit::Usage);
        let (out, errors) = (String::from_utf8(out).unwrap(), String::from_utf8(errors).unwrap());
        assert!(out.starts_with("get KEY"), "{out}");
        let lines: Vec<&str> = errors.lines().collect();
        assert!(lines[0].starts_with("kvclient: line 3: column 5: the quote is not closed"), "{errors}");
        assert_eq!(lines[1..3], ["  put 'k", "      ^"], "{errors}");
        assert!(lines[3].starts_with("kvclient: line 4: not connected"), "{errors}");
        assert_eq!(lines.len(), 4);
    }
}
