//! Sizes, rates and times as people write and read them.

use std::time::Duration;

/// `1.5 MiB`
pub(crate) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// Reads `500k`, `2MiB`, `10M`, `1.5MB`: bytes. Powers of 1,024 with `i`, of 1,000 without.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is not a size: expected a number with B, k, M, G, KiB, MiB or GiB");
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..split].parse().map_err(|_| bad())?;
    let factor = match text[split..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1u64,
        "k" | "kb" => 1000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "ki" | "kib" => 1 << 10,
        "mi" | "mib" => 1 << 20,
        "gi" | "gib" => 1 << 30,
        _ => return Err(bad()),
    };
    let bytes = number * factor as f64;
    if (1.0..1e18).contains(&bytes) { Ok(bytes as u64) } else { Err(bad()) }
}

/// Reads a rate: a size, with or without `/s`.
pub(crate) fn parse_rate(text: &str) -> Result<u64, String> {
    let text = text.trim();
    parse_size(text.strip_suffix("/s").unwrap_or(text))
}

/// Reads `90s`, `15m`, `2h`, `7d`, `500ms`, `0`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is not a time: expected a number with ms, s, m, h or d");
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..split].parse().map_err(|_| bad())?;
    let unit = match text[split..].trim() {
        "ms" => return Ok(Duration::from_millis(number)),
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(bad()),
    };
    // A thousand years are enough, and no sum of two overflows.
    number.checked_mul(unit).filter(|s| *s <= 31_557_600_000).map(Duration::from_secs).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_read_as_written() {
        for (text, bytes) in
            [("500k", 500_000), ("2MiB", 2 << 20), ("1.5MB", 1_500_000), ("1", 1), ("3 GiB", 3 << 30)]
        {
            assert_eq!(parse_size(text), Ok(bytes));
            assert_eq!(parse_rate(&format!("{text}/s")), Ok(bytes));
        }
        for (text, ms) in [
            ("0", 0),
            ("90s", 90_000),
            ("15m", 900_000),
            ("2h", 7_200_000),
            ("500ms", 500),
            ("7d", 604_800_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)));
        }
        for bad in ["", "x", "-1", "1x", "1e9", "9999999999999999999999", "0k", "."] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
        for bad in ["", "s", "-1s", "1w", "99999999999999999999d"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert_eq!((size(5), size(1536), size(3 << 40)), ("5 B".into(), "1.5 KiB".into(), "3.0 TiB".into()));
    }
}
