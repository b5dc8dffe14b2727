//! Where the lines of a run's trace go: nowhere, to the terminal, or into a digest that compares two versions.

use std::fmt;
use std::sync::{Arc, Mutex};

/// See the module's text.
#[derive(Clone, Default)]
pub(crate) enum Trace {
    #[default]
    Ignored,
    Printed,
    /// Shared with whoever wants the digest, also of a run that ends with a panic.
    Digested(Arc<Mutex<md5::Context>>),
}

impl Trace {
    /// One that makes a digest.
    pub(crate) fn to_digest() -> Self {
        Self::Digested(Arc::new(Mutex::new(md5::Context::new())))
    }

    /// Takes a line, which is made only when something is done with it.
    pub(crate) fn line(&self, line: impl FnOnce() -> String) {
        /// Characters of a line that are printed.
        const LINE_MAX: usize = 2_000;
        match self {
            Self::Ignored => {}
            Self::Printed => println!("{}", line().chars().take(LINE_MAX).collect::<String>()),
            Self::Digested(digest) => {
                let mut digest = digest.lock().expect("no thread panics while it holds this");
                digest.consume(line());
                digest.consume("\n");
            }
        }
    }

    /// The digest of all lines so far.
    pub(crate) fn digest(&self) -> Option<md5::Digest> {
        let Self::Digested(digest) = self else { return None };
        Some(digest.lock().expect("no thread panics while it holds this").clone().finalize())
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ignored => "Ignored",
            Self::Printed => "Printed",
            Self::Digested(_) => "Digested",
        })
    }
}
