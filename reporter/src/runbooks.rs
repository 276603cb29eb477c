//! The runbooks as pages: what a message's link "Help" opens on a phone, where no checkout is. They are part of the program, so that
//! they are of its version, and there when the network is not. Pure.

use std::collections::VecDeque;

use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd};

macro_rules! runbooks {
    ($($name:literal,)*) => {
        /// Name and text, as in docs/runbooks. A test says when one is missing.
        const RUNBOOKS: &[(&str, &str)] = &[$(($name, include_str!(concat!("../../docs/runbooks/", $name, ".md"))),)*];
    };
}

runbooks! {
    "AlertmanagerDown",
    "BackupStale",
    "ClockUnsynced",
    "CollectorFailing",
    "ContainerDown",
    "ContainerMemoryNearLimit",
    "ContainerMemoryRunsOut",
    "ContainerMissing",
    "ContainerOomKilled",
    "ContainerRestartLoop",
    "ContainerRestartsOften",
    "ContainerUnhealthy",
    "ContainerUnhealthyOften",
    "CpuHigh",
    "CpuThrottled",
    "DiskCritical",
    "DiskFillingFast",
    "DiskFillingUp",
    "DiskGone",
    "DiskInodesLow",
    "DiskLow",
    "DiskReadonly",
    "DockerDown",
    "HealerGaveUp",
    "HealerPolicyRejected",
    "HealingFailed",
    "HealingOnHold",
    "HealingWaits",
    "HistoryBehind",
    "HostDiskNearlyFull",
    "HostMemoryShort",
    "HostOomKilled",
    "HostRebooted",
    "HostRebootsOften",
    "HostReliefFailed",
    "HostReliefStopped",
    "IoStalled",
    "JournalBacklog",
    "JournalUnwritable",
    "LoadHigh",
    "MemoryCgroupDisabled",
    "MemoryPressure",
    "NetworkErrors",
    "NotifyFailing",
    "PostgresDown",
    "PostgresRefusesRows",
    "PrometheusDown",
    "PrometheusStorageDamaged",
    "README",
    "RuleFailing",
    "StorageErrors",
    "StorageWornOut",
    "SwapNearlyFull",
    "TargetDown",
    "TemperatureCritical",
    "TemperatureHigh",
    "Undervoltage",
    "UndervoltageOccurred",
    "Watchdog",
}

/// The runbook of this name as HTML; `None` where there is none.
pub fn html(name: &str) -> Option<String> {
    let (_, text) = RUNBOOKS.iter().find(|(known, _)| *known == name)?;
    let mut html = String::with_capacity(text.len() * 2);
    pulldown_cmark::html::push_html(&mut html, events(text).into_iter());
    Some(html)
}

/// Links lead to the other pages, and headings have the names that links to them use.
fn events(text: &str) -> Vec<Event<'_>> {
    let mut left: VecDeque<Event<'_>> = Parser::new_ext(text, Options::ENABLE_TABLES).collect();
    let mut done = Vec::with_capacity(left.len());
    // What stands outside of the runbooks is no page here: its words stay, without a link.
    let mut without_link = false;
    while let Some(event) = left.pop_front() {
        match event {
            Event::Start(Tag::Heading { level, classes, attrs, .. }) => {
                let words = left.iter().take_while(|event| !matches!(event, Event::End(TagEnd::Heading(_))));
                let words: String = words
                    .filter_map(|event| match event {
                        Event::Text(text) | Event::Code(text) => Some(&**text),
                        _ => None,
                    })
                    .collect();
                let id = Some(CowStr::from(anchor(&words)));
                done.push(Event::Start(Tag::Heading { level, id, classes, attrs }));
            }
            Event::Start(Tag::Link { link_type, dest_url, title, id }) => match address(&dest_url) {
                Some(to) => done.push(Event::Start(Tag::Link { link_type, dest_url: to.into(), title, id })),
                None => without_link = true,
            },
            Event::End(TagEnd::Link) if without_link => without_link = false,
            other => done.push(other),
        }
    }
    done
}

/// As the places that show Markdown name a heading: "What you do" is "what-you-do".
fn anchor(words: &str) -> String {
    let kept = words.chars().filter(|sign| sign.is_alphanumeric() || matches!(sign, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|sign| if sign == ' ' { '-' } else { sign }).collect()
}

fn address(link: &str) -> Option<String> {
    if link.starts_with("https://") || link.starts_with('#') {
        return Some(link.to_owned());
    }
    let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
    let name = file.strip_suffix(".md").filter(|name| RUNBOOKS.iter().any(|(known, _)| known == name))?;
    Some(anchor.map_or_else(|| format!("/runbooks/{name}"), |anchor| format!("/runbooks/{name}#{anchor}")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_runbook_is_a_page() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/runbooks");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let files: BTreeSet<String> = files.map(|file| file.trim_end_matches(".md").to_owned()).collect();
        let pages: BTreeSet<String> = RUNBOOKS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(pages, files);
        for (name, _) in RUNBOOKS {
            let page = html(name).unwrap();
            let title = if *name == "README" { "Runbooks" } else { name };
            assert!(page.starts_with("<h1 id=") && page.contains(&format!(">{title}</h1>")), "{page}");
            assert!(*name == "README" || page.contains("<h2 id=\"what-you-do\">What you do</h2>"), "{page}");
        }
        assert_eq!(html("Nothing"), None);
        assert_eq!(html("../../Cargo"), None);
    }

    #[test]
    fn links_lead_to_pages_that_are_there() {
        for (name, _) in RUNBOOKS {
            let page = html(name).unwrap();
            for link in page.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
                if let Some(path) = link.strip_prefix("/runbooks/") {
                    let (other, anchor) = path.split_once('#').unwrap_or((path, ""));
                    let other = html(other).unwrap_or_else(|| panic!("{name}: {link}"));
                    assert!(anchor.is_empty() || other.contains(&format!("id=\"{anchor}\"")), "{name}: {link}");
                } else {
                    assert!(link.starts_with("https://") || link.starts_with('#'), "{name}: {link}");
                }
            }
        }
        assert_eq!(address("../healing.md#how"), None);
        assert_eq!(anchor("What you do"), "what-you-do");
    }
}
