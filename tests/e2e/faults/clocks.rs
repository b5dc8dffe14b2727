//! Wall clocks that jump, or are wrong for good: when values expire, and what every server says of it.

use std::fs;
use std::path::{Path, PathBuf};

use skipped::{Missing, skip};

use crate::support::resp::RespClient;
use crate::support::wait::SOON;
use crate::support::{Cluster, Settings, wait_until};

/// Keys of all partitions.
const KEYS: usize = 60;

/// What values get to live, in milliseconds.
const TTL_MS: u64 = 3_000;

/// What times at two servers may differ by: a request takes so long under load, and clocks agree to a second.
const APART_MS: i64 = 2_000;

/// The library that lets a process see another wall clock.
pub(super) fn faketime() -> Option<&'static str> {
    let places = [
        "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
        "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    ];
    let found = places.into_iter().find(|place| Path::new(place).exists());
    if found.is_none() {
        skip!(Missing::Faketime);
    }
    found
}

/// A wall clock that a test sets.
pub(super) struct FakeClock {
    file: PathBuf,
    library: &'static str,
}

impl FakeClock {
    pub(super) fn new(cluster: &Cluster, library: &'static str, ahead: &str) -> Self {
        let clock = Self { file: cluster.path().join("wall-clock"), library };
        clock.set(ahead);
        clock
    }

    /// How far it is ahead, as libfaketime takes it.
    pub(super) fn set(&self, ahead: &str) {
        // Written and renamed: a reader finds the old or the new one.
        let new = self.file.with_extension("new");
        fs::write(&new, ahead).expect("a file");
        fs::rename(new, &self.file).expect("a file");
    }

    pub(super) fn env(&self) -> [(&'static str, &str); 5] {
        [
            ("LD_PRELOAD", self.library),
            ("FAKETIME_TIMESTAMP_FILE", self.file.to_str().expect("a name in ASCII")),
            ("FAKETIME_NO_CACHE", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]
    }
}

fn number(reply: &str) -> i64 {
    reply.parse().unwrap_or_else(|_| panic!("{reply} is no number"))
}

/// Three servers, of which the last one sees the clock.
fn cluster(library: &'static str, ahead: &str) -> (Cluster, FakeClock) {
    let mut cluster = Settings::default().start(2);
    let clock = FakeClock::new(&cluster, library, ahead);
    cluster.add_server_with(None, &[], &clock.env());
    cluster.wait_settled();
    (cluster, clock)
}

/// How often the last server has reported that its clock is off.
fn reports(cluster: &Cluster) -> usize {
    cluster.server(2).log().matches(" s off: it has jumped").count()
}

#[test]
fn a_clock_that_jumps_ends_no_value_early_or_late() {
    let Some(library) = faketime() else { return };
    let (cluster, clock) = cluster(library, "+0s");
    let mut client = RespClient::connect(cluster.address(0));
    for jump in ["+7200s", "+365d", "-365d"] {
        for key in 0..KEYS {
            assert_eq!(client.line(&format!("SET before{key} v PX {}", 100 * TTL_MS)), "+OK");
        }
        let before = reports(&cluster);
        clock.set(jump);
        // Entries are stamped until the jump is reported, and after.
        let mut last = RespClient::connect(cluster.address(2));
        for _ in 0..2 {
            wait_until("the jump is reported", SOON, || {
                for key in 0..KEYS {
                    assert_eq!(last.line(&format!("SET x{key} v")), "+OK");
                    let value = client.line(&format!("GET before{key}"));
                    assert_eq!(value, "\"v\"", "{jump}: it lives for minutes");
                }
                reports(&cluster) > before
            });
        }
        clock.set("+0s");
        for key in 0..KEYS {
            assert_eq!(client.line(&format!("SET lock{key} v NX PX {TTL_MS}")), "+OK", "{jump}");
            let left = number(&client.line(&format!("PTTL lock{key}")));
            assert!((1..=TTL_MS as i64 + APART_MS).contains(&left), "{jump}: {left} ms are left");
            let left = number(&client.line(&format!("PTTL before{key}")));
            assert!(left <= 100 * TTL_MS as i64 + APART_MS, "{jump}: {left} ms are left");
        }
        for key in 0..KEYS {
            wait_until("the lock ends", SOON, || client.line(&format!("EXISTS lock{key}")) == "0");
        }
    }
    // The clocks that it is compared with are known to some tenths of a second.
    let log = cluster.server(2).log();
    let said = ["+7199.", "+7200."].map(|seconds| format!("the wall clock of this server is {seconds}"));
    assert!(said.iter().any(|said| log.contains(said)), "the jump is reported as it was: {log}");
}

#[test]
fn times_to_live_are_the_same_at_every_server() {
    const LIVES_S: i64 = 100;
    let Some(library) = faketime() else { return };
    // It is wrong from the start, for good.
    let (cluster, _clock) = cluster(library, "+300s");
    let mut clients: Vec<RespClient> = cluster.addresses().into_iter().map(RespClient::connect).collect();
    for key in 0..KEYS {
        let at = key % clients.len();
        assert_eq!(clients[at].line(&format!("SET k{key} v EX {LIVES_S}")), "+OK");
        for client in &mut clients {
            let left = number(&client.line(&format!("PTTL k{key}")));
            let passed = LIVES_S * 1000 - left;
            assert!((-APART_MS..20_000).contains(&passed), "{left} ms are left");
        }
    }
}
