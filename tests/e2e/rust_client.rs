//! The client library against real servers.
//!
//! The code of `docs/rust-client.md` and of the README is compiled and run.
//! `UPDATE=1 cargo test --test e2e rust_client` writes what is compiled, `tests/e2e/rust_client/page.in` and
//! `readme.in`, anew from them.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::support::cluster::Cluster;

mod locks;
mod writes;

include!("rust_client/page.in");
include!("rust_client/readme.in");

/// What the README connects to, and what takes its place here.
const README_SERVERS: (&str, &str) = (r#"["localhost:5001", "localhost:5002"]"#, "&servers");

/// All code of a page, as one function.
fn made_anew(page: &str, path: &str, name: &str) -> String {
    let mut text = format!(
        "// From {path}; see tests/e2e/rust_client.rs.\n\
         async fn {name}(servers: Vec<String>) -> Result<(), kvclient::Error> {{\n",
    );
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if line == "```rust" {
            for line in lines.by_ref().take_while(|line| *line != "```") {
                let _ = writeln!(text, "    {}", line.replace(README_SERVERS.0, README_SERVERS.1));
            }
        }
    }
    text.push_str("    Ok(())\n}\n");
    text
}

#[test]
fn what_is_compiled_is_the_pages() {
    let page = include_str!("../../docs/rust-client.md");
    let readme = include_str!("../../README.md");
    for (anew, compiled, file) in [
        (made_anew(page, "docs/rust-client.md", "page"), include_str!("rust_client/page.in"), "page.in"),
        (made_anew(readme, "README.md", "readme"), include_str!("rust_client/readme.in"), "readme.in"),
    ] {
        if std::env::var_os("UPDATE").is_some() {
            fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/rust_client").join(file), anew)
                .unwrap();
            continue;
        }
        assert!(
            anew == compiled,
            "{file} is old: `UPDATE=1 cargo test --test e2e rust_client` takes the code over"
        );
    }
}

#[test]
fn the_pages_do_what_they_say() {
    let cluster = Cluster::start(3);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(readme(cluster.seeds())).unwrap();
    runtime.block_on(page(cluster.seeds())).unwrap();
}
