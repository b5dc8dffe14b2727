//! The shell on a terminal.

pub(crate) mod completion;
pub(crate) mod editor;
pub(crate) mod interactive;
pub(crate) mod keys;
