//! Values as the owner writes them, in the file and in labels: text to value, or a sentence that says what to write.

use std::borrow::Cow;

use jiff::SignedDuration;
use nexus_model::Mode;

use crate::term::{Amount, Term};

/// Of a value that can't be used only the beginning is shown.
const SHOWN: usize = 100;

/// Somebody's text within a message: on one line, and not much of it.
pub fn shown(text: &str) -> String {
    cut(text).escape_debug().to_string()
}

/// Its beginning.
pub fn cut(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

pub fn mode(text: &str) -> Result<Mode, String> {
    text.parse().map_err(|_| format!("\"{}\" is no mode; write heal, shadow or off", shown(text)))
}

/// The amount of a term, within its bounds.
pub fn of_term(term: Term, text: &str) -> Result<Amount, String> {
    let (least, most) = term.bounds();
    between(text, least, most)
}

pub fn between(text: &str, least: Amount, most: Amount) -> Result<Amount, String> {
    let amount = match least {
        Amount::Count(_) => match text.parse() {
            Ok(count) => Amount::Count(count),
            Err(_) => {
                let given = shown(text);
                return Err(format!("\"{given}\" is out of bounds; write a number from {least} to {most}"));
            }
        },
        Amount::Time(_) => Amount::Time(time(text)?),
    };
    match amount {
        _ if (least..=most).contains(&amount) => Ok(amount),
        Amount::Count(_) => Err(format!("\"{}\" is out of bounds; write a number from {least} to {most}", shown(text))),
        Amount::Time(_) => Err(format!("{amount} is out of bounds; write {least} to {most}")),
    }
}

fn time(text: &str) -> Result<SignedDuration, String> {
    text.parse().map_err(|_| format!("\"{}\" is no duration; write it with a unit, such as 10s or 5m", shown(text)))
}

pub fn yes_or_no(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(format!("\"{}\" is neither; write true or false", shown(text))),
    }
}

/// More is no ballast but the disk itself.
const MOST_BYTES: u64 = 1 << 40;

/// `0`, `512MiB`, `1GB`: a number with its unit, thousands or 1024s as the unit says.
pub fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("\"{}\" is no size; write it with a unit, such as 512MiB or 1GB", shown(text));
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let factor: u64 = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "b" => 1,
        // Nothing has no unit.
        "" if number == 0 => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return Err(wrong()),
    };
    match number.checked_mul(factor) {
        Some(bytes) if bytes <= MOST_BYTES => Ok(bytes),
        _ => Err(format!("{} is out of bounds; write 0B to 1024GiB", shown(text))),
    }
}

/// The same for people.
pub fn bytes_in_words(bytes: u64) -> String {
    const UNITS: [(u64, &str); 6] =
        [(1 << 30, "GiB"), (1_000_000_000, "GB"), (1 << 20, "MiB"), (1_000_000, "MB"), (1 << 10, "KiB"), (1_000, "kB")];
    let whole = UNITS.iter().find(|(size, _)| bytes > 0 && bytes.is_multiple_of(*size));
    whole.map_or_else(|| format!("{bytes}B"), |(size, unit)| format!("{}{unit}", bytes / size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_unit() {
        for (text, expected) in
            [("0", 0), ("0B", 0), ("512MiB", 512 << 20), ("1GB", 1_000_000_000), (" 2 GiB ", 2 << 30), ("7kb", 7_000)]
        {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for wrong in ["", "5", "-1B", "1.5GB", "GB", "1TB", "99999999999999999999B", "2000GiB", "1é"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        for size in ["0B", "512MiB", "1GB", "3GiB", "1500MB", "17B"] {
            assert_eq!(bytes_in_words(bytes(size).unwrap()), size);
        }
    }

    #[test]
    fn amounts_are_within_their_bounds() {
        assert_eq!(of_term(Term::Attempts, "20"), Ok(Amount::Count(20)));
        assert_eq!(of_term(Term::StartPatience, "0s"), Ok(Amount::Time(SignedDuration::ZERO)));
        for (term, wrong) in [
            (Term::Attempts, "21"),
            (Term::Attempts, "0"),
            (Term::Attempts, "-1"),
            (Term::Attempts, "3s"),
            (Term::StopTimeout, "1000s"),
            (Term::StopTimeout, "10"),
            (Term::StableFor, "-1m"),
            (Term::StableFor, ""),
        ] {
            assert!(of_term(term, wrong).is_err(), "{term:?} {wrong}");
        }
    }
}
