//! The small durable state of a copy besides its log.

use bytes::Bytes;
use common::codec::{Malformed, Sink, Wire, wire_struct};
use common::ids::{Epoch, ServerId};
use common::view::Member;

use super::super::limits::COMPARED_MAX;

/// What a copy keeps durably besides its log: in which epoch the log was last brought in step with its
/// coordinator, and which members this server, as the coordinator of an epoch, has proposed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DurableState {
    /// The epoch of the last sync; later appends of it never shorten the log.
    pub synced: Epoch,
    /// The epoch of `proposed`.
    pub proposed_in: Epoch,
    /// Members that were proposed in `proposed_in`.
    pub proposed: Vec<Member>,
    /// The records are wrong: the copy is used no more, and is dropped as soon as no view counts it.
    pub failed: bool,
    /// Servers whose copies, with this one, were all found equal at some entry since this one was filled.
    pub equal_with: Vec<ServerId>,
}

/// A member as it is stored in a mark.
#[derive(Clone, Copy)]
struct StoredMember(Member);

impl Wire for StoredMember {
    fn write<S: Sink + ?Sized>(&self, out: &mut S) {
        self.0.server.write(out);
        self.0.store.write(out);
    }

    fn read(input: &mut Bytes) -> Result<Self, Malformed> {
        Ok(Self(Member { server: Wire::read(input)?, store: Wire::read(input)? }))
    }
}

struct StoredState {
    synced: Epoch,
    proposed_in: Epoch,
    proposed: Vec<StoredMember>,
}
wire_struct!(StoredState { synced, proposed_in, proposed });

impl DurableState {
    /// The bytes that the commit log keeps.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let proposed = self.proposed.iter().copied().map(StoredMember).collect();
        let mut out = Vec::new();
        StoredState { synced: self.synced, proposed_in: self.proposed_in, proposed }.write(&mut out);
        if self.failed || !self.equal_with.is_empty() {
            // Marks of older versions end before these fields.
            self.failed.write(&mut out);
            self.equal_with.write(&mut out);
        }
        out.into()
    }

    /// Asserts what must be true after every step.
    pub(super) fn invariants(&self) {
        let is_of_epoch = self.proposed.is_empty() || self.proposed_in > Epoch::default();
        assert!(is_of_epoch, "a member is proposed in no epoch");
        assert!(self.equal_with.len() <= COMPARED_MAX, "copies that are compared are bounded");
    }

    /// Reads what `encode` makes; no bytes are the mark of a new copy.
    ///
    /// # Errors
    /// When the bytes are something else.
    pub fn decode(mut bytes: Bytes) -> Result<Self, Malformed> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let StoredState { synced, proposed_in, proposed } = StoredState::read(&mut bytes)?;
        let proposed = proposed.into_iter().map(|member| member.0).collect();
        let (failed, equal_with) = match bytes.is_empty() {
            true => (false, Vec::new()),
            false => (bool::read(&mut bytes)?, Vec::from_wire(bytes)?),
        };
        Ok(Self { synced, proposed_in, proposed, failed, equal_with })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::ids::StoreId;

    #[test]
    fn a_mark_is_read_as_written_and_an_older_one_has_not_failed() {
        let synced = Epoch { generation: 1, version: 2 };
        let proposed = vec![Member { server: ServerId(3), store: StoreId(4) }];
        let old = DurableState { synced, proposed_in: synced, proposed, failed: false, equal_with: vec![] };
        let failed = DurableState { failed: true, ..old.clone() };
        let equal = DurableState { equal_with: vec![ServerId(3), ServerId(5)], ..old.clone() };
        for state in [&old, &failed, &equal] {
            assert_eq!(DurableState::decode(state.encode()), Ok(state.clone()));
        }
        assert!(old.encode().len() < failed.encode().len());
        assert!(DurableState::decode(failed.encode().slice(..5)).is_err());
        let end = equal.encode().len() - 1;
        assert!(DurableState::decode(equal.encode().slice(..end)).is_err());
    }
}
