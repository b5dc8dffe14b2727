//! Effects and messages in a line each, for people.

use bytes::Bytes;
use common::codec::Wire;
use common::ids::{Epoch, ServerId};
use common::messages::{
    Change, Digest, Entry, PartitionMessage, PeerMessage, Promised, ReadGrant, Reply, Run, ServerReport,
    ToCoordinator, ToReplica,
};
use common::operation::{Command, Operation};
use kvserver_core::{DurableState, Effect, First, Later, LogRecord, Reader, TraceStep, Traced};

fn names(servers: &[ServerId]) -> String {
    servers.iter().copied().map(name).collect()
}

/// A server's letter.
pub(crate) fn name(server: ServerId) -> char {
    u32::try_from(server.0).ok().and_then(char::from_u32).unwrap_or('?')
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn entry(entry: &Entry) -> String {
    let what = match Command::from_wire(entry.body.clone()).map(|command| command.operation) {
        Ok(Operation::Put { key, value, .. }) => format!("{}={}", text(&key), text(&value)),
        Ok(Operation::Compare { .. }) => "compare".to_owned(),
        Ok(Operation::NoOp {}) => "no-op".to_owned(),
        Ok(Operation::Append { key, value }) => format!("{}+={}", text(&key), text(&value)),
        other => format!("{other:?}"),
    };
    format!("{} {what}", entry.id)
}

fn entries(list: &[Entry]) -> String {
    list.iter().map(entry).collect::<Vec<_>>().join(", ")
}

fn runs(list: &[Run]) -> String {
    list.iter().map(|run| format!("{}.{}..", run.tag, run.first)).collect::<Vec<_>>().join(" ")
}

fn record(record: &LogRecord) -> String {
    match record {
        LogRecord::Entry { entry: one, .. } => format!("entry {}", entry(one)),
        LogRecord::Cut { after, .. } => format!("cut after {after}"),
        LogRecord::DurableState { durable_state, .. } => {
            let state =
                DurableState::decode(durable_state.clone()).expect("a durable state as it was written");
            let proposed: String = state.proposed.iter().map(|member| name(member.server)).collect();
            let proposed = if proposed.is_empty() {
                String::new()
            } else {
                format!(", proposed {proposed} in {}", state.proposed_in)
            };
            let failed = if state.failed { ", FAILED" } else { "" };
            let equal_with = match names(&state.equal_with) {
                servers if servers.is_empty() => servers,
                servers => format!(", equal with {servers}"),
            };
            format!("mark synced {}{proposed}{equal_with}{failed}", state.synced)
        }
        LogRecord::Install { base, .. } => format!("install a copy up to {base}"),
        LogRecord::Drop { .. } => "drop".to_owned(),
    }
}

fn to_coordinator(epoch: Epoch, message: &ToCoordinator) -> String {
    match message {
        ToCoordinator::SyncReply { base, last, commit, runs: list, .. } => {
            format!("sync reply, epoch {epoch}: {base} to {last}, commit {commit}, {}", runs(list))
                .trim()
                .to_owned()
        }
        ToCoordinator::Ack { seq, clean, .. } => {
            format!("ack {seq}, epoch {epoch}{}", if *clean { ", clean" } else { "" })
        }
        ToCoordinator::Gap { last, .. } => format!("gap after {last}"),
        ToCoordinator::SnapshotAck { installed: true, .. } => "snapshot installed".to_owned(),
        ToCoordinator::SnapshotAck { next, .. } => format!("snapshot taken below {next}"),
        ToCoordinator::ReadIndex { .. } => "read index?".to_owned(),
        ToCoordinator::DigestReply { at, digest, equal_with, .. } => {
            let equal_with = match names(equal_with) {
                servers if servers.is_empty() => servers,
                servers => format!(", was equal with {servers}"),
            };
            format!("digest at {at}: {}{equal_with}", digest_told(*digest))
        }
        ToCoordinator::FetchReply { prev, entries: list, .. } => {
            format!("fetched after {prev}: {}", entries(list))
        }
        ToCoordinator::Ahead { commit, .. } => format!("ahead: committed up to {commit}"),
    }
}

fn to_replica(epoch: Epoch, message: &ToReplica) -> String {
    match message {
        ToReplica::SyncRequest {} => format!("sync request, epoch {epoch}"),
        ToReplica::Append { sync, prev, commit, entries: list, .. } => {
            let sync = if sync.is_some() { "sync " } else { "" };
            format!("{sync}append, epoch {epoch}, after {prev}, commit {commit}: {}", entries(list))
        }
        ToReplica::SnapshotBegin { base, .. } => {
            format!("snapshot begins, epoch {epoch}, base {base}")
        }
        ToReplica::SnapshotChunk { index, pairs, done, .. } => {
            let keys: Vec<String> = pairs.iter().map(|(key, _)| text(key)).collect();
            format!("snapshot chunk {index}: {}{}", keys.join(" "), if *done { ", the last" } else { "" })
        }
        ToReplica::ReadIndexReply { commit, .. } => format!("read index {commit}"),
        ToReplica::DigestRequest { at, .. } => format!("digest at {at}?"),
        ToReplica::Equal { at, servers, .. } => format!("{} are equal at {at}", names(servers)),
        ToReplica::Differs { at, digest, .. } => {
            format!("differs at {at}, most have {}", digest_told(Some(*digest)))
        }
        ToReplica::TraceEntry { seq, request, .. } => {
            format!("entry {seq} is of request {}", request.number.0)
        }
        ToReplica::FetchRequest { prev, .. } => format!("fetch after {prev}"),
    }
}

/// A message; `None` for pings and pongs, which come all the time.
pub(crate) fn message(message: &PeerMessage) -> Option<String> {
    Some(match message {
        PeerMessage::Partition { epoch, message, .. } => match message {
            PartitionMessage::ToCoordinator(message) => to_coordinator(*epoch, message),
            PartitionMessage::ToReplica(message) => to_replica(*epoch, message),
        },
        PeerMessage::Ping { .. } | PeerMessage::Pong { .. } | PeerMessage::Clock { .. } => return None,
        PeerMessage::View { .. } => "its view".to_owned(),
        PeerMessage::WantView { have } => format!("wants a newer view than {have}"),
        PeerMessage::ReadLeaseRequest { view, partitions, .. } if partitions.is_empty() => {
            format!("uses view {view}")
        }
        PeerMessage::ReadLeaseRequest { partitions, .. } => {
            let epochs: Vec<String> = partitions.iter().map(|(_, epoch)| epoch.to_string()).collect();
            format!("read lease?, epoch {}", epochs.join(" "))
        }
        PeerMessage::ReadLease { partitions, .. } => {
            let grant = |grant: &ReadGrant| format!("epoch {} for {} ms", grant.epoch, grant.for_us / 1000);
            format!("read lease, {}", partitions.iter().map(grant).collect::<Vec<_>>().join(", "))
        }
        PeerMessage::TraceForward { request, .. } => format!("forward of request {}", request.number.0),
        PeerMessage::NoNewerView { number, .. } => format!("has no newer view than {number}"),
        PeerMessage::Forward { .. } => "forwards a request".to_owned(),
        PeerMessage::Relay { .. } => "passes a request on through it".to_owned(),
        PeerMessage::ForwardReply { reply: told, .. } => format!("reply to forwarded: {}", reply(told)),
    })
}

fn digest_told(digest: Option<Digest>) -> String {
    // The first digits tell them apart.
    digest.map_or_else(
        || "none".to_owned(),
        |of| format!("{:.8} of {} keys", format!("{:032x}", of.sum), of.records),
    )
}

fn change(change: &Change) -> String {
    match change {
        Change::Put { key, found } => format!("put {} {}={}", found.version, text(key), text(&found.value)),
        Change::Expiry { key, found } => {
            let until = found.expires.map_or_else(|| "never".to_owned(), |at| at.0.to_string());
            format!("expiry {} {}={} {until}", found.version, text(key), text(&found.value))
        }
        Change::Delete { key, version } => format!("delete {version} {}", text(key)),
        Change::Gap { from, to } => format!("GAP after {from} to {to}"),
    }
}

fn reply(reply: &Reply) -> String {
    match reply {
        Reply::Outcome { outcome } => format!("{outcome:?}"),
        Reply::Value { found: Some(found) } => format!("{} (version {})", text(&found.value), found.version),
        Reply::Value { found: None } => "nothing".to_owned(),
        Reply::Changes { changes, through, next_bytes } => {
            let told: Vec<String> = changes.iter().map(change).collect();
            let next =
                if *next_bytes > 0 { format!(", the next has {next_bytes} bytes") } else { String::new() };
            let told = if told.is_empty() { "no changes".to_owned() } else { told.join(", ") };
            format!("{told}; through {through}{next}")
        }
        other => format!("{other:?}"),
    }
}

fn trace(traced: &Traced) -> String {
    let step = match traced.step {
        TraceStep::Received { from: Some(from) } => format!("received from {}", name(from)),
        TraceStep::Received { from: None } => "received".to_owned(),
        TraceStep::Forwarded { to } => format!("passed on to {}", name(to)),
        TraceStep::Parked {} => "waits".to_owned(),
        TraceStep::Ordered { entry } => format!("ordered as {entry}"),
        TraceStep::Appended { entry } => format!("appended as {entry}"),
        TraceStep::Stored {} => "on disk".to_owned(),
        TraceStep::Acknowledged { to } => format!("acknowledged to {}", name(to)),
        TraceStep::AcknowledgedBy { by } => format!("acknowledged by {}", name(by)),
        TraceStep::Applied {} => "applied".to_owned(),
        TraceStep::Read {} => "reads".to_owned(),
        TraceStep::Answered { outcome } => format!("answered, {outcome}"),
    };
    format!("logs request {}: {step} after {} ms", traced.request.number.0, traced.after.as_millis())
}

fn promised(promised: Option<Promised>) -> String {
    promised.map_or_else(
        || "nothing".to_owned(),
        |promised| format!("{} to rebuild {}", promised.generation, promised.rebuild.0),
    )
}

/// An effect; `None` for what is of no interest.
pub(crate) fn effect(effect: &Effect) -> Option<String> {
    Some(match effect {
        Effect::First(First::Persist { records, .. }) if records.is_empty() => return None,
        Effect::First(First::Persist { records, .. }) => {
            format!("persist {}", records.iter().map(record).collect::<Vec<_>>().join("; "))
        }
        Effect::First(First::PersistView { view, .. }) => format!("persist view {}", view.number),
        Effect::First(First::PersistPromise { promised: given, .. }) => {
            format!("persist the promise {}", promised(*given))
        }
        Effect::Later(Later::Adopted { view }) => format!("adopted view {}", view.number),
        Effect::First(First::Send { to, message: what }) => format!("to {}: {}", name(*to), message(what)?),
        Effect::Later(Later::Report {
            report:
                ServerReport::Heartbeat { .. } | ServerReport::Transfers { .. } | ServerReport::Unheard { .. },
        }) => return None,
        Effect::Later(Later::Report { report: ServerReport::Propose { member, epoch, .. } }) => {
            format!("to ecs: propose {}, epoch {epoch}", name(member.server))
        }
        Effect::Later(Later::Report { report: ServerReport::Silent { member, .. } }) => {
            format!("to ecs: {} is silent", name(*member))
        }
        Effect::Later(Later::Report { report: ServerReport::Yield { to, epoch, .. } }) => {
            format!("to ecs: {} is to coordinate, epoch {epoch}", name(*to))
        }
        Effect::Later(Later::Report { report: ServerReport::LostEntries { member, epoch, .. } }) => {
            format!("to ecs: {} has lost entries, epoch {epoch}", name(member.server))
        }
        Effect::Later(Later::Report {
            report: ServerReport::CopiesDisagree { member, epoch, commit, .. },
        }) => {
            format!(
                "to ecs: copies disagree, {} has committed up to {commit}, epoch {epoch}",
                name(member.server)
            )
        }
        Effect::Later(Later::Report { report: ServerReport::CopyFailed { epoch, .. } }) => {
            format!("to ecs: my copy has failed, epoch {epoch}")
        }
        Effect::Later(Later::Report { report: ServerReport::Holdings { promised: given, view, tails } }) => {
            let proposed =
                tails.iter().flat_map(|tail| tail.proposed.iter().map(|member| name(member.server)));
            let proposed: String = proposed.collect();
            let given = promised(*given);
            format!("to ecs: promised {given}, holds view {}, proposed `{proposed}`", view.number)
        }
        Effect::Later(Later::Report { report }) => format!("to ecs: {report:?}"),
        Effect::Later(Later::Apply { entries: list, .. }) => format!("apply {}", entries(list)),
        Effect::Later(Later::Read { .. }) => "read".to_owned(),
        Effect::Later(Later::ReadLog { reader: Reader::Apply, from, .. }) => {
            format!("read the log from {from}, to apply")
        }
        Effect::Later(Later::ReadLog { reader: Reader::Fetch, from, .. }) => {
            format!("read the log from {from}, for the new coordinator")
        }
        Effect::Later(Later::ReadLog { reader: Reader::Watch, from, .. }) => {
            format!("read the log from {from}, for who watches")
        }
        Effect::Later(Later::ReadLog { reader: Reader::Member(to), from, .. }) => {
            format!("read the log from {from}, for {}", name(*to))
        }
        Effect::Later(Later::PinLog { from: Some(from), .. }) => format!("pin the log from {from}"),
        Effect::Later(Later::PinLog { from: None, .. }) => "unpin the log".to_owned(),
        Effect::Later(Later::OpenSnapshot { .. }) => "open a snapshot".to_owned(),
        Effect::Later(Later::ReadSnapshot { index, .. }) => format!("read snapshot chunk {index}"),
        Effect::Later(Later::CloseSnapshot { .. }) => "close the snapshot".to_owned(),
        Effect::Later(Later::Stage { index, .. }) => format!("stage chunk {index}"),
        Effect::Later(Later::Install { .. }) => "install the staged copy".to_owned(),
        Effect::Later(Later::Drop { .. }) => "drop the records".to_owned(),
        Effect::Later(Later::Reply { token, reply: told }) => {
            format!("reply to request {}: {}", token.0, reply(told))
        }
        Effect::First(First::Trace { traced }) => trace(traced),
        Effect::Later(Later::Warn { reason }) => format!("warns: {reason}"),
        Effect::Later(Later::Alarm { reason }) => format!("ALARM: {reason}"),
        Effect::Later(Later::Condemn { reason }) => format!("CONDEMNS ITS STORE: {reason}"),
        Effect::Later(Later::Stop { reason }) | Effect::Later(Later::Fatal { reason }) => {
            format!("STOP: {reason}")
        }
    })
}
