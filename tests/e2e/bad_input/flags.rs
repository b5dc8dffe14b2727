//! Wrong flags: exit code 2, and a text that says what would be right.

use crate::support::Program;

/// Runs a program that is to refuse its arguments: the exit code, and what it says.
fn run(program: Program, args: &[&str]) -> (Option<i32>, String) {
    let output = program.command().args(args).output().expect("it runs");
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), out + &String::from_utf8_lossy(&output.stderr))
}

#[test]
fn wrong_flags_are_refused_with_the_right_ones() {
    let refused: &[(Program, &[&str], &[&str])] = &[
        (Program::Ecs, &["--frobnicate"], &["unexpected argument '--frobnicate'", "--help"]),
        (Program::Ecs, &["-p", "65536"], &["65536", "0..=65535"]),
        (Program::Ecs, &["-a", "nowhere"], &["nowhere", "--address"]),
        (Program::Ecs, &["--partitions", "100"], &["100", "power of two"]),
        (Program::Ecs, &["--copies", "0"], &["from 1 to 7"]),
        (Program::Ecs, &["--timers", "slow"], &["adaptive", "fast", "steady"]),
        (Program::Server, &["--frobnicate"], &["unexpected argument '--frobnicate'", "--help"]),
        (Program::Server, &["-p", "many"], &["many", "--port"]),
        (Program::Server, &["-b", "nowhere"], &["nowhere", "HOST:PORT"]),
        (Program::Server, &["-b", "here:there"], &["here:there", "HOST:PORT"]),
        (Program::Server, &["--advertise", "me"], &["me", "HOST:PORT"]),
        (Program::Server, &["--max-value", "9000000"], &["9000000", "from 1 to 8388608"]),
        (Program::Server, &["--weight", "0"], &["1..=100"]),
        (Program::Server, &["--greeting"], &["--text-port"]),
        (Program::Server, &["-s", "RANDOM"], &["LRU"]),
        (Program::Server, &["-ll", "LOUD"], &["LOUD", "info"]),
        (Program::Server, &["--log-mb", "1"], &["--log-mb", "64"]),
        (Program::Server, &["inspect"], &["--dir"]),
        (Program::Client, &["--frobnicate"], &["unexpected argument '--frobnicate'", "--help"]),
        (Program::Client, &["--timeout", "soon", "status"], &["soon", "500ms"]),
        (Program::Client, &["gte", "k"], &["did you mean `get`?"]),
        (Program::Client, &["put"], &["put KEY VALUE"]),
        (Program::Client, &["import"], &["FILE"]),
        (Program::Client, &["bench", "--clients", "none"], &["none", "--clients"]),
    ];
    for (program, args, words) in refused {
        let (code, text) = run(*program, args);
        assert_eq!(code, Some(2), "{program:?} {args:?}: {text}");
        for word in *words {
            assert!(text.contains(word), "{program:?} {args:?} does not say {word}: {text}");
        }
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for program in [Program::Ecs, Program::Server, Program::Client] {
        for (flag, word) in [("--help", "Usage:"), ("-h", "Usage:"), ("--version", env!("CARGO_PKG_VERSION"))]
        {
            let (code, text) = run(program, &[flag]);
            assert_eq!(code, Some(0), "{program:?} {flag}: {text}");
            assert!(text.contains(word), "{program:?} {flag}: {text}");
        }
    }
}
