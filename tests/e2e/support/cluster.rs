//! An ECS and servers in one temporary directory.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};

use common::status::{ClusterStatus, MemberStatus};
use common::view::ServerState;
use skipped::skip;
use tempfile::TempDir;

use super::db::Db;
use super::http;
use super::net::{Host, Net};
use super::process::{Process, Program, Refused, free_port};
use super::wait::{SOON, wait_for};

/// Disk that servers leave free: the default is for machines, not for tests.
const RESERVE_MB: &str = "16";

/// Partitions of a test's cluster: enough that every server coordinates several and keeps copies of several.
const PARTITIONS: &str = "64";

/// How a cluster is started.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// More arguments of the ECS.
    pub(crate) ecs_args: Vec<String>,
    /// More arguments of each server.
    pub(crate) server_args: Vec<String>,
    /// More environment of each server.
    pub(crate) server_env: Vec<(String, String)>,
    /// What runs the ECS and the servers, with its arguments; nothing: they run by themselves.
    pub(crate) under: Vec<String>,
    /// Servers keep their ports over restarts.
    pub(crate) same_ports: bool,
    /// `adaptive`, `fast` or `steady`.
    pub(crate) timers: &'static str,
    /// Where the cluster's directory is made, if not where temporary ones are.
    pub(crate) base: Option<PathBuf>,
    /// The ECS and so many servers have a network namespace each.
    pub(crate) net_servers: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ecs_args: vec!["--partitions".into(), PARTITIONS.into()],
            server_args: Vec::new(),
            server_env: Vec::new(),
            under: Vec::new(),
            same_ports: false,
            timers: "adaptive",
            base: None,
            net_servers: 0,
        }
    }
}

impl Settings {
    /// Adds arguments for each server.
    pub(crate) fn server_args(mut self, args: &[&str]) -> Self {
        self.server_args.extend(args.iter().map(|&arg| arg.to_owned()));
        self
    }

    /// Adds arguments for the ECS.
    pub(crate) fn ecs_args(mut self, args: &[&str]) -> Self {
        self.ecs_args.extend(args.iter().map(|&arg| arg.to_owned()));
        self
    }

    /// Gives the ECS and up to `servers` servers a network of their own; where the machine has none the test is
    /// skipped.
    pub(crate) fn networked(mut self, servers: usize) -> Option<Self> {
        match Net::new(servers) {
            Ok(_works) => {
                self.net_servers = servers;
                Some(self)
            }
            Err((missing, why)) => {
                skip!(missing, "{why}");
                None
            }
        }
    }

    /// Starts a cluster and waits until all of its servers have their share.
    pub(crate) fn start(self, servers: usize) -> Cluster {
        let mut cluster = self.start_ecs();
        for _ in 0..servers {
            cluster.add_server();
        }
        cluster.wait_settled();
        cluster
    }

    /// Starts an ECS alone.
    pub(crate) fn start_ecs(self) -> Cluster {
        let base = self.base.clone().unwrap_or_else(std::env::temp_dir);
        let dir =
            tempfile::Builder::new().prefix("trefoil-e2e-").tempdir_in(base).expect("a temporary directory");
        let net = (self.net_servers > 0).then(|| Net::new(self.net_servers).expect("it was tried before"));
        let (settings, ecs_port) = (self, free_port());
        let mut cluster = Cluster { settings, ecs_port, ecs: None, servers: Vec::new(), dir: Some(dir), net };
        cluster.start_ecs();
        cluster
    }
}

/// One server's place: it stays, processes come and go.
#[derive(Debug)]
struct Slot {
    dir: PathBuf,
    port: u16,
    process: Option<Process>,
    /// It was started with arguments of its own.
    args: Vec<String>,
    env: Vec<(String, String)>,
}

/// A cluster. Servers are numbered in the order of their first start.
#[derive(Debug)]
pub(crate) struct Cluster {
    settings: Settings,
    ecs_port: u16,
    ecs: Option<Process>,
    servers: Vec<Slot>,
    /// Taken when it is removed.
    dir: Option<TempDir>,
    net: Option<Net>,
}

