//! Commands on keys: from words to calls. The errors are Redis' own.

use std::borrow::Cow;

use bytes::Bytes;
use common::limits::VALUE_BYTES_MAX;
use common::operation::{
    Check, Condition, Expiry, ExpiryCondition, InvalidOperation, Operation, Part as BatchPart, check_key,
};
use common::time::WallTime;

use super::answer::{Call, Form, Left, Part, set};

/// An error line.
pub(super) type Refusal = Cow<'static, str>;

/// The call that a command asks for, or the error line.
pub(super) type Parsed = Result<Call, Refusal>;

pub(super) const SYNTAX: &str = "ERR syntax error";
pub(super) const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";

/// Milliseconds of a relative expiry, at most: beyond it the sum with the time of day would not fit.
const EXPIRY_MS_MAX: u64 = (i64::MAX / 2).unsigned_abs();

/// A decimal integer of 64 bits without blanks, leading zeros or a plus.
pub(super) fn integer(word: &[u8]) -> Result<i64, Refusal> {
    let text = std::str::from_utf8(word).map_err(|_| NOT_AN_INTEGER)?;
    let plain = !text.starts_with('+') && (text == "0" || !text.trim_start_matches('-').starts_with('0'));
    text.parse().ok().filter(|_| plain).ok_or(NOT_AN_INTEGER.into())
}

/// A key within its limits.
pub(super) fn key(word: &Bytes) -> Result<Bytes, Refusal> {
    check_key(word).map_err(|error| Cow::Owned(format!("ERR {error}")))?;
    Ok(word.clone())
}

/// Checks keys against their limits.
pub(super) fn check_keys(words: &[Bytes]) -> Result<(), Refusal> {
    words.iter().try_for_each(|word| key(word).map(drop))
}

fn name_of(words: &[Bytes]) -> String {
    String::from_utf8_lossy(&words[0]).to_ascii_lowercase()
}

fn wrong_number(words: &[Bytes]) -> Refusal {
    format!("ERR wrong number of arguments for '{}' command", name_of(words)).into()
}

fn is(word: &[u8], name: &str) -> bool {
    word.eq_ignore_ascii_case(name.as_bytes())
}

fn bad_expiry(words: &[Bytes]) -> Refusal {
    format!("ERR invalid expire time in '{}' command", name_of(words)).into()
}

/// A time that must be above 0, relative or absolute, in seconds or milliseconds.
fn positive_expiry(words: &[Bytes], word: &[u8], ms: bool, absolute: bool) -> Result<Expiry, Refusal> {
    let number = integer(word)?;
    let scaled = u64::try_from(number).ok().filter(|&number| number > 0);
    let scaled = scaled.and_then(|number| number.checked_mul(if ms { 1 } else { 1000 }));
    let scaled = scaled.filter(|&ms| ms <= EXPIRY_MS_MAX).ok_or_else(|| bad_expiry(words))?;
    Ok(if absolute { Expiry::At { at: WallTime(scaled) } } else { Expiry::In { ms: scaled } })
}

/// The option of `SET` and `GETEX` at `at` that gives an expiry, if it is one.
fn expiry_option(words: &[Bytes], at: usize) -> Result<Option<Expiry>, Refusal> {
    let options = [("EX", false, false), ("PX", true, false), ("EXAT", false, true), ("PXAT", true, true)];
    let Some(&(_, ms, absolute)) = options.iter().find(|(name, _, _)| is(&words[at], name)) else {
        return Ok(None);
    };
    let word = words.get(at + 1).ok_or(SYNTAX)?;
    positive_expiry(words, word, ms, absolute).map(Some)
}

pub(super) fn get(words: &[Bytes]) -> Parsed {
    Ok(Call::one(Part::Read(key(&words[1])?), Form::Value))
}

