//! Bytes that nobody meant: the Redis protocol's decoder and session take anything, and always the same way.
//!
//! The files of `corpus/resp` are read first; random ones follow, made of pieces of the protocol.

use bytes::{Bytes, BytesMut};
use common::time::WallTime;
use kvserver::protocol::resp::{ClientFacts, Host, Kill, RespDecoder, Session, Step};
use proptest::collection::vec;
use proptest::prelude::*;

/// Bytes of a value, at most, in these tests.
const VALUE_BYTES_MAX: usize = 70_000;

struct Nobody;

impl Host for Nobody {
    fn now(&self) -> WallTime {
        WallTime(1)
    }

    fn me(&self) -> ClientFacts {
        ClientFacts::default()
    }

    fn set_me(&self, _: ClientFacts) {}

    fn clients(&self) -> Vec<ClientFacts> {
        Vec::new()
    }

    fn kill(&self, _: &Kill) -> usize {
        0
    }

    fn copies(&self) -> usize {
        2
    }
}

/// All commands, or those before the first problem, and the problem; the bytes come in parts.
fn decoded<'a>(parts: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<Bytes>>, Option<String>) {
    let mut decoder = RespDecoder::new(VALUE_BYTES_MAX);
    let (mut input, mut commands) = (BytesMut::new(), Vec::new());
    for part in parts {
        input.extend_from_slice(part);
        loop {
            match decoder.decode(&mut input) {
                Ok(true) => commands.push(decoder.words().to_vec()),
                Ok(false) => break,
                Err(problem) => return (commands, Some(problem.to_string())),
            }
        }
        decoder.release();
    }
    (commands, None)
}

/// Takes commands as a connection does: each gets a step, and bytes at most of one reply that is well formed.
fn taken(commands: &[Vec<Bytes>]) {
    let mut session = Session::default();
    for words in commands {
        let mut out = Vec::new();
        let step = session.take(words, &Nobody, &mut out);
        match step {
            Step::Done | Step::Close => {
                let begins = out.first().is_none_or(|byte| b"+-:$*_%~=,".contains(byte));
                assert!(
                    begins && (out.is_empty() || out.ends_with(b"\r\n")),
                    "{words:?}: {}",
                    out.escape_ascii()
                );
                if out.first() == Some(&b'-') {
                    let line = out.strip_suffix(b"\r\n").expect("looked at above");
                    assert!(!line.contains(&b'\n') && !line.contains(&b'\r'), "an error is one line");
                }
            }
            Step::Call(call) => assert!(out.is_empty() && call.len() < 2 * words.len().max(1)),
            Step::Wide(_) => assert!(out.is_empty()),
        }
    }
}

fn check(bytes: &[u8], size: usize) {
    let whole = decoded(std::iter::once(bytes));
    assert_eq!(decoded(bytes.chunks(size.max(1))), whole, "in parts of {size} bytes");
    taken(&whole.0);
}

/// Pieces of the protocol, whole and broken.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let names = [
        "GET", "SET", "MULTI", "EXEC", "HELLO", "CLIENT", "EVAL", "SCAN", "CONFIG", "INCRBY", "EXPIRE",
        "WATCH",
    ];
    let word = prop_oneof![
        proptest::sample::select(names.to_vec()).prop_map(|name| name.as_bytes().to_vec()),
        vec(any::<u8>(), 0..12),
        any::<i64>().prop_map(|number| number.to_string().into_bytes()),
        proptest::sample::select(vec!["EX", "NX", "GET", "KILL", "ID", "LIST", "3", "0", "IFEQ"])
            .prop_map(|word| word.as_bytes().to_vec()),
    ];
    let command = vec(word, 1..6).prop_map(|words| {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            bytes.extend_from_slice(&word);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    });
    prop_oneof![
        6 => command,
        1 => vec(any::<u8>(), 0..20),
        1 => any::<i64>().prop_map(|count| format!("*{count}\r\n").into_bytes()),
        1 => any::<i64>().prop_map(|length| format!("*1\r\n${length}\r\n").into_bytes()),
        1 => "[ -~]{0,30}\r\n".prop_map(String::into_bytes),
    ]
}

#[test]
fn the_corpus_is_taken() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/resp");
    let mut files = 0;
    for entry in std::fs::read_dir(dir).expect("the corpus is there") {
        let bytes = std::fs::read(entry.expect("an entry").path()).expect("a file");
        (1..=bytes.len().min(64)).for_each(|size| check(&bytes, size));
        files += 1;
    }
    assert!(files >= 8, "{files} files");
}

proptest! {
    #[test]
    fn anything_is_taken_in_the_same_way(
        pieces in vec(piece(), 0..12),
        size in 1_usize..40,
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut bytes = pieces.concat();
        check(&bytes, size);
        // The same with an end in the middle of something, and with one bit turned.
        if !bytes.is_empty() {
            let at = cut.index(bytes.len());
            check(&bytes[..at], size);
            bytes[at] ^= 1 << (size % 8);
            check(&bytes, size);
        }
    }
}
