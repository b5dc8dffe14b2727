//! Tests that this machine cannot run: a test that lacks something says so and passes.
//!
//! cargo hides what a test prints when it passes. So [`skip!`] writes past the capture, straight to the standard error,
//! and adds a line to a file of this run of cargo (`target/tmp/skipped/` and the process id of cargo). The test program
//! `summary` of this package is the last one that `cargo test --workspace` starts: it prints what was skipped and why.
//!
//! Under `CI=true` the summary fails if a test lacked something that can be installed ([`Missing::is_installable`]):
//! `.ci/run` installs all of that. What a machine may not allow, a mount for instance, is no failure.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::thread;

/// What a test lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// A C compiler, for libraries that make system calls fail.
    CCompiler,
    /// Chromium, which opens the dashboard.
    Chromium,
    /// `FAULTS=all`, by which a person asks for the tests that take minutes.
    FaultsAll,
    /// libfaketime, which shows a process another wall clock.
    Faketime,
    /// As many open files as a test of many connections needs.
    Files,
    /// `ip`, which makes network namespaces.
    Ip,
    /// `java`, which runs the client of the family.
    Java,
    /// `mkfs.ext4`, which makes a file system in a file.
    Mkfs,
    /// The right to mount a file system.
    Mount,
    /// `nc`, which sends lines.
    Netcat,
    /// The right to make network namespaces.
    NetworkNamespace,
    /// `nft`, which cuts links between network namespaces.
    Nft,
    /// `prlimit`, which limits the open files of a process.
    Prlimit,
    /// Python with the packages `redis` and `valkey`.
    Python,
    /// A program of Redis: `redis-cli`, `redis-benchmark` or `redis-server`.
    Redis(&'static str),
}

impl Missing {
    /// Why a test is skipped, in a few words.
    #[must_use]
    pub fn why(self) -> &'static str {
        match self {
            Self::CCompiler => "no C compiler",
            Self::Chromium => "no chromium",
            Self::FaultsAll => "only with FAULTS=all",
            Self::Faketime => "no libfaketime",
            Self::Files => "too few open files allowed",
            Self::Ip => "no ip",
            Self::Java => "no java",
            Self::Mkfs => "no mkfs.ext4",
            Self::Mount => "no mount",
            Self::Netcat => "no nc",
            Self::NetworkNamespace => "no network namespace",
            Self::Nft => "no nft",
            Self::Prlimit => "no prlimit",
            Self::Python => "no python3 with redis and valkey",
            Self::Redis("redis-cli") => "no redis-cli",
            Self::Redis("redis-benchmark") => "no redis-benchmark",
            Self::Redis(_) => "no redis-server",
        }
    }

    /// Whether apt or pip can install it: `.ci/run` does. The rest is a matter of the machine, or of a person's wish.
    #[must_use]
    pub fn is_installable(self) -> bool {
        !matches!(self, Self::FaultsAll | Self::Files | Self::Mount | Self::NetworkNamespace)
    }
}

/// Notes that the test that runs is skipped, or a part of it: `skip!(Missing::Java)`, or with a reason in detail,
/// `skip!(Missing::Mount, "{error}")`. The test then returns.
#[macro_export]
macro_rules! skip {
    ($missing:expr) => {
        $crate::skip(env!("CARGO_TARGET_TMPDIR"), $missing, "")
    };
    ($missing:expr, $($detail:tt)+) => {
        $crate::skip(env!("CARGO_TARGET_TMPDIR"), $missing, &format!($($detail)+))
    };
}

/// What [`skip!`] calls. A test's thread has its name, unless tests run one at a time.
///
/// # Panics
/// If the line cannot be written.
pub fn skip(tmp: &str, missing: Missing, detail: &str) {
    let thread = thread::current();
    let test = thread.name().filter(|name| *name != "main").unwrap_or("a test");
    let detail = detail.split_whitespace().collect::<Vec<_>>().join(" ");
    let reason = if detail.is_empty() { String::new() } else { format!(" ({detail})") };
    let _unread = writeln!(io::stderr(), "skipped: {test}: {}{reason}", missing.why());
    add(&file_of_run(Path::new(tmp)), missing, test).expect("a line is added to the list of skipped tests");
}

