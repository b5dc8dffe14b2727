//! Licence expressions (SPDX specification, annex "SPDX license expressions"), as far as crates use them: names,
//! `WITH`, `AND`, `OR`, brackets, and `/` for `OR` of old.

/// Whether what an expression asks for can be kept with licences that are accepted.
pub(super) fn is_satisfied(expression: &str, accepted: &dyn Fn(&str) -> bool) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut reader = Reader { words: &words, accepted };
    let satisfied = reader.any();
    satisfied && reader.words.is_empty()
}

struct Reader<'a> {
    words: &'a [&'a str],
    accepted: &'a dyn Fn(&str) -> bool,
}

impl Reader<'_> {
    fn next_is(&mut self, word: &str) -> bool {
        let is = self.words.first() == Some(&word);
        self.words = &self.words[usize::from(is)..];
        is
    }

    fn any(&mut self) -> bool {
        let mut satisfied = self.all();
        while self.next_is("OR") {
            satisfied |= self.all();
        }
        satisfied
    }

    fn all(&mut self) -> bool {
        let mut satisfied = self.one();
        while self.next_is("AND") {
            satisfied &= self.one();
        }
        satisfied
    }

    fn one(&mut self) -> bool {
        if self.next_is("(") {
            return self.any() & self.next_is(")");
        }
        let Some((name, rest)) = self.words.split_first() else { return false };
        self.words = rest;
        let mut name = (*name).to_owned();
        if self.next_is("WITH")
            && let Some((exception, rest)) = self.words.split_first()
        {
            name = format!("{name} WITH {exception}");
            self.words = rest;
        }
        (self.accepted)(&name)
    }
}

#[test]
fn expressions_are_read_as_they_are_meant() {
    let accepted = |name: &str| ["MIT", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"].contains(&name);
    for (expression, satisfied) in [
        ("MIT", true),
        ("GPL-3.0-only", false),
        ("GPL-2.0-only OR MIT", true),
        ("MIT/GPL-2.0", true),
        ("MIT AND GPL-2.0-only", false),
        ("(MIT OR GPL-2.0-only) AND Unicode-3.0", true),
        ("MIT OR GPL-2.0-only AND BSD-3-Clause", true),
        ("(MIT OR GPL-2.0-only) AND BSD-3-Clause", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("Apache-2.0", false),
        ("", false),
        ("(MIT", false),
        ("MIT MIT", false),
    ] {
        assert_eq!(is_satisfied(expression, &accepted), satisfied, "{expression}");
    }
}
