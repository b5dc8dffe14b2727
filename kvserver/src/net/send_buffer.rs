//! Writing to a socket from the core's thread: what fits into the socket's buffer leaves at once, without waking a
//! task; the rest waits here, and the connection's task sends it when the socket takes more, some at a time, so that no
//! socket delays others.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::stream::WriteHalf;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::timeout;

use crate::limits::{CLIENTS_OPEN_BYTES_MAX, STALLED_FOR};
use crate::net::byte_counter::ByteCounter;
use crate::net::rope::Rope;

/// Bytes that one turn writes, at most: other sockets may wait for theirs.
const TURN_BYTES_MAX: usize = 128 << 10;

#[derive(Default)]
struct Pending {
    stream: Option<Arc<WriteHalf>>,
    /// Without a socket: one is expected, and bytes wait for it.
    expects: bool,
    rope: Rope,
    /// Counts the bytes that wait here and elsewhere; `counted` is the part of this buffer.
    counter: ByteCounter,
    counted: usize,
}

/// Bytes that a socket has not taken yet. Shared by the driver and the task of the connection.
#[derive(Default)]
pub(crate) struct SendBuffer {
    pending: Mutex<Pending>,
    left: Notify,
    /// Notified when what was left over is sent.
    emptied: Notify,
}

/// The result of a turn of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrote {
    All,
    /// The socket may take more.
    Turn,
    /// The socket takes no more.
    Full,
}

impl SendBuffer {
    /// A buffer of a connected socket. What waits in it is counted in `counter`.
    pub(crate) fn open(stream: Arc<WriteHalf>, counter: ByteCounter) -> Self {
        let send_buffer = Self::default();
        send_buffer.pending().counter = counter;
        send_buffer.connect(stream);
        send_buffer
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes bytes go to this socket; what waited for an earlier one is dropped.
    pub(crate) fn connect(&self, stream: Arc<WriteHalf>) {
        self.pending().begin(Some(stream), false);
    }

    /// Drops bytes until the next [`Self::connect`].
    pub(crate) fn disconnect(&self) {
        self.pending().begin(None, false);
    }

    /// Lets bytes wait for a socket that is not there yet. What waited is dropped.
    pub(crate) fn expect(&self) {
        self.pending().begin(None, true);
    }

    /// Gives the buffer the socket that was expected: what has waited is sent.
    pub(crate) fn attach(&self, stream: Arc<WriteHalf>) {
        self.pending().stream = Some(stream);
        self.left.notify_one();
    }

    /// Waits until bytes wait for the socket that is expected.
    pub(crate) async fn wanted(&self) {
        while self.waiting() == 0 {
            self.left.notified().await;
        }
    }

    /// Sends what `fill` appends, now or later. Returns `false` if there is no socket, or more than `waiting_max` bytes
    /// wait already: then `fill` is not called.
    pub(crate) fn send(&self, waiting_max: usize, fill: impl FnOnce(&mut Rope)) -> bool {
        let mut pending = self.pending();
        if (pending.stream.is_none() && !pending.expects) || pending.rope.len() > waiting_max {
            return false;
        }
        let waited = !pending.rope.is_empty();
        fill(&mut pending.rope);
        // If bytes wait already, the task sends them; it also handles a broken socket.
        if !waited && pending.write_some().is_ok_and(|wrote| wrote == Wrote::All) {
            return true;
        }
        pending.count();
        pending.rope.shrink();
        drop(pending);
        self.left.notify_one();
        true
    }

    /// Bytes that the socket has not taken yet.
    pub(crate) fn waiting(&self) -> usize {
        self.pending().rope.len()
    }

    /// Waits until the socket has taken all that was left over.
    pub(crate) async fn emptied(&self) {
        self.emptied.notified().await;
    }

    /// The connection's task: sends what is left over, until the socket breaks. A socket that takes nothing for
    /// [`STALLED_FOR`] is given up where others need the memory of what waits for it.
    pub(crate) async fn drain(&self, stream: &WriteHalf) -> io::Error {
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
                    Ok(Wrote::All) => {
                        self.emptied.notify_waiters();
                        break;
                    }
                    Ok(Wrote::Turn) => yield_now().await,
                    Ok(Wrote::Full) => match timeout(STALLED_FOR, stream.writable()).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => return error,
                        Err(_elapsed) if self.is_short() => return io::ErrorKind::TimedOut.into(),
                        Err(_elapsed) => {}
                    },
                    Err(error) => return error,
                }
            }
        }
    }

    /// Whether the counter is at its limit.
    fn is_short(&self) -> bool {
        self.pending().counter.bytes() >= CLIENTS_OPEN_BYTES_MAX
    }
}

impl Pending {
    /// Begins anew with this socket, or none.
    fn begin(&mut self, stream: Option<Arc<WriteHalf>>, expects: bool) {
        (self.stream, self.expects, self.rope) = (stream, expects, Rope::default());
        self.count();
    }

