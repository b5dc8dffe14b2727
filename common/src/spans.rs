//! Spans of traced requests, sent to an OpenTelemetry collector as OTLP in JSON over HTTP.
//!
//! All servers and the client name the spans of one request alike without exchanging a message: the trace is the MD5 of
//! the [`RequestId`], and the id of the client's span, the parent of all others, is the beginning of that MD5. So
//! nothing but the id goes with a request. Each process dates its spans by its own clock.
//!
//! Spans wait in a bounded queue; a thread of its own sends them. If a collector does not answer, the spans that were
//! sent to it and those that do not fit are lost; nothing is delayed but the end of the process. That is logged once,
//! and once when it answers again.
//!
//! Only HTTP without TLS and without credentials: a collector is meant to run beside the server, and to pass on.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor,
};

use crate::clock;
use crate::ids::RequestId;
use crate::limits::{COLLECTOR_ANSWER_BYTES_MAX, SPANS_EXPORT_FOR, SPANS_WAITING_MAX};

/// Where spans are sent, by the specification of OTLP over HTTP.
const PATH: &str = "/v1/traces";

/// Sends spans. Clones share one queue and one thread.
#[derive(Clone)]
pub struct Spans {
    processor: Arc<BatchSpanProcessor>,
    /// A part of the names of all spans of this process.
    name: String,
}

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spans({})", self.name)
    }
}

