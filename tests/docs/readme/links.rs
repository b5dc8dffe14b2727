//! Links between the pages lead to files and headings that are there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The pages, by their paths from the root.
fn pages() -> BTreeMap<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = [root.to_owned(), root.join("docs")];
    let files =
        folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    files
        .filter(|file| file.extension().is_some_and(|extension| extension == "md"))
        .map(|file| (file.strip_prefix(root).unwrap().to_owned(), fs::read_to_string(file).unwrap()))
        .collect()
}

/// Where the links of a page lead, without those to the outside.
fn links(page: &str) -> Vec<&str> {
    let targets = page.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target).filter(|target| !target.contains("://")).collect()
}

/// The names that headings have as places of a page.
fn places(page: &str) -> Vec<String> {
    let mut in_block = false;
    let mut places = Vec::new();
    for line in page.lines() {
        in_block ^= line.starts_with("```");
        let Some(heading) = line.strip_prefix('#').filter(|_| !in_block) else { continue };
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        places.push(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
    }
    places
}

/// Links that lead nowhere.
fn broken(pages: &BTreeMap<PathBuf, String>) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut broken = Vec::new();
    for (path, page) in pages {
        for link in links(page) {
            let (file, place) = link.split_once('#').unwrap_or((link, ""));
            let folder = path.parent().unwrap();
            let target = match file.strip_prefix("../") {
                _ if file.is_empty() => path.clone(),
                Some(above) => PathBuf::from(above),
                None => folder.join(file),
            };
            let found = match pages.get(&target) {
                Some(page) => place.is_empty() || places(page).iter().any(|one| one == place),
                None => place.is_empty() && root.join(&target).exists(),
            };
            if !found {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    broken
}

#[test]
fn links_lead_somewhere() {
    let pages = pages();
    assert!(pages.contains_key(Path::new("README.md")) && pages.contains_key(Path::new("docs/README.md")));
    assert_eq!(broken(&pages), Vec::<String>::new());
}

#[test]
fn every_page_is_on_the_map() {
    let pages = pages();
    let map = links(&pages[Path::new("docs/README.md")]);
    for page in pages.keys().filter(|page| page.starts_with("docs") && !page.ends_with("README.md")) {
        let name = page.file_name().unwrap().to_str().unwrap();
        assert!(map.contains(&name), "docs/README.md does not list {name}");
    }
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let page = "# A `title`, long\n[a](docs/b.md#two-words) [b](#a-title-long) [c](#gone) [d](gone.md) \
        [e](https://x.y)\n";
    let other = "## Two words\n[a](../a.md#gone) [b](../a.md)\n";
    let pages =
        [("a.md", page), ("docs/b.md", other)].map(|(path, page)| (PathBuf::from(path), page.to_owned()));
    assert_eq!(broken(&pages.into()), ["a.md: #gone", "a.md: gone.md", "docs/b.md: ../a.md#gone"]);
}
