//! Requests of clients.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use common::ids::{ClientId, RequestId, RequestNumber};
use common::messages::Selection;
use common::operation::{Operation, Origin};
use kvserver_core::{Ask, Input, Token, WatchAsk};

use super::super::host::P;
use super::Script;
use super::words::{number, option, place, server};

impl Script {
    pub(super) fn write(&mut self, at: &str, operation: Operation, options: &[&str]) {
        let origin = option(options, "as").map(|text| {
            let number = RequestNumber(number(text));
            Origin { client: ClientId(9), number, first_unanswered: number }
        });
        self.ask(at, Ask::Write { origin, age_ms: 0, operation }, options);
    }

    pub(super) fn watch(&mut self, at: &str, keys: &str, options: &[&str]) {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let selection = match keys.strip_suffix('*') {
            Some(prefix) => Selection::Prefix { prefix: bytes(prefix) },
            None => Selection::Key { key: bytes(keys) },
        };
        let after = option(options, "after").map(place);
        let bytes_max = option(options, "up-to").map_or(10_000, |bytes| number(bytes) as usize);
        let hold = Duration::from_millis(option(options, "hold").map_or(1000, number));
        self.ask(at, Ask::Watch(WatchAsk { partition: P, after, selection, bytes_max, hold }), options);
    }

    pub(super) fn ask(&mut self, at: &str, ask: Ask, options: &[&str]) {
        self.requests += 1;
        let token = Token(self.requests);
        let _ = writeln!(self.out, "    request {}", self.requests);
        if options.contains(&"trace") {
            let number = match &ask {
                Ask::Write { origin: Some(origin), .. } => origin.number,
                _ => RequestNumber(self.requests),
            };
            let request = RequestId { client: ClientId(9), number };
            self.step(server(at), Input::Trace { token, request });
        }
        let anywhere = options.contains(&"anywhere");
        let input =
            if anywhere { Input::ClientAnywhere { token, ask } } else { Input::Client { token, ask } };
        self.step(server(at), input);
    }
}