impl Cluster {
    /// A cluster with default settings, all servers settled.
    pub(crate) fn start(servers: usize) -> Self {
        Settings::default().start(servers)
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.as_ref().expect("it is there until the end").path()
    }

    // The ECS.

    pub(crate) fn ecs(&self) -> &Process {
        self.ecs.as_ref().expect("the ECS runs")
    }

    pub(crate) fn ecs_address(&self) -> SocketAddr {
        SocketAddr::new(self.host_address(Host::Ecs), self.ecs_port)
    }

    /// The network, of a cluster that was started with one.
    pub(crate) fn net(&self) -> &Net {
        self.net.as_ref().expect("it has a network of its own")
    }

    fn host_address(&self, host: Host) -> IpAddr {
        self.net.as_ref().map_or(Ipv4Addr::LOCALHOST.into(), |net| net.address(host))
    }

    /// What a process is started under, and the address that it listens at.
    fn command(&self, program: Program, host: Host, port: u16) -> Command {
        let mut under = self.net.as_ref().map(|net| net.under(host)).unwrap_or_default();
        under.extend_from_slice(&self.settings.under);
        let mut command = program.command_under(&under);
        command.args(["-p", &port.to_string(), "-a", &self.host_address(host).to_string()]);
        command.args(["--timers", self.settings.timers]);
        command
    }

    /// Starts the ECS, at its port of before.
    pub(crate) fn start_ecs(&mut self) {
        let mut command = self.command(Program::Ecs, Host::Ecs, self.ecs_port);
        command.arg("-d").arg(self.path().join("ecs")).args(&self.settings.ecs_args);
        let ecs = Process::start(command, "ecs", self.path());
        self.ecs = Some(ecs.unwrap_or_else(|refused| panic!("the ECS did not start: {refused:?}")));
    }

    /// `kill -9` to the ECS, and its disk is lost.
    pub(crate) fn lose_ecs(&mut self) {
        self.kill_ecs();
        std::fs::remove_dir_all(self.path().join("ecs")).expect("the ECS's directory");
    }

    /// Starts an ECS with other arguments than the first one, at its port.
    pub(crate) fn start_ecs_with(&mut self, args: &[&str]) {
        self.settings.ecs_args = args.iter().map(|&arg| arg.to_owned()).collect();
        self.start_ecs();
    }

    /// The ECS, to be stopped by the caller.
    pub(crate) fn take_ecs(&mut self) -> Process {
        self.ecs.take().expect("the ECS runs")
    }

    pub(crate) fn kill_ecs(&mut self) {
        self.take_ecs().kill();
    }

    /// # Errors
    /// When the ECS does not answer.
    pub(crate) fn status(&self) -> Result<ClusterStatus, String> {
        http::status(self.ecs_address())
    }

    // Servers.

    /// Starts a new server with an empty directory; it need not have joined yet.
    pub(crate) fn add_server(&mut self) -> usize {
        self.add_server_with(None, &[], &[])
    }

    /// Starts a new server with a directory, arguments and an environment of its own.
    pub(crate) fn add_server_with(
        &mut self,
        dir: Option<PathBuf>,
        args: &[&str],
        env: &[(&str, &str)],
    ) -> usize {
        let index = self.servers.len();
        let dir = dir.unwrap_or_else(|| self.path().join(format!("server-{index}")));
        let port = if self.settings.same_ports { free_port() } else { 0 };
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        let env = env.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        self.servers.push(Slot { dir, port, process: None, args, env });
        self.start_server(index);
        index
    }

    /// Starts a server again that has stopped.
    pub(crate) fn start_server(&mut self, index: usize) {
        if let Err(refused) = self.try_start_server(index) {
            panic!("server {index} did not start: {refused:?}");
        }
    }

