//! `watch` and `unwatch`: changes as they are made, above the line being typed or to the output.

use std::io::Write;
use std::time::Duration;

use common::clock;
use common::messages::{Change, Selection};
use common::operation::{Found, Version};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::complaint;
use super::failure::{Exit, Failure};
use super::output::Format;
use super::session::Session;
use super::show::elapsed_shown;
use super::style::{Ink, Paint};
use super::words::quoted;
use crate::client::Client;
use crate::transfer::{ndjson, tsv};
use crate::watch::Watch;

/// What a shell watches beside the line that is typed.
#[derive(Debug, Default)]
pub(super) struct Watching {
    /// Where lines go that are to stand above the one being typed; none: this is no shell on a terminal.
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
    pub(super) fn show_above(&mut self, lines: mpsc::Sender<String>) {
        self.lines = Some(lines);
    }

    /// There is a way to show them so.
    pub(super) fn is_shown_above(&self) -> bool {
        self.lines.is_some()
    }

    /// Nothing is watched any more.
    pub(super) fn end_all(&mut self) {
        self.running.clear();
    }
}

/// Tells changes: in a shell from now on, and it goes on; elsewhere until `count` are told.
pub(super) async fn watch(
    session: &mut Session,
    keys: Selection,
    from: Option<Version>,
    count: Option<u64>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let client = session.client().await?;
    let view = Look { format: session.format, paint: session.paint() };
    let Some(lines) = session.watching.lines.clone() else {
        let watch = begin(&client, keys.clone(), from).await?;
        eprintln!("watching {}, until Ctrl-C", named(&keys));
        return to_output(watch, count, view, out).await;
    };
    session.watching.running.retain(|running| !running.task.is_finished());
    if session.watching.running.iter().any(|running| running.keys == keys) {
        return Err(Failure::usage(format!("{} is watched already; `unwatch` ends it", named(&keys))));
    }
    let watch = begin(&client, keys.clone(), from).await?;
    let shown = format!("watching {}; `unwatch` ends it\n", named(&keys));
    let task = tokio::spawn(above_the_line(watch, count, view, lines));
    session.watching.running.push(Running { keys, task });
    out.write_all(shown.as_bytes()).map_err(Failure::output)
}

/// Ends one watch, or all.
pub(super) fn unwatch(
    session: &mut Session,
    keys: Option<&Selection>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let running = &mut session.watching.running;
    running.retain(|running| !running.task.is_finished());
    let (ended, left): (Vec<_>, Vec<_>) = std::mem::take(running)
        .into_iter()
        .partition(|running| keys.is_none_or(|keys| *keys == running.keys));
    *running = left;
    if ended.is_empty() {
        let what = keys.map_or_else(|| "nothing is".to_owned(), |keys| format!("{} is not", named(keys)));
        return Err(Failure::usage(format!("{what} watched")));
    }
    let names: Vec<String> = ended.iter().map(|running| named(&running.keys)).collect();
    writeln!(out, "no longer watching {}", names.join(", ")).map_err(Failure::output)
}

fn named(keys: &Selection) -> String {
    match keys {
        Selection::Key { key } => format!("`{}`", quoted(key)),
        Selection::Prefix { prefix } if prefix.is_empty() => "all keys".to_owned(),
        Selection::Prefix { prefix } => format!("keys that begin with `{}`", quoted(prefix)),
    }
}

async fn begin(client: &Client, keys: Selection, from: Option<Version>) -> Result<Watch, Failure> {
    Ok(match (keys, from) {
        (Selection::Key { key }, Some(version)) => client.watch_key_from(key, version).await?,
        (keys, _) => client.watch(keys).await?,
    })
}

