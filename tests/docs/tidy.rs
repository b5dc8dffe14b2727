//! The rules of the house that a program can check: lines that fit on a screen, and comments that can be read alone.

use std::fs;
use std::path::{Path, PathBuf};

/// Characters of a line.
const LINE_MAX: usize = 120;

/// Lines of a file: a longer one has two subjects. The files that are longer today, which may become shorter.
const FILE_MAX: usize = 500;
const LONGER: [&str; 9] = [
    "ecs/core/src/machine.rs",
    "ecs/core/tests/random.rs",
    "ecs/core/tests/scripts.rs",
    "kvserver/core/src/copy.rs",
    "kvserver/core/tests/core_scripts/script.rs",
    "kvserver/src/store/state_machine.rs",
    "kvserver/src/protocol/resp/parse.rs",
    "kvserver/src/server.rs",
    "storage/tests/log.rs",
];

/// How a comment begins that goes on from the one before it, or from a name: whoever comes from elsewhere sees neither.
const LEANING: [&str; 3] = ["The same.", "The same,", "Of the "];

/// A file of the tree, by its path from the root.
struct File {
    path: PathBuf,
    text: String,
}

impl File {
    fn is_rust(&self) -> bool {
        self.path.extension().is_some_and(|extension| extension == "rs")
    }

    /// Its lines with their numbers, without those of a page that show what a program prints.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut fenced = false;
        let is_rust = self.is_rust();
        self.text.lines().enumerate().filter_map(move |(index, line)| {
            let is_fence = !is_rust && line.starts_with("```");
            fenced ^= is_fence;
            (!fenced || is_rust).then_some((index + 1, line))
        })
    }
}

/// All Rust and Markdown files.
fn files() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") || name.ends_with(".md") {
                let text = fs::read_to_string(&path).unwrap();
                files.push(File { path: path.strip_prefix(root).unwrap().to_owned(), text });
            }
        }
    }
    assert!(files.len() > 300, "{} files are too few to be the tree", files.len());
    files.sort_by(|one, other| one.path.cmp(&other.path));
    files
}

/// `file:line` of the lines that break a rule.
fn found(files: &[File], breaks: impl Fn(&File, &str) -> bool) -> Vec<String> {
    let of = |file: &File| -> Vec<String> {
        let lines = file.lines().filter(|(_, line)| breaks(file, line));
        lines.map(|(number, _)| format!("{}:{number}", file.path.display())).collect()
    };
    files.iter().flat_map(of).collect()
}

#[test]
fn lines_fit_on_a_screen() {
    let long = found(&files(), |_, line| line.chars().count() > LINE_MAX);
    assert!(long.is_empty(), "above {LINE_MAX} characters: {long:#?}");
}

#[test]
fn comments_can_be_read_alone() {
    let leans = |line: &str| {
        let line = line.trim_start();
        let comment = line.strip_prefix("/// ").or_else(|| line.strip_prefix("//! "));
        comment.is_some_and(|comment| LEANING.iter().any(|start| comment.starts_with(start)))
    };
    let leaning = found(&files(), |file, line| file.is_rust() && leans(line));
    // A comment of several lines may have such a word at the start of one that is not its first.
    let files = files();
    let first = |place: &String| {
        let (path, number) = place.rsplit_once(':').unwrap();
        let file = files.iter().find(|file| file.path == Path::new(path)).unwrap();
        let before = file.text.lines().nth(number.parse::<usize>().unwrap().saturating_sub(2)).unwrap();
        !before.trim_start().starts_with("//")
    };
    let leaning: Vec<String> = leaning.into_iter().filter(first).collect();
    assert!(leaning.is_empty(), "these comments go on from something that is not there: {leaning:#?}");
}

#[test]
fn files_have_one_subject() {
    for file in files().iter().filter(|file| file.is_rust()) {
        let (lines, path) = (file.text.lines().count(), file.path.to_str().unwrap());
        assert!(lines <= FILE_MAX || LONGER.contains(&path), "{path} has {lines} lines: {FILE_MAX} at most");
        assert!(lines > FILE_MAX || !LONGER.contains(&path), "{path} is short now: take it off the list");
    }
}
