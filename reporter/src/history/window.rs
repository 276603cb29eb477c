//! Which samples to fetch: a pure decision over what is stored and what time it is.
//!
//! Times are seconds of unixtime, as Prometheus has them.

/// Seconds between samples.
pub const STEP: i64 = 300;
/// What happened up to a time is only known once the scrapes around it are in: two of them, and a slow one.
pub const SETTLE: i64 = 60;
/// Prometheus keeps fifteen days (compose.yml); asking for older ones brings nothing.
pub const LOOK_BACK: i64 = 15 * 24 * 3600;
/// Steps of one batch: six hours of 30 services are a sixth of a megabyte, and one transaction.
pub const STEPS_AT_ONCE: i64 = 72;
/// A clock that was stepped back by less just waits until it is later again.
pub const STEPPED_BACK: i64 = 3600;

/// The steps `first`, `first + STEP`, …, `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub first: i64,
    pub last: i64,
}

impl Window {
    pub fn steps(self) -> usize {
        usize::try_from((self.last - self.first) / STEP + 1).unwrap_or(0)
    }

    /// The place of a time among the steps.
    pub fn place(self, at: i64) -> Option<usize> {
        let inside = (self.first..=self.last).contains(&at) && (at - self.first) % STEP == 0;
        inside.then(|| usize::try_from((at - self.first) / STEP).ok()).flatten()
    }

    pub fn at(self, place: usize) -> i64 {
        self.first + i64::try_from(place).unwrap_or(0) * STEP
    }

    /// Two halves, where Prometheus can't answer for the whole; `None` for a single step.
    pub fn halves(self) -> Option<(Window, Window)> {
        let half = (self.last - self.first) / STEP / 2;
        let (left, right) = (self.first + half * STEP, self.first + (half + 1) * STEP);
        (right <= self.last).then_some((Window { last: left, ..self }, Window { first: right, ..self }))
    }
}

/// The last step that can be fetched.
pub fn settled(now: i64) -> i64 {
    (now - SETTLE).div_euclid(STEP) * STEP
}

/// What is to be fetched, in the order of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The step before the first that is wanted.
    pub after: i64,
    pub settled: i64,
    /// Seconds that were missed for good: Prometheus no longer has them.
    pub lost: i64,
    /// `through` lies in the future, so a clock was wrong then or is now. It says nothing; what is there already is not
    /// written again.
    pub restarted: bool,
}

impl Plan {
    /// `through` is the last step that is stored, as far as it ever will be.
    pub fn new(through: Option<i64>, now: i64) -> Self {
        let settled = settled(now);
        let oldest = settled - LOOK_BACK;
        let restarted = through.is_some_and(|through| through > settled + STEPPED_BACK);
        let stored = through.filter(|_| !restarted).map(|through| through.div_euclid(STEP) * STEP);
        let lost = stored.map_or(0, |stored| (oldest - stored).max(0));
        Self { after: stored.unwrap_or(oldest).max(oldest), settled, lost, restarted }
    }

    /// Whether it is worth a batch: a full interval has gathered, or nobody knows what is stored.
    pub fn is_due(&self, interval: i64) -> bool {
        self.settled - self.after >= interval.max(STEP)
    }

