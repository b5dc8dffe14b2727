//! Messages of servers that are no cores.

use bytes::Bytes;
use common::ids::{ClientId, LogId, RequestNumber, Seq, ServerId};
use common::messages::{Digest, PeerMessage, ReadGrant, Reply, Request, Run, ToCoordinator, ToReplica};
use common::operation::Origin;
use kvserver_core::State;

use super::super::host::P;
use super::Script;
use super::words::{entry, number, option, place, put};

impl Script {
    /// A server that is no core speaks.
    pub(super) fn say(&mut self, from: ServerId, to: ServerId, what: &[&str]) {
        let partition = P;
        let epoch = option(what, "epoch").map_or(self.view.assignments[0].epoch, super::words::epoch);
        let message = match what {
            ["ack", seq, ..] => ToCoordinator::Ack { seq: Seq(number(seq)), clean: true, bound: vec![] }
                .about(partition, epoch),
            ["sync_request", ..] => ToReplica::SyncRequest {}.about(partition, epoch),
            ["ping"] => {
                self.requests += 1;
                PeerMessage::Ping { n: self.requests, view: self.view.number }
            }
            ["pong"] => {
                let n = self.pings.get(&(to, from)).copied().expect("it was pinged");
                PeerMessage::Pong { n, view: self.view.number }
            }
            ["read_lease_request", ..] => PeerMessage::ReadLeaseRequest {
                n: 1,
                view: self.view.number,
                partitions: vec![(partition, epoch)],
            },
            ["read_lease", milliseconds, ..] => {
                let n = self.questions.get(&(to, from)).copied().expect("it was asked");
                let for_us = number(milliseconds) * 1000;
                PeerMessage::ReadLease { n, partitions: vec![ReadGrant { partition, epoch, for_us }] }
            }
            ["forward", n, key, value, ..] => {
                let n = number(n);
                let number = RequestNumber(n);
                let origin = Origin { client: ClientId(9), number, first_unanswered: number };
                PeerMessage::Forward {
                    n,
                    request: Request::Write { origin, age_ms: 0, operation: put(key, value) },
                }
            }
            ["relay", n, key] => PeerMessage::Relay {
                n: number(n),
                request: Request::Get { key: Bytes::copy_from_slice(key.as_bytes()) },
            },
            ["relay", n, key, value] => {
                let n = number(n);
                let number = RequestNumber(n);
                let origin = Origin { client: ClientId(9), number, first_unanswered: number };
                let operation = put(key, value);
                PeerMessage::Relay { n, request: Request::Write { origin, age_ms: 0, operation } }
            }
            ["read_index", n] => ToCoordinator::ReadIndex { n: number(n) }.about(partition, epoch),
            ["refuses", n] => {
                let reason = "the value is too long here".to_owned();
                PeerMessage::ForwardReply { n: number(n), reply: Reply::Refused { reason } }
            }
            ["digest_request", at] => ToReplica::DigestRequest { at: place(at) }.about(partition, epoch),
            ["digest_reply", at, "none"] => {
                let (digest, equal_with) = (None, vec![]);
                ToCoordinator::DigestReply { at: place(at), digest, equal_with }.about(partition, epoch)
            }
            ["digest_reply", at, sum] => {
                let digest = Some(Digest { sum: number(sum).into(), records: 0, bytes: 0 });
                let equal_with = vec![];
                ToCoordinator::DigestReply { at: place(at), digest, equal_with }.about(partition, epoch)
            }
            ["differs", at, sum] => {
                let digest = Digest { sum: number(sum).into(), records: 0, bytes: 0 };
                ToReplica::Differs { at: place(at), digest }.about(partition, epoch)
            }
            ["snapshot_begin", base] => {
                ToReplica::SnapshotBegin { transfer: 1, base: place(base) }.about(partition, epoch)
            }
            ["snapshot_chunk", index, state, ..] => ToReplica::SnapshotChunk {
                transfer: 1,
                index: number(index),
                state: match *state {
                    "empty" => State::default().encode(),
                    bytes => Bytes::copy_from_slice(bytes.as_bytes()),
                },
                pairs: vec![],
                done: what.contains(&"done"),
            }
            .about(partition, epoch),
            ["snapshot_ack", next] => {
                let (transfer, installed) = (1 << 32 | 1, false);
                ToCoordinator::SnapshotAck { transfer, next: number(next), installed }.about(partition, epoch)
            }
            ["view"] => {
                let json = serde_json::to_vec(&*self.view).expect("a view");
                PeerMessage::View { number: self.view.number, json: json.into() }
            }
            ["fetch_request", prev] => ToReplica::FetchRequest { prev: place(prev) }.about(partition, epoch),
            ["fetch_reply", prev, entries @ ..] => {
                let entries = entries.iter().map(|word| entry(place(word))).collect();
                ToCoordinator::FetchReply { prev: place(prev), entries }.about(partition, epoch)
            }
            ["ahead", commit] => ToCoordinator::Ahead { commit: Seq(number(commit)) }.about(partition, epoch),
            ["no_newer_view", version] => {
                let to = self.hosts.get(&to).map(|host| host.sender().nonce).unwrap_or_default();
                PeerMessage::NoNewerView { number: super::words::epoch(version), to }
            }
            ["sync_reply", base, last, runs @ ..] => {
                let (base, last) = (place(base), place(last));
                let run = |word: &&str| Run { tag: place(word).tag, first: place(word).seq };
                let runs: Vec<&&str> = runs.iter().filter(|word| !word.starts_with("epoch=")).collect();
                let runs = if !runs.is_empty() {
                    runs.into_iter().map(run).collect()
                } else if last.seq > base.seq {
                    vec![Run { tag: last.tag, first: base.seq.next() }]
                } else {
                    vec![]
                };
                ToCoordinator::SyncReply { base, last, commit: base.seq, runs }.about(partition, epoch)
            }
            ["append", prev, rest @ ..] => {
                let entries = rest.iter().filter_map(|word| word.parse::<LogId>().ok());
                let commit = Seq(option(rest, "commit").map_or(0, number));
                let process = self.hosts.get(&to).map(|host| host.sender().nonce);
                let sync = process.filter(|_| rest.contains(&"sync"));
                ToReplica::Append { sync, prev: place(prev), commit, entries: entries.map(entry).collect() }
                    .about(partition, epoch)
            }
            _ => panic!("no server says {what:?}"),
        };
        self.receive(from, to, message);
    }
}
