//! Frames of the binary links.
//!
//! A link begins with the four bytes of [`PREFACE`]; the first of them is no ASCII, so one byte is enough to separate
//! binary links from text and HTTP on the same port. Then frames:
//! `length: u32 | CRC-32C of the payload: u32 | payload`, little-endian, `length` bytes of payload.

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
    #[error("this is no Trefoil link")]
    Preface,
    /// The link is one of another version.
    #[error(
        "the link is of version {}, and this program speaks version {}: servers, ECS and clients must be of versions \
         that fit",
        char::from(*.0),
        char::from(PREFACE[3])
    )]
    Version(u8),
    /// A frame announces more bytes than are taken here: [`FRAME_BYTES_MAX`], or less where less is expected.
    #[error("a frame of {bytes} bytes is over the limit of {bytes_max}")]
    TooLong {
        /// Bytes of the payload that the header announces.
        bytes: usize,
        /// The limit that is in effect.
        bytes_max: usize,
    },
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
    let header = header_of([&out[start + HEADER_BYTES..]]);
    out[start..start + HEADER_BYTES].copy_from_slice(&header);
}

/// The header of a frame whose payload is these parts, one behind the other.
///
/// # Panics
/// When the payload is over [`FRAME_BYTES_MAX`]: senders split before that.
pub fn header_of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; HEADER_BYTES] {
    let (mut len, mut sum) = (0, 0);
    for part in parts {
        len += part.len();
        sum = crc32c::crc32c_append(sum, part);
    }
    assert!(len <= FRAME_BYTES_MAX, "a frame of {len} bytes");
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&u32::try_from(len).expect("below the limit").to_le_bytes());
    header[4..].copy_from_slice(&sum.to_le_bytes());
    header
}

/// Takes the preface from the front of `input`: `false` when more bytes are needed.
///
/// # Errors
/// When the bytes are something else.
pub fn take_preface(input: &mut BytesMut) -> Result<bool, FrameError> {
    let have = input.len().min(PREFACE.len());
    if input[..have] != PREFACE[..have] {
        let version =
            input.get(3).copied().filter(|byte| input[..3] == PREFACE[..3] && byte.is_ascii_alphanumeric());
        return Err(version.map_or(FrameError::Preface, FrameError::Version));
    }
    if have < PREFACE.len() {
        return Ok(false);
    }
    input.advance(PREFACE.len());
    Ok(true)
}

/// Takes a whole frame's payload from the front of `input`; `None` when more bytes are needed.
///
/// What a header announces is not allocated: `input` grows with what comes.
///
/// # Errors
/// When the frame is too long or damaged: the link cannot be read any further.
pub fn take_frame(input: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
    take_frame_up_to(input, FRAME_BYTES_MAX)
}

/// Like [`take_frame`], where no frame has more than `bytes_max` bytes of payload.
///
/// # Errors
/// When the frame is too long or damaged: the link cannot be read any further.
pub fn take_frame_up_to(input: &mut BytesMut, bytes_max: usize) -> Result<Option<Bytes>, FrameError> {
    let Some((header, _)) = input.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let [a, b, c, d, e, f, g, h] = *header;
    let bytes = u32::from_le_bytes([a, b, c, d]) as usize;
    let sum = u32::from_le_bytes([e, f, g, h]);
    if bytes > bytes_max {
        return Err(FrameError::TooLong { bytes, bytes_max });
    }
    if input.len() < HEADER_BYTES + bytes {
        return Ok(None);
    }
    input.advance(HEADER_BYTES);
    let payload = input.split_to(bytes).freeze();
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
        let refused = take_frame(&mut BytesMut::from(&giant[..]));
        assert_eq!(
            refused,
            Err(FrameError::TooLong { bytes: u32::MAX as usize, bytes_max: FRAME_BYTES_MAX })
        );
        let mut small = Vec::new();
        write_frame(&mut small, |out| out.extend_from_slice(b"four"));
        let refused = take_frame_up_to(&mut BytesMut::from(&small[..]), 3);
        assert_eq!(refused, Err(FrameError::TooLong { bytes: 4, bytes_max: 3 }));
        assert!(take_frame_up_to(&mut BytesMut::from(&small[..]), 4).unwrap().is_some());
    }

    #[test]
    fn announced_bytes_are_not_allocated() {
        let announced = (FRAME_BYTES_MAX as u32).to_le_bytes();
        let mut input = BytesMut::from(&[announced, [0; 4]].concat()[..]);
        assert_eq!(take_frame(&mut input), Ok(None));
        assert!(input.capacity() < 64, "{}", input.capacity());
    }

    #[test]
    fn the_preface_tells_links_from_text() {
        assert_eq!(take_preface(&mut BytesMut::from(&b"get k\r\n"[..])), Err(FrameError::Preface));
        assert_eq!(take_preface(&mut BytesMut::from(&PREFACE[..2])), Ok(false));
        let newer = [PREFACE[0], PREFACE[1], PREFACE[2], b'2'];
        assert_eq!(take_preface(&mut BytesMut::from(&newer[..])), Err(FrameError::Version(b'2')));
        let mut whole = BytesMut::from(&PREFACE[..]);
        assert_eq!(take_preface(&mut whole), Ok(true));
        assert!(whole.is_empty());
    }
}
