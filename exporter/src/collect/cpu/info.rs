//! What kind of processor it is, from /proc/cpuinfo; only when it is asked for. A 64-bit Pi says little there: the number
//! of each CPU and its flags.

use super::CollectError;
use crate::collect::{Reader, Roots};
use crate::exposition::Exposition;
use crate::family::{Family, Kind};
use crate::filter::Filter;
use crate::settings::Settings;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Info {
    pub processors: Vec<Processor>,
    /// Those of the first processor that are wanted.
    pub flags: Vec<String>,
    pub bugs: Vec<String>,
}

/// As the kernel says it, empty where it does not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Processor {
    pub number: String,
    /// In the order of `LABELS`.
    pub labels: [String; LABELS.len()],
}

/// With the kernel's name of each.
const LABELS: [(&str, &str); 9] = [
    ("package", "physical id"),
    ("core", "core id"),
    ("vendor", "vendor_id"),
    ("family", "cpu family"),
    ("model", "model"),
    ("model_name", "model name"),
    ("microcode", "microcode"),
    ("stepping", "stepping"),
    ("cachesize", "cache size"),
];

pub(super) fn read(roots: &Roots, settings: &Settings, reader: &mut Reader) -> Result<Info, CollectError> {
    let path = roots.proc("cpuinfo");
    let info = parse(reader.require(&path)?, settings.cpu_flags.as_ref(), settings.cpu_bugs.as_ref());
    if info.processors.is_empty() {
        return Err(CollectError::malformed(&path, "no processor found"));
    }
    Ok(info)
}

/// A paragraph a processor, each beginning with its number.
fn parse(text: &str, flags: Option<&Filter>, bugs: Option<&Filter>) -> Info {
    let mut info = Info::default();
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let (key, value) = (key.trim(), value.trim());
        if key == "processor" {
            // Labels of the same number twice would be the same series twice.
            if value.bytes().all(|byte| byte.is_ascii_digit())
                && info.processors.iter().all(|processor| processor.number != value)
            {
                info.processors.push(Processor { number: value.to_owned(), ..Processor::default() });
            }
            continue;
        }
        let is_first = info.processors.len() == 1;
        let Some(processor) = info.processors.last_mut() else { continue };
        match key {
            // The second is what ARM calls them.
            "flags" | "Features" if is_first => info.flags = words(value, flags),
            "bugs" if is_first => info.bugs = words(value, bugs),
            _ => {
                if let Some(at) = LABELS.iter().position(|(_, name)| *name == key) {
                    processor.labels[at] = value.to_owned();
                }
            }
        }
    }
    info
}

/// Those wanted, each once.
fn words(text: &str, wanted: Option<&Filter>) -> Vec<String> {
    let Some(wanted) = wanted else { return Vec::new() };
    let mut words: Vec<String> =
        text.split_ascii_whitespace().filter(|word| wanted.takes(word)).map(str::to_owned).collect();
    words.sort();
    words.dedup();
    words
}

pub(super) const INFO: Family = gauge(
    "node_cpu_info",
    "Always 1; the labels say what kind of processor it is, empty where the kernel does not.",
    &["package", "core", "cpu", "vendor", "family", "model", "model_name", "microcode", "stepping", "cachesize"],
    "/proc/cpuinfo; only with --collector.cpu.info",
);
pub(super) const FLAG_INFO: Family = gauge(
    "node_cpu_flag_info",
    "Always 1, for a flag that the first processor has.",
    &["flag"],
    "/proc/cpuinfo, flags or Features; only those that --collector.cpu.info.flags-include takes",
);
pub(super) const BUG_INFO: Family = gauge(
    "node_cpu_bug_info",
    "Always 1, for a bug that the first processor has.",
    &["bug"],
    "/proc/cpuinfo, bugs; only those that --collector.cpu.info.bugs-include takes",
);

const fn gauge(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    source: &'static str,
) -> Family {
    Family { name, kind: Kind::Gauge, help, labels, source }
}

pub(super) fn write(info: &Info, out: &mut Exposition) {
    let mut family = out.family(&INFO);
    for processor in &info.processors {
        family.sample(&labels(processor, LABELS.len()), true);
    }
    let mut family = out.family(&FLAG_INFO);
    for flag in &info.flags {
        family.sample(&[("flag", flag)], true);
    }
    let mut family = out.family(&BUG_INFO);
    for bug in &info.bugs {
        family.sample(&[("bug", bug)], true);
    }
}

/// The number of a processor and its first `count` labels.
fn labels(processor: &Processor, count: usize) -> Vec<(&'static str, &str)> {
    let others = LABELS.iter().zip(&processor.labels).map(|((label, _), value)| (*label, value.as_str()));
    std::iter::once(("cpu", processor.number.as_str())).chain(others.take(count)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::exposition::Format;

    fn written(text: &str, flags: &str, bugs: &str) -> Vec<String> {
        let filter = |text: &str| (!text.is_empty()).then(|| Filter::new(text, "").unwrap());
        let mut out = Exposition::new(Format::Text);
        write(&parse(text, filter(flags).as_ref(), filter(bugs).as_ref()), &mut out);
        out.finish().lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    #[test]
    fn an_x86_processor_says_much() {
        let text = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 142\n\
            model name\t: Intel(R) Core(TM) i7\nstepping\t: 10\nmicrocode\t: 0xb4\ncpu MHz\t\t: 799.998\n\
            cache size\t: 8192 KB\nphysical id\t: 0\ncore id\t\t: 1\nflags\t\t: fpu vme fpu sse\n\
            bugs\t\t: swapgs mds\npower management:\n\nprocessor\t: 1\nflags\t\t: vmx\nprocessor: 1\n";
        assert_eq!(
            written(text, "^(fpu|s)", "m"),
            [
                "node_cpu_info{cpu=\"0\",package=\"0\",core=\"1\",vendor=\"GenuineIntel\",family=\"6\",model=\"142\",\
                 model_name=\"Intel(R) Core(TM) i7\",microcode=\"0xb4\",stepping=\"10\",cachesize=\"8192 KB\"} 1",
                "node_cpu_info{cpu=\"1\",package=\"\",core=\"\",vendor=\"\",family=\"\",model=\"\",model_name=\"\",\
                 microcode=\"\",stepping=\"\",cachesize=\"\"} 1",
                "node_cpu_flag_info{flag=\"fpu\"} 1",
                "node_cpu_flag_info{flag=\"sse\"} 1",
                "node_cpu_bug_info{bug=\"mds\"} 1",
            ]
        );
    }

    #[test]
    fn a_64_bit_pi_says_little() {
        let text = "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\n\
            CPU implementer\t: 0x41\nCPU part\t: 0xd08\n\nRevision\t: c03115\nModel\t\t: Raspberry Pi 4 Model B Rev 1.5\n";
        assert_eq!(
            written(text, "^asimd$", ""),
            [
                "node_cpu_info{cpu=\"0\",package=\"\",core=\"\",vendor=\"\",family=\"\",model=\"\",model_name=\"\",\
                 microcode=\"\",stepping=\"\",cachesize=\"\"} 1",
                "node_cpu_flag_info{flag=\"asimd\"} 1",
            ]
        );
        assert_eq!(written("model: 1\nprocessor: x\n", "", ""), [""; 0]);
    }

    proptest! {
        #[test]
        fn never_panics(
            text in any::<String>(),
            line in "(processor|flags|cpu MHz|model|Features)\t*: ?[0-9a-z. ]{0,20}",
        ) {
            written(&format!("{text}\n{line}\nprocessor: 0\n{line}\n{text}"), "a", "b");
        }
    }
}
