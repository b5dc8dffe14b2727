//! Commands on expiries, and the options of others that give one.

use bytes::Bytes;
use common::operation::{Condition, Expiry, ExpiryCondition, Operation};
use common::time::WallTime;

use super::answer::{Call, Form, Left, Parsed};
use super::words::{Refusal, SYNTAX, integer, is, key, name_of};

/// Milliseconds of a relative expiry, at most: beyond it the sum with the time of day would not fit.
const EXPIRY_MS_MAX: u64 = (i64::MAX / 2).unsigned_abs();

fn bad_expiry(words: &[Bytes]) -> Refusal {
    format!("ERR invalid expire time in '{}' command", name_of(words)).into()
}

/// A time that must be above 0, relative or absolute, in seconds or milliseconds.
pub(super) fn positive_expiry(
    words: &[Bytes],
    word: &[u8],
    ms: bool,
    absolute: bool,
) -> Result<Expiry, Refusal> {
    let number = integer(word)?;
    let scaled = u64::try_from(number).ok().filter(|&number| number > 0);
    let scaled = scaled.and_then(|number| number.checked_mul(if ms { 1 } else { 1000 }));
    let scaled = scaled.filter(|&ms| ms <= EXPIRY_MS_MAX).ok_or_else(|| bad_expiry(words))?;
    Ok(if absolute { Expiry::At { at: WallTime(scaled) } } else { Expiry::In { ms: scaled } })
}

/// The option of `SET` and `GETEX` at `at` that gives an expiry, if it is one.
pub(super) fn expiry_option(words: &[Bytes], at: usize) -> Result<Option<Expiry>, Refusal> {
    let options = [("EX", false, false), ("PX", true, false), ("EXAT", false, true), ("PXAT", true, true)];
    let Some(&(_, ms, absolute)) = options.iter().find(|(name, _, _)| is(&words[at], name)) else {
        return Ok(None);
    };
    let word = words.get(at + 1).ok_or(SYNTAX)?;
    positive_expiry(words, word, ms, absolute).map(Some)
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
    Ok(Call::change(Operation::Retime { key: name, expiry, when, condition, return_old: false }, Form::Flag))
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
    let retime = Operation::Retime { key: key(&words[1])?, expiry, when, condition, return_old: false };
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

#[cfg(test)]
mod tests {
    use super::super::testing::{operation, words};
    use super::*;

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
}
