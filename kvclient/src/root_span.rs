//! The client's span of a traced request: the root, under which the spans of the servers hang.

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
    /// Nothing, if the request is not traced or nobody wants spans. `message`: what is asked.
    pub(crate) fn begin(
        client: &Client,
        traced: Option<RequestId>,
        message: impl FnOnce() -> Request,
    ) -> Option<Self> {
        let (request, spans) = (traced?, client.spans()?.clone());
        Some(Self { spans, request, name: name(&message()), began: clock::time() })
    }

    /// The last try is over.
    pub(crate) fn end(self, answer: &Result<Reply, Error>) {
        let Self { spans, request, name, began } = self;
        let error = answer.as_ref().err().map(ToString::to_string);
        let took = clock::time().since(began);
        spans.root(request, Step { name, took, attributes: Vec::new(), error });
    }
}

/// As the servers' metrics call it.
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
            Operation::Fetch { .. } | Operation::Tick {} | Operation::Compare { .. } => "other",
        },
        _ => "other",
    }
}
