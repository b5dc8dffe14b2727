//! `kvclient import`: many puts in flight, those to one key in the order of the file.
//!
//! Lines are dealt to jobs by key, so a job has one put under way and its keys stay in order. What is
//! acknowledged without a gap from the beginning is saved from time to time; an import that is stopped goes on
//! from there, and writes some lines twice, which for puts is harmless.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::clock;
use common::operation::{Condition, Operation};
use common::ring::Position;
use common::time::Time;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::args::ImportArgs;
use super::checkpoint::Checkpoint;
use super::format::Format;
use super::progress::Progress;
use super::reader::{Batch, Input, Parsed};
use super::record::Record;
use super::window::{FilePosition, Window};
use crate::frame::failure::{Exit, Failure};
use kvclient::Client;

/// Lines that wait for one job.
const JOB_QUEUE_LEN: usize = 4;

/// The time between two saves of the checkpoint, and two updates of the bar.
const SAVE_EVERY: Duration = Duration::from_millis(500);

/// Malformed lines that are reported one by one under `--skip-bad`.
const BAD_LINES_REPORTED: u64 = 10;

/// A line for a job.
type Task = (u64, Record);

/// The reports of the jobs.
#[derive(Debug)]
struct Shared {
    window: Window,
    progress: Progress,
    failure: Option<Failure>,
}

type State = Arc<Mutex<Shared>>;

fn locked(state: &State) -> MutexGuard<'_, Shared> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Imports a file.
pub(crate) async fn import(client: Client, args: &ImportArgs) -> Result<(), Failure> {
    let mut input = Input::open(&args.file)?;
    let checkpoint = input.bytes.map(|bytes| Checkpoint::of(&args.file, bytes));
    let start = match &checkpoint {
        Some(checkpoint) if args.resume => checkpoint.load()?,
        _ => FilePosition::default(),
    };
    input.seek(start)?;
    let progress = Progress::start(input.bytes, start.offset);
    let state = Arc::new(Mutex::new(Shared { window: Window::new(start), progress, failure: None }));
    let (mut batches, _reading) = input.lines(args.format.unwrap_or_else(|| Format::of(&args.file)), start);
    let mut importer = Importer::start(client, args, checkpoint, Arc::clone(&state));
    let ended = tokio::select! {
        ended = importer.run(&mut batches) => ended,
        _ = tokio::signal::ctrl_c() => Err(Failure::new(Exit::Interrupted, "interrupted")),
    };
    let bad = importer.bad;
    let checkpoint = importer.stop().await;
    drop(batches);
    conclude(args, checkpoint.as_ref(), state, bad, ended)
}

/// Saves or removes the checkpoint, and prints how the import ended.
fn conclude(
    args: &ImportArgs,
    checkpoint: Option<&Checkpoint>,
    state: State,
    bad: u64,
    ended: Result<(), Failure>,
) -> Result<(), Failure> {
    let shared = Arc::into_inner(state).expect("all jobs have ended");
    let Shared { window, progress, .. } = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    let skipped = if bad > 0 { format!(", {bad} bad lines skipped") } else { String::new() };
    progress.finish("imported", &skipped);
    match (ended, checkpoint) {
        (Ok(()), Some(checkpoint)) => checkpoint.remove(),
        (Ok(()), None) => {}
        (Err(failure), None) => return Err(failure),
        (Err(mut failure), Some(checkpoint)) => {
            checkpoint.save(window.position())?;
            failure.message += &how_to_go_on(&args.file, window.position());
            return Err(failure);
        }
    }
    Ok(())
}

fn how_to_go_on(file: &Path, position: FilePosition) -> String {
    format!(
        "\nkvclient: all of the first {} lines is written; `kvclient import {} --resume` goes on there",
        position.lines,
        file.display()
    )
}

struct Importer {
    checkpoint: Option<Checkpoint>,
    state: State,
    queues: Vec<mpsc::Sender<Task>>,
    jobs: JoinSet<()>,
    skip_bad: bool,
    bad: u64,
    saved: Time,
}

impl Importer {
    fn start(client: Client, args: &ImportArgs, checkpoint: Option<Checkpoint>, state: State) -> Self {
        let mut jobs = JoinSet::new();
        let queues = (0..args.jobs).map(|_| {
            let (queue, tasks) = mpsc::channel(JOB_QUEUE_LEN);
            jobs.spawn(job(client.clone(), tasks, Arc::clone(&state)));
            queue
        });
        let queues = queues.collect();
        Self { checkpoint, state, queues, jobs, skip_bad: args.skip_bad, bad: 0, saved: clock::time() }
    }

    /// Deals out all lines and waits until they are written.
    async fn run(&mut self, batches: &mut mpsc::Receiver<Batch>) -> Result<(), Failure> {
        while let Some(batch) = batches.recv().await {
            for parsed in batch? {
                self.deal(parsed).await?;
            }
            self.look()?;
        }
        self.queues.clear();
        while self.jobs.join_next().await.is_some() {}
        self.look()
    }

    async fn deal(&mut self, (end, parsed): Parsed) -> Result<(), Failure> {
        let number = locked(&self.state).window.begin(end);
        match parsed {
            Ok(record) => {
                let job = Position::of_key(&record.key).0 % self.queues.len() as u128;
                let queue = &self.queues[usize::try_from(job).expect("there are few jobs")];
                // A job that has ended has left its failure.
                if queue.send((number, record)).await.is_err() {
                    self.look()?;
                }
                Ok(())
            }
            Err(malformed) if self.skip_bad => {
                self.bad += 1;
                if self.bad <= BAD_LINES_REPORTED {
                    eprintln!("kvclient: line {}: {malformed}; skipped", end.lines);
                }
                locked(&self.state).window.done(number);
                Ok(())
            }
            Err(malformed) => Err(Failure::usage(format!(
                "line {}: {malformed} (--skip-bad passes over such lines)",
                end.lines
            ))),
        }
    }

    /// Returns the first failure, if there is one; otherwise saves the checkpoint and updates the bar, at intervals.
    fn look(&mut self) -> Result<(), Failure> {
        let now = clock::time();
        let shared = locked(&self.state);
        if let Some(failure) = &shared.failure {
            return Err(failure.clone());
        }
        if now.since(self.saved) >= SAVE_EVERY {
            self.saved = now;
            let position = shared.window.position();
            shared.progress.show(position.offset);
            drop(shared);
            self.checkpoint.as_ref().map_or(Ok(()), |checkpoint| checkpoint.save(position))?;
        }
        Ok(())
    }

    /// Ends all jobs.
    async fn stop(mut self) -> Option<Checkpoint> {
        self.jobs.shutdown().await;
        self.checkpoint
    }
}

/// Puts one line after the other.
async fn job(client: Client, mut tasks: mpsc::Receiver<Task>, state: State) {
    while let Some((number, Record { key, value, expires })) = tasks.recv().await {
        let bytes = key.len() + value.len();
        let put = client.write(Operation::Put { key, value, expires, condition: Condition::Always {} }).await;
        let mut shared = locked(&state);
        match put {
            Ok(_) => {
                shared.window.done(number);
                shared.progress.key_done(bytes);
            }
            Err(error) => {
                shared.failure.get_or_insert(error.into());
                return;
            }
        }
    }
}
