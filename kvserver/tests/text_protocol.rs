//! Runs the golden scripts of the text protocol, `tests/scripts/text/*.txt`.
//!
//! A script's lines:
//!
//! ```text
//! # a comment
//! > put k v\r\n            bytes that arrive together; several `>` in a row are several reads
//! < put_success k\r\n      what has been answered since the last `<`, exactly; several in a row are joined
//! ! stopped                a directive, see `Directive`
//! ```
//!
//! `\r`, `\n`, `\t`, `\\` and `\xNN` stand for bytes, and `\{x*40}` for forty `x`. Behind the decoder is a map
//! instead of a cluster. Every script is run three times: with the reads as written, with one read where there
//! are several in a row, and with a read for each byte.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use common::ids::{ClusterId, Epoch, Incarnation, Nonce, ServerId, StoreId};
use common::ring::Partitions;
use common::view::{Assignment, Member, ServerInfo, ServerState, View};
use kvserver::protocol::text::{
    RangeLists, TextAnswer, TextCommand, TextDecoder, TextRequest, encode, line_bytes_max,
};

const VALUE_BYTES_MAX: usize = 200_000;

/// What `!` lines say.
enum Directive {
    /// `limits <line> <value>`: a new connection with these limits, in bytes.
    Limits(usize, usize),
    /// `serve`: answer from the map.
    Serve,
    /// `stopped`, `not_responsible`, `write_lock`, `failed <reason>`, `unknown <reason>`: answer so.
    Answer(TextAnswer),
    /// `store <key> <value>`: put into the map what this protocol could not.
    Store(Bytes, Bytes),
    /// `view A/BC B/A ...`: a coordinator and its replicas for each partition. Server A is at port 5001, B at
    /// 5002, and so on.
    View(Arc<View>),
    /// `closed` or `open`: whether the connection is to be closed by now.
    Closed(bool),
}

enum Step {
    Arrives(Vec<u8>),
    Answered(Vec<u8>),
    Directive(Directive),
}

#[derive(Clone, Copy, Debug)]
enum Reads {
    AsWritten,
    Joined,
    EachByte,
}

/// A connection with a map behind it.
struct Server {
    decoder: TextDecoder,
    input: BytesMut,
    out: Vec<u8>,
    map: BTreeMap<Bytes, Bytes>,
    lists: RangeLists,
    refusal: Option<TextAnswer>,
    closed: bool,
}

impl Server {
    fn new() -> Self {
        Self {
            decoder: TextDecoder::new(line_bytes_max(VALUE_BYTES_MAX), VALUE_BYTES_MAX),
            input: BytesMut::new(),
            out: Vec::new(),
            map: BTreeMap::new(),
            lists: RangeLists::new(view("")),
            refusal: None,
            closed: false,
        }
    }

    fn arrives(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        while let Some(found) = self.decoder.decode(&mut self.input) {
            match found {
                Ok(command) => {
                    let answer = self.answer(&command);
                    self.closed |= command.request == TextRequest::Quit;
                    encode(&command, &answer, &mut self.out);
                }
                Err(problem) => {
                    problem.encode(&mut self.out);
                    self.closed |= problem.closes();
                }
            }
        }
    }

    fn answer(&mut self, command: &TextCommand) -> TextAnswer {
        match &command.request {
            TextRequest::Ping { .. } => return TextAnswer::Pong,
            TextRequest::Quit => return TextAnswer::Bye,
            _ => {}
        }
        if let Some(refusal) = &self.refusal {
            return refusal.clone();
        }
        match &command.request {
            TextRequest::Put { key, value } => {
                TextAnswer::Written { replaced: self.map.insert(key.clone(), value.clone()).is_some() }
            }
            TextRequest::Get { key } => {
                self.map.get(key).map_or(TextAnswer::NotFound, |value| TextAnswer::Found(value.clone()))
            }
            TextRequest::Delete { key } => {
                self.map.remove(key).map_or(TextAnswer::NotFound, |_| TextAnswer::Deleted)
            }
            _ => self.lists.answer(command).expect("a command for ranges"),
        }
    }

    fn direct(&mut self, directive: &Directive) {
        match directive {
            Directive::Limits(line, value) => {
                self.decoder = TextDecoder::new(*line, *value);
                self.input.clear();
                self.closed = false;
            }
            Directive::Serve => self.refusal = None,
            Directive::Answer(answer) => self.refusal = Some(answer.clone()),
            Directive::Store(key, value) => {
                self.map.insert(key.clone(), value.clone());
            }
            Directive::View(view) => self.lists = RangeLists::new(Arc::clone(view)),
            Directive::Closed(closed) => assert_eq!(self.closed, *closed, "whether it is closed"),
        }
    }
}

