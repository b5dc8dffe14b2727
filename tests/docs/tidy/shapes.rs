//! Sizes of functions and structs, and where the `impl` blocks of a type are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::source::{Token, close, code, tokens, without_tests};

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: String,
    /// Lines from `fn` to the closing bracket.
    pub(super) lines: usize,
}

/// The functions of a file, without tests.
pub(super) fn functions(text: &str) -> Vec<Function> {
    let code = code(text);
    let all = tokens(&code);
    let (tokens, _) = without_tests(&all);
    let mut functions = Vec::new();
    for (at, pair) in tokens.windows(2).enumerate() {
        if pair[0].text != "fn" || pair[1].text == "(" {
            continue;
        }
        let mut body = at + 1;
        while tokens.get(body).is_some_and(|token| !matches!(token.text, ";" | "{")) {
            body = if matches!(tokens[body].text, "(" | "[") { close(&tokens, body) } else { body + 1 };
        }
        if tokens.get(body).is_some_and(|token| token.text == "{") {
            let last = tokens[close(&tokens, body) - 1].line;
            functions.push(Function { name: pair[1].text.to_owned(), lines: last - pair[0].line + 1 });
        }
    }
    functions
}

/// The structs of a file with named fields, and how many they have.
pub(super) fn structs(text: &str) -> Vec<(String, usize)> {
    let code = code(text);
    let all = tokens(&code);
    let (tokens, _) = without_tests(&all);
    let mut structs = Vec::new();
    for (at, pair) in tokens.windows(2).enumerate().filter(|(_, pair)| pair[0].text == "struct") {
        let rest = tokens[at..].iter().position(|token| matches!(token.text, ";" | "{" | "("));
        if let Some(open) = rest.map(|rest| at + rest).filter(|open| tokens[*open].text == "{") {
            let (mut fields, mut inside) = (0, open + 1);
            while inside < close(&tokens, open) - 1 {
                match tokens[inside].text {
                    "(" | "[" | "{" => inside = close(&tokens, inside),
                    ":" => {
                        fields += 1;
                        inside += 1;
                    }
                    _ => inside += 1,
                }
            }
            structs.push((pair[1].text.to_owned(), fields));
        }
    }
    structs
}

/// Assertions of a file that are on in release, without tests.
pub(super) fn assertions(text: &str) -> usize {
    const MACROS: [&str; 4] = ["assert", "assert_eq", "assert_ne", "unreachable"];
    let code = code(text);
    let all = tokens(&code);
    let (tokens, _) = without_tests(&all);
    tokens.windows(2).filter(|pair| pair[1].text == "!" && MACROS.contains(&pair[0].text)).count()
}

/// The `impl` blocks of a crate for types that another subject of the crate defines, as `file: type`. A file and the
/// folder of its name are a subject, and so is a folder with all that is below it, but for the crate's own.
pub(super) fn foreign_impls(files: &BTreeMap<PathBuf, &str>) -> Vec<String> {
    let mut types: BTreeMap<String, Vec<&PathBuf>> = BTreeMap::new();
    let mut impls = Vec::new();
    for (path, text) in files {
        let code = code(text);
        let all = tokens(&code);
        let (tokens, _) = without_tests(&all);
        for (at, pair) in tokens.windows(2).enumerate() {
            if matches!(pair[0].text, "struct" | "enum" | "union") {
                types.entry(pair[1].text.to_owned()).or_default().push(path);
            }
            let begins = at == 0 || matches!(tokens[at - 1].text, ";" | "}" | "{" | "]" | "unsafe");
            if pair[0].text == "impl" && begins {
                impls.extend(subject(&tokens[at + 1..]).map(|name| (path, name)));
            }
        }
    }
    let is_foreign = |(path, name): &(&PathBuf, String)| {
        let defined = types.get(name)?;
        let near = defined.iter().any(|place| is_one_subject(place, path));
        (!near).then(|| format!("{}: {name}", path.display()))
    };
    impls.iter().filter_map(is_foreign).collect()
}

/// The name of the type that an `impl` is about, by what comes behind `impl`.
fn subject(tokens: &[Token<'_>]) -> Option<String> {
    let (mut depth, mut name) = (0_usize, None);
    for token in tokens {
        match token.text {
            "<" => depth += 1,
            ">" => depth = depth.saturating_sub(1),
            "{" | "where" if depth == 0 => break,
            "for" if depth == 0 => name = None,
            word if depth == 0 && word.starts_with(|first: char| first.is_ascii_alphabetic()) => {
                name = Some(word)
            }
            _ => {}
        }
    }
    name.map(str::to_owned)
}

fn is_one_subject(definition: &Path, implementation: &Path) -> bool {
    let folder = definition.parent();
    let own = definition.with_extension("");
    folder == implementation.parent()
        || implementation.starts_with(&own)
        || folder.is_some_and(|folder| !folder.ends_with("src") && implementation.starts_with(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_function_are_counted_from_fn_to_its_end() {
        let text = "fn a(\n  x: [u8; 3],\n) -> u8 {\n  // }\n  { 1 }\n}\ntrait T { fn b(); }\n#[cfg(test)]\nfn c() {}";
        assert_eq!(functions(text), [Function { name: "a".to_owned(), lines: 6 }]);
    }

    #[test]
    fn fields_of_a_struct_are_counted() {
        let text =
            "struct A<T: X> { /// a: b\n #[x(y: z)] a: T, pub b: [u8; 2], c: a::B<(u8, C)>, }\nstruct B(u8);";
        assert_eq!(structs(text), [("A".to_owned(), 3)]);
    }

    #[test]
    fn assertions_of_tests_and_of_debug_builds_do_not_count() {
        let tests = "#[cfg(test)] mod t { fn c() { assert!(d) } }";
        let text = &format!("fn a() {{ assert!(b); debug_assert!(b); assert_eq!(1, 1) }}\n{tests}");
        assert_eq!(assertions(text), 2);
    }

    #[test]
    fn an_impl_far_from_its_type_is_found() {
        let found = |files: &[(&str, &'static str)]| {
            foreign_impls(&files.iter().map(|(path, text)| (PathBuf::from(path), *text)).collect())
        };
        let copy = ("src/copy.rs", "pub struct Copy<T> { a: T }");
        assert_eq!(found(&[copy, ("src/copy/apply.rs", "impl<T> Copy<T> {}")]), Vec::<String>::new());
        assert_eq!(found(&[copy, ("src/other.rs", "impl Other for Copy<u8> {}")]), Vec::<String>::new());
        let far = found(&[
            copy,
            ("src/other/far.rs", "fn a(x: impl Copy) {}\nimpl<T: B> fmt::Debug for super::Copy<T> {}"),
        ]);
        assert_eq!(far, ["src/other/far.rs: Copy"]);
        let below = [("src/tree/kind.rs", "pub struct Kind;"), ("src/tree/deep/x.rs", "impl Kind {}")];
        assert_eq!(found(&below), Vec::<String>::new());
    }
}
