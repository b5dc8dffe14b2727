//! The state that is sealed with a partition's records: the state machine's, which is the same at all copies, and how
//! many records this copy has. (Another copy may have removed others of those that have expired.)

use bytes::Bytes;
use common::codec::{Malformed, Wire, wire_enum};

/// Records of a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Number of records.
    pub(crate) keys: u64,
    /// Number of records that have an expiry.
    pub(crate) expiring: u64,
}

impl Counts {
    /// Counts a record that is there now, or (`there` false) is there no longer; `expires`: it has an expiry.
    pub(crate) fn count(&mut self, expires: bool, there: bool) {
        let by = |number: &mut u64| *number = if there { *number + 1 } else { number.saturating_sub(1) };
        by(&mut self.keys);
        if expires {
            by(&mut self.expiring);
        }
    }
}

/// What is sealed with the records of a partition: counts and the state. The first byte distinguishes it from a state
/// alone, as earlier versions sealed it.
enum Stored {
    V1 { keys: u64, expiring: u64, state: Bytes },
}
wire_enum!(Stored { 100 => V1 { keys, expiring, state } });

/// The bytes to be sealed.
pub(crate) fn encode(counts: Counts, state: Bytes) -> Bytes {
    let Counts { keys, expiring } = counts;
    Stored::V1 { keys, expiring, state }.to_wire()
}

/// The state in sealed bytes, and the counts if they are known.
///
/// # Errors
/// When the bytes are something else.
pub(crate) fn decode(sealed: Bytes) -> Result<(Option<Counts>, Bytes), Malformed> {
    match sealed.first() {
        None => Ok((Some(Counts::default()), sealed)),
        Some(100) => {
            let Stored::V1 { keys, expiring, state } = Stored::from_wire(sealed)?;
            Ok((Some(Counts { keys, expiring }), state))
        }
        Some(_) => Ok((None, sealed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvserver_core::State;

    #[test]
    fn a_state_is_read_with_counts_and_without() {
        let (counts, state) = (Counts { keys: 7, expiring: 5 }, State::default().encode());
        assert_eq!(decode(encode(counts, state.clone())), Ok((Some(counts), state.clone())));
        assert_eq!(
            decode(state.clone()),
            Ok((None, state.clone())),
            "as it was sealed before there were counts"
        );
        assert_eq!(decode(Bytes::new()), Ok((Some(Counts::default()), Bytes::new())));
        let sealed = encode(counts, state);
        assert!(decode(sealed.slice(..sealed.len() - 1)).is_err());
    }
}
