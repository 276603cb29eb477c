//! Who stopped a container: pure bookkeeping over Docker's events.
//!
//! `docker stop` gives kill, die, stop; `docker kill` gives kill, die; `docker restart` gives kill, die, stop, start,
//! restart; a process that ends by itself, or that the kernel kills, gives die alone (after oom, if it was that).

use jiff::{SignedDuration, Timestamp};

use crate::history::EndedBy;

/// An end later than this after a signal is not put down to it: a process may survive SIGQUIT and crash days later. A
/// `docker stop` that grants more time is told by its `stop`.
pub const SIGNAL_WORKS_WITHIN: SignedDuration = SignedDuration::from_mins(10);

/// Why a container that does not run has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// Its process ended by itself, or the kernel ended it.
    Itself,
    /// Somebody asked Docker to stop it: a person, Compose, or Nexus (who has a record of its own requests).
    Requested { at: Timestamp },
    /// The engine itself ended it, on its return from an end of its own: nobody had asked for it.
    Engine,
    /// It stopped while nobody watched, or the event that tells has not come yet.
    Unknown,
}

/// What the events said about one container since its last start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Track {
    /// Of the run that ended last, as far as the events have told; ask [`Track::stop_of_run`].
    stop: StopCause,
    /// When the event came that said so.
    stop_told_at: Option<Timestamp>,
    /// A signal that ends a process was sent through Docker since the last start.
    killed_at: Option<Timestamp>,
    /// When the `start` of the run that the events are about was told.
    start_told_at: Option<Timestamp>,
    /// Its last run was begun under an earlier engine and ended by a signal of this one.
    ended_by: Option<EndedBy>,
    pub oom_events: u64,
}

/// The events that matter here. `Other` only makes the container worth a new look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Start,
    /// With whether the signal is one that ends a process.
    Kill {
        ends: bool,
    },
    Stop,
    Die,
    Oom,
    Destroy,
    Other,
}

impl Track {
    /// Nothing is known of it yet.
    pub fn new() -> Self {
        Track {
            stop: StopCause::Unknown,
            stop_told_at: None,
            killed_at: None,
            start_told_at: None,
            ended_by: None,
            oom_events: 0,
        }
    }

    /// Its engine came back and ended its run, or may have: what is told of that end from now on names nobody. Whoever asked for it
    /// before has done so.
    pub fn ended_by(&mut self, by: EndedBy) {
        self.ended_by = Some(by);
    }

    pub fn apply(&mut self, action: Action, at: Timestamp) {
        match action {
            Action::Kill { .. } | Action::Stop | Action::Die if self.ended_by.is_some() => (),
            Action::Start => {
                (self.stop, self.stop_told_at, self.killed_at) = (StopCause::Unknown, None, None);
                self.ended_by = None;
                self.start_told_at = Some(at);
            }
            // Inspect may show it stopped before the `die` that follows is told.
            Action::Kill { ends: true } => {
                self.killed_at = Some(at);
                self.told(StopCause::Requested { at }, at);
            }
            Action::Stop => self.told(StopCause::Requested { at }, at),
            Action::Die => match self.killed_at.filter(|killed_at| works_until(*killed_at, at)) {
                Some(killed_at) => self.told(StopCause::Requested { at: killed_at }, at),
                None => self.told(StopCause::Itself, at),
            },
            Action::Oom => self.oom_events += 1,
            Action::Kill { ends: false } | Action::Destroy | Action::Other => (),
        }
    }

    fn told(&mut self, stop: StopCause, at: Timestamp) {
        (self.stop, self.stop_told_at) = (stop, Some(at));
    }

    /// Who stopped the run that began at `started_at` and ended at `finished_at`. Inspect runs ahead of the events: what they said so far may be about
    /// the run before, and then it is not known yet.
    ///
    /// Docker notes the start time just before it tells of the start, so the two are compared where both are known: how a
    /// run ended says nothing by its time, since the wall clock may have been set back meanwhile.
    pub fn stop_of_run(&self, started_at: Option<Timestamp>, finished_at: Option<Timestamp>) -> StopCause {
        match (self.told_of_run(started_at, finished_at), self.ended_by) {
            (StopCause::Unknown, Some(EndedBy::Engine)) => StopCause::Engine,
            (told, _) => told,
        }
    }

