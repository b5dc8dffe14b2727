//! Running the commands of the shell.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use clap::ValueEnum;
use common::clock;
use common::operation::{Condition, Operation, Outcome, Version};
use common::time::WallTime;
use common::view::View;
use serde_json::{Value, json};

use super::command::Command;
use super::failure::{Exit, Failure};
use super::logging::Log;
use super::output::Format;
use super::style::{Ink, Paint};
use super::watching::{self, Watching};
use super::words::quoted;
use super::{big, cluster, help, latency, load, show, status};
use crate::client::Client;
use crate::options::Options;
use crate::transfer::{ndjson, tsv};

/// Which cluster the commands are for, connected when the first one needs it.
#[derive(Debug)]
pub(super) struct Session {
    servers: Vec<String>,
    options: Options,
    log: Log,
    client: Option<Client>,
    /// The form of the answers.
    pub(super) format: Format,
    /// Commands tell how long they took.
    pub(super) timing: bool,
    /// Requests for keys are traced, and their ids told.
    pub(super) trace: bool,
    /// And how long they took goes there.
    #[cfg(feature = "otel")]
    pub(super) spans: Option<common::spans::Spans>,
    /// The last line that may be run again.
    last: Option<Vec<u8>>,
    /// The answers go to a person's terminal.
    terminal: Option<Paint>,
    /// What a shell watches meanwhile.
    pub(super) watching: Watching,
}

impl Session {
    pub(super) fn new(servers: Vec<String>, options: Options, log: Log) -> Self {
        let format = Format::default();
        let (timing, trace) = (false, false);
        let watching = Watching::default();
        Self {
            servers,
            options,
            log,
            client: None,
            format,
            timing,
            trace,
            #[cfg(feature = "otel")]
            spans: None,
            last: None,
            terminal: None,
            watching,
        }
    }

    /// Answers are for programs.
    pub(super) fn wants_json(&self) -> bool {
        matches!(self.format, Format::Json | Format::Ndjson)
    }

    /// Keeps a line for `:watch`, if it may be run again.
    pub(super) fn remember(&mut self, command: &Command, line: &[u8]) {
        if !matches!(command, Command::Nothing | Command::Repeat { .. } | Command::Quit) {
            self.last = Some(line.to_vec());
        }
    }

    /// Answers are for the eyes of a person.
    pub(super) fn for_terminal(&mut self, paint: Paint) {
        self.terminal = Some(paint);
    }

    /// Spans of traced requests go to a collector, if one is named.
    #[cfg(feature = "otel")]
    pub(super) fn send_spans(&mut self, endpoint: Option<&str>) -> Result<(), Failure> {
        let process = std::process::id().to_string();
        let start = |endpoint| common::spans::Spans::start(endpoint, "kvclient", &process);
        self.spans = endpoint.map(start).transpose().map_err(Failure::usage)?;
        Ok(())
    }

    /// What waits for the collector leaves.
    #[cfg(feature = "otel")]
    pub(super) fn end(self) {
        if let Some(spans) = self.spans {
            spans.stop();
        }
    }

    pub(super) fn servers(&self) -> &[String] {
        &self.servers
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    /// The client, connected.
    pub(super) async fn client(&mut self) -> Result<Client, Failure> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        if self.servers.is_empty() {
            return Err(Failure::usage("not connected; type `connect HOST PORT`"));
        }
        let client = Client::connect(&self.servers, self.options.clone()).await?;
        self.client = Some(client.clone());
        Ok(client)
    }

    /// The client for a question about servers rather than keys: one that is up and in no view yet is no reason to wait.
    pub(super) async fn client_for_servers(&mut self) -> Result<Client, Failure> {
        if self.client.is_none() && !self.servers.is_empty() {
            let client = Client::unconnected(&self.servers, self.options.clone());
            if client.refresh_view().await.is_ok() {
                self.client = Some(client);
            } else if client.ecs_address().await.is_ok() {
                return Ok(client);
            }
        }
        self.client().await
    }

    /// The client for a command about keys: traced, if that is wanted.
    async fn client_for_keys(&mut self) -> Result<Client, Failure> {
        let client = self.client().await?;
        if !self.trace {
            return Ok(client);
        }
        let client = client.traced(|request| eprintln!("request {request}"));
        #[cfg(feature = "otel")]
        if let Some(spans) = &self.spans {
            return Ok(client.with_spans(spans.clone()));
        }
        Ok(client)
    }

