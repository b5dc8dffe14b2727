//! R3: a server that waits with a store that failed, or that cannot be read as a whole.
//!
//! The store may be the last one that has some data, and its server cannot know that: the ECS says whether for each of
//! its partitions another in-sync copy is being served. Until it does, everything stays as it is. The server answers
//! clients that it waits (see [`clients`]), reports in its log and over HTTP what it waits for, and asks the ECS again
//! and again, since other servers may come back.

mod clients;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::BytesMut;
use common::frame::{PREFACE, write_frame};
use common::ids::{ClusterId, PartitionId};
use common::messages::{Hello, ProcessId, ServerReport, StoreVerdict, Suspicion};
use common::stream::{Stream, accept};
use common::view::Member;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use self::clients::Answers;
use crate::error::Error;
use crate::inbound::{ACCEPT_PAUSE, InputBudget, Intake, read_hello};
use crate::limits::{HELLO_FOR, SUSPECT_AGAIN, SUSPECT_LINKS_MAX};
use crate::net::backoff::{Backoff, connect};
use crate::store::identity;
use kvserver_core::in_sync_partitions;

/// A store that waits, and the process that waits with it.
pub(crate) struct Suspect {
    me: ProcessId,
    cluster: Option<ClusterId>,
    suspicion: Suspicion,
    ecs: String,
    /// Keeps other processes out of the directory meanwhile.
    _lock: storage::Lock,
}

impl Suspect {
    /// Counts as a start of the server.
    ///
    /// # Errors
    /// When the directory is in use, or not to be written to.
    pub(crate) fn new(dir: &Path, reason: String, address: String, ecs: String) -> Result<Self, Error> {
        let lock = storage::Lock::take(dir).map_err(Error::storage(dir))?;
        let me = identity::begin(dir)?;
        let view = identity::read_view(dir)?;
        let partitions =
            view.as_ref().map(|view| in_sync_partitions(view, Member { server: me.server, store: me.store }));
        let shown = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned()).display().to_string();
        let (cluster, number) = view.map(|view| (view.cluster, view.number)).unzip();
        let view = number.unwrap_or_default();
        let suspicion = Suspicion { address, dir: shown, reason, partitions, view };
        Ok(Self { me, cluster, suspicion, ecs, _lock: lock })
    }

    /// Why the store is not used.
    pub(crate) fn reason(&self) -> &str {
        &self.suspicion.reason
    }

    /// The state in one line, for HTTP.
    pub(crate) fn text(&self) -> String {
        format!(
            "the store in {} is not used ({}); the server waits with it until the ECS says that it is not needed, or \
             it is taken back with kvserver reinstate",
            self.suspicion.dir, self.suspicion.reason
        )
    }

    /// Waits until the ECS says that the store is not needed.
    pub(crate) async fn wait(&self, listener: &TcpListener) {
        tracing::error!(
            "{}. Nothing is changed. If the other copies are lost, stop this server, run `kvserver reinstate -d {}`, \
             and start it again",
            self.text(),
            self.suspicion.dir
        );
        let (verdicts, mut verdict) = mpsc::channel(1);
        let not_needed = async {
            let mut last = None;
            while let Some(verdict) = verdict.recv().await {
                if let StoreVerdict::SetAside {} = verdict {
                    return;
                }
                if last.replace(verdict.clone()) != Some(verdict.clone()) {
                    self.log(&verdict);
                }
            }
        };
        tokio::select! {
            () = not_needed => {
                tracing::info!("the ECS says that for each partition of the store another in-sync copy is served");
            }
            () = self.receive(listener, verdicts) => {}
            () = self.ask() => {}
        }
    }

    /// Logs why the store is kept.
    fn log(&self, verdict: &StoreVerdict) {
        let StoreVerdict::Keep { unserved } = verdict else { return };
        if unserved.is_empty() {
            return tracing::warn!(
                "the store is kept: the ECS does not know yet whether others serve all of it"
            );
        }
        tracing::warn!(
            "the store is kept: of {} no other in-sync copy is served. Start the servers that have one. If they are \
             lost, stop this server, run `kvserver reinstate -d {}`, and start it again",
            names(unserved),
            self.suspicion.dir
        );
    }

    /// Asks the ECS for ever.
    async fn ask(&self) {
        let mut backoff = Backoff::default();
        let mut is_logged = false;
        loop {
            let Err(error) = self.ask_once(&mut backoff).await;
            if !std::mem::replace(&mut is_logged, true) {
                tracing::warn!(ecs = %self.ecs, %error, "the ECS cannot be asked what becomes of the store; trying on");
            }
            backoff.wait().await;
        }
    }

    async fn ask_once(&self, backoff: &mut Backoff) -> std::io::Result<std::convert::Infallible> {
        let mut stream = connect(&self.ecs).await?;
        let mut out = PREFACE.to_vec();
        push(&mut out, &Hello::Report { cluster: self.cluster, sender: self.me });
        loop {
            push(&mut out, &ServerReport::Suspect { suspicion: self.suspicion.clone() });
            stream.write_all(&out).await?;
            out.clear();
            let mut nothing = [0; 1];
            if let Ok(end) = timeout(SUSPECT_AGAIN, stream.read(&mut nothing)).await {
                end?;
                return Err(std::io::ErrorKind::ConnectionReset.into());
            }
            backoff.reset();
        }
    }

    /// Passes the ECS's verdicts on, answers clients, and closes all other links.
    async fn receive(&self, listener: &TcpListener, verdicts: mpsc::Sender<StoreVerdict>) {
        let permits = Arc::new(Semaphore::new(SUSPECT_LINKS_MAX));
        let refused = Arc::new(AtomicBool::new(false));
        let answers = Arc::new(Answers::new(self.me, &self.suspicion, &self.ecs));
        let budget = InputBudget::default();
        loop {
            let Ok((stream, _)) = accept(listener).await else {
                let _over = timeout(ACCEPT_PAUSE, std::future::pending::<()>()).await;
                continue;
            };
            let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else { continue };
            let (me, cluster, verdicts) = (self.me, self.cluster, verdicts.clone());
            let (refused, answers) = (Arc::clone(&refused), Arc::clone(&answers));
            let intake = Intake::new(BytesMut::new(), &budget);
            tokio::spawn(async move {
                let served = serve(stream, intake, permit, me, cluster, &refused, &answers);
                if let Ok(Some(verdict)) = timeout(HELLO_FOR, served).await {
                    let _gone = verdicts.send(verdict).await;
                }
            });
        }
    }
}

