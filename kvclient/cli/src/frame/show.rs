//! Printed forms of times, sizes and keys.

use std::time::Duration;

use common::shown::is_harmless;

/// `0.8 ms`, `12 ms`, `1.25 s`.
pub(crate) fn elapsed_shown(elapsed: Duration) -> String {
    let ms = elapsed.as_secs_f64() * 1000.0;
    if ms < 10.0 {
        format!("{ms:.1} ms")
    } else if ms < 1000.0 {
        format!("{ms:.0} ms")
    } else {
        format!("{:.2} s", ms / 1000.0)
    }
}

/// `512 B`, `1.5 MB`.
pub(crate) fn bytes_shown(bytes: u64) -> String {
    let mut scaled = bytes as f64;
    let mut unit = "B";
    for larger in ["kB", "MB", "GB", "TB", "PB"] {
        if scaled < 1000.0 {
            break;
        }
        scaled /= 1000.0;
        unit = larger;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{scaled:.1} {unit}") }
}

/// A key for a message: as text of ASCII, everything else escaped, long ones cut.
pub(crate) fn key_shown(key: &[u8]) -> String {
    const SHOWN_MAX: usize = 64;
    let shown = key[..key.len().min(SHOWN_MAX)].escape_ascii();
    if key.len() > SHOWN_MAX { format!("{shown}...") } else { shown.to_string() }
}

/// Text that a terminal shows as it is, lines and tabs among it.
pub(crate) fn is_printable(value: &[u8]) -> bool {
    let harmless = |letter: char| is_harmless(letter) || matches!(letter, '\n' | '\t');
    std::str::from_utf8(value).is_ok_and(|text| text.chars().all(harmless))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_sizes_and_keys_are_short() {
        assert_eq!(elapsed_shown(Duration::from_micros(840)), "0.8 ms");
        assert_eq!(elapsed_shown(Duration::from_millis(1250)), "1.25 s");
        assert_eq!(bytes_shown(999), "999 B");
        assert_eq!(bytes_shown(8_388_608), "8.4 MB");
        assert_eq!(key_shown(b"a\xff\n"), "a\\xff\\n");
        assert!(is_printable("b\u{e4}r\n\tx".as_bytes()));
        for harmful in ["\x1b[2J", "\u{9b}31m", "\u{202e}x", "a\r"] {
            assert!(!is_printable(harmful.as_bytes()), "{harmful:?}");
        }
        assert!(!is_printable(b"\xff"));
        assert!(key_shown(&[b'k'; 100]).ends_with("..."));
    }
}
