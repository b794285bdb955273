//! Sizes and durations, as people type and read them.
//!
//! In: `16MiB`, `30s`, `5%`. Out: numbers of bytes, of seconds, and shares, and `1.5 MiB`, `4h10m`, `5.0 %` back.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What a size may look like, for error messages.
const SIZES: &str = "use a whole number of bytes (4096), or a number with a unit: 512KiB, 16MiB, 1GiB (powers of 1024), \
     16kB, 1MB, 1GB (powers of 1000)";
/// What a duration may look like, for error messages.
const DURATIONS: &str = "use numbers with units: 500ms, 30s, 5m, 2h, 1h30m, 7d";

/// A number of bytes, as an option's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size {
    /// Bytes.
    pub bytes: u64,
}

/// What a percentage may look like, for error messages.
const PERCENTAGES: &str = "use a number above zero, such as 5% or 0.5%";

/// Text that is no size, duration or percentage; says what would be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}; {accepted}")]
pub struct UnitError {
    text: String,
    what: &'static str,
    accepted: &'static str,
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error = || UnitError { text: text.to_owned(), what: "a size", accepted: SIZES };
        // A sign or `inf` would be taken for a number by the parser of the fraction.
        if !text.trim_start().starts_with(|c: char| c.is_ascii_digit()) {
            return Err(error());
        }
        let size: bytesize::ByteSize = text.trim().parse().map_err(|_| error())?;
        Ok(Self { bytes: size.as_u64() })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        human_size(self.bytes as f64).fmt(f)
    }
}

/// A length of time, as an option's value. Above zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The time.
    pub duration: Duration,
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error = || UnitError { text: text.to_owned(), what: "a duration", accepted: DURATIONS };
        let duration = humantime::parse_duration(text.trim()).map_err(|_| error())?;
        if duration.is_zero() {
            return Err(error());
        }
        Ok(Self { duration })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        human_age(self.duration.as_secs_f64()).fmt(f)
    }
}

/// A share in percent, as an option's value. Above zero.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Percentage {
    /// The share: 0.05 for 5 %.
    pub share: f64,
}

impl FromStr for Percentage {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error =
            || UnitError { text: text.to_owned(), what: "a percentage", accepted: PERCENTAGES };
        let number = text.trim().strip_suffix('%').unwrap_or(text).trim();
        let percent: f64 = number.parse().map_err(|_| error())?;
        if !percent.is_finite() || percent <= 0.0 {
            return Err(error());
        }
        Ok(Self { share: percent / 100.0 })
    }
}

/// A share in percent, such as `0.3 %`, `34 %`.
pub fn human_percent(share: f64) -> String {
    let percent = share.max(0.0) * 100.0;
    if percent < 9.95 { format!("{percent:.1} %") } else { format!("{percent:.0} %") }
}

/// Bytes with three digits or so and a unit, such as `1.5 MiB`. Negative for what shrank.
pub fn human_size(bytes: f64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut magnitude = bytes.abs();
    let sign = if bytes < 0.0 && magnitude >= 0.5 { "-" } else { "" };
    if magnitude < 1023.5 {
        return format!("{sign}{magnitude:.0} B");
    }
    let mut unit = UNITS[0];
    for candidate in UNITS {
        magnitude /= 1024.0;
        unit = candidate;
        // 1023.95 would be printed as 1024.0
        if magnitude < 1023.95 {
            break;
        }
    }
    format!("{sign}{magnitude:.1} {unit}")
}

/// The same in few columns, for tables beside source: `1.5M`, powers of 1024 too.
pub fn short_size(bytes: f64) -> String {
    let text = human_size(bytes).replace(' ', "");
    text.strip_suffix("iB").map_or_else(|| text.clone(), str::to_owned)
}

/// A time with two units at most, such as `3.2s`, `12m`, `4h10m`, `3d4h`.
pub fn human_age(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    if seconds < 0.9995 {
        return format!("{:.0}ms", seconds * 1e3);
    }
    if seconds < 9.95 {
        return format!("{seconds:.1}s");
    }
    let whole = seconds.round() as u64;
    let two = |large: u64, large_unit, small: u64, small_unit| {
        if small == 0 {
            format!("{large}{large_unit}")
        } else {
            format!("{large}{large_unit}{small}{small_unit}")
        }
    };
    match whole {
        0..60 => format!("{whole}s"),
        60..600 => two(whole / 60, "m", whole % 60, "s"),
        600..3600 => format!("{}m", whole / 60),
        3600..86_400 => two(whole / 3600, "h", whole % 3600 / 60, "m"),
        _ => two(whole / 86_400, "d", whole % 86_400 / 3600, "h"),
    }
}

