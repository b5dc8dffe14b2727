//! Calls on keys: what they ask of the data, and how the replies become one.

use bytes::Bytes;
use common::codec::Sink;
use common::messages::Reply;
use common::operation::{Expiry, Found, Operation, Outcome, PartOutcome};
use common::time::WallTime;

use super::encode::{Version, Writer};
use super::failure::failure;
use super::words::Refusal;

/// Bytes of the longest value that Redis keeps in one piece with its header; only `OBJECT ENCODING` shows it.
const EMBEDDED_BYTES_MAX: usize = 44;

/// Bytes of a stored value besides the key and the value, for `MEMORY USAGE`: version, expiry, checksum.
const STORED_BYTES: usize = 48;

/// The part of a call for one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The value of a key.
    Read(Bytes),
    /// An operation that is ordered in the partition's log.
    Change(Operation),
}

impl Part {
    /// Calls `each` with its keys (a transaction has several), and whether it may change them.
    pub fn keys(&self, mut each: impl FnMut(&Bytes, bool)) {
        match self {
            Self::Read(key) => each(key, false),
            Self::Change(Operation::Batch { checks, parts }) => {
                checks.iter().for_each(|check| each(&check.key, true));
                parts.iter().filter_map(|part| part.0.key()).for_each(|key| each(key, true));
            }
            Self::Change(operation) => operation.key().into_iter().for_each(|key| each(key, true)),
        }
    }

    /// The operation for this part within a transaction.
    pub(super) fn into_operation(self) -> Operation {
        match self {
            Self::Read(key) => Operation::Fetch { key },
            Self::Change(operation) => operation,
        }
    }
}

/// The call that a command asks for, or the error line.
pub(super) type Parsed = Result<Call, Refusal>;

/// What a command asks, in parts, and the form of its reply.
#[derive(Debug)]
pub struct Call {
    /// The first part; most calls have only this.
    pub first: Part,
    /// The other parts.
    pub rest: Vec<Part>,
    /// How the parts' replies become one.
    pub form: Form,
}

impl Call {
    pub(super) fn one(part: Part, form: Form) -> Self {
        Self { first: part, rest: Vec::new(), form }
    }

    pub(super) fn read(key: &Bytes, form: Form) -> Self {
        Self::one(Part::Read(key.clone()), form)
    }

    pub(super) fn change(operation: Operation, form: Form) -> Self {
        Self::one(Part::Change(operation), form)
    }

    /// How many parts it has.
    #[must_use]
    pub fn len(&self) -> usize {
        1 + self.rest.len()
    }

    /// A call has one part at least.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// A moment or the time until it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// In milliseconds, else in seconds.
    Time {
        /// Milliseconds.
        ms: bool,
    },
    /// The moment itself.
    Moment {
        /// Milliseconds.
        ms: bool,
    },
}

/// One of the commands of a transaction.
#[derive(Debug)]
pub enum Queued {
    /// A command that asks for `parts` parts.
    Call {
        /// How many parts.
        parts: usize,
        /// The form of its reply.
        form: Form,
    },
    /// A command whose reply is known.
    Ready(Vec<u8>),
}

/// How the replies to a call's parts become the reply to the command.
#[derive(Debug)]
pub enum Form {
    /// The value, or null.
    Value,
    /// How many bytes the value has: 0 if there is none.
    ValueLength,
    /// A part of the value; positions count from its end if they are negative.
    Slice {
        /// The first byte.
        start: i64,
        /// The last byte.
        end: i64,
    },
    /// How many parts found or removed something.
    Count,
    /// Until when the value is there: -1 for ever, -2 there is none.
    Left(Left),
    /// `string` or `none`.
    Type,
    /// The encoding that Redis would use for the value.
    Encoding,
    /// The same number for every value that is there.
    Constant(i64),
    /// This error for every value that is there.
    Complaint(&'static str),
    /// Bytes that the value takes, with those of its key.
    Usage {
        /// How many bytes the key has, which count as well.
        key_bytes: usize,
    },
    /// OK, or null if the condition did not hold.
    OkOrNull,
    /// The former value, or null.
    Former,
    /// 1 if something was changed, else 0.
    Flag,
    /// The number after it was added to.
    Integer,
    /// The number after it was added to, as text.
    Decimal,
    /// The length after it was changed.
    Length {
        /// Bytes that were appended.
        added: usize,
    },
    /// All values, in an array.
    Values,
    /// OK, if all parts are done.
    Ok,
    /// A transaction of our own making: 1 if it was done, else 0.
    AllOrNone,
    /// The replies of a transaction.
    Transaction(Vec<Queued>),
}

impl Form {
    /// Appends the reply. `replies` are those of the parts, in order; the first failure is the whole reply.
    pub fn answer(&self, replies: &[Reply], now: WallTime, out: &mut dyn Sink, version: Version) {
        let writer = &mut Writer::new(out, version);
        if !matches!(self, Self::Transaction(_))
            && let Some(error) = replies.iter().find_map(|reply| self.failure(reply))
        {
            return writer.error(&error);
        }
        let one = replies.first();
        match self {
            Self::Transaction(queued) => transaction(queued, one, now, out, version),
            Self::Values => {
                writer.array(replies.len());
                let values = replies.iter().map(|reply| found(reply).map(|found| &found.value));
                values.for_each(|value| writer.value_or_null(value));
            }
            Self::Count => writer.count(replies.iter().filter(|reply| has_something(reply)).count()),
            Self::Ok => writer.ok(),
            Self::AllOrNone => writer.int(i64::from(matches!(outcome(one), Some(Outcome::All { .. })))),
            form => match one {
                Some(Reply::Value { found }) => form.of_value(found.as_ref(), now, writer),
                Some(Reply::TooLarge { bytes, .. }) => form.of_size(*bytes, writer),
                Some(Reply::Outcome { outcome }) => form.of_outcome(outcome, writer),
                _ => writer.error("ERR unexpected answer; report this"),
            },
        }
    }

