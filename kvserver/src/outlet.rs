//! Writing to a socket from the core's thread: what fits into the socket's buffer leaves at once, without waking
//! anybody; the rest waits here, and the connection's task sends it when the socket takes more. What waits is kept in
//! pieces, so that it takes no more memory than its bytes, and what is sent is given back.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;

use crate::gauge::Gauge;

/// Bytes that stay allocated for an outlet that has nothing to send.
const KEPT_BYTES: usize = 64 << 10;

/// A piece with so many bytes is not added to.
const PIECE_BYTES: usize = 256 << 10;

/// Bytes that one turn writes at most: others may wait for theirs.
const TURN_BYTES_MAX: usize = 1 << 20;

#[derive(Default)]
struct Pending {
    stream: Option<Arc<OwnedWriteHalf>>,
    /// What is to be sent, in order. Only the first one may be empty, and only if it is the last one.
    pieces: VecDeque<Vec<u8>>,
    /// Bytes of the first piece that are sent.
    sent: usize,
    /// Bytes of all pieces that are not sent.
    waiting: usize,
    /// Counts what waits here and elsewhere; `counted` is what it was told.
    gauge: Gauge,
    counted: usize,
}

/// See the module's text. Shared by the driver and one task.
#[derive(Default)]
pub(crate) struct Outlet {
    pending: Mutex<Pending>,
    left: Notify,
}

impl Outlet {
    /// An outlet into a connected socket. What waits in it is counted in `gauge`.
    pub(crate) fn open(stream: Arc<OwnedWriteHalf>, gauge: Gauge) -> Self {
        let outlet = Self::default();
        outlet.pending().gauge = gauge;
        outlet.connect(stream);
        outlet
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on bytes go to this socket; what waited for an earlier one is forgotten.
    pub(crate) fn connect(&self, stream: Arc<OwnedWriteHalf>) {
        self.pending().begin(Some(stream));
    }

    /// Bytes go nowhere until the next [`Self::connect`].
    pub(crate) fn disconnect(&self) {
        self.pending().begin(None);
    }

    /// Sends what `fill` appends, now or later. False if there is no socket, or more than `waiting_max` bytes wait
    /// already: then `fill` is not called.
    pub(crate) fn send(&self, waiting_max: usize, fill: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut pending = self.pending();
        if pending.stream.is_none() || pending.waiting > waiting_max {
            return false;
        }
        let waited = pending.waiting > 0;
        pending.fill(fill);
        // If something waits already, the task is at it; a broken socket is its business as well.
        if !waited && pending.write_some().is_ok_and(|all| all) {
            return true;
        }
        pending.count();
        pending.shrink();
        drop(pending);
        self.left.notify_one();
        true
    }

    /// Bytes that the socket has not taken yet.
    pub(crate) fn waiting(&self) -> usize {
        self.pending().waiting
    }

    /// The connection's task: sends what is left over, until the socket breaks.
    pub(crate) async fn drain(&self, stream: &OwnedWriteHalf) -> io::Error {
        loop {
            self.left.notified().await;
            loop {
                let written = {
                    let mut pending = self.pending();
                    let written = pending.write_some();
                    pending.count();
                    written
                };
                match written {
                    Ok(true) => break,
                    Ok(false) => {
                        if let Err(error) = stream.writable().await {
                            return error;
                        }
                    }
                    Err(error) => return error,
                }
            }
        }
    }
}

impl Pending {
    /// Begins anew with this socket, or none.
    fn begin(&mut self, stream: Option<Arc<OwnedWriteHalf>>) {
        (self.stream, self.pieces, self.sent, self.waiting) = (stream, VecDeque::new(), 0, 0);
        self.count();
    }

    /// Tells the gauge what waits.
    fn count(&mut self) {
        self.gauge.add(self.waiting);
        self.gauge.sub(std::mem::replace(&mut self.counted, self.waiting));
    }

    /// Lets the last piece, or a new one, be appended to.
    fn fill(&mut self, fill: impl FnOnce(&mut Vec<u8>)) {
        if self.pieces.back().is_none_or(|piece| piece.len() >= PIECE_BYTES) {
            self.pieces.push_back(Vec::new());
        }
        if let Some(piece) = self.pieces.back_mut() {
            let before = piece.len();
            fill(piece);
            self.waiting += piece.len() - before;
        }
    }

