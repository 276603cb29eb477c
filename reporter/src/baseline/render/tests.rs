use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::usage::{Figures, HostHour, Mount, Service};

/// Eight weeks from a Monday: half busy on weekdays in the evening.
fn baseline(weeks: i64) -> Baseline {
    of_hours(weeks * 168)
}

fn of_hours(hours: i64) -> Baseline {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let first: Timestamp = "2026-05-31T22:00:00Z".parse().unwrap();
    let hour = |hour: i64| {
        let busy = hour / 24 % 7 < 5 && (18..22).contains(&(hour % 24));
        let same = |value: f64| Figures { mean: Some(value), p95: Some(value), most: Some(value * 1.5) };
        HostHour {
            at: first + SignedDuration::from_hours(hour),
            cpu_count: Some(4.0),
            cpu_busy_ratio: same(if busy { 0.5 } else { 0.1 }),
            memory_total_bytes: Some(4e9),
            memory_used_bytes: same(2e9),
            ..HostHour::default()
        }
    };
    let hours: Vec<HostHour> = (0..hours).map(hour).collect();
    let service = |project: &str, name: &str, cpu: f64| Service {
        project: project.into(),
        service: name.into(),
        cpu_cores_mean: Some(cpu),
        cpu_cores_p95: Some(cpu * 2.0),
        cpu_cores_most: None,
        memory_bytes_mean: Some(1e8),
        memory_bytes_p95: Some(1e8),
        memory_bytes_most: Some(2e8),
        memory_limit_bytes: None,
        restarts: 0,
        oom_kills: 0,
    };
    let services = vec![service("photos", "we|b\u{1b}[2J", 0.1), service("", "lone", 0.3)];
    let mounts = [Mount { mountpoint: "/mnt/<x>".into(), used_bytes: 9e9, usable_bytes: 1e10 }];
    crate::baseline::baseline("pi", &zone, 91, &hours, services, &mounts)
}

#[test]
fn the_screen_shows_the_week_the_peaks_and_what_is_short() {
    let text = text(&baseline(8));
    for line in [
        "Usual load of pi: 1344 hours from 2026-06-01 to 2026-07-27, Europe/Berlin (by hour of the week)\n",
        "   90 %  disk /mnt/<x>: 90 % full (8.4 GiB of 9.3 GiB)\n",
        "CPU: usually 10 %, 50 % in busy hours, 75 % at most (",
        "       0     3     6     9     12    15    18    21\n",
        "  Mon  . . . . . . . . . . . . . . . . . . @ @ @ @ . .\n",
        "  Sun  . . . . . . . . . . . . . . . . . . . . . . . .\n",
        "       . 10 % … @ 50 %\n",
        "  Mon–Fri 18:00–22:00: CPU 50 %, usually 10 %\n",
        "  lone               30 %   60 %    95 MiB  191 MiB      none\n",
        "  photos/we|b\u{fffd}[2J",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
    assert!(!text.contains('\u{1b}'));
}

#[test]
fn markdown_is_not_broken_by_names() {
    let page = markdown_page(&baseline(8));
    for line in [
        "# Usual load of pi\n",
        "| 90 % | disk /mnt/\\<x\\> | 90 % full (8.4 GiB of 9.3 GiB) |\n",
        "- Mon–Fri 18:00–22:00: CPU 50 %, usually 10 %\n",
        "| photos/we\\|b\u{fffd}\\[2J | 10 % | 20 % | 95 MiB | 191 MiB | none |\n",
    ] {
        assert!(page.contains(line), "{line:?} is not in\n{page}");
    }
}

#[test]
fn what_it_rests_on_is_said() {
    assert!(text(&baseline(2)).contains("(by hour of the day, for want of four weeks)"));
    let nothing = baseline(0);
    assert_eq!(
        text(&nothing),
        "Usual load of pi: 0 hours from never to never, Europe/Berlin (too few days yet for what is usual: it takes a week)\n\n\
         Nothing is recorded yet.\n"
    );
}

#[test]
fn an_hour_is_not_told_as_what_is_usual() {
    let first = of_hours(1);
    assert!(first.too_few_days() && !baseline(2).too_few_days());
    let screen = text(&first);
    for line in [
        "Usual load of pi: 1 hour from 2026-06-01 to 2026-06-01, Europe/Berlin (too few days yet for what is usual: it takes a week)\n",
        "\nNearest to its limit so far (a guess until a week is known)\n",
        "\nCPU: so far mostly 10 %, 10 % in busy hours",
        "\nBusiest by CPU so far (a guess until a week is known)\n",
    ] {
        assert!(screen.contains(line), "{line:?} is not in\n{screen}");
    }
    for told in [screen, markdown_page(&first)] {
        assert!(!told.contains("usually") && !told.contains("four weeks"), "{told}");
        assert!(told.contains("Busiest by memory so far"), "{told}");
    }
    assert!(markdown_page(&baseline(8)).contains("\n## Busiest by CPU, last four weeks\n\n| Service"));
}

#[test]
fn json_comes_back_as_it_was() {
    let found = baseline(8);
    let json = serde_json::to_string(&found).unwrap();
    assert_eq!(serde_json::from_str::<Baseline>(&json).unwrap(), found);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["metrics"][0]["week"][0][18]["median"], 0.5);
    assert_eq!(value["metrics"][0]["week"][0][18]["basis"], "hour_of_week");
}
