//! The link to the ECS: reports go one way, nothing is read. Views come on a link that the ECS makes.

use std::sync::Arc;
use std::sync::mpsc::Sender as EventSender;

use common::frame::{PREFACE, write_frame};
use common::messages::{Hello, Sender, ServerReport};
use common::view::View;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{oneshot, watch};

use crate::backoff::{Backoff, connect};
use crate::driver::Event;

/// What the link needs.
pub(crate) struct EcsLink {
    pub(crate) address: String,
    pub(crate) me: Sender,
    pub(crate) reports: UnboundedReceiver<ServerReport>,
    pub(crate) views: watch::Receiver<Option<Arc<View>>>,
    pub(crate) events: EventSender<Event>,
}

impl EcsLink {
    /// Runs as long as the server does.
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::default();
        let mut told = false;
        loop {
            let error = match connect(&self.address).await {
                Ok(stream) => {
                    tracing::info!(ecs = %self.address, "linked to the ECS");
                    told = false;
                    backoff.reset();
                    match self.serve(stream).await {
                        Ok(()) => return,
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            if !std::mem::replace(&mut told, true) {
                tracing::warn!(
                    ecs = %self.address,
                    "the ECS cannot be reached ({error}); trying again. Reads and writes go on as far as the last \
                     view allows; check the address given with -b, and that the ECS runs"
                );
            }
            while self.reports.try_recv().is_ok() {}
            backoff.wait().await;
        }
    }

    async fn serve(&mut self, mut stream: TcpStream) -> std::io::Result<()> {
        let cluster = self.views.borrow().as_ref().map(|view| view.cluster);
        let hello = Hello::Report { cluster, sender: self.me };
        let mut out = PREFACE.to_vec();
        let json = serde_json::to_vec(&hello).expect("a hello is JSON");
        write_frame(&mut out, |payload| payload.extend_from_slice(&json));
        let (answer, report) = oneshot::channel();
        let _gone = self.events.send(Event::Hello(answer));
        let Ok(report) = report.await else { return Ok(()) };
        push(&mut out, &report);
        stream.write_all(&out).await?;
        let mut nothing = [0; 1];
        loop {
            let report = tokio::select! {
                report = self.reports.recv() => report,
                end = stream.read(&mut nothing) => {
                    end?;
                    return Err(std::io::ErrorKind::ConnectionReset.into());
                }
            };
            let Some(report) = report else { return Ok(()) };
            out.clear();
            push(&mut out, &report);
            while let Ok(report) = self.reports.try_recv() {
                push(&mut out, &report);
            }
            stream.write_all(&out).await?;
        }
    }
}

fn push(out: &mut Vec<u8>, report: &ServerReport) {
    let json = serde_json::to_vec(report).expect("a report is JSON");
    write_frame(out, |payload| payload.extend_from_slice(&json));
}
