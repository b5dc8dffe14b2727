//! A client of the text protocol: a plain socket and lines, as an old client or `nc` would use it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use common::ring::Position;

use super::wait::SOON;

/// A connection. Lines are bytes, shown as ISO-8859-1.
pub(crate) struct TextClient {
    pub(crate) stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl TextClient {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"))
    }

    /// # Errors
    /// The system's.
    pub(crate) fn try_connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SOON))?;
        let reader = BufReader::new(stream.try_clone()?);
        Ok(Self { stream, reader })
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the server reads");
    }

    /// The next line, without its CRLF; `None` at the end of the connection.
    ///
    /// # Errors
    /// The system's: a time-out, a reset.
    pub(crate) fn try_line(&mut self) -> std::io::Result<Option<String>> {
        let mut line = Vec::new();
        if self.reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        let text: String = line.iter().copied().map(char::from).collect();
        Ok(Some(text.strip_suffix("\r\n").unwrap_or_else(|| panic!("no CRLF: {text:?}")).to_owned()))
    }

    pub(crate) fn line(&mut self) -> String {
        self.try_line().expect("an answer in time").expect("an answer before the end")
    }

    /// Sends a line and reads one.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn try_ask(&mut self, line: &str) -> std::io::Result<String> {
        self.stream.write_all(format!("{line}\r\n").as_bytes())?;
        self.try_line()?.ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
    }

    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.try_ask(line).unwrap_or_else(|error| panic!("{line:.80}: {error}"))
    }

    /// The server has closed the connection, in order or not, and said nothing more.
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.reader.read(&mut [0; 1]) {
            Ok(bytes) => bytes == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// A triple of a list of ranges: both ends belong to it, and it may wrap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) first: u128,
    pub(crate) last: u128,
    pub(crate) server: SocketAddr,
}

impl Range {
    pub(crate) fn contains(&self, key: &str) -> bool {
        let position = Position::of_key(key.as_bytes()).0;
        if self.first <= self.last {
            (self.first..=self.last).contains(&position)
        } else {
            position >= self.first || position <= self.last
        }
    }
}

/// Reads `<word> <from>,<to>,<ip:port>;...`.
pub(crate) fn ranges(reply: &str, word: &str) -> Vec<Range> {
    let list = reply.strip_prefix(word).and_then(|rest| rest.strip_prefix(' '));
    let list =
        list.and_then(|list| list.strip_suffix(';')).unwrap_or_else(|| panic!("no {word}: {reply:.200}"));
    let position = |text: &str| {
        let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        assert!(text.len() == 32 && text.bytes().all(lower_hex), "no position: {text}");
        u128::from_str_radix(text, 16).expect("hex digits")
    };
    let range = |triple: &str| {
        let parts: Vec<&str> = triple.split(',').collect();
        let [first, last, server] = parts[..] else { panic!("no triple: {triple}") };
        Range {
            first: position(first),
            last: position(last),
            server: server.parse().unwrap_or_else(|error| panic!("{triple}: {error}")),
        }
    };
    list.split(';').map(range).collect()
}
