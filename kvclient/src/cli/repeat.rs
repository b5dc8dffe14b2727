//! `:watch`: a line is run again and again.

use std::io::Write;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::command::Command;
use super::failure::{Exit, Failure};
use super::session::Session;
use super::style::{Ink, Paint};
use super::words::Line;
use super::{complaint, run_command};

/// Runs `line`, or the last one that can be run again, every so often until the shell is interrupted. A cluster that
/// does not answer is asked again; a line that is wrong ends it.
pub(super) async fn run(
    session: &mut Session,
    every: Duration,
    line: Option<Vec<u8>>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let Some(line) = line.or_else(|| session.last()) else {
        return Err(Failure::usage("no command was run before; name one: `:watch 2s status`"));
    };
    let command = Command::parse(&Line::split(&line)?).map_err(|failure| Failure { at: None, ..failure })?;
    if matches!(
        command,
        Command::Repeat { .. }
            | Command::Watch { .. }
            | Command::Unwatch { .. }
            | Command::Quit
            | Command::Nothing
    ) {
        return Err(Failure::usage("this is no command to watch; try `:watch 2s status`"));
    }
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let paint = Paint::for_errors();
        match run_command(session, command.clone(), out).await {
            Err(failure) if failure.exit == Exit::Usage => return Err(failure),
            Err(failure) => eprint!("{}", complaint(b"", &failure, paint)),
            Ok(()) => {}
        }
        out.flush().map_err(Failure::output)?;
        eprintln!("{}", paint.ink(Ink::Faint, format!("-- every {every:?}, Ctrl-C ends it")));
    }
}