    /// The client, if there is a connection.
    pub(super) fn connected(&self) -> Option<Client> {
        self.client.clone()
    }

    /// The line that `:watch` runs when none is named.
    pub(super) fn last(&self) -> Option<Vec<u8>> {
        self.last.clone()
    }

    /// Runs a command; what it found goes to `out`.
    pub(super) async fn run(&mut self, command: Command, out: &mut dyn Write) -> Result<(), Failure> {
        match command {
            // These are run by what holds the session.
            Command::Nothing
            | Command::Quit
            | Command::Program(_)
            | Command::As(..)
            | Command::Repeat { .. } => Ok(()),
            Command::Get { key, version } => self.get(key, version, out).await,
            Command::Put { key, value, ttl, condition } => {
                let expires = ttl.map(moment);
                self.write(Operation::Put { key, value, expires, condition }, out).await
            }
            Command::Cas { key, expected, value } => {
                let operation = Operation::Put { key, value, expires: None, condition: expected };
                self.write(operation, out).await
            }
            Command::Delete { key } => {
                self.write(Operation::Delete { key, condition: Condition::Always {} }, out).await
            }
            Command::Append { key, value } => self.write(Operation::Append { key, value }, out).await,
            Command::Expire { key, after } => {
                self.write(Operation::Expire { key, expires: after.map(moment) }, out).await
            }
            Command::Scan { prefix, limit } => self.scan(prefix, limit, out).await,
            Command::KeyRange { read } => self.key_range(read, out).await,
            Command::Status => status::run(self, out).await,
            Command::Events { limit } => cluster::events(self, limit, self.format, out).await,
            Command::Partitions { key } => cluster::partitions(self, key.as_deref(), self.format, out).await,
            Command::Hot => load::hot(self, self.format, out).await,
            Command::Stat { every, count } => load::stat(self, every, count, out).await,
            Command::Latency { duration } => latency::run(self, duration, self.format, out).await,
            Command::Big { prefix, limit } => big::run(self, prefix, limit, self.format, out).await,
            Command::Watch { keys, from, count } => watching::watch(self, keys, from, count, out).await,
            Command::Unwatch { keys } => watching::unwatch(self, keys.as_ref(), out),
            Command::Timing(timing) => {
                self.timing = timing.unwrap_or(!self.timing);
                print(out, &format!("timing is {}\n", if self.timing { "on" } else { "off" }))
            }
            Command::Trace(trace) => {
                self.trace = trace.unwrap_or(!self.trace);
                print(out, &format!("trace is {}\n", if self.trace { "on" } else { "off" }))
            }
            Command::Output(format) => {
                self.format = format.unwrap_or(self.format);
                let name = self.format.to_possible_value().map(|value| value.get_name().to_owned());
                print(out, &format!("output is {}\n", name.unwrap_or_default()))
            }
            Command::Connect { server } => self.connect(server, out).await,
            Command::Disconnect => {
                self.watching.end_all();
                self.client = None;
                self.servers.clear();
                print(out, "disconnected\n")
            }
            Command::LogLevel { level } => {
                self.log.set(level)?;
                print(out, &format!("log level {level}\n"))
            }
            Command::Help { command: None } => print(out, &help::overview()),
            Command::Help { command: Some(entry) } => print(out, &help::explain(entry)),
        }
    }

    async fn get(&mut self, key: Bytes, version: bool, out: &mut dyn Write) -> Result<(), Failure> {
        let Some(found) = self.client_for_keys().await?.get(key.clone()).await? else {
            return Err(not_found(&key));
        };
        if self.wants_json() {
            return print(out, &format!("{}\n", ndjson::found(key, &found)));
        }
        if version {
            print(out, &format!("{}\n", found.version))?;
        }
        let shown = self.terminal.filter(|_| !show::is_printable(&found.value)).map(|_| quoted(&found.value));
        let value = shown.as_ref().map_or(&found.value[..], String::as_bytes);
        let end: &[u8] = if self.format == Format::Raw { b"" } else { b"\n" };
        out.write_all(value).and_then(|()| out.write_all(end)).map_err(Failure::output)
    }

