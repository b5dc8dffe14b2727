//! Commands that need no key: about the connection, the server, and all keys.

use std::fmt::Write as _;

use bytes::Bytes;
use common::time::WallTime;

use super::command;
use super::encode::{Version, Writer};
use super::parse::{Refusal, SYNTAX, integer, unknown_subcommand, wrong_subcommand};
use super::session::{Replies, Session, Step, Wide, wrong_number};

/// The version of Redis that is reported to clients, for the features that they look for.
pub(super) const REDIS_VERSION: &str = "7.2.4";

/// Keys that a `SCAN` returns at a time unless it is asked for more.
const SCAN_COUNT: u32 = 10;

/// The facts of one client, for `CLIENT LIST`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFacts {
    /// The client's id, ascending over the server's life.
    pub id: u64,
    /// Its address.
    pub address: String,
    /// The server's address of the connection.
    pub local: String,
    /// Given with `CLIENT SETNAME`.
    pub name: String,
    /// Given with `CLIENT SETINFO`.
    pub library: String,
    /// Given with `CLIENT SETINFO`.
    pub library_version: String,
    /// 2 or 3.
    pub version: u8,
    /// When the client connected.
    pub since: WallTime,
}

/// The clients that `CLIENT KILL` is to end: all that is given must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kill {
    /// The client's id.
    pub id: Option<u64>,
    /// Its address.
    pub address: Option<String>,
    /// The server's address of the connection.
    pub local: Option<String>,
    /// Spare the client that asks.
    pub skip_me: bool,
}

/// The server, as a connection sees it.
pub trait Host {
    /// The time.
    fn now(&self) -> WallTime;
    /// This client.
    fn me(&self) -> ClientFacts;
    /// Changes this client's facts.
    fn set_me(&self, facts: ClientFacts);
    /// All clients.
    fn clients(&self) -> Vec<ClientFacts>;
    /// Ends connections; returns how many.
    fn kill(&self, kill: &Kill) -> usize;
    /// Copies besides the first that every acknowledged write has, at least.
    fn copies(&self) -> usize;
}

/// A command that the connection answers.
pub(super) struct Local<'a> {
    pub(super) session: &'a mut Session,
    pub(super) host: &'a dyn Host,
    pub(super) out: &'a mut Vec<u8>,
    /// What is to be done with the answer.
    pub(super) step: Step,
}

impl Local<'_> {
    pub(super) fn writer(&mut self) -> Writer<'_> {
        Writer::new(self.out, self.session.version)
    }
}

type Answered = Result<(), Refusal>;

fn text(word: &[u8]) -> String {
    String::from_utf8_lossy(word).into_owned()
}

fn upper(word: &[u8]) -> String {
    text(word).to_ascii_uppercase()
}

pub(super) fn ok(local: &mut Local<'_>, _: &[Bytes]) -> Answered {
    local.writer().ok();
    Ok(())
}

pub(super) fn ping(local: &mut Local<'_>, words: &[Bytes]) -> Answered {
    match &words[1..] {
        [] => local.writer().simple("PONG"),
        [message] => local.writer().bulk(message),
        _ => return Err(wrong_number("ping")),
    }
    Ok(())
}

pub(super) fn echo(local: &mut Local<'_>, words: &[Bytes]) -> Answered {
    local.writer().bulk(&words[1]);
    Ok(())
}

pub(super) fn quit(local: &mut Local<'_>, _: &[Bytes]) -> Answered {
    local.writer().ok();
    local.step = Step::Close;
    Ok(())
}

pub(super) fn reset(local: &mut Local<'_>, _: &[Bytes]) -> Answered {
    local.session.reset();
    local.host.set_me(ClientFacts { name: String::new(), version: 2, ..local.host.me() });
    local.writer().simple("RESET");
    Ok(())
}

const NO_PASSWORD: &str = "ERR AUTH <password> called without any password configured for the default user. Are you \
    sure your configuration is correct?";
const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";

