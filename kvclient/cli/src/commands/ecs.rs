//! Asking the ECS over HTTP: JSON there, JSON back.

use bytes::Bytes;
use common::stream::connect;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::time::timeout;

use crate::frame::failure::{Exit, Failure};
use crate::frame::session::Session;
use crate::limits::{ECS_ANSWER_BYTES_MAX, ECS_ANSWERS_WITHIN};

/// The ECS of a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Ecs {
    pub(crate) address: String,
}

/// An answer of the ECS: HTTP status and JSON.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) json: Value,
}

impl Ecs {
    /// The ECS, as any server names it.
    pub(crate) async fn of(session: &mut Session) -> Result<Self, Failure> {
        Ok(Self { address: session.client_for_servers().await?.ecs_address().await? })
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        accepted(self.ask("GET", path, None).await?)
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        accepted(self.ask("POST", path, Some(body)).await?)
    }

    /// Asks once. A refusal is an answer.
    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let asked = timeout(ECS_ANSWERS_WITHIN, self.exchange(method, path, body)).await;
        let late = |_| format!("it did not answer within {} s", ECS_ANSWERS_WITHIN.as_secs());
        asked.map_err(late).flatten().map_err(|reason| {
            let address = &self.address;
            // A POST that broke off may have been carried out; all of them can be asked for again.
            let message = format!(
                "the ECS at {address} did not do it: {reason}. Check that it runs; for `admin`, --ecs HOST:PORT names \
                 another address"
            );
            Failure::new(Exit::Unavailable, message)
        })
    }

    async fn exchange(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let stream = connect(&self.address).await.map_err(|error| text(&error))?;
        // An ECS serves requests for its IP address, whatever host names it knows.
        let host = stream.peer_addr().map_err(|error| text(&error))?.to_string();
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| text(&error))?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, host)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| text(&error))?;
        let asking = async {
            let response = sender.send_request(request).await.map_err(|error| text(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ECS_ANSWER_BYTES_MAX).collect().await;
            let bytes = body.map_err(|error| text(&error))?.to_bytes();
            let json = serde_json::from_slice(&bytes).map_err(|_| "it is no ECS that answers".to_owned())?;
            Ok(Answer { status, json })
        };
        // The connection works while the answer is read, and is over with it.
        tokio::select! {
            answer = asking => answer,
            Err(error) = connection => Err(text(&error)),
        }
    }
}

/// The JSON of a request that was carried out, or the failure.
pub(crate) fn accepted(answer: Answer) -> Result<Value, Failure> {
    let Answer { status, json } = answer;
    if status.is_success() {
        return Ok(json);
    }
    let exit = match status {
        StatusCode::PRECONDITION_FAILED => Exit::CompareFailed,
        StatusCode::SERVICE_UNAVAILABLE => Exit::Unavailable,
        _ => Exit::Usage,
    };
    let word = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
    let (error, hint) = (word("error"), word("hint"));
    let message = match (error.is_empty(), hint.is_empty()) {
        (true, _) => format!("the ECS refused it ({status})"),
        (false, true) => error,
        (false, false) => format!("{error}; {hint}"),
    };
    Err(Failure::new(exit, message))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn refusals_have_codes_and_say_what_to_do() {
        let refused = |status, json| accepted(Answer { status, json }).unwrap_err();
        let moved =
            refused(StatusCode::PRECONDITION_FAILED, json!({"error": "it moved", "hint": "look anew"}));
        assert_eq!(moved, Failure::new(Exit::CompareFailed, "it moved; look anew"));
        assert_eq!(refused(StatusCode::CONFLICT, json!({"error": "no"})), Failure::usage("no"));
        assert_eq!(refused(StatusCode::SERVICE_UNAVAILABLE, json!({})).exit, Exit::Unavailable);
        assert_eq!(accepted(Answer { status: StatusCode::ACCEPTED, json: json!(1) }), Ok(json!(1)));
    }

    #[tokio::test]
    async fn an_ecs_that_does_not_answer_is_reported() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let failure = Ecs { address: address.clone() }.get("/api/v1/status").await.unwrap_err();
        assert_eq!(failure.exit, Exit::Unavailable);
        assert!(failure.message.contains(&address) && failure.message.contains("--ecs"), "{failure}");
    }
}
