//! What the words of a line stand for.

use bytes::Bytes;
use common::codec::Wire;
use common::ids::{Epoch, LogId, ServerId, StoreId};
use common::messages::Entry;
use common::operation::{Command, Operation};
use common::time::WallTime;
use common::view::Member;

pub(super) fn server(text: &str) -> ServerId {
    ServerId(u128::from(u32::from(text.chars().next().expect("a server"))))
}

pub(super) fn servers(text: &str) -> Vec<ServerId> {
    text.chars().map(|letter| ServerId(u128::from(u32::from(letter)))).collect()
}

pub(super) fn member(server: ServerId) -> Member {
    Member { server, store: StoreId(server.0) }
}

pub(super) fn epoch(text: &str) -> Epoch {
    let (generation, version) = text.split_once('/').unwrap_or(("0", text));
    Epoch { generation: u32::try_from(number(generation)).expect("a generation"), version: number(version) }
}

pub(super) fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is no number"))
}

pub(super) fn place(text: &str) -> LogId {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is no place in a log"))
}

pub(super) fn put(key: &str, value: &str) -> Operation {
    Operation::put(key.to_owned(), value.to_owned())
}

/// `key=value` among the words.
pub(super) fn option<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

pub(super) fn entry(id: LogId) -> Entry {
    let operation = put("k", &format!("v{}", id.seq));
    let body: Bytes = Command { origin: None, stamp: WallTime(1), operation }.to_wire();
    Entry { id, body }
}
