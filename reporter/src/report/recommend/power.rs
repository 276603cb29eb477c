//! Too little voltage, too much heat, and a processor that is held back for it, with the usual cause.

use super::super::facts::Facts;
use super::{Kind, Recommendation, Urgency};

/// A Pi 4 slows down from 80 °C on; within five degrees of it, a warm day is enough.
const HOT: f64 = 75.0;

pub fn recommend(facts: &Facts) -> Vec<Recommendation> {
    [voltage(facts), heat(facts)].into_iter().flatten().collect()
}

/// `Some(true)`: now. `Some(false)`: since the start. The firmware's words are those of `vcgencmd get_throttled`.
fn seen(facts: &Facts, reasons: &[&str]) -> Option<bool> {
    let any = |seen: &[String]| seen.iter().any(|reason| reasons.contains(&reason.as_str()));
    let (now, before) = (any(&facts.machine.throttled_now), any(&facts.machine.throttled_before));
    (now || before).then_some(now)
}

fn when(now: bool) -> &'static str {
    if now { "at this moment" } else { "since the last start" }
}

fn recommendation(kind: Kind, urgency: Urgency, title: &str, evidence: Vec<String>, gain: &str) -> Recommendation {
    Recommendation {
        id: kind.id(&[]),
        kind,
        urgency,
        project: None,
        service: None,
        title: title.to_owned(),
        evidence,
        gain: gain.to_owned(),
        gain_bytes: None,
        check: Some("vcgencmd get_throttled".to_owned()),
        compose: None,
        commands: Vec::new(),
        changes: Vec::new(),
    }
}

fn voltage(facts: &Facts) -> Option<Recommendation> {
    let now = seen(facts, &["under_voltage"])?;
    let board = facts.machine.board.as_deref().unwrap_or_default();
    let supply = if board.contains("Pi 5") { "5 V and 5 A (27 W)" } else { "5.1 V and 3 A (15 W)" };
    let mut evidence = vec![format!("the firmware saw too little voltage {}", when(now))];
    if let Some(held_back) = seen(facts, &["throttled", "arm_frequency_capped"]) {
        evidence.push(format!("it held the processor back {}", when(held_back)));
    }
    evidence.push(
        "usual cause: a supply for telephones, a thin or long cable, or disks that take their power from the USB ports"
            .to_owned(),
    );
    Some(recommendation(
        Kind::Power,
        if now { Urgency::Now } else { Urgency::Soon },
        &format!("Give the machine a better power supply: {supply}"),
        evidence,
        "full speed, and no damaged file systems: cards and disks fail first when the voltage drops",
    ))
}

fn heat(facts: &Facts) -> Option<Recommendation> {
    let limited = seen(facts, &["soft_temperature_limit"]);
    // Held back without want of voltage is heat as well.
    let throttled = seen(facts, &["throttled"]).filter(|_| seen(facts, &["under_voltage"]).is_none());
    let hot = facts.machine.temperature.filter(|temperature| *temperature >= HOT);
    if limited.is_none() && throttled.is_none() && hot.is_none() {
        return None;
    }
    let mut evidence = Vec::new();
    evidence.extend(
        facts.machine.temperature.map(|temperature| format!("{temperature:.0} °C now; from 80 °C on it slows down")),
    );
    evidence.extend(limited.map(|now| format!("the firmware limited its speed for heat {}", when(now))));
    evidence.extend(throttled.map(|now| format!("the firmware held the processor back {}", when(now))));
    evidence.push("usual cause: no heat sink or fan, a closed case, dust, or sun".to_owned());
    let urgent = limited == Some(true) || throttled == Some(true);
    Some(recommendation(
        Kind::Heat,
        if urgent { Urgency::Now } else { Urgency::Soon },
        "Cool the machine: a heat sink with a fan, or an open case",
        evidence,
        "full speed under load",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing::well;

    fn kinds(change: fn(&mut Facts)) -> Vec<(Kind, Urgency)> {
        let mut facts = well();
        change(&mut facts);
        recommend(&facts).into_iter().map(|found| (found.kind, found.urgency)).collect()
    }

    #[test]
    fn each_cause_has_its_mend() {
        assert_eq!(kinds(|_| {}), []);
        assert_eq!(kinds(|f| f.machine.throttled_now = vec!["under_voltage".into()]), [(Kind::Power, Urgency::Now)]);
        assert_eq!(
            kinds(|f| f.machine.throttled_before = vec!["under_voltage".into()]),
            [(Kind::Power, Urgency::Soon)]
        );
        // Held back for want of voltage is no heat.
        assert_eq!(
            kinds(|f| f.machine.throttled_before = vec!["under_voltage".into(), "throttled".into()]),
            [(Kind::Power, Urgency::Soon)]
        );
        assert_eq!(kinds(|f| f.machine.throttled_now = vec!["throttled".into()]), [(Kind::Heat, Urgency::Now)]);
        assert_eq!(
            kinds(|f| f.machine.throttled_before = vec!["soft_temperature_limit".into()]),
            [(Kind::Heat, Urgency::Soon)]
        );
        assert_eq!(kinds(|f| f.machine.temperature = Some(76.0)), [(Kind::Heat, Urgency::Soon)]);
        assert_eq!(kinds(|f| f.machine.temperature = Some(74.0)), []);
    }

    #[test]
    fn each_board_gets_the_supply_that_it_wants() {
        let mut facts = well();
        facts.machine.throttled_now = vec!["under_voltage".into()];
        assert!(recommend(&facts)[0].title.ends_with("5.1 V and 3 A (15 W)"));
        facts.machine.board = Some("Raspberry Pi 5 Model B Rev 1.0".into());
        assert!(recommend(&facts)[0].title.ends_with("5 V and 5 A (27 W)"));
    }
}
