//! Numbers and words in what the kernel writes, taken from the bytes in place: hundreds of small files a scrape, nearly all
//! of them digits.

/// Lines without their line feed. A last line that ends without one counts.
pub fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.split(|&byte| byte == b'\n')
}

/// What stands between spaces and tabs.
pub fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&byte| byte == b' ' || byte == b'\t').filter(|word| !word.is_empty())
}

/// Lines `KEY VALUE`; others are left out.
pub fn keyed(text: &[u8]) -> impl Iterator<Item = (&[u8], u64)> {
    lines(text).filter_map(|line| {
        let at = line.iter().position(|&byte| byte == b' ')?;
        Some((&line[..at], unsigned(line[at + 1..].trim_ascii())?))
    })
}

/// A number alone in its file.
pub fn alone(text: &[u8]) -> Option<u64> {
    unsigned(text.trim_ascii())
}

/// Digits and nothing else. `None` for what does not fit, too.
pub fn unsigned(digits: &[u8]) -> Option<u64> {
    // Nineteen digits always fit, so that the usual number needs no care.
    let (head, tail) = digits.split_at_checked(19).unwrap_or((digits, &[]));
    let mut number = 0;
    for byte in head {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + u64::from(digit);
    }
    for byte in tail {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    (!digits.is_empty()).then_some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_digits_that_fit() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(unsigned(text.as_bytes()), expected, "{text}");
        check("0", Some(0));
        check("18446744073709551615", Some(u64::MAX));
        check("18446744073709551616", None);
        check("99999999999999999999", None);
        check("00000000000000000000000000000042", Some(42));
        for wrong in ["", "-1", "+1", "1 ", "max", "1.5", "12345678901234567890x"] {
            check(wrong, None);
        }
        assert_eq!((alone(b" 42\n"), alone(b"max\n"), alone(b"")), (Some(42), None, None));
    }

    #[test]
    fn lines_that_are_not_understood_are_left_out() {
        let text = b"anon 12\nfile  7 \n\nodd\nx y\nnegative -1\nlast 3";
        let found: Vec<_> = keyed(text).collect();
        assert_eq!(found, [(b"anon".as_slice(), 12), (b"file", 7), (b"last", 3)]);
        assert_eq!(lines(b"").collect::<Vec<_>>(), [b""]);
        assert_eq!(words(b" a\tb  c ").collect::<Vec<_>>(), [b"a", b"b", b"c"]);
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<Vec<u8>>()) {
            keyed(&text).count();
            alone(&text);
        }

        #[test]
        fn numbers_read_back_the_same(number in any::<u64>(), zeros in 0usize..30) {
            let text = format!("{}{number}", "0".repeat(zeros));
            prop_assert_eq!(unsigned(text.as_bytes()), Some(number));
        }
    }
}
