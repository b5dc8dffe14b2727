//! The two formats of lines.

use std::path::Path;

use super::record::{Malformed, Record};
use super::{ndjson, tsv};

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// A JSON object on each line.
    Ndjson,
    /// Key, tab, value.
    Tsv,
}

impl Format {
    /// The format by the end of a file's name.
    pub(super) fn of(path: &Path) -> Self {
        match path.extension() {
            Some(extension) if extension.eq_ignore_ascii_case("tsv") => Self::Tsv,
            _ => Self::Ndjson,
        }
    }

    /// Reads a line, without its end.
    pub(super) fn read(self, line: &[u8]) -> Result<Record, Malformed> {
        match self {
            Self::Ndjson => ndjson::read(line),
            Self::Tsv => tsv::read(line),
        }
    }

    /// Appends a line, with its end.
    pub(super) fn write(self, out: &mut Vec<u8>, record: &Record) {
        match self {
            Self::Ndjson => ndjson::write(out, record),
            Self::Tsv => tsv::write(out, &record.key, &record.value),
        }
    }
}

#[cfg(test)]
mod tests {
    use common::time::WallTime;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_name_tells_the_format() {
        assert_eq!(Format::of(Path::new("a.TSV")), Format::Tsv);
        assert_eq!(Format::of(Path::new("a.ndjson")), Format::Ndjson);
        assert_eq!(Format::of(Path::new("-")), Format::Ndjson);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            key in prop::collection::vec(any::<u8>(), 1..50),
            value in prop::collection::vec(any::<u8>(), 0..50),
            expires in prop::option::of(any::<u64>()),
            text in ".{1,20}",
        ) {
            for key in [key, text.into_bytes()] {
                let record = Record {
                    key: key.into(),
                    value: value.clone().into(),
                    expires: expires.map(WallTime),
                };
                for format in [Format::Ndjson, Format::Tsv] {
                    let mut out = Vec::new();
                    format.write(&mut out, &record);
                    prop_assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
                    prop_assert_eq!(out.pop(), Some(b'\n'));
                    let mut wanted = record.clone();
                    if format == Format::Tsv {
                        wanted.expires = None;
                    }
                    prop_assert_eq!(format.read(&out), Ok(wanted));
                }
            }
        }

        #[test]
        fn any_bytes_can_be_read(line in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Format::Ndjson.read(&line);
            let _ = Format::Tsv.read(&line);
        }
    }
}
