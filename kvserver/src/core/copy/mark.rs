//! The small durable state of a copy besides its log.

use bytes::Bytes;
use common::codec::{Malformed, Wire};
use common::ids::Epoch;
use common::view::Member;
use common::wire_struct;

/// What a copy keeps durably besides its log: in which epoch the log was last brought in step with its
/// coordinator, and whom this server, as the coordinator of an epoch, has proposed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The epoch of the last sync; later appends of it never shorten the log.
    pub synced: Epoch,
    /// The epoch of `proposed`.
    pub proposed_in: Epoch,
    /// Members that were proposed in it.
    pub proposed: Vec<Member>,
}

/// A member as it is stored in a mark.
#[derive(Clone, Copy)]
struct StoredMember(Member);

impl Wire for StoredMember {
    fn write(&self, out: &mut Vec<u8>) {
        self.0.server.write(out);
        self.0.store.write(out);
    }

    fn read(input: &mut Bytes) -> Result<Self, Malformed> {
        Ok(Self(Member { server: Wire::read(input)?, store: Wire::read(input)? }))
    }
}

struct StoredMark {
    synced: Epoch,
    proposed_in: Epoch,
    proposed: Vec<StoredMember>,
}
wire_struct!(StoredMark { synced, proposed_in, proposed });

impl Mark {
    /// The bytes that the commit log keeps.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let proposed = self.proposed.iter().copied().map(StoredMember).collect();
        StoredMark { synced: self.synced, proposed_in: self.proposed_in, proposed }.to_wire()
    }

    /// Reads what `encode` makes; no bytes are the mark of a new copy.
    ///
    /// # Errors
    /// When the bytes are something else.
    pub fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let StoredMark { synced, proposed_in, proposed } = StoredMark::from_wire(bytes)?;
        Ok(Self { synced, proposed_in, proposed: proposed.into_iter().map(|member| member.0).collect() })
    }
}
