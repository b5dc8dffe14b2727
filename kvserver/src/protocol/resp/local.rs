//! Commands that need no key: about the connection, the server, and all keys.

use bytes::Bytes;

use super::client::client_name;
use super::encode::Version;
use super::host::ClientFacts;
use super::spec::{Answered, Local};
use super::state::{State, Step, Wide};
use super::words::{Refusal, SYNTAX, integer, text, unknown_subcommand, upper, wrong_number};

/// The version of Redis that is reported to clients, for the features that they look for.
pub(super) const REDIS_VERSION: &str = "7.2.4";

/// Keys that a `SCAN` returns at a time unless it is asked for more.
const SCAN_COUNT: u32 = 10;

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
    local.state.reset();
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
        None => local.state.version,
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
    local.state.version = version;
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

pub(super) fn scan(_: &State, words: &[Bytes]) -> Result<Wide, Refusal> {
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

pub(super) fn keys(_: &State, words: &[Bytes]) -> Result<Wide, Refusal> {
    Ok(Wide::Keys { pattern: words[1].clone() })
}

pub(super) fn dbsize(_: &State, _: &[Bytes]) -> Result<Wide, Refusal> {
    Ok(Wide::Size)
}

pub(super) fn randomkey(_: &State, _: &[Bytes]) -> Result<Wide, Refusal> {
    Ok(Wide::Random)
}

pub(super) fn flush(_: &State, words: &[Bytes]) -> Result<Wide, Refusal> {
    match &words[1..] {
        [] => Ok(Wide::Flush),
        [how] if ["SYNC", "ASYNC"].contains(&upper(how).as_str()) => Ok(Wide::Flush),
        _ => Err(SYNTAX.into()),
    }
}

pub(super) fn info(_: &State, words: &[Bytes]) -> Result<Wide, Refusal> {
    Ok(Wide::Info { sections: words[1..].iter().map(|word| text(word).to_ascii_lowercase()).collect() })
}
