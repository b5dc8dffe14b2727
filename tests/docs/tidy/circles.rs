//! Circles of imports: files of a crate that cannot be understood one without the other.
//!
//! A file is tied to another one
//! - whose items it names in `use` or in a path (`crate::`, `super::`, `self::`, an imported module). Re-exports and
//!   `use` lines of the module that is named are followed to the file that defines the item;
//! - that it declares (`mod child;`): so a child that names an item of its parent makes a circle.
//!
//! Tests are cut out. A circle is a strongly connected component of two files or more.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::source::{Token, close, code, tokens, without_tests};

/// The path of a module in its crate; the crate's root is empty.
type ModulePath = Vec<String>;

/// Imports that lead to imports, at most.
const IMPORTS_FOLLOWED_MAX: usize = 9;

#[derive(Default)]
struct Module {
    file: PathBuf,
    children: BTreeSet<String>,
    /// What is imported, by the name that it has here.
    uses: BTreeMap<String, Vec<String>>,
    globs: Vec<Vec<String>>,
    defines: BTreeSet<String>,
    /// Paths in the code apart from imports.
    paths: BTreeSet<Vec<String>>,
}

struct Crate(BTreeMap<ModulePath, Module>);

/// The circles of a crate, each with its files, by the texts of all files and the folder of the crate's root.
pub(super) fn circles(files: &BTreeMap<PathBuf, &str>, folder: &Path) -> Vec<Vec<PathBuf>> {
    let mut modules = Crate(BTreeMap::new());
    let root =
        ["lib.rs", "main.rs"].map(|name| folder.join(name)).into_iter().find(|root| files.contains_key(root));
    modules.load(files, Vec::new(), &root.expect("a crate has lib.rs or main.rs"));
    let edges = modules.edges();
    let mut circles: Vec<Vec<PathBuf>> = components(&edges)
        .into_iter()
        .map(|circle| circle.iter().map(|path| modules.0[*path].file.clone()).collect())
        .collect();
    circles.sort();
    circles
}

impl Crate {
    fn load(&mut self, files: &BTreeMap<PathBuf, &str>, path: ModulePath, file: &Path) {
        let code = code(files[file]);
        let all = tokens(&code);
        let (tokens, tests) = without_tests(&all);
        let mut module = read(&tokens);
        file.clone_into(&mut module.file);
        let stem = file.file_stem().expect("a file").to_str().expect("UTF-8");
        let folder = file.parent().expect("a file in a folder");
        let folder =
            if ["lib", "main", "mod"].contains(&stem) { folder.to_owned() } else { folder.join(stem) };
        let declared = std::mem::take(&mut module.children);
        for name in declared.into_iter().filter(|name| !tests.contains(&name.as_str())) {
            let places = [folder.join(format!("{name}.rs")), folder.join(&name).join("mod.rs")];
            if let Some(child) = places.iter().find(|place| files.contains_key(*place)) {
                self.load(files, [path.as_slice(), std::slice::from_ref(&name)].concat(), child);
                module.children.insert(name);
            }
        }
        self.0.insert(path, module);
    }

