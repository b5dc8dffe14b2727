//! The log's file, which may be moved away and is opened anew on request (SIGHUP, as logrotate sends it).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

/// Mode of a new log file: it names keys, so it is for its user alone. A file that is there keeps its mode.
const MODE: u32 = 0o600;

/// The file that this process logs to.
static CURRENT: OnceLock<Arc<LogFile>> = OnceLock::new();

/// A file that lines are appended to.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: Mutex<File>,
}

impl LogFile {
    pub(super) fn open(path: &Path) -> io::Result<Arc<Self>> {
        // The process may have another working directory by then.
        let path = std::path::absolute(path)?;
        let file = Mutex::new(append_to(&path)?);
        Ok(Arc::new(Self { path, file }))
    }

    /// Makes this the file that [`reopen`] opens anew, unless another one is already.
    pub(super) fn make_current(self: &Arc<Self>) {
        let _second = CURRENT.set(Arc::clone(self));
    }

    fn reopen(&self) -> io::Result<()> {
        let file = append_to(&self.path)?;
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = file;
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(MODE).open(path)
}

/// Opens the log file anew; if that fails, the log goes on in the old file. Does nothing where there is no file.
pub fn reopen() {
    let Some(current) = CURRENT.get() else { return };
    match current.reopen() {
        Ok(()) => tracing::info!("the log file was opened anew"),
        Err(error) => {
            let file = current.path.display();
            tracing::error!(%error, "cannot open the log file {file} anew; the log goes on in the old one");
        }
    }
}

/// One line, written at once.
#[derive(Debug)]
pub(super) struct Lines(Arc<LogFile>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.file.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes writers to the file.
#[derive(Debug)]
pub(super) struct ToFile(pub(super) Arc<LogFile>);

impl<'a> MakeWriter<'a> for ToFile {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        Lines(Arc::clone(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_that_was_moved_away_is_made_anew() {
        let folder = std::env::temp_dir().join(format!("trefoil-log-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (path, moved) = (folder.join("log"), folder.join("log.1"));
        let log = LogFile::open(&path).unwrap();
        let write = |text: &[u8]| ToFile(Arc::clone(&log)).make_writer().write_all(text).unwrap();
        write(b"one\n");
        fs::rename(&path, &moved).unwrap();
        write(b"two\n");
        log.reopen().unwrap();
        write(b"three\n");
        assert_eq!(fs::read_to_string(&moved).unwrap(), "one\ntwo\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        // A folder that is gone: the old file goes on.
        fs::rename(&path, &moved).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(log.reopen().is_err());
        write(b"four\n");
        assert_eq!(fs::read_to_string(&moved).unwrap(), "three\nfour\n");
        fs::remove_dir_all(&folder).unwrap();
    }
}
