//! Numbers as people read them: three digits and a unit.

/// `12 %`, `0.4 %`.
pub fn percent(ratio: f64) -> String {
    let percent = ratio * 100.0;
    if percent != 0.0 && percent.abs() < 1.0 { format!("{percent:.1} %") } else { format!("{percent:.0} %") }
}

/// `512 B`, `1.5 GiB`: as `free` and `docker stats` count.
pub fn bytes(bytes: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes;
    let mut unit = 0;
    while value.abs() >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 || value.abs() >= 9.95 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// `1 day`, `2 days`: so many of what is counted, a word that takes an s.
pub fn count(number: impl std::fmt::Display, one: &str) -> String {
    let number = number.to_string();
    let s = if number == "1" { "" } else { "s" };
    format!("{number} {one}{s}")
}

/// How often: `once`, `3 times`.
pub fn times(number: f64) -> String {
    match format!("{number:.0}").as_str() {
        "1" => "once".to_owned(),
        often => format!("{often} times"),
    }
}

/// As Compose takes it, in MiB: `256m`.
pub fn compose_mib(bytes: f64) -> String {
    format!("{:.0}m", (bytes / 1_048_576.0).ceil())
}

/// Up to a number that people find round: the next multiple of a quarter of its power of two, and 16 MiB at least.
pub fn round_up_mib(bytes: f64) -> f64 {
    let mib = (bytes / 1_048_576.0).max(16.0);
    let step = (2.0_f64.powf(mib.log2().floor()) / 4.0).max(4.0);
    (mib / step).ceil() * step * 1_048_576.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.0, 0.004, 0.123, 1.0].map(percent), ["0 %", "0.4 %", "12 %", "100 %"]);
        assert_eq!(
            [0.0, 512.0, 1536.0, 10_485_760.0, 1_610_612_736.0, 1e15].map(bytes),
            ["0 B", "512 B", "1.5 KiB", "10 MiB", "1.5 GiB", "909 TiB"]
        );
        // Rounding never makes four digits.
        assert_eq!([999.0, 999.6, 10_440_000.0].map(bytes), ["999 B", "1.0 KiB", "10 MiB"]);
    }

    #[test]
    fn one_is_not_several() {
        assert_eq!([0, 1, 2, 11].map(|number| count(number, "day")), ["0 days", "1 day", "2 days", "11 days"]);
        assert_eq!(count(format_args!("{:.0}", 1.2), "hour"), "1 hour");
        assert_eq!([0.0, 1.0, 3.0].map(times), ["0 times", "once", "3 times"]);
    }

    #[test]
    fn limits_are_round() {
        let mib = |mib: f64| compose_mib(round_up_mib(mib * 1_048_576.0));
        assert_eq!(
            [1.0, 17.0, 33.0, 100.0, 130.0, 257.0, 900.0].map(mib),
            ["16m", "20m", "40m", "112m", "160m", "320m", "1024m"]
        );
    }
}