    /// The error line for a part that failed, in the words of this command.
    fn failure(&self, reply: &Reply) -> Option<String> {
        match (self, reply) {
            (Self::Decimal, Reply::Outcome { outcome: Outcome::NotANumber {} }) => {
                Some("ERR value is not a valid float".to_owned())
            }
            (Self::Decimal, Reply::Outcome { outcome: Outcome::OutOfRange {} }) => {
                Some("ERR increment would produce NaN or Infinity".to_owned())
            }
            _ => failure(reply),
        }
    }

    /// Whether the reply needs the values of its keys: otherwise their existence and sizes are enough.
    #[must_use]
    pub fn needs_values(&self) -> bool {
        !matches!(self, Self::Count | Self::ValueLength | Self::Type)
    }

    fn of_size(&self, bytes: u64, writer: &mut Writer<'_>) {
        match self {
            Self::ValueLength => writer.int(i64::try_from(bytes).unwrap_or(i64::MAX)),
            Self::Type => writer.simple("string"),
            _ => writer.error("ERR unexpected answer; report this"),
        }
    }

    fn of_value(&self, found: Option<&Found>, now: WallTime, writer: &mut Writer<'_>) {
        let value = found.map(|found| &found.value[..]);
        match self {
            Self::Value | Self::Former => writer.value_or_null(found.map(|found| &found.value)),
            Self::ValueLength => writer.count(value.map_or(0, <[u8]>::len)),
            Self::Slice { start, end } => match found {
                Some(Found { value, .. }) => writer.value(&value.slice_ref(slice(value, *start, *end))),
                None => writer.bulk(b""),
            },
            Self::Left(left) => writer.int(left.of(found, now)),
            Self::Type => writer.simple(if found.is_some() { "string" } else { "none" }),
            Self::Encoding => match value {
                Some(value) => writer.bulk(encoding(value).as_bytes()),
                None => writer.null(),
            },
            Self::Constant(number) => match value {
                Some(_) => writer.int(*number),
                None => writer.null(),
            },
            Self::Complaint(text) => match value {
                Some(_) => writer.error(text),
                None => writer.null(),
            },
            Self::Usage { key_bytes } => match value {
                Some(value) => writer.count(key_bytes + value.len() + STORED_BYTES),
                None => writer.null(),
            },
            _ => writer.error("ERR unexpected answer; report this"),
        }
    }

