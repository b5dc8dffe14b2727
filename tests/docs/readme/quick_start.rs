//! `docs/quick-start.md`: all of it in one shell, behind the README's "Run it by hand".

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use skipped::{Missing, skip};

use super::{
    Block, Group, PROMPT, at_ports, blocks, by_hand, free_ports, is_settled, wait_for_status, without_figures,
};

const PAGE: &str = include_str!("../../../docs/quick-start.md");

/// A line that no command prints.
const END: &str = "--- end of the block ---";

/// A shell that is typed into, block by block.
struct Shell {
    group: Group,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    ports: [u16; 5],
}

impl Shell {
    fn start(dir: &Path) -> Self {
        let mut child: Child = Command::new("bash")
            .args(["-e", "-s"])
            .env("TREFOIL_RESERVE_MB", "1")
            .env("TREFOIL_LOG_FILE", dir.join("log"))
            .current_dir(dir)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        // What was started holds the pipe open when the shell ends at a command that failed.
        writeln!(input, "trap \"echo '{END}'\" EXIT").unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { group: Group(child), input, output, ports: free_ports() }
    }

    /// Runs a block of the page; what it prints.
    fn run(&mut self, block: &str) -> Vec<String> {
        // What is started must not read the rest of this shell's input.
        let script = format!("{{\n{}\n}} </dev/null\necho '{END}'\n", at_ports(block, &self.ports));
        self.input.write_all(script.as_bytes()).unwrap();
        let mut printed = Vec::new();
        for line in self.output.by_ref().lines() {
            let line = line.unwrap();
            if line == END {
                return printed;
            }
            // A program that was started in a block before says so at some time.
            if !line.contains(" listening on ") {
                printed.push(line);
            }
        }
        panic!("the shell ended in:\n{block}\n{printed:#?}");
    }

    fn wait_for(&self, is_wanted: impl Fn(&str) -> bool) -> String {
        wait_for_status(self.ports[1], is_wanted)
    }
}

fn page(beginning: &str) -> String {
    let found = blocks(PAGE).into_iter().find(|block| block.text.starts_with(beginning));
    found.unwrap_or_else(|| panic!("the quick start has no block that begins with {beginning:?}")).text
}

/// The lines of the page's shell, and what they print.
fn typed_into_the_shell(server: u16) {
    let session = page(PROMPT);
    let lines: String = session
        .lines()
        .filter_map(|line| line.strip_prefix(PROMPT))
        .map(|line| format!("{line}\n"))
        .collect();
    let mut child = Command::new(env!("CARGO_BIN_EXE_kvclient"))
        .args(["-s", &format!("localhost:{server}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let shown: Vec<String> =
        session.lines().filter(|line| !line.starts_with(PROMPT)).map(without_figures).collect();
    assert_eq!(printed.lines().map(without_figures).collect::<Vec<_>>(), shown);
}

#[test]
fn every_block_is_run_in_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut shell = Shell::start(dir.path());
    shell.run(&by_hand());

    let mut blocks = blocks(PAGE).into_iter();
    let mut next = |beginning: &str| {
        let Block { text, .. } = blocks.next().expect("a block");
        assert!(text.starts_with(beginning), "instead of {beginning:?}:\n{text}");
        text
    };

    let verdict = shell.wait_for(|verdict| is_settled(verdict, 3));
    assert!(
        shell.run(&next("kvclient -s localhost:5001 status")).iter().any(|line| line.starts_with("cluster "))
    );
    let shown = next("healthy, ");
    assert_eq!(without_figures(&verdict), without_figures(shown.lines().next().unwrap()));

    let printed = shell.run(&next("kvclient -s localhost:5001 put user:1 Ada"));
    for line in [
        "Grace Hopper",
        "user:1\tAda",
        "user:2\tGrace Hopper",
        "code 3: it is there already",
        "code 1: there is none",
    ] {
        assert!(printed.iter().any(|one| one == line), "{line}\n{printed:#?}");
    }
    next(PROMPT);
    typed_into_the_shell(shell.ports[2]);

    shell.run(&next("kvserver -p 5004"));
    shell.wait_for(|verdict| is_settled(verdict, 4));

    let printed = shell.run(&next("kill -9 %4"));
    assert!(printed[0] == "Grace Hopper" && printed[1].starts_with("OK  version "), "{printed:#?}");
    shell.wait_for(|verdict| verdict.contains(", 3 of 4 servers up, "));
    let printed = shell.run(&next("kvclient -s localhost:5001 status"));
    assert!(printed[0].starts_with("healthy, 1 server is down (127.0.0.1:"), "{printed:#?}");
    shell.run(&next("kvserver -p 5003"));
    shell.wait_for(|verdict| is_settled(verdict, 4));

    let printed = shell.run(&next("kvclient -s localhost:5001 admin drain"));
    assert!(
        printed.iter().any(|line| line.starts_with("OK: ") && line.contains("may be stopped")),
        "{printed:#?}"
    );
    shell.wait_for(|verdict| is_settled(verdict, 3));

    let redis = next("redis-cli ");
    if Command::new("redis-cli").arg("--version").output().is_ok() {
        assert_eq!(shell.run(&redis), ["1"]);
    } else {
        skip!(Missing::Redis("redis-cli"));
    }

    // The servers end, all of them; then so does the shell that waits for them.
    shell.run(&next("kill $(jobs -p)"));
    shell.input.write_all(b"wait || true; exit 0\n").unwrap();
    assert!(shell.group.0.wait().unwrap().success());
}
