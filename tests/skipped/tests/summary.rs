//! The last test program of `cargo test --workspace`: prints which tests were skipped and why. Under `CI=true` it fails
//! if something was missing that could have been installed.

use std::path::Path;
use std::process::ExitCode;

use trefoil_tests_skipped::Skipped;

fn main() -> ExitCode {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let skipped = Skipped::take(tmp).expect("the list of skipped tests");
    let summary = skipped.summary();
    print!("\n{summary}");
    // For `.ci/run`, which prints it again at its end.
    let dir = tmp.join("skipped");
    std::fs::create_dir_all(&dir).expect("a directory");
    std::fs::write(dir.join("summary"), &summary).expect("the summary is written");
    let is_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    match skipped.complaint() {
        Some(complaint) if is_ci => {
            eprintln!("{complaint}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}
