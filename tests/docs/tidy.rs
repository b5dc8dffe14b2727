//! The rules of the house that a program can check: sizes of lines, functions, structs and files, imports that make no
//! circles, `impl` blocks near their types, and comments that say something and can be read alone.
//!
//! Where the tree does not keep a rule yet, a list says where, and it may only become shorter: a test fails for what is
//! not on its list, and for what is on the list without need.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

mod circles;
mod comments;
mod measures;
mod shapes;
mod source;

mod baseline;

/// Characters of a line.
const LINE_MAX: usize = 120;

/// Lines of a file: a longer one has two subjects.
const FILE_MAX: usize = 500;

/// Lines of a function.
const FUNCTION_MAX: usize = 70;

/// Fields of a struct of a core: one with more is several things.
const FIELDS_MAX: usize = 15;

/// Words that a documentation comment does without: a server, a client or a person does something, and what is sent,
/// reported or printed is called so.
const FORBIDDEN: [&str; 2] = ["nobody", "told"];

/// The crates, by the folder of their sources.
const CRATES: [&str; 10] = [
    "common/src",
    "ecs/core/src",
    "ecs/src",
    "kvclient/cli/src",
    "kvclient/src",
    "kvserver/core/src",
    "kvserver/src",
    "src",
    "storage/src",
    "tests/skipped/src",
];

/// The crates that decide and do nothing else.
const CORES: [&str; 2] = ["ecs/core/src", "kvserver/core/src"];

/// How a comment begins that goes on from the one before it, or from a name. A reader from elsewhere sees neither.
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

/// The Rust files below a folder.
fn sources<'a>(files: &'a [File], folder: &str) -> BTreeMap<PathBuf, &'a str> {
    let below = files.iter().filter(|file| file.is_rust() && file.path.starts_with(folder));
    below.map(|file| (file.path.clone(), file.text.as_str())).collect()
}

/// Whether a file has nothing but tests: it is declared so by the file above it.
fn is_tests(path: &Path) -> bool {
    path.components().any(|part| {
        ["tests", "tests.rs", "testing", "testing.rs"].contains(&&*part.as_os_str().to_string_lossy())
    })
}

/// What breaks a rule and is not on its list, and what is on the list without need.
fn differences(found: &[String], known: &[&str]) -> Vec<String> {
    let (found, known): (BTreeSet<&str>, BTreeSet<&str>) =
        (found.iter().map(String::as_str).collect(), known.iter().copied().collect());
    let new = found.difference(&known).map(|one| format!("breaks the rule: {one}"));
    new.chain(known.difference(&found).map(|one| format!("not so any more, take it off the list: {one}")))
        .collect()
}

#[track_caller]
fn check(rule: &str, found: &[String], known: &[&str]) {
    let differences = differences(found, known);
    assert!(differences.is_empty(), "{rule} (lists: tests/docs/tidy/baseline.rs): {differences:#?}");
}

/// Lines above [`LINE_MAX`].
fn long_lines(files: &[File]) -> Vec<String> {
    found(files, |_, line| line.chars().count() > LINE_MAX)
}

/// Files above [`FILE_MAX`].
fn long_files(files: &[File]) -> Vec<String> {
    let long = files.iter().filter(|file| file.is_rust() && file.text.lines().count() > FILE_MAX);
    long.map(|file| file.path.display().to_string()).collect()
}

/// Comments that go on from something that a reader does not see.
fn leaning_comments(files: &[File]) -> Vec<String> {
    let leans = |file: &File| -> Vec<String> {
        let comments = comments::comments(&file.text).into_iter();
        let leaning = comments.filter(|comment| LEANING.iter().any(|start| comment.text.starts_with(start)));
        leaning.map(|comment| format!("{}:{}", file.path.display(), comment.line)).collect()
    };
    files.iter().filter(|file| file.is_rust()).flat_map(leans).collect()
}

/// Files of each crate that are in circles of imports.
fn files_in_circles(files: &[File]) -> Vec<String> {
    let count = |folder: &&str| {
        circles::circles(&sources(files, folder), Path::new(folder)).iter().map(Vec::len).sum()
    };
    CRATES
        .iter()
        .map(|folder| (folder, count(folder)))
        .filter(|(_, count): &(_, usize)| *count > 0)
        .map(|(folder, count)| format!("{folder}: {count}"))
        .collect()
}

/// Functions of the programs and libraries above [`FUNCTION_MAX`].
fn long_functions(files: &[File]) -> Vec<String> {
    let long = |(path, text): (PathBuf, &str)| -> Vec<String> {
        let functions = shapes::functions(text).into_iter().filter(|function| function.lines > FUNCTION_MAX);
        functions.map(|function| format!("{}: {}", path.display(), function.name)).collect()
    };
    CRATES
        .iter()
        .flat_map(|folder| sources(files, folder))
        .filter(|(path, _)| !is_tests(path))
        .flat_map(long)
        .collect()
}

/// Structs of the cores above [`FIELDS_MAX`].
fn wide_structs(files: &[File]) -> Vec<String> {
    let wide = |(path, text): (PathBuf, &str)| -> Vec<String> {
        let structs = shapes::structs(text).into_iter().filter(|(_, fields)| *fields > FIELDS_MAX);
        structs.map(|(name, fields)| format!("{}: {name} {fields}", path.display())).collect()
    };
    CORES.iter().flat_map(|folder| sources(files, folder)).flat_map(wide).collect()
}

