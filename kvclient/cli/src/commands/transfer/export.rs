//! `kvclient export`: everything that a scan finds, as lines.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use bytes::Bytes;
use common::shown;

use super::args::ExportArgs;
use super::format::Format;
use super::progress::Progress;
use super::record::Record;
use crate::frame::failure::Failure;
use kvclient::Client;

/// Exports to a file, or to `out` for `-`. A file is there as a whole or not at all. Output for a `terminal` is
/// escaped, and cannot be read back.
pub(crate) async fn export(
    client: Client,
    args: &ExportArgs,
    terminal: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    if args.file == Path::new("-") && terminal {
        let progress = write_all(&client, args, &mut Shown(out)).await?;
        progress.finish("exported", "");
        return Ok(());
    }
    if args.file == Path::new("-") {
        let mut out = BufWriter::new(out);
        let progress = write_all(&client, args, &mut out).await?;
        out.flush().map_err(Failure::output)?;
        progress.finish("exported", "");
        return Ok(());
    }
    let cannot = |error: io::Error| Failure::usage(format!("cannot write {}: {error}", args.file.display()));
    let folder = args.file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A temporary file would be private, but an export is made like any other file: its mode is the user's choice.
    let file = tempfile::Builder::new().make_in(folder, |path| File::create_new(path)).map_err(cannot)?;
    let mut out = BufWriter::new(file);
    let progress = write_all(&client, args, &mut out).await?;
    let file = out.into_inner().map_err(|error| cannot(error.into_error()))?;
    file.as_file().sync_data().map_err(cannot)?;
    file.persist(&args.file).map_err(|error| cannot(error.error))?;
    progress.finish("exported", "");
    Ok(())
}

/// Whole lines, as a terminal may show them.
struct Shown<'a>(&'a mut dyn Write);

impl Write for Shown<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write!(self.0, "{}", shown::lines(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

async fn write_all(client: &Client, args: &ExportArgs, out: &mut dyn Write) -> Result<Progress, Failure> {
    let format = args.format.unwrap_or_else(|| Format::of(&args.file));
    let mut progress = Progress::start(None, 0);
    let mut scan = client.scan(Bytes::copy_from_slice(args.prefix.as_bytes()));
    let mut sorted = Vec::new();
    let mut lines = Vec::new();
    while let Some(pairs) = scan.next().await? {
        lines.clear();
        for pair in pairs {
            let record = Record { key: pair.key, value: pair.found.value, expires: pair.found.expires };
            progress.key_done(record.key.len() + record.value.len());
            if args.sort {
                sorted.push(record);
            } else {
                format.write(&mut lines, &record);
            }
        }
        out.write_all(&lines).map_err(Failure::output)?;
        progress.show(0);
    }
    sorted.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    for record in sorted {
        lines.clear();
        format.write(&mut lines, &record);
        out.write_all(&lines).map_err(Failure::output)?;
    }
    Ok(progress)
}