fn add(file: &Path, missing: Missing, test: &str) -> io::Result<()> {
    fs::create_dir_all(file.parent().expect("a file in a directory"))?;
    let class = if missing.is_installable() { INSTALLABLE } else { OTHER };
    // One write for each line: test programs may add lines at the same time.
    let line = format!("{class}\t{}\t{test}\n", missing.why());
    OpenOptions::new().create(true).append(true).open(file)?.write_all(line.as_bytes())
}

const INSTALLABLE: &str = "installable";
const OTHER: &str = "other";

/// The list of this run: all test programs of a run have the same parent, cargo.
fn file_of_run(tmp: &Path) -> PathBuf {
    tmp.join("skipped").join(std::os::unix::process::parent_id().to_string())
}

/// What was skipped in one run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// The tests by what they lacked.
    tests: BTreeMap<String, Vec<String>>,
    /// What was lacking although it can be installed.
    installable: Vec<String>,
}

impl Skipped {
    /// Takes the list of this run: it is gone afterwards.
    ///
    /// # Errors
    /// The list is there and cannot be read or removed.
    pub fn take(tmp: &Path) -> io::Result<Self> {
        let file = file_of_run(tmp);
        match fs::read_to_string(&file) {
            Ok(list) => fs::remove_file(&file).map(|()| Self::parse(&list)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    fn parse(list: &str) -> Self {
        let mut skipped = Self::default();
        for line in list.lines() {
            let mut fields = line.splitn(3, '\t');
            let (Some(class), Some(why), Some(test)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            skipped.tests.entry(why.to_owned()).or_default().push(test.to_owned());
            if class == INSTALLABLE && !skipped.installable.iter().any(|known| known == why) {
                skipped.installable.push(why.to_owned());
            }
        }
        skipped.tests.values_mut().for_each(|tests| tests.sort());
        skipped.installable.sort();
        skipped
    }

    /// A line that counts the tests by reason, and a line for each reason with their names.
    #[must_use]
    pub fn summary(&self) -> String {
        let count: usize = self.tests.values().map(Vec::len).sum();
        let counts: Vec<String> =
            self.tests.iter().map(|(why, tests)| format!("{why} ({})", tests.len())).collect();
        let mut text = match count {
            0 => "no test was skipped\n".to_owned(),
            1 => format!("1 test was skipped: {}\n", counts.join(", ")),
            _ => format!("{count} tests were skipped: {}\n", counts.join(", ")),
        };
        for (why, tests) in &self.tests {
            let _written = writeln!(text, "  {why}: {}", tests.join(", "));
        }
        text
    }

    /// What a CI machine should have installed and has not.
    #[must_use]
    pub fn complaint(&self) -> Option<String> {
        let missing = self.installable.join(", ");
        (!missing.is_empty()).then(|| format!("CI installs all that tests need: {missing}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skipped(entries: &[(Missing, &str)]) -> Skipped {
        let file =
            std::env::temp_dir().join(format!("trefoil-skipped-{}-{}", std::process::id(), entries.len()));
        for (missing, test) in entries {
            add(&file, *missing, test).unwrap();
        }
        let list = fs::read_to_string(&file).unwrap_or_default();
        let _none = fs::remove_file(&file);
        Skipped::parse(&list)
    }

    #[test]
    fn the_summary_counts_by_reason() {
        let all = [(Missing::Chromium, "b"), (Missing::Java, "c"), (Missing::Chromium, "a")];
        let text = skipped(&all).summary();
        assert_eq!(
            text,
            "3 tests were skipped: no chromium (2), no java (1)\n  no chromium: a, b\n  no java: c\n"
        );
        assert_eq!(skipped(&all[..1]).summary(), "1 test was skipped: no chromium (1)\n  no chromium: b\n");
        assert_eq!(skipped(&[]).summary(), "no test was skipped\n");
    }

    #[test]
    fn only_what_can_be_installed_is_a_complaint() {
        let machine = [(Missing::Mount, "a"), (Missing::NetworkNamespace, "b")];
        assert_eq!(skipped(&machine).complaint(), None);
        let both = [
            (Missing::Redis("redis-cli"), "a"),
            (Missing::Mount, "b"),
            (Missing::FaultsAll, "c"),
            (Missing::Java, "d"),
        ];
        assert_eq!(
            skipped(&both).complaint().unwrap(),
            "CI installs all that tests need: no java, no redis-cli"
        );
    }
}
