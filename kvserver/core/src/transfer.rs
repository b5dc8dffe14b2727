//! Copying a partition's state to a member that needs more than its coordinator's log has (J1), or that is empty and
//! joins a partition with a long log (`limits::COPY_FROM`). In the second case the log would do as well, but a copy is
//! shorter, and as sound at any base.
//!
//! The coordinator opens a consistent snapshot of its applied state and pins its log from there on. It sends the
//! snapshot in chunks, a window of them at a time and within the server's rate, unless an operator has paused copying.
//! The first chunks carry the state besides the records, the others the pairs. The pin moves on with what the member
//! acknowledges and ends when the member's acknowledgements count (`Progress::retained`). The member stages the chunks
//! beside what it has, makes the copy durable, and puts it in place of its log and records with one record of its
//! commit log. A crash in between leaves the old or the new one, never a mix. Writes go on all the while; the member
//! gets them from the log afterwards.

pub(crate) mod receiver;
pub(crate) mod sender;