/// The default user has no password, so a name and any password for it are right, as in Redis.
fn check_user(user: &[u8]) -> Answered {
    if user == b"default" { Ok(()) } else { Err(WRONG_PASSWORD.into()) }
}

pub(super) fn auth(local: &mut Local<'_>, words: &[Bytes]) -> Answered {
    match &words[1..] {
        [_] => return Err(NO_PASSWORD.into()),
        [user, _] => check_user(user)?,
        _ => return Err(SYNTAX.into()),
    }
    local.writer().ok();
    Ok(())
}

pub(super) fn hello(local: &mut Local<'_>, words: &[Bytes]) -> Answered {
    const NO_VERSION: &str = "NOPROTO unsupported protocol version";
    let version = match words.get(1) {
        None => local.session.version,
        Some(word) => {
            match integer(word).map_err(|_| "ERR Protocol version is not an integer or out of range")? {
                2 => Version::Resp2,
                3 => Version::Resp3,
                _ => return Err(NO_VERSION.into()),
            }
        }
    };
    let mut name = None;
    let mut options = words.get(2..).unwrap_or_default();
    while let Some(option) = options.first() {
        options = match (upper(option).as_str(), &options[1..]) {
            ("AUTH", [user, _, rest @ ..]) => {
                check_user(user)?;
                rest
            }
            ("SETNAME", [word, rest @ ..]) => {
                name = Some(client_name(word)?);
                rest
            }
            _ => return Err(format!("ERR Syntax error in HELLO option '{}'", text(option)).into()),
        };
    }
    local.session.version = version;
    let me = local.host.me();
    let number = if version == Version::Resp3 { 3 } else { 2 };
    local.host.set_me(ClientFacts {
        version: number,
        name: name.unwrap_or_else(|| me.name.clone()),
        ..me.clone()
    });
    let mut writer = local.writer();
    writer.map(7);
    for (name, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        writer.bulk(name.as_bytes());
        writer.bulk(value.as_bytes());
    }
    writer.bulk(b"proto");
    writer.int(number.into());
    writer.bulk(b"id");
    writer.int(me.id.cast_signed());
    for (name, value) in [("mode", "standalone"), ("role", "master")] {
        writer.bulk(name.as_bytes());
        writer.bulk(value.as_bytes());
    }
    writer.bulk(b"modules");
    writer.array(0);
    Ok(())
}

pub(super) fn select(local: &mut Local<'_>, words: &[Bytes]) -> Answered {
    match integer(&words[1]) {
        Ok(0) => local.writer().ok(),
        Ok(_) => return Err("ERR DB index is out of range".into()),
        Err(_) => return Err("ERR value is not an integer or out of range".into()),
    }
    Ok(())
}

pub(super) fn time(local: &mut Local<'_>, _: &[Bytes]) -> Answered {
    let ms = local.host.now().0;
    let mut writer = local.writer();
    writer.array(2);
    writer.bulk((ms / 1000).to_string().as_bytes());
    writer.bulk((ms % 1000 * 1000).to_string().as_bytes());
    Ok(())
}

pub(super) fn role(local: &mut Local<'_>, _: &[Bytes]) -> Answered {
    let mut writer = local.writer();
    writer.array(3);
    writer.bulk(b"master");
    writer.int(0);
    writer.array(0);
    Ok(())
}

/// Every write that was acknowledged is on all copies: there is nothing to wait for.
pub(super) fn wait(local: &mut Local<'_>, words: &[Bytes]) -> Answered {
    integer(&words[1])?;
    if integer(&words[2]).map_err(|_| "ERR timeout is not an integer or out of range")? < 0 {
        return Err("ERR timeout is negative".into());
    }
    let copies = local.host.copies();
    local.writer().count(copies);
    Ok(())
}

pub(super) fn cluster(_: &mut Local<'_>, _: &[Bytes]) -> Answered {
    Err("ERR This instance has cluster support disabled".into())
}

pub(super) fn command(local: &mut Local<'_>, words: &[Bytes]) -> Answered {
    command::command(words, &mut local.writer())
}

