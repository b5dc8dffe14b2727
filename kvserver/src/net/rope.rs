//! Bytes to be sent, in pieces: small ones are copied behind each other, large ones (values) stay where they are. So an
//! answer is not assembled before it leaves, and a value that many clients ask for is in memory once.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;
use common::codec::Sink;
use common::frame::{HEADER_BYTES, header_of};

/// Bytes from which on a piece is kept instead of copied: a piece of its own costs less than the copy then.
const SHARED_BYTES_MIN: usize = 16 << 10;

/// Bytes of a piece from which on nothing more is appended to it.
const PIECE_BYTES: usize = 256 << 10;

/// Bytes that stay allocated for a rope that is empty.
const KEPT_BYTES: usize = 64 << 10;

/// Pieces that one write to a socket takes, at most.
pub(crate) const SLICES_MAX: usize = 16;

#[derive(Debug)]
enum Piece {
    Own(Vec<u8>),
    Shared(Bytes),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// Bytes to be sent, in pieces: small ones are copied behind each other, large ones are shared.
#[derive(Debug, Default)]
pub(crate) struct Rope {
    /// Only the first piece may be empty, and only if it is the last one.
    pieces: VecDeque<Piece>,
    /// Bytes of the first piece that are taken.
    taken: usize,
    len: usize,
}

impl Rope {
    /// Bytes that are left.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Lets copies be appended to the last piece, or to a new one.
    fn own(&mut self) -> &mut Vec<u8> {
        let fits = matches!(self.pieces.back(), Some(Piece::Own(bytes)) if bytes.len() < PIECE_BYTES);
        if !fits {
            self.pieces.push_back(Piece::Own(Vec::new()));
        }
        match self.pieces.back_mut() {
            Some(Piece::Own(bytes)) => bytes,
            _ => unreachable!("it was looked at, or appended, above"),
        }
    }

    /// Appends another rope.
    pub(crate) fn append(&mut self, other: Self) {
        let Self { pieces, mut taken, .. } = other;
        for piece in pieces {
            match piece {
                Piece::Own(bytes) if bytes.len() < SHARED_BYTES_MIN => self.put(&bytes[taken..]),
                Piece::Own(bytes) => self.share(&Bytes::from(bytes).slice(taken..)),
                Piece::Shared(bytes) => self.share(&bytes.slice(taken..)),
            }
            taken = 0;
        }
    }

    /// Appends a frame whose payload `fill` appends.
    ///
    /// # Panics
    /// As [`header_of`].
    pub(crate) fn frame(&mut self, fill: impl FnOnce(&mut Self)) {
        let begin = self.own().len();
        let piece = self.pieces.len() - 1;
        self.put(&[0; HEADER_BYTES]);
        fill(self);
        let parts = self.pieces.iter().skip(piece).enumerate().map(|(at, piece)| {
            let skipped = if at == 0 { begin + HEADER_BYTES } else { 0 };
            &piece.bytes()[skipped..]
        });
        let header = header_of(parts);
        if let Some(Piece::Own(bytes)) = self.pieces.get_mut(piece) {
            bytes[begin..begin + HEADER_BYTES].copy_from_slice(&header);
        }
    }

    /// The next bytes, up to `bytes_max`, in a few slices.
    pub(crate) fn slices(&self, bytes_max: usize) -> ([IoSlice<'_>; SLICES_MAX], usize) {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let (mut left, mut skipped, mut count) = (bytes_max, self.taken, 0);
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            let bytes = &piece.bytes()[std::mem::take(&mut skipped)..];
            if left == 0 || bytes.is_empty() {
                break;
            }
            let bytes = &bytes[..bytes.len().min(left)];
            left -= bytes.len();
            *slice = IoSlice::new(bytes);
            count += 1;
        }
        (slices, count)
    }

    /// Takes bytes off the front, and gives their memory back.
    pub(crate) fn advance(&mut self, mut bytes: usize) {
        self.len -= bytes;
        loop {
            let is_last = self.pieces.len() == 1;
            let Some(first) = self.pieces.front_mut() else { return };
            let left = first.bytes().len() - self.taken;
            if bytes < left {
                self.taken += bytes;
                return;
            }
            bytes -= left;
            self.taken = 0;
            match first {
                Piece::Own(own) if is_last && own.capacity() <= KEPT_BYTES => {
                    own.clear();
                    return;
                }
                _ => _ = self.pieces.pop_front(),
            }
        }
    }

    /// Frees the unused capacity of the last piece, as it may wait for long.
    pub(crate) fn shrink(&mut self) {
        if let Some(Piece::Own(piece)) = self.pieces.back_mut()
            && piece.len() >= PIECE_BYTES
            && piece.capacity() > piece.len() + piece.len() / 4
        {
            piece.shrink_to_fit();
        }
    }

