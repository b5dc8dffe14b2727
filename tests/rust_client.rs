//! The code of `docs/rust-client.md` is compiled and run against a cluster. `UPDATE=1 cargo test --test rust_client` writes
//! what is compiled, `tests/rust_client/page.in`, anew from the page.

mod support;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use support::cluster::Cluster;

include!("rust_client/page.in");

/// All code of the page, as one function.
fn made_anew() -> String {
    let page = include_str!("../docs/rust-client.md");
    let mut text = String::from(
        "// From docs/rust-client.md; see tests/rust_client.rs.\n\
         async fn page(servers: Vec<String>) -> Result<(), kvclient::Error> {\n",
    );
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if line == "```rust" {
            for line in lines.by_ref().take_while(|line| *line != "```") {
                let _ = writeln!(text, "    {line}");
            }
        }
    }
    text.push_str("    Ok(())\n}\n");
    text
}

#[test]
fn what_is_compiled_is_the_page() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rust_client/page.in");
    let anew = made_anew();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, anew).unwrap();
        return;
    }
    assert!(
        anew == include_str!("rust_client/page.in"),
        "docs/rust-client.md has changed: `UPDATE=1 cargo test --test rust_client` takes its code over"
    );
}

#[test]
fn the_page_does_what_it_says() {
    let cluster = Cluster::start(3);
    let servers = cluster.addresses().iter().map(ToString::to_string).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(page(servers)).unwrap();
}
