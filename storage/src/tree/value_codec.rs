//! Keys and values as they lie in a tree.
//!
//! A caller's key gets the byte 1 before it; keys that begin with the byte 0 are the store's own.
//! A value gets the CRC-32C of its key and itself before it, so that a value at a wrong key is
//! noticed as well.

use crate::{LogId, Tag, log};
use bytes::Bytes;
use std::io::Read;

pub(super) const USER: u8 = 1;
/// Where the sealed position lies.
pub(super) const APPLIED_KEY: &[u8] = &[0, b'a'];
/// Where the state sealed with it lies.
pub(super) const STATE_KEY: &[u8] = &[0, b's'];
/// Before the number under which a key is listed as due.
const DUE: [u8; 2] = [0, b'e'];
/// Behind all of those.
pub(super) const DUE_END: &[u8] = &[0, b'f'];
pub(super) const CRC_BYTES: usize = 4;
/// Values up to this size are copied out of the cache's block instead of keeping it alive.
const COPIED_BYTES_MAX: usize = 4_096;

pub(super) fn user_key(key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + key.len());
    out.push(USER);
    out.extend_from_slice(key);
    out
}

/// Where it is listed that a key is due.
pub(super) fn due_key(at: u64, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(DUE.len() + 8 + key.len());
    out.extend_from_slice(&DUE);
    out.extend_from_slice(&at.to_be_bytes());
    out.extend_from_slice(key);
    out
}

/// Reads what [`due_key`] makes, without its first byte.
pub(super) fn decode_due(stored: &[u8]) -> Option<(u64, Bytes)> {
    let (at, key) = stored.strip_prefix(&DUE[1..])?.split_first_chunk()?;
    Some((u64::from_be_bytes(*at), Bytes::copy_from_slice(key)))
}

/// `key` is the key in the tree, with its first byte.
pub(super) fn seal_value(key: &[u8], value: &[u8]) -> lsm_tree::Slice {
    let crc = crc32c::crc32c_append(crc32c::crc32c(key), value).to_le_bytes();
    // Copied once, to where it stays.
    let stored = lsm_tree::Slice::from_reader(&mut crc.chain(value), CRC_BYTES + value.len());
    stored.expect("memory can be read to its end")
}

/// The value if it is the one that was written under this key.
pub(super) fn open_value(key: &[u8], stored: lsm_tree::Slice) -> Option<Bytes> {
    let (crc, value) = stored.split_at_checked(CRC_BYTES)?;
    if crc != crc32c::crc32c_append(crc32c::crc32c(key), value).to_le_bytes() {
        return None;
    }
    if value.len() <= COPIED_BYTES_MAX {
        Some(Bytes::copy_from_slice(value))
    } else {
        Some(Bytes::from_owner(stored).slice(CRC_BYTES..))
    }
}

pub(super) fn encode_applied(id: LogId) -> [u8; 20] {
    let mut out = [0; 20];
    out[..4].copy_from_slice(&id.tag.generation.to_le_bytes());
    out[4..12].copy_from_slice(&id.tag.version.to_le_bytes());
    out[12..].copy_from_slice(&id.seq.to_le_bytes());
    out
}

pub(super) fn decode_applied(bytes: &[u8]) -> Option<LogId> {
    (bytes.len() == 20).then(|| {
        let tag = Tag { generation: log::u32_at(bytes, 0), version: log::u64_at(bytes, 4) };
        LogId { tag, seq: log::u64_at(bytes, 12) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_opens_under_its_own_key_only() {
        for length in [0, 1, 4_096, 4_097, 100_000] {
            let value = vec![7; length];
            let stored = seal_value(b"\x01k", &value);
            assert_eq!(open_value(b"\x01k", stored.clone()).unwrap(), value);
            assert_eq!(open_value(b"\x01l", stored), None);
        }
        assert_eq!(open_value(b"k", lsm_tree::Slice::from(&b"abc"[..])), None);
    }

    #[test]
    fn due_keys_are_in_the_order_of_their_numbers_and_come_back() {
        let (early, late) = (due_key(255, b"zz"), due_key(256, b"a"));
        assert!(early < late && late.as_slice() < DUE_END && early.as_slice() > STATE_KEY.split_at(1).0);
        assert_eq!(decode_due(&late[1..]), Some((256, Bytes::from_static(b"a"))));
        assert_eq!(decode_due(b"e1234567"), None);
    }

    #[test]
    fn applied_comes_back() {
        let id = LogId { tag: Tag { generation: 3, version: u64::MAX }, seq: 1 << 40 };
        assert_eq!(decode_applied(&encode_applied(id)), Some(id));
        assert_eq!(decode_applied(&[0; 19]), None);
    }
}
