//! Maintenance windows: when an owner is at work on a service and nothing is to be healed, in local time.

use std::fmt;

use jiff::{
    Timestamp, ToSpan,
    civil::{Date, Time, Weekday},
    tz::{AmbiguousZoned, TimeZone},
};

use crate::{amount, policy::Given};

const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const LONG_NAMES: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// Days of the week; a bit each, Monday the lowest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Days(u8);

impl Days {
    pub const ALL: Days = Days(0b111_1111);

    fn contains(self, day: Weekday) -> bool {
        self.0 & (1 << day.to_monday_zero_offset()) != 0
    }

    /// `sat,sun`, `mon-fri`, `fri-mon` or `daily`.
    pub fn parse(text: &str) -> Result<Days, String> {
        let wrong = |part: &str| {
            format!("\"{}\" is no day; write mon, tue, wed, thu, fri, sat, sun, mon-fri or daily", amount::shown(part))
        };
        let mut days = Days(0);
        for part in text.split(',').map(str::trim) {
            if part.eq_ignore_ascii_case("daily") {
                days = Days::ALL;
                continue;
            }
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (Some(first), Some(last)) = (day(first), day(last)) else { return Err(wrong(part)) };
            let mut next = first;
            loop {
                days.0 |= 1 << next;
                if next == last {
                    break;
                }
                next = (next + 1) % 7;
            }
        }
        Ok(days)
    }

    pub fn and(self, other: Days) -> Days {
        Days(self.0 | other.0)
    }

    pub const NONE: Days = Days(0);
}

fn day(text: &str) -> Option<usize> {
    let text = text.trim().to_ascii_lowercase();
    (0..7).find(|&day| NAMES[day] == text || LONG_NAMES[day] == text)
}

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Days::ALL {
            return f.write_str("daily");
        }
        let names: Vec<&str> = (0..7).filter(|day| self.0 & (1 << day) != 0).map(|day| NAMES[day]).collect();
        f.write_str(&names.join(","))
    }
}

impl fmt::Debug for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A time of the day; 24:00 is the end of it.
pub fn time(text: &str) -> Result<Clock, String> {
    let wrong = || format!("\"{}\" is no time of the day; write it as 02:00", amount::shown(text));
    let (hours, minutes) = text.trim().split_once(':').ok_or_else(wrong)?;
    let digits = |part: &str| part.len() <= 2 && !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(hours) || minutes.len() != 2 || !digits(minutes) {
        return Err(wrong());
    }
    let (hours, minutes): (i8, i8) = (hours.parse().map_err(|_| wrong())?, minutes.parse().map_err(|_| wrong())?);
    match (hours, minutes) {
        (24, 0) => Ok(Clock { time: Time::midnight(), next_day: true }),
        _ => Time::new(hours, minutes, 0, 0).map(|time| Clock { time, next_day: false }).map_err(|_| wrong()),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    time: Time,
    next_day: bool,
}

/// From one time of the day to another, over midnight where the second is not the later one; the days are those it begins on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    days: Days,
    from: Time,
    to: Clock,
}

impl Window {
    pub fn new(days: Days, from: Clock, to: Clock) -> Result<Window, String> {
        if from.next_day {
            return Err("24:00 is no time to begin; write 00:00 and the day after".to_owned());
        }
        // The same time twice is a whole day.
        let next_day = to.next_day || to.time <= from.time;
        Ok(Window { days, from: from.time, to: Clock { next_day, ..to } })
    }

    /// `sat,sun 02:00-04:00`, or without days for each day.
    pub fn parse(text: &str) -> Result<Window, String> {
        let text = text.trim();
        let (days, times) = text.rsplit_once(char::is_whitespace).unwrap_or(("daily", text));
        let (from, to) = times
            .split_once('-')
            .ok_or_else(|| format!("\"{}\" is no window; write it as \"sat,sun 02:00-04:00\"", amount::shown(text)))?;
        Window::new(Days::parse(days)?, time(from)?, time(to)?)
    }

    /// The end of the window that holds at this moment, if one does. Where clocks are changed in it, it lasts at least as long
    /// as it would on another day: an hour that exists twice counts twice, and one that is left out is taken before.
    pub fn holds_until(&self, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let today = now.to_zoned(zone.clone()).date();
        let begins = [today.yesterday().ok(), Some(today)];
        begins.into_iter().flatten().filter(|date| self.days.contains(date.weekday())).find_map(|date| {
            let from = at(zone, date, self.from, AmbiguousZoned::earlier)?;
            let end = if self.to.next_day { date.checked_add(1.day()).ok()? } else { date };
            let to = at(zone, end, self.to.time, AmbiguousZoned::later)?;
            (from <= now && now < to).then_some(to)
        })
    }
}

fn at(
    zone: &TimeZone,
    date: Date,
    time: Time,
    choose: fn(AmbiguousZoned) -> Result<jiff::Zoned, jiff::Error>,
) -> Option<Timestamp> {
    choose(zone.to_ambiguous_zoned(date.to_datetime(time))).ok().map(|zoned| zoned.timestamp())
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.from.strftime("%H:%M"), self.to.time.strftime("%H:%M"));
        write!(f, "{} {from}-{to}", self.days)
    }
}

