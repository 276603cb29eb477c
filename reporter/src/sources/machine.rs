//! What the kernel alone tells: where the swap is. `/proc/swaps` is the host's in a container too.

use std::path::Path;

use crate::report::facts::Swap;

/// `None` when it can't be read.
pub fn swaps(procfs: &Path) -> Option<Vec<Swap>> {
    std::fs::read_to_string(procfs.join("swaps")).ok().map(|text| parse(&text))
}

/// Lines of `Filename Type Size Used Priority` in KiB, below a heading (mm/swapfile.c). Blanks in a file name are `\040`.
fn parse(text: &str) -> Vec<Swap> {
    let line = |line: &str| {
        let mut columns = line.split_whitespace();
        let name = columns.next()?.replace("\\040", " ");
        let mut kib = columns.skip(1).map(|column| column.parse::<f64>().ok().map(|kib| kib * 1024.0));
        Some(Swap { name, size: kib.next()??, used: kib.next()?? })
    };
    text.lines().skip(1).filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swaps_of_each_kind_are_read() {
        let text = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n\
                    /dev/zram0                              partition\t524284\t\t1024\t\t100\n\
                    /var/my\\040swap                           file\t\t102396\t\t0\t\t-2\nhalf a line\n";
        let swap = |name: &str, size: f64, used: f64| Swap { name: name.into(), size, used };
        assert_eq!(
            parse(text),
            [swap("/dev/zram0", 524_284.0 * 1024.0, 1_048_576.0), swap("/var/my swap", 102_396.0 * 1024.0, 0.0)]
        );
        assert_eq!(parse("Filename Type Size Used Priority\n"), []);
        assert_eq!(swaps(Path::new("/nowhere")), None);
    }
}
