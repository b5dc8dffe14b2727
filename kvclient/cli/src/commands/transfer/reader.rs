//! Reads and parses the input on a thread of its own, so that a slow pipe does not delay the connections.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use common::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::format::Format;
use super::record::{Malformed, Record};
use super::window::FilePosition;
use crate::frame::failure::Failure;

/// Lines that are handed over at a time.
const BATCH_LINES: usize = 128;

/// Batches that wait to be written.
const BATCHES_WAITING: usize = 16;

/// Bytes of a line: the largest key and value with every byte written as `\u00XX`, and room for the rest.
const LINE_BYTES_MAX: u64 = 6 * (KEY_BYTES_MAX as u64 + VALUE_BYTES_MAX as u64) + 1024;

/// A line: where it ends, and its record.
pub(super) type Parsed = (FilePosition, Result<Record, Malformed>);

/// A batch of lines, as the thread sends it.
pub(super) type Batch = Result<Vec<Parsed>, Failure>;

/// The input, opened.
pub(super) struct Input {
    source: Box<dyn Read + Send>,
    /// The size of the input, if it is a file.
    pub(super) bytes: Option<u64>,
    file: Option<File>,
}

impl Input {
    /// Opens a file, or standard input for `-`.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Self { source: Box::new(io::stdin()), bytes: None, file: None });
        }
        let cannot = |error| Failure::usage(format!("cannot open {}: {error}", path.display()));
        let file = File::open(path).map_err(cannot)?;
        let metadata = file.metadata().map_err(cannot)?;
        let bytes = metadata.is_file().then_some(metadata.len());
        let source = Box::new(file.try_clone().map_err(cannot)?);
        Ok(Self { source, bytes, file: Some(file) })
    }

    /// Goes on at `position`.
    pub(super) fn seek(&mut self, position: FilePosition) -> Result<(), Failure> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let sought = file.seek(SeekFrom::Start(position.offset));
        sought.map(drop).map_err(|error| Failure::usage(format!("cannot go on in the input: {error}")))
    }

    /// Starts the thread. It ends when the input or the receiver does.
    pub(super) fn lines(self, format: Format, from: FilePosition) -> (mpsc::Receiver<Batch>, JoinHandle<()>) {
        let (batches, receiver) = mpsc::channel(BATCHES_WAITING);
        let source = BufReader::with_capacity(1 << 18, self.source);
        let thread = tokio::task::spawn_blocking(move || read(source, format, from, &batches));
        (receiver, thread)
    }
}

fn read(mut source: impl BufRead, format: Format, from: FilePosition, batches: &mpsc::Sender<Batch>) {
    let mut position = from;
    let mut line = Vec::new();
    let mut batch = Vec::with_capacity(BATCH_LINES);
    loop {
        line.clear();
        match source.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(len) => {
                position = FilePosition { offset: position.offset + len as u64, lines: position.lines + 1 }
            }
            Err(error) => {
                let failure = Failure::usage(format!("line {}: cannot read it: {error}", position.lines + 1));
                let _ = batches.blocking_send(Ok(batch)).and_then(|()| batches.blocking_send(Err(failure)));
                return;
            }
        }
        if line.len() as u64 == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
            let failure = Failure::usage(format!("line {}: over {LINE_BYTES_MAX} bytes", position.lines));
            let _ = batches.blocking_send(Ok(batch)).and_then(|()| batches.blocking_send(Err(failure)));
            return;
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        if !text.trim_ascii().is_empty() {
            batch.push((position, format.read(text)));
        }
        if batch.len() == BATCH_LINES
            && batches
                .blocking_send(Ok(std::mem::replace(&mut batch, Vec::with_capacity(BATCH_LINES))))
                .is_err()
        {
            return;
        }
    }
    let _ = batches.blocking_send(Ok(batch));
}
