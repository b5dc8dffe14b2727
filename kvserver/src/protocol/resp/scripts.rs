//! The few scripts that are served: those by which clients keep locks. They are known by their SHA-1 and carried out as
//! operations of the log; there is no interpreter.

use bytes::Bytes;
use common::operation::{Condition, Expiry, ExpiryCondition, Operation};

use super::answer::{Call, Form, Parsed};
use super::spec::Local;
use super::words::{Refusal, integer, key, unknown_subcommand, wrong_subcommand};

/// The answer to every other script.
const NOT_SERVED: &str = "ERR scripting is not supported by this server (see DELEX, SET IFEQ)";

const NO_SCRIPT: &str = "NOSCRIPT No matching script. Please use EVAL.";

/// What a known script does to its one key, whose value must be its first argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Script {
    /// Removes it.
    Release,
    /// Gives it the time to live of the second argument; adds it to what is left if the third is 0.
    Extend,
    /// Gives it the time to live of the second argument.
    Reacquire,
}

/// The scripts of redis-py's and valkey-py's `Lock`, and the one that the documentation of Redis gives for releasing a
/// lock, in the two ways in which it is usually written.
const SCRIPTS: [(&str, Script); 5] = [
    ("c3f8721cbb97f72bc19e972846bd7aaf91901658", Script::Release),
    ("a4e8783852e6b949f9ef3a97212805108459a890", Script::Extend),
    ("1cac51482acf5858da00f6d685d68f886cd6b6b2", Script::Reacquire),
    ("e9f69f2beb755be68b5e456ee2ce9aadfbc4ebf4", Script::Release),
    ("647c65a442733a1aa440f99908d249d13b4d6c4a", Script::Release),
];

fn find(sha: &[u8]) -> Option<Script> {
    SCRIPTS.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(sha)).map(|(_, script)| *script)
}

fn sha_of(script: &[u8]) -> String {
    sha1_smol::Sha1::from(script).digest().to_string()
}

pub(super) fn eval(words: &[Bytes]) -> Parsed {
    let script = find(sha_of(&words[1]).as_bytes()).ok_or(NOT_SERVED)?;
    call(script, words)
}

pub(super) fn evalsha(words: &[Bytes]) -> Parsed {
    let script = find(&words[1]).ok_or(NO_SCRIPT)?;
    call(script, words)
}

fn call(script: Script, words: &[Bytes]) -> Parsed {
    let keys = integer(&words[2])?;
    let rest = &words[3..];
    if keys < 0 {
        return Err("ERR Number of keys can't be negative".into());
    }
    if keys > i64::try_from(rest.len()).unwrap_or(i64::MAX) {
        return Err("ERR Number of keys can't be greater than number of args".into());
    }
    let (1, [name, token, times @ ..]) = (keys, rest) else {
        return Err("ERR this script takes one key and its value".into());
    };
    let (name, condition) = (key(name)?, Condition::Value { value: token.clone() });
    let ms = || -> Result<u64, Refusal> {
        let ms = integer(times.first().ok_or("ERR this script takes a time to live")?)?;
        // A time that is past ends the lock, as in Redis.
        Ok(u64::try_from(ms).unwrap_or(0))
    };
    let retime = |expiry, when| Operation::Retime {
        key: name.clone(),
        expiry,
        when,
        condition: condition.clone(),
        return_old: false,
    };
    let operation = match script {
        Script::Release => Operation::Delete { key: name.clone(), condition: condition.clone() },
        Script::Extend if times.get(1).is_some_and(|word| word == "0") => {
            retime(Expiry::Later { ms: ms()? }, ExpiryCondition::Some {})
        }
        Script::Extend => retime(Expiry::In { ms: ms()? }, ExpiryCondition::Some {}),
        Script::Reacquire => retime(Expiry::In { ms: ms()? }, ExpiryCondition::Always {}),
    };
    Ok(Call::change(operation, Form::Flag))
}

/// `SCRIPT` and its subcommands.
pub(super) fn script(local: &mut Local<'_>, words: &[Bytes]) -> Result<(), Refusal> {
    match (words[1].to_ascii_uppercase().as_slice(), &words[2..]) {
        (b"LOAD", [script]) => {
            let sha = sha_of(script);
            find(sha.as_bytes()).ok_or(NOT_SERVED)?;
            local.writer().bulk(sha.as_bytes());
        }
        (b"EXISTS", shas) if !shas.is_empty() => {
            let mut writer = local.writer();
            writer.array(shas.len());
            shas.iter().for_each(|sha| writer.int(i64::from(find(sha).is_some())));
        }
        (b"FLUSH", []) => local.writer().ok(),
        (b"FLUSH", [how]) if how.eq_ignore_ascii_case(b"SYNC") || how.eq_ignore_ascii_case(b"ASYNC") => {
            local.writer().ok();
        }
        (b"LOAD" | b"EXISTS", _) => return Err(wrong_subcommand("script", &words[1])),
        _ => return Err(unknown_subcommand(&words[1], "SCRIPT")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::resp::answer::Part;

    const ONE_LINE: &str =
        "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end";
    const MANY_LINES: &str = "if redis.call(\"get\",KEYS[1]) == ARGV[1] then\n    return redis.call(\"del\",KEYS[1])\n\
        else\n    return 0\nend";

    fn words(words: &[&str]) -> Vec<Bytes> {
        words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
    }

    #[test]
    fn the_release_script_of_the_documentation_is_known() {
        for script in [ONE_LINE, MANY_LINES] {
            let call = eval(&words(&["EVAL", script, "1", "lock", "token"])).unwrap();
            let condition = Condition::Value { value: "token".into() };
            assert_eq!(call.first, Part::Change(Operation::Delete { key: "lock".into(), condition }));
        }
    }

    #[test]
    fn a_lock_is_extended_or_taken_anew() {
        let first = |sha: &str, third: &str| match evalsha(&words(&[
            "EVALSHA", sha, "1", "lock", "token", "500", third,
        ])) {
            Ok(Call { first: Part::Change(Operation::Retime { expiry, when, .. }), .. }) => (expiry, when),
            other => panic!("{other:?}"),
        };
        assert_eq!(first(SCRIPTS[1].0, "0"), (Expiry::Later { ms: 500 }, ExpiryCondition::Some {}));
        assert_eq!(first(SCRIPTS[1].0, "1"), (Expiry::In { ms: 500 }, ExpiryCondition::Some {}));
        assert_eq!(first(SCRIPTS[2].0, "1"), (Expiry::In { ms: 500 }, ExpiryCondition::Always {}));
    }

    #[test]
    fn other_scripts_are_refused() {
        assert_eq!(eval(&words(&["EVAL", "return 1", "0"])).unwrap_err(), NOT_SERVED);
        assert_eq!(evalsha(&words(&["EVALSHA", "abc", "0"])).unwrap_err(), NO_SCRIPT);
        for line in [&["EVAL", ONE_LINE, "0"][..], &["EVAL", ONE_LINE, "2", "k"], &["EVAL", ONE_LINE, "-1"]] {
            assert!(eval(&words(line)).is_err(), "{line:?}");
        }
    }
}
