//! The state that the commands of one shell, or of one process, share.

use kvclient::{Client, Options};

use crate::frame::failure::Failure;
use crate::frame::logging::Log;
use crate::frame::output::Format;
use crate::frame::style::Paint;
use crate::frame::watching::Watching;

/// The session with a cluster, connected when the first command needs it.
#[derive(Debug)]
pub(crate) struct Session {
    servers: Vec<String>,
    options: Options,
    pub(crate) log: Log,
    client: Option<Client>,
    /// The form of the answers.
    pub(crate) format: Format,
    /// Whether commands print how long they took.
    pub(crate) timing: bool,
    /// Whether requests for keys are traced, and their ids printed.
    pub(crate) trace: bool,
    /// The collector that their spans go to.
    #[cfg(feature = "otel")]
    pub(crate) spans: Option<common::spans::Spans>,
    /// The last line that may be run again.
    last: Option<Vec<u8>>,
    /// The colours of a person's terminal, if the answers go to one.
    terminal: Option<Paint>,
    /// The keys that a shell watches in the background.
    pub(crate) watching: Watching,
}

impl Session {
    pub(crate) fn new(servers: Vec<String>, options: Options, log: Log) -> Self {
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

    /// Whether answers are JSON.
    pub(crate) fn wants_json(&self) -> bool {
        matches!(self.format, Format::Json | Format::Ndjson)
    }

    /// Keeps a line for `:watch`.
    pub(crate) fn remember(&mut self, line: &[u8]) {
        self.last = Some(line.to_vec());
    }

    /// Whether the answers go to a person's terminal.
    pub(crate) fn is_for_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    /// Colours for a person's terminal, if the answers go to one.
    pub(crate) fn terminal(&self) -> Option<Paint> {
        self.terminal
    }

    /// Makes the answers go to a person's terminal.
    pub(crate) fn for_terminal(&mut self, paint: Paint) {
        self.terminal = Some(paint);
    }

    /// Sends spans of traced requests to a collector, if one is named.
    #[cfg(feature = "otel")]
    pub(crate) fn send_spans(&mut self, endpoint: Option<&str>) -> Result<(), Failure> {
        let process = std::process::id().to_string();
        let start = |endpoint| common::spans::Spans::start(endpoint, "kvclient", &process);
        self.spans = endpoint.map(start).transpose().map_err(Failure::usage)?;
        Ok(())
    }

    /// Ends the session: spans that wait for the collector are sent.
    #[cfg(feature = "otel")]
    pub(crate) fn end(self) {
        if let Some(spans) = self.spans {
            spans.stop();
        }
    }

    pub(crate) fn servers(&self) -> &[String] {
        &self.servers
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// The client, connected.
    pub(crate) async fn client(&mut self) -> Result<Client, Failure> {
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

    /// The client for a question about servers rather than keys: one that is up and in no view yet is no reason to
    /// wait.
    pub(crate) async fn client_for_servers(&mut self) -> Result<Client, Failure> {
        if self.client.is_none() && !self.servers.is_empty() {
            let client = Client::connect_lazy(&self.servers, self.options.clone())?;
            if client.refresh_view().await.is_ok() {
                self.client = Some(client);
            } else if client.ecs_address().await.is_ok() {
                return Ok(client);
            }
        }
        self.client().await
    }

    /// The client for a command about keys: traced, if that is wanted.
    pub(crate) async fn client_for_keys(&mut self) -> Result<Client, Failure> {
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
    pub(crate) fn connected(&self) -> Option<Client> {
        self.client.clone()
    }

    /// Connects to the cluster of this server, for all commands from now on.
    pub(crate) async fn connect(&mut self, server: String) -> Result<Client, Failure> {
        let client = Client::connect([&server], self.options.clone()).await?;
        self.watching.end_all();
        self.servers = vec![server];
        self.client = Some(client.clone());
        Ok(client)
    }

    /// Closes the connections.
    pub(crate) fn disconnect(&mut self) {
        self.watching.end_all();
        self.client = None;
        self.servers.clear();
    }

    /// The line that `:watch` runs when none is named.
    pub(crate) fn last(&self) -> Option<Vec<u8>> {
        self.last.clone()
    }

    /// Colours for the answers, if they are for a person.
    pub(crate) fn paint(&self) -> Paint {
        self.terminal.unwrap_or_default()
    }
}
