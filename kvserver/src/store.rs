//! What a server has on its disk: its ids, its log and its trees, and what becomes of a store that failed.
//!
//! `identity` has the ids of the server and of its store, `new_store` gives a directory another identity. `log_writer`
//! is the log thread, and `syncs` how long its syncs take. `state_machine` is the state machine on the trees, and
//! `sealed` what it seals with their records. `spare` is room for small files on a full disk. `suspect` waits with a
//! store that failed, `quarantine` sets it aside, `reinstate` takes it back, and `inspect` shows what is in it.

pub(crate) mod identity;
pub(crate) mod inspect;
pub(crate) mod log_ids;
pub(crate) mod log_writer;
pub(crate) mod new_store;
pub(crate) mod quarantine;
mod records;
pub(crate) mod reinstate;
pub(crate) mod sealed;
mod spare;
pub(crate) mod state_machine;
pub(crate) mod suspect;
pub(crate) mod syncs;
