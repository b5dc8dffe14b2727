//! What other servers say is checked before it comes in, message by message and without regard to any state: what no server of
//! this version says is refused with its whole link.
//!
//! Entries matter most. Once an entry is in a log it cannot be got rid of, and a body that is no command, or a key that the
//! store does not take, would stop every server that applies it, at each start anew. What a message means is for the
//! core to judge; here is only whether it can mean anything.

use bytes::Bytes;
use common::codec::Wire;
use common::ids::{Epoch, LogId, ServerId};
use common::limits::VALUE_BYTES_MAX;
use common::messages::{Entry, PeerMessage, Run};
use common::operation::{Command, check_key};

use super::limits::COMPARED_MAX;
use super::state::decode_record;

/// Says what is wrong with a message, if something is.
///
/// # Errors
/// In words, for the log: there is no answer to a peer's message.
pub fn check_message(message: &PeerMessage) -> Result<(), String> {
    match message {
        PeerMessage::Append { epoch, prev, entries, .. } => {
            check_entries(*prev, entries, *epoch)?;
            entries.iter().try_for_each(check_body)
        }
        PeerMessage::SyncReply { epoch, base, last, runs, .. } => check_log(*epoch, *base, *last, runs),
        PeerMessage::SnapshotBegin { epoch, base, .. } => check_place(*base, *epoch),
        PeerMessage::SnapshotChunk { pairs, .. } => {
            pairs.iter().try_for_each(|(key, record)| check_pair(key, record))
        }
        PeerMessage::DigestReply { equal_with: servers, .. } | PeerMessage::Equal { servers, .. } => {
            check_servers(servers)
        }
        _ => Ok(()),
    }
}

/// Entries follow `prev` one by one, tags never go back, and another one can follow.
pub(crate) fn check_entries(prev: LogId, entries: &[Entry], epoch: Epoch) -> Result<(), String> {
    let mut before = prev;
    for Entry { id, .. } in entries {
        let follows = before.seq.0.checked_add(1) == Some(id.seq.0) && id.tag >= before.tag;
        if !follows || id.tag > epoch {
            return Err(format!("entry {id} behind {before} in epoch {epoch}"));
        }
        before = *id;
    }
    check_place(before, epoch)
}

fn check_place(id: LogId, epoch: Epoch) -> Result<(), String> {
    if id.tag > epoch {
        return Err(format!("entry {id} in epoch {epoch}"));
    }
    if id.seq.0 == u64::MAX { Err(format!("no entry can follow {id}")) } else { Ok(()) }
}

fn check_body(entry: &Entry) -> Result<(), String> {
    let command = Command::from_wire(entry.body.clone())
        .map_err(|error| format!("the body of entry {} is no command: {error}", entry.id))?;
    let checked = command.operation.check(VALUE_BYTES_MAX);
    checked.map_err(|error| format!("entry {} is no operation that anybody may ask for: {error}", entry.id))
}

/// A log begins after its base, its tags change in order, and the last one is that of its last entry.
fn check_log(epoch: Epoch, base: LogId, last: LogId, runs: &[Run]) -> Result<(), String> {
    check_place(last, epoch)?;
    let (mut tag, mut seq) = (base.tag, base.seq);
    for (index, run) in runs.iter().enumerate() {
        // The first run may have the tag of the base.
        let ascends = run.tag > tag || (index == 0 && run.tag == tag);
        if !ascends || run.first <= seq || run.first > last.seq {
            return Err(format!("a log from {base} to {last} with tag {} from {} on", run.tag, run.first));
        }
        (tag, seq) = (run.tag, run.first);
    }
    if last.seq < base.seq || last.tag != tag {
        return Err(format!("a log from {base} to {last} that ends with tag {tag}"));
    }
    Ok(())
}

fn check_pair(key: &Bytes, record: &Bytes) -> Result<(), String> {
    check_key(key).map_err(|error| format!("a copy of the state: {error}"))?;
    let found = decode_record(record.clone())
        .map_err(|error| format!("a copy of the state, key \"{}\": {error}", key.escape_ascii()))?;
    let bytes = found.value.len();
    if bytes > VALUE_BYTES_MAX {
        return Err(format!("a copy of the state, key \"{}\": a value of {bytes} bytes", key.escape_ascii()));
    }
    Ok(())
}

