use jiff::SignedDuration;

use super::*;
use crate::capacity::machines::GIB;
use crate::usage::Figures;

fn now() -> Timestamp {
    "2026-11-28T12:20:00Z".parse().unwrap()
}

/// So many days of hours up to now; CPU as a share by the day.
fn hours(days: i64, cpu: impl Fn(i64) -> f64) -> Vec<HostHour> {
    let first = "2026-11-28T12:00:00Z".parse::<Timestamp>().unwrap() - SignedDuration::from_hours(24 * days);
    let same = |value: f64| Figures { mean: Some(value), p95: Some(value), most: Some(value) };
    let hour = |hour: i64| HostHour {
        at: first + SignedDuration::from_hours(hour),
        cpu_count: Some(4.0),
        cpu_busy_ratio: same(cpu(hour / 24)),
        memory_total_bytes: Some(3.8 * GIB),
        memory_used_bytes: same(2.0 * GIB),
        ..HostHour::default()
    };
    (0..24 * days).map(hour).collect()
}

fn service(name: &str, cpu: Option<f64>) -> Service {
    Service {
        project: "photos".into(),
        service: name.into(),
        cpu_cores_mean: cpu,
        cpu_cores_p95: cpu,
        cpu_cores_most: cpu,
        memory_bytes_mean: Some(100e6),
        memory_bytes_p95: Some(150e6),
        memory_bytes_most: Some(200e6),
        memory_limit_bytes: None,
        restarts: 0,
        oom_kills: 0,
    }
}

fn root(used: f64) -> Mount {
    Mount { mountpoint: "/".into(), used_bytes: used, usable_bytes: 100.0 * GIB }
}

/// 100 days that end today at 80 GiB, half a GiB more each.
fn filling() -> MountDays {
    let today = day(now());
    [("/".to_owned(), (0..100).map(|back| (today - back, (80.0 - 0.5 * f64::from(back)) * GIB)).collect())].into()
}

#[test]
fn a_disk_that_fills_up_has_its_date() {
    let found = capacity("pi", now(), &hours(30, |_| 0.2), &[root(80.0 * GIB)], &filling(), &[]);
    let disk = &found.outlooks[0];
    // 20 GiB are left: 40 days.
    let Answer::RunsOut { on, earliest, latest: Some(latest), per_day, .. } = &disk.answer else { panic!("{disk:?}") };
    assert_eq!(on.to_string(), "2027-01-07");
    assert!(earliest < on && on < latest, "{disk:?}");
    assert!((per_day / GIB - 0.5).abs() < 0.001);
    assert!(
        render::said(disk).starts_with("runs out on 2027-01-07 (80 %: 2027-01-0")
            && render::said(disk).ends_with("grows by 512 MiB a day"),
        "{}",
        render::said(disk)
    );
    assert_eq!(found.outlooks[1].answer, Answer::NoTrend);
    assert_eq!(found.outlooks[2].answer, Answer::NoTrend);
    // The growth of a year counts for the disk that is needed: 80 + 182 GiB of at most 80 %.
    assert_eq!(found.minimum.unwrap().disk_gb, Some(512.0));
}

#[test]
fn cpu_that_rises_runs_out_before_it_is_all_taken() {
    let found = capacity("pi", now(), &hours(60, |day| 0.3 + 0.005 * day as f64), &[], &MountDays::new(), &[]);
    let cpu = &found.outlooks[1];
    assert_eq!((cpu.resource, cpu.total, cpu.limit), (Resource::Cpu, 4.0, 3.6));
    // 0.6 by now, half a percent a day up to 0.9: 60 days.
    let Answer::RunsOut { on, .. } = &cpu.answer else { panic!("{cpu:?}") };
    let days = on.since(jiff::civil::date(2026, 11, 28)).unwrap().get_days();
    let months = on.since((jiff::Unit::Day, jiff::civil::date(2026, 11, 28))).unwrap().get_days();
    assert!((58..=62).contains(&months), "{on} {days}");
}

#[test]
fn without_history_there_is_an_answer_too() {
    let found = capacity("pi", now(), &[], &[], &MountDays::new(), &[]);
    assert_eq!((found.days, found.last_day, found.load.clone(), found.carries.len()), (0, None, None, 0));
    assert_eq!(render::text(&found), "Capacity of pi: nothing is recorded yet\n");
    let found = capacity("pi", now(), &hours(3, |_| 0.2), &[root(GIB)], &MountDays::new(), &[]);
    let few = Answer::TooLittleHistory { days: 4, needed: 14 };
    assert_eq!(found.outlooks[2].answer, few);
    assert_eq!(render::said(&found.outlooks[2]), "4 days are too few for a trend: it takes 14");
}

