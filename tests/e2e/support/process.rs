//! One process of ours: started, listened to, stopped.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::wait::{SOON, wait_for};

/// Lines of a log that are printed when a test has failed.
const LOG_LINES_SHOWN: usize = 60;

/// A program of this package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Ecs,
    Server,
    Client,
}

impl Program {
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Ecs => env!("CARGO_BIN_EXE_ecs"),
            Self::Server => env!("CARGO_BIN_EXE_kvserver"),
            Self::Client => env!("CARGO_BIN_EXE_kvclient"),
        }
    }

    /// A command that takes nothing from this process's environment and has nothing to read.
    pub(crate) fn command(self) -> Command {
        self.command_under(&[])
    }

    /// A command as above, run by another program, `under`, that takes ours and its arguments as its last ones and
    /// becomes it.
    pub(crate) fn command_under(self, under: &[String]) -> Command {
        let mut words = under.iter().map(String::as_str).chain([self.path()]);
        let mut command = Command::new(words.next().expect("ours at least"));
        command.args(words);
        command.stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TREFOIL_") {
                command.env_remove(name);
            }
        }
        command
    }
}

/// A program that did not come to listen.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: ExitStatus,
    /// What it wrote to standard error.
    pub(crate) log: String,
}

/// A process that listens. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    log: PathBuf,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts a program; standard error goes to the end of `name`.log in `logs`.
    ///
    /// # Errors
    /// When it ends before it listens.
    pub(crate) fn start(mut command: Command, name: &str, logs: &Path) -> Result<Self, Refused> {
        let (log, out) = (logs.join(format!("{name}.log")), logs.join(format!("{name}.out")));
        let log_before = fs::metadata(&log).map_or(0, |log| log.len());
        let stderr = File::options().create(true).append(true).open(&log).expect("a log file");
        command.stdout(File::create(&out).expect("a file for the output")).stderr(stderr);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let found = wait_for(&format!("{name} listens"), SOON, || {
            let text = fs::read_to_string(&out).unwrap_or_default();
            if let Some((line, _)) = text.split_once('\n')
                && let Some((_, address)) = line.split_once(" listening on ")
            {
                return Ok(Ok(address.parse().unwrap_or_else(|error| panic!("{line}: {error}"))));
            }
            match child.try_wait().expect("a child can be asked") {
                Some(status) => Ok(Err(status)),
                None => Err("it says nothing".to_owned()),
            }
        });
        match found {
            Ok(address) => Ok(Self { name: name.to_owned(), child, address, log, status: None }),
            Err(status) => {
                let log = fs::read(&log).unwrap_or_default();
                let log = log.get(usize::try_from(log_before).unwrap_or(usize::MAX)..).unwrap_or_default();
                Err(Refused { status, log: String::from_utf8_lossy(log).into_owned() })
            }
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where it serves its metrics, if it was started with `--http`.
    pub(crate) fn http(&self) -> SocketAddr {
        let out = fs::read_to_string(self.log.with_extension("out")).unwrap_or_default();
        let line = out.lines().find_map(|line| line.split_once(" http on "));
        line.and_then(|(_, address)| address.parse().ok()).unwrap_or_else(|| panic!("no address: {out}"))
    }

    /// All that it and its earlier lives wrote to standard error.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        // It may have ended by itself; whoever cares looks at the status.
        let _gone = kill_process(id, signal);
    }

    /// The exit status, if it has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("a child can be asked");
        }
        self.status
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let what = format!("{} ends", self.name);
        wait_for(&what, 2 * SOON, || self.ended().ok_or_else(|| "it runs".to_owned()))
    }

    /// SIGKILL: nothing is flushed, nothing is said.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        let _status = self.wait();
    }

    /// SIGTERM, and its end.
    #[track_caller]
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Prints the end of the log, for the reader of a failed test.
    pub(crate) fn print_log(&self) {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(LOG_LINES_SHOWN);
        eprintln!("--- {} ({}), the last of {} lines:", self.name, self.address, lines.len());
        for line in &lines[from..] {
            eprintln!("{line}");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.signal(Signal::KILL);
            let _status = self.child.wait();
        }
    }
}

/// A port that no process listens on, for programs that cannot use port 0. It is below the ports that systems give to
/// outgoing connections, so that none of them takes it meanwhile.
pub(crate) fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(10_000..30_000);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
