//! What a log must contain after power cuts: the states that are possible by what was appended and synced.

use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};
use storage::{
    DoubtfulEnd, Error, LogId, LogReader, LogWriter, OpenedLog, Options, Read, Record, RecoveredPartition,
    Tag, open_log,
};

use crate::support::FakeDisk;

pub(super) const SEGMENT_BYTES: u64 = 16 << 10;

pub(super) type Recovered = BTreeMap<u16, RecoveredPartition>;

pub(super) fn open(dir: &Path, disk: &FakeDisk) -> Result<(LogWriter, LogReader, Recovered), Error> {
    let OpenedLog { writer, reader, recovered, .. } = open_log_on(dir, disk)?;
    Ok((writer, reader, recovered))
}

/// The last entry of partition 0, and whether the end is in doubt.
pub(super) fn end_of(dir: &Path, disk: &FakeDisk) -> Result<(u64, Option<DoubtfulEnd>), Error> {
    let opened = open_log_on(dir, disk)?;
    Ok((opened.recovered.get(&0).map_or(0, |p| p.last), opened.end_in_doubt))
}

pub(super) fn open_log_on(dir: &Path, disk: &FakeDisk) -> Result<OpenedLog, Error> {
    let disk = Arc::new(disk.clone());
    let options =
        Options { segment_bytes: SEGMENT_BYTES, log_bytes: 6 * SEGMENT_BYTES, disk, ..Options::default() };
    open_log(dir, &options)
}

/// What a partition's log must contain.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Model {
    base: LogId,
    entries: Vec<(LogId, Bytes)>,
    durable_state: Bytes,
    generation: u32,
    /// Reported to the log as applied: up to here it may be trimmed.
    applied: u64,
}

impl Model {
    fn last(&self) -> LogId {
        self.entries.last().map_or(self.base, |(id, _)| *id)
    }
}

pub(super) type Models = BTreeMap<u16, Model>;

pub(super) fn apply(models: &mut Models, record: &Record) {
    let partition = record.partition();
    if matches!(record, Record::Drop { .. }) {
        models.remove(&partition);
        return;
    }
    let model = models.entry(partition).or_default();
    match record {
        Record::Entry { id, body, .. } => model.entries.push((*id, body.clone())),
        Record::Cut { after, .. } => model.entries.retain(|(id, _)| id.seq <= *after),
        Record::DurableState { durable_state, .. } => model.durable_state = durable_state.clone(),
        Record::Install { generation, base, .. } => {
            let (durable_state, generation) = (model.durable_state.clone(), *generation);
            *model = Model { base: *base, entries: Vec::new(), durable_state, generation, applied: base.seq };
        }
        Record::Drop { .. } => {}
    }
}

pub(super) fn random_record(random: &mut fastrand::Rng, models: &Models) -> Record {
    let partition = random.u16(0..4);
    let model = models.get(&partition).cloned().unwrap_or_default();
    let last = model.last();
    let bytes = |random: &mut fastrand::Rng, max| {
        let length = random.usize(0..max);
        Bytes::from(std::iter::repeat_with(|| random.u8(..)).take(length).collect::<Vec<_>>())
    };
    match random.u8(0..100) {
        0..4 => Record::Cut { partition, after: random.u64(model.applied..=last.seq) },
        4..10 => Record::DurableState { partition, durable_state: bytes(random, 300) },
        10 => Record::Drop { partition },
        11 | 12 => {
            let base = LogId { tag: last.tag, seq: last.seq + random.u64(0..100) };
            Record::Install { partition, generation: (model.generation + 1) | 1, base }
        }
        n => {
            let tag = if n < 20 { next(last.tag, random) } else { last.tag };
            let max = if random.u8(0..20) == 0 { 6_000 } else { 200 };
            Record::Entry { partition, id: LogId { tag, seq: last.seq + 1 }, body: bytes(random, max) }
        }
    }
}