/// Answers a client. Returns the verdict that a link brings, if it is the ECS's and meant for this process. `refused`:
/// a refusal was logged already, as it comes again and again. `permit`: of the links without a hello; clients have
/// links of their own, so that the ECS always finds one, however many clients there are.
async fn serve(
    mut stream: Stream,
    mut intake: Intake,
    permit: OwnedSemaphorePermit,
    me: ProcessId,
    own: Option<ClusterId>,
    refused: &AtomicBool,
    answers: &Answers,
) -> Option<StoreVerdict> {
    let mut first = [0; 1];
    if stream.peek(&mut first).await.ok()? == 0 {
        return None;
    }
    if first[0] != PREFACE[0] {
        answers.refuse(stream, first[0]).await.ok()?;
        return None;
    }
    match read_hello(&mut stream, &mut intake).await.ok()? {
        Hello::Client {} => {
            drop(permit);
            answers.serve(stream, intake).await.ok()?;
            None
        }
        Hello::StoreVerdict { cluster, to, verdict } => {
            (to == me && own.is_none_or(|own| own == cluster)).then_some(verdict)
        }
        Hello::Refused { to, refusal, .. } if to == me => {
            if !refused.swap(true, Ordering::Relaxed) {
                tracing::error!("the ECS does not take this server: {refusal:?}");
            }
            None
        }
        _ => None,
    }
}

fn push(out: &mut Vec<u8>, value: &impl serde::Serialize) {
    let json = serde_json::to_vec(value).expect("plain values are JSON");
    write_frame(out, |payload| payload.extend_from_slice(&json));
}

/// Names partitions, for people.
pub(crate) fn names(partitions: &[PartitionId]) -> String {
    /// Partitions beyond this number are only counted.
    const NAMED_MAX: usize = 8;
    let named: Vec<String> = partitions.iter().take(NAMED_MAX).map(PartitionId::to_string).collect();
    let word = if partitions.len() == 1 { "partition" } else { "partitions" };
    match partitions.len().saturating_sub(NAMED_MAX) {
        0 => format!("{word} {}", named.join(", ")),
        more => format!("{word} {} and {more} more", named.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use common::codec::Wire;
    use common::frame::take_frame;
    use common::messages::{ClientMessage, Reply, Request, ServerMessage};
    use common::stream::connect;

    use super::*;

    async fn link(address: &str, hello: &Hello, request: Option<Request>) -> Stream {
        let mut stream = connect(address).await.unwrap();
        let mut out = PREFACE.to_vec();
        push(&mut out, hello);
        if let Some(request) = request {
            write_frame(&mut out, |frame| ClientMessage { id: 7, request }.write(frame));
        }
        stream.write_all(&out).await.unwrap();
        stream
    }

    async fn reply(stream: &mut Stream) -> Option<Reply> {
        let mut input = BytesMut::new();
        loop {
            if let Some(mut frame) = take_frame(&mut input).unwrap() {
                return Some(ServerMessage::read(&mut frame).unwrap().reply);
            }
            if stream.read_buf(&mut input).await.ok()? == 0 {
                return None;
            }
        }
    }

    #[tokio::test]
    async fn clients_are_answered_and_do_not_keep_the_verdict_out() {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let suspect = Suspect::new(dir.path(), "bad".into(), address.clone(), "127.0.0.1:1".into()).unwrap();
        let asking = async {
            let mut first = link(&address, &Hello::Client {}, Some(Request::Status {})).await;
            let Some(Reply::Status { json }) = reply(&mut first).await else { panic!("no status") };
            assert!(String::from_utf8_lossy(&json).contains("127.0.0.1:1"), "{json:?}");
            let mut clients = vec![first];
            // Each is read up to its hello, and many are refused, before the next one comes.
            for _ in 0..2 * SUSPECT_LINKS_MAX {
                let mut client = link(&address, &Hello::Client {}, Some(Request::View {})).await;
                let refused = reply(&mut client).await;
                assert!(matches!(refused, None | Some(Reply::Busy { .. })), "{refused:?}");
                clients.push(client);
            }
            let (to, verdict) = (suspect.me, StoreVerdict::SetAside {});
            let ecs = link(&address, &Hello::StoreVerdict { cluster: ClusterId(1), to, verdict }, None).await;
            std::future::pending::<()>().await;
            drop((clients, ecs));
        };
        let waited = async {
            tokio::select! {
                () = suspect.wait(&listener) => {}
                () = asking => {}
            }
        };
        timeout(HELLO_FOR * 3, waited).await.expect("the verdict comes through");
    }
}
