//! Input of a connection that is no whole request yet.
//!
//! A buffer grows with what has come, never with what was announced, and is given back when all of it is taken. Each
//! connection may have [`UNFINISHED_SHARE_BYTES`] of an unfinished request. What is beyond that counts against one
//! budget of all connections of its kind; without room in it a connection is not read. One connection at a time may go
//! on without room: so some request is always finished, however many have begun, and there is no deadlock among them.
//!
//! A connection that takes of the budget must go on sending: [`UNFINISHED_BYTES_MIN`] of the request have to come in
//! each [`UNFINISHED_WITHIN`], or the connection is closed. While others wait for room, a fifth of that time without a
//! byte is too long already.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use common::clock;
use common::time::Time;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::limits::{
    FIRST_READ_BYTES, READ_BYTES, UNFINISHED_BYTES_MAX, UNFINISHED_BYTES_MIN, UNFINISHED_SHARE_BYTES,
    UNFINISHED_WITHIN,
};

/// How often it is checked, within [`UNFINISHED_WITHIN`], whether the rest of a request is late.
const LOOKS: u32 = 10;

/// Bytes of one permit of the budget.
const UNIT_BYTES: usize = 1 << 10;

/// The bytes of unfinished requests that all connections of a kind may have beyond their shares. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct InputBudget {
    units: Arc<Semaphore>,
    /// The connection that has this permit goes on though there is no room.
    one: Arc<Semaphore>,
    /// Connections that wait for room.
    waiting: Arc<AtomicUsize>,
    within: Duration,
}

/// A connection waits for room.
struct Waits(Arc<AtomicUsize>);

impl Waits {
    fn begin(waiting: &Arc<AtomicUsize>) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(waiting))
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Default for InputBudget {
    fn default() -> Self {
        Self::new(UNFINISHED_BYTES_MAX, UNFINISHED_WITHIN)
    }
}

impl InputBudget {
    fn new(bytes_max: usize, within: Duration) -> Self {
        let units = Arc::new(Semaphore::new(bytes_max / UNIT_BYTES));
        Self { units, one: Arc::new(Semaphore::new(1)), waiting: Arc::default(), within }
    }
}

/// The rest of a request did not come in time.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "the rest of the request did not come: of one with more than {UNFINISHED_SHARE_BYTES} bytes, \
     {UNFINISHED_BYTES_MIN} must come in each {} s", UNFINISHED_WITHIN.as_secs()
)]
pub(crate) struct Unfinished;

/// The input of one connection that is no whole request yet, and its part of the budget.
#[derive(Debug)]
pub(crate) struct Intake {
    /// What has come and was not taken.
    pub(crate) bytes: BytesMut,
    budget: InputBudget,
    /// Units that this connection has taken of the budget.
    units: usize,
    one: Option<OwnedSemaphorePermit>,
    /// Bytes that the next read takes, at most.
    at_once: usize,
    /// Since when the rest of a large request is awaited, and how many bytes have come since.
    awaited: Option<(Time, usize)>,
}

impl Intake {
    pub(crate) fn new(bytes: BytesMut, budget: &InputBudget) -> Self {
        let (budget, at_once) = (budget.clone(), FIRST_READ_BYTES);
        Self { bytes, budget, units: 0, one: None, at_once, awaited: None }
    }

    /// Reads once; returns how many bytes came, 0 at the end of the connection. `kept`: bytes of the unfinished request
    /// that were taken and are kept elsewhere. May be cancelled.
    ///
    /// # Errors
    /// When the connection breaks, or [`Unfinished`].
    pub(crate) async fn read(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        kept: usize,
    ) -> std::io::Result<usize> {
        if self.bytes.is_empty() {
            // A new buffer: the memory of the old one is freed with the requests that are slices of it.
            self.bytes = BytesMut::new();
        }
        self.settle(kept).await;
        if self.bytes.capacity() == self.bytes.len() {
            self.bytes.reserve(self.at_once);
        }
        let read = self.await_bytes(stream).await?;
        if let Some((since, bytes)) = &mut self.awaited {
            *bytes += read;
            if *bytes >= UNFINISHED_BYTES_MIN {
                (*since, *bytes) = (clock::time(), 0);
            }
        }
        if read == self.at_once {
            self.at_once = (2 * read).min(READ_BYTES);
        } else if read < self.at_once / 4 {
            self.at_once = (self.at_once / 2).max(FIRST_READ_BYTES);
        }
        Ok(read)
    }