    /// All of it, copied together.
    #[cfg(test)]
    pub(crate) fn to_vec(&self) -> Vec<u8> {
        let all: Vec<u8> = self.pieces.iter().flat_map(Piece::bytes).copied().collect();
        all[self.taken..].to_vec()
    }

    /// Bytes that are allocated for copies.
    #[cfg(test)]
    pub(crate) fn own_bytes(&self) -> usize {
        let own = |piece: &Piece| match piece {
            Piece::Own(bytes) => bytes.capacity(),
            Piece::Shared(_) => 0,
        };
        self.pieces.iter().map(own).sum()
    }
}

impl From<Vec<u8>> for Rope {
    fn from(bytes: Vec<u8>) -> Self {
        Self { len: bytes.len(), pieces: VecDeque::from([Piece::Own(bytes)]), taken: 0 }
    }
}

impl Sink for Rope {
    fn put(&mut self, bytes: &[u8]) {
        self.own().extend_from_slice(bytes);
        self.len += bytes.len();
    }

    fn share(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARED_BYTES_MIN {
            return self.put(bytes);
        }
        if self.is_empty() {
            self.pieces.clear();
        }
        self.pieces.push_back(Piece::Shared(bytes.clone()));
        self.len += bytes.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use common::frame::take_frame;

    fn sample() -> (Rope, Vec<u8>) {
        let large = Bytes::from((0..SHARED_BYTES_MIN + 100).map(|at| at as u8).collect::<Vec<u8>>());
        let mut rope = Rope::default();
        let mut flat = Vec::new();
        for _ in 0..3 {
            rope.put(b"head");
            flat.put(b"head");
            rope.share(&large);
            flat.share(&large);
            rope.share(&large.slice(..10));
            flat.share(&large.slice(..10));
        }
        (rope, flat)
    }

    #[test]
    fn large_bytes_are_shared_and_all_come_out_in_order() {
        let (mut rope, flat) = sample();
        assert_eq!((rope.to_vec(), rope.len()), (flat.clone(), flat.len()));
        assert!(rope.own_bytes() < 200, "{} bytes were copied", rope.own_bytes());
        let mut out = Vec::new();
        while !rope.is_empty() {
            let (slices, count) = rope.slices(5000);
            let some: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter()).copied().collect();
            assert!(!some.is_empty() && some.len() <= 5000);
            // A socket may take less than it is given.
            let took = (some.len() / 2).max(1);
            out.extend_from_slice(&some[..took]);
            rope.advance(took);
        }
        assert!(out == flat);
        rope.put(b"again");
        assert_eq!(rope.to_vec(), b"again");
    }

    proptest::proptest! {
        #[test]
        fn what_goes_in_comes_out_however_it_is_written_and_taken(
            steps in proptest::collection::vec((0..3_u8, 0..3 * SHARED_BYTES_MIN), 1..40)
        ) {
            let (mut rope, mut flat, mut out) = (Rope::default(), Vec::new(), Vec::new());
            let mut take = |rope: &mut Rope, bytes| {
                let (slices, count) = rope.slices(bytes);
                let some: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter()).copied().collect();
                assert!(some.is_empty() == (bytes == 0 || rope.is_empty()) && some.len() <= bytes);
                rope.advance(some.len());
                out.extend_from_slice(&some);
            };
            for (at, (step, bytes)) in steps.into_iter().enumerate() {
                let more = Bytes::from(vec![at as u8; bytes]);
                match step {
                    0 => rope.put(&more),
                    1 => rope.share(&more),
                    _ => take(&mut rope, bytes),
                }
                if step < 2 {
                    flat.extend_from_slice(&more);
                }
            }
            while !rope.is_empty() {
                take(&mut rope, usize::MAX);
            }
            proptest::prop_assert!(out == flat);
        }
    }

    #[test]
    fn a_rope_is_appended_without_copying_what_is_large() {
        let (mut rope, mut flat) = sample();
        let (mut more, _) = sample();
        more.advance(7);
        flat.extend_from_slice(&more.to_vec());
        rope.append(more);
        assert!(rope.to_vec() == flat && rope.len() == flat.len() && rope.own_bytes() < 400);
    }

    #[test]
    fn a_frame_of_pieces_is_a_frame() {
        let mut rope = Rope::default();
        rope.put(b"before");
        let (parts, flat) = sample();
        rope.frame(|out| out.append(parts));
        rope.frame(|_| ());
        let mut wire = BytesMut::from(&rope.to_vec()[6..]);
        assert!(take_frame(&mut wire).unwrap().unwrap() == flat);
        assert_eq!(take_frame(&mut wire), Ok(Some(Bytes::new())));
        assert!(wire.is_empty());
    }
}
