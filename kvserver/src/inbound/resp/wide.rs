//! Commands over all keys, and about the server: several steps, one after the other.

use bytes::Bytes;
use common::clock;
use common::ids::{ClientId, PartitionId};
use common::messages::Reply;
use common::operation::{Condition, Operation};
use common::status::ServerStatus;

use super::super::principal::Denied;
use super::steps::Steps;
use crate::protocol::resp::{
    ELEMENTS_MAX, Facts, Version, Wide, Writer, error_line, failure, matches, write_info,
};
use kvserver_core::{Ask, Query};

/// Bits of a cursor below the partition's number.
const POSITION_BITS: u32 = 48;

/// Partitions that are asked at the same time: bounds the memory of their answers.
const PARTITIONS_AT_ONCE: usize = 16;

/// Keys that are asked for at a time where all keys are wanted.
const KEYS_AT_ONCE: u32 = 4096;

const NO_VIEW: &str = "LOADING the server is in no view yet, retry";

/// The answer to a question for keys.
struct Found {
    keys: Vec<Bytes>,
    count: u64,
    next: u64,
}

fn keys_of(reply: Reply) -> Result<Found, String> {
    match reply {
        Reply::Keys { keys, count, next } => Ok(Found { keys, count, next }),
        other => Err(failure(&other).unwrap_or_else(|| "ERR unexpected answer; report this".to_owned())),
    }
}

