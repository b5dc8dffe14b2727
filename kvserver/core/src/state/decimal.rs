//! Numbers as clients write them, added the same way at every copy.
//!
//! Decimal fractions are added exactly up to 17 digits after the point, as long as both are below 10^21: 0.1 and 0.2
//! are 0.3. Larger ones are added as binary doubles, which every machine does alike (IEEE 754).

use std::fmt;

/// Digits after the point.
const FRACTION_DIGITS: u32 = 17;

/// The number 1 in fixed point.
const ONE: i128 = 10_i128.pow(FRACTION_DIGITS);

/// Digits and signs of a number at most; longer ones are no numbers.
const NUMBER_BYTES_MAX: usize = 256;

/// Largest exponent that is looked at: beyond it every number is zero or too large.
const EXPONENT_MAX: i32 = 400;

/// Fixed-point numbers are below this.
const FIXED_MAX: i128 = 1_000_000_000_000_000_000_000 * ONE;

/// A value that a client may add to, exact as long as it is not too large.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    /// In units of 10^-17.
    Fixed(i128),
    Double(f64),
}

/// Reads a decimal integer of 64 bits, written as it would be printed.
pub(crate) fn integer(text: &[u8]) -> Option<i64> {
    let (sign, digits) = match text {
        [b'-', digits @ ..] => (-1_i128, digits),
        digits => (1, digits),
    };
    let plain = match digits {
        [b'0'] => sign == 1,
        [b'1'..=b'9', ..] => digits.len() <= 19 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let value =
        digits.iter().filter(|_| plain).fold(0_i128, |sum, digit| sum * 10 + i128::from(digit - b'0'));
    if plain { i64::try_from(sign * value).ok() } else { None }
}

/// Reads a decimal number, perhaps with a point or an exponent.
pub(crate) fn number(text: &[u8]) -> Option<Number> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= NUMBER_BYTES_MAX)?;
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let unsigned = mantissa.strip_prefix(['-', '+']).unwrap_or(mantissa);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let digits = || whole.bytes().chain(fraction.bytes());
    if whole.len() + fraction.len() == 0 || !digits().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let double = || text.parse::<f64>().ok().filter(|double| double.is_finite()).map(Number::Double);
    let exponent = exponent.clamp(-EXPONENT_MAX, EXPONENT_MAX);
    // The value is the digits times ten to this power, in units of 10^-17.
    let power = exponent - i32::try_from(fraction.len()).ok()? + FRACTION_DIGITS.cast_signed();
    let mut units = 0_i128;
    let dropped = usize::try_from(-power).unwrap_or(0);
    let kept = (whole.len() + fraction.len()).saturating_sub(dropped);
    let shifted = |units: i128, digit: u8| {
        let shifted = units.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
        Some(shifted).filter(|units| *units < FIXED_MAX)
    };
    for digit in digits().take(kept) {
        match shifted(units, digit) {
            Some(more) => units = more,
            None => return double(),
        }
    }
    // Rounds half a unit and more up.
    if dropped > 0
        && dropped <= whole.len() + fraction.len()
        && digits().nth(kept).is_some_and(|digit| digit >= b'5')
    {
        units += 1;
    }
    for _ in 0..power.max(0) {
        match shifted(units, b'0') {
            Some(more) => units = more,
            None => return double(),
        }
    }
    Some(Number::Fixed(if mantissa.starts_with('-') { -units } else { units }))
}

/// The sum, unless it is too large for a number.
pub(crate) fn add(a: Number, b: Number) -> Option<Number> {
    if let (Number::Fixed(a), Number::Fixed(b)) = (a, b)
        && let Some(sum) = a.checked_add(b)
        && sum.abs() < FIXED_MAX
    {
        return Some(Number::Fixed(sum));
    }
    let sum = a.as_double() + b.as_double();
    sum.is_finite().then_some(Number::Double(sum))
}

impl Number {
    fn as_double(self) -> f64 {
        match self {
            // Correctly rounded by way of its digits.
            Self::Fixed(_) => self.to_string().parse().unwrap_or(f64::NAN),
            Self::Double(double) => double,
        }
    }
}

/// Without an exponent, and without zeros at the end of a fraction.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Fixed(units) => {
                let sign = if units < 0 { "-" } else { "" };
                let (whole, fraction) =
                    (units.unsigned_abs() / ONE.unsigned_abs(), units.unsigned_abs() % ONE.unsigned_abs());
                write!(f, "{sign}{whole}")?;
                if fraction > 0 {
                    let digits = format!("{fraction:017}");
                    write!(f, ".{}", digits.trim_end_matches('0'))?;
                }
                Ok(())
            }
            Self::Double(double) => write!(f, "{double}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(a: &str, b: &str) -> Option<String> {
        let (a, b) = number(a.as_bytes()).zip(number(b.as_bytes()))?;
        add(a, b).map(|sum| sum.to_string())
    }

    #[test]
    fn integers_are_read_as_they_are_printed() {
        for text in ["0", "-1", "9223372036854775807", "-9223372036854775808"] {
            assert_eq!(integer(text.as_bytes()).map(|value| value.to_string()).as_deref(), Some(text));
        }
        for text in
            ["", "-", "-0", "01", "+1", " 1", "1 ", "1.0", "9223372036854775808", "99999999999999999999"]
        {
            assert_eq!(integer(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn fractions_are_exact() {
        for (a, b, c) in [
            ("0.1", "0.2", "0.3"),
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("-5", "5", "0"),
            ("3", "-3.5", "-0.5"),
            (".5", "1.", "1.5"),
            ("1e-17", "0", "0.00000000000000001"),
            ("5e-18", "0", "0.00000000000000001"),
            ("4e-18", "0", "0"),
            ("1e-400", "1", "1"),
            ("0e999999", "1", "1"),
            ("123456789012345678901", "0", "123456789012345678901"),
        ] {
            assert_eq!(sum(a, b).as_deref(), Some(c), "{a} + {b}");
        }
    }

    #[test]
    fn large_numbers_are_doubles_and_have_an_end() {
        assert_eq!(sum("1e30", "1").as_deref(), Some("1000000000000000000000000000000"));
        assert_eq!(sum("1e308", "1e308"), None);
        assert_eq!(
            sum("999999999999999999999", "999999999999999999999").as_deref(),
            Some("2000000000000000000000")
        );
        for text in ["", "-", ".", "e5", "1e", "nan", "inf", "0x10", " 1", "1 ", "--1", "1e999"] {
            assert_eq!(number(text.as_bytes()), None, "{text}");
        }
        assert_eq!(number("1".repeat(300).as_bytes()), None);
    }
}