pub(super) fn set_command(words: &[Bytes]) -> Parsed {
    let name = key(&words[1])?;
    let (mut expiry, mut condition, mut tell) = (None, None, false);
    let mut at = 3;
    while at < words.len() {
        let word = &words[at];
        if is(word, "GET") {
            tell = true;
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
    let form = if tell { Form::Former } else { Form::OkOrNull };
    let (expiry, condition) = (expiry.unwrap_or(Expiry::Never {}), condition.unwrap_or(Condition::Always {}));
    Ok(Call::change(Operation::Set { key: name, value: words[2].clone(), expiry, condition, tell }, form))
}

/// An option that may be given once, and not together with others of its kind.
fn once<T>(place: &mut Option<T>, value: T) -> Result<(), Refusal> {
    if place.replace(value).is_none() { Ok(()) } else { Err(SYNTAX.into()) }
}

pub(super) fn setnx(words: &[Bytes]) -> Parsed {
    let (expiry, condition) = (Expiry::Never {}, Condition::Absent {});
    let set =
        Operation::Set { key: key(&words[1])?, value: words[2].clone(), expiry, condition, tell: false };
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
    let set = Operation::Set { key: key(&words[1])?, value: words[2].clone(), expiry, condition, tell: true };
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
    Ok(Call::change(Operation::Retime { key: name, expiry, when, condition, tell: true }, Form::Former))
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
        return Err(wrong_number(words));
    }
    let pair = |pair: &[Bytes]| Ok(set(&key(&pair[0])?, &pair[1], Expiry::Never {}));
    words[1..].chunks_exact(2).map(pair).collect()
}

pub(super) fn mset(words: &[Bytes]) -> Parsed {
    let mut parts = pairs(words)?.into_iter().map(Part::Change);
    let first = parts.next().ok_or_else(|| wrong_number(words))?;
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

/// The error for a value over its limit.
pub(super) fn too_large(bytes: u64) -> Refusal {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    let error = InvalidOperation::ValueTooLarge { bytes, limit: VALUE_BYTES_MAX };
    format!("ERR string exceeds maximum allowed size: {error}").into()
}

/// The four commands that set an expiry. A moment that is past removes the value.
fn expire_by(words: &[Bytes], ms: bool, absolute: bool) -> Parsed {
    let name = key(&words[1])?;
    let number = integer(&words[2])?;
    let (mut none, mut some, mut earlier, mut later) = (false, false, false, false);
    for word in &words[3..] {
        let flags = [("NX", &mut none), ("XX", &mut some), ("GT", &mut earlier), ("LT", &mut later)];
        match flags.into_iter().find(|(name, _)| is(word, name)) {
            Some((_, flag)) => *flag = true,
            None => {
                let word = String::from_utf8_lossy(word);
                return Err(format!("ERR Unsupported option {word}").into());
            }
        }
    }
    if none && (some || earlier || later) {
        return Err("ERR NX and XX, GT or LT options at the same time are not compatible".into());
    }
    let when = match (none, some, earlier, later) {
        (_, _, true, true) => return Err("ERR GT and LT options at the same time are not compatible".into()),
        (true, ..) => ExpiryCondition::None {},
        (_, _, true, _) => ExpiryCondition::Earlier {},
        (_, true, _, true) => ExpiryCondition::SomeLater {},
        (_, _, _, true) => ExpiryCondition::Later {},
        (_, true, ..) => ExpiryCondition::Some {},
        _ => ExpiryCondition::Always {},
    };
    let scaled =
        number.checked_mul(if ms { 1 } else { 1000 }).filter(|ms| ms.unsigned_abs() <= EXPIRY_MS_MAX);
    let scaled = scaled.ok_or_else(|| bad_expiry(words))?;
    let expiry = match u64::try_from(scaled) {
        Ok(ms) if absolute => Expiry::At { at: WallTime(ms) },
        Ok(ms) => Expiry::In { ms },
        Err(_) => Expiry::At { at: WallTime(0) },
    };
    let condition = Condition::Always {};
    Ok(Call::change(Operation::Retime { key: name, expiry, when, condition, tell: false }, Form::Flag))
}

pub(super) fn expire(words: &[Bytes]) -> Parsed {
    expire_by(words, false, false)
}

pub(super) fn pexpire(words: &[Bytes]) -> Parsed {
    expire_by(words, true, false)
}

pub(super) fn expireat(words: &[Bytes]) -> Parsed {
    expire_by(words, false, true)
}

pub(super) fn pexpireat(words: &[Bytes]) -> Parsed {
    expire_by(words, true, true)
}

pub(super) fn persist(words: &[Bytes]) -> Parsed {
    let (expiry, when, condition) = (Expiry::Never {}, ExpiryCondition::Some {}, Condition::Always {});
    let retime = Operation::Retime { key: key(&words[1])?, expiry, when, condition, tell: false };
    Ok(Call::change(retime, Form::Flag))
}

pub(super) fn ttl(words: &[Bytes]) -> Parsed {
    Ok(Call::read(&key(&words[1])?, Form::Left(Left::Time { ms: false })))
}

pub(super) fn pttl(words: &[Bytes]) -> Parsed {
    Ok(Call::read(&key(&words[1])?, Form::Left(Left::Time { ms: true })))
}

pub(super) fn expiretime(words: &[Bytes]) -> Parsed {
    Ok(Call::read(&key(&words[1])?, Form::Left(Left::Moment { ms: false })))
}

pub(super) fn pexpiretime(words: &[Bytes]) -> Parsed {
    Ok(Call::read(&key(&words[1])?, Form::Left(Left::Moment { ms: true })))
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
        _ => return Err(wrong_number(words)),
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

/// The error for an unknown subcommand.
pub(super) fn unknown_subcommand(word: &[u8], command: &str) -> Refusal {
    let word: String = String::from_utf8_lossy(word).chars().take(128).collect();
    format!("ERR unknown subcommand '{word}'. Try {command} HELP.").into()
}

/// The error for a subcommand with too few or too many words.
pub(super) fn wrong_subcommand(command: &str, word: &[u8]) -> Refusal {
    let word = String::from_utf8_lossy(word).to_ascii_lowercase();
    format!("ERR wrong number of arguments for '{command}|{word}' command").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<Bytes> {
        line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
    }

    fn operation(parsed: Parsed) -> Operation {
        match parsed.unwrap().first {
            Part::Change(operation) => operation,
            Part::Read(key) => panic!("a read of {key:?}"),
        }
    }

    #[test]
    fn set_takes_its_options_once() {
        let set = operation(set_command(&words("SET k v px 15 NX get")));
        let expected = Operation::Set {
            key: "k".into(),
            value: "v".into(),
            expiry: Expiry::In { ms: 15 },
            condition: Condition::Absent {},
            tell: true,
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
    fn expiry_conditions_combine_as_in_redis() {
        let when = |line| match operation(expire(&words(line))) {
            Operation::Retime { when, .. } => when,
            other => panic!("{other:?}"),
        };
        assert_eq!(when("EXPIRE k 1 XX LT"), ExpiryCondition::SomeLater {});
        assert_eq!(when("EXPIRE k 1 XX GT"), ExpiryCondition::Earlier {});
        for line in
            ["EXPIRE k 1 NX XX", "EXPIRE k 1 GT LT", "EXPIRE k 1 what", "EXPIRE k 9223372036854775807"]
        {
            assert!(expire(&words(line)).is_err(), "{line}");
        }
        let past = operation(expire(&words("EXPIRE k -5")));
        assert!(matches!(past, Operation::Retime { expiry: Expiry::At { at: WallTime(0) }, .. }));
    }

    #[test]
    fn integers_are_strict() {
        for word in ["1", "0", "-5", "9223372036854775807"] {
            assert!(integer(word.as_bytes()).is_ok(), "{word}");
        }
        for word in ["", "+1", "01", "-0", " 1", "1.0", "9223372036854775808", "x", "--1"] {
            assert!(integer(word.as_bytes()).is_err(), "{word}");
        }
    }

    #[test]
    fn keys_have_their_limits() {
        let long = "k".repeat(1025);
        assert!(get(&words(&format!("GET {long}"))).unwrap_err().contains("1025"));
        assert!(get(&[Bytes::from("GET"), Bytes::new()]).unwrap_err().contains("empty"));
        assert!(mset(&words("MSET a 1 b")).is_err());
    }
}