impl Steps<'_> {
    /// The reply to a command that needs more than the session and one call.
    pub(super) async fn wide(&self, wide: Wide, version: Version) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, version);
        let done = match wide {
            Wide::Scan { cursor, pattern, count, nothing } => {
                self.scan(cursor, count).await.map(|(next, mut keys)| {
                    keys.retain(|key| {
                        !nothing && pattern.as_ref().is_none_or(|pattern| matches(pattern, key))
                    });
                    writer.array(2);
                    writer.bulk(next.to_string().as_bytes());
                    writer.array(keys.len());
                    keys.iter().for_each(|key| writer.bulk(key));
                })
            }
            Wide::Keys { pattern } => self.all_keys(&pattern).await.map(|keys| {
                writer.array(keys.len());
                keys.iter().for_each(|key| writer.bulk(key));
            }),
            Wide::Size => self.size().await.map(|size| writer.int(i64::try_from(size).unwrap_or(i64::MAX))),
            Wide::Random => self.random().await.map(|key| writer.bulk_or_null(key.as_deref())),
            Wide::Flush => self.remove_all().await.map(|()| writer.ok()),
            Wide::Info { sections } => self.info(&sections).await.map(|text| writer.verbatim(&text)),
            Wide::Watch { .. } => Err("ERR unexpected command; report this".to_owned()),
        };
        if let Err(error) = done {
            out.clear();
            error_line(&mut out, &error);
        }
        out
    }

    fn partitions(&self) -> Result<usize, String> {
        let view = self.connection.shared.views.borrow();
        let view = view.as_ref().filter(|view| !view.assignments.is_empty());
        view.map(|view| view.partitions.count()).ok_or_else(|| NO_VIEW.to_owned())
    }

    /// The keys of some partitions behind a position of the first one.
    async fn keys_of(&self, first: usize, end: usize, after: u64, limit: u32) -> Result<Vec<Found>, String> {
        let ask = |at: usize| {
            let partition = PartitionId(u16::try_from(at).expect("partitions are 16,384 at most"));
            Ask::Read(Query::Keys { partition, after: if at == first { after } else { 0 }, limit })
        };
        self.gather((first..end).map(ask).collect()).await.into_iter().map(keys_of).collect()
    }

    /// Keys behind a cursor, and the cursor behind them. Where there are few, more partitions are asked each time.
    async fn scan(&self, cursor: u64, count: u32) -> Result<(u64, Vec<Bytes>), String> {
        let partitions = self.partitions()?;
        let mut first = usize::try_from(cursor >> POSITION_BITS).unwrap_or(usize::MAX);
        let mut after = cursor & ((1 << POSITION_BITS) - 1);
        let (mut keys, mut at_once) = (Vec::new(), 1);
        while first < partitions && keys.len() < count as usize {
            let end = partitions.min(first + at_once);
            for (at, found) in (first..).zip(self.keys_of(first, end, after, count).await?) {
                keys.extend(found.keys);
                if found.next != 0 {
                    return Ok(((at as u64) << POSITION_BITS | found.next, keys));
                }
            }
            (first, after, at_once) = (end, 0, (at_once * 4).min(PARTITIONS_AT_ONCE * 4));
        }
        Ok((if first < partitions { (first as u64) << POSITION_BITS } else { 0 }, keys))
    }

    async fn all_keys(&self, pattern: &[u8]) -> Result<Vec<Bytes>, String> {
        let partitions = self.partitions()?;
        let mut keys = Vec::new();
        let mut first = 0;
        while first < partitions {
            let end = partitions.min(first + PARTITIONS_AT_ONCE);
            for (at, mut found) in (first..).zip(self.keys_of(first, end, 0, KEYS_AT_ONCE).await?) {
                loop {
                    keys.extend(found.keys.into_iter().filter(|key| matches(pattern, key)));
                    if keys.len() > ELEMENTS_MAX {
                        return Err(format!("ERR more than {ELEMENTS_MAX} keys fit; use SCAN"));
                    }
                    if found.next == 0 {
                        break;
                    }
                    let mut more = self.keys_of(at, at + 1, found.next, KEYS_AT_ONCE).await?;
                    found = more.pop().ok_or(NO_VIEW)?;
                }
            }
            first = end;
        }
        Ok(keys)
    }

    async fn size(&self) -> Result<u64, String> {
        let partitions = self.partitions()?;
        let partitions: Vec<PartitionId> =
            (0..u16::try_from(partitions).unwrap_or(u16::MAX)).map(PartitionId).collect();
        let mut keys = 0;
        for some in partitions.chunks(PARTITIONS_AT_ONCE) {
            let count = |&partition: &PartitionId| Ask::Read(Query::Count { partition });
            for reply in self.gather_some(some.iter().map(count).collect()).await {
                keys += keys_of(reply)?.count;
            }
        }
        Ok(keys)
    }

    /// The keys of a random partition that has some, and one of them.
    async fn random(&self) -> Result<Option<Bytes>, String> {
        let partitions = self.partitions()?;
        let random = ClientId::random().0;
        let begin = (random % partitions as u128) as usize;
        let position = (random >> 64) as u64 & ((1 << POSITION_BITS) - 1);
        for step in 0..=partitions {
            let at = (begin + step) % partitions;
            // The first one is asked again, from its beginning, when no other has any.
            let after = if step == 0 { position } else { 0 };
            let found = self.keys_of(at, at + 1, after, 1).await?;
            if let Some(key) = found.into_iter().next().and_then(|found| found.keys.into_iter().next()) {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    /// Removes all keys, partition by partition; a key that is written after its partition's turn stays.
    async fn remove_all(&self) -> Result<(), String> {
        let partitions = self.partitions()?;
        for at in 0..partitions {
            let mut after = 0;
            loop {
                let found = self.keys_of(at, at + 1, after, KEYS_AT_ONCE).await?.pop().ok_or(NO_VIEW)?;
                let condition = || Condition::Always {};
                let delete = |key| Operation::Delete { key, condition: condition() };
                let write = |operation| Ask::Write { origin: None, age_ms: 0, operation };
                let replies =
                    self.gather(found.keys.into_iter().map(|key| write(delete(key))).collect()).await;
                if let Some(error) = replies.iter().find_map(failure) {
                    return Err(error);
                }
                after = found.next;
                if after == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn info(&self, sections: &[String]) -> Result<String, String> {
        let denied = |denied: Denied| failure(&denied.into()).unwrap_or_default();
        let shared = self.connection.facts().map_err(denied)?;
        let json = shared.status().await.ok_or("ERR the server stops")?;
        let status: ServerStatus = serde_json::from_slice(&json).map_err(|error| format!("ERR {error}"))?;
        let registry = &shared.resp;
        let (commands, connections) = registry.counts();
        let facts = Facts {
            port: self.port,
            process_id: std::process::id(),
            run_id: format!("{}{:08x}", status.server, status.incarnation.0),
            uptime_seconds: clock::time().since(registry.started).as_secs(),
            clients: registry.all().len(),
            memory_bytes: memory_bytes(),
            commands,
            connections,
            keys: status.keys,
            expiring: status.expiring,
            disk_bytes: status.bytes,
            free_bytes: status.free_bytes,
            server: status.server.to_string(),
            epoch: status.view.to_string(),
            partitions: self.partitions().unwrap_or(0),
            coordinated: self.coordinated(),
            copies: status.copies.len(),
            lag: status.copies.iter().map(|copy| copy.last.saturating_sub(copy.applied)).sum(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
        };
        Ok(write_info(&facts, sections))
    }

    fn coordinated(&self) -> usize {
        let view = self.connection.shared.views.borrow();
        let me = self.connection.shared.me.server;
        view.as_ref()
            .map_or(0, |view| view.iter().filter(|(_, assignment)| assignment.coordinator == me).count())
    }
}

/// Resident bytes of this process, where the system reports them; else 0.
fn memory_bytes() -> u64 {
    const PAGE_BYTES: u64 = 4096;
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.map_or(0, |pages| pages.saturating_mul(PAGE_BYTES))
}
