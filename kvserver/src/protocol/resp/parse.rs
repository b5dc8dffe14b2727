//! Commands on keys: from words to calls. The errors are Redis' own.

use bytes::Bytes;
use common::limits::VALUE_BYTES_MAX;
use common::operation::{Check, Condition, Expiry, ExpiryCondition, Operation, Part as BatchPart};

use super::answer::{Call, Form, Parsed, Part, set};
use super::expiry::{expiry_option, positive_expiry};
use super::words::{
    Refusal, SYNTAX, integer, is, key, name_of, too_large, unknown_subcommand, wrong_number, wrong_subcommand,
};

pub(super) fn get(words: &[Bytes]) -> Parsed {
    Ok(Call::one(Part::Read(key(&words[1])?), Form::Value))
}

pub(super) fn set_command(words: &[Bytes]) -> Parsed {
    let name = key(&words[1])?;
    let (mut expiry, mut condition, mut return_old) = (None, None, false);
    let mut at = 3;
    while at < words.len() {
        let word = &words[at];
        if is(word, "GET") {
            return_old = true;
        } else if is(word, "KEEPTTL") {
            once(&mut expiry, Expiry::Keep {})?;
        } else if is(word, "NX") {
            once(&mut condition, Condition::Absent {})?;
        } else if is(word, "XX") {
            once(&mut condition, Condition::Present {})?;
        } else if is(word, "IFEQ") || is(word, "IFNE") {
            at += 1;
            let value = words.get(at).ok_or(SYNTAX)?.clone();
            let equal = is(word, "IFEQ");
            let new = if equal { Condition::Value { value } } else { Condition::NotValue { value } };
            once(&mut condition, new)?;
        } else if let Some(found) = expiry_option(words, at)? {
            at += 1;
            once(&mut expiry, found)?;
        } else {
            return Err(SYNTAX.into());
        }
        at += 1;
    }
    let form = if return_old { Form::Former } else { Form::OkOrNull };
    let (expiry, condition) = (expiry.unwrap_or(Expiry::Never {}), condition.unwrap_or(Condition::Always {}));
    Ok(Call::change(
        Operation::Set { key: name, value: words[2].clone(), expiry, condition, return_old },
        form,
    ))
}

/// An option that may be given once, and not together with others of its kind.
fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), Refusal> {
    if slot.replace(value).is_none() { Ok(()) } else { Err(SYNTAX.into()) }
}

pub(super) fn setnx(words: &[Bytes]) -> Parsed {
    let (expiry, condition) = (Expiry::Never {}, Condition::Absent {});
    let set = Operation::Set {
        key: key(&words[1])?,
        value: words[2].clone(),
        expiry,
        condition,
        return_old: false,
    };
    Ok(Call::change(set, Form::Flag))
}

fn set_expiring(words: &[Bytes], ms: bool) -> Parsed {
    let name = key(&words[1])?;
    let expiry = positive_expiry(words, &words[2], ms, false)?;
    Ok(Call::change(set(&name, &words[3], expiry), Form::OkOrNull))
}

pub(super) fn setex(words: &[Bytes]) -> Parsed {
    set_expiring(words, false)
}

pub(super) fn psetex(words: &[Bytes]) -> Parsed {
    set_expiring(words, true)
}

pub(super) fn getset(words: &[Bytes]) -> Parsed {
    let (expiry, condition) = (Expiry::Never {}, Condition::Always {});
    let set =
        Operation::Set { key: key(&words[1])?, value: words[2].clone(), expiry, condition, return_old: true };
    Ok(Call::change(set, Form::Former))
}

pub(super) fn getdel(words: &[Bytes]) -> Parsed {
    Ok(Call::change(Operation::Take { key: key(&words[1])? }, Form::Former))
}

pub(super) fn getex(words: &[Bytes]) -> Parsed {
    let name = key(&words[1])?;
    let mut expiry = None;
    let mut at = 2;
    while at < words.len() {
        if is(&words[at], "PERSIST") {
            once(&mut expiry, Expiry::Never {})?;
        } else if let Some(found) = expiry_option(words, at)? {
            at += 1;
            once(&mut expiry, found)?;
        } else {
            return Err(SYNTAX.into());
        }
        at += 1;
    }
    let Some(expiry) = expiry else { return Ok(Call::one(Part::Read(name), Form::Value)) };
    let (when, condition) = (ExpiryCondition::Always {}, Condition::Always {});
    Ok(Call::change(Operation::Retime { key: name, expiry, when, condition, return_old: true }, Form::Former))
}

