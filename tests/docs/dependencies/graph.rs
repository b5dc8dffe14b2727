//! The crates of Cargo.lock, and which of them are linked into the programs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use semver::Version;
use serde_json::Value;

/// What is linked differs little between systems; this one is what the image and the packages are for.
const SYSTEM: &str = "x86_64-unknown-linux-gnu";

/// One crate.
#[derive(Clone, Debug)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: Version,
    pub(super) licence: Option<String>,
    pub(super) authors: Vec<String>,
    /// Where it comes from; `None` for our own.
    pub(super) source: Option<String>,
    /// Its sources.
    pub(super) folder: PathBuf,
    /// It is in the programs, and not only in tests, macros and build scripts.
    pub(super) linked: bool,
}

pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The crates that are used on [`SYSTEM`], tests included.
pub(super) fn packages() -> &'static [Package] {
    static PACKAGES: OnceLock<Vec<Package>> = OnceLock::new();
    PACKAGES.get_or_init(|| read(&metadata()))
}

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--format-version", "1", "--locked", "--filter-platform", SYSTEM]);
    let output = command.current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn read(metadata: &Value) -> Vec<Package> {
    let linked = linked(metadata);
    let package = |package: &Value| Package {
        name: text(&package["name"]),
        version: text(&package["version"]).parse().expect("a version"),
        licence: package["license"].as_str().map(str::to_owned),
        authors: list(&package["authors"]).map(text).collect(),
        source: package["source"].as_str().map(str::to_owned),
        folder: Path::new(&text(&package["manifest_path"])).parent().expect("a folder").to_owned(),
        linked: linked.contains(&text(&package["id"])),
    };
    let mut packages: Vec<Package> = list(&metadata["packages"]).map(package).collect();
    packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    packages
}

/// By following what is needed to run. A macro is run by the compiler.
fn linked(metadata: &Value) -> BTreeSet<String> {
    let is_macro = |package: &&Value| {
        list(&package["targets"]).any(|target| list(&target["kind"]).any(|kind| kind == "proc-macro"))
    };
    let macros: BTreeSet<String> =
        list(&metadata["packages"]).filter(is_macro).map(|package| text(&package["id"])).collect();
    let nodes: BTreeMap<String, &Value> =
        list(&metadata["resolve"]["nodes"]).map(|node| (text(&node["id"]), node)).collect();
    let mut waiting = vec![text(&metadata["resolve"]["root"])];
    let mut linked = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if macros.contains(&id) || !linked.insert(id.clone()) {
            continue;
        }
        let needed = list(&nodes[&id]["deps"])
            .filter(|dependency| list(&dependency["dep_kinds"]).any(|kind| kind["kind"].is_null()));
        waiting.extend(needed.map(|dependency| text(&dependency["pkg"])));
    }
    linked
}

/// All names and versions of Cargo.lock, of other systems too.
pub(super) fn locked() -> Vec<(String, Version)> {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock");
    let lock: Value = toml::from_str(&lock).expect("Cargo.lock is TOML");
    list(&lock["package"])
        .map(|package| (text(&package["name"]), text(&package["version"]).parse().expect("a version")))
        .collect()
}

#[test]
fn programs_are_distinguished_from_their_tests() {
    let linked = |name: &str| packages().iter().any(|package| package.name == name && package.linked);
    assert!(linked("tokio") && linked("lsm-tree") && linked("libmimalloc-sys"));
    assert!(!linked("proptest") && !linked("serde_derive") && !linked("cc"));
}
