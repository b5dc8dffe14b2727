//! Watches of a shell in the background.

use kvclient::Selection;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The keys that a shell watches while lines are typed.
#[derive(Debug, Default)]
pub(crate) struct Watching {
    /// Takes lines that are shown above the one being typed; `None`: this is no shell on a terminal.
    lines: Option<mpsc::Sender<String>>,
    running: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    keys: Selection,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watching {
    /// Changes are shown through `lines` from now on.
    pub(crate) fn show_above(&mut self, lines: mpsc::Sender<String>) {
        self.lines = Some(lines);
    }

    /// Whether changes can be shown above the line.
    pub(crate) fn is_shown_above(&self) -> bool {
        self.lines.is_some()
    }

    /// Takes lines that are shown above the one being typed.
    pub(crate) fn lines(&self) -> Option<mpsc::Sender<String>> {
        self.lines.clone()
    }

    /// Whether these keys are watched.
    pub(crate) fn contains(&mut self, keys: &Selection) -> bool {
        self.running.retain(|running| !running.task.is_finished());
        self.running.iter().any(|running| running.keys == *keys)
    }

    /// Adds a watch of these keys, until `task` ends or is ended.
    pub(crate) fn add(&mut self, keys: Selection, task: JoinHandle<()>) {
        self.running.push(Running { keys, task });
    }

    /// Ends one watch, or all; returns what was watched.
    pub(crate) fn end(&mut self, keys: Option<&Selection>) -> Vec<Selection> {
        self.running.retain(|running| !running.task.is_finished());
        let ended = self.running.extract_if(.., |running| keys.is_none_or(|keys| *keys == running.keys));
        ended.map(|running| running.keys.clone()).collect()
    }

    /// Ends all watches.
    pub(crate) fn end_all(&mut self) {
        self.running.clear();
    }
}
