//! Reading and writing keys: `get`, `scan`, and all that writes.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use common::clock;
use common::shown;
use common::view::View;
use kvclient::{Client, Condition, Operation, Outcome, Version, WallTime};
use serde_json::{Value, json};

use super::transfer::{ndjson, tsv};
use crate::frame::failure::{Exit, Failure};
use crate::frame::output::{Format, print};
use crate::frame::session::Session;
use crate::frame::show::{elapsed_shown, is_printable, key_shown};
use crate::frame::style::Ink;
use crate::limits::SCAN_PAGE_PAIRS;
use crate::parse::line::quoted;

pub(crate) async fn get(
    session: &mut Session,
    key: Bytes,
    version: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let Some(found) = session.client_for_keys().await?.get(key.clone()).await? else {
        return Err(not_found(&key));
    };
    if session.wants_json() {
        return print(out, &format!("{}\n", shown::json(&ndjson::found(key, &found).to_string())));
    }
    if version {
        print(out, &format!("{}\n", found.version))?;
    }
    let shown = session.terminal().filter(|_| !is_printable(&found.value)).map(|_| quoted(&found.value));
    let value = shown.as_ref().map_or(&found.value[..], String::as_bytes);
    let end: &[u8] = if session.format == Format::Raw { b"" } else { b"\n" };
    out.write_all(value).and_then(|()| out.write_all(end)).map_err(Failure::output)
}

pub(crate) async fn write(
    session: &mut Session,
    operation: Operation,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let client = session.client_for_keys().await?;
    let started = clock::time();
    let outcome = client.write(operation.clone()).await?;
    let elapsed = clock::time().since(started);
    let copies = copies(&client, &operation, &outcome).await;
    let line = done(&operation, &outcome, copies, elapsed)?;
    match session.format {
        Format::Table => match (session.terminal(), line.strip_prefix("OK")) {
            (Some(paint), Some(rest)) => print(out, &format!("{}{rest}", paint.ink(Ink::Good, "OK"))),
            _ => print(out, &line),
        },
        Format::Json | Format::Ndjson => print(out, &format!("{}\n", done_json(&outcome, copies, elapsed))),
        Format::Raw => match &outcome {
            Outcome::Appended { offset, .. } => print(out, &format!("{offset}\n")),
            outcome => {
                print(out, &version(outcome).map(|version| format!("{version}\n")).unwrap_or_default())
            }
        },
    }
}

/// Writes a value that ends after `ttl`.
pub(crate) async fn put(
    session: &mut Session,
    (key, value): (Bytes, Bytes),
    ttl: Option<Duration>,
    condition: Condition,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    write(session, Operation::Put { key, value, expires: ttl.map(moment), condition }, out).await
}

/// Sets the expiry of a value, or removes it.
pub(crate) async fn expire(
    session: &mut Session,
    key: Bytes,
    after: Option<Duration>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    write(session, Operation::Expire { key, expires: after.map(moment) }, out).await
}

pub(crate) async fn scan(
    session: &mut Session,
    prefix: Bytes,
    limit: Option<u64>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut left = limit.unwrap_or(u64::MAX);
    let page = u32::try_from(left).unwrap_or(u32::MAX).min(SCAN_PAGE_PAIRS);
    let mut scan = session.client_for_keys().await?.scan(prefix).page_pairs(page);
    let mut line = Vec::new();
    let mut first = true;
    let end = if session.format == Format::Json { "\n]\n" } else { "" };
    while left > 0
        && let Some(pairs) = scan.next().await?
    {
        for pair in pairs.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
            line.clear();
            let json = || shown::json(&ndjson::found(pair.key.clone(), &pair.found).to_string());
            match session.format {
                Format::Table | Format::Raw => tsv::write(&mut line, &pair.key, &pair.found.value),
                Format::Ndjson => writeln!(line, "{}", json()).unwrap_or_default(),
                Format::Json => {
                    let before = if std::mem::take(&mut first) { "[\n  " } else { ",\n  " };
                    write!(line, "{before}{}", json()).unwrap_or_default();
                }
            }
            // A program gets the bytes as they are; for a terminal they are escaped.
            let written = match session.terminal() {
                Some(_) => write!(out, "{}", shown::lines(&line)),
                None => out.write_all(&line),
            };
            written.map_err(Failure::output)?;
            left -= 1;
        }
    }
    print(out, if first && session.format == Format::Json { "[]\n" } else { end })
}

