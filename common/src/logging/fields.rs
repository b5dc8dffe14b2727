//! What stands in a line of the log: nothing of it is obeyed by a terminal or looks like a line of its own.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing_subscriber::field::{MakeVisitor, VisitFmt, VisitOutput};
use tracing_subscriber::fmt::format::Writer;

use crate::shown;

/// Message and fields as `message name=value name=value`, each through [`shown::one_line`].
#[derive(Debug, Default)]
pub struct HarmlessFields;

/// Writes one event's fields.
#[derive(Debug)]
pub struct Fields<'a> {
    out: Writer<'a>,
    empty: bool,
    result: fmt::Result,
}

impl<'a> MakeVisitor<Writer<'a>> for HarmlessFields {
    type Visitor = Fields<'a>;

    fn make_visitor(&self, out: Writer<'a>) -> Fields<'a> {
        Fields { out, empty: true, result: Ok(()) }
    }
}

impl Fields<'_> {
    fn write(&mut self, name: &str, value: &str) -> fmt::Result {
        let gap = if std::mem::take(&mut self.empty) { "" } else { " " };
        let value = shown::one_line(value.as_bytes());
        match name {
            "message" => write!(self.out, "{gap}{value}"),
            _ if self.out.has_ansi_escapes() => {
                write!(self.out, "{gap}\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m{value}")
            }
            _ => write!(self.out, "{gap}{name}={value}"),
        }
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if self.result.is_ok() {
            self.result = self.write(field.name().trim_start_matches("r#"), &format!("{value:?}"));
        }
    }
}

impl VisitOutput<fmt::Result> for Fields<'_> {
    fn finish(self) -> fmt::Result {
        self.result
    }
}

impl VisitFmt for Fields<'_> {
    fn writer(&mut self) -> &mut dyn fmt::Write {
        &mut self.out
    }
}
