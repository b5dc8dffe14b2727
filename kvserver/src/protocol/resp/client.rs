//! `CLIENT`: about this connection and others of the server.

use std::fmt::Write as _;

use bytes::Bytes;
use common::time::WallTime;

use super::host::{ClientFacts, Kill};
use super::spec::{Answered, Local};
use super::state::Replies;
use super::words::{Refusal, SYNTAX, integer, text, unknown_subcommand, upper, wrong_subcommand};

/// A name without blanks, as it stands in lists of words.
pub(super) fn client_name(word: &[u8]) -> Result<String, Refusal> {
    if word.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        Ok(text(word))
    } else {
        Err("ERR Client names cannot contain spaces, newlines or special characters.".into())
    }
}

fn client_line(client: &ClientFacts, now: WallTime) -> String {
    let age = now.0.saturating_sub(client.since.0) / 1000;
    let ClientFacts { id, address, local, name, library, library_version, version, .. } = client;
    format!(
        "id={id} addr={address} laddr={local} name={name} age={age} idle=0 flags=N db=0 sub=0 psub=0 multi=-1 \
         cmd=NULL user=default resp={version} lib-name={library} lib-ver={library_version}\n"
    )
}

pub(super) fn client(local: &mut Local<'_>, words: &[Bytes]) -> Answered {
    let (host, sub) = (local.host, upper(&words[1]));
    let rest = &words[2..];
    let me = host.me();
    match (sub.as_str(), rest) {
        ("ID", []) => local.writer().int(me.id.cast_signed()),
        ("GETNAME", []) if me.name.is_empty() => local.writer().null(),
        ("GETNAME", []) => local.writer().bulk(me.name.as_bytes()),
        ("SETNAME", [name]) => {
            host.set_me(ClientFacts { name: client_name(name)?, ..me });
            local.writer().ok();
        }
        ("SETINFO", [option, value]) => {
            let value = client_name(value).map_err(|_| {
                format!(
                    "ERR {} cannot contain spaces, newlines or special characters.",
                    text(option).to_ascii_lowercase()
                )
            })?;
            match upper(option).as_str() {
                "LIB-NAME" => host.set_me(ClientFacts { library: value, ..me }),
                "LIB-VER" => host.set_me(ClientFacts { library_version: value, ..me }),
                _ => return Err(format!("ERR Unrecognized option '{}'", text(option)).into()),
            }
            local.writer().ok();
        }
        ("INFO", []) => {
            let line = client_line(&me, host.now());
            local.writer().verbatim(&line);
        }
        ("LIST", options) => list(local, options)?,
        ("NO-EVICT" | "NO-TOUCH", [switch]) if ["ON", "OFF"].contains(&upper(switch).as_str()) => {
            local.writer().ok()
        }
        ("REPLY", [mode]) => match upper(mode).as_str() {
            "ON" => {
                local.state.replies = Replies::On;
                local.writer().ok();
            }
            "OFF" => local.state.replies = Replies::Off,
            "SKIP" if local.state.replies == Replies::Off => {}
            "SKIP" => local.state.replies = Replies::SkipNext,
            _ => return Err(SYNTAX.into()),
        },
        ("KILL", options) => kill(local, options)?,
        ("UNPAUSE", []) => local.writer().ok(),
        ("GETREDIR", []) => local.writer().int(-1),
        ("ID" | "GETNAME" | "SETNAME" | "SETINFO" | "INFO" | "REPLY" | "NO-EVICT" | "NO-TOUCH", _) => {
            return Err(wrong_subcommand("client", &words[1]));
        }
        _ => return Err(unknown_subcommand(&words[1], "CLIENT")),
    }
    Ok(())
}

fn list(local: &mut Local<'_>, options: &[Bytes]) -> Answered {
    let mut clients = local.host.clients();
    match options {
        [] => {}
        [option, ids @ ..] if upper(option) == "ID" && !ids.is_empty() => {
            let ids = ids.iter().map(|id| integer(id).map_err(|_| "ERR Invalid client ID"));
            let ids = ids.collect::<Result<Vec<i64>, _>>()?;
            clients.retain(|client| ids.contains(&client.id.cast_signed()));
        }
        [option, kind] if upper(option) == "TYPE" => match upper(kind).as_str() {
            "NORMAL" => {}
            "MASTER" | "REPLICA" | "SLAVE" | "PUBSUB" => clients.clear(),
            _ => return Err(format!("ERR Unknown client type '{}'", text(kind)).into()),
        },
        _ => return Err(SYNTAX.into()),
    }
    let mut lines = String::new();
    for client in &clients {
        let _never_fails = lines.write_str(&client_line(client, local.host.now()));
    }
    local.writer().verbatim(&lines);
    Ok(())
}

fn kill(local: &mut Local<'_>, options: &[Bytes]) -> Answered {
    if let [address] = options {
        let kill = Kill { address: Some(text(address)), ..Kill::default() };
        return match local.host.kill(&kill) {
            0 => Err("ERR No such client".into()),
            _ => {
                local.writer().ok();
                Ok(())
            }
        };
    }
    if options.is_empty() {
        return Err(wrong_subcommand("client", b"kill"));
    }
    let mut kill = Kill { skip_me: true, ..Kill::default() };
    for pair in options.chunks(2) {
        let [name, value] = pair else { return Err(SYNTAX.into()) };
        match upper(name).as_str() {
            "ID" => {
                let id = integer(value).ok().and_then(|id| u64::try_from(id).ok()).filter(|id| *id > 0);
                kill.id = Some(id.ok_or("ERR client-id should be greater than 0")?);
            }
            "ADDR" => kill.address = Some(text(value)),
            "LADDR" => kill.local = Some(text(value)),
            "SKIPME" => {
                kill.skip_me = match upper(value).as_str() {
                    "YES" => true,
                    "NO" => false,
                    _ => return Err(SYNTAX.into()),
                }
            }
            _ => return Err(SYNTAX.into()),
        }
    }
    let killed = local.host.kill(&kill);
    local.writer().count(killed);
    Ok(())
}
