//! `textfile`: families that other programs leave in files, passed on.
//!
//! A file never harms the rest of the scrape: what is in it is read whole or not at all, and a family that does not go with
//! one of another file, or with one of the exporter's own, is left out and told in `node_textfile_scrape_error` and the log.
//!
//! Names, help texts and series are compared as node_exporter does: the first file, by name, is right.

mod parse;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

use parse::{Distribution, Identity, MOST_FAMILIES, Series, SeriesValue, TextFamily, parse};

use super::{Access, CollectError, Collector};
use crate::exposition::{Exposition, FamilyWriter};
use crate::family::{Family, Kind};
use crate::{process, snapshot};

pub const ABSENCE: Option<&str> = Some(
    "success is 1 also when a file could not be taken, as with node_exporter: `node_textfile_scrape_error` is 1 then, and \
    the log names file and reason. Families of the files are passed on under their own names. A folder is given as the \
    exporter sees it, so below /host in its container. A file is refused whole when it is no text format 0.0.4, is not \
    complete or has timestamps; there may be 256 files and 2048 families, and all files together may have 1 MiB. A family is \
    left out when its type or help is not that of the same family in an earlier file, or when its name is one of the \
    exporter's own, whether that collector is on or not; so is a series that was there before.",
);

/// Of all files together, each of which has some kB. What is read takes several times as much until it is written.
const LIMIT: u64 = 1 << 20;
const MOST_FILES: usize = 256;
/// That patterns may stand for.
const MOST_FOLDERS: usize = 64;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct TextFiles {
    pub families: Vec<MergedFamily>,
    /// The files that were read, and the second in which each was last written.
    pub files: BTreeMap<String, i64>,
    /// Not all could be taken.
    pub has_faults: bool,
}

/// A family of all files that have it.
#[derive(Clone, Debug, PartialEq)]
pub struct MergedFamily {
    family: TextFamily,
    files: Vec<String>,
    /// Of a counter: OpenMetrics would declare it by a name that is another family's.
    short_name_is_taken: bool,
}

pub type Found = TextFiles;

/// Which faults have been told, so that each is told once.
#[derive(Debug, Default)]
pub struct Kept {
    told: BTreeMap<String, String>,
}

pub fn read(access: &mut Access<'_>, kept: &mut Kept) -> Result<Found, CollectError> {
    let (found, faults) = collect(&access.settings.textfile_directories);
    for (path, reason) in &faults {
        if kept.told.get(path) != Some(reason) {
            tracing::warn!(path, reason, "can't take metrics from files");
        }
    }
    for path in kept.told.keys().filter(|path| !faults.contains_key(*path)) {
        tracing::info!(path, "metrics are taken again");
    }
    kept.told = faults;
    Ok(found)
}

/// The first fault of each file or folder.
type Faults = BTreeMap<String, String>;

fn collect(patterns: &[String]) -> (TextFiles, Faults) {
    let mut merge = Merge::default();
    let (mut files, mut left, mut count) = (BTreeMap::new(), LIMIT, 0);
    for folder in patterns.iter().flat_map(|pattern| folders(pattern)) {
        let paths = match files_of(&folder) {
            Ok(paths) => paths,
            Err(error) => {
                merge.fault(&name_of(&folder), || format!("can't list it: {error}"));
                continue;
            }
        };
        for path in paths {
            let name = name_of(&path);
            count += 1;
            if count > MOST_FILES {
                merge.fault(&name_of(&folder), || format!("there are more than {MOST_FILES} files"));
                break;
            }
            match read_file(&path, left) {
                Ok((text, written)) => {
                    left = left.saturating_sub(text.len() as u64);
                    match parse(&text) {
                        Ok(families) => {
                            families.into_iter().for_each(|family| merge.add(&name, family));
                            files.insert(name, written);
                        }
                        Err(mistake) => merge.fault(&name, || mistake.to_string()),
                    }
                }
                Err(reason) => merge.fault(&name, || reason),
            }
        }
    }
    let (families, faults) = merge.finish();
    (TextFiles { families, files, has_faults: !faults.is_empty() }, faults)
}

