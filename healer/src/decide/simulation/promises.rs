//! What must hold in that world.

use super::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_promises_hold_whatever_happens(steps in proptest::collection::vec(step(), 1..80)) {
        let mut world = World::new(policy());
        for step in &steps {
            world.take(step);
        }
        // Everything comes back and is well: every incident comes to an end.
        for step in [Step::Docker(true), Step::Disk(true), Step::Pass(60)] {
            world.take(&step);
        }
        for it in 0..SERVICES {
            world.take(&Step::HumanStarts(it));
            world.take(&Step::Mend(it));
            world.take(&Step::Temper(it, true));
            world.take(&Step::Silence(it, false));
        }
        world.hours(3);
        prop_assert!(world.cases.is_empty(), "{:?}", world.cases);
        // And deciding again after success does nothing.
        let before = world.restarts;
        for it in 0..SERVICES {
            world.take(&Step::Alert(it));
            let refused = admit(&world.facts(it), None);
            prop_assert!(matches!(refused, Err(Refusal::AlreadyWell | Refusal::OptedOut)), "{refused:?}");
        }
        world.hours(1);
        prop_assert_eq!(world.restarts, before);
    }

    #[test]
    fn what_never_gets_well_is_given_up(crashes in proptest::collection::vec((1..900_u16, any::<bool>()), 0..20)) {
        let mut world = World::new(policy());
        world.take(&Step::Temper(0, false));
        world.take(&Step::FallIll(0));
        world.take(&Step::Alert(0));
        for (seconds, docker_heard) in crashes {
            world.take(&Step::Pass(seconds));
            world.take(&Step::Crash(docker_heard));
            world.take(&Step::Alert(0));
        }
        world.hours(3);
        prop_assert_eq!(world.cases[&0].incident.state, IncidentState::GaveUp);
        prop_assert_eq!(world.restarts, MOST as usize, "the budget, no more and no less, whoever was killed");
        // The owner mends it: forgiven, with a fresh budget for the next time.
        world.take(&Step::Mend(0));
        world.hours(1);
        prop_assert!(world.cases.is_empty());
        world.take(&Step::Temper(0, true));
        world.take(&Step::FallIll(0));
        world.take(&Step::Alert(0));
        world.hours(1);
        prop_assert!(world.cases.is_empty());
        prop_assert_eq!(world.restarts, MOST as usize + 1);
    }

    #[test]
    fn what_falls_ill_again_after_each_restart_is_given_up(every in 120..480_u16) {
        let mut world = World::new(policy());
        for _ in 0..7 {
            world.take(&Step::FallIll(0));
            world.take(&Step::Alert(0));
            world.take(&Step::Pass(every));
        }
        prop_assert_eq!(world.cases[&0].incident.state, IncidentState::GaveUp);
        prop_assert_eq!(world.restarts, MOST as usize, "as many as one incident may have, however many it was");
        // Switched off and on by hand it is tried again at once.
        for mode in [Mode::Off, Mode::Heal] {
            world.take(&Step::Mode(0, mode));
        }
        world.take(&Step::Alert(0));
        world.take(&Step::Pass(every));
        prop_assert!(world.cases.is_empty());
        prop_assert_eq!(world.restarts, MOST as usize + 1);
    }

    #[test]
    fn what_falls_ill_again_all_day_is_given_up(every in 780..2400_u16, crashes in any::<bool>()) {
        let mut world = World::new(policy());
        for _ in 0..MOST_A_DAY + 2 {
            world.take(&Step::FallIll(0));
            world.take(&Step::Alert(0));
            world.take(&Step::Pass(every));
            if crashes {
                world.take(&Step::Crash(true));
            }
        }
        prop_assert_eq!(world.restarts, MOST_A_DAY as usize, "never six within an hour, and yet enough for a day");
        prop_assert_eq!(world.cases[&0].incident.refusal, Some(Refusal::DayBudgetSpent));
        // Well for ten minutes by itself, and ill again: forgiven for the hour, not for the day.
        world.take(&Step::Mend(0));
        world.take(&Step::Pass(900));
        prop_assert!(world.cases.is_empty());
        world.take(&Step::FallIll(0));
        world.take(&Step::Alert(0));
        world.take(&Step::Pass(every));
        prop_assert_eq!(world.restarts, MOST_A_DAY as usize);
        // The owner's hand, or the next day.
        for mode in [Mode::Off, Mode::Heal] {
            world.take(&Step::Mode(0, mode));
        }
        world.take(&Step::Alert(0));
        world.take(&Step::Pass(every));
        prop_assert_eq!(world.restarts, MOST_A_DAY as usize + 1);
    }

    #[test]
    fn what_fails_together_is_left_alone_and_healed_one_by_one_afterwards(
        lasts in 30..550_u16,
        gap in 1..25_u16,
        crash in any::<bool>(),
    ) {
        let mut world = World::new(policy());
        // What is ill at the first look may have been so for long.
        world.take(&Step::Pass(1));
        for it in 0..SERVICES {
            world.take(&Step::FallIll(it));
            world.take(&Step::Pass(gap));
        }
        for it in 0..SERVICES {
            world.take(&Step::Alert(it));
        }
        if crash {
            world.take(&Step::Crash(false));
        }
        world.take(&Step::Pass(lasts));
        prop_assert_eq!(world.restarts, 0);
        prop_assert!(world.cases.values().all(|case| case.incident.refusal == Some(Refusal::HostHold)));
        // It does not pass: after ten minutes each is restarted, and has to prove itself first.
        world.take(&Step::Pass(700));
        prop_assert_eq!(world.restarts, SERVICES);
        world.hours(1);
        prop_assert!(world.cases.is_empty() && world.restarts == SERVICES);
    }
}
