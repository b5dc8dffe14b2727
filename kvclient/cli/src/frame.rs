//! What all commands use: the session, failures, and the forms of answers.

pub(crate) mod failure;
pub(crate) mod logging;
pub(crate) mod output;
pub(crate) mod session;
pub(crate) mod show;
pub(crate) mod style;
pub(crate) mod watching;