fn name_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// In the order of their names; one more than there may be tells that there are too many.
fn files_of(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let is_text = |name: &std::ffi::OsStr| name.as_encoded_bytes().ends_with(b".prom");
    let entries = fs::read_dir(folder)?.flatten().filter(|entry| is_text(&entry.file_name()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).take(MOST_FILES + 1).collect();
    paths.sort();
    Ok(paths)
}

/// The text of a file, and when it was written.
fn read_file(path: &Path, left: u64) -> Result<(String, i64), String> {
    let failed = |error: std::io::Error| format!("can't read it: {error}");
    // A pipe must not keep us waiting for its writer.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    if !about.is_file() {
        return Err("is no file".to_owned());
    }
    let mut bytes = Vec::with_capacity(about.len().min(left) as usize + 1);
    file.take(left + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > left {
        return Err(format!("is too large: all files together may have {LIMIT} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
    Ok((text, about.mtime()))
}

/// What a pattern stands for; itself where that is nothing, so that its absence is told.
fn folders(pattern: &str) -> Vec<PathBuf> {
    if pattern.is_empty() {
        return Vec::new();
    }
    let is_pattern = |text: &str| text.contains(['*', '?', '[', '\\']);
    let mut found = Vec::new();
    if is_pattern(pattern) {
        found.push(PathBuf::new());
        for component in Path::new(pattern).components() {
            let text = component.as_os_str().to_string_lossy();
            match component {
                Component::Normal(_) if is_pattern(&text) => {
                    found = found.iter().flat_map(|folder| matching(folder, &text)).take(MOST_FOLDERS).collect();
                }
                plain => found.iter_mut().for_each(|folder| folder.push(plain)),
            }
        }
        found.retain(|folder| folder.exists());
    }
    if found.is_empty() { vec![PathBuf::from(pattern)] } else { found }
}

/// The entries of a folder whose name fits.
fn matching(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let listed = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let Ok(entries) = fs::read_dir(listed) else { return Vec::new() };
    let pattern: Vec<char> = pattern.chars().collect();
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| fits(&pattern, &name.chars().collect::<Vec<_>>())).collect();
    names.sort();
    names.into_iter().map(|name| folder.join(name)).collect()
}

/// A shell's pattern: `*`, `?`, `[a-z]`, `[^a-z]` and `\` before what is meant literally. One that is wrong fits nothing.
fn fits(pattern: &[char], name: &[char]) -> bool {
    // Where to go on when the rest does not fit: after the last star, which then takes one character more.
    let mut again: Option<(usize, usize)> = None;
    let (mut at, mut place) = (0, 0);
    loop {
        let step = match (pattern.get(at), name.get(place)) {
            (None, None) => return true,
            (Some('*'), _) => {
                again = Some((at + 1, place));
                at += 1;
                continue;
            }
            (Some(_), Some(c)) => one(&pattern[at..], *c),
            _ => None,
        };
        match (step, again) {
            (Some(width), _) => (at, place) = (at + width, place + 1),
            (None, Some((after, from))) if from < name.len() => {
                again = Some((after, from + 1));
                (at, place) = (after, from + 1);
            }
            _ => return false,
        }
    }
}

/// How much of the pattern stands for the character, if its beginning does.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match pattern {
        ['?', ..] => Some(1),
        ['\\', literal, ..] => (*literal == c).then_some(2),
        ['[', class @ ..] => {
            let (is_negated, mut rest) = match class {
                ['^', rest @ ..] => (true, rest),
                rest => (false, rest),
            };
            let mut is_in = false;
            let mut is_first = true;
            loop {
                let (low, after) = match rest {
                    [']', rest @ ..] if !is_first => {
                        return (is_in != is_negated).then_some(pattern.len() - rest.len());
                    }
                    ['\\', low, rest @ ..] | [low, rest @ ..] => (*low, rest),
                    [] => return None,
                };
                let (high, after) = match after {
                    ['-', high, after @ ..] if *high != ']' => (*high, after),
                    after => (low, after),
                };
                is_in |= (low..=high).contains(&c);
                is_first = false;
                rest = after;
            }
        }
        [literal, ..] => (*literal == c).then_some(1),
        [] => None,
    }
}

/// Puts the families of all files together.
#[derive(Default)]
struct Merge {
    families: Vec<MergedFamily>,
    /// The series of each family.
    known: Vec<HashSet<Identity>>,
    /// Each name that a family or one of its samples has, with the family's place.
    names: HashMap<String, usize>,
    faults: Faults,
}

impl Merge {
    fn fault(&mut self, path: &str, reason: impl FnOnce() -> String) {
        if !self.faults.contains_key(path) {
            self.faults.insert(path.to_owned(), reason());
        }
    }

    fn add(&mut self, path: &str, family: TextFamily) {
        let name = &family.name;
        let mut taken = sample_names(&family).into_iter();
        if let Some(name) = taken.find(|name| ours().contains(name)) {
            return self.fault(path, || format!("{name} is a family of the exporter itself"));
        }
        if self.families.len() >= MOST_FAMILIES && !self.names.contains_key(name) {
            return self.fault(path, || format!("there are more than {MOST_FAMILIES} families"));
        }
        let other = sample_names(&family).iter().find_map(|name| self.names.get(name).copied());
        let place = match other.map(|place| (place, &mut self.families[place])) {
            None => {
                let place = self.families.len();
                self.names.extend(sample_names(&family).into_iter().map(|name| (name, place)));
                let TextFamily { name, kind, help, .. } = &family;
                let empty = TextFamily { name: name.clone(), kind: *kind, help: help.clone(), series: Vec::new() };
                self.families.push(MergedFamily { family: empty, files: Vec::new(), short_name_is_taken: false });
                self.known.push(HashSet::new());
                place
            }
            Some((_, MergedFamily { family: known, files, .. })) if known.name != *name => {
                let reason =
                    format!("the samples of {name} would be taken for those of {} in {}", known.name, files[0]);
                return self.fault(path, || reason);
            }
            Some((_, MergedFamily { family: known, files, .. })) if known.kind != family.kind => {
                let reason = format!("{name} is a {} in {}", known.kind.as_str(), files[0]);
                return self.fault(path, || reason);
            }
            Some((place, MergedFamily { family: known, files, .. })) => match (&known.help, &family.help) {
                (Some(first), Some(second)) if first != second => {
                    let reason = format!("{name} has another help text in {}", files[0]);
                    return self.fault(path, || reason);
                }
                (None, Some(_)) => {
                    known.help = family.help.clone();
                    place
                }
                _ => place,
            },
        };
        self.families[place].files.push(path.to_owned());
        for series in family.series {
            if self.known[place].insert(series.identity) {
                self.families[place].family.series.push(series);
            } else {
                self.fault(path, || format!("{} has the same series twice", family.name));
            }
        }
    }

    fn finish(mut self) -> (Vec<MergedFamily>, Faults) {
        for merged in &mut self.families {
            let short = merged.family.name.strip_suffix("_total").filter(|_| merged.family.kind == Kind::Counter);
            merged.short_name_is_taken =
                short.is_some_and(|short| ours().contains(short) || self.names.contains_key(short));
        }
        (self.families, self.faults)
    }
}

/// The names of a family's samples, and its own.
fn sample_names(family: &TextFamily) -> Vec<String> {
    let suffixes: &[&str] = match family.kind {
        Kind::Counter | Kind::Gauge | Kind::Untyped => &[""],
        Kind::Summary => &["", "_sum", "_count"],
        Kind::Histogram => &["", "_sum", "_count", "_bucket"],
    };
    suffixes.iter().map(|suffix| format!("{}{suffix}", family.name)).collect()
}

/// The exporter's own names.
struct Ours {
    /// Also those by which OpenMetrics declares counters.
    names: HashSet<&'static str>,
    /// Beginning and end of those with a part that is known only when read.
    patterns: Vec<(&'static str, &'static str)>,
}

impl Ours {
    fn contains(&self, name: &str) -> bool {
        self.names.contains(name)
            || self.patterns.iter().any(|(begin, end)| {
                name.len() > begin.len() + end.len() && name.starts_with(begin) && name.ends_with(end)
            })
    }
}

fn ours() -> &'static Ours {
    static OURS: OnceLock<Ours> = OnceLock::new();
    OURS.get_or_init(|| {
        let mut ours = Ours { names: HashSet::new(), patterns: Vec::new() };
        let all = Collector::ALL.iter().copied().flat_map(Collector::families);
        for Family { name, kind, .. } in all.chain(snapshot::FAMILIES).chain(process::FAMILIES) {
            match name.split_once('<').and_then(|(begin, rest)| Some((begin, rest.split_once('>')?.1))) {
                Some(pattern) => ours.patterns.push(pattern),
                None => _ = ours.names.insert(name),
            }
            if let (Kind::Counter, Some(short)) = (kind, name.strip_suffix("_total")) {
                ours.names.insert(short);
            }
        }
        ours
    })
}

