//! What `dependencies.toml` allows, against Cargo.lock.

use std::collections::BTreeMap;
use std::path::PathBuf;

use semver::{Version, VersionReq};
use serde_json::Value;

use super::graph::{Package, locked, packages, root};
use super::licence::is_satisfied;

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

fn policy() -> Value {
    let text = std::fs::read_to_string(root().join("dependencies.toml")).expect("dependencies.toml");
    toml::from_str(&text).expect("dependencies.toml is TOML")
}

fn named(package: &Package) -> String {
    format!("{} {}", package.name, package.version)
}

#[track_caller]
fn none(found: Vec<String>, what: &str) {
    assert!(
        found.is_empty(),
        "{what}; change the dependency, or dependencies.toml and say why:\n{}",
        found.join("\n")
    );
}

#[test]
fn every_crate_has_a_licence_that_is_accepted() {
    let policy = policy();
    let licences: Vec<&str> =
        policy["licences"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    let accepted = |name: &str| licences.contains(&name);
    let fits = |package: &&Package| {
        package.licence.as_deref().is_some_and(|licence| is_satisfied(licence, &accepted))
    };
    let described = |package: &Package| format!("{}: {:?}", named(package), package.licence);
    none(packages().iter().filter(|package| !fits(package)).map(described).collect(), "licences");
}

#[test]
fn every_crate_comes_from_the_registry() {
    let foreign = |package: &&Package| package.source.as_deref().is_some_and(|source| source != REGISTRY);
    let described = |package: &Package| format!("{}: {:?}", named(package), package.source);
    none(packages().iter().filter(foreign).map(described).collect(), "sources");
    let own = packages().iter().filter(|package| package.source.is_none());
    assert!(own.count() >= 6, "our own");
}

#[test]
fn nothing_is_there_that_is_banned() {
    let policy = policy();
    let banned = locked().into_iter().filter_map(|(name, version)| {
        let reason = policy["banned"][&name].as_str()?;
        Some(format!("{name} {version}: {reason}"))
    });
    none(banned.collect(), "banned crates");
}

/// What is for other systems comes with crates that are made for all.
fn is_of_windows(name: &str) -> bool {
    name.starts_with("windows")
}

#[test]
fn crates_are_there_once_but_for_those_that_are_named() {
    let policy = policy();
    let mut versions: BTreeMap<String, Vec<Version>> = BTreeMap::new();
    for (name, version) in locked().into_iter().filter(|(name, _)| !is_of_windows(name)) {
        versions.entry(name).or_default().push(version);
    }
    versions.retain(|_, versions| versions.len() > 1);
    let named = |name: &String| policy["doubled"][name].is_string();
    let described = |(name, versions): (&String, &Vec<Version>)| format!("{name}: {versions:?}");
    none(versions.iter().filter(|(name, _)| !named(name)).map(described).collect(), "several versions");
    let doubled = policy["doubled"].as_object().expect("a table").keys();
    none(doubled.filter(|name| !versions.contains_key(*name)).cloned().collect(), "no longer doubled");
}

fn matches_any(version: &Version, ranges: &Value) -> bool {
    let ranges = ranges.as_array().into_iter().flatten().filter_map(Value::as_str);
    ranges.map(|range| VersionReq::parse(range).expect("a range")).any(|range| range.matches(version))
}

/// The crates that an advisory affects and that are not accepted.
fn affected(policy: &Value, crates: &[(String, Version)]) -> Vec<String> {
    let mut found = Vec::new();
    for (id, advisory) in policy["advisories"]["list"].as_object().expect("a table") {
        for (name, version) in crates.iter().filter(|(name, _)| advisory["crate"] == name.as_str()) {
            let is_well =
                matches_any(version, &advisory["fixed"]) || matches_any(version, &advisory["never"]);
            let accepted = format!("{id} {name} {}.{}", version.major, version.minor);
            if !is_well && policy["advisories"]["accepted"][&accepted].is_null() {
                found.push(format!("{id}: {name} {version}, https://rustsec.org/advisories/{id}"));
            }
        }
    }
    found
}

#[test]
fn no_version_is_vulnerable_as_far_as_is_known() {
    let policy = policy();
    println!("advisories as of {}", policy["advisories"]["as_of"]);
    none(affected(&policy, &locked()), "advisories");
    // Of crates that are gone nothing is kept.
    let list = policy["advisories"]["list"].as_object().expect("a table");
    let is_used = |advisory: &Value| locked().iter().any(|(name, _)| advisory["crate"] == name.as_str());
    let stale = list.iter().filter(|(_, advisory)| !is_used(advisory)).map(|(id, _)| id.clone());
    none(stale.collect(), "advisories of crates that are not used");
    let old = [("tokio".to_owned(), Version::new(1, 44, 1)), ("bytes".to_owned(), Version::new(1, 0, 0))];
    let found = affected(&policy, &old);
    assert!(found.len() == 1 && found[0].starts_with("RUSTSEC-2025-0023"), "{found:?}");
}

/// Where cargo keeps what it knows of a crate's versions, in folders by the name's first letters.
fn index_file(name: &str) -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))?;
    let place = match name.len() {
        1 | 2 => format!("{}/{name}", name.len()),
        3 => format!("3/{}/{name}", &name[..1]),
        _ => format!("{}/{}/{name}", &name[..2], &name[2..4]),
    };
    let indexes = std::fs::read_dir(home.join("registry/index")).ok()?;
    indexes.flatten().map(|index| index.path().join(".cache").join(&place)).find(|file| file.exists())
}

/// Whether a version was withdrawn, as the file says; `None` where it does not name the version.
fn is_yanked(file: &[u8], version: &Version) -> Option<bool> {
    let lines = file.split(|&byte| byte == 0).filter(|part| part.first() == Some(&b'{'));
    let entries = lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let entry = entries.into_iter().find(|entry| entry["vers"] == version.to_string())?;
    Some(entry["yanked"] == true)
}

#[test]
fn no_version_was_withdrawn_as_far_as_cargo_knows() {
    let mut looked_at = 0;
    let mut yanked = Vec::new();
    for package in packages().iter().filter(|package| package.source.is_some()) {
        let file = index_file(&package.name.to_lowercase()).and_then(|file| std::fs::read(file).ok());
        if let Some(found) = file.and_then(|file| is_yanked(&file, &package.version)) {
            looked_at += 1;
            yanked.extend(found.then(|| named(package)));
        }
    }
    // Without an index (sources that were brought along) there is nothing to look at.
    println!("{looked_at} of {} crates are in cargo's index", packages().len());
    none(yanked, "withdrawn versions");
    let file = b"\x03\0etag\x001.0.0\0{\"vers\":\"1.0.0\",\"yanked\":true}\0";
    assert_eq!(is_yanked(file, &Version::new(1, 0, 0)), Some(true));
    assert_eq!(is_yanked(file, &Version::new(1, 0, 1)), None);
}
