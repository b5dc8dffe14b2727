//! The file `v<number>` of a tree, which says the format of the tree and lists its other files. The LSM tree writes its
//! checksum into the file `current`, and opens a tree without comparing the two.
//!
//! So this module does, before a tree is opened: a flipped byte there would be taken for another version's format, or
//! for a list of other files.

use crate::Error;
use std::{fs, io, path::Path};
use xxhash_rust::xxh3::xxh3_128;

/// The file that names the newest `v<number>`: a u64, its checksum, and which kind of checksum that is.
const CURRENT: &str = "current";

/// The kind of checksum that there is.
const XXH3: u8 = 0;

/// Checks the newest version file in a tree's folder against its checksum. A file of another form, or a missing one, is
/// left to the LSM tree, which reports it.
///
/// # Errors
/// [`Error::Damaged`] where the checksum is another one, [`Error::Io`].
pub(crate) fn check(dir: &Path, partition: u16) -> Result<(), Error> {
    let Some(current) = read(&dir.join(CURRENT))? else { return Ok(()) };
    let Some((number, checksum)) = parse(&current) else { return Ok(()) };
    let file = dir.join(format!("v{number}"));
    let Some(content) = read(&file)? else { return Ok(()) };
    if xxh3_128(&content) == checksum {
        return Ok(());
    }
    let detail = format!("it does not have the checksum that is in \"{CURRENT}\"");
    Err(Error::Damaged { file, offset: None, partition: Some(partition), detail })
}

/// The number of the newest version file, and its checksum.
fn parse(current: &[u8]) -> Option<(u64, u128)> {
    let (number, rest) = current.split_first_chunk()?;
    let (checksum, kind) = rest.split_first_chunk()?;
    (kind == [XXH3]).then(|| (u64::from_le_bytes(*number), u128::from_le_bytes(*checksum)))
}

fn read(file: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some).map_err(|e| Error::io("read", file, e)),
    }
}
