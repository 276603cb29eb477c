//! Two short texts side by side, as `diff -u` shows them without its headings. Pure.

/// Longer texts than any that are compared here; beyond it all of the old goes and all of the new comes.
const MOST_LINES: usize = 400;

/// Each line with `+ `, `- ` or two blanks in front.
pub fn lines(before: &str, after: &str) -> Vec<String> {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let mut out = Vec::new();
    if old.len().max(new.len()) > MOST_LINES {
        out.extend(old.iter().map(|line| format!("- {line}")));
        out.extend(new.iter().map(|line| format!("+ {line}")));
        return out;
    }
    // common[i][j]: how many lines old[i..] and new[j..] share in order.
    let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] =
                if old[i] == new[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            out.push(format!("  {}", old[i]));
            (i, j) = (i + 1, j + 1);
        } else if i < old.len() && (j == new.len() || common[i + 1][j] >= common[i][j + 1]) {
            out.push(format!("- {}", old[i]));
            i += 1;
        } else {
            out.push(format!("+ {}", new[j]));
            j += 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_comes_and_goes_is_told_apart() {
        assert_eq!(lines("", "a\nb\n"), ["+ a", "+ b"]);
        assert_eq!(lines("a\nb\nc\n", "a\nx\nc\nd\n"), ["  a", "- b", "+ x", "  c", "+ d"]);
        assert_eq!(lines("a\n", ""), ["- a"]);
        let long = "x\n".repeat(MOST_LINES + 1);
        assert_eq!(lines(&long, "y").len(), MOST_LINES + 2);
    }
}
