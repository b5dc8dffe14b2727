//! Connections that come in: one port for everything. The first bytes decide: a binary link begins with a byte that
//! is no ASCII, a Redis client with `*` or with the name of one of its commands, everything else is text.

mod accept;
mod binary;
mod connection;
mod first_bytes;
mod in_flight;
mod intake;
mod links;
mod order;
mod permit;
mod principal;
mod reply_queue;
mod resp;
mod shared;
mod silent;
mod text;
mod window;

pub(crate) use self::accept::{ACCEPT_PAUSE, Port, accept};
pub(crate) use self::intake::{InputBudget, Intake};
pub(crate) use self::links::{next_frame, read_hello};
pub(crate) use self::resp::Registry;
pub(crate) use self::shared::Shared;
