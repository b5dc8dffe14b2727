//! A network of the tests' own: a namespace for each process and a bridge between them, where the machine allows it.
//!
//! The test itself stays outside and is reached as one more host, so clients can be cut off as servers can. Cuts are
//! rules of `nft` at the receiver: what comes from a host is dropped, or answered with a reset.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use skipped::Missing;

/// What names of namespaces begin with; the process's id follows, so that those that a killed test left are found.
const PREFIX: &str = "trft";

/// Networks that this process has made.
static NETS: AtomicU32 = AtomicU32::new(0);

/// Tries to find a part of 10.0.0.0/8 that is not in use.
const SUBNET_TRIES: u32 = 20;

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    /// The test: its clients, and all that it asks.
    Clients,
    Ecs,
    Server(usize),
}

/// Namespaces, removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Net {
    name: String,
    subnet: [u8; 3],
    servers: usize,
}

impl Net {
    /// A network for an ECS and servers.
    ///
    /// # Errors
    /// Why this machine has none.
    pub(crate) fn new(servers: usize) -> Result<Self, (Missing, String)> {
        if !rustix::process::geteuid().is_root() {
            return Err((Missing::NetworkNamespace, "they need root".to_owned()));
        }
        run("nft", &["--version"]).map_err(|why| (Missing::Nft, why))?;
        run("ip", &["-V"]).map_err(|why| (Missing::Ip, why))?;
        Self::build_new(servers).map_err(|why| (Missing::NetworkNamespace, why))
    }

    fn build_new(servers: usize) -> Result<Self, String> {
        remove_leftovers()?;
        let used = run("ip", &["-4", "route"])?;
        let mut subnets = (0..SUBNET_TRIES).map(|_| [10, fastrand::u8(64..), fastrand::u8(..)]);
        let subnet = subnets.find(|subnet| !used.contains(&prefix(*subnet))).ok_or("no free network")?;
        // A number of its own: two of the same name would remove each other's namespaces.
        let number = NETS.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}x{number:x}", std::process::id());
        let net = Self { name, subnet, servers };
        net.build()?;
        Ok(net)
    }

    fn build(&self) -> Result<(), String> {
        let bridge = &self.bridge();
        run("ip", &["link", "add", bridge, "type", "bridge"])?;
        run("ip", &["link", "set", bridge, "up"])?;
        run("ip", &["addr", "add", &format!("{}/24", self.address(Host::Clients)), "dev", bridge])?;
        for host in self.hosts() {
            let (space, link) = (&self.namespace(host), &format!("{}v{}", self.bridge(), number(host)));
            run("ip", &["netns", "add", space])?;
            run("ip", &["link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", space])?;
            run("ip", &["link", "set", link, "master", bridge, "up"])?;
            run("ip", &["-n", space, "addr", "add", &format!("{}/24", self.address(host)), "dev", "eth0"])?;
            run("ip", &["-n", space, "link", "set", "eth0", "up"])?;
            run("ip", &["-n", space, "link", "set", "lo", "up"])?;
            self.rules(host, "table ip cut { chain in { type filter hook input priority 0; }; }")?;
        }
        Ok(())
    }

    fn hosts(&self) -> impl Iterator<Item = Host> + use<> {
        [Host::Ecs].into_iter().chain((0..self.servers).map(Host::Server))
    }

    /// At most 15 bytes with what is added to it.
    fn bridge(&self) -> String {
        format!("tb{:x}{:x}", self.subnet[1], self.subnet[2])
    }

    fn namespace(&self, host: Host) -> String {
        format!("{}-{}", self.name, number(host))
    }

    pub(crate) fn address(&self, host: Host) -> IpAddr {
        let [a, b, c] = self.subnet;
        Ipv4Addr::new(a, b, c, 1 + u8::try_from(number(host)).expect("few hosts")).into()
    }

    /// What runs a program at a host and becomes it.
    pub(crate) fn under(&self, host: Host) -> Vec<String> {
        ["ip", "netns", "exec", &self.namespace(host)].map(str::to_owned).to_vec()
    }

    /// Drops all that one host sends to another from now on. The clients are never the receiver: cut what servers
    /// receive from them.
    #[track_caller]
    pub(crate) fn cut(&self, from: Host, to: Host) {
        self.block(from, to, "drop");
    }

    /// Drops all between two hosts, in both directions.
    #[track_caller]
    pub(crate) fn part(&self, one: Host, other: Host) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// Answers all that one host sends to another with a reset: connections break at both ends.
    #[track_caller]
    pub(crate) fn reset(&self, from: Host, to: Host) {
        self.block(from, to, "ip protocol tcp reject with tcp reset");
    }

    /// Loses this share of all packets that a host receives.
    #[track_caller]
    pub(crate) fn lose(&self, to: Host, percent: u32) {
        let rule = format!("add rule ip cut in numgen random mod 100 < {percent} drop");
        self.rules(to, &rule).unwrap_or_else(|why| panic!("{why}"));
    }

    #[track_caller]
    fn block(&self, from: Host, to: Host, what: &str) {
        let rule = format!("add rule ip cut in ip saddr {} counter {what}", self.address(from));
        self.rules(to, &rule).unwrap_or_else(|why| panic!("{why}"));
    }

    /// Packets that the rules at a host have stopped so far.
    pub(crate) fn stopped(&self, to: Host) -> u64 {
        let space = self.namespace(to);
        let rules = run("ip", &["netns", "exec", &space, "nft", "list", "chain", "ip", "cut", "in"])
            .unwrap_or_default();
        let words: Vec<&str> = rules.split_whitespace().collect();
        let counts = words.windows(2).filter(|pair| pair[0] == "packets");
        counts.filter_map(|pair| pair[1].parse::<u64>().ok()).sum()
    }

    /// Ends everything that was cut.
    pub(crate) fn mend(&self) {
        for host in self.hosts() {
            self.rules(host, "flush chain ip cut in").unwrap_or_else(|why| panic!("{why}"));
        }
    }

    fn rules(&self, host: Host, rules: &str) -> Result<(), String> {
        let space = self.namespace(host);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &space, "nft", "-f", "-"]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let written = child.stdin.take().expect("it is piped").write_all(rules.as_bytes());
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        let errors = String::from_utf8_lossy(&output.stderr);
        if output.status.success() && written.is_ok() {
            Ok(())
        } else {
            Err(format!("nft {rules}: {errors}"))
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for host in self.hosts() {
            let _gone = run("ip", &["netns", "del", &self.namespace(host)]);
        }
        let _gone = run("ip", &["link", "del", &self.bridge()]);
    }
}

fn number(host: Host) -> usize {
    match host {
        Host::Clients => 0,
        Host::Ecs => 1,
        Host::Server(index) => 2 + index,
    }
}

fn prefix([a, b, c]: [u8; 3]) -> String {
    format!("{a}.{b}.{c}.")
}

/// Removes what tests left behind that were killed. A bridge without its namespaces does no harm.
fn remove_leftovers() -> Result<(), String> {
    for name in run("ip", &["netns", "list"])?.lines().filter_map(|line| line.split_whitespace().next()) {
        let process =
            name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('x')).map(|(process, _)| process);
        if let Some(process) = process
            && !std::path::Path::new("/proc").join(process).exists()
        {
            run("ip", &["netns", "del", name])?;
        }
    }
    Ok(())
}

fn run(program: &str, args: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{program} {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}