    async fn await_bytes(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<usize> {
        let began = clock::time();
        loop {
            let mut room = (&mut self.bytes).limit(self.at_once);
            let reading = stream.read_buf(&mut room);
            let Some((since, _)) = self.awaited else { return reading.await };
            let InputBudget { within, waiting, .. } = &self.budget;
            match timeout(*within / LOOKS, reading).await {
                Ok(read) => return read,
                Err(_elapsed) => {
                    let now = clock::time();
                    let others_wait = waiting.load(Ordering::Relaxed) > 0;
                    if now.since(since) >= *within || (others_wait && now.since(began) >= *within / 5) {
                        return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, Unfinished));
                    }
                }
            }
        }
    }

    /// Takes of the budget what the next read may need, or gives back what is no longer needed.
    async fn settle(&mut self, kept: usize) {
        let unfinished = self.bytes.len() + kept;
        if unfinished < UNFINISHED_SHARE_BYTES {
            self.release();
            return;
        }
        let beyond = unfinished + self.at_once - UNFINISHED_SHARE_BYTES;
        let units = beyond.div_ceil(UNIT_BYTES);
        if units <= self.units {
            let back = self.units - units;
            self.budget.units.add_permits(back);
            self.units = units;
        } else if self.one.is_none() {
            let more = units - self.units;
            let (wanted, one) = (u32::try_from(more).unwrap_or(u32::MAX), Arc::clone(&self.budget.one));
            if let Ok(room) = self.budget.units.try_acquire_many(wanted) {
                room.forget();
                self.units = units;
            } else {
                // While the connection is not read, its request cannot be late.
                self.awaited = None;
                let _waits = Waits::begin(&self.budget.waiting);
                tokio::select! {
                    Ok(room) = self.budget.units.acquire_many(wanted) => {
                        room.forget();
                        self.units = units;
                    }
                    Ok(one) = one.acquire_owned() => self.one = Some(one),
                }
            }
        }
        self.awaited.get_or_insert_with(|| (clock::time(), 0));
    }

    fn release(&mut self) {
        self.budget.units.add_permits(std::mem::take(&mut self.units));
        (self.one, self.awaited) = (None, None);
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    const MOMENT: Duration = Duration::from_millis(50);

    const BYTES_MAX: usize = 256 << 10;

    /// Writes zeros and reads them, until so many are there or no more are read.
    async fn fill(intake: &mut Intake, ends: &mut (DuplexStream, DuplexStream), bytes: usize) -> usize {
        let (from, to) = ends;
        while intake.bytes.len() < bytes {
            // What the buffer between them does not take is written later.
            let _full = timeout(Duration::ZERO, from.write_all(&[0; 4096])).await;
            match timeout(MOMENT, intake.read(to, 0)).await {
                Ok(read) => assert!(read.unwrap() > 0),
                Err(_waits) => break,
            }
        }
        intake.bytes.len()
    }

    #[tokio::test]
    async fn a_buffer_grows_with_what_comes_and_is_given_back() {
        let (mut from, mut to) = duplex(1 << 20);
        let mut intake = Intake::new(BytesMut::new(), &InputBudget::default());
        from.write_all(b"twelve bytes").await.unwrap();
        assert_eq!(intake.read(&mut to, 0).await.unwrap(), 12);
        assert!(intake.bytes.capacity() <= FIRST_READ_BYTES);
        from.write_all(&vec![0; 300 << 10]).await.unwrap();
        while intake.bytes.len() < 300 << 10 {
            intake.read(&mut to, 0).await.unwrap();
            assert!(intake.bytes.capacity() <= 2 * intake.bytes.len() + READ_BYTES);
        }
        assert!(intake.units > 0);
        drop(intake.bytes.split());
        from.write_all(b"next").await.unwrap();
        intake.read(&mut to, 0).await.unwrap();
        assert!(intake.bytes.capacity() <= READ_BYTES && intake.units == 0);
    }

    #[tokio::test]
    async fn without_room_one_goes_on_and_the_others_wait() {
        let budget = InputBudget::new(BYTES_MAX, UNFINISHED_WITHIN);
        let large = 4 * BYTES_MAX;
        let (mut ends, mut others) = (duplex(READ_BYTES), duplex(READ_BYTES));
        let mut first = Intake::new(BytesMut::new(), &budget);
        assert!(fill(&mut first, &mut ends, large).await >= large, "alone it may go on");
        let mut second = Intake::new(BytesMut::new(), &budget);
        let had = fill(&mut second, &mut others, large).await;
        assert!((UNFINISHED_SHARE_BYTES..UNFINISHED_SHARE_BYTES + READ_BYTES).contains(&had), "{had}");
        first.bytes.clear();
        first.settle(0).await;
        assert!(fill(&mut second, &mut others, large).await >= large, "there is room again");
        drop((first, second));
        let left = (budget.units.available_permits(), budget.one.available_permits());
        assert_eq!(left, (BYTES_MAX / UNIT_BYTES, 1));
    }

    #[tokio::test]
    async fn what_is_kept_elsewhere_counts() {
        let budget = InputBudget::new(BYTES_MAX, UNFINISHED_WITHIN);
        let (mut from, mut to) = duplex(READ_BYTES);
        let mut intake = Intake::new(BytesMut::new(), &budget);
        from.write_all(b"x").await.unwrap();
        intake.read(&mut to, BYTES_MAX / 2).await.unwrap();
        assert!(budget.units.available_permits() <= BYTES_MAX / 2 / UNIT_BYTES + 16);
        from.write_all(b"x").await.unwrap();
        intake.read(&mut to, 0).await.unwrap();
        assert_eq!(budget.units.available_permits(), BYTES_MAX / UNIT_BYTES);
    }

    #[tokio::test]
    async fn the_rest_of_a_large_request_is_not_awaited_for_ever() {
        let (mut from, mut to) = duplex(1 << 20);
        let budget = InputBudget::new(BYTES_MAX, MOMENT);
        let mut intake = Intake::new(BytesMut::new(), &budget);
        from.write_all(&[0; UNFINISHED_SHARE_BYTES]).await.unwrap();
        while intake.bytes.len() < UNFINISHED_SHARE_BYTES {
            intake.read(&mut to, 0).await.unwrap();
        }
        let error = intake.read(&mut to, 0).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        assert!(error.to_string().contains("the rest of the request"), "{error}");
    }

    #[tokio::test]
    async fn while_others_wait_for_room_a_short_silence_is_too_long() {
        let (mut from, mut to) = duplex(1 << 20);
        let budget = InputBudget::new(BYTES_MAX, 10 * MOMENT);
        let mut intake = Intake::new(BytesMut::new(), &budget);
        from.write_all(&[0; UNFINISHED_SHARE_BYTES]).await.unwrap();
        while intake.bytes.len() < UNFINISHED_SHARE_BYTES {
            intake.read(&mut to, 0).await.unwrap();
        }
        let waits = Waits::begin(&budget.waiting);
        let began = clock::time();
        assert!(intake.read(&mut to, 0).await.is_err());
        assert!(clock::time().since(began) < 10 * MOMENT);
        drop(waits);
        assert_eq!(budget.waiting.load(Ordering::Relaxed), 0);
    }
}
