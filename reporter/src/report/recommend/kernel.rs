//! What the kernel could do and does not: memory limits of containers, and telling who waits for memory. Raspberry Pi OS ships
//! both off.

use super::super::facts::Facts;
use super::super::format::count;
use super::{Kind, Recommendation, Urgency};

pub fn recommend(facts: &Facts) -> Vec<Recommendation> {
    let mut all = Vec::new();
    if facts.machine.memory_cgroup == Some(false) {
        let limited =
            facts.containers.iter().flatten().filter(|it| it.memory_limit.is_some_and(|limit| limit > 0.0)).count();
        let mut evidence = vec!["the kernel runs with the memory cgroup off".to_owned()];
        if limited > 0 {
            evidence.push(format!("a memory limit without effect: of {}", count(limited, "container")));
        }
        all.push(recommendation(
            facts,
            "cgroup_enable=memory",
            Urgency::Soon,
            "Switch on memory limits of containers",
            evidence,
            "limits hold, and what each service uses is known",
        ));
    }
    if facts.machine.pressure_known == Some(false) {
        all.push(recommendation(
            facts,
            "psi=1",
            Urgency::Sometime,
            "Switch on pressure stall information",
            vec!["the kernel does not tell how long anything waits for CPU, memory or disk".to_owned()],
            "a lack of memory is seen minutes before the kernel kills something",
        ));
    }
    all
}

fn recommendation(
    facts: &Facts,
    word: &str,
    urgency: Urgency,
    title: &str,
    evidence: Vec<String>,
    gain: &str,
) -> Recommendation {
    // One command, so that nothing is restarted for a line that was not written.
    let command = if facts.machine.board.is_some() {
        // Before bookworm it is at /boot/cmdline.txt; bookworm and later leave a note there that the file has moved. It is one
        // line, and must stay one.
        format!(
            "f=/boot/firmware/cmdline.txt; [ -f $f ] || f=/boot/cmdline.txt; sudo sed -i '1 s/$/ {word}/' $f && sudo reboot"
        )
    } else {
        format!("sudo sed -i 's/^GRUB_CMDLINE_LINUX=\"/&{word} /' /etc/default/grub && sudo update-grub && sudo reboot")
    };
    Recommendation {
        id: Kind::Kernel.id(&[word]),
        kind: Kind::Kernel,
        urgency,
        project: None,
        service: None,
        title: title.to_owned(),
        evidence,
        gain: gain.to_owned(),
        gain_bytes: None,
        check: Some("cat /proc/cmdline".to_owned()),
        compose: None,
        commands: vec![command],
        changes: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing::well;

    #[test]
    fn what_is_off_is_switched_on_where_the_board_keeps_it() {
        let mut facts = well();
        facts.machine.memory_cgroup = Some(false);
        let found = recommend(&facts);
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].commands,
            [
                "f=/boot/firmware/cmdline.txt; [ -f $f ] || f=/boot/cmdline.txt; sudo sed -i '1 s/$/ cgroup_enable=memory/' $f && sudo reboot"
            ]
        );
        assert_eq!(found[0].evidence[1], "a memory limit without effect: of 1 container");
        facts.machine.board = None;
        let commands = &recommend(&facts)[0].commands;
        assert!(
            commands.len() == 1 && commands[0].contains("/etc/default/grub && sudo update-grub && "),
            "{commands:?}"
        );
        facts.machine.pressure_known = Some(false);
        assert_eq!(recommend(&facts)[1].urgency, Urgency::Sometime);
    }

    #[test]
    fn what_is_on_or_not_known_is_left_alone() {
        for known in [Some(true), None] {
            let mut facts = well();
            (facts.machine.memory_cgroup, facts.machine.pressure_known) = (known, known);
            assert_eq!(recommend(&facts), []);
        }
    }
}
