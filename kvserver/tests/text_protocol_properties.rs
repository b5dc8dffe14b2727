//! What holds of the text protocol for all bytes, however reads split them: those of `corpus/text`, then random ones.

use bytes::{Bytes, BytesMut};
use common::limits::KEY_BYTES_MAX;
use kvserver::protocol::text::{
    Dialect, LINE_END, TextAnswer, TextCommand, TextDecoder, TextProblem, TextRequest, encode, line_bytes_max,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Small, so that lines often pass them.
const LINE_BYTES_MAX: usize = 48;
const VALUE_BYTES_MAX: usize = 12;

type Found = Vec<Result<TextCommand, TextProblem>>;

/// Decodes reads of the given bytes.
fn decode<'a>(reads: impl Iterator<Item = &'a [u8]>) -> Found {
    let mut decoder = TextDecoder::new(LINE_BYTES_MAX, VALUE_BYTES_MAX);
    let (mut input, mut found) = (BytesMut::new(), Vec::new());
    for read in reads {
        input.extend_from_slice(read);
        found.extend(std::iter::from_fn(|| decoder.decode(&mut input)));
        assert!(input.len() <= LINE_BYTES_MAX, "{} bytes are kept", input.len());
    }
    found
}

/// Cuts bytes at some places.
fn cut<'a>(bytes: &'a [u8], cuts: &[Index]) -> impl Iterator<Item = &'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    let pairs: Vec<(usize, usize)> = places.windows(2).map(|pair| (pair[0], pair[1])).collect();
    pairs.into_iter().map(|(from, to)| &bytes[from..to])
}

/// Bytes that are nearly requests.
fn conversation() -> impl Strategy<Value = Vec<u8>> {
    let words = select(vec![
        "put",
        "PUT",
        "Put",
        "get",
        "GET",
        "delete",
        "DELETE",
        "keyrange",
        "KEYRANGE_READ",
        "ping",
        "null",
        "k",
        " ",
        " ",
        " ",
        "  ",
        "\r",
        "\n",
        "\r\n",
        "\r\n",
        "\n\r",
        "12345678901234567890",
        "quit",
        "*1",
        "\0",
        "\u{e4}",
    ]);
    let piece = prop_oneof![
        9 => words.prop_map(|word| word.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..40),
    ];
    vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

#[test]
fn the_corpus_is_borne() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/text");
    let mut files = 0;
    for entry in std::fs::read_dir(dir).expect("the corpus is there") {
        let bytes = std::fs::read(entry.expect("an entry").path()).expect("a file");
        let whole = decode(std::iter::once(&bytes[..]));
        for size in 1..=bytes.len().min(64) {
            assert_eq!(decode(bytes.chunks(size)), whole, "in parts of {size} bytes");
        }
        files += 1;
    }
    assert!(files >= 8, "{files} files");
}

fn no_line_end(byte: &u8) -> bool {
    !b"\r\n".contains(byte)
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    let byte = select((0..=u8::MAX).filter(|byte| *byte != b' ' && no_line_end(byte)).collect::<Vec<u8>>());
    prop_oneof![9 => vec(byte.clone(), 1..20), 1 => vec(byte, 1..=KEY_BYTES_MAX)]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let byte = select((0..=u8::MAX).filter(no_line_end).collect::<Vec<u8>>());
    vec(byte, 1..3000).prop_filter("trailing blanks are trimmed", |value| value.last() != Some(&b' '))
}

proptest! {
    #[test]
    fn splits_make_no_difference(bytes in conversation(), cuts in vec(any::<Index>(), 0..20)) {
        let whole = decode(std::iter::once(&bytes[..]));
        prop_assert_eq!(&whole, &decode(cut(&bytes, &cuts)));
        prop_assert_eq!(&whole, &decode(bytes.chunks(1)));
    }

    #[test]
    fn any_bytes_are_borne(bytes in vec(any::<u8>(), 0..2000), cuts in vec(any::<Index>(), 0..5)) {
        prop_assert_eq!(decode(std::iter::once(&bytes[..])), decode(cut(&bytes, &cuts)));
    }

    #[test]
    fn each_request_has_one_line_for_answer(bytes in conversation()) {
        for found in decode(std::iter::once(&bytes[..])) {
            let mut out = Vec::new();
            match found {
                Ok(TextCommand { request: TextRequest::Ping { .. } | TextRequest::Quit, .. }) => continue,
                Ok(command) => {
                    let reason = "a reason\r\nof two lines".to_owned();
                    encode(&command, &TextAnswer::Failed { reason }, &mut out);
                }
                Err(problem) => problem.encode(&mut out),
            }
            prop_assert!(out.ends_with(LINE_END));
            prop_assert_eq!(out.iter().filter(|byte| !no_line_end(byte)).count(), LINE_END.len());
        }
    }

    #[test]
    fn what_is_put_is_got(
        key in key(),
        value in value(),
        upper in any::<bool>(),
        end in select(vec!["\r", "\n", "\r\n", "\n\r", "  \r\n"]),
    ) {
        prop_assume!(!(upper && value == b"null"));
        let (dialect, verb) = if upper { (Dialect::Upper, "PUT") } else { (Dialect::Lower, "put") };
        let line = [verb.as_bytes(), b" ", &key, b" ", &value, end.as_bytes()].concat();
        let mut decoder = TextDecoder::new(line_bytes_max(value.len()), value.len());
        let found = decoder.decode(&mut BytesMut::from(&line[..]));
        let (key, value) = (Bytes::from(key), Bytes::from(value));
        let request = TextRequest::Put { key: key.clone(), value: value.clone() };
        prop_assert_eq!(found, Some(Ok(TextCommand { dialect, request })));

        let get = TextCommand { dialect, request: TextRequest::Get { key: key.clone() } };
        let mut out = Vec::new();
        encode(&get, &TextAnswer::Found(value.clone()), &mut out);
        let word: &[u8] = if upper { b"GET_SUCCESS" } else { b"get_success" };
        prop_assert_eq!(out, [word, b" ", &key, b" ", &value, LINE_END].concat());
    }
}
