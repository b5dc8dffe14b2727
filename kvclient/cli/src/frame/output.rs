//! The forms in which commands answer.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, Table};
use common::shown::{self, Terminal};
use common::status::ClusterStatus;
use serde_json::Value;
use unicode_width::UnicodeWidthStr;

use crate::frame::failure::Failure;
use crate::frame::style::{Ink, Paint};

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// One JSON value
    Json,
    /// A JSON value in each line
    Ndjson,
    /// Values as they are; rows separated by tabs, without a header
    Raw,
}

/// A table, with the text around it and its JSON.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listing {
    /// Text before the table, for people.
    pub(crate) before: String,
    pub(crate) header: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
    /// The first column of numbers.
    pub(crate) right_from: usize,
    /// Columns that may be left out where the terminal is narrow, in this order.
    pub(crate) spare: &'static [&'static str],
    /// Text after the table, for people.
    pub(crate) after: String,
    /// The whole listing as JSON.
    pub(crate) json: Value,
    /// Where the rows are in `json`, as a JSON pointer.
    pub(crate) items: &'static str,
}

impl Listing {
    /// Writes the listing.
    pub(crate) fn print(&self, format: Format, out: &mut dyn Write) -> Result<(), Failure> {
        self.write(format, out).map_err(Failure::output)
    }

    fn write(&self, format: Format, out: &mut dyn Write) -> std::io::Result<()> {
        match format {
            Format::Table => {
                out.write_all(self.before.as_bytes())?;
                if !self.rows.is_empty() {
                    let columns = Table::new().width().map(usize::from);
                    out.write_all(self.fitted(columns).as_bytes())?;
                }
                out.write_all(self.after.as_bytes())
            }
            Format::Json => writeln!(out, "{}", shown::json(&format!("{:#}", self.json))),
            Format::Ndjson => {
                let items = self.json.pointer(self.items).and_then(Value::as_array);
                let line = |item: &Value| shown::json(&item.to_string());
                items.into_iter().flatten().try_for_each(|item| writeln!(out, "{}", line(item)))
            }
            Format::Raw => self.rows.iter().try_for_each(|row| {
                let row: Vec<String> = row.iter().map(|cell| one_line(cell)).collect();
                writeln!(out, "{}", row.join("\t"))
            }),
        }
    }

    /// The table, with as many columns as the terminal has room for; elsewhere all of them.
    fn fitted(&self, terminal: Option<usize>) -> String {
        let width = |table: &str| table.lines().next().map_or(0, UnicodeWidthStr::width);
        let mut table = self.table(&[]);
        let mut left_out = 0;
        while let Some(terminal) = terminal
            && width(&table) > terminal
            && left_out < self.spare.len()
        {
            left_out += 1;
            table = self.table(&self.spare[..left_out]);
        }
        let note = match left_out {
            0 => String::new(),
            _ => format!(
                "left out for want of room: {}; `--json` has all\n",
                self.spare[..left_out].join(", ")
            ),
        };
        format!("{table}\n{note}")
    }

    fn table(&self, left_out: &[&str]) -> String {
        let is_shown = |index: &usize| self.header.get(*index).is_none_or(|name| !left_out.contains(name));
        let mut table = Table::new();
        let header =
            self.header.iter().enumerate().filter(|(index, _)| is_shown(index)).map(|(_, name)| *name);
        table.load_preset(UTF8_BORDERS_ONLY).set_header(header);
        for row in &self.rows {
            let row = row.iter().enumerate().filter(|(index, _)| is_shown(index));
            table.add_row(row.map(|(_, cell)| one_line(cell)));
        }
        for column in table.column_iter_mut().skip(self.right_from) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table.to_string()
    }
}

/// A cell in one line, escaped, as it may have words of strangers.
fn one_line(cell: &str) -> String {
    shown::one_line(cell.as_bytes()).to_string()
}

/// The verdict and its reason.
pub(crate) fn verdict(status: &ClusterStatus) -> String {
    if status.verdict.is_empty() {
        return "UNKNOWN: the ECS is of an earlier version and gives no verdict; upgrade it".to_owned();
    }
    status.verdict.clone()
}

/// A verdict in one line, in the colour of its first word. It may repeat what servers have reported.
pub(crate) fn verdict_painted(paint: Paint, verdict: &str) -> String {
    let verdict = shown::one_line(verdict.as_bytes()).to_string();
    let end = verdict.find([',', ':']).unwrap_or(verdict.len());
    let (word, rest) = verdict.split_at(end);
    let ink = match word {
        "healthy" => Ink::Good,
        "OFFLINE" => Ink::Bad,
        _ => Ink::Warning,
    };
    format!("{}{rest}", paint.ink(ink, word))
}

/// Standard output; for a terminal it is escaped.
pub(crate) fn stdout() -> Box<dyn Write> {
    let out = io::stdout();
    if out.is_terminal() { Box::new(Terminal::new(out)) } else { Box::new(out) }
}

/// Writes text as it is.
pub(crate) fn print(out: &mut dyn Write, text: &str) -> Result<(), Failure> {
    out.write_all(text.as_bytes()).map_err(Failure::output)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_narrow_terminal_gets_fewer_columns() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let listing = Listing {
            header: vec!["name", "spare", "number"],
            rows: vec![row(["a", "x", "1"]), row(["b", "y", "22"])],
            right_from: 1,
            spare: &["spare", "number"],
            ..Listing::default()
        };
        let whole = listing.fitted(None);
        let width = whole.lines().next().unwrap().width();
        assert_eq!(listing.fitted(Some(width)), whole);
        let narrow = listing.fitted(Some(width - 1));
        assert!(narrow.contains("number") && narrow.contains(" 22 "), "{narrow}");
        assert!(
            !narrow.contains('x') && narrow.ends_with("left out for want of room: spare; `--json` has all\n")
        );
        let narrowest = listing.fitted(Some(1));
        assert!(narrowest.contains('a') && !narrowest.contains("22"), "{narrowest}");
    }

    #[test]
    fn a_listing_has_four_forms() {
        let listing = Listing {
            before: "two things\n".to_owned(),
            header: vec!["name", "number"],
            rows: vec![vec!["a".to_owned(), "1".to_owned()], vec!["b".to_owned(), "22".to_owned()]],
            right_from: 1,
            spare: &[],
            after: "that is all\n".to_owned(),
            json: json!({"things": [{"a": 1}, {"b": 22}]}),
            items: "/things",
        };
        let shown = |format| {
            let mut out = Vec::new();
            listing.print(format, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let table = shown(Format::Table);
        assert!(table.starts_with("two things\n") && table.ends_with("that is all\n"), "{table}");
        assert!(table.contains("name") && table.contains("     1 "), "{table}");
        assert_eq!(shown(Format::Raw), "a\t1\nb\t22\n");
        assert_eq!(shown(Format::Ndjson), "{\"a\":1}\n{\"b\":22}\n");
        assert_eq!(serde_json::from_str::<Value>(&shown(Format::Json)).unwrap(), listing.json);
    }
}