/// `impl` blocks far from their types.
fn foreign_impls(files: &[File]) -> Vec<String> {
    CRATES.iter().flat_map(|folder| shapes::foreign_impls(&sources(files, folder))).collect()
}

/// How often each crate has a documentation comment with a forbidden word.
fn forbidden_words(files: &[File]) -> Vec<String> {
    let count = |folder: &str, word: &str| {
        let comments = sources(files, folder).into_values().flat_map(comments::comments);
        comments.filter(|comment| comment.has(word)).count()
    };
    let all = CRATES.iter().flat_map(|folder| FORBIDDEN.map(|word| (folder, word, count(folder, word))));
    all.filter(|(.., count)| *count > 0)
        .map(|(folder, word, count)| format!("{folder}: {word} {count}"))
        .collect()
}

/// How often each crate has a documentation comment that says no more than the name.
fn empty_comments(files: &[File]) -> Vec<String> {
    let count = |folder: &str| {
        let comments = sources(files, folder).into_values().flat_map(comments::comments);
        comments.filter(comments::Comment::says_nothing).count()
    };
    let all = CRATES.iter().map(|folder| (folder, count(folder)));
    all.filter(|(_, count)| *count > 0).map(|(folder, count)| format!("{folder}: {count}")).collect()
}

#[test]
fn lines_fit_on_a_screen() {
    check("lines of at most 120 characters", &long_lines(&files()), &[]);
}

#[test]
fn comments_can_be_read_alone() {
    check("comments that go on from something that is not there", &leaning_comments(&files()), &[]);
}

#[test]
fn files_have_one_subject() {
    check("files of at most 500 lines", &long_files(&files()), &baseline::LONG_FILES);
}

#[test]
fn imports_make_no_circles() {
    check("files in circles of imports", &files_in_circles(&files()), &baseline::FILES_IN_CIRCLES);
}

#[test]
fn functions_fit_on_a_screen() {
    check("functions of at most 70 lines", &long_functions(&files()), &baseline::LONG_FUNCTIONS);
}

#[test]
fn structs_of_the_cores_are_one_thing() {
    check("at most 15 fields", &wide_structs(&files()), &baseline::WIDE_STRUCTS);
}

#[test]
fn methods_are_near_their_types() {
    check("impl blocks beside or below their types", &foreign_impls(&files()), &baseline::FOREIGN_IMPLS);
}

#[test]
fn comments_use_the_words_of_the_field() {
    check(
        "forbidden words in documentation comments",
        &forbidden_words(&files()),
        &baseline::FORBIDDEN_WORDS,
    );
}

#[test]
fn comments_say_more_than_the_name() {
    check("comments that repeat a name", &empty_comments(&files()), &baseline::EMPTY_COMMENTS);
}

/// Each rule finds what breaks it, and nothing in a tree that keeps it.
#[test]
fn rules_can_fail() {
    let file = |path: &str, text: String| File { path: PathBuf::from(path), text };
    let roots = CRATES.map(|folder| file(&format!("{folder}/lib.rs"), "mod a;\n".to_owned()));
    let with = |text: &str| -> Vec<File> {
        let roots = roots.iter().map(|root| file(root.path.to_str().unwrap(), root.text.clone()));
        roots.chain([file("ecs/core/src/a.rs", text.to_owned())]).collect()
    };
    type Rule = fn(&[File]) -> Vec<String>;
    let fields: String = (0..16).map(|field| format!("f{field}: u8, ")).collect();
    let rules: [(Rule, String, &str); 8] = [
        (long_lines, format!("//{}", " x".repeat(60)), "ecs/core/src/a.rs:1"),
        (long_files, "\n".repeat(501), "ecs/core/src/a.rs"),
        (leaning_comments, "/// The same.\nfn a() {}".to_owned(), "ecs/core/src/a.rs:1"),
        (files_in_circles, "use crate::A;".to_owned(), "ecs/core/src: 2"),
        (long_functions, format!("fn a() {{{}}}", "\n".repeat(70)), "ecs/core/src/a.rs: a"),
        (wide_structs, format!("struct A {{ {fields} }}"), "ecs/core/src/a.rs: A 16"),
        (forbidden_words, "/// Nobody is here.\nfn a() {}".to_owned(), "ecs/core/src: nobody 1"),
        (empty_comments, "/// The letter.\nfn letter() {}".to_owned(), "ecs/core/src: 1"),
    ];
    for (rule, text, wanted) in rules {
        assert_eq!(rule(&with("/// What it does.\nfn a() {}")), Vec::<String>::new());
        assert_eq!(rule(&with(&text)), [wanted], "{text}");
    }
    let far = [
        file("common/src/a/b.rs", "struct B;".to_owned()),
        file("common/src/c/d.rs", "impl B {}".to_owned()),
    ];
    assert_eq!(foreign_impls(&far), ["common/src/c/d.rs: B"]);
    assert_eq!(differences(&["a".to_owned()], &["a"]), Vec::<String>::new());
    assert_eq!(differences(&["a".to_owned()], &["b"]).len(), 2);
}
