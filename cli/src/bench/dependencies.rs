//! `nexus bench heal --dependencies`: the root of three services that need each other stops answering, so that all three fall
//! ill; how long it takes from Docker's first "unhealthy" of any of them to the restart of the root, and what else is restarted,
//! by the running stack as it is configured, and by a poller that looks every five seconds, on twins.
//!
//! All of it is told by Docker's own events with Docker's own clock. Which of the three Docker calls unhealthy first depends on
//! when their health checks have their turn: that is spread evenly over the trials.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use jiff::{SignedDuration, Timestamp};
use nexus_model::Refusal;
use nexus_model::api::IncidentList;

use super::machine;
use super::trials::{LOOK_EVERY, Outcome, known_to, poll, prepared, repeat, told};
use crate::docker::{Event, Events, Project, docker};
use crate::home::Home;
use crate::http::Part;
use crate::text::{print, table};

const COMPOSE: &str = include_str!("../../bench/dependencies.yml");
/// As the file above says it; the first is the root.
const SERVICES: [&str; 3] = ["database", "api", "web"];
const RETRIES: u32 = 3;

/// Unless another number is asked for.
pub const TRIALS: u32 = 12;
/// Steps that fill a cube evenly, however many are made (the powers of the reciprocal of the root of x⁴ = x + 1).
const STEPS: [f64; 3] = [0.819_172_513, 0.671_043_607, 0.549_700_478];
/// On top of what the health checks take: restarts that overlap, and a busy machine.
const SLACK: Duration = Duration::from_secs(90);
/// The goals.
const MEDIAN_GOAL: SignedDuration = SignedDuration::from_secs(5);
const RIGHT_GOAL: f64 = 0.95;

/// What Docker says of the health of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Well,
    Ill,
    Starting,
}

/// What has happened to one of the twins.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    first_unhealthy: Timestamp,
    root_unhealthy: Option<Timestamp>,
    root_restarted: Timestamp,
    /// The first that was restarted is the root.
    is_right: bool,
    /// Restarts of those that only suffered from the root.
    others: usize,
    /// Restarts of what was healthy, or on its way: each makes it worse.
    harmful: usize,
    restarts: usize,
    /// All is well again.
    is_over: bool,
}

impl Seen {
    fn took(&self) -> SignedDuration {
        self.root_restarted.duration_since(self.first_unhealthy)
    }

    /// The part of it in which Docker called the root healthy still.
    fn root_unseen(&self) -> SignedDuration {
        let until = self.root_unhealthy.unwrap_or(self.root_restarted).min(self.root_restarted);
        until.duration_since(self.first_unhealthy)
    }
}

struct Trial {
    healed: Seen,
    polled: Seen,
}

pub async fn run(home: &Home, trials: u32, interval: u32) -> Result<()> {
    let (stack, image, brake) = prepared(home).await?;
    print(&machine().await?)?;
    print(&format!(
        "{trials} trials with the stack as it is configured. {}\n{} ← {} ← {}; each health check every {interval} s, {RETRIES} \
         failures make unhealthy.\n",
        told(brake, trials),
        SERVICES[0],
        SERVICES[1],
        SERVICES[2],
    ))?;
    let of = |number: u32, word: &str, heal: &str| Project {
        name: format!("{stack}-bench-{word}-{number}"),
        file: COMPOSE,
        variables: vec![
            ("NEXUS_BENCH_IMAGE", image.clone()),
            ("NEXUS_BENCH_STACK", stack.clone()),
            ("NEXUS_BENCH_HEAL", heal.to_owned()),
            ("NEXUS_BENCH_LABEL", format!("{word}-{stack}")),
            ("NEXUS_BENCH_INTERVAL", format!("{interval}s")),
        ],
    };
    let twins = |number: u32| [of(number, "healed", "true"), of(number, "polled", "false")];
    let poller = tokio::spawn(poll(format!("label=nexus.bench=polled-{stack}")));
    let mut measured = Vec::new();
    let result = repeat(
        (trials, brake),
        async |number| trial(home, &twins(number), number, interval).await,
        async |number| {
            let [healed, polled] = twins(number);
            let down = ["down", "--timeout", "1"];
            let (first, second) = tokio::join!(healed.compose(&down), polled.compose(&down));
            first.and(second).map(drop)
        },
        |number, trial: Trial| {
            let line =
                format!("trial {number:>3}: nexus {}, the poller {}\n", line(&trial.healed), line(&trial.polled));
            measured.push(trial);
            line
        },
    );
    let result = result.await;
    poller.abort();
    // What was measured before it failed took minutes.
    if !measured.is_empty() {
        print(&format!("\n{}", summary(&measured)))?;
    }
    result
}

