//! Small files that are replaced whole: after a crash the old content or the new one is there.
//!
//! A file is the magic `TRFATOM`, the format (`1`), the length (u32), a CRC-32C of the length and the content, and
//! the content. Writing goes to `<name>.tmp`, fsync, rename, fsync of the directory.

use crate::Error;
use crate::private::create_unfinished;
use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

const MAGIC: &[u8; 7] = b"TRFATOM";
/// The format of these files: the digit behind the magic. The checksum is at the same offset in every format.
const FORMAT: u32 = 1;
const HEADER_BYTES: usize = 16;
/// Bytes of an atomic file, at most: it has an identity or a table, not data.
pub const ATOMIC_BYTES_MAX: usize = 16 << 20;

/// Replaces the file `name` in `dir` by `content`, durably.
///
/// # Errors
/// [`Error::TooLarge`], [`Error::DiskFull`], [`Error::Io`]; the old content stays, except that after a
/// failed fsync of the directory either may be there.
pub fn write_atomically(dir: &Path, name: &str, content: &[u8]) -> Result<(), Error> {
    if content.len() > ATOMIC_BYTES_MAX {
        let (bytes, max) = (content.len() as u64, ATOMIC_BYTES_MAX as u64);
        return Err(Error::TooLarge { what: "an atomic file", bytes, max });
    }
    let path = dir.join(name);
    let temporary = dir.join(format!("{name}.tmp"));
    let length = (content.len() as u32).to_le_bytes();
    let crc = crc32c::crc32c_append(crc32c::crc32c(&length), content).to_le_bytes();
    let write = || -> io::Result<()> {
        let mut file = create_unfinished(&temporary)?;
        file.write_all(&[&MAGIC[..], &[b'0' + FORMAT as u8], &length, &crc, content].concat())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|e| Error::io("replace", path.clone(), e))
}

/// Reads a file written by [`write_atomically`]; `None` when there is none.
///
/// # Errors
/// [`Error::Damaged`] names a file that does not check; [`Error::OtherVersion`], [`Error::Io`].
pub fn read_atomic(dir: &Path, name: &str) -> Result<Option<Vec<u8>>, Error> {
    let path = dir.join(name);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("read", path, e)),
    };
    match content(&bytes) {
        Ok(Ok(content)) => Ok(Some(content.to_vec())),
        Ok(Err(found)) => Err(Error::OtherVersion { file: path, found, own: FORMAT }),
        Err(detail) => Err(Error::damaged(path, 0, detail)),
    }
}

/// The content, or the format if it is another one.
fn content(bytes: &[u8]) -> Result<Result<&[u8], u32>, &'static str> {
    let (header, content) = bytes.split_at_checked(HEADER_BYTES).ok_or("shorter than its header")?;
    if &header[..7] != MAGIC || !header[7].is_ascii_digit() {
        return Err("not an atomic file of this program");
    }
    let crc = crc32c::crc32c_append(crc32c::crc32c(&header[8..12]), content);
    if header[12..16] != crc.to_le_bytes() || header[8..12] != (content.len() as u32).to_le_bytes() {
        return Err("the checksum does not fit the content");
    }
    let format = u32::from(header[7] - b'0');
    Ok(if format == FORMAT { Ok(content) } else { Err(format) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_comes_back_and_every_flipped_byte_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_atomic(dir.path(), "id").unwrap(), None);
        write_atomically(dir.path(), "id", b"one").unwrap();
        write_atomically(dir.path(), "id", b"two").unwrap();
        assert_eq!(read_atomic(dir.path(), "id").unwrap().unwrap(), b"two");
        let good = fs::read(dir.path().join("id")).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            // A digit that becomes another one is another format.
            bad[at] ^= if at == 7 { 0x40 } else { 0x10 };
            fs::write(dir.path().join("id"), &bad).unwrap();
            let error = read_atomic(dir.path(), "id").unwrap_err();
            assert!(matches!(&error, Error::Damaged { file, .. } if file.ends_with("id")), "{error}");
        }
        for length in 0..good.len() {
            assert!(content(&good[..length]).is_err());
        }
    }

    #[test]
    fn a_file_is_for_its_user_and_a_link_in_its_way_is_not_followed() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let other = dir.path().join("other");
        fs::write(&other, "kept").unwrap();
        symlink(&other, dir.path().join("id.tmp")).unwrap();
        write_atomically(dir.path(), "id", b"one").unwrap();
        assert_eq!(fs::read_to_string(&other).unwrap(), "kept");
        let mode = fs::symlink_metadata(dir.path().join("id")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
