//! What the measurements of healing share: the poller that they compare with, the healer's brake, and trial after trial.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use jiff::{SignedDuration, Timestamp};
use nexus_model::Mode;
use nexus_model::api::ServiceList;

use crate::docker::docker;
use crate::files::read_text;
use crate::home::{Home, TEXT_LIMIT};
use crate::http::Part;
use crate::text::print;

/// How often the poller looks: docker-autoheal's default.
pub const POLL_EVERY: Duration = Duration::from_secs(5);
/// Between two looks at what has happened: they are not part of what is measured.
pub const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The healer's brake counts the restarts of so long.
const BRAKE_WINDOW: SignedDuration = SignedDuration::from_mins(10);
/// Until the healer sees what was started.
const KNOWN_WITHIN: Duration = Duration::from_secs(20);

pub enum Outcome<T> {
    Measured {
        trial: Box<T>,
        /// That the healer made for it.
        restarts: usize,
    },
    /// The healer's brake held it back, for restarts that were not the bench's.
    Held,
}

/// The name of the stack, the image to start containers from, and how many restarts the brake lets through. Fails where there
/// is no stack to measure.
pub async fn prepared(home: &Home) -> Result<(String, String, usize)> {
    let stack = home.get("NEXUS_STACK").to_owned();
    let image = home.get("NEXUS_IMAGE_NEXUS").to_owned();
    if image.is_empty() {
        bail!("there is no image to start containers from: run ./nexus up first");
    }
    let _: ServiceList = Part::healer(home)?.get("/api/v1/services", &[]).await?;
    Ok((stack, image, brake(home)?))
}

/// What the brake means for so many restarts, for people.
pub fn told(brake: usize, restarts: u32) -> String {
    let waits = (restarts as usize).saturating_sub(1) / brake * 10;
    let takes = if waits > 0 { format!(", so this takes more than {waits} minutes") } else { String::new() };
    format!("Its brake lets through {brake} restarts in 10 minutes{takes}.")
}

/// Makes `wanted` trials, each when the brake has room for it, and hands what they have measured to `take`, which says a line
/// about it. After each, `clean` takes away what it has started.
pub async fn repeat<T>(
    (wanted, brake): (u32, usize),
    trial: impl AsyncFn(u32) -> Result<Outcome<T>>,
    clean: impl AsyncFn(u32) -> Result<()>,
    mut take: impl FnMut(u32, T) -> String,
) -> Result<()> {
    let mut restarts = Vec::new();
    let (mut number, mut measured) = (0, 0);
    while measured < wanted {
        number += 1;
        let outcome = tokio::select! {
            outcome = async {
                let left = wait_for_room(&restarts, brake, Timestamp::now());
                if left > Duration::ZERO {
                    print(&format!("waiting {} s for the brake …\n", left.as_secs() + 1))?;
                    tokio::time::sleep(left).await;
                }
                trial(number).await
            } => outcome,
            signal = tokio::signal::ctrl_c() => match signal {
                Ok(()) => Err(anyhow!("interrupted")),
                Err(error) => Err(error).context("cannot listen for Ctrl-C"),
            },
        };
        let cleaned = clean(number).await.context("cannot remove the containers");
        match outcome.and_then(|outcome| cleaned.map(|()| outcome))? {
            Outcome::Measured { trial, restarts: made } => {
                restarts.extend(std::iter::repeat_n(Timestamp::now(), made));
                measured += 1;
                print(&take(measured, *trial))?;
            }
            Outcome::Held => {
                print("others have used up the brake: waiting a minute …\n")?;
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
        }
    }
    Ok(())
}

/// The well-known way: look every few seconds, restart whatever is unhealthy.
pub async fn poll(filter: String) {
    loop {
        let ill = docker(&["ps", "--quiet", "--no-trunc", "--filter", "health=unhealthy", "--filter", &filter]).await;
        for id in ill.unwrap_or_default().lines() {
            // One that fails is found again next time.
            _ = docker(&["restart", "-t", "10", id]).await;
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}

/// How many restarts the healer allows in ten minutes, by the file that it has read.
fn brake(home: &Home) -> Result<usize> {
    let text = read_text(&home.policy(), TEXT_LIMIT)?.unwrap_or_default();
    brake_of(&text).with_context(|| format!("cannot read {}", home.show(&home.policy())))
}

fn brake_of(policy: &str) -> Result<usize> {
    let policy = nexus_policy::Policy::parse("healer.yml", policy)?;
    Ok(usize::try_from(policy.healing.restarts_per_10_minutes).unwrap_or(usize::MAX))
}

/// How long until one more restart is within the brake.
fn wait_for_room(restarts: &[Timestamp], brake: usize, now: Timestamp) -> Duration {
    let recent: Vec<&Timestamp> = restarts.iter().filter(|then| now.duration_since(**then) < BRAKE_WINDOW).collect();
    // The oldest that has to be forgotten before there is room.
    let Some(blocking) = recent.len().checked_sub(brake).and_then(|index| recent.get(index)) else {
        return Duration::ZERO;
    };
    Duration::try_from(BRAKE_WINDOW - now.duration_since(**blocking)).unwrap_or_default()
}

/// Waits until the healer sees these services healthy, and may heal them.
pub async fn known_to(healer: &Part, project: &str, services: &[&str]) -> Result<()> {
    let deadline = Instant::now() + KNOWN_WITHIN;
    loop {
        let known: ServiceList = healer.get("/api/v1/services", &[]).await?;
        let well = known.services.iter().filter(|service| {
            service.project == project
                && services.contains(&service.service.as_str())
                && service.containers.iter().any(|container| container.health == "healthy")
        });
        let well: Vec<_> = well.collect();
        if let Some(service) = well.iter().find(|service| service.mode != Mode::Heal) {
            bail!("healing is {} for {project}/{}", service.mode, service.service);
        }
        if well.len() == services.len() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("the healer does not see the twins: ./nexus status tells why");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brake_is_waited_for_and_never_touched() {
        let second = |number: i64| Timestamp::from_second(number).unwrap();
        let waits = |restarts: &[i64], now: i64| {
            let restarts: Vec<Timestamp> = restarts.iter().copied().map(second).collect();
            wait_for_room(&restarts, 2, second(now)).as_secs()
        };
        assert_eq!(waits(&[], 0), 0);
        assert_eq!(waits(&[0], 10), 0);
        assert_eq!(waits(&[0, 5], 10), 590);
        assert_eq!(waits(&[0, 5, 8], 10), 595);
        assert_eq!(waits(&[0, 5], 600), 0);
        assert_eq!(brake_of("# nothing\n").unwrap(), 10);
        assert_eq!(brake_of("default: shadow\n").unwrap(), 10);
        assert_eq!(brake_of("healing:\n  restarts_per_10_minutes: 40\n").unwrap(), 40);
        assert!(brake_of("healing: [\n").is_err());
        let shipped = include_str!("../../../healer/healer.example.yml");
        assert_eq!(brake_of(shipped).unwrap(), 10);
    }
}
