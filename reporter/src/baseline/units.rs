//! Figures as people write them.

/// Bytes with three digits at most: `812 MB`, `3.8 GB`. Powers of 1024, as Docker and `free -h` count.
pub fn bytes(bytes: f64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes;
    let mut unit = 0;
    while value.abs() >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if value.abs() < 9.95 && unit > 0 { 1 } else { 0 };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// Of a share: `4.2 %` below ten, `61 %` above.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let digits = if percent.abs() < 9.95 && percent.abs() >= 0.05 { 1 } else { 0 };
    format!("{percent:.digits$} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_are_enough() {
        let check = |value: f64, expected: &str| assert_eq!(bytes(value), expected);
        check(0.0, "0 B");
        check(999.0, "999 B");
        check(1000.0, "1.0 kB");
        check(851_443_712.0, "812 MB");
        check(4_080_218_931.0, "3.8 GB");
        check(34_359_738_368.0, "32 GB");
        check(-2048.0, "-2.0 kB");
        let check = |share: f64, expected: &str| assert_eq!(percent(share), expected);
        check(0.0, "0 %");
        check(0.0004, "0 %");
        check(0.042, "4.2 %");
        check(0.0996, "10 %");
        check(1.0, "100 %");
    }
}