pub(super) fn next(tag: Tag, random: &mut fastrand::Rng) -> Tag {
    Tag { generation: tag.generation + u32::from(random.bool()), version: tag.version + 1 }
}

/// Whether what was recovered is exactly this model, apart from what could be trimmed.
pub(super) fn matches(models: &Models, recovered: &Recovered, reader: &LogReader) -> Result<(), String> {
    let names = |m: Vec<&u16>| m.into_iter().copied().collect::<BTreeSet<_>>();
    if names(models.keys().collect()) != names(recovered.keys().collect()) {
        return Err("other partitions".into());
    }
    for (partition, model) in models {
        let found = &recovered[partition];
        if found.last != model.last().seq || found.durable_state != model.durable_state {
            return Err(format!("partition {partition}: last {} of {:?}", found.last, model.last()));
        }
        if found.base.seq > model.applied || found.base.seq < model.base.seq {
            return Err(format!("partition {partition}: base {:?}, applied {}", found.base, model.applied));
        }
        let skip = (found.base.seq - model.base.seq) as usize;
        let base = skip.checked_sub(1).map_or(model.base, |i| model.entries[i].0);
        if base != found.base {
            return Err(format!("partition {partition}: base {:?} instead of {base:?}", found.base));
        }
        let mut runs: Vec<(Tag, u64)> = Vec::new();
        for (id, _) in &model.entries[skip..] {
            if runs.last().is_none_or(|(tag, _)| *tag != id.tag) {
                runs.push((id.tag, id.seq));
            }
        }
        if runs != found.runs {
            return Err(format!("partition {partition}: runs {:?} instead of {runs:?}", found.runs));
        }
        let mut entries = Vec::new();
        loop {
            let from = found.base.seq + 1 + entries.len() as u64;
            match reader.read(*partition, from, 1_000).map_err(|e| e.to_string())? {
                Read::Entries(more) if more.is_empty() => break,
                Read::Entries(more) => entries.extend(more),
                Read::Trimmed { base } => return Err(format!("trimmed to {base:?}")),
            }
        }
        if entries != model.entries[skip..] {
            return Err(format!("partition {partition}: other entries"));
        }
    }
    Ok(())
}

/// One life of a process: random batches, syncs and trims. Returns the models after each batch that
/// may be what the next start finds, the first being the last one synced.
pub(super) fn live(
    random: &mut fastrand::Rng,
    writer: &mut LogWriter,
    reader: &LogReader,
    models: Models,
) -> Vec<Models> {
    let mut possible = vec![models];
    let eager = random.u8(1..10);
    for _ in 0..random.usize(0..120) {
        let mut models = possible.last().unwrap().clone();
        let mut batch = Vec::new();
        for _ in 0..random.usize(0..6) {
            let record = random_record(random, &models);
            apply(&mut models, &record);
            batch.push(record);
        }
        match writer.append(&batch) {
            Ok(()) => possible.push(models),
            Err(Error::TooLarge { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        if random.u8(0..10) < eager {
            writer.sync().unwrap();
            possible.drain(..possible.len() - 1);
        }
        if random.u8(0..20) == 0 {
            // As an idle log does.
            writer.vouch().unwrap();
            possible.drain(..possible.len() - 1);
        }
        if random.u8(0..10) == 0 {
            // Trimming may come at any time, also when what allows it is not synced.
            let partition = random.u16(0..4);
            let applied = possible.last().and_then(|m| m.get(&partition)).map_or(0, |m| m.applied);
            reader.set_applied(partition, applied).unwrap();
        }
        if random.u8(0..20) == 0 {
            // As trees do: only what is committed, and so synced, is applied.
            writer.sync().unwrap();
            possible.drain(..possible.len() - 1);
            let models = possible.last_mut().unwrap();
            let partition = random.u16(0..4);
            if let Some(model) = models.get_mut(&partition) {
                model.applied = random.u64(model.applied..=model.last().seq);
                reader.set_applied(partition, model.applied).unwrap();
            }
        }
    }
    possible
}
