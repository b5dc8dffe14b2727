//! An ECS in this process on a free port, servers as the ECS sees them, and a bare HTTP client.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use common::frame::{PREFACE, take_frame, take_preface, write_frame};
use common::ids::{ClusterId, Incarnation, Nonce, ServerId, StoreId};
use common::messages::{CopyState, Hello, ProcessId, ServerReport};
use common::view::{Member, View};
use ecs::{Error, Opened, Options};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Long enough for a loaded machine; no test waits for it unless it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct TestEcs {
    pub(crate) address: SocketAddr,
    pub(crate) cluster: ClusterId,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), Error>>,
}

pub(crate) fn options(dir: &Path, more: &[&str]) -> Options {
    let dir = dir.to_str().unwrap();
    let words = ["ecs", "--dir", dir].into_iter().chain(more.iter().copied());
    Options::read(words.map(Into::into)).unwrap()
}

impl TestEcs {
    pub(crate) async fn start(dir: &Path, more: &[&str]) -> Self {
        let opened = Opened::open(&options(dir, more)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, cluster) = (listener.local_addr().unwrap(), opened.cluster());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(opened.serve(listener, async {
            let _ = stopped.await;
        }));
        Self { address, cluster, stop: Some(stop), task }
    }

    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        timeout(PATIENCE, &mut self.task).await.unwrap().unwrap().unwrap();
    }

    /// A request; the status and the body.
    pub(crate) async fn http(&self, method: &str, path: &str, headers: &str) -> (u16, String) {
        self.http_at("localhost", method, path, headers).await
    }

    /// A request for some host name.
    pub(crate) async fn http_at(&self, host: &str, method: &str, path: &str, headers: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// Sends JSON.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let body = body.to_string();
        let headers =
            format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let (status, answer) = self.http("POST", path, &headers).await;
        (status, serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{path}: {error}: {answer}")))
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = self.http("GET", path, "").await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
    }
}

/// A server as far as the ECS sees it.
pub(crate) struct TestServer {
    pub(crate) sender: ProcessId,
    listener: TcpListener,
    report: Option<TcpStream>,
    views: Option<(TcpStream, BytesMut)>,
}

impl TestServer {
    pub(crate) async fn new(id: u128) -> Self {
        let sender = ProcessId {
            server: ServerId(id << 96),
            store: StoreId(id),
            incarnation: Incarnation(1),
            nonce: Nonce(1),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { sender, listener, report: None, views: None }
    }

    pub(crate) fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    /// Opens the report link and says nothing on it.
    pub(crate) async fn open_report_link(&mut self, ecs: &TestEcs, cluster: Option<ClusterId>) {
        let mut stream = TcpStream::connect(ecs.address).await.unwrap();
        stream.write_all(&greeting(&Hello::Report { cluster, sender: self.sender })).await.unwrap();
        self.report = Some(stream);
    }

    /// Opens the report link and says hello.
    pub(crate) async fn hello(&mut self, ecs: &TestEcs, cluster: Option<ClusterId>) {
        self.open_report_link(ecs, cluster).await;
        let address = self.address();
        let view = common::ids::Epoch::default();
        self.say(&ServerReport::Hello { address, weight: 1, view, rebuild: None, tails: Vec::new() }).await;
    }

    pub(crate) async fn say(&mut self, report: &ServerReport) {
        self.say_json(&serde_json::to_value(report).unwrap()).await;
    }

    /// What a server of another version may say.
    pub(crate) async fn say_json(&mut self, report: &Value) {
        let mut frame = Vec::new();
        write_frame(&mut frame, |out| serde_json::to_writer(out, report).unwrap());
        self.report.as_mut().unwrap().write_all(&frame).await.unwrap();
    }

    pub(crate) async fn heartbeat(&mut self, view: &View) {
        let member = Member { server: self.sender.server, store: self.sender.store };
        let counts = view.iter().filter(|(_, now)| now.in_sync.contains(&member));
        let copies = counts.map(|(partition, now)| {
            let (epoch, active) = (now.epoch, now.coordinator == member.server);
            CopyState { partition, epoch, active, last: 0, applied: 0, proved: true }
        });
        let (view, copies) = (view.number, copies.collect());
        let report = ServerReport::Heartbeat {
            view,
            copies,
            requests: 5,
            keys: 7,
            bytes: 8,
            free_bytes: 9,
            health: Default::default(),
        };
        self.say(&report).await;
    }

    /// Whether the ECS closes the report link, without a byte on it.
    pub(crate) async fn report_link_ends(&mut self) -> bool {
        let mut bytes = [0; 16];
        let read = self.report.as_mut().unwrap().read(&mut bytes);
        matches!(timeout(PATIENCE, read).await.unwrap(), Ok(0) | Err(_))
    }

    /// The next view that comes, on this link or a new one, with heartbeats meanwhile.
    pub(crate) async fn view(&mut self) -> View {
        timeout(PATIENCE, async {
            loop {
                if self.views.is_none() {
                    let (stream, _) = self.listener.accept().await.unwrap();
                    let mut input = BytesMut::new();
                    let mut stream = stream;
                    while !take_preface(&mut input).unwrap() {
                        assert!(stream.read_buf(&mut input).await.unwrap() > 0);
                    }
                    let hello = frame(&mut stream, &mut input).await.unwrap();
                    let hello: Hello = serde_json::from_slice(&hello).unwrap();
                    assert!(
                        matches!(hello, Hello::Views { to, .. } if to == self.sender.server),
                        "{hello:?}"
                    );
                    self.views = Some((stream, input));
                }
                let (stream, input) = self.views.as_mut().unwrap();
                match frame(stream, input).await {
                    Some(bytes) => return serde_json::from_slice(&bytes).unwrap(),
                    None => self.views = None,
                }
            }
        })
        .await
        .expect("a view comes")
    }

    /// The first view that is as wanted.
    pub(crate) async fn view_where(&mut self, wanted: impl Fn(&View) -> bool) -> View {
        loop {
            let view = self.view().await;
            view.check().unwrap();
            if wanted(&view) {
                return view;
            }
        }
    }

    /// Proposes all copies that are joining and that this server coordinates.
    pub(crate) async fn propose_all(&mut self, view: &View) {
        for (partition, assignment) in view.iter() {
            if assignment.coordinator != self.sender.server {
                continue;
            }
            for &member in &assignment.joining {
                let incarnation = view.servers[&member.server].incarnation;
                let epoch = assignment.epoch;
                self.say(&ServerReport::Propose { partition, epoch, member, incarnation }).await;
            }
        }
    }
}

/// The beginning of a link.
pub(crate) fn greeting(hello: &Hello) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    write_frame(&mut bytes, |out| serde_json::to_writer(out, hello).unwrap());
    bytes
}

/// The next frame; `None` when the link has ended.
pub(crate) async fn frame(stream: &mut TcpStream, input: &mut BytesMut) -> Option<Bytes> {
    loop {
        if let Some(frame) = take_frame(input).unwrap() {
            return Some(frame);
        }
        if !matches!(timeout(PATIENCE, stream.read_buf(input)).await.unwrap(), Ok(read) if read > 0) {
            return None;
        }
    }
}
