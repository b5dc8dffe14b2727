//! The text protocol: one request per line, in two dialects that the family's clients speak.
//!
//! The case of a request's verb chooses the dialect, request by request: `put k v` is answered `put_success k`, and
//! `PUT k v` is answered `PUT_SUCCESS k v`. `docs/text-protocol.md` describes what can be sent and what comes back.
//!
//! The way of a request: [`TextDecoder::decode`] cuts a line off the bytes that have arrived and reads it as a
//! [`TextCommand`], or finds a [`TextProblem`] with the line that answers it. The server carries the command out, keeps
//! it, and gives it with a [`TextAnswer`] to [`encode`].
//!
//! Invariants:
//! - The same bytes give the same commands and problems, however the reads split them.
//! - Keys and values are slices of the bytes that arrived; a request allocates nothing of its own.
//! - No more than the longest line is kept, and no byte is searched twice for a line's end.
//! - An answer is one line: text from elsewhere that has a line end inside is never written into one.
//! - `get_error`, `GET_ERROR`, `delete_error` and `DELETE_ERROR` mean that there is no such key, nothing else.
//!   A read or delete that failed is an `error` or `FAILED` line.
//!
//! Lacking on purpose: an order of answers (they are encoded in the order in which the server calls), and
//! every Redis command but the inline `PING` and `QUIT`.

mod decoder;
mod encode;
mod parse;
mod problem;
mod ranges;
mod scan;
mod types;

pub use decoder::{SKIPPED_BYTES_MAX, TextDecoder, line_bytes_max};
pub use encode::{LINE_END, SHARED_BYTES_MIN, TextAnswer, encode, encode_parts, greeting};
pub use problem::{TextProblem, Wrong};
pub use ranges::{RangeKind, RangeLists, range_list};
pub use types::{Dialect, TextCommand, TextRequest};