    /// Updates the counter.
    fn count(&mut self) {
        self.counter.add(self.rope.len());
        self.counter.sub(std::mem::replace(&mut self.counted, self.rope.len()));
    }

    /// Writes until all is sent, the socket takes no more, or [`TURN_BYTES_MAX`] are written.
    fn write_some(&mut self) -> io::Result<Wrote> {
        let Some(stream) = self.stream.clone() else {
            return Ok(if self.rope.is_empty() { Wrote::All } else { Wrote::Full });
        };
        let mut turn = TURN_BYTES_MAX;
        while !self.rope.is_empty() {
            if turn == 0 {
                return Ok(Wrote::Turn);
            }
            let (slices, count) = self.rope.slices(turn);
            match stream.try_write_vectored(&slices[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    turn -= written;
                    self.rope.advance(written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Wrote::Full),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Wrote::All)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.counter.sub(self.counted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::codec::Sink;
    use common::stream::{accept, connect};
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn what_does_not_fit_is_sent_by_the_task_in_order() {
        const BYTES: usize = 8 << 20;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (_reading, stream) =
            connect(&listener.local_addr().unwrap().to_string()).await.unwrap().into_split();
        let stream = Arc::new(stream);
        let (mut reader, _) = accept(&listener).await.unwrap();
        let counter = ByteCounter::default();
        let send_buffer = SendBuffer::open(Arc::clone(&stream), counter.clone());
        for part in 0..8_u8 {
            let sent = send_buffer.send(usize::MAX, |out| out.put(&vec![part; BYTES / 8]));
            assert!(sent);
        }
        assert!(!send_buffer.send(0, |_| panic!("too much waits already")));
        assert!(send_buffer.waiting() > 0 && counter.bytes() == send_buffer.waiting());
        let mut received = vec![0; BYTES];
        tokio::select! {
            read = reader.read_exact(&mut received) => { read.unwrap(); }
            error = send_buffer.drain(&stream) => panic!("{error}"),
        }
        assert!(
            received.chunks(BYTES / 8).zip(0..).all(|(part, number)| part.iter().all(|byte| *byte == number))
        );
        assert_eq!(counter.bytes(), send_buffer.waiting());
        drop(send_buffer);
        assert_eq!(counter.bytes(), 0);
    }

    #[tokio::test]
    async fn what_is_sent_is_given_back_though_more_always_waits() {
        const PART_BYTES: usize = 256 << 10;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (_reading, stream) =
            connect(&listener.local_addr().unwrap().to_string()).await.unwrap().into_split();
        let stream = Arc::new(stream);
        let (mut reader, _) = accept(&listener).await.unwrap();
        let send_buffer = SendBuffer::open(Arc::clone(&stream), ByteCounter::default());
        while send_buffer.waiting() < 4 * PART_BYTES {
            assert!(send_buffer.send(usize::MAX, |out| out.put(&[0; PART_BYTES])));
        }
        let mut received = vec![0; PART_BYTES];
        let traffic = async {
            for _ in 0..200 {
                reader.read_exact(&mut received).await.unwrap();
                assert!(send_buffer.send(usize::MAX, |out| out.put(&[0; PART_BYTES])));
                let pending = send_buffer.pending();
                let kept = pending.rope.own_bytes();
                assert!(kept < pending.rope.len() + 4 * PART_BYTES, "{kept} bytes are kept");
            }
        };
        tokio::select! {
            () = traffic => {}
            error = send_buffer.drain(&stream) => panic!("{error}"),
        }
    }

    #[tokio::test]
    async fn what_waits_for_the_first_socket_is_sent_through_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let send_buffer = SendBuffer::default();
        send_buffer.expect();
        assert!(send_buffer.send(usize::MAX, |out| out.put(b"early")));
        send_buffer.wanted().await;
        let (_reading, stream) =
            connect(&listener.local_addr().unwrap().to_string()).await.unwrap().into_split();
        let stream = Arc::new(stream);
        let (mut reader, _) = accept(&listener).await.unwrap();
        send_buffer.attach(Arc::clone(&stream));
        let mut received = [0; 9];
        let late = async {
            reader.read_exact(&mut received[..5]).await.unwrap();
            assert!(send_buffer.send(usize::MAX, |out| out.put(b"late")));
            reader.read_exact(&mut received[5..]).await.unwrap();
        };
        tokio::select! {
            () = late => {}
            error = send_buffer.drain(&stream) => panic!("{error}"),
        }
        assert_eq!(&received, b"earlylate");
        send_buffer.disconnect();
        assert!(!send_buffer.send(usize::MAX, |_| panic!("there is no socket")));
    }

    #[tokio::test]
    async fn without_a_socket_nothing_is_kept() {
        assert!(!SendBuffer::default().send(usize::MAX, |_| panic!("there is no socket")));
    }
}