    /// # Errors
    /// When it ends before it listens.
    pub(crate) fn try_start_server(&mut self, index: usize) -> Result<(), Refused> {
        let slot = &self.servers[index];
        assert!(slot.process.is_none(), "server {index} runs");
        let mut command = self.command(Program::Server, Host::Server(index), slot.port);
        command.args(["-b", &self.ecs_address().to_string()]).arg("-d").arg(&slot.dir);
        command.args(&self.settings.server_args).args(&slot.args);
        if !slot.args.iter().any(|arg| arg == "--reserve-mb") {
            command.args(["--reserve-mb", RESERVE_MB]);
        }
        command.envs(self.settings.server_env.iter().chain(&slot.env).cloned());
        let process = Process::start(command, &format!("server-{index}"), self.path())?;
        self.servers[index].process = Some(process);
        Ok(())
    }

    /// A server has ended by itself; it may be started again.
    pub(crate) fn forget_process(&mut self, index: usize) {
        let ended = self.servers[index].process.take().is_some_and(|mut process| process.ended().is_some());
        assert!(ended, "server {index} runs");
    }

    pub(crate) fn server(&self, index: usize) -> &Process {
        self.servers[index].process.as_ref().unwrap_or_else(|| panic!("server {index} does not run"))
    }

    pub(crate) fn server_mut(&mut self, index: usize) -> &mut Process {
        self.servers[index].process.as_mut().unwrap_or_else(|| panic!("server {index} does not run"))
    }

    pub(crate) fn server_dir(&self, index: usize) -> &Path {
        &self.servers[index].dir
    }

    /// Where a running server listens.
    pub(crate) fn address(&self, index: usize) -> SocketAddr {
        self.server(index).address
    }

    /// Where the running servers listen.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.processes().map(|process| process.address).collect()
    }

    /// The numbers of the servers that run.
    pub(crate) fn running(&self) -> impl Iterator<Item = usize> {
        let slots = self.servers.iter().enumerate();
        slots.filter(|(_, slot)| slot.process.is_some()).map(|(index, _)| index)
    }

    fn processes(&self) -> impl Iterator<Item = &Process> {
        self.servers.iter().filter_map(|slot| slot.process.as_ref())
    }

    /// `kill -9`.
    pub(crate) fn kill_server(&mut self, index: usize) {
        self.servers[index].process.take().unwrap_or_else(|| panic!("server {index} runs")).kill();
    }

    /// `kill -9` to all servers, before any of them can notice that another one has gone.
    pub(crate) fn kill_servers(&mut self) {
        self.processes().for_each(|process| process.signal(rustix::process::Signal::KILL));
        for index in 0..self.servers.len() {
            if self.servers[index].process.is_some() {
                self.kill_server(index);
            }
        }
    }

    /// SIGTERM, and the exit status.
    #[track_caller]
    pub(crate) fn terminate_server(&mut self, index: usize) -> ExitStatus {
        let status = self.server_mut(index).terminate();
        self.servers[index].process = None;
        status
    }

    // What the cluster is asked.

    /// Waits until the ECS counts all running servers and no others as up and in its newest view, and every copy is
    /// in sync and spread evenly over them.
    #[track_caller]
    pub(crate) fn wait_settled(&self) -> ClusterStatus {
        let servers = self.addresses();
        wait_for("the cluster settles", 2 * SOON, || {
            let status = self.status()?;
            unsettled(&status, &servers).map_or(Ok(status), Err)
        })
    }

    /// A client that knows all running servers.
    pub(crate) fn client(&self) -> Db {
        Db::connect(&self.seeds())
    }

    /// The addresses as the client library wants them.
    pub(crate) fn seeds(&self) -> Vec<String> {
        self.addresses().iter().map(SocketAddr::to_string).collect()
    }

    /// Runs `kvclient` at one server.
    pub(crate) fn kvclient(&self, server: usize, args: &[&str]) -> Output {
        kvclient(self.address(server), args)
    }

    /// `kvserver reinstate` of a server that has stopped, with more arguments; what it says.
    pub(crate) fn reinstate(&self, index: usize, args: &[&str]) -> String {
        on_directory("reinstate", self.server_dir(index), args)
    }

    /// `kvserver inspect --json` of a server that has stopped.
    pub(crate) fn inspect(&self, index: usize) -> serde_json::Value {
        let mut command = Program::Server.command();
        let output = command.args(["inspect", "--json", "-d"]).arg(self.server_dir(index)).output();
        let output = output.expect("kvserver runs");
        assert!(output.status.success(), "inspect: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("a listing in JSON")
    }
}