const MTIME: Family = Family {
    name: "node_textfile_mtime_seconds",
    kind: Kind::Gauge,
    help: "When a file that was read had last been written, in seconds since epoch.",
    labels: &["file"],
    source: "files *.prom of --collector.textfile.directory",
};
const SCRAPE_ERROR: Family = Family {
    name: "node_textfile_scrape_error",
    kind: Kind::Gauge,
    help: "Whether something of the files could not be taken (1 yes, 0 no).",
    labels: &[],
    source: "files *.prom of --collector.textfile.directory",
};
pub const FAMILIES: &[Family] = &[MTIME, SCRAPE_ERROR];

pub fn write(found: &TextFiles, out: &mut Exposition) {
    for merged in &found.families {
        merged.write(out);
    }
    let mut family = out.family(&MTIME);
    for (file, written) in &found.files {
        family.sample(&[("file", file)], *written);
    }
    out.family(&SCRAPE_ERROR).single(found.has_faults);
}

impl MergedFamily {
    fn write(&self, out: &mut Exposition) {
        let TextFamily { name, kind, help, series } = &self.family;
        let unsaid = || format!("Metric read from {}", self.files.join(", "));
        let help = help.clone().unwrap_or_else(unsaid);
        let mut family = if self.short_name_is_taken {
            out.counter_by_full_name(name, &help)
        } else {
            out.named_family(name, *kind, &help)
        };
        for series in series {
            write_series(series, *kind, &mut family);
        }
    }
}