pub(super) fn slowlog(local: &mut Local<'_>, words: &[Bytes]) -> Answered {
    match upper(&words[1]).as_str() {
        "GET" => local.writer().array(0),
        "LEN" => local.writer().int(0),
        "RESET" => local.writer().ok(),
        _ => return Err(unknown_subcommand(&words[1], "SLOWLOG")),
    }
    Ok(())
}

pub(super) fn latency(local: &mut Local<'_>, words: &[Bytes]) -> Answered {
    match upper(&words[1]).as_str() {
        "LATEST" | "HISTORY" => local.writer().array(0),
        "HISTOGRAM" => local.writer().map(0),
        "RESET" => local.writer().int(0),
        "DOCTOR" => local.writer().verbatim("Nothing is collected here; see the metrics of the ECS."),
        _ => return Err(unknown_subcommand(&words[1], "LATENCY")),
    }
    Ok(())
}

/// A name without blanks, as it stands in lists of words.
fn client_name(word: &[u8]) -> Result<String, Refusal> {
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
        ("LIST", options) => {
            let mut clients = host.clients();
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
                let _never_fails = lines.write_str(&client_line(client, host.now()));
            }
            local.writer().verbatim(&lines);
        }
        ("NO-EVICT" | "NO-TOUCH", [switch]) if ["ON", "OFF"].contains(&upper(switch).as_str()) => {
            local.writer().ok()
        }
        ("REPLY", [mode]) => match upper(mode).as_str() {
            "ON" => {
                local.session.replies = Replies::On;
                local.writer().ok();
            }
            "OFF" => local.session.replies = Replies::Off,
            "SKIP" if local.session.replies == Replies::Off => {}
            "SKIP" => local.session.replies = Replies::SkipNext,
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

fn kill(local: &mut Local<'_>, options: &[Bytes]) -> Answered {
    if let [address] = options {
        let kill = Kill { address: Some(text(address)), ..Kill::default() };
        return match local.host.kill(&kill) {
            0 => Err("ERR No such client".into()),
            _ => ok(local, &[]),
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

pub(super) fn scan(_: &Session, words: &[Bytes]) -> Result<Wide, Refusal> {
    let cursor =
        std::str::from_utf8(&words[1]).ok().and_then(|word| word.parse().ok()).ok_or("ERR invalid cursor")?;
    let (mut pattern, mut count, mut nothing) = (None, SCAN_COUNT, false);
    for pair in words[2..].chunks(2) {
        let [name, value] = pair else { return Err(SYNTAX.into()) };
        match upper(name).as_str() {
            "MATCH" => pattern = Some(value.clone()),
            "COUNT" => match integer(value)? {
                number if number < 1 => return Err(SYNTAX.into()),
                number => count = u32::try_from(number).unwrap_or(u32::MAX),
            },
            "TYPE" => nothing = !value.eq_ignore_ascii_case(b"string"),
            _ => return Err(SYNTAX.into()),
        }
    }
    Ok(Wide::Scan { cursor, pattern, count, nothing })
}

pub(super) fn keys(_: &Session, words: &[Bytes]) -> Result<Wide, Refusal> {
    Ok(Wide::Keys { pattern: words[1].clone() })
}

pub(super) fn dbsize(_: &Session, _: &[Bytes]) -> Result<Wide, Refusal> {
    Ok(Wide::Size)
}

pub(super) fn randomkey(_: &Session, _: &[Bytes]) -> Result<Wide, Refusal> {
    Ok(Wide::Random)
}

pub(super) fn flush(_: &Session, words: &[Bytes]) -> Result<Wide, Refusal> {
    match &words[1..] {
        [] => Ok(Wide::Flush),
        [how] if ["SYNC", "ASYNC"].contains(&upper(how).as_str()) => Ok(Wide::Flush),
        _ => Err(SYNTAX.into()),
    }
}

pub(super) fn info(_: &Session, words: &[Bytes]) -> Result<Wide, Refusal> {
    Ok(Wide::Info { sections: words[1..].iter().map(|word| text(word).to_ascii_lowercase()).collect() })
}
