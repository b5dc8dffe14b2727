//! How far an import came, in a small file beside its input, replaced as a whole.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::window::FilePosition;
use crate::frame::failure::Failure;

/// The end of the checkpoint's name.
const SUFFIX: &str = ".trefoil-progress";

/// The checkpoint of one input file.
#[derive(Debug)]
pub(super) struct Checkpoint {
    path: PathBuf,
    file_bytes: u64,
}

/// The content of a checkpoint.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Saved {
    /// Every line before this byte is acknowledged.
    offset: u64,
    /// Lines before that byte.
    lines: u64,
    /// Size of the input: another size is another input.
    file_bytes: u64,
}

impl Checkpoint {
    pub(super) fn of(input: &Path, file_bytes: u64) -> Self {
        let mut path = input.as_os_str().to_owned();
        path.push(SUFFIX);
        Self { path: path.into(), file_bytes }
    }

    /// Where to go on; the beginning when nothing was saved.
    pub(super) fn load(&self) -> Result<FilePosition, Failure> {
        let shown = self.path.display();
        let json = match fs::read(&self.path) {
            Ok(json) => json,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(FilePosition::default()),
            Err(error) => return Err(Failure::usage(format!("cannot read {shown}: {error}"))),
        };
        let again = format!("remove {shown} to begin again");
        let saved: Saved = serde_json::from_slice(&json)
            .map_err(|error| Failure::usage(format!("{shown} is damaged ({error}); {again}")))?;
        if saved.file_bytes != self.file_bytes {
            return Err(Failure::usage(format!("the input has changed since it was stopped; {again}")));
        }
        Ok(FilePosition { offset: saved.offset, lines: saved.lines })
    }

    /// Replaces the saved position. After a crash there is the old content or the new one.
    pub(super) fn save(&self, position: FilePosition) -> Result<(), Failure> {
        let saved = Saved { offset: position.offset, lines: position.lines, file_bytes: self.file_bytes };
        self.replace(&saved)
            .map_err(|error| Failure::usage(format!("cannot write {}: {error}", self.path.display())))
    }

    fn replace(&self, saved: &Saved) -> io::Result<()> {
        let folder =
            self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = NamedTempFile::new_in(folder)?;
        file.write_all(&serde_json::to_vec(saved)?)?;
        file.as_file().sync_data()?;
        file.persist(&self.path).map(drop).map_err(io::Error::from)
    }

    /// Removes the checkpoint, as the import is complete.
    pub(super) fn remove(&self) {
        // It may never have been written; a left one is refused when the input changes.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_loaded_as_saved_and_only_for_the_same_input() {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("data.tsv");
        let checkpoint = Checkpoint::of(&input, 100);
        assert_eq!(checkpoint.load().unwrap(), FilePosition::default());
        for position in [FilePosition { offset: 10, lines: 1 }, FilePosition { offset: 50, lines: 4 }] {
            checkpoint.save(position).unwrap();
            assert_eq!(checkpoint.load().unwrap(), position);
        }
        assert!(folder.path().join("data.tsv.trefoil-progress").exists());
        let failure = Checkpoint::of(&input, 101).load().unwrap_err();
        assert!(failure.message.contains("has changed"), "{failure}");
        checkpoint.remove();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