async fn trial(home: &Home, twins: &[Project; 2], number: u32, interval: u32) -> Result<Outcome<Trial>> {
    let [healed, polled] = twins;
    let up = ["up", "--detach", "--wait", "--wait-timeout", "300"];
    let (first, second) = tokio::join!(healed.compose(&up), polled.compose(&up));
    first.and(second)?;
    let healer = Part::healer(home)?;
    known_to(&healer, &healed.name, &SERVICES).await?;
    let roots = [container(healed, SERVICES[0]).await?, container(polled, SERVICES[0]).await?];

    let interval_of = |share: f64| Duration::from_secs(interval.into()).mul_f64(share);
    let [api, web, moment] = STEPS.map(|step| (f64::from(number) * step).fract());
    let began = tokio::time::Instant::now();
    for (service, at) in in_turn([(SERVICES[1], api), (SERVICES[2], web)]) {
        tokio::time::sleep_until(began + interval_of(at)).await;
        // A health check counts its interval from the start.
        let both = [container(healed, service).await?, container(polled, service).await?];
        docker(&["restart", "--time", "5", &both[0], &both[1]]).await?;
    }
    // By then the later of the two was checked; one that has to be checked again is, too.
    tokio::time::sleep_until(began + interval_of(3.0 + moment)).await;
    for twin in twins {
        twin.compose(&up).await?;
    }
    known_to(&healer, &healed.name, &SERVICES).await?;
    let events = [Events::of_project(&healed.name)?, Events::of_project(&polled.name)?];
    let exec = async |id: &str| docker(&["exec", id, "touch", "/tmp/broken"]).await;
    let (first, second) = tokio::join!(exec(&roots[0]), exec(&roots[1]));
    first.and(second).context("cannot break the twins")?;

    let deadline = Instant::now() + interval_of(f64::from(RETRIES) * 6.0) + SLACK;
    let asked = [("project", healed.name.as_str()), ("limit", "10")];
    loop {
        let [ours, theirs] = events.each_ref().map(|events| judge(&events.so_far()));
        let incidents = healer.get::<IncidentList>("/api/v1/incidents", &asked).await?.incidents;
        let held = |refusal| incidents.iter().any(|incident| incident.refusal == Some(refusal));
        if ours.is_none() && held(Refusal::HostLimit) {
            return Ok(Outcome::Held);
        }
        if held(Refusal::HostHold) {
            bail!("healing is on hold, since too much of this machine is ill: ./nexus status tells what");
        }
        if let (Some(ours), Some(theirs)) = (&ours, &theirs)
            && ours.is_over
            && theirs.is_over
        {
            let restarts = ours.restarts;
            return Ok(Outcome::Measured {
                trial: Box::new(Trial { healed: ours.clone(), polled: theirs.clone() }),
                restarts,
            });
        }
        if Instant::now() > deadline {
            bail!(
                "not all was well again in time: by nexus {ours:?}, by the poller {theirs:?}; the incidents: {incidents:?}"
            );
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn container(project: &Project, service: &str) -> Result<String> {
    Ok(project.compose(&["ps", "--quiet", service]).await?.trim().to_owned())
}

fn in_turn<T>(mut all: [(T, f64); 2]) -> [(T, f64); 2] {
    all.sort_by(|(_, a), (_, b)| a.total_cmp(b));
    all
}

/// What the events since just before it was broken say. `None` until the root was restarted.
fn judge(events: &[Event]) -> Option<Seen> {
    let root = SERVICES[0];
    let mut health: BTreeMap<&str, Health> = SERVICES.into_iter().map(|service| (service, Health::Well)).collect();
    let mut first_unhealthy = None;
    let mut root_unhealthy = None;
    let mut root_restarted = None;
    let (mut others, mut harmful) = (0, 0);
    // A restart sends one signal, and another one where that does not help.
    let mut stopping = BTreeMap::new();
    let mut restarted = Vec::new();
    for event in events {
        let Some(standing) = health.get_mut(event.service.as_str()) else { continue };
        let service = event.service.as_str();
        match event.action.as_str() {
            "health_status: unhealthy" => {
                *standing = Health::Ill;
                first_unhealthy.get_or_insert(event.at);
                if service == root {
                    root_unhealthy.get_or_insert(event.at);
                }
            }
            "health_status: healthy" => *standing = Health::Well,
            "start" => {
                *standing = Health::Starting;
                stopping.remove(service);
            }
            "kill" if stopping.insert(service, ()).is_none() => {
                restarted.push(service);
                harmful += usize::from(*standing != Health::Ill);
                if service == root {
                    root_restarted.get_or_insert(event.at);
                } else {
                    others += 1;
                }
            }
            _ => (),
        }
    }
    Some(Seen {
        first_unhealthy: first_unhealthy?,
        root_unhealthy,
        root_restarted: root_restarted?,
        is_right: restarted.first() == Some(&root),
        others,
        harmful,
        restarts: restarted.len(),
        is_over: health.values().all(|standing| *standing == Health::Well),
    })
}

fn line(seen: &Seen) -> String {
    let first = if seen.is_right { "" } else { ", another first" };
    format!("{} s{first}", seconds(seen.took()))
}

fn seconds(time: SignedDuration) -> String {
    format!("{:.3}", time.as_secs_f64())
}

/// Least, middle and most.
fn spread(all: impl Iterator<Item = SignedDuration>) -> [SignedDuration; 3] {
    let mut all: Vec<SignedDuration> = all.collect();
    all.sort_unstable();
    let at = |index: usize| all.get(index).copied().unwrap_or_default();
    [at(0), at(all.len() / 2), at(all.len().saturating_sub(1))]
}

fn summary(trials: &[Trial]) -> String {
    let count = trials.len();
    let (ours, theirs) = (|trial: &Trial| trial.healed.clone(), |trial: &Trial| trial.polled.clone());
    let row = |name: &str, part: &dyn Fn(&Trial) -> SignedDuration| {
        let [least, middle, most] = spread(trials.iter().map(part)).map(seconds);
        vec![name.to_owned(), count.to_string(), least, middle, most]
    };
    let rows = [
        row("nexus, from the first unhealthy to the root's restart", &|trial| ours(trial).took()),
        row("  while Docker calls the root healthy", &|trial| ours(trial).root_unseen()),
        row("  from then on", &|trial| ours(trial).took() - ours(trial).root_unseen()),
        row("a poller that looks every 5 s", &|trial| theirs(trial).took()),
    ];
    let mut out = table(&["WHAT", "TRIALS", "MIN s", "P50 s", "MAX s"], &rows);
    let right = |of: fn(&Trial) -> Seen| trials.iter().filter(|trial| of(trial).is_right).count();
    let sum =
        |of: fn(&Trial) -> Seen, part: fn(&Seen) -> usize| trials.iter().map(|trial| part(&of(trial))).sum::<usize>();
    let acts = |name: &str, of: fn(&Trial) -> Seen| {
        let (others, harmful) = (sum(of, |seen| seen.others), sum(of, |seen| seen.harmful));
        vec![name.to_owned(), format!("{} of {count}", right(of)), others.to_string(), harmful.to_string()]
    };
    out.push('\n');
    out.push_str(&table(
        &["WHO", "THE ROOT FIRST", "RESTARTS OF OTHERS", "HARMFUL RESTARTS"],
        &[acts("nexus", ours), acts("the poller", theirs)],
    ));
    let [_, middle, _] = spread(trials.iter().map(|trial| trial.healed.took()));
    let verdict = |reached: bool| if reached { "reached" } else { "missed" };
    let share = right(ours) as f64 / count as f64;
    let harmless = sum(ours, |seen| seen.harmful) == 0;
    out.push_str(&format!("\ngoal, a p50 of at most 5 s: {}\n", verdict(middle <= MEDIAN_GOAL)));
    out.push_str(&format!("goal, the root first in at least 95 %: {}\n", verdict(share >= RIGHT_GOAL)));
    out.push_str(&format!("goal, no restart harms: {}\n", verdict(harmless)));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(milliseconds).unwrap()
    }

    fn events(all: &[(i64, &str, &str)]) -> Vec<Event> {
        let event = |(at_ms, service, action): &(i64, &str, &str)| Event {
            at: at(*at_ms),
            action: match *action {
                "ill" => "health_status: unhealthy".into(),
                "well" => "health_status: healthy".into(),
                other => other.into(),
            },
            service: (*service).into(),
        };
        all.iter().map(event).collect()
    }

    #[test]
    fn the_root_alone_is_restarted() {
        let all = events(&[
            (500, "api", "exec_die"),
            (1_000, "web", "ill"),
            (2_500, "database", "ill"),
            (2_600, "database", "kill"),
            (2_700, "database", "kill"),
            (2_800, "database", "start"),
            (7_000, "database", "well"),
            (8_000, "web", "well"),
        ]);
        assert_eq!(judge(&all[..3]), None);
        let seen = judge(&all).unwrap();
        assert_eq!((seen.took().as_millis(), seen.root_unseen().as_millis()), (1_600, 1_500));
        assert_eq!((seen.is_right, seen.others, seen.harmful, seen.restarts, seen.is_over), (true, 0, 0, 1, true));
        assert!(!judge(&all[..7]).unwrap().is_over);
    }

    #[test]
    fn restarts_of_others_and_of_what_is_on_its_way_are_told() {
        let seen = judge(&events(&[
            (1_000, "web", "ill"),
            (2_000, "web", "kill"),
            (2_100, "web", "start"),
            (3_000, "web", "kill"),
            (3_100, "web", "start"),
            (4_000, "api", "kill"),
            (4_100, "api", "start"),
            (5_000, "database", "kill"),
            (5_100, "database", "start"),
        ]))
        .unwrap();
        // The starting web, the healthy api, and a root that Docker has not called unhealthy.
        assert_eq!((seen.is_right, seen.others, seen.harmful, seen.restarts), (false, 3, 3, 4));
        assert_eq!((seen.root_unseen(), seen.is_over), (seen.took(), false));
    }

    #[test]
    fn the_table_says_what_was_reached() {
        let ours = events(&[(1_000, "web", "ill"), (3_000, "database", "ill"), (3_050, "database", "kill")]);
        let theirs = events(&[(1_000, "web", "ill"), (4_000, "web", "kill"), (9_000, "database", "kill")]);
        let trial = Trial { healed: judge(&ours).unwrap(), polled: judge(&theirs).unwrap() };
        let said = summary(&[trial]);
        let lines: Vec<String> =
            said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        for line in [
            "nexus, from the first unhealthy to the root's restart 1 2.050 2.050 2.050",
            "while Docker calls the root healthy 1 2.000 2.000 2.000",
            "from then on 1 0.050 0.050 0.050",
            "a poller that looks every 5 s 1 8.000 8.000 8.000",
            "nexus 1 of 1 0 0",
            "the poller 0 of 1 1 1",
            "goal, a p50 of at most 5 s: reached",
            "goal, the root first in at least 95 %: reached",
            "goal, no restart harms: reached",
        ] {
            assert!(lines.iter().any(|said| said == line), "{line} is missing in\n{said}");
        }
    }

    #[test]
    fn the_file_is_what_is_said_of_it() {
        let file: serde_json::Value = serde_saphyr::from_str(COMPOSE).unwrap();
        let services = file["services"].as_object().unwrap();
        assert_eq!(services.len(), SERVICES.len());
        for service in SERVICES {
            assert_eq!(services[service]["healthcheck"]["retries"], RETRIES);
            assert_eq!(services[service]["labels"][nexus_model::labels::STACK], "${NEXUS_BENCH_STACK:?}");
        }
        for (service, needs) in [("api", "database"), ("web", "api")] {
            assert_eq!(services[service]["depends_on"][needs]["condition"], "service_healthy");
        }
    }
}