    /// Gives back what the last piece grew by in advance: it may wait for long.
    fn shrink(&mut self) {
        if let Some(piece) = self.pieces.back_mut()
            && piece.len() >= PIECE_BYTES
            && piece.capacity() > piece.len() + piece.len() / 4
        {
            piece.shrink_to_fit();
        }
    }

    /// The first piece is sent.
    fn pass(&mut self) {
        self.sent = 0;
        match self.pieces.front_mut() {
            Some(piece) if self.waiting == 0 && piece.capacity() <= KEPT_BYTES => piece.clear(),
            _ => _ = self.pieces.pop_front(),
        }
    }

    /// Writes until all is sent (true), or the socket takes no more or [`TURN_BYTES_MAX`] are written.
    fn write_some(&mut self) -> io::Result<bool> {
        let Some(stream) = self.stream.clone() else { return Ok(true) };
        let mut turn = TURN_BYTES_MAX;
        while self.waiting > 0 {
            if turn == 0 {
                return Ok(false);
            }
            let Some(piece) = self.pieces.front() else { break };
            let rest = &piece[self.sent..];
            let end = rest.len().min(turn);
            match stream.try_write(&rest[..end]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.sent += written;
                    self.waiting -= written;
                    turn -= written;
                    if written == rest.len() {
                        self.pass();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.gauge.sub(self.counted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn what_does_not_fit_is_sent_by_the_task_in_order() {
        const BYTES: usize = 8 << 20;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (_reading, stream) =
            TcpStream::connect(listener.local_addr().unwrap()).await.unwrap().into_split();
        let stream = Arc::new(stream);
        let (mut reader, _) = listener.accept().await.unwrap();
        let gauge = Gauge::default();
        let outlet = Outlet::open(Arc::clone(&stream), gauge.clone());
        for part in 0..8_u8 {
            let sent = outlet.send(usize::MAX, |out| out.extend(std::iter::repeat_n(part, BYTES / 8)));
            assert!(sent);
        }
        assert!(!outlet.send(0, |_| panic!("too much waits already")));
        assert!(outlet.waiting() > 0 && gauge.bytes() == outlet.waiting());
        let mut received = vec![0; BYTES];
        tokio::select! {
            read = reader.read_exact(&mut received) => { read.unwrap(); }
            error = outlet.drain(&stream) => panic!("{error}"),
        }
        assert!(
            received.chunks(BYTES / 8).zip(0..).all(|(part, number)| part.iter().all(|byte| *byte == number))
        );
        assert_eq!(gauge.bytes(), outlet.waiting());
        drop(outlet);
        assert_eq!(gauge.bytes(), 0);
    }

    #[tokio::test]
    async fn what_is_sent_is_given_back_though_more_always_waits() {
        const PART_BYTES: usize = 256 << 10;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (_reading, stream) =
            TcpStream::connect(listener.local_addr().unwrap()).await.unwrap().into_split();
        let stream = Arc::new(stream);
        let (mut reader, _) = listener.accept().await.unwrap();
        let outlet = Outlet::open(Arc::clone(&stream), Gauge::default());
        while outlet.waiting() < 4 * PART_BYTES {
            assert!(outlet.send(usize::MAX, |out| out.extend_from_slice(&[0; PART_BYTES])));
        }
        let mut received = vec![0; PART_BYTES];
        let traffic = async {
            for _ in 0..200 {
                reader.read_exact(&mut received).await.unwrap();
                assert!(outlet.send(usize::MAX, |out| out.extend_from_slice(&[0; PART_BYTES])));
                let pending = outlet.pending();
                let kept: usize = pending.pieces.iter().map(Vec::capacity).sum();
                assert!(kept < pending.waiting + 4 * PART_BYTES, "{kept} bytes are kept");
            }
        };
        tokio::select! {
            () = traffic => {}
            error = outlet.drain(&stream) => panic!("{error}"),
        }
    }

    #[tokio::test]
    async fn without_a_socket_nothing_is_kept() {
        assert!(!Outlet::default().send(usize::MAX, |_| panic!("there is no socket")));
    }
}
