//! Bytes and durations in Kafka's spelling (plain numbers) and in a human one (`64MiB`, `7d`).
//!
//! Pure text to numbers and back. Which settings may be written this way is the table's business.

/// Reads a number of bytes: `1048576`, `64KiB`, `64k`, `1GiB`. Units are powers of 1024.
pub fn parse_bytes(text: &str) -> Option<i64> {
    with_unit(text, |unit| match unit {
        "" | "b" => Some(1),
        "k" | "kb" | "kib" => Some(1 << 10),
        "m" | "mb" | "mib" => Some(1 << 20),
        "g" | "gb" | "gib" => Some(1 << 30),
        "t" | "tb" | "tib" => Some(1 << 40),
        _ => None,
    })
}

/// Reads a duration in milliseconds: `1500`, `1500ms`, `2s`, `5m`, `12h`, `7d`.
pub fn parse_millis(text: &str) -> Option<i64> {
    with_unit(text, |unit| match unit {
        "" | "ms" => Some(1),
        "s" => Some(1_000),
        "m" | "min" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        "w" => Some(604_800_000),
        _ => None,
    })
}

/// Prints bytes for people: `512 B`, `1.5 MiB`.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

fn with_unit(text: &str, factor: impl Fn(&str) -> Option<i64>) -> Option<i64> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !(c.is_ascii_digit() || c == '-' || c == '_'))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: i64 = number.replace('_', "").parse().ok()?;
    number.checked_mul(factor(&unit.trim().to_ascii_lowercase())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn human_spellings_are_read() {
        assert_eq!(parse_bytes("1048576"), Some(1_048_576));
        assert_eq!(parse_bytes("64 KiB"), Some(65_536));
        assert_eq!(parse_bytes("1g"), Some(1 << 30));
        assert_eq!(parse_bytes("-1"), Some(-1));
        assert_eq!(parse_bytes("1_000"), Some(1000));
        for bad in ["", "x", "1x", "9223372036854775807k", "1.5m", "KiB", "--1"] {
            assert_eq!(parse_bytes(bad), None, "{bad}");
        }
        assert_eq!(parse_millis("7d"), Some(604_800_000));
        assert_eq!(parse_millis("5m"), Some(300_000));
        assert_eq!(parse_millis("5 parsecs"), None);
        assert_eq!(human_bytes(512), "512 B");
        assert_eq!(human_bytes(1_572_864), "1.5 MiB");
    }
}