    pub fn windows(&self) -> impl Iterator<Item = Window> + use<> {
        let (settled, mut next) = (self.settled, self.after + STEP);
        std::iter::from_fn(move || {
            let first = next;
            let last = (first + (STEPS_AT_ONCE - 1) * STEP).min(settled);
            next = last + STEP;
            (first <= settled).then_some(Window { first, last })
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn steps(plan: &Plan) -> Vec<i64> {
        plan.windows().flat_map(|window| (0..window.steps()).map(move |place| window.at(place))).collect()
    }

    #[test]
    fn what_is_fetched_when() {
        let now = NOW + 100;
        let check = |through: Option<i64>, fetched: i64, due: bool| {
            let plan = Plan::new(through, now);
            assert_eq!((steps(&plan).len() as i64, plan.is_due(3600)), (fetched, due), "{through:?}: {plan:?}");
        };
        check(None, LOOK_BACK / STEP, true);
        check(Some(NOW), 0, false);
        check(Some(NOW - 300), 1, false);
        check(Some(NOW - 3300), 11, false);
        check(Some(NOW - 3600), 12, true);
        check(Some(NOW - 3601), 13, true);
        check(Some(NOW - 5 * 86_400), 5 * 288, true);
        check(Some(NOW - 400 * 86_400), LOOK_BACK / STEP, true);
        check(Some(NOW + 3600), 0, false); // stepped back a little
        check(Some(NOW + 3900), LOOK_BACK / STEP, true);
        check(Some(NOW + 400 * 86_400), LOOK_BACK / STEP, true);
        assert_eq!(Plan::new(Some(NOW - LOOK_BACK - 900), now).lost, 900);
        assert!(Plan::new(Some(NOW + 3900), now).restarted);
    }

    #[test]
    fn what_is_not_settled_waits() {
        for (now, expected) in [(NOW, NOW - 300), (NOW + 59, NOW - 300), (NOW + 60, NOW), (NOW + 359, NOW)] {
            assert_eq!(settled(now), expected);
        }
    }

    #[test]
    fn halves_are_the_whole() {
        for steps in 1..=9 {
            let window = Window { first: NOW, last: NOW + (steps - 1) * STEP };
            match window.halves() {
                None => assert_eq!(steps, 1),
                Some((left, right)) => {
                    assert_eq!((left.first, right.last), (window.first, window.last));
                    assert_eq!(left.last + STEP, right.first);
                    assert!(left.steps() >= right.steps() && right.steps() >= 1);
                }
            }
        }
    }

    proptest! {
        /// Whatever is stored and whenever it is: every settled step after it exactly once, in order, none of the future.
        #[test]
        fn neither_hole_nor_duplicate_nor_future(now in 0_i64..4_000_000_000, back in -60_000_000_i64..60_000_000, known: bool) {
            let through = known.then_some(now - back);
            let plan = Plan::new(through, now);
            let fetched = steps(&plan);
            prop_assert!(fetched.windows(2).all(|pair| pair[1] - pair[0] == STEP));
            prop_assert!(fetched.iter().all(|at| at % STEP == 0 && *at <= now - SETTLE && *at > now - LOOK_BACK - 2 * STEP - SETTLE));
            prop_assert!(plan.windows().all(|window| (1..=STEPS_AT_ONCE as usize).contains(&window.steps())));
            if let Some(&last) = fetched.last() {
                prop_assert_eq!(last, settled(now));
            }
            if let Some(through) = through.filter(|it| *it <= settled(now)) {
                let first = fetched.first().copied().unwrap_or(settled(now) + STEP);
                prop_assert!(first - through <= STEP || plan.lost > 0);
                prop_assert!(fetched.iter().all(|at| *at > through));
            }
        }

        /// Fetching in two passes, whenever the first one ended, brings what one pass would.
        #[test]
        fn passes_join(now in 2_000_000_i64..4_000_000_000, behind in 0_i64..1_000_000, later in 0_i64..500_000, done in 0_usize..200) {
            let first = Plan::new(Some(now - behind), now);
            let mut fetched: Vec<i64> = Vec::new();
            let mut through = first.after;
            for window in first.windows().take(done) {
                fetched.extend((0..window.steps()).map(|place| window.at(place)));
                through = window.last;
            }
            let second = Plan::new(Some(through), now + later);
            prop_assume!(second.lost == 0);
            fetched.extend(steps(&second));
            let whole: Vec<i64> = (1..).map(|n| first.after + n * STEP).take_while(|at| *at <= settled(now + later)).collect();
            prop_assert_eq!(fetched, whole);
        }
    }
}
