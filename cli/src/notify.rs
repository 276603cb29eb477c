//! `nexus notify`: a message from a script to the owner's phone.

use std::io::{self, Read};

use anyhow::{Context, Result};
use jiff::Timestamp;
use nexus_reporter::notify::{
    Bot, Delivery, INPUT_LIMIT, Message, MessageWanted, Notifier, NotifyError, Quiet, Severity, Telegram, Way,
};
use uuid::Uuid;

use crate::failure::mistake;
use crate::home::Home;
use crate::text::plain;
use crate::{config, secrets};

/// The message from the command line; `-` for the text reads stdin.
pub fn wanted(
    title: String,
    text: Option<String>,
    severity: Severity,
    project: Option<String>,
) -> Result<MessageWanted> {
    let text = match text.as_deref() {
        Some("-") => Some(read(io::stdin().lock()).context("cannot read the text from stdin")?),
        _ => text,
    };
    Ok(MessageWanted { title, text, severity, project })
}

/// The beginning of it. The rest is read as well, so that whoever writes it does not break off.
fn read(mut input: impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    input.by_ref().take(INPUT_LIMIT as u64).read_to_end(&mut bytes)?;
    io::copy(&mut input, &mut io::sink())?;
    // What is no UTF-8, or was cut within a character, becomes a mark of three bytes for each one.
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    text.truncate(text.floor_char_boundary(INPUT_LIMIT));
    Ok(text)
}

/// Gets it on its way.
pub async fn send(home: &Home, wanted: MessageWanted) -> Result<Delivery> {
    let message = Message::new(wanted).map_err(|wrong| mistake(wrong.to_string()))?;
    let sent = notifier(home)?.deliver(&message, Uuid::now_v7(), Timestamp::now()).await;
    sent.map_err(|error| match error {
        NotifyError::Off => mistake(error.to_string()),
        error => error.into(),
    })
}

/// One that knows what the settings say.
pub fn notifier(home: &Home) -> Result<Notifier> {
    let base = home.url("NEXUS_ALERTMANAGER_PORT");
    let base = base.parse().with_context(|| format!("{base} is no address of Alertmanager"))?;
    let quiet = match config::window(home, "NEXUS_QUIET_HOURS")? {
        Some(window) => {
            let name = home.get("NEXUS_TIMEZONE");
            let zone = jiff::tz::TimeZone::get(name).with_context(|| format!("{name} is no time zone"))?;
            Some(Quiet { window, zone })
        }
        None => None,
    };
    Ok(Notifier::new(base, home.get("NEXUS_HOST").to_owned(), telegram(home)?, quiet)?)
}

fn telegram(home: &Home) -> Result<Telegram> {
    // The token is its owner's alone, and Alertmanager has a copy of it: other users' scripts are told of by the latter.
    let token = match secrets::telegram_token(&home.secrets()) {
        Ok(token) => token,
        Err(error) if error.chain().any(is_denied) => {
            return Ok(Telegram::Unknown("the bot's token belongs to who ran ./nexus up".to_owned()));
        }
        Err(error) => return Err(error),
    };
    match (config::telegram(home)?, token) {
        (Some(chat), Some(token)) => Ok(Telegram::On(Bot::new(home.get("NEXUS_TELEGRAM_API_URL"), &token, &chat))),
        _ => Ok(Telegram::Off),
    }
}

fn is_denied(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// One line for people.
pub fn told(delivery: &Delivery) -> String {
    let way = match (delivery.way, &delivery.reason) {
        (Way::Alertmanager, _) => "sent through Alertmanager".to_owned(),
        (Way::Telegram, None) => "sent to Telegram directly".to_owned(),
        (Way::Telegram, Some(reason)) => format!("sent to Telegram directly: {}", plain(reason)),
    };
    let cut = if delivery.cut { ", without the end of its text, which is too long" } else { "" };
    format!("{way}{cut}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_piped_in_is_read_to_its_end_and_kept_at_its_beginning() {
        let mut log = io::Cursor::new("ä".repeat(INPUT_LIMIT).into_bytes());
        let text = read(&mut log).unwrap();
        assert!(text.len() <= INPUT_LIMIT && text.starts_with("ää"), "{}", text.len());
        assert_eq!(log.position(), 2 * INPUT_LIMIT as u64);
        let binary = read(&[0xff_u8; INPUT_LIMIT][..]).unwrap();
        assert!(binary.len() <= INPUT_LIMIT && binary.starts_with('\u{fffd}'));
    }

    #[test]
    fn the_settings_say_whether_there_is_a_bot() {
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("secrets/telegram_bot_token");
        std::fs::create_dir(folder.path().join("secrets")).unwrap();
        let of = |env: &str| telegram(&Home::for_test(folder.path(), env));
        assert!(matches!(of("").unwrap(), Telegram::Off));
        std::fs::write(&token, "12345678:AAbbCCddEEffGGhhIIjjKK").unwrap();
        assert!(matches!(of("NEXUS_TELEGRAM_CHAT_ID=-100\n").unwrap(), Telegram::On(_)));
        // Half of it is a mistake, as for ./nexus up.
        assert!(of("").unwrap_err().to_string().contains("NEXUS_TELEGRAM_CHAT_ID is empty"));
    }

    #[test]
    fn it_is_said_which_way_it_went() {
        let delivery = |way, cut, reason: Option<&str>| {
            told(&Delivery { id: Uuid::nil(), way, cut, reason: reason.map(str::to_owned) })
        };
        assert_eq!(delivery(Way::Alertmanager, false, None), "sent through Alertmanager\n");
        assert_eq!(
            delivery(Way::Telegram, true, Some("alertmanager does not answer")),
            "sent to Telegram directly: alertmanager does not answer, without the end of its text, which is too long\n"
        );
    }
}