fn check_servers(servers: &[ServerId]) -> Result<(), String> {
    let count = servers.len();
    if count > COMPARED_MAX { Err(format!("{count} servers have copies of one partition")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::ids::{PartitionId, Seq};
    use common::operation::{Found, Operation};

    use super::super::state::encode_record;

    const EPOCH: Epoch = Epoch { generation: 0, version: 5 };

    fn id(tag: u64, seq: u64) -> LogId {
        LogId { tag: Epoch { generation: 0, version: tag }, seq: Seq(seq) }
    }

    fn body(operation: Operation) -> Bytes {
        Command { origin: None, stamp: Default::default(), operation }.to_wire()
    }

    fn append(bodies: &[Bytes]) -> PeerMessage {
        let entry =
            |(index, body): (usize, &Bytes)| Entry { id: id(3, index as u64 + 8), body: body.clone() };
        let entries = bodies.iter().enumerate().map(entry).collect();
        let (partition, epoch, prev, commit) = (PartitionId(0), EPOCH, id(2, 7), Seq(0));
        PeerMessage::Append { partition, epoch, sync: false, prev, commit, entries }
    }

    #[track_caller]
    fn refused(message: &PeerMessage, word: &str) {
        let reason = check_message(message).unwrap_err();
        assert!(reason.contains(word), "{reason}");
    }

    #[test]
    fn an_entry_is_a_command_that_may_be_asked_for() {
        let put = body(Operation::put("k", "v"));
        let compare = body(Operation::Compare { partition: PartitionId(3) });
        assert_eq!(check_message(&append(&[put.clone(), body(Operation::Tick {}), compare])), Ok(()));
        refused(&append(&[put.clone(), "garbage".into()]), "the body of entry 3.9 is no command");
        refused(&append(&[Bytes::new()]), "no command");
        refused(&append(&[put.slice(..put.len() - 1)]), "no command");
        refused(&append(&[body(Operation::put(vec![b'k'; 2000], "v"))]), "the key has 2000 bytes");
        refused(&append(&[body(Operation::put("", "v"))]), "the key is empty");
        refused(&append(&[body(Operation::put("k", vec![0; VALUE_BYTES_MAX + 1]))]), "the value has");
        let nested = Operation::Batch { checks: vec![], parts: vec![] };
        let batch = Operation::Batch { checks: vec![], parts: vec![common::operation::Part(nested)] };
        refused(&append(&[body(batch)]), "no command");
    }

    #[test]
    fn a_log_is_told_in_order() {
        let reply = |base, last, runs: &[(u64, u64)]| PeerMessage::SyncReply {
            partition: PartitionId(0),
            epoch: EPOCH,
            base,
            last,
            commit: Seq(0),
            runs: runs.iter().map(|&(tag, first)| Run { tag: id(tag, 0).tag, first: Seq(first) }).collect(),
        };
        assert_eq!(check_message(&reply(id(0, 0), id(0, 0), &[])), Ok(()));
        assert_eq!(check_message(&reply(id(2, 7), id(2, 7), &[])), Ok(()));
        assert_eq!(check_message(&reply(id(2, 7), id(4, 9), &[(2, 8), (4, 9)])), Ok(()));
        refused(&reply(id(2, 7), id(2, 6), &[]), "that ends");
        refused(&reply(id(2, 7), id(3, 9), &[]), "that ends");
        refused(&reply(id(2, 7), id(3, 9), &[(3, 9), (3, 9)]), "from 9 on");
        refused(&reply(id(2, 7), id(3, 9), &[(3, 9), (4, 8)]), "from 8 on");
        refused(&reply(id(2, 7), id(3, 9), &[(1, 8)]), "from 8 on");
        refused(&reply(id(2, 7), id(3, 9), &[(3, 7)]), "from 7 on");
        refused(&reply(id(2, 7), id(3, 9), &[(3, 10)]), "from 10 on");
        refused(&reply(id(2, 7), id(9, 9), &[(9, 8)]), "in epoch 5");
        refused(&reply(id(2, 7), id(3, u64::MAX), &[(3, 8)]), "no entry can follow");
    }

    #[test]
    fn a_copy_of_the_state_holds_records() {
        let chunk = |key: &[u8], record: Bytes| PeerMessage::SnapshotChunk {
            partition: PartitionId(0),
            epoch: EPOCH,
            transfer: 1,
            index: 0,
            state: Bytes::new(),
            pairs: vec![(Bytes::copy_from_slice(key), record)],
            done: false,
        };
        let record =
            |bytes| encode_record(&Found { value: vec![0; bytes].into(), version: id(1, 1), expires: None });
        assert_eq!(check_message(&chunk(b"k", record(3))), Ok(()));
        refused(&chunk(b"", record(3)), "the key is empty");
        refused(&chunk(&[b'k'; 1025], record(3)), "1025 bytes");
        refused(&chunk(b"k", record(3).slice(..20)), "key \"k\"");
        refused(&chunk(b"k", record(VALUE_BYTES_MAX + 1)), "a value of");
        let begin = |base| {
            let (partition, epoch) = (PartitionId(0), EPOCH);
            PeerMessage::SnapshotBegin { partition, epoch, transfer: 1, base }
        };
        assert_eq!(check_message(&begin(id(5, 9))), Ok(()));
        refused(&begin(id(6, 9)), "in epoch 5");
        refused(&begin(id(5, u64::MAX)), "no entry can follow");
    }

    #[test]
    fn few_servers_have_copies_of_a_partition() {
        let equal = |count: usize| PeerMessage::Equal {
            partition: PartitionId(0),
            epoch: EPOCH,
            at: id(1, 1),
            servers: (0..count).map(|server| ServerId(server as u128)).collect(),
        };
        assert_eq!(check_message(&equal(COMPARED_MAX)), Ok(()));
        refused(&equal(COMPARED_MAX + 1), "copies of one partition");
    }
}
