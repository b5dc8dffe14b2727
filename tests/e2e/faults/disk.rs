//! A disk of our own: a file system in a file, whose power can be cut, and which can stand still. Where the machine
//! lets us mount none, the tests that want one are skipped.

use std::path::{Path, PathBuf};
use std::process::Command;

use skipped::{Missing, skip};
use tempfile::TempDir;

/// Bytes of the file that is the disk; it is sparse.
const DISK_BYTES: u64 = 2 << 30;

/// A disk of our own, whose power can be cut.
pub(crate) struct Disk {
    dir: TempDir,
    power_off: PathBuf,
}

impl Disk {
    /// # Errors
    /// Why this machine has none.
    fn new() -> Result<Self, (Missing, String)> {
        let dir =
            tempfile::Builder::new().prefix("trefoil-e2e-power-").tempdir().expect("a temporary directory");
        let power_off = dir.path().join("power_off");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/support/power_off.c");
        let built = run(Command::new("cc").arg("-o").arg(&power_off).arg(source));
        built.map_err(|why| (Missing::CCompiler, why))?;
        let disk = Self { dir, power_off };
        let file = std::fs::File::create(disk.file()).expect("a file in a temporary directory");
        file.set_len(DISK_BYTES).expect("a sparse file");
        run(Command::new("mkfs.ext4").arg("-q").arg(disk.file())).map_err(|why| (Missing::Mkfs, why))?;
        std::fs::create_dir(disk.at()).expect("a directory in a temporary directory");
        disk.mount().map_err(|why| (Missing::Mount, why))?;
        Ok(disk)
    }

    /// A disk; where the machine has none the test is skipped.
    pub(crate) fn wanted() -> Option<Self> {
        Self::new().inspect_err(|(missing, why)| skip!(*missing, "{why}")).ok()
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    /// Where its files are.
    pub(crate) fn at(&self) -> PathBuf {
        self.dir.path().join("mounted")
    }

    fn mount(&self) -> Result<(), String> {
        run(Command::new("mount").args(["-o", "loop"]).arg(self.file()).arg(self.at()))
    }

    /// What was not synced is gone. No process may have a file open there.
    pub(crate) fn cut_power(&self) {
        run(Command::new(&self.power_off).arg(self.at())).expect("the file system can be shut down");
        run(Command::new("umount").arg(self.at())).expect("no process uses it");
        self.mount().expect("it can be mounted again");
    }

    /// The disk takes no writes until the returned value is dropped: processes that write wait, and cannot be killed.
    #[must_use]
    pub(crate) fn freeze(&self) -> Frozen {
        run(Command::new("fsfreeze").arg("-f").arg(self.at())).expect("the file system can be frozen");
        Frozen(self.at())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _gone = run(Command::new("umount").arg("-l").arg(self.at()));
    }
}

/// A disk that takes no writes.
pub(crate) struct Frozen(PathBuf);

impl Drop for Frozen {
    fn drop(&mut self) {
        run(Command::new("fsfreeze").arg("-u").arg(&self.0)).expect("it was frozen");
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {}", errors.trim())) }
}