    async fn write(&mut self, operation: Operation, out: &mut dyn Write) -> Result<(), Failure> {
        let client = self.client_for_keys().await?;
        let started = clock::time();
        let outcome = client.write(operation.clone()).await?;
        let elapsed = clock::time().since(started);
        let copies = copies(&client, &operation, &outcome).await;
        let line = done(&operation, &outcome, copies, elapsed)?;
        match self.format {
            Format::Table => match (self.terminal, line.strip_prefix("OK")) {
                (Some(paint), Some(rest)) => print(out, &format!("{}{rest}", paint.ink(Ink::Good, "OK"))),
                _ => print(out, &line),
            },
            Format::Json | Format::Ndjson => {
                print(out, &format!("{}\n", done_json(&outcome, copies, elapsed)))
            }
            Format::Raw => match &outcome {
                Outcome::Appended { offset, .. } => print(out, &format!("{offset}\n")),
                outcome => {
                    print(out, &version(outcome).map(|version| format!("{version}\n")).unwrap_or_default())
                }
            },
        }
    }

    async fn scan(&mut self, prefix: Bytes, limit: Option<u64>, out: &mut dyn Write) -> Result<(), Failure> {
        let mut left = limit.unwrap_or(u64::MAX);
        let page = u32::try_from(left).unwrap_or(u32::MAX).min(crate::limits::SCAN_PAGE_PAIRS);
        let mut scan = self.client_for_keys().await?.scan(prefix).page_pairs(page);
        let mut line = Vec::new();
        let mut first = true;
        let end = if self.format == Format::Json { "\n]\n" } else { "" };
        while left > 0
            && let Some(pairs) = scan.next().await?
        {
            for pair in pairs.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
                line.clear();
                match self.format {
                    Format::Table | Format::Raw => tsv::write(&mut line, &pair.key, &pair.found.value),
                    Format::Ndjson => {
                        writeln!(line, "{}", ndjson::found(pair.key.clone(), &pair.found)).unwrap_or_default()
                    }
                    Format::Json => {
                        let before = if std::mem::take(&mut first) { "[\n  " } else { ",\n  " };
                        write!(line, "{before}{}", ndjson::found(pair.key.clone(), &pair.found))
                            .unwrap_or_default();
                    }
                }
                out.write_all(&line).map_err(Failure::output)?;
                left -= 1;
            }
        }
        print(out, if first && self.format == Format::Json { "[]\n" } else { end })
    }

    async fn key_range(&mut self, read: bool, out: &mut dyn Write) -> Result<(), Failure> {
        let view = self.client().await?.refresh_view().await?;
        if view.assignments.is_empty() {
            return Err(Failure::new(
                Exit::Unavailable,
                "the cluster has no servers yet; start one and ask again",
            ));
        }
        let ranges = if read { view.read_ranges() } else { view.ranges() };
        if self.format != Format::Table {
            return show::ranges_listed(&view, &ranges).print(self.format, out);
        }
        print(out, &(show::ranges(&view, &ranges) + "\n"))
    }

    /// Colours for the answers, if they are for a person.
    pub(super) fn paint(&self) -> Paint {
        self.terminal.unwrap_or_default()
    }

    async fn connect(&mut self, server: String, out: &mut dyn Write) -> Result<(), Failure> {
        let client = Client::connect(std::slice::from_ref(&server), self.options.clone()).await?;
        let shown = connected(&server, &client.view());
        self.watching.end_all();
        self.servers = vec![server];
        self.client = Some(client);
        print(out, &shown)
    }
}

/// What a new connection says.
pub(super) fn connected(server: &str, view: &View) -> String {
    let (cluster, servers, number) = (view.cluster.short(), view.servers.len(), view.number);
    let plural = if servers == 1 { "" } else { "s" };
    format!("connected to {server}: cluster {cluster}, {servers} server{plural}, view {number}\n")
}

/// How many copies have a write that was acknowledged: the in-sync set, by a view that is no older than the write.
/// Whoever is in sync then has it (`docs/kvclient.md`).
async fn copies(client: &Client, operation: &Operation, outcome: &Outcome) -> Option<usize> {
    let (key, version) = (operation.key()?, version(outcome)?);
    let in_view = |view: &View| {
        let assignment = view.assignment(view.partitions.of_key(key))?;
        (assignment.epoch >= version.tag).then_some(assignment.in_sync.len())
    };
    match in_view(&client.view()) {
        Some(copies) => Some(copies),
        None => in_view(&*client.refresh_view().await.ok()?),
    }
}