/// One part for each key.
fn each(words: &[Bytes], form: Form, part: impl Fn(Bytes) -> Part) -> Parsed {
    let first = part(key(&words[0])?);
    let rest = words[1..].iter().map(|word| key(word).map(&part)).collect::<Result<_, _>>()?;
    Ok(Call { first, rest, form })
}

pub(super) fn mget(words: &[Bytes]) -> Parsed {
    each(&words[1..], Form::Values, Part::Read)
}

pub(super) fn exists(words: &[Bytes]) -> Parsed {
    each(&words[1..], Form::Count, Part::Read)
}

pub(super) fn del(words: &[Bytes]) -> Parsed {
    let delete = |key| Part::Change(Operation::Delete { key, condition: Condition::Always {} });
    // A key that is named twice is removed once: the second finds nothing.
    each(&words[1..], Form::Count, delete)
}

fn pairs(words: &[Bytes]) -> Result<Vec<Operation>, Refusal> {
    if words.len().is_multiple_of(2) {
        return Err(wrong_number(&name_of(words)));
    }
    let pair = |pair: &[Bytes]| Ok(set(&key(&pair[0])?, &pair[1], Expiry::Never {}));
    words[1..].chunks_exact(2).map(pair).collect()
}

pub(super) fn mset(words: &[Bytes]) -> Parsed {
    let mut parts = pairs(words)?.into_iter().map(Part::Change);
    let first = parts.next().ok_or_else(|| wrong_number(&name_of(words)))?;
    Ok(Call { first, rest: parts.collect(), form: Form::Ok })
}

pub(super) fn msetnx(words: &[Bytes]) -> Parsed {
    let parts: Vec<Operation> = pairs(words)?;
    let check = |operation: &Operation| {
        operation.key().map(|key| Check { key: key.clone(), condition: Condition::Absent {} })
    };
    let checks = parts.iter().filter_map(check).collect();
    let parts = parts.into_iter().map(BatchPart).collect();
    Ok(Call::change(Operation::Batch { checks, parts }, Form::AllOrNone))
}

fn add(words: &[Bytes], by: i64) -> Parsed {
    Ok(Call::change(Operation::Add { key: key(&words[1])?, by }, Form::Integer))
}

pub(super) fn incr(words: &[Bytes]) -> Parsed {
    add(words, 1)
}

pub(super) fn decr(words: &[Bytes]) -> Parsed {
    add(words, -1)
}

pub(super) fn incrby(words: &[Bytes]) -> Parsed {
    add(words, integer(&words[2])?)
}

pub(super) fn decrby(words: &[Bytes]) -> Parsed {
    let by = integer(&words[2])?.checked_neg().ok_or("ERR decrement would overflow")?;
    add(words, by)
}

pub(super) fn incrbyfloat(words: &[Bytes]) -> Parsed {
    let by = words[2].clone();
    Ok(Call::change(Operation::AddDecimal { key: key(&words[1])?, by }, Form::Decimal))
}

pub(super) fn append(words: &[Bytes]) -> Parsed {
    let value = words[2].clone();
    let form = Form::Length { added: value.len() };
    Ok(Call::change(Operation::Append { key: key(&words[1])?, value }, form))
}

pub(super) fn strlen(words: &[Bytes]) -> Parsed {
    Ok(Call::read(&key(&words[1])?, Form::ValueLength))
}

pub(super) fn getrange(words: &[Bytes]) -> Parsed {
    let (start, end) = (integer(&words[2])?, integer(&words[3])?);
    Ok(Call::read(&key(&words[1])?, Form::Slice { start, end }))
}

pub(super) fn setrange(words: &[Bytes]) -> Parsed {
    let name = key(&words[1])?;
    let offset = integer(&words[2])?;
    let offset = u64::try_from(offset).map_err(|_| "ERR offset is out of range")?;
    let value = words[3].clone();
    let end = offset.saturating_add(value.len() as u64);
    if !value.is_empty() && end > VALUE_BYTES_MAX as u64 {
        return Err(too_large(end));
    }
    Ok(Call::change(Operation::Overwrite { key: name, offset, value }, Form::Length { added: 0 }))
}