/// How many copies have a write that was acknowledged: the in-sync set, by a view that is no older than the write.
/// Every member of that set has the write (`docs/kvclient.md`).
async fn copies(client: &Client, operation: &Operation, outcome: &Outcome) -> Option<usize> {
    let (key, version) = (operation.key()?, version(outcome)?);
    let in_view = |view: &View| {
        let assignment = view.assignment(view.partitions.of_key(key))?;
        (assignment.epoch >= version.tag).then_some(assignment.in_sync.len())
    };
    match in_view(&client.view()) {
        Some(copies) => Some(copies),
        None => in_view(&*client.refresh_view().await.ok()?),
    }
}

/// The version that a write made.
fn version(outcome: &Outcome) -> Option<Version> {
    match outcome {
        Outcome::Written { version, .. }
        | Outcome::Appended { version, .. }
        | Outcome::Deleted { version } => Some(*version),
        _ => None,
    }
}

fn moment(after: Duration) -> WallTime {
    WallTime(clock::wall().0.saturating_add(u64::try_from(after.as_millis()).unwrap_or(u64::MAX)))
}

fn not_found(key: &[u8]) -> Failure {
    let key = key_shown(key);
    Failure::new(Exit::NotFound, format!("no value for `{key}`; `scan` lists what there is"))
}

/// The line for a write that was carried out.
fn done(
    operation: &Operation,
    outcome: &Outcome,
    copies: Option<usize>,
    elapsed: Duration,
) -> Result<String, Failure> {
    let copies = match copies {
        Some(1) => "1 copy, ".to_owned(),
        Some(copies) => format!("{copies} copies, "),
        None => String::new(),
    };
    let elapsed = format!("{copies}{}", elapsed_shown(elapsed));
    let key = operation.key().map_or(&[][..], |key| key);
    match outcome {
        Outcome::Written { version, .. } => Ok(format!("OK  version {version}, {elapsed}\n")),
        Outcome::Appended { version, offset } => {
            Ok(format!("OK  offset {offset}, version {version}, {elapsed}\n"))
        }
        Outcome::Deleted { version } => Ok(format!("OK  deleted, version {version}, {elapsed}\n")),
        Outcome::NotFound {} => Err(not_found(key)),
        Outcome::ConditionFailed { current } => Err(not_changed(key, current.as_ref())),
        Outcome::TooLarge { bytes } => Err(Failure::usage(format!(
            "nothing was changed: the value would have {bytes} bytes, over the limit; append to another key"
        ))),
        _ => Err(Failure::usage("the server answered another operation; use one version")),
    }
}

/// The JSON for a write that was carried out.
fn done_json(outcome: &Outcome, copies: Option<usize>, elapsed: Duration) -> Value {
    let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    let mut json = json!({ "copies": copies, "micros": micros });
    if let Some(version) = version(outcome) {
        json["version"] = version.to_string().into();
    }
    match outcome {
        Outcome::Appended { offset, .. } => json["offset"] = (*offset).into(),
        Outcome::Written { replaced, .. } => json["replaced"] = (*replaced).into(),
        _ => {}
    }
    json
}

fn not_changed(key: &[u8], current: Option<&Version>) -> Failure {
    let key = key_shown(key);
    let message = match current {
        Some(version) => {
            format!(
                "nothing was changed: the value of `{key}` has version {version}; `get {key} --version` shows it"
            )
        }
        None => format!("nothing was changed: there is no value for `{key}`; `put {key} VALUE` sets one"),
    };
    Failure::new(Exit::CompareFailed, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_become_lines_or_codes() {
        let operation = Operation::put("k", "v");
        let version: Version = "41.7".parse().unwrap();
        let line = |outcome, copies| done(&operation, &outcome, copies, Duration::from_micros(840));
        let written = line(Outcome::Written { version, replaced: true }, Some(3)).unwrap();
        assert_eq!(written, "OK  version 41.7, 3 copies, 0.8 ms\n");
        let appended = line(Outcome::Appended { version, offset: 5 }, Some(1)).unwrap();
        assert_eq!(appended, "OK  offset 5, version 41.7, 1 copy, 0.8 ms\n");
        assert_eq!(line(Outcome::Deleted { version }, None).unwrap(), "OK  deleted, version 41.7, 0.8 ms\n");
        let exit = |outcome| line(outcome, None).unwrap_err().exit;
        assert_eq!(exit(Outcome::NotFound {}), Exit::NotFound);
        assert_eq!(exit(Outcome::ConditionFailed { current: None }), Exit::CompareFailed);
        assert_eq!(exit(Outcome::ConditionFailed { current: Some(version) }), Exit::CompareFailed);
        assert_eq!(exit(Outcome::TooLarge { bytes: 9 }), Exit::Usage);
    }
}
