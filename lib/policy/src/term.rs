//! The terms of healing: each number and duration that the owner may set, with its bounds, where it may be set, and how it reads.

use jiff::SignedDuration;

/// How hard the healer tries with one service.
#[derive(Clone, Debug, PartialEq)]
pub struct Healing {
    /// Restarts of one container, within one incident or an hour before it, before giving up.
    pub attempts: u32,
    /// Restarts of one container within a day.
    pub attempts_per_day: u32,
    /// The owner is told from this failed attempt on; never more than `attempts`.
    pub told_after: u32,
    /// Delay after the first failed attempt; doubles with each further one.
    pub base_delay: SignedDuration,
    /// The delay grows no further than this; never less than `base_delay`.
    pub max_delay: SignedDuration,
    /// How long a service must stay well before its incident is closed.
    pub stable_for: SignedDuration,
    /// The same, after giving up.
    pub well_after_giving_up: SignedDuration,
    /// Granted on top of what a container's health check allows for getting well.
    pub verify_margin: SignedDuration,
    /// Granted from its start on to a container that runs but has not been healthy yet in this run.
    pub start_patience: SignedDuration,
    /// Time to stop, for containers that name none.
    pub stop_timeout: SignedDuration,
    /// That time was named for this very service, and wins over what the container names.
    pub stop_timeout_wins: bool,
    /// Restarts on the whole host within any ten minutes.
    pub restarts_per_10_minutes: u32,
    /// So many services that fall ill together, and at least a third of all, put healing on hold for the whole host.
    pub hold_when_ill: u32,
}

impl Default for Healing {
    fn default() -> Self {
        Self {
            attempts: 6,
            attempts_per_day: 20,
            told_after: 3,
            base_delay: SignedDuration::from_secs(10),
            max_delay: SignedDuration::from_mins(10),
            stable_for: SignedDuration::from_mins(1),
            well_after_giving_up: SignedDuration::from_mins(10),
            verify_margin: SignedDuration::from_secs(15),
            start_patience: SignedDuration::from_mins(3),
            stop_timeout: SignedDuration::from_secs(10),
            stop_timeout_wins: false,
            restarts_per_10_minutes: 10,
            hold_when_ill: 5,
        }
    }
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Term {
    Attempts,
    AttemptsPerDay,
    ToldAfter,
    BaseDelay,
    MaxDelay,
    StableFor,
    WellAfterGivingUp,
    VerifyMargin,
    StartPatience,
    StopTimeout,
    RestartsPer10Minutes,
    HoldWhenIll,
}

/// The value of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Amount {
    Count(u32),
    Time(SignedDuration),
}

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Amount::Count(count) => write!(f, "{count}"),
            Amount::Time(time) => write!(f, "{time:#}"),
        }
    }
}

const SECOND: SignedDuration = SignedDuration::from_secs(1);
const HOUR: SignedDuration = SignedDuration::from_hours(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);

impl Term {
    pub const ALL: [Term; 12] = [
        Term::Attempts,
        Term::AttemptsPerDay,
        Term::ToldAfter,
        Term::BaseDelay,
        Term::MaxDelay,
        Term::StableFor,
        Term::WellAfterGivingUp,
        Term::VerifyMargin,
        Term::StartPatience,
        Term::StopTimeout,
        Term::RestartsPer10Minutes,
        Term::HoldWhenIll,
    ];

