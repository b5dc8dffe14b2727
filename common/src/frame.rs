//! Frames of the binary links.
//!
//! A link begins with the four bytes of [`PREFACE`]; the first of them is no ASCII, so one port tells binary
//! links from text and HTTP by one byte. Then frames: `length: u32 | CRC-32C of the payload: u32 | payload`,
//! little-endian, `length` bytes of payload.

use bytes::{Buf, Bytes, BytesMut};

use crate::limits::FRAME_BYTES_MAX;

/// The first bytes of a binary link: a byte that no text begins with, and the version.
pub const PREFACE: [u8; 4] = [0xf3, b'T', b'R', b'1'];

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 8;

/// Why a link cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The link does not begin with [`PREFACE`].
    #[error("this is no Trefoil link of version 1")]
    Preface,
    /// A frame announces more than [`FRAME_BYTES_MAX`] bytes.
    #[error("a frame of {0} bytes is over the limit of {FRAME_BYTES_MAX}")]
    TooLong(usize),
    /// The payload is not what was sent.
    #[error("a frame's checksum does not match its content")]
    Checksum,
}

/// Appends a frame whose payload `fill` writes.
///
/// # Panics
/// When the payload is over [`FRAME_BYTES_MAX`]: senders split before that.
pub fn write_frame(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    fill(out);
    let payload = &out[start + HEADER_BYTES..];
    assert!(payload.len() <= FRAME_BYTES_MAX, "a frame of {} bytes", payload.len());
    let len = u32::try_from(payload.len()).expect("below the limit");
    let sum = crc32c::crc32c(payload);
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
}

/// Takes the preface from the front of `input`: `false` when more bytes are needed.
///
/// # Errors
/// When the bytes are something else.
pub fn take_preface(input: &mut BytesMut) -> Result<bool, FrameError> {
    let have = input.len().min(PREFACE.len());
    if input[..have] != PREFACE[..have] {
        return Err(FrameError::Preface);
    }
    if have < PREFACE.len() {
        return Ok(false);
    }
    input.advance(PREFACE.len());
    Ok(true)
}

/// Takes a whole frame's payload from the front of `input`; `None` when more bytes are needed.
///
/// # Errors
/// When the frame is too long or damaged: the link cannot be read any further.
pub fn take_frame(input: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
    let Some((header, _)) = input.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let [a, b, c, d, e, f, g, h] = *header;
    let len = u32::from_le_bytes([a, b, c, d]) as usize;
    let sum = u32::from_le_bytes([e, f, g, h]);
    if len > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong(len));
    }
    if input.len() < HEADER_BYTES + len {
        // Room for the rest of this frame, but never more than its own length.
        input.reserve(HEADER_BYTES + len - input.len());
        return Ok(None);
    }
    input.advance(HEADER_BYTES);
    let payload = input.split_to(len).freeze();
    if crc32c::crc32c(&payload) == sum { Ok(Some(payload)) } else { Err(FrameError::Checksum) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in_byte_by_byte() {
        let mut wire = Vec::new();
        write_frame(&mut wire, |out| out.extend_from_slice(b"one"));
        write_frame(&mut wire, |_| ());
        let mut input = BytesMut::new();
        let mut frames = Vec::new();
        for byte in wire {
            input.extend_from_slice(&[byte]);
            frames.extend(take_frame(&mut input).unwrap());
        }
        assert_eq!(frames, [Bytes::from_static(b"one"), Bytes::new()]);
    }

    #[test]
    fn a_flipped_bit_and_a_giant_are_found() {
        let mut wire = Vec::new();
        write_frame(&mut wire, |out| out.extend_from_slice(b"payload"));
        wire[HEADER_BYTES] ^= 1;
        assert_eq!(take_frame(&mut BytesMut::from(&wire[..])), Err(FrameError::Checksum));
        let giant = [0xff; 8];
        assert!(matches!(take_frame(&mut BytesMut::from(&giant[..])), Err(FrameError::TooLong(_))));
    }

    #[test]
    fn the_preface_tells_links_from_text() {
        assert_eq!(take_preface(&mut BytesMut::from(&b"get k\r\n"[..])), Err(FrameError::Preface));
        assert_eq!(take_preface(&mut BytesMut::from(&PREFACE[..2])), Ok(false));
        let mut whole = BytesMut::from(&PREFACE[..]);
        assert_eq!(take_preface(&mut whole), Ok(true));
        assert!(whole.is_empty());
    }
}
