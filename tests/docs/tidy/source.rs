//! Rust text as tokens with their lines, without comments, strings and tests.

/// A word, a number, `::` or one other character of the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) text: &'a str,
    /// From 1.
    pub(super) line: usize,
}

/// The code of a file: comments, strings and characters are blank, and all lines are where they were.
pub(super) fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = end_of_blank(bytes, at);
        if end > at {
            code.extend(bytes[at..end].iter().map(|byte| if *byte == b'\n' { b'\n' } else { b' ' }));
            at = end;
        } else {
            code.push(if bytes[at].is_ascii() { bytes[at] } else { b' ' });
            at += 1;
        }
    }
    String::from_utf8(code).expect("ASCII")
}

/// Where a comment, a string or a character ends that begins here; `at` if none begins here.
fn end_of_blank(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let find = |from: usize, what: &[u8]| {
        let found = rest[from..].windows(what.len()).position(|window| window == what);
        found.map_or(bytes.len(), |found| at + from + found)
    };
    if rest.starts_with(b"//") {
        return find(0, b"\n");
    }
    if rest.starts_with(b"/*") {
        return (find(2, b"*/") + 2).min(bytes.len());
    }
    let in_word = at > 0 && is_word(bytes[at - 1]);
    let raw = rest.strip_prefix(b"b").unwrap_or(rest);
    if !in_word && raw.starts_with(b"r") {
        let hashes = raw[1..].iter().take_while(|byte| **byte == b'#').count();
        if raw.get(1 + hashes) == Some(&b'"') {
            let quote = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
            let begin = rest.len() - raw.len() + 2 + hashes;
            return (find(begin, &quote) + quote.len()).min(bytes.len());
        }
    }
    match rest {
        [b'"', ..] => at + quoted(rest, b'"'),
        [b'\'', b'\\', ..] => at + quoted(rest, b'\''),
        [b'\'', first, ..] => {
            // A character of one to four bytes; anything else is a lifetime.
            let len = match first {
                0..0x80 => 1,
                0x80..0xe0 => 2,
                0xe0..0xf0 => 3,
                _ => 4,
            };
            if rest.get(1 + len) == Some(&b'\'') { at + len + 2 } else { at }
        }
        _ => at,
    }
}

/// Bytes up to the closing quote.
fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The tokens of [`code`].
pub(super) fn tokens(code: &str) -> Vec<Token<'_>> {
    let bytes = code.as_bytes();
    let (mut tokens, mut at, mut line) = (Vec::new(), 0, 1);
    while at < bytes.len() {
        let begin = at;
        at += match bytes[at] {
            b':' if bytes.get(at + 1) == Some(&b':') => 2,
            b'-' | b'=' if bytes.get(at + 1) == Some(&b'>') => 2,
            byte if is_word(byte) => bytes[at..].iter().take_while(|byte| is_word(**byte)).count(),
            _ => 1,
        };
        let text = &code[begin..at];
        if text == "\n" {
            line += 1;
        } else if text != " " {
            tokens.push(Token { text, line });
        }
    }
    tokens
}

/// The place behind the bracket that closes the one at `open`.
pub(super) fn close(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return index + 1;
                }
            }
            _ => {}
        }
    }
    tokens.len()
}

/// Takes out all items under `#[cfg(test)]`; also the names of modules that are declared so.
pub(super) fn without_tests<'a>(tokens: &[Token<'a>]) -> (Vec<Token<'a>>, Vec<&'a str>) {
    let (mut kept, mut modules, mut at) = (Vec::new(), Vec::new(), 0);
    while at < tokens.len() {
        let text = |offset: usize| tokens.get(at + offset).map_or("", |token| token.text);
        let is_test = ["#", "[", "cfg", "(", "test", ")", "]"]
            .iter()
            .zip(0..)
            .all(|(part, offset)| text(offset) == *part);
        if !is_test {
            kept.push(tokens[at]);
            at += 1;
            continue;
        }
        at += 7;
        while tokens.get(at).is_some_and(|token| token.text == "#") {
            at = close(tokens, at + 1);
        }
        let head = at;
        let mut item = tokens[head..].iter().map(|token| token.text);
        let is_use = item.find(|word| !["pub", "(", "crate", "super", ")"].contains(word)) == Some("use");
        while tokens.get(at).is_some_and(|token| token.text != ";" && (is_use || token.text != "{")) {
            at = if tokens[at].text == "(" { close(tokens, at) } else { at + 1 };
        }
        if let [.., module, name] = &tokens[head..at]
            && module.text == "mod"
            && tokens.get(at).is_some_and(|token| token.text == ";")
        {
            modules.push(name.text);
        }
        at = if tokens.get(at).is_some_and(|token| token.text == "{") { close(tokens, at) } else { at + 1 };
    }
    (kept, modules)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        let code = code(text);
        tokens(&code).iter().map(|token| format!("{}@{}", token.text, token.line)).collect()
    }

    #[test]
    fn comments_strings_and_characters_are_blank() {
        let text = "a // b\n/* c\n*/ d(\"e\\\"f\", 'g', '\\'', 'é', b\"h\") r#\"i\n\"j\"# 'k 'l> m::n";
        let wanted = [
            "a@1", "d@3", "(@3", ",@3", ",@3", ",@3", ",@3", "b@3", ")@3", "'@4", "k@4", "'@4", "l@4", ">@4",
            "m@4", "::@4", "n@4",
        ];
        assert_eq!(texts(text), wanted);
    }

    #[test]
    fn tests_are_cut_out() {
        let text = "fn a() { b } #[cfg(test)] mod c; #[cfg(test)] #[derive(X)] mod d { use x; e } \
                    #[cfg(test)] use f::{g}; h";
        let code = code(text);
        let all = tokens(&code);
        let (kept, modules) = without_tests(&all);
        let kept: Vec<&str> = kept.iter().map(|token| token.text).collect();
        assert_eq!(kept, ["fn", "a", "(", ")", "{", "b", "}", "h"]);
        assert_eq!(modules, ["c"]);
    }
}
