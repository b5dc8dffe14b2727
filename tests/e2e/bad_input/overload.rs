//! Some clients send more requests than a server can serve, or do not read the replies: the others are served all the
//! while, and no server is taken for dead.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use common::view::ServerState;

use crate::support::wait::Stopwatch;
use crate::support::{Cluster, Settings, memory, resp};

/// Clients that ask for large values and read nothing.
const READERS: usize = 300;

/// Values that they ask for, each.
const GETS: usize = 400;

/// Clients that send many writes at once, again and again.
const PIPELINES: usize = 20;

/// Writes that one of them sends at once.
const SETS: usize = 10_000;

/// Puts of the client whose time is taken.
const PUTS: usize = 300;

/// How many times longer its puts may take than on a quiet server.
const SLOWER_MAX: u32 = 20;

/// A put that takes no longer is quick enough, however short it was on a quiet server.
const QUICK: Duration = Duration::from_millis(250);

/// Resident bytes of a server, at most: the log's 256 MiB with what the trees have in memory, what all connections may
/// have open, and what waits between servers.
const BYTES_MAX: usize = 1 << 30;

/// The times of a client's puts, shortest first. Keys of all partitions, so of all coordinators.
fn puts(address: SocketAddr) -> Vec<Duration> {
    let mut client = resp::RespClient::connect(address);
    let one = |n: usize| {
        let watch = Stopwatch::start();
        assert_eq!(client.line(&format!("SET key{n} value")), "+OK");
        watch.elapsed()
    };
    let mut times: Vec<Duration> = (0..PUTS).map(one).collect();
    times.sort_unstable();
    times
}

fn p99(times: &[Duration]) -> Duration {
    times[times.len() * 99 / 100]
}

/// Asks for values of 512 KiB, and reads none of them.
fn readers(address: SocketAddr) -> Vec<TcpStream> {
    let gets: Vec<u8> = (0..GETS).flat_map(|n| resp::command(&["GET", &format!("big{}", n % 20)])).collect();
    let one = |_| {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.set_nonblocking(true).expect("a socket");
        // As much as the server takes.
        let _taken = stream.write(&gets);
        stream
    };
    (0..READERS).map(one).collect()
}

/// Sends writes of 1 KiB in one go, reads the replies, and begins again.
fn pipeline(address: SocketAddr, over: Arc<AtomicBool>, done: Arc<AtomicUsize>) -> JoinHandle<()> {
    let value = "z".repeat(1 << 10);
    let sets: Vec<u8> = (0..SETS).flat_map(|n| resp::command(&["SET", &format!("pl{n}"), &value])).collect();
    std::thread::spawn(move || {
        let mut client = resp::RespClient::connect(address);
        while !over.load(Ordering::Relaxed) {
            let mut writer = client.stream.try_clone().expect("a second handle");
            let sets = sets.clone();
            let writing = std::thread::spawn(move || writer.write_all(&sets));
            for _ in 0..SETS {
                // On a machine that is busy with something else a write may be too late.
                assert!(!client.reply().to_string().starts_with("-ERR"));
                done.fetch_add(1, Ordering::Relaxed);
            }
            writing.join().expect("a thread").expect("the server reads");
        }
    })
}

/// Whether the machine has other work than this test: times say nothing then.
fn is_busy() -> bool {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = text.split_whitespace().next().and_then(|load| load.parse::<f64>().ok()).unwrap_or_default();
    load > std::thread::available_parallelism().map_or(1, usize::from) as f64
}

fn all_up(cluster: &Cluster) -> bool {
    let status = cluster.status().expect("the ECS answers");
    status.servers.iter().all(|server| server.state == ServerState::Up)
}

#[test]
#[ignore = "takes a machine with nothing else to do: see \"What is not proven\" in docs/performance.md"]
fn others_are_served_beside_pipelines_and_readers_that_do_not_read() {
    let cluster = Settings { timers: "steady", ..Settings::default() }.start(3);
    let address = cluster.address(1);
    let mut loader = resp::RespClient::connect(address);
    for n in 0..20 {
        let value = char::from(b'a' + n as u8).to_string().repeat(512 << 10);
        assert_eq!(loader.ask(&["SET", &format!("big{n}"), &value]).to_string(), "+OK");
    }
    let (busy, quiet) = (is_busy(), puts(address));
    let view = cluster.status().expect("the ECS answers").view;
    let (over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let idle = readers(address);
    let pipelines: Vec<JoinHandle<()>> =
        (0..PIPELINES).map(|_| pipeline(address, Arc::clone(&over), Arc::clone(&done))).collect();
    let loaded = puts(address);
    let up = all_up(&cluster);
    let peak = (0..3).map(|at| memory::peak(cluster.server(at).id())).max().unwrap_or_default();
    over.store(true, Ordering::Relaxed);
    drop(idle);
    pipelines.into_iter().for_each(|pipeline| pipeline.join().expect("every write is answered"));
    let (quiet, loaded) = (p99(&quiet), p99(&loaded));
    let writes = done.load(Ordering::Relaxed);
    println!("p99 {quiet:?} alone, {loaded:?} beside {writes} other writes; {} MiB at most", peak >> 20);
    assert!(up, "no server is taken for dead");
    assert_eq!(cluster.status().expect("the ECS answers").view, view, "and no view was needed");
    assert!(peak < BYTES_MAX, "{} MiB", peak >> 20);
    if busy {
        return println!("the times are not judged: the machine is busy with something else");
    }
    assert!(loaded < (quiet * SLOWER_MAX).max(QUICK), "{quiet:?} alone, {loaded:?} beside others");
}
