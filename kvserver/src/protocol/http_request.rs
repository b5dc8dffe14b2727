//! Requests of HTTP, which a web page may send to any port that its user can reach.

/// Whether a line is the first one of an HTTP request, by its ending. A web page could have chosen its words, and the
/// lines that follow.
pub(super) fn is_http_request(line: &[u8]) -> bool {
    let end = line.trim_ascii_end();
    let Some((_, version)) = end.split_last_chunk::<9>() else { return false };
    version.starts_with(b" HTTP/")
        && version[6].is_ascii_digit()
        && version[7] == b'.'
        && version[8].is_ascii_digit()
}