    /// The module and the rest of a path that is written in a module; none for another crate.
    fn start<'a>(&self, from: &[String], path: &'a [String]) -> Option<(ModulePath, &'a [String])> {
        match path.first()?.as_str() {
            "crate" => Some((Vec::new(), &path[1..])),
            "self" => Some((from.to_vec(), &path[1..])),
            "super" => {
                let up = path.iter().take_while(|part| *part == "super").count();
                Some((from[..from.len().saturating_sub(up)].to_vec(), &path[up..]))
            }
            first if self.0[from].children.contains(first) => Some((from.to_vec(), path)),
            _ => None,
        }
    }

    /// The module that defines what a path names.
    fn resolve(&self, from: &[String], path: &[String], depth: usize) -> Option<ModulePath> {
        if depth > IMPORTS_FOLLOWED_MAX {
            return None;
        }
        let Some((mut at, rest)) = self.start(from, path) else {
            let import =
                self.0[from].uses.get(path.first()?).filter(|import| depth > 0 && *import != path)?;
            return self.resolve(from, &[import, &path[1..]].concat(), depth + 1);
        };
        for (index, part) in rest.iter().enumerate() {
            let module = self.0.get(&at)?;
            if module.children.contains(part) {
                at.push(part.clone());
                continue;
            }
            if module.defines.contains(part) {
                return Some(at);
            }
            if let Some(import) = module.uses.get(part) {
                return self.resolve(&at, &[import, &rest[index + 1..]].concat(), depth + 1);
            }
            let from_glob = module.globs.iter().filter_map(|glob| self.resolve(&at, glob, depth + 1));
            let defines =
                |target: &ModulePath| self.0.get(target).is_some_and(|module| module.defines.contains(part));
            return from_glob.into_iter().find(defines).or(Some(at));
        }
        Some(at)
    }

    fn edges(&self) -> BTreeMap<&ModulePath, BTreeSet<&ModulePath>> {
        let mut edges = BTreeMap::new();
        for (path, module) in &self.0 {
            let children =
                module.children.iter().map(|name| [path.as_slice(), std::slice::from_ref(name)].concat());
            let named = module.uses.values().chain(&module.globs).chain(&module.paths);
            let mut targets: BTreeSet<ModulePath> =
                children.chain(named.filter_map(|named| self.resolve(path, named, 0))).collect();
            // An imported module: `use crate::net::rope;` and then `rope::Rope`.
            for named in &module.paths {
                if let Some(import) = module.uses.get(&named[0]) {
                    targets.extend(self.resolve(path, &[import, &named[1..]].concat(), 0));
                }
            }
            let known = targets.iter().filter_map(|target| self.0.get_key_value(target));
            edges.insert(path, known.map(|(target, _)| target).filter(|target| *target != path).collect());
        }
        edges
    }
}