async fn to_output(
    mut watch: Watch,
    count: Option<u64>,
    look: Look,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut told = 0;
    while count.is_none_or(|count| told < count) {
        match watch.next().await.map_err(Failure::from) {
            Ok(change) => {
                told += 1;
                out.write_all(&look.line(change)).and_then(|()| out.flush()).map_err(Failure::output)?;
            }
            // Who is away may come back.
            Err(failure) if failure.exit == Exit::Unavailable && count.is_none() => {
                eprint!("{}", complaint(b"", &failure, Paint::for_errors()));
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

async fn above_the_line(mut watch: Watch, count: Option<u64>, look: Look, lines: mpsc::Sender<String>) {
    let mut told = 0;
    while count.is_none_or(|count| told < count) {
        let (line, ends) = match watch.next().await.map_err(Failure::from) {
            Ok(change) => {
                told += 1;
                (String::from_utf8_lossy(&look.line(change)).into_owned(), false)
            }
            Err(failure) => (complaint(b"", &failure, look.paint), failure.exit != Exit::Unavailable),
        };
        // While the terminal takes no more, nothing is asked for; what the servers forget meanwhile is told as a gap.
        if lines.send(line).await.is_err() || ends {
            return;
        }
    }
}

/// How changes are written.
#[derive(Clone, Copy, Debug)]
struct Look {
    format: Format,
    paint: Paint,
}

impl Look {
    fn line(self, change: Change) -> Vec<u8> {
        match self.format {
            Format::Table => self.for_people(&change).into_bytes(),
            Format::Json | Format::Ndjson => format!("{}\n", as_json(change)).into_bytes(),
            Format::Raw => as_row(&change),
        }
    }

    fn for_people(self, change: &Change) -> String {
        let faint = |text: String| self.paint.ink(Ink::Faint, text);
        match change {
            Change::Put { key, found } => {
                let about = faint(format!("({})", about(found, false)));
                format!("put {} {}  {about}\n", quoted(key), quoted(&found.value))
            }
            Change::Expiry { key, found } => {
                let about = faint(format!("({})", about(found, true)));
                format!("expire {} {}  {about}\n", quoted(key), quoted(&found.value))
            }
            Change::Delete { key, version } => {
                format!("delete {}  {}\n", quoted(key), faint(format!("(version {version})")))
            }
            Change::Gap { from, to } => {
                let gap = self.paint.ink(Ink::Warning, "gap");
                format!("{gap}: changes after version {from} up to {to} are not told; read the keys again\n")
            }
        }
    }
}

/// Version and end of a value.
fn about(found: &Found, retimed: bool) -> String {
    let version = format!("version {}", found.version);
    match found.expires {
        None if retimed => version + ", without end",
        None => version,
        Some(end) => {
            let left = Duration::from_millis(end.0.saturating_sub(clock::wall().0));
            if left.is_zero() {
                version + ", ended"
            } else {
                format!("{version}, ends in {}", elapsed_shown(left))
            }
        }
    }
}

fn as_json(change: Change) -> Value {
    let named = |name: &str, mut json: Value| {
        json["change"] = name.into();
        json
    };
    match change {
        Change::Put { key, found } => named("put", ndjson::found(key, &found)),
        Change::Expiry { key, found } => named("expire", ndjson::found(key, &found)),
        Change::Delete { key, version } => {
            let mut json = ndjson::key(key);
            json["version"] = version.to_string().into();
            named("delete", json)
        }
        Change::Gap { from, to } => named("gap", json!({ "from": from.to_string(), "to": to.to_string() })),
    }
}

/// Version, what was done, key and value, parted by tabs; of a gap its ends.
fn as_row(change: &Change) -> Vec<u8> {
    let row = |version: &Version, what: &str, key: &[u8], value: &[u8]| {
        let mut row = format!("{version}\t{what}\t").into_bytes();
        tsv::write(&mut row, key, value);
        row
    };
    match change {
        Change::Put { key, found } => row(&found.version, "put", key, &found.value),
        Change::Expiry { key, found } => row(&found.version, "expire", key, &found.value),
        Change::Delete { key, version } => row(version, "delete", key, b""),
        Change::Gap { from, to } => format!("{from}\tgap\t{to}\n").into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn changes_have_three_forms() {
        let version: Version = "41.7".parse().unwrap();
        let key = || Bytes::from_static(b"fruit");
        let found = Found { value: Bytes::from_static(b"red\tapple"), version, expires: None };
        let shown = |format, change: &Change| {
            let look = Look { format, paint: Paint::default() };
            String::from_utf8(look.line(change.clone())).unwrap()
        };
        let put = Change::Put { key: key(), found: found.clone() };
        assert_eq!(shown(Format::Table, &put), "put fruit \"red\\tapple\"  (version 41.7)\n");
        assert_eq!(shown(Format::Raw, &put), "41.7\tput\tfruit\tred\\tapple\n");
        let json: Value = serde_json::from_str(&shown(Format::Ndjson, &put)).unwrap();
        assert_eq!(json, json!({"change": "put", "key": "fruit", "value": "red\tapple", "version": "41.7"}));
        let expiry = Change::Expiry { key: key(), found };
        assert!(shown(Format::Table, &expiry).ends_with("(version 41.7, without end)\n"));
        let delete = Change::Delete { key: Bytes::from_static(b"\xff"), version };
        assert_eq!(shown(Format::Table, &delete), "delete \"\\xff\"  (version 41.7)\n");
        let json: Value = serde_json::from_str(&shown(Format::Json, &delete)).unwrap();
        assert_eq!(json, json!({"change": "delete", "key_hex": "ff", "version": "41.7"}));
        let gap = Change::Gap { from: version, to: "42.9".parse().unwrap() };
        assert!(
            shown(Format::Table, &gap).starts_with("gap: changes after version 41.7 up to 42.9 are not told")
        );
        assert_eq!(shown(Format::Raw, &gap), "41.7\tgap\t42.9\n");
        let json: Value = serde_json::from_str(&shown(Format::Json, &gap)).unwrap();
        assert_eq!(json, json!({"change": "gap", "from": "41.7", "to": "42.9"}));
    }
}
