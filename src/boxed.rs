//! The parts of a cluster in a box, started and stopped together.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use kvclient::Client;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::options::Options;

/// All copies must be in place within this time after a start.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Between two looks at whether they are.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// See the module's text.
pub(crate) struct Box {
    dir: PathBuf,
    ecs: String,
    servers: Vec<String>,
    stops: Vec<oneshot::Sender<()>>,
    tasks: JoinSet<Result<(), String>>,
}

impl Box {
    /// Starts everything; nothing is ready yet.
    pub(crate) async fn start(options: &Options) -> Result<Self, String> {
        let dir = options.dir.clone();
        common::files::private_dir(&dir)
            .map_err(|error| format!("cannot make {}: {error}", dir.display()))?;
        let log = dir.join("log");
        common::logging::start(options.log_level, common::logging::Format::Text, Some(&log))
            .map_err(|error| format!("cannot open {}: {error}", log.display()))?;
        let mut started = Self {
            dir: dir.clone(),
            ecs: String::new(),
            servers: Vec::new(),
            stops: Vec::new(),
            tasks: JoinSet::new(),
        };
        started.start_ecs(&dir, options).await?;
        for number in 1..=options.servers {
            started.start_server(&dir, options, number).await?;
        }
        Ok(started)
    }

    async fn start_ecs(&mut self, dir: &Path, options: &Options) -> Result<(), String> {
        let listener = TcpListener::bind(("127.0.0.1", options.ecs_port))
            .await
            .map_err(|error| format!("cannot listen on port {} for the ECS: {error}", options.ecs_port))?;
        self.ecs = address(&listener)?;
        let dir = dir.join("ecs");
        // With fewer servers than usual fewer copies are wanted, and nothing is missing then.
        let copies = usize::from(options.servers).min(common::limits::COPIES).to_string();
        let args = ["ecs".into(), "--copies".into(), copies.into(), "--dir".into(), dir.into_os_string()];
        let ecs_options = ecs::Options::read(args.into_iter()).map_err(|error| error.to_string())?;
        let opened = ecs::Opened::open(&ecs_options).map_err(|error| format!("the ECS: {error}"))?;
        let stop = self.stopper();
        self.tasks.spawn(async move {
            opened.serve(listener, stop).await.map_err(|error| format!("the ECS: {error}"))
        });
        Ok(())
    }

    async fn start_server(&mut self, dir: &Path, options: &Options, number: u16) -> Result<(), String> {
        let port = if options.port == 0 { 0 } else { options.port + number - 1 };
        let listener = kvserver::bind("127.0.0.1", port).await.map_err(|error| error.to_string())?;
        let local = address(&listener)?;
        let dir = dir.join(format!("server-{number}"));
        let reserve = options.reserve_mb.to_string();
        let args = ["kvserver", "--ecs", &self.ecs, "--reserve-mb", &reserve, "--dir"];
        let args = args.iter().map(std::ffi::OsString::from).chain([dir.into_os_string()]);
        let server_options = kvserver::Options::try_parse_from(args).map_err(|error| error.to_string())?;
        let stop = kvserver::Stop { leave: std::future::pending(), now: self.stopper() };
        self.servers.push(local);
        self.tasks.spawn(async move {
            kvserver::run(server_options, listener, stop)
                .await
                .map_err(|error| format!("server {number}: {error}"))
        });
        Ok(())
    }

    /// Resolves when the box stops.
    fn stopper(&mut self) -> impl Future<Output = ()> + Send + 'static {
        let (stop, stopped) = oneshot::channel();
        self.stops.push(stop);
        async move {
            let _gone = stopped.await;
        }
    }

    pub(crate) fn addresses(&self) -> &[String] {
        &self.servers
    }

    /// Waits until all servers are up and every partition has its copies.
    pub(crate) async fn wait_until_ready(&mut self) -> Result<(), String> {
        let servers = self.servers.clone();
        let ready = timeout(READY_WITHIN, all_in_place(&servers));
        tokio::select! {
            ready = ready => ready.map_err(|_| {
                format!(
                    "the cluster was not ready within {} s; {} says why",
                    READY_WITHIN.as_secs(),
                    self.dir.join("log").display()
                )
            }),
            error = self.failed() => Err(error),
        }
    }

    /// Resolves when a part has ended by itself, with the reason.
    pub(crate) async fn failed(&mut self) -> String {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(Err(error))) => return error,
                Some(Err(error)) => return format!("a part of the cluster broke: {error}"),
                Some(Ok(Ok(()))) => {}
                None => return "all parts of the cluster have ended".to_owned(),
            }
        }
    }

    pub(crate) fn welcome(&self) -> String {
        let Self { dir, ecs, servers, .. } = self;
        let copies = servers.len().min(common::limits::COPIES);
        format!(
            "Trefoil: {} servers; every write is on {copies} disks before its OK\n  ECS      http://{ecs}\n  \
             servers  {}\n  data     {}",
            servers.len(),
            servers.join(" "),
            dir.display()
        )
    }

    /// Stops everything, the servers first. What was acknowledged is on disk.
    pub(crate) async fn stop(mut self) -> ExitCode {
        for stop in self.stops.drain(..).rev() {
            let _ended = stop.send(());
        }
        let mut code = ExitCode::SUCCESS;
        while let Some(ended) = self.tasks.join_next().await {
            if let Ok(Err(error)) = ended {
                eprintln!("trefoil: {error}");
                code = ExitCode::FAILURE;
            }
        }
        code
    }
}

fn address(listener: &TcpListener) -> Result<String, String> {
    Ok(listener.local_addr().map_err(|error| error.to_string())?.to_string())
}

#[expect(clippy::disallowed_methods, reason = "the ECS is asked until all is in place; no event says when")]
async fn all_in_place(servers: &[String]) {
    loop {
        if is_in_place(servers).await == Some(true) {
            return;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn is_in_place(servers: &[String]) -> Option<bool> {
    let client = Client::connect(servers, kvclient::Options::default()).await.ok()?;
    let status = client.cluster_status().await.ok()?;
    let up = status.servers.iter().filter(|server| servers.contains(&server.address)).count();
    let active = up == servers.len() && status.under_replicated == 0 && status.joining == 0;
    Some(active)
}