fn view(text: &str) -> Arc<View> {
    let rows: Vec<&str> = text.split_whitespace().collect();
    let count = u32::try_from(rows.len().max(1)).expect("few partitions");
    let number = Epoch { generation: 0, version: 1 };
    let partitions = Partitions::try_from(count).expect("a power of two");
    let mut view = View::new(ClusterId(1), number, partitions);
    for row in rows {
        let servers: Vec<u8> = row.bytes().filter(u8::is_ascii_uppercase).collect();
        let member = |letter: u8| Member { server: ServerId(letter.into()), store: StoreId(letter.into()) };
        for &letter in &servers {
            let info = ServerInfo {
                store: member(letter).store,
                incarnation: Incarnation(1),
                nonce: Nonce(1),
                address: format!("127.0.0.1:{}", 5001 + u32::from(letter - b'A')),
                weight: 1,
                state: ServerState::Up,
            };
            view.servers.insert(member(letter).server, info);
        }
        view.assignments.push(Assignment {
            epoch: number,
            coordinator: member(servers[0]).server,
            in_sync: servers.iter().copied().map(member).collect(),
            joining: Vec::new(),
        });
    }
    view.check().expect("a valid view");
    Arc::new(view)
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = &rest[at + 1..];
        let mut len = 1;
        match escape.as_bytes()[0] {
            b'r' => bytes.push(b'\r'),
            b'n' => bytes.push(b'\n'),
            b't' => bytes.push(b'\t'),
            b'\\' => bytes.push(b'\\'),
            b'x' => {
                bytes.push(u8::from_str_radix(&escape[1..3], 16).expect("two hex digits"));
                len = 3;
            }
            b'{' => {
                let close = escape.find('}').expect("a }");
                let (byte, times) = escape[1..close].split_once('*').expect("a *");
                bytes.extend(unescape(byte).repeat(times.parse().expect("a number")));
                len = close + 1;
            }
            other => panic!("unknown escape {:?}", char::from(other)),
        }
        rest = &escape[len..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

fn directive(text: &str) -> Directive {
    let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
    let reason = || String::from_utf8(unescape(rest)).expect("text");
    let pair = || rest.split_once(' ').expect("two words");
    match verb {
        "limits" => {
            let (line, value) = pair();
            Directive::Limits(line.parse().expect("a number"), value.parse().expect("a number"))
        }
        "serve" => Directive::Serve,
        "stopped" => Directive::Answer(TextAnswer::Stopped),
        "not_responsible" => Directive::Answer(TextAnswer::NotResponsible),
        "write_lock" => Directive::Answer(TextAnswer::WriteLock),
        "failed" => Directive::Answer(TextAnswer::Failed { reason: reason() }),
        "unknown" => Directive::Answer(TextAnswer::Unknown { reason: reason() }),
        "store" => {
            let (key, value) = pair();
            Directive::Store(unescape(key).into(), unescape(value).into())
        }
        "view" => Directive::View(view(rest)),
        "closed" => Directive::Closed(true),
        "open" => Directive::Closed(false),
        other => panic!("unknown directive {other}"),
    }
}

fn parse(script: &str) -> Vec<(usize, Step)> {
    let step = |line: &str| match line.split_at_checked(2) {
        Some(("> ", bytes)) => Some(Step::Arrives(unescape(bytes))),
        Some(("< ", bytes)) => Some(Step::Answered(unescape(bytes))),
        Some(("! ", text)) => Some(Step::Directive(directive(text))),
        _ if line.is_empty() || line.starts_with('#') => None,
        _ => panic!("neither request nor reply nor directive: {line}"),
    };
    (1..).zip(script.lines()).filter_map(|(number, line)| Some((number, step(line)?))).collect()
}

fn run(name: &str, steps: &[(usize, Step)], reads: Reads) {
    let mut server = Server::new();
    let mut steps = steps.iter().peekable();
    while let Some((number, step)) = steps.next() {
        match step {
            Step::Arrives(bytes) => {
                let mut together = bytes.clone();
                while let (Reads::Joined, Some((_, Step::Arrives(more)))) = (reads, steps.peek()) {
                    together.extend_from_slice(more);
                    steps.next();
                }
                match reads {
                    Reads::EachByte => together.chunks(1).for_each(|byte| server.arrives(byte)),
                    Reads::AsWritten | Reads::Joined => server.arrives(&together),
                }
            }
            Step::Answered(bytes) => {
                let mut expected = bytes.clone();
                while let Some((_, Step::Answered(more))) = steps.peek() {
                    expected.extend_from_slice(more);
                    steps.next();
                }
                assert_eq!(
                    server.out.escape_ascii().to_string(),
                    expected.escape_ascii().to_string(),
                    "{name}:{number}, reads {reads:?}"
                );
                server.out.clear();
            }
            Step::Directive(directive) => server.direct(directive),
        }
    }
    assert!(server.out.is_empty(), "{name}: an answer that the script does not have: {:?}", server.out);
}

#[test]
fn golden_scripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts/text");
    let mut count = 0;
    for entry in fs::read_dir(&folder).expect("the scripts' folder") {
        let path = entry.expect("a folder's entry").path();
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        let steps = parse(&fs::read_to_string(&path).expect("a script"));
        for reads in [Reads::AsWritten, Reads::Joined, Reads::EachByte] {
            run(&name, &steps, reads);
        }
        count += 1;
    }
    assert!(count > 0, "no scripts in {}", folder.display());
}

#[test]
#[should_panic(expected = "wrong.txt:2")]
fn a_script_can_fail() {
    run("wrong.txt", &parse("> get k\\n\n< get_success k v\\r\\n\n"), Reads::AsWritten);
}
