//! Files of this process: how many may be open, and that they are for its user alone.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};

/// What others may do with a directory that holds data.
const OTHERS: u32 = 0o007;

/// Whatever this process makes from now on is for its user alone. For programs that keep data, at their start.
pub fn keep_private() {
    umask(Mode::RWXG | Mode::RWXO);
}

/// Makes a directory for data, and those above it, for this user alone. In one that is there already others lose their
/// rights, if it is this user's; a group keeps those that an operator has given to it.
///
/// # Errors
/// When it cannot be made.
pub fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & OTHERS != 0
        && let Err(error) = fs::set_permissions(path, Permissions::from_mode(mode & 0o7777 & !OTHERS))
    {
        let dir = path.display();
        tracing::warn!(%error, "other users may read {dir}, and this one cannot change that: chmod 700 it");
    }
    Ok(())
}

/// Makes a file that is to be renamed when it is whole. One of the same name that was left over is removed; a link of
/// another user is not followed.
///
/// # Errors
/// When it cannot be made.
pub fn create_unfinished(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => OpenOptions::new().write(true).create_new(true).mode(0o600).open(path),
    }
}

/// Raises the limit as far as the system lets this process, and returns it. Systems begin with a low one (often 1024)
/// for the sake of programs that count to it; a server needs more for its connections alone.
#[must_use]
pub fn raise_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let highest = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let raised = if setrlimit(Resource::Nofile, highest).is_ok() { limit.maximum } else { limit.current };
    raised.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_the_highest_that_is_allowed() {
        let raised = raise_limit();
        assert!(raised > 0);
        assert_eq!(raised, raise_limit());
        let now = getrlimit(Resource::Nofile);
        assert_eq!(now.current, now.maximum);
    }

    #[test]
    fn data_is_for_its_user_alone() {
        let folder = std::env::temp_dir().join(format!("trefoil-files-{}", std::process::id()));
        let dir = folder.join("a/b");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        private_dir(&dir).unwrap();
        assert_eq!((mode(&folder), mode(&dir)), (0o700, 0o700));
        fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
        private_dir(&dir).unwrap();
        assert_eq!(mode(&dir), 0o750);
        let (unfinished, target) = (dir.join("x.tmp"), dir.join("target"));
        fs::write(&target, "kept").unwrap();
        std::os::unix::fs::symlink(&target, &unfinished).unwrap();
        drop(create_unfinished(&unfinished).unwrap());
        assert_eq!(fs::read_to_string(&target).unwrap(), "kept");
        assert!(!fs::symlink_metadata(&unfinished).unwrap().is_symlink());
        assert_eq!(mode(&unfinished), 0o600);
        fs::remove_dir_all(&folder).unwrap();
    }
}
