//! `watch` and `unwatch`: changes as they are made, above the line being typed or to the output.

use std::io::Write;
use std::time::Duration;

use common::clock;
use common::messages::{Change, Selection};
use common::operation::{Found, Version};
use common::shown;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::commands::transfer::{ndjson, tsv};
use crate::frame::failure::{Exit, Failure, complaint};
use crate::frame::output::Format;
use crate::frame::session::Session;
use crate::frame::show::elapsed_shown;
use crate::frame::style::{Ink, Paint};
use crate::parse::line::quoted;
use kvclient::Client;
use kvclient::Watch;

/// Prints changes: in a shell in the background from now on; elsewhere until `count` are printed.
pub(crate) async fn watch(
    session: &mut Session,
    keys: Selection,
    from: Option<Version>,
    count: Option<u64>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let client = session.client().await?;
    let view = Look { format: session.format, paint: session.paint(), terminal: session.is_for_terminal() };
    let Some(lines) = session.watching.lines() else {
        let watch = begin(&client, keys.clone(), from).await?;
        eprintln!("watching {}, until Ctrl-C", named(&keys));
        return to_output(watch, count, view, out).await;
    };
    if session.watching.contains(&keys) {
        return Err(Failure::usage(format!("{} is watched already; `unwatch` ends it", named(&keys))));
    }
    let watch = begin(&client, keys.clone(), from).await?;
    let shown = format!("watching {}; `unwatch` ends it\n", named(&keys));
    let task = tokio::spawn(above_the_line(watch, count, view, lines));
    session.watching.add(keys, task);
    out.write_all(shown.as_bytes()).map_err(Failure::output)
}

/// Ends one watch, or all.
pub(crate) fn unwatch(
    session: &mut Session,
    keys: Option<&Selection>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let ended = session.watching.end(keys);
    if ended.is_empty() {
        let what = keys.map_or_else(|| "nothing is".to_owned(), |keys| format!("{} is not", named(keys)));
        return Err(Failure::usage(format!("{what} watched")));
    }
    let names: Vec<String> = ended.iter().map(named).collect();
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
    let mut printed = 0;
    while count.is_none_or(|count| printed < count) {
        match watch.next().await.map_err(Failure::from) {
            Ok(change) => {
                printed += 1;
                out.write_all(&look.line(change)).and_then(|()| out.flush()).map_err(Failure::output)?;
            }
            // A cluster that does not answer may come back.
            Err(failure) if failure.exit == Exit::Unavailable && count.is_none() => {
                eprint!("{}", complaint(b"", &failure, Paint::for_errors()));
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

async fn above_the_line(mut watch: Watch, count: Option<u64>, look: Look, lines: mpsc::Sender<String>) {
    let mut printed = 0;
    while count.is_none_or(|count| printed < count) {
        let (line, ends) = match watch.next().await.map_err(Failure::from) {
            Ok(change) => {
                printed += 1;
                (String::from_utf8_lossy(&look.line(change)).into_owned(), false)
            }
            Err(failure) => (complaint(b"", &failure, look.paint), failure.exit != Exit::Unavailable),
        };
        // While the terminal takes no more, nothing is asked for; changes that the servers drop meanwhile become a gap.
        if lines.send(line).await.is_err() || ends {
            return;
        }
    }
}

/// The form in which changes are written.
#[derive(Clone, Copy, Debug)]
struct Look {
    format: Format,
    paint: Paint,
    terminal: bool,
}

impl Look {
    fn line(self, change: Change) -> Vec<u8> {
        match self.format {
            Format::Table => self.for_people(&change).into_bytes(),
            Format::Json | Format::Ndjson => {
                format!("{}\n", shown::json(&as_json(change).to_string())).into_bytes()
            }
            Format::Raw if self.terminal => shown::lines(&as_row(&change)).to_string().into_bytes(),
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
                format!("{gap}: changes after version {from} up to {to} are not known; read the keys again\n")
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

/// Version, kind of change, key and value, separated by tabs; of a gap its ends.
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
            let look = Look { format, paint: Paint::default(), terminal: false };
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
            shown(Format::Table, &gap)
                .starts_with("gap: changes after version 41.7 up to 42.9 are not known")
        );
        assert_eq!(shown(Format::Raw, &gap), "41.7\tgap\t42.9\n");
        let json: Value = serde_json::from_str(&shown(Format::Json, &gap)).unwrap();
        assert_eq!(json, json!({"change": "gap", "from": "41.7", "to": "42.9"}));
    }
}
