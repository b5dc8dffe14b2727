//! Malformed bytes at the decoders of the binary links: frames, and the messages in them. They are refused, or
//! read as what `write` would make of it; nothing panics, and no length is believed before its bytes are there.

use bytes::{Bytes, BytesMut};
use common::codec::Wire;
use common::frame::{take_frame, take_preface, write_frame};
use common::ids::{ClientId, Nonce, PartitionId, RequestId, RequestNumber, Seq, ServerId};
use common::messages::{ClientMessage, Entry, PeerMessage, Request, ServerMessage, ToReplica};
use common::operation::{Command, Condition, Expiry, ExpiryCondition, Operation, Outcome, Part};
use proptest::collection::vec;
use proptest::prelude::*;

/// What is read is written again as the same bytes: no two encodings of one message.
fn check<T: Wire>(bytes: &Bytes) {
    let mut rest = bytes.clone();
    if let Ok(value) = T::read(&mut rest) {
        let read = &bytes[..bytes.len() - rest.len()];
        assert_eq!(value.to_wire(), read, "{}", read.escape_ascii());
    }
}

fn check_all(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    check::<PeerMessage>(&bytes);
    check::<ClientMessage>(&bytes);
    check::<ServerMessage>(&bytes);
    check::<Command>(&bytes);
    check::<Operation>(&bytes);
    check::<Outcome>(&bytes);
    let mut input = BytesMut::from(&bytes[..]);
    let _refused = take_preface(&mut input);
    while let Ok(Some(_)) = take_frame(&mut input) {}
    assert!(input.len() <= bytes.len());
}

fn operations() -> Vec<Operation> {
    let key = || Bytes::from("key");
    let add = Operation::Add { key: key(), by: -1 };
    let set = Operation::Set {
        key: key(),
        value: "value".into(),
        expiry: Expiry::In { ms: 7 },
        condition: Condition::NotValue { value: "old".into() },
        return_old: true,
    };
    let retime = Operation::Retime {
        key: key(),
        expiry: Expiry::Keep {},
        when: ExpiryCondition::Some {},
        condition: Condition::Present {},
        return_old: false,
    };
    let batch = Operation::Batch { checks: Vec::new(), parts: vec![Part(add.clone()), Part(set.clone())] };
    vec![Operation::put("k", "v"), add, set, retime, batch, Operation::Tick {}]
}

/// Good messages, to be spoilt.
fn messages() -> Vec<Bytes> {
    let command = |operation| Command { origin: None, stamp: Default::default(), operation };
    let entries: Vec<Entry> = operations()
        .into_iter()
        .map(|operation| Entry { id: Default::default(), body: command(operation).to_wire() })
        .collect();
    let append = ToReplica::Append {
        sync: Some(Nonce(7)),
        prev: Default::default(),
        commit: Default::default(),
        entries,
    }
    .about(PartitionId(3), Default::default());
    let scan = Request::Keys { partition: PartitionId(1), after: 5, limit: 9 };
    let request = RequestId { client: ClientId(1 << 100), number: RequestNumber(2) };
    let mut all = vec![
        append.to_wire(),
        PeerMessage::Forward { n: 1, request: scan.clone() }.to_wire(),
        ClientMessage { id: 1, request: scan }.to_wire(),
        ClientMessage { id: 2, request: Request::Trace { request } }.to_wire(),
        PeerMessage::TraceForward { n: 1, request }.to_wire(),
        ToReplica::TraceEntry { seq: Seq(4), request }.about(PartitionId(3), Default::default()).to_wire(),
        ServerId(7).to_wire(),
    ];
    all.extend(operations().into_iter().map(|operation| operation.to_wire()));
    all
}

#[test]
fn the_corpus_is_refused_or_read() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files = 0;
    for entry in std::fs::read_dir(dir).expect("the corpus is there") {
        let bytes = std::fs::read(entry.expect("an entry").path()).expect("a file");
        (0..=bytes.len()).for_each(|end| check_all(&bytes[..end]));
        files += 1;
    }
    assert!(files >= 4, "{files} files");
}

#[test]
fn every_cut_and_every_turned_bit_is_refused_or_read() {
    for message in messages() {
        (0..=message.len()).for_each(|end| check_all(&message[..end]));
        for bit in 0..8 * message.len() {
            let mut spoilt = message.to_vec();
            spoilt[bit / 8] ^= 1 << (bit % 8);
            check_all(&spoilt);
        }
    }
}

proptest! {
    #[test]
    fn anything_is_refused_or_read(bytes in vec(any::<u8>(), 0..200), tag in 0_u8..26) {
        check_all(&bytes);
        check_all(&[&[tag][..], &bytes].concat());
    }

    #[test]
    fn a_spoilt_frame_is_noticed(
        payload in vec(any::<u8>(), 1..100),
        at in any::<proptest::sample::Index>(),
        bit in 0_u32..8,
    ) {
        let mut wire = Vec::new();
        write_frame(&mut wire, |out| out.extend_from_slice(&payload));
        let at = at.index(wire.len());
        wire[at] ^= 1_u8 << bit;
        // Another length may make the decoder wait for more; no frame is accepted.
        let taken = take_frame(&mut BytesMut::from(&wire[..]));
        prop_assert!(!matches!(taken, Ok(Some(_))), "{taken:?}");
    }
}
