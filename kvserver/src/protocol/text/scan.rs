//! Finding the end of a line.
//!
//! A CR and an LF each end a line. CRLF and LFCR need no rule of their own: the second byte ends an empty
//! line, and empty lines are skipped. So it does not matter whether the two arrive in one read.

/// Bytes that are looked at together: the compiler makes few vector instructions of them.
const CHUNK_BYTES: usize = 32;

/// Whether a byte ends a line.
pub(super) fn is_end(byte: u8) -> bool {
    (byte == b'\n') | (byte == b'\r')
}

/// Where the first line end is.
pub(super) fn find_end(bytes: &[u8]) -> Option<usize> {
    let (chunks, rest) = bytes.as_chunks::<CHUNK_BYTES>();
    // No early exit inside a chunk: that is what makes it one comparison of a whole chunk.
    let any = |chunk: &[u8; CHUNK_BYTES]| chunk.iter().fold(false, |any, &byte| any | is_end(byte));
    let (from, tail) = match chunks.iter().position(any) {
        Some(index) => (index * CHUNK_BYTES, &chunks[index][..]),
        None => (bytes.len() - rest.len(), rest),
    };
    tail.iter().position(|&byte| is_end(byte)).map(|at| from + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_found_at_every_place() {
        for len in 0..3 * CHUNK_BYTES {
            let mut bytes = vec![b'x'; len];
            assert_eq!(find_end(&bytes), None);
            for at in (0..len).rev() {
                bytes[at] = if at % 2 == 0 { b'\r' } else { b'\n' };
                assert_eq!(find_end(&bytes), Some(at), "of {len} bytes");
            }
        }
    }

    #[test]
    fn no_other_byte_ends_a_line() {
        let others: Vec<u8> = (0..=u8::MAX).filter(|&byte| byte != b'\r' && byte != b'\n').collect();
        assert_eq!(find_end(&others), None);
    }
}