/// The version that a write made.
fn version(outcome: &Outcome) -> Option<Version> {
    match outcome {
        Outcome::Written { version, .. }
        | Outcome::Appended { version, .. }
        | Outcome::Deleted { version } => Some(*version),
        _ => None,
    }
}

fn moment(after: Duration) -> WallTime {
    WallTime(clock::wall().0.saturating_add(u64::try_from(after.as_millis()).unwrap_or(u64::MAX)))
}

fn print(out: &mut dyn Write, text: &str) -> Result<(), Failure> {
    out.write_all(text.as_bytes()).map_err(Failure::output)
}

fn not_found(key: &[u8]) -> Failure {
    let key = show::key_shown(key);
    Failure::new(Exit::NotFound, format!("no value for `{key}`; `scan` lists what there is"))
}

/// The line for a write that was carried out.
fn done(
    operation: &Operation,
    outcome: &Outcome,
    copies: Option<usize>,
    elapsed: Duration,
) -> Result<String, Failure> {
    let copies = match copies {
        Some(1) => "1 copy, ".to_owned(),
        Some(copies) => format!("{copies} copies, "),
        None => String::new(),
    };
    let elapsed = format!("{copies}{}", show::elapsed_shown(elapsed));
    let key = operation.key().map_or(&[][..], |key| key);
    match outcome {
        Outcome::Written { version, .. } => Ok(format!("OK  version {version}, {elapsed}\n")),
        Outcome::Appended { version, offset } => {
            Ok(format!("OK  offset {offset}, version {version}, {elapsed}\n"))
        }
        Outcome::Deleted { version } => Ok(format!("OK  deleted, version {version}, {elapsed}\n")),
        Outcome::NotFound {} => Err(not_found(key)),
        Outcome::ConditionFailed { current } => Err(not_changed(key, current.as_ref())),
        Outcome::TooLarge { bytes } => Err(Failure::usage(format!(
            "nothing was changed: the value would have {bytes} bytes, over the limit; append to another key"
        ))),
        _ => Err(Failure::usage("the server answered another operation; use one version")),
    }
}

/// The same for programs.
fn done_json(outcome: &Outcome, copies: Option<usize>, elapsed: Duration) -> Value {
    let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    let mut json = json!({ "copies": copies, "micros": micros });
    if let Some(version) = version(outcome) {
        json["version"] = version.to_string().into();
    }
    match outcome {
        Outcome::Appended { offset, .. } => json["offset"] = (*offset).into(),
        Outcome::Written { replaced, .. } => json["replaced"] = (*replaced).into(),
        _ => {}
    }
    json
}

fn not_changed(key: &[u8], current: Option<&Version>) -> Failure {
    let key = show::key_shown(key);
    let message = match current {
        Some(version) => {
            format!(
                "nothing was changed: the value of `{key}` has version {version}; `get {key} --version` shows it"
            )
        }
        None => format!("nothing was changed: there is no value for `{key}`; `put {key} VALUE` sets one"),
    };
    Failure::new(Exit::CompareFailed, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_become_lines_or_codes() {
        let operation = Operation::put("k", "v");
        let version: Version = "41.7".parse().unwrap();
        let line = |outcome, copies| done(&operation, &outcome, copies, Duration::from_micros(840));
        let written = line(Outcome::Written { version, replaced: true }, Some(3)).unwrap();
        assert_eq!(written, "OK  version 41.7, 3 copies, 0.8 ms\n");
        let appended = line(Outcome::Appended { version, offset: 5 }, Some(1)).unwrap();
        assert_eq!(appended, "OK  offset 5, version 41.7, 1 copy, 0.8 ms\n");
        assert_eq!(line(Outcome::Deleted { version }, None).unwrap(), "OK  deleted, version 41.7, 0.8 ms\n");
        let exit = |outcome| line(outcome, None).unwrap_err().exit;
        assert_eq!(exit(Outcome::NotFound {}), Exit::NotFound);
        assert_eq!(exit(Outcome::ConditionFailed { current: None }), Exit::CompareFailed);
        assert_eq!(exit(Outcome::ConditionFailed { current: Some(version) }), Exit::CompareFailed);
        assert_eq!(exit(Outcome::TooLarge { bytes: 9 }), Exit::Usage);
    }
}
