//! The line editor's helper: completion, hints, colours.

use std::borrow::Cow;
use std::cell::Cell;

use bytes::Bytes;
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::{Hint, Hinter};
use rustyline::validate::Validator;
use rustyline::{Context, Helper};
use tokio::runtime::Handle;

use crate::frame::style::{Ink, Paint};
use crate::parse::line::quoted;
use crate::terminal::completion::{Source, Wanted, hint, wanted};
use crate::terminal::keys;
use kvclient::Client;

/// The editor's helper.
pub(crate) struct Assistant {
    runtime: Handle,
    paint: Paint,
    files: FilenameCompleter,
    /// The client whose keys and servers are offered; `None` before there is a connection.
    pub(crate) client: Option<Client>,
    /// Whether there is text in the line. Set at each change of the line, when the editor asks for a hint.
    has_text: Cell<bool>,
}

impl Assistant {
    pub(crate) fn new(runtime: Handle, paint: Paint) -> Self {
        Self { runtime, paint, files: FilenameCompleter::new(), client: None, has_text: Cell::new(false) }
    }

    /// Begins a new line.
    pub(crate) fn begin_line(&self) {
        self.has_text.set(false);
    }

    /// Whether there is text in the line, or was when its reading ended.
    pub(crate) fn has_text(&self) -> bool {
        self.has_text.get()
    }

    fn found(&self, wanted: &Wanted) -> Vec<String> {
        let Some(client) = &self.client else { return Vec::new() };
        match wanted.source {
            Source::Keys => {
                let found = self.runtime.block_on(keys::some(client, Bytes::copy_from_slice(&wanted.begun)));
                found.iter().map(|key| quoted(key)).collect()
            }
            Source::Servers => {
                let view = client.view();
                let addresses = view.servers.values().map(|info| info.address.clone());
                addresses.filter(|address| address.as_bytes().starts_with(&wanted.begun)).collect()
            }
            Source::Files | Source::Nowhere => Vec::new(),
        }
    }
}

impl Helper for Assistant {}
impl Validator for Assistant {}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        position: usize,
        context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let Some(wanted) = wanted(&line[..position]) else { return Ok((position, Vec::new())) };
        if wanted.source == Source::Files && wanted.words.is_empty() {
            return self.files.complete(line, position, context);
        }
        let words = wanted.words.iter().cloned().chain(self.found(&wanted));
        let pair = |word: String| Pair { replacement: format!("{word} "), display: word };
        Ok((wanted.span.start, words.map(pair).collect()))
    }
}

/// A hint after the cursor. Only its certain part is typed when it is accepted.
pub(crate) struct Behind {
    shown: String,
    certain: usize,
}

impl Hint for Behind {
    fn display(&self) -> &str {
        &self.shown
    }

    fn completion(&self) -> Option<&str> {
        (self.certain > 0).then(|| &self.shown[..self.certain])
    }
}

impl Hinter for Assistant {
    type Hint = Behind;

    fn hint(&self, line: &str, position: usize, _: &Context<'_>) -> Option<Behind> {
        self.has_text.set(!line.is_empty());
        if position < line.len() {
            return None;
        }
        hint(line).map(|(shown, certain)| Behind { shown, certain })
    }
}

impl Highlighter for Assistant {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(self.paint.ink(Ink::Faint, hint))
    }
}
