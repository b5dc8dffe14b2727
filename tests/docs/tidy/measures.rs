//! Figures about the sources, for ARCHITECTURE.md's section "Measures".

use std::path::{Path, PathBuf};

use super::{CORES, CRATES, File, circles, files, is_tests, long_lines, shapes, sources};

/// Functions that are listed.
const LONGEST: usize = 8;

#[test]
#[ignore = "prints figures: cargo test --test docs measures -- --ignored --nocapture"]
fn measures() {
    let files = files();
    for folder in CRATES {
        let circles: Vec<usize> =
            circles::circles(&sources(&files, folder), Path::new(folder)).iter().map(Vec::len).collect();
        println!("circles of imports, files in each: {folder}: {circles:?}");
    }
    for folder in CORES {
        println!("{folder}: {}", of_core(&files, folder));
    }
    let mut functions: Vec<(usize, String)> = Vec::new();
    for (path, text) in CRATES.iter().flat_map(|folder| without_tests(&files, folder)) {
        let of_file = shapes::functions(text).into_iter();
        functions.extend(
            of_file.map(|function| (function.lines, format!("{} {}", path.display(), function.name))),
        );
    }
    functions.sort();
    for (lines, function) in functions.iter().rev().take(LONGEST) {
        println!("longest functions: {lines} {function}");
    }
    println!("`Role::Coordinator(` outside its file: {}", role_questions(&files));
    println!("lines above 120 characters: {}", long_lines(&files).len());
}

fn without_tests<'a>(files: &'a [File], folder: &str) -> Vec<(PathBuf, &'a str)> {
    sources(files, folder).into_iter().filter(|(path, _)| !is_tests(path)).collect()
}

fn of_core(files: &[File], folder: &str) -> String {
    let files = without_tests(files, folder);
    let structs = files.iter().flat_map(|(_, text)| shapes::structs(text));
    let largest = structs.max_by_key(|(_, fields)| *fields).expect("a core has structs");
    let functions: usize = files.iter().map(|(_, text)| shapes::functions(text).len()).sum();
    let assertions: usize = files.iter().map(|(_, text)| shapes::assertions(text)).sum();
    let tenths = functions * 10 / assertions.max(1);
    format!(
        "largest struct {} with {} fields; {functions} functions, {assertions} assertions: {}.{} functions for each",
        largest.0,
        largest.1,
        tenths / 10,
        tenths % 10
    )
}

/// How often the core asks which role a copy has, outside the file that defines the roles.
fn role_questions(files: &[File]) -> usize {
    let files = without_tests(files, "kvserver/core/src");
    let outside = files.iter().filter(|(_, text)| !text.contains("enum Role"));
    outside.map(|(_, text)| text.matches("Role::Coordinator(").count()).sum()
}