#[test]
fn services_and_machines_are_reckoned_with() {
    let services = [service("web", Some(0.1)), service("db", Some(0.3)), service("cache", None)];
    let found = capacity("pi", now(), &hours(30, |_| 0.2), &[root(30.0 * GIB)], &MountDays::new(), &services);
    let load = found.load.clone().unwrap();
    assert_eq!((load.services, load.cores, load.disk_total_bytes), (3, 4.0, Some(100.0 * GIB)));
    assert!((load.cpu_cores - 0.8).abs() < 1e-9);
    assert!((load.per_service.cpu_cores.unwrap() - 0.2).abs() < 1e-9);
    assert_eq!(load.per_service.disk_bytes, Some(10.0 * GIB));
    assert_eq!((found.carries[0].machine.name.as_str(), found.carries[0].fits), ("present", true));
    // (100 · 0.8 - 30) / 10 by disk, (4 · 0.7 - 0.8) / 0.2 = 10 by CPU, (3.8 · 0.85 - 2) GiB / 150 MB = 8.8 by memory.
    assert_eq!((found.carries[0].more_services, found.carries[0].binds), (Some(5), Some(Resource::Disk)));
    assert!(found.speed_assumed && render::text(&found).contains("is not known: its processors are taken"));
    // On a Pi 5 the same figures are more work.
    let faster = found.clone().on("Raspberry Pi 5 Model B Rev 1.0");
    assert!(!faster.speed_assumed && !render::text(&faster).contains("is not known"));
    let cpu = |found: &Capacity, name: &str| {
        let carries = found.carries.iter().find(|carries| carries.machine.name == name).unwrap();
        carries.rooms[0].used
    };
    assert!((cpu(&faster, "pi4-4gb") / cpu(&found, "pi4-4gb") - 1.85).abs() < 1e-9);
    assert!((cpu(&faster, "present") - cpu(&found, "present")).abs() < 1e-9);
    assert_eq!(found.clone().on("toaster"), found);
    let one = found.for_machine(&machines::find("pi5-8gb").unwrap());
    assert_eq!(
        one.carries.iter().map(|carries| carries.machine.name.as_str()).collect::<Vec<_>>(),
        ["present", "pi5-8gb"]
    );
}

#[test]
fn the_screen_says_it_all() {
    let services = [service("web", Some(0.1)), service("db", Some(0.3))];
    let found = capacity("pi\u{1b}[2J", now(), &hours(30, |_| 0.2), &[root(80.0 * GIB)], &filling(), &services);
    let text =
        render::text(&found.on("Raspberry Pi 4 Model B Rev 1.4").for_machine(&machines::find("pi5-8gb").unwrap()));
    for line in [
        "Capacity of pi\u{fffd}[2J: 100 days of history, the last 2026-11-28",
        "  disk /  80 % of 100 GiB                       runs out on 2027-01-07 (80 %: ",
        "  memory  53 % of 3.8 GiB in busy hours         no trend",
        "  CPU     20 % of 4.0 processors in busy hours  no trend",
        "More services like the 2 that run here, each 20 % of a processor and 143 MiB in busy hours",
        "  present  this machine          CPU 20 %, memory 53 %, disk 80 %; no more, disk is short",
        "  pi5-8gb  Raspberry Pi 5, 8 GB  CPU 11 %, memory 26 %; 21 more, then CPU is short",
        "The least for the present load: Raspberry Pi 4, 4 GB (pi4-4gb)",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
    assert!(!text.contains('\u{1b}'));
}

#[test]
fn what_is_known_for_less_than_a_week_is_a_guess_and_says_so() {
    let of = |hours: &[HostHour]| {
        capacity("pi", now(), hours, &[root(30.0 * GIB)], &MountDays::new(), &[service("web", Some(0.1))])
    };
    let check = |found: &Capacity, told: &str| {
        assert_eq!(found.minimum, None);
        for text in [render::text(found), render::markdown_page(found)] {
            assert!(text.contains(told) && text.contains("perhaps "), "{told:?} is not in\n{text}");
            assert!(!text.contains("The least for the present load") && !text.contains("runs out on"), "{text}");
        }
    };
    let known = hours(4, |_| 0.2);
    check(&of(&known[..1]), "a first guess: less than a day of history, and the least machine is told after 7");
    check(&of(&known[..20]), "a first guess: 1 day of history, ");
    check(&of(&known), "a first guess: 5 days of history, ");
    let week = of(&hours(8, |_| 0.2));
    let text = render::text(&week);
    assert!(week.minimum.is_some() && !text.contains("guess") && !text.contains("perhaps"), "{text}");
}

#[test]
fn json_comes_back_as_it_was() {
    let found =
        capacity("pi", now(), &hours(30, |_| 0.2), &[root(80.0 * GIB)], &filling(), &[service("web", Some(0.1))]);
    let json = serde_json::to_string(&found).unwrap();
    assert_eq!(serde_json::from_str::<Capacity>(&json).unwrap(), found);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["outlooks"][0]["answer"]["answer"], "runs_out");
    assert_eq!(value["outlooks"][0]["answer"]["on"], "2027-01-07");
}
