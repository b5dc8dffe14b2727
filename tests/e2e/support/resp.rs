//! A client of the Redis protocol: a plain socket, so that a test sees every byte's meaning.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::wait::SOON;

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Value {
    Simple(String),
    Error(String),
    Int(i64),
    Bulk(Vec<u8>),
    Null,
    Array(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Set(Vec<Value>),
    Verbatim(String),
    Other(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Simple(text) => write!(f, "+{text}"),
            Self::Error(text) => write!(f, "-{text}"),
            Self::Int(number) => write!(f, "{number}"),
            Self::Bulk(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
            Self::Null => write!(f, "(nil)"),
            Self::Array(values) | Self::Set(values) => {
                write!(f, "[")?;
                values.iter().try_for_each(|value| write!(f, " {value}"))?;
                write!(f, " ]")
            }
            Self::Map(pairs) => {
                write!(f, "{{")?;
                pairs.iter().try_for_each(|(key, value)| write!(f, " {key}: {value}"))?;
                write!(f, " }}")
            }
            Self::Verbatim(text) => write!(f, "={text}"),
            Self::Other(text) => write!(f, "?{text}"),
        }
    }
}

/// A connection.
pub(crate) struct RespClient {
    pub(crate) stream: TcpStream,
    reader: BufReader<TcpStream>,
}

/// A command as an array of bulk strings.
pub(crate) fn command<W: AsRef<[u8]>>(words: &[W]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        let word = word.as_ref();
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

impl RespClient {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream =
            TcpStream::connect(address).unwrap_or_else(|error| panic!("no way to {address}: {error}"));
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(SOON)).expect("a socket");
        let reader = BufReader::new(stream.try_clone().expect("a second handle"));
        Self { stream, reader }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the server reads");
    }

    /// The next reply; `None` at the end of the connection.
    pub(crate) fn try_reply(&mut self) -> std::io::Result<Option<Value>> {
        let mut line = Vec::new();
        if self.reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        let line = line.strip_suffix(b"\r\n").expect("a line ends with CRLF");
        let text = || String::from_utf8_lossy(&line[1..]).into_owned();
        let count = || text().parse::<i64>().expect("a number");
        Ok(Some(match line[0] {
            b'+' => Value::Simple(text()),
            b'-' => Value::Error(text()),
            b':' => Value::Int(count()),
            b'_' => Value::Null,
            b'$' | b'*' if count() < 0 => Value::Null,
            b'$' => Value::Bulk(self.bytes(count())?),
            b'=' => Value::Verbatim(String::from_utf8_lossy(&self.bytes(count())?[4..]).into_owned()),
            b'*' => Value::Array(self.values(count())?),
            b'~' => Value::Set(self.values(count())?),
            b'%' => {
                let flat = self.values(2 * count())?;
                Value::Map(flat.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect())
            }
            _ => Value::Other(String::from_utf8_lossy(line).into_owned()),
        }))
    }

    fn bytes(&mut self, count: i64) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(count).expect("a length") + 2];
        self.reader.read_exact(&mut bytes)?;
        bytes.truncate(bytes.len() - 2);
        Ok(bytes)
    }

    fn values(&mut self, count: i64) -> std::io::Result<Vec<Value>> {
        (0..count).map(|_| Ok(self.try_reply()?.expect("an element"))).collect()
    }

    pub(crate) fn reply(&mut self) -> Value {
        self.try_reply().expect("a reply in time").expect("a reply before the end")
    }

    pub(crate) fn ask<W: AsRef<[u8]>>(&mut self, words: &[W]) -> Value {
        self.send(command(words));
        self.reply()
    }

    /// A command whose words hold no blanks, and its reply as text.
    pub(crate) fn line(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.ask(&words).to_string()
    }

    /// The server has closed the connection, in order or not, and said nothing more.
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.reader.read(&mut [0; 1]) {
            Ok(bytes) => bytes == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}
