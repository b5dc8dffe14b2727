//! Connections between programs, whatever carries them: TCP today.
//!
//! The only file that makes a connection or takes one: everything else names [`Stream`] and its halves. So what is to
//! happen to each connection (socket options, encryption) has one place. HTTP is no exception, but for the blocking
//! client that exports spans (`spans`).

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// A connection.
#[derive(Debug)]
pub struct Stream(TcpStream);

/// The half of a connection that is read.
#[derive(Debug)]
pub struct ReadHalf(OwnedReadHalf);

/// The half of a connection that is written. To drop it closes that half.
#[derive(Debug)]
pub struct WriteHalf(OwnedWriteHalf);

/// A connection between two runtimes.
#[derive(Debug)]
pub struct Detached(std::net::TcpStream);

/// Opens a connection.
///
/// # Errors
/// Those of the system.
pub async fn connect(address: &str) -> io::Result<Stream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(Stream(stream))
}

/// Takes the next connection of a port, and the address that it comes from.
///
/// # Errors
/// Those of the system. They may pass: the caller waits a moment and tries again.
pub async fn accept(listener: &TcpListener) -> io::Result<(Stream, SocketAddr)> {
    let (stream, from) = listener.accept().await?;
    Ok((Stream::accepted(stream), from))
}

/// Closes a port. Returns the connections that the system has taken for it already.
pub fn close(listener: TcpListener) -> impl Iterator<Item = (Stream, SocketAddr)> {
    let listener = listener.into_std().ok();
    std::iter::from_fn(move || listener.as_ref()?.accept().ok()).filter_map(|(stream, from)| {
        stream.set_nonblocking(true).ok()?;
        Some((Stream::accepted(TcpStream::from_std(stream).ok()?), from))
    })
}

impl Stream {
    fn accepted(stream: TcpStream) -> Self {
        // A connection that has ended already shows it at the first read.
        let _ended = stream.set_nodelay(true);
        Self(stream)
    }

    /// The address at this end.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// The address at the other end.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.peer_addr()
    }

    /// Waits for bytes and reads them without taking them. Returns how many there are, 0 at the end.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn peek(&self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.peek(bytes).await
    }

    /// Reads what has come, without waiting.
    ///
    /// # Errors
    /// `WouldBlock` when nothing has come; others when the connection broke.
    pub fn try_read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(bytes)
    }

    /// Writes as much as the socket takes, without waiting.
    ///
    /// # Errors
    /// `WouldBlock` when the socket takes nothing; others when the connection broke.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    /// Two halves, for two tasks.
    #[must_use]
    pub fn into_split(self) -> (ReadHalf, WriteHalf) {
        let (reading, writing) = self.0.into_split();
        (ReadHalf(reading), WriteHalf(writing))
    }

    /// Takes the connection off this runtime, for another one.
    ///
    /// # Errors
    /// Those of the system.
    pub fn detach(self) -> io::Result<Detached> {
        Ok(Detached(self.0.into_std()?))
    }
}

impl Detached {
    /// Gives the connection to the runtime that calls.
    ///
    /// # Errors
    /// Those of the system.
    pub fn attach(self) -> io::Result<Stream> {
        Ok(Stream(TcpStream::from_std(self.0)?))
    }
}

impl ReadHalf {
    /// Waits for the end of a connection on which nothing is to come; what comes is its end too.
    pub async fn ended(&self) -> io::Error {
        let mut nothing = [0; 1];
        loop {
            if let Err(error) = self.0.readable().await {
                return error;
            }
            match self.0.try_read(&mut nothing) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return error,
                Ok(_) => return io::ErrorKind::ConnectionReset.into(),
            }
        }
    }
}

impl WriteHalf {
    /// Waits until the socket takes bytes again.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn writable(&self) -> io::Result<()> {
        self.0.writable().await
    }

    /// Writes as much as the socket takes, without waiting.
    ///
    /// # Errors
    /// `WouldBlock` when the socket takes nothing; others when the connection broke.
    pub fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }
}

macro_rules! reads {
    ($half:ty) => {
        impl AsyncRead for $half {
            fn poll_read(
                mut self: Pin<&mut Self>,
                context: &mut Context<'_>,
                bytes: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                Pin::new(&mut self.0).poll_read(context, bytes)
            }
        }
    };
}

macro_rules! writes {
    ($half:ty) => {
        impl AsyncWrite for $half {
            fn poll_write(
                mut self: Pin<&mut Self>,
                context: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                Pin::new(&mut self.0).poll_write(context, bytes)
            }

            fn poll_write_vectored(
                mut self: Pin<&mut Self>,
                context: &mut Context<'_>,
                slices: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                Pin::new(&mut self.0).poll_write_vectored(context, slices)
            }

            fn is_write_vectored(&self) -> bool {
                self.0.is_write_vectored()
            }

            fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                Pin::new(&mut self.0).poll_flush(context)
            }

            fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                Pin::new(&mut self.0).poll_shutdown(context)
            }
        }
    };
}

reads!(Stream);
reads!(ReadHalf);
writes!(Stream);
writes!(WriteHalf);
