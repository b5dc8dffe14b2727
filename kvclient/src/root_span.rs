//! The client's span of a traced request: the root, and parent of the servers' spans.

use common::clock;
use common::ids::RequestId;
use common::messages::{Reply, Request};
use common::operation::Operation;
use common::spans::{Spans, Step};
use common::time::Time;

use crate::client::Client;
use crate::error::Error;

/// A traced request that is under way. One whose future is dropped has no span.
pub(crate) struct RootSpan {
    spans: Spans,
    request: RequestId,
    name: &'static str,
    began: Time,
}

impl RootSpan {
    /// Begins a span; `None` if the request is not traced or there is no collector. `message`: the request.
    pub(crate) fn begin(
        client: &Client,
        traced: Option<RequestId>,
        message: impl FnOnce() -> Request,
    ) -> Option<Self> {
        let (request, spans) = (traced?, client.spans()?.clone());
        Some(Self { spans, request, name: name(&message()), began: clock::time() })
    }

    /// Ends the span with the request's answer.
    pub(crate) fn end(self, answer: &Result<Reply, Error>) {
        let Self { spans, request, name, began } = self;
        let error = answer.as_ref().err().map(ToString::to_string);
        let took = clock::time().since(began);
        spans.root(request, Step { name, took, attributes: Vec::new(), error });
    }
}

/// The kind of request, as the servers' metrics name it.
fn name(request: &Request) -> &'static str {
    match request {
        Request::Get { .. } | Request::GetUpTo { .. } => "get",
        Request::Scan { .. } => "scan",
        Request::Write { operation, .. } => match operation {
            Operation::Put { .. } | Operation::Set { .. } => "put",
            Operation::Delete { .. } | Operation::Take { .. } => "delete",
            Operation::Append { .. } => "append",
            Operation::Expire { .. } | Operation::Retime { .. } => "expire",
            Operation::Add { .. } | Operation::AddDecimal { .. } => "add",
            Operation::Overwrite { .. } => "overwrite",
            Operation::Batch { .. } => "batch",
            Operation::Fetch { .. } | Operation::Tick {} | Operation::NoOp {} | Operation::Compare { .. } => {
                "other"
            }
        },
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex};

    use serde_json::Value;

    use super::*;
    use crate::testing::{Action, Fake};

    /// Takes one batch of spans.
    fn receive(collector: &TcpListener) -> Vec<Value> {
        let mut stream = BufReader::new(collector.accept().unwrap().0);
        let (mut line, mut length) = (String::new(), 0);
        while line != "\r\n" {
            line.clear();
            stream.read_line(&mut line).unwrap();
            if let Some(bytes) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                length = bytes.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap();
        let batch: Value = serde_json::from_slice(&body).unwrap();
        batch["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone()
    }

    #[tokio::test]
    async fn a_traced_request_has_one_span_over_all_tries_and_others_have_none() {
        let mut tries = 0;
        let server = Fake::alone(move |request| {
            tries += 1;
            Action::Reply(match request {
                Request::Get { .. } if tries > 1 => Reply::Value { found: None },
                Request::Get { .. } => Reply::Busy { reason: "a hand-over is under way".into() },
                _ => Reply::Refused { reason: "the disk is full".into() },
            })
        })
        .await;
        let collector = TcpListener::bind("127.0.0.1:0").unwrap();
        let spans =
            Spans::start(&format!("http://{}", collector.local_addr().unwrap()), "test", "1").unwrap();
        let plain = server.client(10_000).await.with_spans(spans.clone());
        let ids_seen = Arc::new(Mutex::new(Vec::new()));
        let note = Arc::clone(&ids_seen);
        let client = plain.traced(move |request| note.lock().unwrap().push(request.to_string()));
        assert_eq!(client.get("k").await.unwrap(), None);
        assert!(client.append("k", "v").await.is_err());
        assert_eq!(plain.get("k").await.unwrap(), None);
        let receiving = std::thread::spawn(move || receive(&collector));
        spans.stop();
        let sent = receiving.join().unwrap();
        let names: Vec<&Value> = sent.iter().map(|span| &span["name"]).collect();
        assert_eq!(names, ["get", "append"]);
        let ids: Vec<&Value> =
            sent.iter().map(|span| &span["attributes"][0]["value"]["stringValue"]).collect();
        assert_eq!(ids, ids_seen.lock().unwrap().iter().collect::<Vec<_>>());
        assert_eq!(sent[0]["status"]["message"], "");
        assert!(sent[1]["status"]["message"].as_str().unwrap().contains("the disk is full"), "{sent:?}");
    }
}
