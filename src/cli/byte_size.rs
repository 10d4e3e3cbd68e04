//! Parsing of byte sizes such as 8G.

/// Parses a byte size. K, M, G and T, also with `iB`, are powers of 1024; with `B` alone they are powers of 1000.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[digits.len()..].to_ascii_lowercase();
    let (base, prefix) = match unit.strip_suffix("ib") {
        Some(prefix) if !prefix.is_empty() => (1024f64, prefix),
        _ => match unit.strip_suffix('b') {
            Some(prefix) => (1000f64, prefix),
            None => (1024f64, unit.as_str()),
        },
    };
    let power = ["", "k", "m", "g", "t"].iter().position(|known| *known == prefix);
    let number = digits.parse::<f64>().ok().filter(|number| *number > 0.0 && number.is_finite());
    match (number, power) {
        (Some(number), Some(power)) => Ok((number * base.powi(power as i32)) as u64),
        _ => Err("expected a number of bytes, such as 8G, 6.5GiB, 500MB or 4000000000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::parse_bytes;

    #[test]
    fn byte_sizes_are_parsed_with_their_units() {
        for (text, expected) in [
            ("4000000000", 4_000_000_000),
            ("4000B", 4000),
            ("8G", 8 << 30),
            ("6.5GiB", 13 << 29),
            ("500MB", 500_000_000),
            ("2k", 2048),
            ("1TB", 1_000_000_000_000),
            ("0.5gb", 500_000_000),
        ] {
            assert_eq!(parse_bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "G", "0", "-1G", "1X", "8 G", "nan", "inf", "1iB", "1GG"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }
}
