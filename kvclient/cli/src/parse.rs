//! Parsing of lines and arguments.

pub(crate) mod command;
pub(crate) mod grammar;
pub(crate) mod help;
pub(crate) mod line;
pub(crate) mod table;