/// Runs one of `kvserver`'s commands on a directory, with more arguments; what it says.
pub(crate) fn on_directory(command: &str, dir: &Path, args: &[&str]) -> String {
    let output = Program::Server.command().args([command, "-d"]).arg(dir).args(args).output();
    let output = output.expect("kvserver runs");
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Copies a directory with all that is in it.
pub(crate) fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_directory(&path, &to);
        } else {
            std::fs::copy(&path, &to).expect("a copy");
        }
    }
}

/// Runs `kvclient` with a server's address.
pub(crate) fn kvclient(server: SocketAddr, args: &[&str]) -> Output {
    let mut command = Program::Client.command();
    command.args(["-s", &server.to_string()]).args(args).stdin(Stdio::null());
    command.output().expect("kvclient runs")
}

/// Why a cluster is not settled.
fn unsettled(status: &ClusterStatus, running: &[SocketAddr]) -> Option<String> {
    let (up, others): (Vec<_>, Vec<_>) =
        status.servers.iter().partition(|server| server.state == ServerState::Up);
    let mut text = String::new();
    for address in running.iter().map(SocketAddr::to_string) {
        if !up.iter().any(|server| server.address == address) {
            let _ = write!(text, "{address} is not up; ");
        }
    }
    for server in others {
        let copies = server.coordinator + server.replica;
        if server.state == ServerState::Leaving || copies > 0 {
            let _ = write!(text, "{} is {:?} with {copies} copies; ", server.address, server.state);
        }
    }
    for server in up.iter().filter(|server| server.view != status.view) {
        let _ = write!(text, "{} uses view {}; ", server.address, server.view);
    }
    let spread = |counts: &dyn Fn(&MemberStatus) -> u32| {
        let counts = up.iter().map(|server| counts(server));
        counts.clone().max().unwrap_or(0) - counts.min().unwrap_or(0)
    };
    let coordinators = spread(&|server| server.coordinator);
    let copies = spread(&|server| server.coordinator + server.replica);
    if coordinators > 1 || copies > 1 {
        let _ = write!(text, "uneven by {coordinators} coordinators, {copies} copies; ");
    }
    if status.misplaced > 0 {
        let _ = write!(text, "{} partitions are not as planned; ", status.misplaced);
    }
    // With fewer servers than copies some are missing for good.
    let missing = status.under_replicated > 0 && up.len() >= status.copies as usize;
    if up.len() != running.len() || missing || status.joining > 0 {
        text.push_str("servers or copies are missing; ");
    }
    (!text.is_empty()).then(|| format!("{text}{status:?}"))
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        for process in self.ecs.iter().chain(self.processes()) {
            process.signal(rustix::process::Signal::KILL);
        }
        if failed {
            for process in self.ecs.iter().chain(self.processes()) {
                process.print_log();
            }
            self.print_stopped_logs();
        }
        // The processes are gone before their files are.
        self.ecs = None;
        self.servers.clear();
        self.net = None;
        let left = self.dir.take().map(TempDir::close);
        if let Some(Err(error)) = left
            && !failed
        {
            panic!("the temporary directory stays behind: {error}");
        }
    }
}

impl Cluster {
    /// The logs of servers that do not run any more.
    fn print_stopped_logs(&self) {
        for (index, _) in self.servers.iter().enumerate().filter(|(_, slot)| slot.process.is_none()) {
            let log = self.path().join(format!("server-{index}.log"));
            let log = std::fs::read_to_string(log).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(20).collect();
            eprintln!("--- server-{index}, stopped, the end of its log:");
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}
