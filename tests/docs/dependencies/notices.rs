//! `THIRD-PARTY-NOTICES`: the licence texts of everything that is linked into the programs. Most licences ask that
//! they go with the programs. `UPDATE=1 cargo test --test docs dependencies` writes the file anew, from the crates' own
//! sources.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::graph::{Package, packages, root};

const FILE: &str = "THIRD-PARTY-NOTICES";

const HEAD: &str = "\
Trefoil's programs contain the crates below, each under the licence that is named and whose text follows: where a crate
lets one choose, under the first of its licences that is here. They also contain Rust's standard library (MIT OR \
Apache-2.0,
https://www.rust-lang.org) and, where they are linked statically, as in the image, the GNU C library (LGPL-2.1-or-later,
https://www.gnu.org/software/libc); Trefoil's sources make such programs anew with another one.

This file is made by `UPDATE=1 cargo test --test docs dependencies`.
";

/// A text for the one licence whose crates bring none along.
const ZERO_BSD: &str = "\
Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted.

THE SOFTWARE IS PROVIDED \"AS IS\" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE INCLUDING ALL
IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT,
INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN
ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF
THIS SOFTWARE.";

/// How deep below a crate's folder texts are looked for: code of others that is compiled in lies there.
const DEPTH_MAX: usize = 4;

fn is_notice(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let begins = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];
    let source = [".RS", ".PY", ".TOML", ".JSON", ".H", ".C"].iter().any(|end| name.ends_with(end));
    begins.iter().any(|begin| name.starts_with(begin)) && !source
}

/// The files in a crate that contain licences, by their paths.
fn files(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            let aside = ["tests", "test", "benches", "examples", "target", "fuzz"].contains(&name.as_str());
            if depth < DEPTH_MAX && !aside {
                files(&path, depth + 1, found);
            }
        } else if is_notice(&name) {
            found.push(path);
        }
    }
}

/// Of a choice between MIT and others the text of MIT, which is the shortest; else all texts.
fn chosen(package: &Package, all: &[PathBuf]) -> Vec<PathBuf> {
    let licence = package.licence.as_deref().unwrap_or_default();
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().to_ascii_uppercase();
    let may_choose = licence.contains("MIT") && (licence.contains(" OR ") || licence.contains('/'));
    let (own, within): (Vec<PathBuf>, Vec<PathBuf>) =
        all.iter().cloned().partition(|path| path.parent() == Some(&package.folder));
    let mit: Vec<PathBuf> = own
        .iter()
        .filter(|path| name(path).contains("MIT") || name(path).starts_with("NOTICE"))
        .cloned()
        .collect();
    let has_mit = mit.iter().any(|path| name(path).contains("MIT"));
    let own = if may_choose && has_mit && !licence.contains("AND") { mit } else { own };
    own.into_iter().chain(within).collect()
}

fn normal(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n").trim_matches('\n').trim_end().to_owned()
}

/// Texts, each with the crates that it belongs to.
fn texts() -> BTreeMap<String, Vec<String>> {
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in packages().iter().filter(|package| package.linked && package.source.is_some()) {
        let mut found = Vec::new();
        files(&package.folder, 0, &mut found);
        let found = chosen(package, &found);
        let name = format!("{} {}", package.name, package.version);
        if found.is_empty() {
            assert_eq!(
                package.licence.as_deref(),
                Some("0BSD"),
                "{name} has no licence text: add one to {}",
                file!()
            );
            let text = format!("Copyright (C) {}\n\n{ZERO_BSD}", package.authors.join(", "));
            texts.entry(text).or_default().push(name);
            continue;
        }
        for path in found {
            let text = normal(&String::from_utf8_lossy(&fs::read(&path).expect("a text")));
            let crates = texts.entry(text).or_default();
            if crates.last() != Some(&name) {
                crates.push(name.clone());
            }
        }
    }
    texts
}

fn notices() -> String {
    let mut out = HEAD.to_owned();
    let linked = packages().iter().filter(|package| package.linked && package.source.is_some());
    out.push('\n');
    for package in linked {
        let licence = package.licence.as_deref().unwrap_or_default();
        let _ = writeln!(out, "{} {}: {licence}", package.name, package.version);
    }
    let mut texts: Vec<(String, Vec<String>)> = texts().into_iter().collect();
    texts.sort_by(|a, b| a.1.cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
    for (text, crates) in texts {
        let _ = writeln!(out, "\n{}\n{}\n\n{text}", "-".repeat(80), crates.join(", "));
    }
    out
}

#[test]
fn the_texts_that_go_with_the_programs_are_of_today() {
    let path = root().join(FILE);
    let notices = notices();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &notices).expect("it can be written");
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == notices,
        "{FILE} is of other crates: UPDATE=1 cargo test --test docs dependencies writes it anew"
    );
    // Code that is compiled in without being a crate is listed as well.
    assert!(kept.contains("libmimalloc-sys") && kept.contains("Daan Leijen"));
}
