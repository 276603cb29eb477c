//! Chooses the format of the exposition by the Accept header (RFC 9110, section 12.5.1).

use crate::exposition::Format;

/// What we can write, the preferred first among equals: who names no format (curl, a browser) gets text.
const OFFERS: [Format; 2] = [Format::Text, Format::OpenMetrics];

/// The best offer for `accept`, the values of all Accept headers joined by commas. Text when nothing fits, as the
/// Prometheus libraries do, since a scrape that fails helps nobody.
pub fn negotiate(accept: &str) -> Format {
    let mut best = (0, Format::Text);
    for offer in OFFERS {
        let quality = quality(offer, accept);
        if quality > best.0 {
            best = (quality, offer);
        }
    }
    best.1
}

/// In thousandths; of the ranges that match the most specific counts. 0: not wanted.
fn quality(offer: Format, accept: &str) -> u32 {
    let (kind, subtype, version) = match offer {
        Format::Text => ("text", "plain", "0.0.4"),
        Format::OpenMetrics => ("application", "openmetrics-text", "1.0.0"),
    };
    let mut best: Option<(u32, u32)> = None;
    for range in accept.split(',') {
        let mut parts = range.split(';');
        let media = parts.next().unwrap_or_default().trim();
        let mut specificity = match media.split_once('/') {
            Some((a, b)) if a.eq_ignore_ascii_case(kind) && b.eq_ignore_ascii_case(subtype) => 3,
            Some((a, "*")) if a.eq_ignore_ascii_case(kind) => 2,
            Some(("*", "*")) => 1,
            _ => continue,
        };
        let mut quality = 1000;
        let mut fits = true;
        for parameter in parts {
            let Some((name, value)) = parameter.split_once('=') else { continue };
            let value = value.trim().trim_matches('"');
            match name.trim() {
                "q" | "Q" => quality = thousandths(value),
                name if name.eq_ignore_ascii_case("version") => {
                    fits &= value == version;
                    specificity += 1;
                }
                // charset and Prometheus 3's `escaping`: names of ours need no escaping, and UTF-8 is all we write.
                _ => (),
            }
        }
        if fits && best.is_none_or(|(known, _)| specificity > known) {
            best = Some((specificity, quality));
        }
    }
    best.map_or(0, |(_, quality)| quality)
}

/// A qvalue such as `0.75` as 750. What is none counts as 0: a client that can't say what it wants gets the default.
fn thousandths(text: &str) -> u32 {
    match text.parse::<f32>() {
        Ok(quality) if (0.0..=1.0).contains(&quality) => (quality * 1000.0).round() as u32,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_best_offer_wins() {
        let check = |accept: &str, expected: Format| assert_eq!(negotiate(accept), expected, "{accept}");
        check("", Format::Text);
        check("*/*", Format::Text);
        check("text/html,application/xhtml+xml,*/*;q=0.8", Format::Text);
        // Prometheus 2.53 and 3.
        check(
            "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            Format::OpenMetrics,
        );
        check(
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,*/*;q=0.1",
            Format::OpenMetrics,
        );
        check("application/openmetrics-text", Format::OpenMetrics);
        check("application/openmetrics-text; version=\"1.0.0\"; charset=utf-8", Format::OpenMetrics);
        check("Application/OpenMetrics-Text;Version=1.0.0", Format::OpenMetrics);
        check("application/openmetrics-text;q=0.3,text/plain;q=0.7", Format::Text);
        check("application/openmetrics-text;q=0.7 , text/plain;q=0.3", Format::OpenMetrics);
        // A version that we don't write does not fit, whatever its weight.
        check("application/openmetrics-text;version=2.0.0,text/plain;version=0.0.4;q=0.1", Format::Text);
        check("application/openmetrics-text;version=0.0.1", Format::Text);
        check("text/plain;version=1.0.0,application/openmetrics-text;q=0.1", Format::OpenMetrics);
        // The most specific range counts, not the greatest weight.
        check("text/plain;q=0.1,text/*,application/openmetrics-text;q=0.5", Format::OpenMetrics);
        check("application/openmetrics-text;q=0,*/*;q=0.1", Format::Text);
        check("text/plain;q=0,*/*;q=0.1", Format::OpenMetrics);
        check("application/json", Format::Text);
        check("application/openmetrics-text;q=nonsense,text/plain;q=0.1", Format::Text);
    }

    proptest! {
        #[test]
        fn never_panics(accept in any::<String>()) {
            negotiate(&accept);
        }
    }
}