fn write_series(Series { labels, value, .. }: &Series, kind: Kind, family: &mut FamilyWriter<'_>) {
    match value {
        SeriesValue::Number(number) => family.sample_of(labels, &[], *number),
        SeriesValue::Distribution(distribution) => {
            let Distribution { steps, sum, count } = &**distribution;
            let (suffix, label) = if kind == Kind::Histogram { ("_bucket", "le") } else { ("", "quantile") };
            for (step, value) in steps {
                family.part(suffix, labels, &[(label, &written(*step))], *value);
            }
            if let Some(sum) = sum {
                family.part("_sum", labels, &[], *sum);
            }
            if let Some(count) = count {
                family.part("_count", labels, &[], *count);
            }
        }
    }
}

/// A number as a label's value. The series is another one when it is spelt otherwise, so that this is Go's shortest way.
fn written(number: f64) -> String {
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let text = format!("{number:e}");
    let Some((digits, exponent)) = text.split_once('e') else { return text };
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..6).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::exposition::Format;

    /// A folder with files.
    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    /// What is written of some files, without the families about them; and the faults by file name.
    fn pass(format: Format, files: &[(&str, &str)]) -> (String, Vec<(String, String)>) {
        let folder = folder(files);
        let (found, faults) = collect(&[name_of(folder.path())]);
        let mut out = Exposition::new(format);
        found.families.iter().for_each(|family| family.write(&mut out));
        let prefix = format!("{}/", folder.path().display());
        let faults = faults.iter().map(|(path, reason)| (path.replace(&prefix, ""), reason.replace(&prefix, "")));
        (out.finish().replace(&prefix, ""), faults.collect())
    }

    #[test]
    fn all_types_are_passed_on_in_both_formats() {
        let file = "# HELP c_total Count \\\\ of \"x\".\n# TYPE c_total counter\nc_total{a=\"b\\\"\\\\\\n\"} 3\n\
            # TYPE g gauge\ng NaN\ng{x=\"1\"} -Inf\n\
            # TYPE odd counter\nodd 1\n\
            u 1e3\n\
            # HELP h_seconds H.\n# TYPE h_seconds histogram\nh_seconds_count{a=\"b\"} 9007199254740993\nh_seconds_bucket{a=\"b\",le=\"0.50\"} 2\n\
            h_seconds_sum{a=\"b\"} 1.5\nh_seconds_bucket{a=\"b\",le=\"1600000\"} 3\n\
            # TYPE s summary\ns_sum 2\ns{quantile=\"0.5\"} NaN\ns_count 3\n";
        let (text, faults) =
            pass(Format::Text, &[("a.prom", file), ("b.txt", "no text format"), ("c.promo", "neither")]);
        assert_eq!(faults, []);
        let expected = "# HELP c_total Count \\\\ of \"x\".\n# TYPE c_total counter\nc_total{a=\"b\\\"\\\\\\n\"} 3\n\
            # HELP g Metric read from a.prom\n# TYPE g gauge\ng NaN\ng{x=\"1\"} -Inf\n\
            # HELP odd Metric read from a.prom\n# TYPE odd counter\nodd 1\n\
            # HELP u Metric read from a.prom\n# TYPE u untyped\nu 1000\n\
            # HELP h_seconds H.\n# TYPE h_seconds histogram\nh_seconds_bucket{a=\"b\",le=\"0.5\"} 2\nh_seconds_bucket{a=\"b\",le=\"1.6e+06\"} 3\n\
            h_seconds_bucket{a=\"b\",le=\"+Inf\"} 9007199254740992\nh_seconds_sum{a=\"b\"} 1.5\nh_seconds_count{a=\"b\"} 9007199254740992\n\
            # HELP s Metric read from a.prom\n# TYPE s summary\ns{quantile=\"0.5\"} NaN\ns_sum 2\ns_count 3\n";
        assert_eq!(text, expected);
        let (open, _) = pass(Format::OpenMetrics, &[("a.prom", file)]);
        let expected = "# HELP c Count \\\\ of \\\"x\\\".\n# TYPE c counter\nc_total{a=\"b\\\"\\\\\\n\"} 3\n\
            # HELP g Metric read from a.prom\n# TYPE g gauge\ng NaN\ng{x=\"1\"} -Inf\n\
            # HELP odd Metric read from a.prom\n# TYPE odd unknown\nodd 1\n\
            # HELP u Metric read from a.prom\n# TYPE u unknown\nu 1000\n\
            # HELP h_seconds H.\n# TYPE h_seconds histogram\n# UNIT h_seconds seconds\nh_seconds_bucket{a=\"b\",le=\"0.5\"} 2\n\
            h_seconds_bucket{a=\"b\",le=\"1.6e+06\"} 3\nh_seconds_bucket{a=\"b\",le=\"+Inf\"} 9007199254740992\nh_seconds_sum{a=\"b\"} 1.5\n\
            h_seconds_count{a=\"b\"} 9007199254740992\n\
            # HELP s Metric read from a.prom\n# TYPE s summary\ns{quantile=\"0.5\"} NaN\ns_sum 2\ns_count 3\n# EOF\n";
        assert_eq!(open, expected);
    }

    #[test]
    fn a_family_of_several_files_is_one() {
        let a = "# HELP e_total E.\n# TYPE e_total counter\ne_total{f=\"a\"} 1\n";
        let b = "# TYPE e_total counter\ne_total{f=\"b\"} 2\n";
        let (text, faults) = pass(Format::Text, &[("b.prom", b), ("a.prom", a)]);
        assert_eq!(text, "# HELP e_total E.\n# TYPE e_total counter\ne_total{f=\"a\"} 1\ne_total{f=\"b\"} 2\n");
        assert_eq!(faults, []);
        let (text, _) = pass(Format::Text, &[("1.prom", b), ("2.prom", a)]);
        assert!(text.starts_with("# HELP e_total E.\n"), "{text}");
        let (text, _) = pass(Format::Text, &[("1.prom", b), ("2.prom", &b.replace("\"b\"", "\"c\""))]);
        assert!(text.starts_with("# HELP e_total Metric read from 1.prom, 2.prom\n"), "{text}");
    }

    #[test]
    fn what_does_not_go_together_is_left_out_and_told() {
        let first = "# HELP e E.\n# TYPE e gauge\ne 1\n";
        let check = |second: &str, expected: &str| {
            let (text, faults) = pass(Format::Text, &[("a.prom", first), ("b.prom", &format!("{second}other 1\n"))]);
            assert!(text.starts_with(first), "{text}");
            assert!(text.ends_with("\nother 1\n"), "the rest of the file is taken: {text}");
            assert_eq!(faults, [("b.prom".to_owned(), expected.to_owned())], "{second}");
        };
        check("# TYPE e counter\ne{x=\"1\"} 2\n", "e is a gauge in a.prom");
        check("# HELP e Other.\n# TYPE e gauge\ne{x=\"1\"} 2\n", "e has another help text in a.prom");
        check("# TYPE e gauge\ne{x=\"\"} 2\n", "e has the same series twice");
        check("node_load1 2\n", "node_load1 is a family of the exporter itself");
        check("node_memory_Mine_bytes 2\n", "node_memory_Mine_bytes is a family of the exporter itself");
        check("node_forks 2\n", "node_forks is a family of the exporter itself");
        check("node_textfile_scrape_error 0\n", "node_textfile_scrape_error is a family of the exporter itself");
        check("process_open_fds 0\n", "process_open_fds is a family of the exporter itself");
        check("node_scrape_collector_success 0\n", "node_scrape_collector_success is a family of the exporter itself");
        let (text, faults) = pass(
            Format::Text,
            &[
                ("a.prom", "h_count 1\n"),
                ("b.prom", "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\n"),
                ("c.prom", "h 1\n"),
            ],
        );
        assert!(text.ends_with("h_count 1\n# HELP h Metric read from c.prom\n# TYPE h untyped\nh 1\n"), "{text}");
        assert_eq!(faults[0].1, "the samples of h would be taken for those of h_count in a.prom");
        let (text, faults) = pass(Format::Text, &[("a.prom", "e 1\ne 2\n")]);
        assert!(text.ends_with("e 1\n"), "{text}");
        assert_eq!(faults, [("a.prom".to_owned(), "e has the same series twice".to_owned())]);
    }

    #[test]
    fn openmetrics_names_no_two_families_alike() {
        let file = "# TYPE runs_total counter\nruns_total 2\n# TYPE runs gauge\nruns 1\n# TYPE node_load1_total counter\nnode_load1_total 5\n";
        let (open, faults) = pass(Format::OpenMetrics, &[("a.prom", file)]);
        assert_eq!(faults, []);
        for line in [
            "# TYPE runs_total unknown\nruns_total 2\n",
            "# TYPE runs gauge\nruns 1\n",
            "# TYPE node_load1_total unknown\n",
        ] {
            assert!(open.contains(line), "{open}");
        }
        let (text, _) = pass(Format::Text, &[("a.prom", file)]);
        assert!(text.contains("# TYPE runs_total counter\nruns_total 2\n"), "{text}");
    }

    #[test]
    fn a_file_that_is_none_costs_only_itself() {
        let large = "a".repeat(LIMIT as usize) + " 1\n";
        let half = "# ".to_owned() + &"x".repeat((LIMIT / 2 - 40) as usize) + "\n";
        let rest = "# ".to_owned() + &"x".repeat(100) + "\n";
        let folder = folder(&[
            ("1.prom", &half),
            ("2.prom", &half),
            ("3.prom", "a 1\n"),
            ("large.prom", &large),
            ("z.prom", &rest),
        ]);
        let path = |name: &str| folder.path().join(name);
        fs::write(path("binary.prom"), b"a{b=\"\xff\"} 1\n").unwrap();
        fs::write(path("broken.prom"), "a 1\nb\n").unwrap();
        fs::create_dir(path("folder.prom")).unwrap();
        let (fifo, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
        rustix::fs::mknodat(rustix::fs::CWD, path("pipe.prom"), fifo, mode, 0).unwrap();
        std::os::unix::fs::symlink("nothing", path("link.prom")).unwrap();
        let (found, faults) = collect(&[name_of(folder.path()), "/nonexistent/x".to_owned(), String::new()]);
        let reason = |name: &str| faults[&name_of(&path(name))].as_str();
        assert_eq!(reason("binary.prom"), "is not UTF-8");
        assert!(reason("broken.prom").starts_with("line 2: "), "{}", reason("broken.prom"));
        assert_eq!((reason("folder.prom"), reason("pipe.prom")), ("is no file", "is no file"));
        for name in ["large.prom", "z.prom"] {
            assert_eq!(reason(name), "is too large: all files together may have 1048576 bytes");
        }
        assert!(reason("link.prom").starts_with("can't read it: "));
        assert!(faults["/nonexistent/x"].starts_with("can't list it: "));
        assert_eq!(faults.len(), 8, "{faults:?}");
        let names: Vec<_> = found.families.iter().map(|merged| merged.family.name.as_str()).collect();
        assert_eq!(names, ["a"]);
        assert!(found.has_faults);
        let read: Vec<_> = found.files.keys().map(|name| name.rsplit('/').next().unwrap()).collect();
        assert_eq!(read, ["1.prom", "2.prom", "3.prom"]);
    }

    #[test]
    fn there_may_be_many_files_but_not_any_number() {
        let folder = tempfile::tempdir().unwrap();
        for at in 0..MOST_FILES + 5 {
            fs::write(folder.path().join(format!("{at:04}.prom")), format!("a{{at=\"{at}\"}} 1\n")).unwrap();
        }
        let (found, faults) = collect(&[name_of(folder.path())]);
        assert_eq!(found.families[0].family.series.len(), MOST_FILES);
        assert_eq!(faults[&name_of(folder.path())], "there are more than 256 files");
    }

    #[test]
    fn no_folder_is_no_fault() {
        let (found, faults) = collect(&[]);
        assert_eq!((found, faults), (TextFiles::default(), Faults::new()));
    }

    #[test]
    fn patterns_stand_for_folders() {
        let root = tempfile::tempdir().unwrap();
        for name in ["a/one/x", "a/two/x", "a/three", "b/one/x", ".c/one/x"] {
            fs::create_dir_all(root.path().join(name)).unwrap();
        }
        let check = |pattern: &str, expected: &[&str]| {
            let found = folders(&format!("{}/{pattern}", root.path().display()));
            let expected: Vec<PathBuf> = expected.iter().map(|path| root.path().join(path)).collect();
            assert_eq!(found, expected, "{pattern}");
        };
        check("a/one", &["a/one"]);
        check("a/*/x", &["a/one/x", "a/two/x"]);
        check("*/one", &[".c/one", "a/one", "b/one"]);
        check("[ab]/t*", &["a/three", "a/two"]);
        check("nothing/*", &["nothing/*"]);
        check("a/[", &["a/["]);
    }

    #[test]
    fn patterns_are_the_shells() {
        let check = |pattern: &str, name: &str, expected: bool| {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            assert_eq!(fits(&chars(pattern), &chars(name)), expected, "{pattern} {name}");
        };
        check("", "", true);
        check("*", "", true);
        check("a*c*e", "abcde", true);
        check("a*c*e", "abcdef", false);
        check("*ab", "aab", true);
        check("a?c", "aäc", true);
        check("a?c", "ac", false);
        check("[a-c]x", "bx", true);
        check("[^a-c]x", "bx", false);
        check("[]x]", "]", true);
        check("[a-]", "-", true);
        check("\\*", "*", true);
        check("\\*", "a", false);
        check("[\\]]", "]", true);
        check("[a", "a", false);
        check("a\\", "a\\", true);
    }

    #[test]
    fn numbers_in_labels_are_spelt_as_go_does() {
        let check = |number: f64, expected: &str| assert_eq!(written(number), expected);
        check(1.0, "1");
        check(0.5, "0.5");
        check(-0.005, "-0.005");
        check(0.0001, "0.0001");
        check(0.00001, "1e-05");
        check(409_600.0, "409600");
        check(999_999.5, "999999.5");
        check(1_638_400.0, "1.6384e+06");
        check(26_214_400.0, "2.62144e+07");
        check(1e100, "1e+100");
        check(f64::INFINITY, "+Inf");
        check(f64::NEG_INFINITY, "-Inf");
        check(0.0, "0");
    }

    proptest! {
        #[test]
        fn any_pattern_ends(pattern in "[a*?\\[\\]^\\\\-]{0,12}", name in "[ab\\]-]{0,12}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            fits(&chars(&pattern), &chars(&name));
        }

        /// What is passed on is read back as the same.
        #[test]
        fn what_is_passed_on_is_what_was_there(
            value in any::<f64>(), step in -1e6..1e6f64, label in "[a-z\"\\\\\n,{}=ä ]{0,8}", help in "[a-z\"\\\\\nä]{1,8}"
        ) {
            let mut out = Exposition::new(Format::Text);
            out.named_family("g", Kind::Gauge, &help).sample(&[("l", &label)], value);
            let mut family = out.named_family("h", Kind::Histogram, &help);
            let labels = crate::exposition::Labels::new(&[("l", &label)]);
            for (step, value) in [(step, 1.0), (f64::INFINITY, 2.0)] {
                family.part("_bucket", &labels, &[("le", &written(step))], value);
            }
            family.part("_sum", &labels, &[], value);
            family.part("_count", &labels, &[], 2.0);
            let text = out.finish();
            let mut merge = Merge::default();
            parse(&text).unwrap().into_iter().for_each(|family| merge.add("x", family));
            let (families, faults) = merge.finish();
            prop_assert_eq!(faults.len(), 0);
            let mut again = Exposition::new(Format::Text);
            families.iter().for_each(|family| family.write(&mut again));
            prop_assert_eq!(again.finish(), text);
        }
    }
}