/// What a file imports, defines, declares and names.
fn read(tokens: &[Token<'_>]) -> Module {
    const DEFINING: [&str; 9] =
        ["struct", "enum", "trait", "type", "fn", "const", "static", "union", "macro_rules"];
    let mut module = Module::default();
    let mut at = 0;
    while at < tokens.len() {
        let text = |offset: usize| tokens.get(at + offset).map_or("", |token| token.text);
        match text(0) {
            "use" => {
                at += 1;
                use_tree(tokens, &mut at, &[], &mut module);
                continue;
            }
            // A visibility, such as `pub(in crate::shell)`, ties nothing.
            "pub" if text(1) == "(" => {
                at = close(tokens, at + 1);
                continue;
            }
            "mod" if text(2) == ";" => _ = module.children.insert(text(1).to_owned()),
            "macro_rules" => _ = module.defines.insert(text(2).to_owned()),
            word if DEFINING.contains(&word) => _ = module.defines.insert(text(1).to_owned()),
            word if is_name(word) && text(1) == "::" && (at == 0 || tokens[at - 1].text != "::") => {
                let mut path = vec![word.to_owned()];
                while tokens.get(at + 1).is_some_and(|token| token.text == "::")
                    && tokens.get(at + 2).is_some_and(|token| is_name(token.text))
                {
                    at += 2;
                    path.push(tokens[at].text.to_owned());
                }
                if path.len() > 1 {
                    module.paths.insert(path);
                }
            }
            _ => {}
        }
        at += 1;
    }
    module
}

fn is_name(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
}

/// Reads one tree of a `use`, up to what comes behind it.
fn use_tree(tokens: &[Token<'_>], at: &mut usize, before: &[String], module: &mut Module) {
    let mut path = before.to_vec();
    while let Some(token) = tokens.get(*at) {
        *at += 1;
        match token.text {
            "{" => {
                while tokens.get(*at).is_some_and(|token| token.text != "}") {
                    use_tree(tokens, at, &path, module);
                    if tokens.get(*at).is_some_and(|token| token.text == ",") {
                        *at += 1;
                    }
                }
                *at += 1;
                return;
            }
            "*" => return module.globs.push(path),
            "::" => {}
            "as" => {
                let name = tokens[*at].text.to_owned();
                *at += 1;
                module.uses.entry(name).or_insert(path);
                return;
            }
            name if is_name(name) => {
                // `use a::{self, b}`: the module itself.
                if name != "self" || path.is_empty() {
                    path.push(name.to_owned());
                }
                let ends = tokens.get(*at).is_none_or(|next| matches!(next.text, ";" | "," | "}"));
                if ends {
                    module.uses.entry(path.last().expect("a name").clone()).or_insert(path);
                    return;
                }
            }
            _ => return,
        }
    }
}

/// Strongly connected components of two nodes or more: each node's are those that it reaches and that reach it.
fn components<'a>(
    edges: &BTreeMap<&'a ModulePath, BTreeSet<&'a ModulePath>>,
) -> Vec<BTreeSet<&'a ModulePath>> {
    let reached: BTreeMap<&ModulePath, BTreeSet<&ModulePath>> = edges
        .keys()
        .map(|from| {
            let mut reached = BTreeSet::new();
            let mut next: Vec<&ModulePath> = edges[from].iter().copied().collect();
            while let Some(node) = next.pop() {
                if reached.insert(node) {
                    next.extend(&edges[node]);
                }
            }
            (*from, reached)
        })
        .collect();
    let circle = |node: &&'a ModulePath| -> BTreeSet<&'a ModulePath> {
        let back =
            edges.keys().filter(|other| reached[*node].contains(*other) && reached[*other].contains(*node));
        back.copied().collect()
    };
    let circles: BTreeSet<BTreeSet<&ModulePath>> = edges.keys().map(circle).collect();
    circles.into_iter().filter(|circle| circle.len() > 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &'static str)]) -> Vec<Vec<String>> {
        let files = files.iter().map(|(path, text)| (PathBuf::from(path), *text)).collect();
        let names = |circle: Vec<PathBuf>| circle.iter().map(|file| file.display().to_string()).collect();
        circles(&files, Path::new("src")).into_iter().map(names).collect()
    }

    #[test]
    fn files_that_import_each_other_are_a_circle() {
        let lib = ("src/lib.rs", "mod a; mod b; mod c; pub use a::A;");
        let b = ("src/b.rs", "use super::c::C; pub struct B;");
        let none = [lib, ("src/a.rs", "use crate::b::B; pub struct A;"), b, ("src/c.rs", "pub struct C;")];
        assert_eq!(found(&none), Vec::<Vec<String>>::new());
        // By a path in the code, through a re-export.
        let circle = [none[0], none[1], b, ("src/c.rs", "pub struct C; fn f() { let _ = crate::A; }")];
        assert_eq!(found(&circle), [["src/a.rs", "src/b.rs", "src/c.rs"]]);
        // By an imported module.
        let circle = [none[0], none[1], b, ("src/c.rs", "use crate::{b::{self, X as Y}}; struct C(b::B);")];
        assert_eq!(found(&circle), [["src/b.rs", "src/c.rs"]]);
        // In tests alone, in comments, by a macro's path of another crate.
        let harmless =
            "pub struct C; // crate::b::B\n#[cfg(test)] mod tests { use crate::b::B; } use other::b::B;";
        assert_eq!(found(&[none[0], none[1], b, ("src/c.rs", harmless)]), Vec::<Vec<String>>::new());
    }

    #[test]
    fn a_child_that_names_its_parent_is_a_circle() {
        let child = ("src/a/b.rs", "use super::A; fn f(_: A) {}");
        let files = [("src/lib.rs", "mod a;"), ("src/a.rs", "mod b; pub struct A;"), child];
        assert_eq!(found(&files), [["src/a.rs", "src/a/b.rs"]]);
        let child = ("src/a/b.rs", "use super::super::other::Other; pub struct B;");
        let files = [
            ("src/lib.rs", "mod a; mod other;"),
            ("src/a.rs", "mod b; use b::B;"),
            child,
            ("src/other.rs", "pub struct Other;"),
        ];
        assert_eq!(found(&files), Vec::<Vec<String>>::new());
    }
}