    fn told_of_run(&self, started_at: Option<Timestamp>, finished_at: Option<Timestamp>) -> StopCause {
        let told_at = self.start_told_at.or(self.stop_told_at);
        match (told_at, started_at) {
            (Some(told_at), Some(started_at)) if told_at < started_at => return StopCause::Unknown,
            _ => (),
        }
        match (self.killed_at, finished_at) {
            // The signal is the last that was told, and it was survived: the event of the end is still to come, or lost.
            (Some(killed_at), Some(finished_at))
                if self.stop_told_at == Some(killed_at) && !works_until(killed_at, finished_at) =>
            {
                StopCause::Unknown
            }
            _ => self.stop,
        }
    }

    /// It stopped without an event that was seen.
    pub fn missed_the_end(&mut self) {
        (self.stop, self.stop_told_at) = (StopCause::Unknown, None);
    }
}

/// Whether an end at that moment is owed to a signal before it.
fn works_until(killed_at: Timestamp, ended_at: Timestamp) -> bool {
    ended_at.duration_since(killed_at) <= SIGNAL_WORKS_WITHIN
}

impl Action {
    /// `signal` is the kill event's attribute, a number; `stop_signal` what the container names as its own.
    pub fn parse(action: &str, signal: Option<&str>, stop_signal: Option<&str>) -> Action {
        match action {
            "start" => Action::Start,
            "kill" => Action::Kill { ends: signal.is_none_or(|signal| ends(signal, stop_signal)) },
            "stop" => Action::Stop,
            "die" => Action::Die,
            "oom" => Action::Oom,
            "destroy" => Action::Destroy,
            _ => Action::Other,
        }
    }
}

/// SIGINT, SIGQUIT, SIGKILL, SIGTERM, or the container's own stop signal; SIGHUP, SIGUSR1 and the like ask a process to
/// do something else.
fn ends(signal: &str, stop_signal: Option<&str>) -> bool {
    matches!(signal, "2" | "3" | "9" | "15") || stop_signal.is_some_and(|own| number(own) == Some(signal))
}

