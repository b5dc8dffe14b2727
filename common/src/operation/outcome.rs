//! What an applied operation did.

use bytes::Bytes;

use super::value::{Found, Version};
use crate::codec::{Malformed, Sink, Wire, refuse_tag, wire_enum};
use crate::ids::LogId;

/// What an applied operation did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it may say that nothing was changed"]
pub enum Outcome {
    /// A value was set.
    Written {
        /// The version of the new value.
        version: Version,
        /// There was a value before.
        replaced: bool,
    },
    /// Bytes were added.
    Appended {
        /// The version of the new value.
        version: Version,
        /// Where in the value the added bytes begin.
        offset: u64,
    },
    /// A value was removed.
    Deleted {
        /// The version of the entry that removed it.
        version: Version,
    },
    /// There was nothing to delete or expire.
    NotFound {},
    /// The condition did not hold; nothing was changed.
    ConditionFailed {
        /// The version of the value that is there, if there is one.
        current: Option<Version>,
    },
    /// The appended value would pass the limit; nothing was changed.
    TooLarge {
        /// Bytes that the value would have.
        bytes: u64,
    },
    /// A tick was applied.
    Ticked {},
    /// Each copy takes a digest at this entry.
    Compared {
        /// The entry.
        at: LogId,
    },
    /// The client had its answer long ago; this is a late duplicate of its request, and it changed nothing.
    Superseded {},
    /// A value was changed or removed, and this is what it was.
    Changed {
        /// The version of the entry that did it.
        version: Version,
        /// The former value.
        old: Option<Bytes>,
    },
    /// The condition did not hold; nothing was changed, and this is the value that is there.
    Kept {
        /// The value.
        old: Option<Bytes>,
    },
    /// A number was added to, and this is the value now.
    Sum {
        /// The version of the new value.
        version: Version,
        /// Decimal digits.
        value: Bytes,
    },
    /// The value is longer or shorter now.
    Length {
        /// The version of the value.
        version: Version,
        /// Bytes of the value.
        bytes: u64,
    },
    /// The value is no number; nothing was changed.
    NotANumber {},
    /// The sum is beyond the numbers that there are; nothing was changed.
    OutOfRange {},
    /// A value as it was at this position in the log.
    Fetched {
        /// None: there was no value.
        found: Option<Found>,
    },
    /// What the parts of a batch did, in order.
    All {
        /// One for each part.
        results: Vec<PartOutcome>,
    },
    /// A check of a batch did not hold; nothing was changed.
    Aborted {},
    /// It was done as the client's earlier try of the same write, whose answer was too long to be remembered.
    Forgotten {},
}
wire_enum!(Outcome {
    1 => Written { version, replaced },
    2 => Appended { version, offset },
    3 => Deleted { version },
    4 => NotFound {},
    5 => ConditionFailed { current },
    6 => TooLarge { bytes },
    7 => Ticked {},
    8 => Superseded {},
    9 => Changed { version, old },
    10 => Kept { old },
    11 => Sum { version, value },
    12 => Length { version, bytes },
    13 => NotANumber {},
    14 => OutOfRange {},
    15 => Fetched { found },
    16 => All { results },
    17 => Aborted {},
    18 => Forgotten {},
    19 => Compared { at },
});

impl Outcome {
    /// Bytes of the values that the outcome returns.
    #[must_use]
    pub fn returned_bytes(&self) -> usize {
        match self {
            Self::Changed { old, .. } | Self::Kept { old } => old.as_ref().map_or(0, Bytes::len),
            Self::Fetched { found } => found.as_ref().map_or(0, |found| found.value.len()),
            Self::All { results } => results.iter().map(|result| result.0.returned_bytes()).sum(),
            _ => 0,
        }
    }
}

/// What an operation of a batch did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartOutcome(pub Outcome);

/// The tag of a batch's outcome. It has none as a part: decoding would recurse as deep as a message says.
const ALL_TAG: u8 = 16;

impl Wire for PartOutcome {
    fn write<S: Sink + ?Sized>(&self, out: &mut S) {
        self.0.write(out);
    }

    fn read(input: &mut Bytes) -> Result<Self, Malformed> {
        refuse_tag(input, ALL_TAG, "PartOutcome")?;
        Outcome::read(input).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outcome_of_a_batch_in_a_batch_is_not_read() {
        let inner = Outcome::All { results: Vec::new() };
        let outer = Outcome::All { results: vec![PartOutcome(inner)] };
        let read = Outcome::from_wire(outer.to_wire());
        assert_eq!(read, Err(Malformed::Variant { what: "PartOutcome", tag: ALL_TAG }));
    }
}
