//! Messages that scripts and agents send to the owner's phone: through Alertmanager, so that they are delivered by what delivers
//! the rest, and directly to Telegram when it can't be had.
//!
//! For Alertmanager a message is an alert of its own, `NexusMessage`, with a label that no other has: so it is a group of its
//! own and delivered once. It ends by itself after [`alertmanager::LIFE`], or so long after the quiet hours that hold it back; until then Alertmanager goes on trying. Its
//! `severity` is `none`, so that it is no alarm for the rules, dashboards and reports that go by it; how grave the sender calls
//! it stands in `level`.

mod alertmanager;
mod message;
mod window;

use jiff::{Timestamp, tz::TimeZone};
use reqwest::Client;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;
use uuid::Uuid;

pub use alertmanager::AlertmanagerError;
pub use message::{INPUT_LIMIT, Message, MessageWanted, Severity, TEXT_LIMIT, TITLE_LIMIT, WrongMessage};
pub use nexus_telegram::{Bot, TelegramError};
pub use window::{Window, WrongWindow};

/// Whether there is a bot that can be told.
#[derive(Debug)]
pub enum Telegram {
    On(Bot),
    /// It is not set up, so that Alertmanager has nobody to tell either.
    Off,
    /// It can't be known here, since the token can't be read, and this is why.
    Unknown(String),
}

#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    #[error(
        "nobody would get the message, since Telegram is off: ./nexus telegram setup switches it on (NEXUS_TELEGRAM_CHAT_ID in .env \
         and secrets/telegram_bot_token)"
    )]
    Off,
    #[error("the message was not delivered: {alertmanager}; and Telegram can't be asked directly: {reason}")]
    NoToken { alertmanager: AlertmanagerError, reason: String },
    #[error("the message was not delivered: {alertmanager}; and directly")]
    Both {
        alertmanager: AlertmanagerError,
        #[source]
        telegram: TelegramError,
    },
    #[error("preparing to talk to alertmanager")]
    Client(#[source] reqwest::Error),
}

/// Which way a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Alertmanager has it, and delivers it.
    Alertmanager,
    /// Telegram has it.
    Telegram,
}

/// Answer to `POST /api/v1/notify`, and what `nexus notify` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Delivery {
    #[schemars(with = "String", extend("format" = "uuid"))]
    pub id: Uuid,
    pub way: Way,
    /// The text was longer than a message can be, and its end is missing.
    pub cut: bool,
    /// Why it did not go through Alertmanager, if it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Sends messages.
#[derive(Debug)]
pub struct Notifier {
    client: Client,
    alertmanager: Url,
    host: String,
    telegram: Telegram,
    quiet: Option<Quiet>,
}

/// When only what is critical is told, by whose clock.
#[derive(Clone, Debug)]
pub struct Quiet {
    pub window: Window,
    pub zone: TimeZone,
}

impl Notifier {
    /// `alertmanager` is its base address, `host` the name of this machine in messages.
    pub fn new(
        alertmanager: Url,
        host: String,
        telegram: Telegram,
        quiet: Option<Quiet>,
    ) -> Result<Notifier, NotifyError> {
        let client = Client::builder()
            // It is a neighbour; a proxy for the world must not come in between.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(NotifyError::Client)?;
        Ok(Notifier { client, alertmanager, host, telegram, quiet })
    }

    /// Gets a message on its way: through Alertmanager, or else to Telegram itself. With the same `id` again it is still one
    /// message, as far as Alertmanager goes.
    pub async fn deliver(&self, message: &Message, id: Uuid, now: Timestamp) -> Result<Delivery, NotifyError> {
        if matches!(self.telegram, Telegram::Off) {
            return Err(NotifyError::Off);
        }
        let cut = message.cut;
        let waits = self.quiet.as_ref().filter(|_| message.severity != Severity::Critical);
        let from = waits.and_then(|quiet| quiet.window.ends(now, &quiet.zone)).unwrap_or(now);
        let alert = alertmanager::alert(message, &self.host, id, now, from);
        let Err(error) = alertmanager::post(&self.client, &self.alertmanager, &alert).await else {
            return Ok(Delivery { id, way: Way::Alertmanager, cut, reason: None });
        };
        match &self.telegram {
            Telegram::On(bot) => match bot.send(&message.html(&self.host)).await {
                Ok(()) => Ok(Delivery { id, way: Way::Telegram, cut, reason: Some(error.to_string()) }),
                Err(telegram) => Err(NotifyError::Both { alertmanager: error, telegram }),
            },
            Telegram::Unknown(reason) => Err(NotifyError::NoToken { alertmanager: error, reason: reason.clone() }),
            Telegram::Off => Err(NotifyError::Off),
        }
    }
}

#[cfg(test)]
mod tests;
