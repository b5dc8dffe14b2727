//! Frames from a socket, with a limit on the silence before each.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use common::frame::{FrameError, HEADER_BYTES, take_frame, take_preface};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::limits::{HELLO_BYTES_MAX, READ_BYTES};

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("the other side closed it")]
    Closed,
    #[error("nothing came for {0:?}")]
    Silent(Duration),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("its hello announces {0} bytes; {HELLO_BYTES_MAX} are the limit")]
    HelloTooLong(usize),
    #[error("it says what this program does not understand: {0}")]
    Content(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A link's socket and what has been read of the next frame.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    input: BytesMut,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, input: BytesMut::with_capacity(READ_BYTES) }
    }

    /// The preface and the first frame.
    pub(super) async fn hello(&mut self, within: Duration) -> Result<Bytes, LinkError> {
        let reading = async {
            while !take_preface(&mut self.input)? {
                self.read().await?;
            }
            loop {
                if let Some((length, _)) = self.input.split_first_chunk::<4>() {
                    let length = u32::from_le_bytes(*length) as usize;
                    if length > HELLO_BYTES_MAX {
                        return Err(LinkError::HelloTooLong(length));
                    }
                }
                if let Some(frame) = take_frame(&mut self.input)? {
                    return Ok(frame);
                }
                self.read().await?;
            }
        };
        timeout(within, reading).await.unwrap_or(Err(LinkError::Silent(within)))
    }

    /// The next frame; a byte must come within each `idle` time.
    pub(super) async fn frame(&mut self, idle: Duration) -> Result<Bytes, LinkError> {
        loop {
            if let Some(frame) = take_frame(&mut self.input)? {
                return Ok(frame);
            }
            timeout(idle, self.read()).await.unwrap_or(Err(LinkError::Silent(idle)))?;
        }
    }

    /// Writes bytes; the other side must take them within `idle`.
    pub(super) async fn write(&mut self, bytes: &[u8], idle: Duration) -> Result<(), LinkError> {
        timeout(idle, self.stream.write_all(bytes)).await.map_err(|_| LinkError::Silent(idle))??;
        Ok(())
    }

    async fn read(&mut self) -> Result<(), LinkError> {
        self.input.reserve(HEADER_BYTES.max(READ_BYTES / 4));
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(LinkError::Closed),
            _ => Ok(()),
        }
    }
}
