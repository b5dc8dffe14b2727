//! Just enough HTTP to ask an ECS.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use common::status::ClusterStatus;

use super::wait::SOON;

/// Asks for a path: the status code and the body.
///
/// # Errors
/// When there is no answer.
pub(crate) fn get(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(SOON))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut piece = [0; 16 << 10];
    // Not every server closes the connection after its answer.
    while !is_whole(&answer) {
        let read = stream.read(&mut piece)?;
        if read == 0 {
            break;
        }
        answer.extend_from_slice(&piece[..read]);
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    status.zip(body).ok_or_else(|| std::io::Error::other(format!("no HTTP answer: {answer}")))
}

/// An answer that says its length has come to its end.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    length.is_some_and(|length| answer.len() >= end + 4 + length)
}

/// What the ECS says of the cluster.
///
/// # Errors
/// When it does not answer.
pub(crate) fn status(ecs: SocketAddr) -> Result<ClusterStatus, String> {
    let (code, body) = get(ecs, "/api/v1/status").map_err(|error| error.to_string())?;
    let decoded = serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"));
    if code == 200 { decoded } else { Err(format!("{code} {body}")) }
}
