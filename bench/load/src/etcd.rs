//! A client of etcd's gRPC interface (version 3), for puts, gets and the question which member leads.
//!
//! A unary call of gRPC is an HTTP/2 request whose body is a byte, a length and a message. It is made here on `h2`
//! itself: no code has to be generated, and the client takes as little as it can of the processor that it shares with
//! the servers.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use cli::bench::{Answered, Kind, Request, Target};
use h2::client::SendRequest;
use prost::Message;
use tokio::net::TcpStream;

/// HTTP/2 windows: a value of 1 MiB does not wait for one.
const WINDOW_BYTES: u32 = 4 << 20;

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("{address}: {reason}")]
    Broken { address: String, reason: String },
    #[error("etcd says: {0}")]
    Refused(String),
}

/// `etcdserverpb.PutRequest`.
#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

/// `etcdserverpb.RangeRequest`: without `serializable`, which is field 7, a read is linearizable.
#[derive(Clone, PartialEq, Message)]
struct RangeRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
}

/// `etcdserverpb.RangeResponse`.
#[derive(Clone, PartialEq, Message)]
struct RangeResponse {
    #[prost(int64, tag = "4")]
    count: i64,
}

/// `etcdserverpb.ResponseHeader`.
#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}

/// `etcdserverpb.StatusResponse`.
#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

/// A connection to one member.
#[derive(Clone, Debug)]
pub(crate) struct Etcd {
    address: Arc<str>,
    requests: SendRequest<Bytes>,
}

impl Etcd {
    pub(crate) async fn connect(address: &str) -> Result<Self, Error> {
        let broken = |reason: String| Error::Broken { address: address.to_owned(), reason };
        let stream = TcpStream::connect(address).await.map_err(|error| broken(error.to_string()))?;
        stream.set_nodelay(true).map_err(|error| broken(error.to_string()))?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
        let (requests, connection) =
            builder.handshake(stream).await.map_err(|error| broken(error.to_string()))?;
        tokio::spawn(async move {
            // Its requests learn of an error themselves.
            let _ = connection.await;
        });
        Ok(Self { address: address.into(), requests })
    }

    pub(crate) async fn put(&self, key: Bytes, value: Bytes) -> Result<(), Error> {
        self.call("/etcdserverpb.KV/Put", &PutRequest { key, value }).await.map(drop)
    }

    /// Whether this member leads.
    pub(crate) async fn leads(&self) -> Result<bool, Error> {
        let answer = self.call("/etcdserverpb.Maintenance/Status", &()).await?;
        let status: StatusResponse = self.decode(answer)?;
        Ok(status.leader != 0 && status.header.is_some_and(|header| header.member_id == status.leader))
    }

    async fn call(&self, method: &str, message: &impl Message) -> Result<Bytes, Error> {
        self.try_call(method, message).await.map_err(|error| self.broken(&error))?
    }

    async fn try_call(
        &self,
        method: &str,
        message: &impl Message,
    ) -> Result<Result<Bytes, Error>, h2::Error> {
        let request = http::Request::post(format!("http://{}{method}", self.address))
            .version(http::Version::HTTP_2)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .expect("the parts are fixed");
        let (response, mut body) = self.requests.clone().ready().await?.send_request(request, false)?;
        body.send_data(framed(message), true)?;
        let (head, mut body) = response.await?.into_parts();
        let mut answer = BytesMut::new();
        while let Some(data) = body.data().await {
            let data = data?;
            body.flow_control().release_capacity(data.len())?;
            answer.extend_from_slice(&data);
        }
        let trailers = body.trailers().await?.unwrap_or_default();
        let field = |name| {
            trailers.get(name).or_else(|| head.headers.get(name)).and_then(|value| value.to_str().ok())
        };
        if field("grpc-status") != Some("0") {
            let reason = field("grpc-message").unwrap_or("no reason").to_owned();
            return Ok(Err(Error::Refused(reason)));
        }
        answer.advance(FRAME_HEAD_BYTES.min(answer.len()));
        Ok(Ok(answer.freeze()))
    }

    fn decode<M: Message + Default>(&self, answer: Bytes) -> Result<M, Error> {
        M::decode(answer).map_err(|error| self.broken(&error))
    }

    fn broken(&self, reason: &impl ToString) -> Error {
        Error::Broken { address: self.address.to_string(), reason: reason.to_string() }
    }
}

impl Target for Etcd {
    type Error = Error;

    const KINDS: &'static [Kind] = &[Kind::Get, Kind::Put, Kind::Insert];

    async fn perform(&self, request: Request) -> Result<Answered, Error> {
        let mut answered = Answered::default();
        match request {
            Request::Get { key } => {
                let answer = self.call("/etcdserverpb.KV/Range", &RangeRequest { key }).await?;
                answered.missed = self.decode::<RangeResponse>(answer)?.count == 0;
            }
            Request::Put { key, value } => self.put(key, value).await?,
            Request::Scan { .. } | Request::Update { .. } => {
                unreachable!("the arguments were checked for it")
            }
        }
        Ok(answered)
    }
}

/// A byte that says that nothing is compressed, and the length.
const FRAME_HEAD_BYTES: usize = 5;

fn framed(message: &impl Message) -> Bytes {
    let bytes = message.encoded_len();
    let mut out = BytesMut::with_capacity(FRAME_HEAD_BYTES + bytes);
    out.put_u8(0);
    out.put_u32(u32::try_from(bytes).expect("a message of a benchmark is small"));
    message.encode(&mut out).expect("there is room for it");
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_those_of_etcd() {
        let put = framed(&PutRequest { key: "k".into(), value: "vv".into() });
        assert_eq!(put[..], *b"\0\0\0\0\x07\x0a\x01k\x12\x02vv");
        // A header, one pair, and a count of one, as a member sends them.
        let answer = b"\x0a\x02\x10\x07\x12\x06\x0a\x01k\x2a\x01v\x20\x01";
        assert_eq!(RangeResponse::decode(&answer[..]).unwrap().count, 1);
        let status = StatusResponse::decode(&b"\x0a\x02\x10\x07\x20\x07"[..]).unwrap();
        assert_eq!((status.leader, status.header.unwrap().member_id), (7, 7));
    }
}