pub(super) fn type_command(words: &[Bytes]) -> Parsed {
    Ok(Call::read(&key(&words[1])?, Form::Type))
}

/// `DELIFEQ key value`.
pub(super) fn delifeq(words: &[Bytes]) -> Parsed {
    let condition = Condition::Value { value: words[2].clone() };
    Ok(Call::change(Operation::Delete { key: key(&words[1])?, condition }, Form::Flag))
}

/// `DELEX key [IFEQ value | IFNE value]`.
pub(super) fn delex(words: &[Bytes]) -> Parsed {
    let name = key(&words[1])?;
    let condition = match &words[2..] {
        [] => Condition::Always {},
        [option, value] if is(option, "IFEQ") => Condition::Value { value: value.clone() },
        [option, value] if is(option, "IFNE") => Condition::NotValue { value: value.clone() },
        [option, _] if is(option, "IFDEQ") || is(option, "IFDNE") => {
            return Err("ERR digests are not served; compare with IFEQ or IFNE".into());
        }
        [_, _] => return Err("ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE".into()),
        _ => return Err(wrong_number(&name_of(words))),
    };
    Ok(Call::change(Operation::Delete { key: name, condition }, Form::Flag))
}

const NO_FREQUENCIES: &str = "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note \
    that when switching between policies at runtime LRU and LFU data will take some time to adjust.";

pub(super) fn object(words: &[Bytes]) -> Parsed {
    let form = match &words[1] {
        word if is(word, "ENCODING") => Form::Encoding,
        word if is(word, "IDLETIME") => Form::Constant(0),
        word if is(word, "REFCOUNT") => Form::Constant(1),
        word if is(word, "FREQ") => Form::Complaint(NO_FREQUENCIES),
        word => return Err(unknown_subcommand(word, "OBJECT")),
    };
    Ok(Call::read(
        &key(words
            .get(2)
            .filter(|_| words.len() == 3)
            .ok_or_else(|| wrong_subcommand("object", &words[1]))?)?,
        form,
    ))
}

pub(super) fn memory(words: &[Bytes]) -> Parsed {
    if !is(&words[1], "USAGE") {
        return Err(unknown_subcommand(&words[1], "MEMORY"));
    }
    let word = words.get(2).ok_or_else(|| wrong_subcommand("memory", &words[1]))?;
    let name = key(word)?;
    match &words[3..] {
        [] => {}
        [option, count] if is(option, "SAMPLES") => {
            if integer(count)? < 0 {
                return Err(SYNTAX.into());
            }
        }
        _ => return Err(SYNTAX.into()),
    }
    let form = Form::Usage { key_bytes: name.len() };
    Ok(Call::read(&name, form))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{operation, words};
    use super::super::words::NOT_AN_INTEGER;
    use super::*;

    #[test]
    fn set_takes_its_options_once() {
        let set = operation(set_command(&words("SET k v px 15 NX get")));
        let expected = Operation::Set {
            key: "k".into(),
            value: "v".into(),
            expiry: Expiry::In { ms: 15 },
            condition: Condition::Absent {},
            return_old: true,
        };
        assert_eq!(set, expected);
        for line in [
            "SET k v NX XX",
            "SET k v EX 1 PX 1",
            "SET k v EX",
            "SET k v IFEQ",
            "SET k v what",
            "SET k v EX 1 KEEPTTL",
        ] {
            assert_eq!(set_command(&words(line)).unwrap_err(), SYNTAX, "{line}");
        }
        for line in [
            "SET k v EX 0",
            "SET k v EX -1",
            "SET k v EX 9223372036854775807",
            "SET k v PXAT 9223372036854775807",
        ] {
            let error = set_command(&words(line)).unwrap_err();
            assert_eq!(error, "ERR invalid expire time in 'set' command", "{line}");
        }
        assert_eq!(set_command(&words("SET k v EX x")).unwrap_err(), NOT_AN_INTEGER);
    }

    #[test]
    fn keys_have_their_limits() {
        let long = "k".repeat(1025);
        assert!(get(&words(&format!("GET {long}"))).unwrap_err().contains("1025"));
        assert!(get(&[Bytes::from("GET"), Bytes::new()]).unwrap_err().contains("empty"));
        assert!(mset(&words("MSET a 1 b")).is_err());
    }
}
