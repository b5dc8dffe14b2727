//! The marks of rules that comments name (P1, V4a, 6.3, ...) are explained in docs/protocol.md, and the bugs that tests
//! plant are listed there with the scenario that finds each.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Where comments name rules of the protocol.
const SOURCES: [&str; 5] = ["kvserver/core/src", "kvserver/src", "ecs/core/src", "ecs/src", "common/src"];

/// A letter of the rules and a number, `V4a` and `P3b`, or a place of the sections on reads.
fn is_mark(word: &str) -> bool {
    matches!(
        word.as_bytes(),
        [b'V' | b'S' | b'N' | b'P' | b'W' | b'L' | b'J' | b'R' | b'I', b'1'..=b'9']
            | [b'V' | b'P', b'1'..=b'9', b'a' | b'b']
            | [b'6' | b'7', b'.', b'1'..=b'9']
    )
}

/// The marks in the comments of a file.
fn named(source: &str) -> BTreeSet<&str> {
    let comments = source.lines().filter_map(|line| line.split_once("//").map(|(_, comment)| comment));
    let words = comments.flat_map(|comment| comment.split(|c: char| !(c.is_alphanumeric() || c == '.')));
    words.map(|word| word.trim_end_matches('.')).filter(|word| is_mark(word)).collect()
}

/// The marks that a page explains: headings, and words in bold that begin a paragraph or a point.
fn explained(page: &str) -> BTreeSet<&str> {
    let lead =
        |line: &'_ str| line.trim_start_matches(['#', '-', ' ']).starts_with("**") || line.starts_with('#');
    let leads =
        page.lines().filter(|line| lead(line)).map(|line| line.trim_start_matches(['#', '-', ' ', '*']));
    let words = leads.filter_map(|line| line.split([' ', '*']).next());
    words.map(|word| word.trim_end_matches('.')).filter(|word| is_mark(word)).collect()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

#[test]
fn marks_in_comments_are_explained() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/protocol.md")).unwrap();
    let explained = explained(&page);
    let mut missing: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    let mut found = BTreeSet::new();
    for path in SOURCES.iter().flat_map(|folder| sources(&root.join(folder))) {
        let text = fs::read_to_string(&path).unwrap();
        for mark in named(&text) {
            found.insert(mark.to_owned());
            if !explained.contains(mark) {
                missing.entry(mark.to_owned()).or_default().push(path.clone());
            }
        }
    }
    assert!(missing.is_empty(), "docs/protocol.md does not explain {missing:?}");
    assert!(found.contains("P1") && found.contains("V4a") && found.contains("7.2"), "{found:?}");
}

/// Bugs and where they are found, by the rows of a table: the names in backquotes of each.
fn rows(page: &str) -> Vec<BTreeSet<&str>> {
    let rows = page.lines().filter(|line| line.starts_with('|'));
    rows.map(|row| row.split('`').skip(1).step_by(2).collect()).collect()
}

/// What is planted, and the scenario that finds it, by the table in the text of the simulation.
fn planted(simulation: &str) -> Vec<(&str, String)> {
    let entries =
        simulation.lines().filter_map(|line| line.split_once("Bug::")?.1.split_once("), Scenario::"));
    let scenario = |rest: &str| rest.split(',').next().unwrap_or_default().to_lowercase();
    entries.map(|(bug, rest)| (bug, scenario(rest))).collect()
}

#[test]
fn bugs_are_listed_with_what_finds_them() {
    let read = |path: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let page = read("docs/protocol.md");
    let rows = rows(&page);
    for path in ["kvserver/core/src/planted.rs", "ecs/core/src/planted.rs"] {
        let text = read(path);
        let bugs = text.lines().filter_map(|line| line.strip_prefix("    ")?.strip_suffix(','));
        for bug in bugs.filter(|bug| bug.chars().all(char::is_alphanumeric)) {
            assert!(
                rows.iter().any(|row| row.contains(bug)),
                "docs/protocol.md has no row of {bug} in {path}"
            );
        }
    }
    let simulation = read("tests/simulation.rs");
    let planted = planted(&simulation);
    assert!(planted.len() > 40, "{planted:?}");
    for (bug, scenario) in planted {
        let found = rows.iter().any(|row| row.contains(bug) && row.contains(scenario.as_str()));
        assert!(found, "docs/protocol.md does not say that {scenario} finds {bug}");
    }
}

#[test]
fn rows_and_planted_bugs_are_read() {
    assert_eq!(rows("| a | `Bug` (ECS) | `late` |\ntext `x`\n"), [["Bug", "late"].into()]);
    let line = "    (Ecs(EcsBug::OldOne), Scenario::ECS_CUT, 2_000),\n    // PlantedBug::Other\n";
    assert_eq!(planted(line), [("OldOne", "ecs_cut".to_owned())]);
}

#[test]
fn a_mark_that_is_not_explained_is_found() {
    let source =
        "//! Becomes active (P1-P3b), see V9.\nlet n = 6.3; // 7.1: not S4.\nlet v8 = \"V8\"; // 16.2 P10\n";
    assert_eq!(named(source), ["P1", "P3b", "V9", "7.1", "S4"].into());
    let page = "## P1\n- **P3b.** As V9.\n**7.1** of\n- S4 is not bold\ntext **V8** text\n";
    assert_eq!(explained(page), ["P1", "P3b", "7.1"].into());
}