    /// The key in healer.yml.
    pub fn name(self) -> &'static str {
        match self {
            Term::Attempts => "attempts",
            Term::AttemptsPerDay => "attempts_per_day",
            Term::ToldAfter => "told_after",
            Term::BaseDelay => "base_delay",
            Term::MaxDelay => "max_delay",
            Term::StableFor => "stable_for",
            Term::WellAfterGivingUp => "well_after_giving_up",
            Term::VerifyMargin => "verify_margin",
            Term::StartPatience => "start_patience",
            Term::StopTimeout => "stop_timeout",
            Term::RestartsPer10Minutes => "restarts_per_10_minutes",
            Term::HoldWhenIll => "hold_when_ill",
        }
    }

    pub fn of_name(name: &str) -> Option<Term> {
        Term::ALL.into_iter().find(|term| term.name() == name)
    }

    /// The label on a container that sets it, if there is one.
    pub fn label(self) -> Option<&'static str> {
        use nexus_model::labels;
        match self {
            Term::Attempts => Some(labels::ATTEMPTS),
            Term::AttemptsPerDay => Some(labels::ATTEMPTS_PER_DAY),
            Term::BaseDelay => Some(labels::BASE_DELAY),
            Term::MaxDelay => Some(labels::MAX_DELAY),
            Term::StableFor => Some(labels::STABLE_FOR),
            Term::VerifyMargin => Some(labels::VERIFY_MARGIN),
            Term::StartPatience => Some(labels::START_PATIENCE),
            Term::StopTimeout => Some(labels::STOP_TIMEOUT),
            Term::ToldAfter | Term::WellAfterGivingUp | Term::RestartsPer10Minutes | Term::HoldWhenIll => None,
        }
    }

    /// Whether it is one for the whole host, which a project or a service can't have for itself.
    pub fn is_of_the_host(self) -> bool {
        matches!(self, Term::RestartsPer10Minutes | Term::HoldWhenIll)
    }

    /// The least and the most that can be meant.
    pub fn bounds(self) -> (Amount, Amount) {
        let times = |least, most| (Amount::Time(least), Amount::Time(most));
        match self {
            Term::Attempts | Term::ToldAfter => (Amount::Count(1), Amount::Count(20)),
            Term::AttemptsPerDay => (Amount::Count(1), Amount::Count(200)),
            Term::BaseDelay | Term::MaxDelay | Term::WellAfterGivingUp => times(SECOND, DAY),
            Term::StableFor => times(SECOND, HOUR),
            Term::VerifyMargin => times(SECOND, SignedDuration::from_mins(10)),
            Term::StartPatience => times(SignedDuration::ZERO, HOUR),
            // The socket proxy lets three digits through.
            Term::StopTimeout => times(SECOND, SignedDuration::from_secs(999)),
            Term::RestartsPer10Minutes => (Amount::Count(1), Amount::Count(1000)),
            Term::HoldWhenIll => (Amount::Count(2), Amount::Count(1000)),
        }
    }

    /// Of two amounts the one that does less, or takes more time over it: replicas whose labels differ get it.
    pub fn more_careful(self, one: Amount, other: Amount) -> Amount {
        match self {
            Term::Attempts
            | Term::AttemptsPerDay
            | Term::ToldAfter
            | Term::RestartsPer10Minutes
            | Term::HoldWhenIll => one.min(other),
            _ => one.max(other),
        }
    }

    /// What it means, for people.
    pub fn in_words(self, amount: Amount) -> String {
        match self {
            Term::Attempts => format!("given up after {}", counted(amount, "attempt")),
            Term::AttemptsPerDay => format!("at most {} of one container within a day", counted(amount, "restart")),
            Term::ToldAfter => format!("you are told from failed attempt {amount} on"),
            Term::BaseDelay => format!("waits {amount} after the first failed attempt, then twice as long each time"),
            Term::MaxDelay => format!("never waits longer than {amount} between two attempts"),
            Term::StableFor => format!("must stay well for {amount} before an incident is closed"),
            Term::WellAfterGivingUp => format!("is forgiven when well for {amount} after giving up"),
            Term::VerifyMargin => format!("has {amount} more than its health check takes to become well"),
            Term::StartPatience => format!("is left alone for {amount} from its start on while not healthy yet"),
            Term::StopTimeout => format!("has {amount} to stop before it is killed"),
            Term::RestartsPer10Minutes => {
                format!("the whole machine: at most {} within ten minutes", counted(amount, "restart"))
            }
            Term::HoldWhenIll => {
                format!("the whole machine: waits when {amount} services and a third of all fall ill within a minute")
            }
        }
    }
}

fn counted(amount: Amount, what: &str) -> String {
    let plural = if amount == Amount::Count(1) { "" } else { "s" };
    format!("{amount} {what}{plural}")
}

impl Healing {
    pub fn get(&self, term: Term) -> Amount {
        match term {
            Term::Attempts => Amount::Count(self.attempts),
            Term::AttemptsPerDay => Amount::Count(self.attempts_per_day),
            Term::ToldAfter => Amount::Count(self.told_after),
            Term::BaseDelay => Amount::Time(self.base_delay),
            Term::MaxDelay => Amount::Time(self.max_delay),
            Term::StableFor => Amount::Time(self.stable_for),
            Term::WellAfterGivingUp => Amount::Time(self.well_after_giving_up),
            Term::VerifyMargin => Amount::Time(self.verify_margin),
            Term::StartPatience => Amount::Time(self.start_patience),
            Term::StopTimeout => Amount::Time(self.stop_timeout),
            Term::RestartsPer10Minutes => Amount::Count(self.restarts_per_10_minutes),
            Term::HoldWhenIll => Amount::Count(self.hold_when_ill),
        }
    }

    /// An amount of another kind than the term's changes nothing; none is made.
    pub(crate) fn set(&mut self, term: Term, amount: Amount) {
        match (term, amount) {
            (Term::Attempts, Amount::Count(count)) => self.attempts = count,
            (Term::AttemptsPerDay, Amount::Count(count)) => self.attempts_per_day = count,
            (Term::ToldAfter, Amount::Count(count)) => self.told_after = count,
            (Term::BaseDelay, Amount::Time(time)) => self.base_delay = time,
            (Term::MaxDelay, Amount::Time(time)) => self.max_delay = time,
            (Term::StableFor, Amount::Time(time)) => self.stable_for = time,
            (Term::WellAfterGivingUp, Amount::Time(time)) => self.well_after_giving_up = time,
            (Term::VerifyMargin, Amount::Time(time)) => self.verify_margin = time,
            (Term::StartPatience, Amount::Time(time)) => self.start_patience = time,
            (Term::StopTimeout, Amount::Time(time)) => self.stop_timeout = time,
            (Term::RestartsPer10Minutes, Amount::Count(count)) => self.restarts_per_10_minutes = count,
            (Term::HoldWhenIll, Amount::Count(count)) => self.hold_when_ill = count,
            _ => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_term_is_set_and_read_under_its_name() {
        for term in Term::ALL {
            assert_eq!(Term::of_name(term.name()), Some(term));
            let mut healing = Healing::default();
            let (least, most) = term.bounds();
            for amount in [least, most] {
                healing.set(term, amount);
                assert_eq!(healing.get(term), amount, "{term:?}");
            }
            let default = Healing::default().get(term);
            assert!((least..=most).contains(&default), "{term:?}");
        }
    }

    #[test]
    fn the_more_careful_does_less_and_takes_longer() {
        let (one, other) = (Amount::Count(2), Amount::Count(5));
        assert_eq!(Term::Attempts.more_careful(other, one), one);
        let (short, long) = (Amount::Time(SECOND), Amount::Time(HOUR));
        for term in [Term::BaseDelay, Term::StopTimeout, Term::StartPatience, Term::StableFor] {
            assert_eq!(term.more_careful(short, long), long, "{term:?}");
        }
    }
}
