//! Power that fails under the whole cluster, and wall clocks that jump.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::faults::stage::{SOME, Stage, all_wanted, settings};
use crate::support::wait::SOON;
use crate::support::{Settings, Stopwatch, wait_until};

/// Bytes of the file that is the disk; it is sparse.
const DISK_BYTES: u64 = 2 << 30;

/// A disk of our own, whose power can be cut.
struct Disk {
    dir: TempDir,
    power_off: PathBuf,
}

impl Disk {
    /// # Errors
    /// Why this machine has none.
    fn new() -> Result<Self, String> {
        let dir = tempfile::Builder::new()
            .prefix("trefoil-e2e-power-")
            .tempdir()
            .map_err(|error| error.to_string())?;
        let power_off = dir.path().join("power_off");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/power_off.c");
        run(Command::new("cc").arg("-o").arg(&power_off).arg(source))?;
        let disk = Self { dir, power_off };
        let file = std::fs::File::create(disk.file()).map_err(|error| error.to_string())?;
        file.set_len(DISK_BYTES).map_err(|error| error.to_string())?;
        run(Command::new("mkfs.ext4").arg("-q").arg(disk.file()))?;
        std::fs::create_dir(disk.at()).map_err(|error| error.to_string())?;
        disk.mount()?;
        Ok(disk)
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    fn at(&self) -> PathBuf {
        self.dir.path().join("mounted")
    }

    fn mount(&self) -> Result<(), String> {
        run(Command::new("mount").args(["-o", "loop"]).arg(self.file()).arg(self.at()))
    }

    /// What was not synced is gone. No process may have a file open there.
    fn cut_power(&self) {
        run(Command::new(&self.power_off).arg(self.at())).expect("the file system can be shut down");
        run(Command::new("umount").arg(self.at())).expect("nobody uses it");
        self.mount().expect("it can be mounted again");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _gone = run(Command::new("umount").arg("-l").arg(self.at()));
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {}", told.trim())) }
}

/// The ECS and all servers lose their power at once. What they were told to write and had not synced is gone.
#[test]
fn the_power_fails() {
    let disk = match Disk::new() {
        Ok(disk) => disk,
        Err(why) => {
            println!("skipped: no disk of our own: {why}");
            return;
        }
    };
    let mut stage = Stage::start(Settings { base: Some(disk.at()), ..settings() }, 3);
    let rounds = if std::env::var("FAULTS").is_ok_and(|faults| faults == "all") { 8 } else { 2 };
    for round in 0..rounds {
        stage.cluster.kill_ecs();
        stage.cluster.kill_servers();
        disk.cut_power();
        stage.cluster.start_ecs();
        (0..3).for_each(|server| stage.cluster.start_server(server));
        stage.wait_writable();
        stage.go_on();
        println!("power cut {round} is survived");
    }
    stage.finish();
    drop(disk);
}

/// The library that lets a process see another wall clock.
fn faketime() -> Option<&'static str> {
    let places = [
        "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
        "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    ];
    places.into_iter().find(|place| Path::new(place).exists())
}

/// One server's wall clock jumps by hours, forth and back. Nothing but expiry looks at it.
#[test]
fn wall_clocks_jump() {
    if !all_wanted() {
        return;
    }
    let Some(library) = faketime() else {
        println!("skipped: libfaketime is not installed");
        return;
    };
    let mut stage = Stage::start(settings(), 2);
    let file = stage.cluster.path().join("wall-clock");
    std::fs::write(&file, "+0").expect("a file");
    let path = file.to_str().expect("a name in ASCII");
    let env = [
        ("LD_PRELOAD", library),
        ("FAKETIME_TIMESTAMP_FILE", path),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ];
    stage.cluster.add_server_with(None, &[], &env);
    let before = stage.cluster.wait_settled();
    for jump in ["+5h", "-40h", "+400d", "+0"] {
        std::fs::write(&file, jump).expect("a file");
        stage.go_on();
    }
    assert_eq!(stage.cluster.wait_settled().view, before.view, "a wall clock has moved the cluster");
    let watch = Stopwatch::start();
    wait_until("the load goes on", SOON, || stage.recorder.answered() > SOME);
    println!("{:?}", watch.elapsed());
    stage.finish();
}
