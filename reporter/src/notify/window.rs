//! A part of each day, such as the hours in which nobody is to be woken. Pure.

use jiff::{Timestamp, civil::Time, tz::TimeZone};

/// From one time to another, over midnight where the second is before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    from: Time,
    to: Time,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongWindow {
    #[error("must be two times such as 22:00-07:00")]
    NoTimes,
    #[error("must end at another time than it begins")]
    Empty,
}

impl std::str::FromStr for Window {
    type Err = WrongWindow;

    fn from_str(text: &str) -> Result<Self, WrongWindow> {
        let (from, to) = text.split_once('-').ok_or(WrongWindow::NoTimes)?;
        let (from, to) = (time(from).ok_or(WrongWindow::NoTimes)?, time(to).ok_or(WrongWindow::NoTimes)?);
        if from == to { Err(WrongWindow::Empty) } else { Ok(Window { from, to }) }
    }
}

/// `HH:MM`, all four digits.
fn time(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str| -> Option<i8> {
        (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
    };
    Time::new(number(hour)?, number(minute)?, 0, 0).ok()
}

impl Window {
    pub fn from(&self) -> String {
        self.from.strftime("%H:%M").to_string()
    }

    pub fn to(&self) -> String {
        self.to.strftime("%H:%M").to_string()
    }

    /// Up to midnight is not over it.
    pub fn is_over_midnight(&self) -> bool {
        self.to < self.from && self.to != Time::midnight()
    }

    /// When it ends, if `now` is within it.
    pub fn ends(&self, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let local = now.to_zoned(zone.clone());
        let time = local.time();
        let is_within =
            if self.from < self.to { self.from <= time && time < self.to } else { self.from <= time || time < self.to };
        if !is_within {
            return None;
        }
        let day = if time < self.to { local.date() } else { local.date().tomorrow().ok()? };
        // A time that the clock leaps over in spring is taken as an hour later.
        Some(day.to_datetime(self.to).to_zoned(zone.clone()).ok()?.timestamp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_ones_are_told() {
        let check = |text: &str, wrong: WrongWindow| assert_eq!(text.parse::<Window>(), Err(wrong), "{text}");
        for text in [
            "",
            "22:00",
            "22-7",
            "24:00-07:00",
            "22:60-07:00",
            "2:00-07:00",
            "22:00 - 07:00",
            "+1:00-07:00",
            "22:00-07:00-08:00",
        ] {
            check(text, WrongWindow::NoTimes);
        }
        check("07:00-07:00", WrongWindow::Empty);
    }

    #[test]
    fn it_is_known_when_it_ends() {
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        let check = |window: &str, now: &str, end: Option<&str>| {
            let found = window.parse::<Window>().unwrap().ends(now.parse().unwrap(), &zone);
            assert_eq!(found, end.map(|end| end.parse().unwrap()), "{window} {now}");
        };
        check("22:00-07:00", "2026-03-02T20:59:59Z", None);
        check("22:00-07:00", "2026-03-02T21:00:00Z", Some("2026-03-03T06:00:00Z"));
        check("22:00-07:00", "2026-03-03T05:59:00Z", Some("2026-03-03T06:00:00Z"));
        check("22:00-07:00", "2026-03-03T06:00:00Z", None);
        check("03:00-04:00", "2026-03-03T02:30:00Z", Some("2026-03-03T03:00:00Z"));
        check("03:00-04:00", "2026-03-03T03:30:00Z", None);
        check("22:00-00:00", "2026-03-02T22:59:00Z", Some("2026-03-02T23:00:00Z"));
    }

    #[test]
    fn midnight_is_no_other_day() {
        let check =
            |text: &str, over: bool| assert_eq!(text.parse::<Window>().unwrap().is_over_midnight(), over, "{text}");
        check("22:00-07:00", true);
        check("22:00-00:00", false);
        check("03:00-04:00", false);
    }
}
