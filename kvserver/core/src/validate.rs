//! Checks messages of other servers before they reach the core, each by itself and without regard to any state: a
//! message that no server of this version sends is refused, with its whole link.
//!
//! Entries matter most. An entry that is in a log cannot be removed, and a body that is no command, or a key that the
//! store does not take, would stop every server that applies it, at each start anew. The core judges what a message
//! means; this module only whether it is well-formed.

use bytes::Bytes;
use common::codec::Wire;
use common::ids::{Epoch, LogId, ServerId};
use common::leaps::incarnation_leaps;
use common::limits::VALUE_BYTES_MAX;
use common::messages::{Entry, PartitionMessage, PeerMessage, ProcessId, Run, ToCoordinator, ToReplica};
use common::operation::{Command, check_key};
use common::view::View;

use super::limits::COMPARED_MAX;
use super::state::decode_record;

/// Checks the sender of a hello. `view`: the newest one that is known here.
///
/// # Errors
/// The problem in words, for the log.
pub fn check_sender(view: Option<&View>, sender: ProcessId) -> Result<(), String> {
    // The incarnations of a server that is in no known view began at 1 as well.
    let known = view.and_then(|view| view.servers.get(&sender.server)).map(|info| info.incarnation);
    let known = known.unwrap_or_default();
    if incarnation_leaps(known, sender.incarnation) {
        let (server, said, known) = (sender.server, sender.incarnation.0, known.0);
        return Err(format!(
            "it says that it is start {said} of server {server}, and start {known} is the last that is known"
        ));
    }
    Ok(())
}

/// Checks a message of another server.
///
/// # Errors
/// The problem in words, for the log: there is no answer to a peer's message.
pub fn check_message(message: &PeerMessage) -> Result<(), String> {
    let PeerMessage::Partition { epoch, message, .. } = message else { return Ok(()) };
    match message {
        PartitionMessage::ToCoordinator(message) => check_to_coordinator(*epoch, message),
        PartitionMessage::ToReplica(message) => check_to_replica(*epoch, message),
    }
}

fn check_to_coordinator(epoch: Epoch, message: &ToCoordinator) -> Result<(), String> {
    match message {
        ToCoordinator::SyncReply { base, last, runs, .. } => check_log(epoch, *base, *last, runs),
        ToCoordinator::FetchReply { prev, entries } => check_commands(*prev, entries, epoch),
        ToCoordinator::DigestReply { equal_with: servers, .. } => check_servers(servers),
        ToCoordinator::Ahead { .. }
        | ToCoordinator::Ack { .. }
        | ToCoordinator::Gap { .. }
        | ToCoordinator::SnapshotAck { .. }
        | ToCoordinator::ReadIndex { .. } => Ok(()),
    }
}

fn check_to_replica(epoch: Epoch, message: &ToReplica) -> Result<(), String> {
    match message {
        ToReplica::Append { prev, entries, .. } => check_commands(*prev, entries, epoch),
        ToReplica::SnapshotBegin { base, .. } => check_place(*base, epoch),
        ToReplica::SnapshotChunk { pairs, .. } => {
            pairs.iter().try_for_each(|(key, record)| check_pair(key, record))
        }
        ToReplica::Equal { servers, .. } => check_servers(servers),
        ToReplica::SyncRequest {}
        | ToReplica::FetchRequest { .. }
        | ToReplica::ReadIndexReply { .. }
        | ToReplica::DigestRequest { .. }
        | ToReplica::Differs { .. }
        | ToReplica::TraceEntry { .. } => Ok(()),
    }
}

/// Checks that entries are commands that follow `prev`.
fn check_commands(prev: LogId, entries: &[Entry], epoch: Epoch) -> Result<(), String> {
    check_entries(prev, entries, epoch)?;
    entries.iter().try_for_each(check_body)
}

/// Checks that entries follow `prev` one by one, that tags never go back, and that another entry can follow.
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

/// Checks that a log begins after its base, that its tags change in order, and that its last tag is that of its last
/// entry.
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
    use common::ids::{ClusterId, Incarnation, Nonce, PartitionId, Seq, StoreId};
    use common::leaps::INCARNATION_LEAP_MAX;
    use common::operation::{Found, Operation};
    use common::ring::Partitions;
    use common::view::{ServerInfo, ServerState};

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
        ToReplica::Append { sync: None, prev, commit, entries }.about(partition, epoch)
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
        let reply = |base, last, runs: &[(u64, u64)]| {
            ToCoordinator::SyncReply {
                base,
                last,
                commit: Seq(0),
                runs: runs
                    .iter()
                    .map(|&(tag, first)| Run { tag: id(tag, 0).tag, first: Seq(first) })
                    .collect(),
            }
            .about(PartitionId(0), EPOCH)
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
        let chunk = |key: &[u8], record: Bytes| {
            ToReplica::SnapshotChunk {
                transfer: 1,
                index: 0,
                state: Bytes::new(),
                pairs: vec![(Bytes::copy_from_slice(key), record)],
                done: false,
            }
            .about(PartitionId(0), EPOCH)
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
            ToReplica::SnapshotBegin { transfer: 1, base }.about(partition, epoch)
        };
        assert_eq!(check_message(&begin(id(5, 9))), Ok(()));
        refused(&begin(id(6, 9)), "in epoch 5");
        refused(&begin(id(5, u64::MAX)), "no entry can follow");
    }

    #[test]
    fn who_says_hello_can_have_started_so_often() {
        let sender = |server, incarnation| ProcessId {
            server: ServerId(server),
            store: StoreId(1),
            incarnation: Incarnation(incarnation),
            nonce: Nonce(1),
        };
        let mut view = View::new(ClusterId(1), EPOCH, Partitions::default());
        let info = ServerInfo {
            store: StoreId(1),
            incarnation: Incarnation(7),
            nonce: Nonce(1),
            address: "127.0.0.1:1".to_owned(),
            weight: 1,
            state: ServerState::Up,
        };
        view.servers.insert(ServerId(1), info);
        for incarnation in [1, 7, 8, 7 + INCARNATION_LEAP_MAX] {
            assert_eq!(check_sender(Some(&view), sender(1, incarnation)), Ok(()));
        }
        assert!(check_sender(Some(&view), sender(1, 8 + INCARNATION_LEAP_MAX)).is_err());
        assert!(check_sender(Some(&view), sender(1, u64::MAX)).unwrap_err().contains("start 7"));
        assert_eq!(check_sender(Some(&view), sender(2, 1)), Ok(()), "it is new, or has left");
        assert!(check_sender(Some(&view), sender(2, u64::MAX)).is_err());
        assert_eq!(check_sender(None, sender(2, 1)), Ok(()));
        assert!(check_sender(None, sender(2, u64::MAX)).is_err());
    }

    #[test]
    fn few_servers_have_copies_of_a_partition() {
        let equal = |count: usize| {
            ToReplica::Equal {
                at: id(1, 1),
                servers: (0..count).map(|server| ServerId(server as u128)).collect(),
            }
            .about(PartitionId(0), EPOCH)
        };
        assert_eq!(check_message(&equal(COMPARED_MAX)), Ok(()));
        refused(&equal(COMPARED_MAX + 1), "copies of one partition");
    }
}
