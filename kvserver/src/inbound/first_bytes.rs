//! The protocol of a new connection, by its first word.

use bytes::BytesMut;
use common::stream::Stream;
use tokio::io::AsyncReadExt;

use crate::limits::FIRST_READ_BYTES;
use crate::protocol::resp;

/// Bytes of a first word that are looked at: no verb of either protocol is longer.
const WORD_BYTES_MAX: usize = 32;

/// Words that both protocols have, or that mean something else in the text protocol.
const TEXT_WORDS: [&[u8]; 4] = [b"get", b"put", b"ping", b"quit"];

/// A protocol of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    /// Redis'.
    Resp,
    /// The text protocol.
    Text,
}

/// Reads until the protocol is clear; returns it and the bytes that were read.
pub(super) async fn read(stream: &mut Stream) -> std::io::Result<(First, BytesMut)> {
    let mut input = BytesMut::with_capacity(FIRST_READ_BYTES);
    loop {
        // A word of nothing but blanks has no end, and is no word.
        let ended = input.len() >= FIRST_READ_BYTES || stream.read_buf(&mut input).await? == 0;
        if let Some(first) = of(&input) {
            return Ok((first, input));
        }
        if ended {
            return Ok((First::Text, input));
        }
    }
}

/// The protocol by the first bytes; `None` when there are too few.
fn of(input: &[u8]) -> Option<First> {
    if input.first()? == &b'*' {
        return Some(First::Resp);
    }
    let begin = input.iter().position(|byte| !byte.is_ascii_whitespace())?;
    let text = &input[begin..];
    let word = match text.iter().position(u8::is_ascii_whitespace) {
        Some(end) => &text[..end],
        None if text.len() > WORD_BYTES_MAX => return Some(First::Text),
        None => return None,
    };
    let is_text = TEXT_WORDS.iter().any(|known| known.eq_ignore_ascii_case(word));
    Some(if !is_text && resp::is_command(word) { First::Resp } else { First::Text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_tells_the_protocol() {
        for (input, first) in [
            ("*1\r\n", Some(First::Resp)),
            ("SET k v\r\n", Some(First::Resp)),
            ("info\n", Some(First::Resp)),
            ("put k v\r\n", Some(First::Text)),
            ("GET k\r\n", Some(First::Text)),
            ("PING\r\n", Some(First::Text)),
            ("DELETE k", Some(First::Text)),
            ("\r\n\r\nkeyrange\r\n", Some(First::Text)),
            ("frobnicate it", Some(First::Text)),
            ("", None),
            ("\r\n", None),
            ("se", None),
            ("put", None),
        ] {
            assert_eq!(of(input.as_bytes()), first, "{input:?}");
        }
        assert_eq!(of(&[b'x'; 99]), Some(First::Text));
    }
}