/// A step of a request.
#[derive(Clone, Debug)]
pub struct Step {
    /// What was done.
    pub name: &'static str,
    /// How long it took, up to now.
    pub took: Duration,
    /// Further facts, by name.
    pub attributes: Vec<(&'static str, String)>,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// Takes the address of a collector, `http://host:port`, from a command line.
///
/// # Errors
/// In words, when it is none.
pub fn endpoint(text: &str) -> Result<String, String> {
    Collector::parse(text).map(|_| text.to_owned())
}

impl Spans {
    /// Begins to send to the collector at `endpoint`. `service` and `instance` name this process.
    ///
    /// # Errors
    /// In words, when that is no address.
    pub fn start(endpoint: &str, service: &'static str, instance: &str) -> Result<Self, String> {
        let collector = Collector::parse(endpoint)?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(collector)
            .with_protocol(Protocol::HttpJson)
            .with_endpoint(format!("{}{PATH}", endpoint.trim_end_matches('/')))
            .with_timeout(SPANS_EXPORT_FOR)
            .build()
            .map_err(|error| format!("`{endpoint}` cannot be used: {error}"))?;
        let bounds = BatchConfigBuilder::default().with_max_queue_size(SPANS_WAITING_MAX).build();
        let mut processor = BatchSpanProcessor::builder(exporter).with_batch_config(bounds).build();
        let names = [
            KeyValue::new("service.namespace", "trefoil"),
            KeyValue::new("service.instance.id", instance.to_owned()),
        ];
        processor.set_resource(
            &Resource::builder_empty().with_service_name(service).with_attributes(names).build(),
        );
        Ok(Self { processor: Arc::new(processor), name: format!("{service} {instance}") })
    }

    /// The client's span, the root of the request's trace.
    pub fn root(&self, request: RequestId, step: Step) {
        let trace = trace_of(request);
        self.send(request, root_of(trace), SpanId::INVALID, SpanKind::Client, step);
    }

    /// A server's span: from when it first heard of the request to now.
    pub fn step(&self, request: RequestId, step: Step) {
        let trace = trace_of(request);
        // The same step may come again, for another server or in another try: its end distinguishes them.
        let label =
            format!("{trace:x} {} {} {:?} {:?}", self.name, step.name, step.attributes, clock::system());
        let [a, b, c, d, e, f, g, h, ..] = md5::compute(label).0;
        let id = SpanId::from_bytes([a, b, c, d, e, f, g, h]);
        self.send(request, id, root_of(trace), SpanKind::Internal, step);
    }

    fn send(&self, request: RequestId, id: SpanId, parent_span_id: SpanId, span_kind: SpanKind, step: Step) {
        let Step { name, took, attributes, error } = step;
        let end_time = clock::system();
        let named = std::iter::once(("request", request.to_string())).chain(attributes);
        let context =
            SpanContext::new(trace_of(request), id, TraceFlags::SAMPLED, false, TraceState::default());
        self.processor.on_end(SpanData {
            span_context: context,
            parent_span_id,
            parent_span_is_remote: parent_span_id != SpanId::INVALID,
            span_kind,
            name: name.into(),
            start_time: end_time.checked_sub(took).unwrap_or(end_time),
            end_time,
            attributes: named.map(|(key, value)| KeyValue::new(key, value)).collect(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: error.map_or(Status::Unset, Status::error),
            instrumentation_scope: InstrumentationScope::builder("trefoil").build(),
        });
    }

    /// Sends what waits, before the process ends. A collector that does not answer is not waited for long.
    pub fn stop(&self) {
        if let Err(error) = self.processor.shutdown_with_timeout(SPANS_EXPORT_FOR) {
            tracing::warn!("not all spans were sent: {error}");
        }
    }
}

/// The trace id of a request, the same at all servers and at the client.
fn trace_of(request: RequestId) -> TraceId {
    TraceId::from_bytes(md5::compute(request.to_string()).0)
}

fn root_of(trace: TraceId) -> SpanId {
    let [a, b, c, d, e, f, g, h, ..] = trace.to_bytes();
    SpanId::from_bytes([a, b, c, d, e, f, g, h])
}

/// Where the collector listens. Each batch has a connection of its own: there are few, and none is kept for long.
#[derive(Debug)]
struct Collector {
    authority: String,
    /// The last batch did not arrive, and that was logged.
    is_away: AtomicBool,
}

impl Collector {
    fn parse(endpoint: &str) -> Result<Self, String> {
        let wrong = || format!("`{endpoint}` is no address of a collector; write http://HOST:PORT");
        let authority = endpoint.strip_prefix("http://").ok_or_else(wrong)?.trim_end_matches('/');
        let port = authority.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        match port {
            Some(_) if !authority.contains('/') => {
                Ok(Self { authority: authority.to_owned(), is_away: AtomicBool::new(false) })
            }
            _ => Err(wrong()),
        }
    }

    fn post(&self, request: &Request<Bytes>) -> io::Result<Response<Bytes>> {
        let address = self.authority.to_socket_addrs()?.next();
        let address =
            address.ok_or_else(|| io::Error::other(format!("{} has no address", self.authority)))?;
        let mut stream = TcpStream::connect_timeout(&address, SPANS_EXPORT_FOR)?;
        stream.set_read_timeout(Some(SPANS_EXPORT_FOR))?;
        stream.set_write_timeout(Some(SPANS_EXPORT_FOR))?;
        let body = request.body();
        let mut head = format!(
            "POST {PATH} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n",
            self.authority,
            body.len()
        );
        for (name, value) in request.headers() {
            if let (false, Ok(value)) = (name == "content-length", value.to_str()) {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        stream.take(COLLECTOR_ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        let status = answer.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5));
        let status = status.and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u16>().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("{} speaks no HTTP", self.authority)))?;
        if !(200..300).contains(&status) {
            return Err(io::Error::other(format!("{} answers with status {status}", self.authority)));
        }
        // The body of the answer does not matter.
        Response::builder().status(status).body(Bytes::from_static(b"{}")).map_err(io::Error::other)
    }
}

impl Collector {
    /// Logs that spans are lost, and that they are no longer, once each.
    fn log_change(&self, error: Option<&io::Error>) {
        let authority = &self.authority;
        match (self.is_away.swap(error.is_some(), Ordering::Relaxed), error) {
            (false, Some(error)) => tracing::warn!(
                "spans are lost, as the collector at {authority} does not take them: {error}. Start it, or leave \
                 --otlp-endpoint out; requests are served as ever"
            ),
            (true, None) => tracing::info!("the collector at {authority} takes spans again"),
            _ => {}
        }
    }
}

#[async_trait::async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        // On the exporting thread, which does nothing else.
        let posted = self.post(&request);
        self.log_change(posted.as_ref().err());
        Ok(posted?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ClientId, RequestNumber};
    use serde_json::Value;
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;

    /// Takes one export, and answers it.
    fn receive(listener: &TcpListener) -> Value {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream);
        let (mut first, mut length) = (String::new(), 0);
        reader.read_line(&mut first).unwrap();
        assert_eq!(first, "POST /v1/traces HTTP/1.1\r\n");
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let line = line.trim().to_ascii_lowercase();
            if let Some(bytes) = line.strip_prefix("content-length: ") {
                length = bytes.parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        reader
            .get_mut()
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
            .unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    #[test]
    fn spans_of_client_and_server_are_one_trace() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let request = RequestId { client: ClientId(7), number: RequestNumber(3) };
        let step = |name, ms| {
            let attributes = vec![("partition", "5".to_owned())];
            Step { name, took: Duration::from_millis(ms), attributes, error: None }
        };
        let client = Spans::start(&endpoint, "kvclient", "me").unwrap();
        client.root(request, Step { error: Some("no time left".to_owned()), ..step("put", 9) });
        let server = Spans::start(&endpoint, "kvserver", "a").unwrap();
        server.step(request, step("ordered", 1));
        server.step(request, step("on this disk", 4));
        let receiving = std::thread::spawn(move || [receive(&listener), receive(&listener)]);
        client.stop();
        server.stop();
        let [client, server] = receiving.join().unwrap();
        let service = |export: &Value| {
            export["resourceSpans"][0]["resource"]["attributes"]
                .as_array()
                .unwrap()
                .iter()
                .find(|one| one["key"] == "service.name")
                .map(|one| one["value"]["stringValue"].clone())
                .unwrap()
        };
        assert_eq!((service(&client), service(&server)), ("kvclient".into(), "kvserver".into()));
        let spans =
            |export: &Value| export["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone();
        let (client, server) = (spans(&client), spans(&server));
        assert_eq!((client.len(), server.len()), (1, 2));
        for span in &server {
            assert_eq!(
                (&span["traceId"], &span["parentSpanId"]),
                (&client[0]["traceId"], &client[0]["spanId"])
            );
            assert_eq!(span["attributes"][0]["value"]["stringValue"], request.to_string());
        }
        assert_ne!(server[0]["spanId"], server[1]["spanId"]);
        assert_eq!(client[0]["status"]["message"], "no time left");
        assert_eq!(server[0]["status"]["code"].as_u64().unwrap_or_default(), 0, "{server:?}");
        let nanos = |span: &Value, at: &str| span[at].as_str().unwrap().parse::<u64>().unwrap();
        assert_eq!(nanos(&server[1], "endTimeUnixNano") - nanos(&server[1], "startTimeUnixNano"), 4_000_000);
    }

    #[test]
    fn a_wrong_address_is_told_and_a_collector_that_is_not_there_stops_nobody() {
        for wrong in ["localhost:4318", "https://h:1", "http://h", "http://h:1/x", "http://h:99999"] {
            assert!(Spans::start(wrong, "s", "i").unwrap_err().contains("http://HOST:PORT"), "{wrong}");
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let spans = Spans::start(&format!("http://{port}"), "s", "i").unwrap();
        let request = RequestId { client: ClientId(7), number: RequestNumber(3) };
        let (name, took) = ("received", Duration::ZERO);
        spans.step(request, Step { name, took, attributes: Vec::new(), error: None });
        spans.stop();
    }
}
