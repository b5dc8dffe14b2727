//! What clients are answered by a server that waits with its store.
//!
//! Its status names the ECS, so `kvclient status` finds the cluster's verdict where every server waits. Everything else
//! is refused with the reason, and may be asked again: other servers may have the data.

use bytes::Bytes;
use common::codec::Wire;
use common::frame::write_frame;
use common::messages::{ClientMessage, ProcessId, Reply, Request, ServerMessage, Suspicion};
use common::status::{CaughtUp, ComparedStatus, ScrubStatus, ServerStatus};
use common::stream::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

use crate::inbound::{Intake, next_frame};
use crate::limits::{FIRST_READ_BYTES, SUSPECT_LINKS_MAX};

/// The answers of one process, which are the same for all clients.
pub(super) struct Answers {
    status: Bytes,
    reason: String,
    /// Links of clients at a time.
    links: Semaphore,
}

impl Answers {
    pub(super) fn new(me: ProcessId, suspicion: &Suspicion, ecs: &str) -> Self {
        let status = ServerStatus {
            server: me.server,
            store: me.store,
            incarnation: me.incarnation,
            address: suspicion.address.clone(),
            ecs: ecs.to_owned(),
            view: suspicion.view,
            copies: Vec::new(),
            keys: 0,
            expiring: 0,
            bytes: 0,
            free_bytes: 0,
            transfers: Vec::new(),
            caught_up: CaughtUp::default(),
            scrub: ScrubStatus::default(),
            compared: ComparedStatus::default(),
        };
        let status = serde_json::to_vec(&status).expect("plain values are JSON").into();
        let reason =
            "this server waits with a store that failed, and serves nothing: kvclient status says what to do";
        Self { status, reason: reason.to_owned(), links: Semaphore::new(SUSPECT_LINKS_MAX) }
    }

    /// Answers the requests of a client's link, one after the other. One link too many is closed.
    pub(super) async fn serve(&self, mut stream: Stream, mut intake: Intake) -> std::io::Result<()> {
        let Ok(_permit) = self.links.try_acquire() else { return Ok(()) };
        while let Some(mut frame) = next_frame(&mut stream, &mut intake).await? {
            let mut answers = Vec::new();
            while !frame.is_empty() {
                let message = ClientMessage::read(&mut frame);
                let ClientMessage { id, request } =
                    message.map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))?;
                let reply = self.reply(&request);
                write_frame(&mut answers, |out| ServerMessage { id, reply }.write(out));
            }
            stream.write_all(&answers).await?;
        }
        Ok(())
    }

    fn reply(&self, request: &Request) -> Reply {
        match request {
            Request::Status {} => Reply::Status { json: self.status.clone() },
            _ => Reply::Busy { reason: self.reason.clone() },
        }
    }

    /// Refuses a client of the Redis protocol or of the text protocol, by the first byte that it sends, and closes the
    /// connection.
    pub(super) async fn refuse(&self, mut stream: Stream, first: u8) -> std::io::Result<()> {
        // What was not read would reset the connection, and the client might not see the answer.
        let mut unread = [0; FIRST_READ_BYTES];
        let _bytes = stream.read(&mut unread).await?;
        let line = if first == b'*' {
            format!("-LOADING {}\r\n", self.reason)
        } else {
            "server_stopped\r\n".to_owned()
        };
        stream.write_all(line.as_bytes()).await
    }
}