/// A count with its thousands set apart, such as `1,234,567`.
pub fn human_count(count: f64) -> String {
    let digits = format!("{:.0}", count.max(0.0));
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Option<u64> {
        text.parse::<Size>().ok().map(|size| size.bytes)
    }

    #[test]
    fn sizes_with_and_without_units() {
        assert_eq!(bytes("4096"), Some(4096));
        assert_eq!(bytes("16MiB"), Some(16 << 20));
        assert_eq!(bytes("512KiB"), Some(512 << 10));
        assert_eq!(bytes("512 kib"), Some(512 << 10));
        assert_eq!(bytes("1GB"), Some(1_000_000_000));
        assert_eq!(bytes("1.5MiB"), Some(3 << 19));
        assert_eq!(bytes("0"), Some(0));
        for wrong in ["", "MiB", "-1", "+1", "inf", "NaN", "1x", "1 2", "1MiBs"] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn errors_say_what_is_accepted() {
        let error = "5 apples".parse::<Size>().expect_err("not a size").to_string();
        assert!(error.contains("5 apples") && error.contains("512KiB"), "{error}");
        let error = "soon".parse::<Span>().expect_err("not a duration").to_string();
        assert!(error.contains("soon") && error.contains("30s"), "{error}");
    }

    #[test]
    fn durations_with_units_above_zero() {
        let seconds =
            |text: &str| text.parse::<Span>().ok().map(|span| span.duration.as_secs_f64());
        assert_eq!(seconds("30s"), Some(30.0));
        assert_eq!(seconds("1h30m"), Some(5400.0));
        assert_eq!(seconds("500ms"), Some(0.5));
        for wrong in ["0s", "30", "", "-3s", "s"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn percentages_are_above_zero() {
        let share = |text: &str| text.parse::<Percentage>().ok().map(|percentage| percentage.share);
        assert_eq!(
            (share("5%"), share("50"), share("0.5 %")),
            (Some(0.05), Some(0.5), Some(0.005))
        );
        for wrong in ["", "%", "0%", "-1%", "inf", "NaN%", "5%%", "five"] {
            assert_eq!(share(wrong), None, "{wrong}");
        }
        assert_eq!([0.0034, 0.344, 12.0].map(human_percent), ["0.3 %", "34 %", "1200 %"]);
    }

    #[test]
    fn sizes_read_well_at_the_borders() {
        for (bytes, text) in [
            (0.0, "0 B"),
            (1023.0, "1023 B"),
            (1023.7, "1.0 KiB"),
            (1024.0, "1.0 KiB"),
            (1_572_864.0, "1.5 MiB"),
            (1_048_570.0, "1.0 MiB"),
            (-2048.0, "-2.0 KiB"),
            (-0.2, "0 B"),
            (9_223_372_036_854_775_808.0, "8.0 EiB"),
        ] {
            assert_eq!(human_size(bytes), text);
        }
        assert_eq!([1023.0, 1_572_864.0].map(short_size), ["1023B", "1.5M"]);
    }

    #[test]
    fn ages_read_well_at_the_borders() {
        for (seconds, text) in [
            (-1.0, "0ms"),
            (0.25, "250ms"),
            (0.9996, "1.0s"),
            (3.21, "3.2s"),
            (9.96, "10s"),
            (59.6, "1m"),
            (90.0, "1m30s"),
            (720.0, "12m"),
            (15_000.0, "4h10m"),
            (273_600.0, "3d4h"),
        ] {
            assert_eq!(human_age(seconds), text);
        }
    }

    #[test]
    fn counts_have_their_thousands_apart() {
        assert_eq!(human_count(0.4), "0");
        assert_eq!(human_count(999.0), "999");
        assert_eq!(human_count(1_234_567.0), "1,234,567");
    }
}
