//! Writing to a socket from the core's thread: what fits into the socket's buffer leaves at once, without waking
//! anybody; the rest waits here, and the connection's task sends it when the socket takes more.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;

/// Bytes that stay allocated for an outlet that has nothing to send.
const KEPT_BYTES: usize = 64 << 10;

/// Bytes that one turn writes at most: others may wait for theirs.
const TURN_BYTES_MAX: usize = 1 << 20;

#[derive(Default)]
struct Pending {
    stream: Option<Arc<OwnedWriteHalf>>,
    bytes: Vec<u8>,
    sent: usize,
}

/// See the module's text. Shared by the driver and one task.
#[derive(Default)]
pub(crate) struct Outlet {
    pending: Mutex<Pending>,
    left: Notify,
}

impl Outlet {
    /// An outlet into a connected socket.
    pub(crate) fn open(stream: Arc<OwnedWriteHalf>) -> Self {
        let outlet = Self::default();
        outlet.connect(stream);
        outlet
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on bytes go to this socket; what waited for an earlier one is forgotten.
    pub(crate) fn connect(&self, stream: Arc<OwnedWriteHalf>) {
        *self.pending() = Pending { stream: Some(stream), ..Pending::default() };
    }

    /// Bytes go nowhere until the next [`Self::connect`].
    pub(crate) fn disconnect(&self) {
        *self.pending() = Pending::default();
    }

    /// Sends what `fill` appends, now or later. False if there is no socket, or more than `waiting_max` bytes wait
    /// already: then `fill` is not called.
    pub(crate) fn send(&self, waiting_max: usize, fill: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut pending = self.pending();
        if pending.stream.is_none() || pending.bytes.len() - pending.sent > waiting_max {
            return false;
        }
        let waited = !pending.bytes.is_empty();
        fill(&mut pending.bytes);
        // If something waits already, the task is at it; a broken socket is its business as well.
        if !waited && pending.write_some().is_ok_and(|all| all) {
            return true;
        }
        drop(pending);
        self.left.notify_one();
        true
    }

    /// Bytes that the socket has not taken yet.
    pub(crate) fn waiting(&self) -> usize {
        let pending = self.pending();
        pending.bytes.len() - pending.sent
    }

    /// The connection's task: sends what is left over, until the socket breaks.
    pub(crate) async fn drain(&self, stream: &OwnedWriteHalf) -> io::Error {
        loop {
            self.left.notified().await;
            loop {
                let written = self.pending().write_some();
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
    /// Forgets what is sent, when that is most of what there is: a link that always has something waiting would keep
    /// all that ever went over it.
    fn give_back(&mut self) {
        if self.sent >= KEPT_BYTES && self.sent * 2 >= self.bytes.len() {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Writes until all is sent (true), or the socket takes no more or [`TURN_BYTES_MAX`] are written.
    fn write_some(&mut self) -> io::Result<bool> {
        let Some(stream) = self.stream.clone() else { return Ok(true) };
        let turn = self.sent + TURN_BYTES_MAX;
        while self.sent < self.bytes.len() {
            if self.sent >= turn {
                self.give_back();
                return Ok(false);
            }
            let end = self.bytes.len().min(turn);
            match stream.try_write(&self.bytes[self.sent..end]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.give_back();
                    return Ok(false);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.sent = 0;
        self.bytes.clear();
        if self.bytes.capacity() > KEPT_BYTES {
            self.bytes = Vec::new();
        }
        Ok(true)
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
        let outlet = Outlet::open(Arc::clone(&stream));
        for part in 0..8_u8 {
            let sent = outlet.send(usize::MAX, |out| out.extend(std::iter::repeat_n(part, BYTES / 8)));
            assert!(sent);
        }
        assert!(!outlet.send(0, |_| panic!("too much waits already")));
        let mut received = vec![0; BYTES];
        tokio::select! {
            read = reader.read_exact(&mut received) => { read.unwrap(); }
            error = outlet.drain(&stream) => panic!("{error}"),
        }
        assert!(
            received.chunks(BYTES / 8).zip(0..).all(|(part, number)| part.iter().all(|byte| *byte == number))
        );
    }

    #[tokio::test]
    async fn what_is_sent_is_given_back_though_more_always_waits() {
        const PART_BYTES: usize = 256 << 10;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (_reading, stream) =
            TcpStream::connect(listener.local_addr().unwrap()).await.unwrap().into_split();
        let stream = Arc::new(stream);
        let (mut reader, _) = listener.accept().await.unwrap();
        let outlet = Outlet::open(Arc::clone(&stream));
        while outlet.waiting() < 4 * PART_BYTES {
            assert!(outlet.send(usize::MAX, |out| out.extend_from_slice(&[0; PART_BYTES])));
        }
        let mut received = vec![0; PART_BYTES];
        let traffic = async {
            for _ in 0..200 {
                reader.read_exact(&mut received).await.unwrap();
                assert!(outlet.send(usize::MAX, |out| out.extend_from_slice(&[0; PART_BYTES])));
                let pending = outlet.pending();
                assert!(pending.bytes.len() < 64 * PART_BYTES, "{} bytes are kept", pending.bytes.len());
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
