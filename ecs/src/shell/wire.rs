//! Frames from a socket, with a limit on the silence before each.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use common::frame::{FrameError, take_frame_up_to, take_preface};
use common::limits::HELLO_BYTES_MAX;
use common::stream::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::limits::{FIRST_READ_BYTES, LARGE_REPORT_WITHIN, READ_BYTES, SMALL_FRAME_BYTES};

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("the other side closed it")]
    Closed,
    #[error("nothing came for {0:?}")]
    Silent(Duration),
    #[error("the process is no member: it is to say hello again")]
    NoMember,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("the rest of a report of {bytes} bytes did not come within {LARGE_REPORT_WITHIN:?}")]
    Unfinished { bytes: usize },
    #[error("it says what this program does not understand: {0}")]
    Content(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A link's socket and what has been read of the next frame.
#[derive(Debug)]
pub(super) struct Wire {
    stream: Stream,
    input: BytesMut,
    /// Bytes that all links together may keep of large frames that are not complete.
    large: Arc<Semaphore>,
}

impl Wire {
    pub(super) fn new(stream: Stream, large: Arc<Semaphore>) -> Self {
        Self { stream, input: BytesMut::new(), large }
    }

    /// The preface and the first frame.
    pub(super) async fn hello(&mut self, within: Duration) -> Result<Bytes, LinkError> {
        let reading = async {
            while !take_preface(&mut self.input)? {
                self.read().await?;
            }
            loop {
                if let Some(frame) = take_frame_up_to(&mut self.input, HELLO_BYTES_MAX)? {
                    return Ok(frame);
                }
                self.read().await?;
            }
        };
        timeout(within, reading).await.unwrap_or(Err(LinkError::Silent(within)))
    }

    /// The next frame, of so many bytes at most; a byte must come within each `idle` time. A large one waits until
    /// there is room for it, and must then come to its end.
    pub(super) async fn frame(&mut self, idle: Duration, bytes_max: usize) -> Result<Bytes, LinkError> {
        loop {
            if let Some(frame) = take_frame_up_to(&mut self.input, bytes_max)? {
                return Ok(frame);
            }
            match announced(&self.input) {
                Some(bytes) if bytes > SMALL_FRAME_BYTES => return self.large_frame(bytes, bytes_max).await,
                _ => timeout(idle, self.read()).await.unwrap_or(Err(LinkError::Silent(idle)))?,
            }
        }
    }

    async fn large_frame(&mut self, bytes: usize, bytes_max: usize) -> Result<Bytes, LinkError> {
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let _room = Arc::clone(&self.large).acquire_many_owned(permits).await;
        let rest = async {
            loop {
                match take_frame_up_to(&mut self.input, bytes_max)? {
                    Some(frame) => return Ok(frame),
                    None => self.read().await?,
                }
            }
        };
        timeout(LARGE_REPORT_WITHIN, rest).await.unwrap_or(Err(LinkError::Unfinished { bytes }))
    }

    /// Writes bytes; the other side must take them within `idle`.
    pub(super) async fn write(&mut self, bytes: &[u8], idle: Duration) -> Result<(), LinkError> {
        timeout(idle, self.stream.write_all(bytes)).await.map_err(|_| LinkError::Silent(idle))??;
        Ok(())
    }

    /// Reads once. The input grows with what comes, and is given back when all of it is taken.
    async fn read(&mut self) -> Result<(), LinkError> {
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        let at_once = self.input.len().clamp(FIRST_READ_BYTES, READ_BYTES);
        self.input.reserve(at_once);
        match self.stream.read_buf(&mut (&mut self.input).limit(at_once)).await? {
            0 => Err(LinkError::Closed),
            _ => Ok(()),
        }
    }
}

/// Bytes of payload that a header announces, if it is there.
fn announced(input: &[u8]) -> Option<usize> {
    input.first_chunk::<4>().map(|length| u32::from_le_bytes(*length) as usize)
}
