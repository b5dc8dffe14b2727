//! What documentation comments say.

/// A documentation comment of several lines, and the line of code behind it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Comment {
    /// Of its first line, from 1.
    pub(super) line: usize,
    pub(super) text: String,
    /// The item that it is about; empty at the head of a file.
    pub(super) item: String,
}

/// The documentation comments of a file.
pub(super) fn comments(text: &str) -> Vec<Comment> {
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    let (mut comments, mut at) = (Vec::new(), 0);
    while at < lines.len() {
        let begin = at;
        let mark = ["///", "//!"].into_iter().find(|mark| lines[at].starts_with(mark));
        let Some(mark) = mark else {
            at += 1;
            continue;
        };
        while at < lines.len() && lines[at].starts_with(mark) {
            at += 1;
        }
        let text: Vec<&str> = lines[begin..at].iter().map(|line| line[mark.len()..].trim()).collect();
        let item = lines[at..].iter().find(|line| !line.starts_with("#[")).filter(|_| mark == "///");
        let item = item.map_or(String::new(), |item| (*item).to_owned());
        comments.push(Comment { line: begin + 1, text: text.join("\n"), item });
    }
    comments
}

impl Comment {
    /// Whether it says no more than the name of the item: `/// The partition.` above `partition: PartitionId`.
    pub(super) fn says_nothing(&self) -> bool {
        const EMPTY: [&str; 14] =
            ["the", "a", "an", "of", "its", "it", "this", "that", "is", "are", "to", "in", "one", "such"];
        const BEFORE_NAMES: [&str; 10] =
            ["pub", "crate", "super", "const", "static", "fn", "struct", "enum", "async", "type"];
        let mut item = self.item.split(|c: char| !c.is_alphanumeric() && c != '_');
        let Some(name) = item.find(|word| !word.is_empty() && !BEFORE_NAMES.contains(word)) else {
            return false;
        };
        let known = words_of_name(name);
        let text = self.text.replace("'s ", " ");
        let mut words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).peekable();
        let says = |word: &str| {
            let word = stem(&word.to_lowercase());
            EMPTY.contains(&word.as_str()) || known.contains(&word)
        };
        words.peek().is_some() && words.all(says)
    }

    /// Whether it has a word, of any case.
    pub(super) fn has(&self, word: &str) -> bool {
        has_word(&self.text, word)
    }
}

/// Whether a text has a word, of any case.
pub(super) fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|other| other.eq_ignore_ascii_case(word))
}

/// `LogPosition` and `log_position` are log and position.
fn words_of_name(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before_is_small = false;
    for c in name.chars() {
        if c == '_' || c.is_uppercase() && before_is_small {
            words.push(String::new());
        }
        if c != '_' {
            words.last_mut().expect("one").extend(c.to_lowercase());
        }
        before_is_small = c.is_lowercase() || c.is_numeric();
    }
    words.iter().map(|word| stem(word)).collect()
}

/// A word without the ending of a plural.
fn stem(word: &str) -> String {
    let long = word.len() > 3 && !word.ends_with("ss");
    if long { word.strip_suffix('s').unwrap_or(word).to_owned() } else { word.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_found_with_their_items() {
        let text =
            "//! Head.\n\n/// One\n/// two.\n#[x]\npub fn a() {\n    // no\n    /// Three.\n    b: u8,";
        let comment =
            |line, text: &str, item: &str| Comment { line, text: text.to_owned(), item: item.to_owned() };
        let wanted = [
            comment(1, "Head.", ""),
            comment(3, "One\ntwo.", "pub fn a() {"),
            comment(8, "Three.", "b: u8,"),
        ];
        assert_eq!(comments(text), wanted);
    }

    #[test]
    fn a_comment_that_repeats_the_name_says_nothing() {
        let says_nothing =
            |comment: &str, item: &str| comments(&format!("/// {comment}\n{item}"))[0].says_nothing();
        assert!(says_nothing("The partition.", "partition: PartitionId,"));
        assert!(says_nothing("The log's positions.", "pub(crate) log_position: u8,"));
        assert!(says_nothing("A peer link.", "pub struct PeerLink {"));
        assert!(!says_nothing("The partition that moves.", "partition: PartitionId,"));
        assert!(!says_nothing("Its epoch.", "partition: PartitionId,"));
    }

    #[test]
    fn words_are_found_whole() {
        let comment = &comments("/// Nobody is untold.\nfn a() {}")[0];
        assert!(comment.has("nobody") && !comment.has("told"));
        assert!(has_word("what it told.", "told") && !has_word("told_it", "told"));
    }
}