/// The numbers of the signals that images use as STOPSIGNAL, by name (signal(7), the same on x86 and arm).
fn number(name: &str) -> Option<&str> {
    let bare = name.strip_prefix("SIG").unwrap_or(name);
    Some(match bare {
        "HUP" => "1",
        "INT" => "2",
        "QUIT" => "3",
        "KILL" => "9",
        "USR1" => "10",
        "USR2" => "12",
        "TERM" => "15",
        "WINCH" => "28",
        "PWR" => "30",
        "RTMIN+3" => "37",
        _ if bare.bytes().all(|byte| byte.is_ascii_digit()) => bare,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp::UNIX_EPOCH;
    const REQUESTED: StopCause = StopCause::Requested { at: AT };

    #[test]
    fn the_cause_of_a_stop_is_told_by_the_events_before_it() {
        let check = |events: &[(&str, Option<&str>)], stop_signal: Option<&str>, expected: StopCause| {
            let mut track = Track::new();
            for (action, signal) in events {
                track.apply(Action::parse(action, *signal, stop_signal), AT);
            }
            assert_eq!(track.stop_of_run(None, None), expected, "{events:?}");
        };
        check(&[], None, StopCause::Unknown); // inspect may show the end before it is told
        check(&[("die", None)], None, StopCause::Itself);
        check(&[("oom", None), ("die", None)], None, StopCause::Itself);
        check(&[("kill", Some("15"))], None, REQUESTED); // the same, in the middle of a stop
        check(&[("kill", Some("15")), ("die", None), ("stop", None)], None, REQUESTED);
        check(&[("kill", Some("15")), ("kill", Some("9")), ("die", None), ("stop", None)], None, REQUESTED);
        check(&[("kill", Some("9")), ("die", None)], None, REQUESTED);
        check(&[("kill", Some("1")), ("die", None)], None, StopCause::Itself); // a reload, then a crash
        check(&[("kill", Some("10")), ("die", None)], Some("SIGUSR1"), REQUESTED);
        check(&[("kill", Some("28")), ("die", None)], Some("SIGWINCH"), REQUESTED);
        check(&[("die", None), ("stop", None)], None, REQUESTED); // the kill was lost in a gap
        check(&[("kill", Some("15")), ("die", None), ("stop", None), ("start", None)], None, StopCause::Unknown);
        check(&[("kill", Some("15")), ("start", None), ("die", None)], None, StopCause::Itself);
    }

    #[test]
    fn what_was_said_of_one_run_says_nothing_of_the_next() {
        let at = |second| Timestamp::from_second(second).unwrap_or(AT);
        let mut track = Track::new();
        track.apply(Action::Start, at(10));
        track.apply(Action::Die, at(20));
        assert_eq!(track.stop_of_run(Some(at(10)), None), StopCause::Itself);
        assert_eq!(track.stop_of_run(Some(at(21)), None), StopCause::Unknown);
        track.apply(Action::Start, at(21));
        track.apply(Action::Kill { ends: true }, at(30));
        assert_eq!(track.stop_of_run(Some(at(21)), None), StopCause::Requested { at: at(30) });
        assert_eq!(track.stop_of_run(Some(at(31)), None), StopCause::Unknown);
    }

    #[test]
    fn the_clock_may_be_set_back_during_a_run() {
        let at = |second| Timestamp::from_second(second).unwrap_or(AT);
        let mut track = Track::new();
        track.apply(Action::Start, at(3_600));
        track.apply(Action::Die, at(60));
        assert_eq!(track.stop_of_run(Some(at(3_599)), None), StopCause::Itself);
    }

    #[test]
    fn a_signal_that_was_survived_does_not_explain_a_crash_much_later() {
        let at = |second| Timestamp::from_second(second).unwrap_or(AT);
        let killed = || {
            let mut track = Track::new();
            track.apply(Action::Start, at(0));
            track.apply(Action::Kill { ends: true }, at(10));
            track
        };
        let requested = StopCause::Requested { at: at(10) };
        let mut soon = killed();
        soon.apply(Action::Die, at(600));
        assert_eq!(soon.stop_of_run(Some(at(0)), Some(at(600))), requested);
        let mut late = killed();
        // Inspect may show the end before it is told.
        assert_eq!(late.stop_of_run(Some(at(0)), Some(at(600))), requested);
        assert_eq!(late.stop_of_run(Some(at(0)), Some(at(3_600))), StopCause::Unknown);
        late.apply(Action::Die, at(3_600));
        assert_eq!(late.stop_of_run(Some(at(0)), Some(at(3_600))), StopCause::Itself);
        // It was a `docker stop` that granted an hour.
        late.apply(Action::Stop, at(3_600));
        assert_eq!(late.stop_of_run(Some(at(0)), Some(at(3_600))), StopCause::Requested { at: at(3_600) });
    }

    #[test]
    fn what_an_engine_ends_on_its_return_nobody_has_asked_for() {
        let at = |second| Timestamp::from_second(second).unwrap_or(AT);
        let check = |before: &[(&str, i64)], by: EndedBy, started_at: i64, expected: StopCause| {
            let mut track = Track::new();
            for (action, second) in before {
                track.apply(Action::parse(action, None, None), at(*second));
            }
            track.ended_by(by);
            for (action, second) in [("kill", 50), ("die", 51), ("stop", 51)] {
                track.apply(Action::parse(action, None, None), at(second));
            }
            assert_eq!(track.stop_of_run(Some(at(started_at)), Some(at(51))), expected, "{before:?} {started_at}");
            // What is started again is anybody's to stop.
            track.apply(Action::Start, at(60));
            assert_eq!(track.stop_of_run(Some(at(60)), None), StopCause::Unknown);
            track.apply(Action::Kill { ends: true }, at(70));
            assert_eq!(track.stop_of_run(Some(at(60)), None), StopCause::Requested { at: at(70) });
        };
        check(&[], EndedBy::Engine, 10, StopCause::Engine);
        check(&[], EndedBy::Unclear, 10, StopCause::Unknown);
        check(&[("start", 10)], EndedBy::Engine, 10, StopCause::Engine);
        // Somebody had asked for its stop, and the engine was killed over it.
        check(&[("start", 10), ("kill", 40)], EndedBy::Engine, 10, StopCause::Requested { at: at(40) });
        check(&[("kill", 40)], EndedBy::Unclear, 10, StopCause::Requested { at: at(40) });
        // It had been restarted, and its new start was not told any more.
        check(&[("start", 10), ("kill", 40), ("die", 42)], EndedBy::Engine, 43, StopCause::Engine);
        check(&[("kill", 40), ("die", 42), ("stop", 42)], EndedBy::Engine, 43, StopCause::Engine);
        check(&[("kill", 40), ("die", 42), ("start", 43)], EndedBy::Engine, 43, StopCause::Engine);
    }

    #[test]
    fn a_container_found_stopped_is_nobodys_until_it_starts() {
        let mut track = Track::new();
        assert_eq!(track.stop_of_run(None, None), StopCause::Unknown);
        track.apply(Action::Start, AT);
        track.apply(Action::Die, AT);
        assert_eq!(track.stop_of_run(None, None), StopCause::Itself);
    }
}