    fn of_outcome(&self, outcome: &Outcome, writer: &mut Writer<'_>) {
        let done = matches!(
            outcome,
            Outcome::Written { .. }
                | Outcome::Changed { .. }
                | Outcome::Deleted { .. }
                | Outcome::Appended { .. }
                | Outcome::Length { .. }
                | Outcome::Sum { .. }
        );
        match (self, outcome) {
            (Self::OkOrNull, _) if done => writer.ok(),
            (Self::OkOrNull, _) => writer.null(),
            (Self::Former | Self::Value, Outcome::Changed { old, .. } | Outcome::Kept { old }) => {
                writer.value_or_null(old.as_ref());
            }
            (Self::Former | Self::Value, Outcome::NotFound {}) => writer.null(),
            (Self::Flag, _) => writer.int(i64::from(done)),
            (Self::Integer, Outcome::Sum { value, .. }) => {
                let sum = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                writer.int(sum.unwrap_or_default());
            }
            (Self::Decimal, Outcome::Sum { value, .. }) => writer.bulk(value),
            (Self::Length { added }, Outcome::Appended { offset, .. }) => {
                writer.count(usize::try_from(*offset).unwrap_or(usize::MAX).saturating_add(*added));
            }
            (Self::Length { .. }, Outcome::Length { bytes, .. }) => {
                writer.count(usize::try_from(*bytes).unwrap_or(usize::MAX));
            }
            _ => writer.error("ERR unexpected outcome; report this"),
        }
    }
}

impl Left {
    fn of(self, found: Option<&Found>, now: WallTime) -> i64 {
        let Some(found) = found else { return -2 };
        let Some(expires) = found.expires else { return -1 };
        let (value, ms) = match self {
            Self::Time { ms } => (expires.0.saturating_sub(now.0), ms),
            Self::Moment { ms } => (expires.0, ms),
        };
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        if ms { value } else { value.saturating_add(500) / 1000 }
    }
}

/// The replies to the commands of a transaction, from the outcomes of its parts.
fn transaction(queued: &[Queued], one: Option<&Reply>, now: WallTime, out: &mut dyn Sink, version: Version) {
    let results = match (one, outcome(one)) {
        (_, Some(Outcome::All { results })) => results,
        (_, Some(Outcome::Aborted {})) => return Writer::new(out, version).null_array(),
        (Some(Reply::Refused { reason }), _) => {
            let text = format!("EXECABORT Transaction discarded because {reason}");
            return Writer::new(out, version).error(&text);
        }
        (reply, _) => {
            let error = reply.and_then(failure).unwrap_or("ERR unexpected outcome; report this".into());
            return Writer::new(out, version).error(&error);
        }
    };
    Writer::new(out, version).array(queued.len());
    let mut results = results.iter();
    for queued in queued {
        match queued {
            Queued::Ready(bytes) => out.put(bytes),
            Queued::Call { parts, form } => {
                let replies: Vec<Reply> = results.by_ref().take(*parts).map(reply_of).collect();
                form.answer(&replies, now, out, version);
            }
        }
    }
}

/// The outcome of a part as if it had been asked alone.
fn reply_of(result: &PartOutcome) -> Reply {
    match &result.0 {
        Outcome::Fetched { found } => Reply::Value { found: found.clone() },
        outcome => Reply::Outcome { outcome: outcome.clone() },
    }
}

fn outcome(reply: Option<&Reply>) -> Option<&Outcome> {
    match reply {
        Some(Reply::Outcome { outcome }) => Some(outcome),
        _ => None,
    }
}

fn found(reply: &Reply) -> Option<&Found> {
    match reply {
        Reply::Value { found } => found.as_ref(),
        _ => None,
    }
}

fn has_something(reply: &Reply) -> bool {
    match reply {
        Reply::Value { found } => found.is_some(),
        Reply::TooLarge { .. } => true,
        Reply::Outcome { outcome } => matches!(outcome, Outcome::Deleted { .. } | Outcome::Changed { .. }),
        _ => false,
    }
}

/// Bytes `start..=end`, both counted from the end if negative.
fn slice(value: &[u8], start: i64, end: i64) -> &[u8] {
    let len = i64::try_from(value.len()).unwrap_or(i64::MAX);
    if start < 0 && end < 0 && start > end {
        return &[];
    }
    let from_start = |at: i64| if at < 0 { at.saturating_add(len).max(0) } else { at };
    let (start, end) = (from_start(start), from_start(end).min(len - 1));
    if start > end || len == 0 {
        return &[];
    }
    let position = |at: i64| usize::try_from(at).unwrap_or(0);
    &value[position(start)..=position(end)]
}

fn encoding(value: &[u8]) -> &'static str {
    let text = std::str::from_utf8(value).ok();
    if text
        .and_then(|text| text.parse::<i64>().ok())
        .is_some_and(|number| number.to_string().as_bytes() == value)
    {
        "int"
    } else if value.len() <= EMBEDDED_BYTES_MAX {
        "embstr"
    } else {
        "raw"
    }
}

/// An operation that sets a value without conditions.
pub(super) fn set(key: &Bytes, value: &Bytes, expiry: Expiry) -> Operation {
    let condition = common::operation::Condition::Always {};
    Operation::Set { key: key.clone(), value: value.clone(), expiry, condition, return_old: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_those_of_redis() {
        let of = |start, end| std::str::from_utf8(slice(b"This is a string", start, end)).unwrap();
        assert_eq!(of(0, 3), "This");
        assert_eq!(of(-3, -1), "ing");
        assert_eq!(of(0, -1), "This is a string");
        assert_eq!(of(10, 100), "string");
        assert_eq!(of(-1, -3), "");
        assert_eq!(of(5, 3), "");
        assert_eq!(of(-100, 3), "This");
        assert_eq!(of(i64::MIN, i64::MAX), "This is a string");
        assert_eq!(of(0, -100), "T");
        assert_eq!(slice(b"", 0, -1), b"");
    }

    #[test]
    fn times_are_rounded_as_in_redis() {
        let found = |expires: Option<u64>| Found {
            value: Bytes::new(),
            version: Default::default(),
            expires: expires.map(WallTime),
        };
        let left = |ms, expires| Left::Time { ms }.of(Some(&found(expires)), WallTime(1000));
        assert_eq!(left(true, Some(2499)), 1499);
        assert_eq!(left(false, Some(2499)), 1);
        assert_eq!(left(false, Some(2500)), 2);
        assert_eq!(left(false, None), -1);
        assert_eq!(Left::Moment { ms: true }.of(Some(&found(Some(7))), WallTime(1000)), 7);
        assert_eq!(Left::Moment { ms: true }.of(None, WallTime(1000)), -2);
    }

    #[test]
    fn encodings_are_those_of_redis() {
        for (value, name) in [("12", "int"), ("-7", "int"), ("012", "embstr"), ("", "embstr")] {
            assert_eq!(encoding(value.as_bytes()), name, "{value}");
        }
        assert_eq!(encoding(&[b'x'; 45]), "raw");
    }
}