/// The windows that a level of the policy, or a label, names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Maintenance {
    /// `none` was written: those of the levels above don't count here.
    pub alone: Option<Given<()>>,
    pub windows: Vec<Given<Window>>,
}

/// What a label says: windows separated by `;`, or `none`. Without lines.
pub fn of_label(text: &str) -> Result<Maintenance, String> {
    let mut maintenance = Maintenance::default();
    for part in text.split(';').map(str::trim) {
        if part.eq_ignore_ascii_case("none") {
            maintenance.alone = Some(Given { value: (), line: 0 });
        } else {
            maintenance.windows.push(Given { value: Window::parse(part)?, line: 0 });
        }
    }
    Ok(maintenance)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn berlin() -> TimeZone {
        TimeZone::get("Europe/Berlin").unwrap()
    }

    fn until(window: &str, now: &str) -> Option<String> {
        let end = Window::parse(window).unwrap().holds_until(now.parse().unwrap(), &berlin());
        end.map(|end| end.to_string())
    }

    #[test]
    fn a_window_holds_from_its_beginning_to_before_its_end() {
        // A Saturday; summer time, two hours ahead.
        let check = |now: &str, expected: Option<&str>| {
            assert_eq!(until("sat,sun 02:00-04:00", now).as_deref(), expected, "{now}");
        };
        check("2026-07-04T00:00:00Z", Some("2026-07-04T02:00:00Z"));
        check("2026-07-03T23:59:59Z", None);
        check("2026-07-04T01:59:59Z", Some("2026-07-04T02:00:00Z"));
        check("2026-07-04T02:00:00Z", None);
        check("2026-07-05T00:30:00Z", Some("2026-07-05T02:00:00Z"));
        check("2026-07-06T00:30:00Z", None);
    }

    #[test]
    fn over_midnight_the_day_is_that_of_the_beginning() {
        let check = |now: &str, expected: Option<&str>| {
            assert_eq!(until("fri 23:00-01:00", now).as_deref(), expected, "{now}");
        };
        check("2026-07-03T21:30:00Z", Some("2026-07-03T23:00:00Z"));
        check("2026-07-03T22:30:00Z", Some("2026-07-03T23:00:00Z"));
        check("2026-07-03T23:00:00Z", None);
        check("2026-07-02T22:30:00Z", None);
        check("2026-07-04T21:30:00Z", None);
        // The whole day, and to its end.
        assert_eq!(until("sun 00:00-00:00", "2026-07-05T12:00:00Z").as_deref(), Some("2026-07-05T22:00:00Z"));
        assert_eq!(until("sun 12:00-24:00", "2026-07-05T12:00:00Z").as_deref(), Some("2026-07-05T22:00:00Z"));
    }

    #[test]
    fn a_change_of_the_clocks_makes_no_window_shorter() {
        // On 29 March 2026 02:00 becomes 03:00: the hour is taken before.
        let spring = |now: &str| until("daily 02:00-03:00", now);
        assert_eq!(spring("2026-03-29T00:30:00Z").as_deref(), Some("2026-03-29T01:00:00Z"));
        assert_eq!(spring("2026-03-29T01:00:00Z"), None);
        assert_eq!(until("daily 02:30-03:30", "2026-03-29T01:10:00Z").as_deref(), Some("2026-03-29T01:30:00Z"));
        // On 25 October 2026 03:00 becomes 02:00: the hour from two to three exists twice, and both count.
        let autumn = |now: &str| until("daily 02:15-02:45", now);
        assert_eq!(autumn("2026-10-25T00:15:00Z").as_deref(), Some("2026-10-25T01:45:00Z"));
        assert_eq!(autumn("2026-10-25T01:30:00Z").as_deref(), Some("2026-10-25T01:45:00Z"));
        assert_eq!(autumn("2026-10-25T01:45:00Z"), None);
        assert_eq!(autumn("2026-10-25T00:14:59Z"), None);
    }

    #[test]
    fn windows_are_read_and_shown() {
        for (text, shown) in [
            ("sat,sun 02:00-04:00", "sat,sun 02:00-04:00"),
            ("02:00-04:00", "daily 02:00-04:00"),
            ("mon-fri 2:00-04:00", "mon,tue,wed,thu,fri 02:00-04:00"),
            ("Saturday 22:00-24:00", "sat 22:00-00:00"),
            ("sat-mon 22:00-06:00", "mon,sat,sun 22:00-06:00"),
            (" daily  02:00-04:00 ", "daily 02:00-04:00"),
        ] {
            assert_eq!(Window::parse(text).map(|window| window.to_string()).as_deref(), Ok(shown), "{text}");
        }
        for wrong in [
            "",
            "sat",
            "02:00",
            "sat 02-04",
            "sat 25:00-26:00",
            "sat 02:60-03:00",
            "foo 02:00-03:00",
            "sat 24:00-02:00",
            "sat, 02:00-03:00",
            "sat 02:00-03:00-04:00",
            "sat 2:0-3:00",
            "+1:00-02:00",
        ] {
            assert!(Window::parse(wrong).is_err(), "{wrong}");
        }
        let label = of_label("none; sat 02:00-04:00").unwrap();
        assert!(label.alone.is_some() && label.windows.len() == 1);
        assert!(of_label("sat 02:00-04:00;").is_err());
    }
}
