//! `CONFIG`: settings that clients ask for, as Redis would report them. They only describe; nothing here changes the
//! server.

use bytes::Bytes;

use super::glob::matches;
use super::spec::Local;
use super::words::{Refusal, unknown_subcommand, wrong_subcommand};

/// Names and values. Every write is on disk at every copy before it is acknowledged: what Redis calls
/// `appendfsync always`.
pub const SETTINGS: &[(&str, &str)] = &[
    ("appendfsync", "always"),
    ("appendonly", "yes"),
    ("bind", "* -::*"),
    ("cluster-enabled", "no"),
    ("databases", "1"),
    ("hash-max-listpack-entries", "128"),
    ("lazyfree-lazy-user-del", "no"),
    ("maxclients", "10000"),
    ("maxmemory", "0"),
    ("maxmemory-policy", "noeviction"),
    ("maxmemory-samples", "5"),
    ("notify-keyspace-events", ""),
    ("proto-max-bulk-len", "8388608"),
    ("save", ""),
    ("slowlog-log-slower-than", "10000"),
    ("slowlog-max-len", "128"),
    ("tcp-keepalive", "300"),
    ("timeout", "0"),
];

/// Settings that may be set to anything, without effect: clients and tools set them before they begin.
const HARMLESS: &[&str] = &[
    "lazyfree-lazy-user-del",
    "maxmemory-samples",
    "notify-keyspace-events",
    "slowlog-log-slower-than",
    "slowlog-max-len",
    "tcp-keepalive",
];

pub(super) fn config(local: &mut Local<'_>, words: &[Bytes]) -> Result<(), Refusal> {
    let rest = &words[2..];
    match words[1].to_ascii_uppercase().as_slice() {
        b"GET" if !rest.is_empty() => {
            let patterns: Vec<Vec<u8>> = rest.iter().map(|pattern| pattern.to_ascii_lowercase()).collect();
            let wanted = |name: &str| patterns.iter().any(|pattern| matches(pattern, name.as_bytes()));
            let found = SETTINGS.iter().filter(|(name, _)| wanted(name));
            let mut writer = local.writer();
            writer.map(found.clone().count());
            for (name, value) in found {
                writer.bulk(name.as_bytes());
                writer.bulk(value.as_bytes());
            }
        }
        b"SET" if !rest.is_empty() && rest.len().is_multiple_of(2) => {
            for pair in rest.chunks_exact(2) {
                set(&pair[0], &pair[1])?;
            }
            local.writer().ok();
        }
        b"RESETSTAT" if rest.is_empty() => local.writer().ok(),
        b"REWRITE" if rest.is_empty() => return Err("ERR The server is running without a config file".into()),
        b"GET" | b"SET" | b"RESETSTAT" | b"REWRITE" => return Err(wrong_subcommand("config", &words[1])),
        _ => return Err(unknown_subcommand(&words[1], "CONFIG")),
    }
    Ok(())
}

/// Accepts settings without effect, and values that are in effect already.
fn set(name: &[u8], value: &[u8]) -> Result<(), Refusal> {
    let text = String::from_utf8_lossy(name).to_ascii_lowercase();
    let Some((_, present)) = SETTINGS.iter().find(|(known, _)| *known == text) else {
        let text: String = String::from_utf8_lossy(name).into_owned();
        return Err(format!("ERR Unknown option or number of arguments for CONFIG SET - '{text}'").into());
    };
    if HARMLESS.contains(&text.as_str()) || value.eq_ignore_ascii_case(present.as_bytes()) {
        Ok(())
    } else {
        Err(format!(
            "ERR CONFIG SET failed (possibly related to argument '{text}') - can't set immutable config"
        )
        .into())
    }
}
