//! Telegram's Bot API, as far as Nexus needs it: sending a message when Alertmanager can't be had, and finding the chat that is to get
//! them. Alertmanager speaks to Telegram by itself.
//!
//! The token is part of each address, so no error here holds one, and what Telegram says is made plain before it is shown.
//!
//! What this does not do: decide what is sent, when and how often, or split long texts.

mod flags;
mod setup;

use std::time::{Duration, Instant};

use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

pub use flags::TelegramFlags;
pub use setup::{Chat, Me, Update};

/// Where it is, but for tests.
pub const API: &str = "https://api.telegram.org";
/// For one request, which may go around the world.
const DEADLINE: Duration = Duration::from_secs(10);
/// For all tries of [`Bot::send`]: whoever waits for a script's end does not want to wait longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Before the second try, then doubled.
const PAUSE: Duration = Duration::from_secs(1);
/// Tries of what may pass: time-outs and its own errors.
const TRIES: u32 = 4;
/// The most that is read of an answer. Telegram repeats the message that it took: 4096 characters, of which JSON makes six bytes each, and
/// as many of what it answers to. What is longer is no answer of Telegram's, and a program of 15 MB must not keep it.
const ANSWER_LIMIT: usize = 256 << 10;
/// What is shown of Telegram's words.
const DESCRIPTION_LIMIT: usize = 200;

/// None of them holds the token.
#[derive(Debug, thiserror::Error)]
pub enum TelegramError {
    #[error("telegram can't be reached")]
    Unreachable(#[source] reqwest::Error),
    #[error("telegram asks to wait {seconds} s before the next message: try again then")]
    TooMany { seconds: u64 },
    #[error("telegram does not know the bot's token: put the right one into secrets/telegram_bot_token")]
    Token,
    #[error("telegram refuses the message with {status}: {description}")]
    Refused { status: u16, description: String },
    #[error("telegram is not well, it answers {status}: {description}")]
    Unwell { status: u16, description: String, after: Option<u64> },
    #[error("the answer of telegram is longer than {} kB: something else may answer in its place", limit >> 10)]
    TooLong { limit: usize },
    #[error("the answer of telegram can't be understood")]
    Nonsense(#[source] serde_json::Error),
}

impl TelegramError {
    /// How long to wait before another try may do; `None` where it would come to the same.
    pub fn again_after(&self, pause: Duration) -> Option<Duration> {
        match self {
            TelegramError::TooMany { seconds } => Some(Duration::from_secs(*seconds)),
            TelegramError::Unwell { after, .. } => Some(after.map_or(pause, Duration::from_secs)),
            TelegramError::Unreachable(_) | TelegramError::TooLong { .. } => Some(pause),
            TelegramError::Token | TelegramError::Refused { .. } | TelegramError::Nonsense(_) => None,
        }
    }
}

/// A bot, by its token.
#[derive(Clone)]
pub struct Api {
    address: String,
    token: String,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("address", &self.address).finish_non_exhaustive()
    }
}

/// What every answer has.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    ok: bool,
    description: String,
    parameters: Parameters,
    result: Value,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Parameters {
    retry_after: Option<u64>,
}

impl Api {
    /// `address` is [`API`], but for tests.
    pub fn new(address: &str, token: &str) -> Api {
        Api { address: address.trim_end_matches('/').to_owned(), token: token.to_owned() }
    }

    /// One try, of whose answer so many bytes are read at most.
    async fn call(&self, method: &str, body: &Value, deadline: Duration, limit: usize) -> Result<Value, TelegramError> {
        // Made for each call, since calls are hours apart. The way may lead through a proxy: the environment says so.
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(deadline).build();
        let client = client.map_err(|error| TelegramError::Unreachable(error.without_url()))?;
        let answer = client.post(format!("{}/bot{}/{method}", self.address, self.token)).json(body).send().await;
        let answer = answer.map_err(|error| TelegramError::Unreachable(error.without_url()))?;
        let status = answer.status();
        let said: Answer = serde_json::from_slice(&read(answer, limit).await?).unwrap_or_default();
        if status.is_success() && said.ok {
            return Ok(said.result);
        }
        let description: String =
            nexus_model::plain::plain(&said.description).chars().take(DESCRIPTION_LIMIT).collect();
        let after = said.parameters.retry_after;
        Err(match status {
            StatusCode::TOO_MANY_REQUESTS => TelegramError::TooMany { seconds: after.unwrap_or(PAUSE.as_secs()) },
            StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND => TelegramError::Token,
            // Also what is no answer of Telegram's: of a proxy or a captive portal.
            status if status.is_server_error() || !status.is_client_error() => {
                TelegramError::Unwell { status: status.as_u16(), description, after }
            }
            status => TelegramError::Refused { status: status.as_u16(), description },
        })
    }
}

/// The whole answer, or as much as has come of one that breaks off: what its status says holds all the same.
async fn read(mut answer: Response, limit: usize) -> Result<Vec<u8>, TelegramError> {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        if bytes.len() + chunk.len() > limit {
            return Err(TelegramError::TooLong { limit });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The bot, and the chat that it writes to.
#[derive(Clone, Debug)]
pub struct Bot {
    api: Api,
    chat_id: String,
}

impl Bot {
    /// `address` is [`API`], but for tests.
    pub fn new(address: &str, token: &str, chat_id: &str) -> Bot {
        Bot { api: Api::new(address, token), chat_id: chat_id.to_owned() }
    }

    /// `sendMessage`, once.
    pub async fn send_once(&self, html: &str) -> Result<(), TelegramError> {
        let body = json!({
            "chat_id": self.chat_id,
            "text": html,
            "parse_mode": "HTML",
            "link_preview_options": {"is_disabled": true},
        });
        self.api.call("sendMessage", &body, DEADLINE, ANSWER_LIMIT).await.map(drop)
    }

    /// `sendMessage`, again and again while it may help and Telegram does not ask for more patience than there is.
    pub async fn send(&self, html: &str) -> Result<(), TelegramError> {
        let (began, mut pause) = (Instant::now(), PAUSE);
        let mut tries = 0;
        loop {
            let Err(error) = self.send_once(html).await else { return Ok(()) };
            tries += 1;
            match error.again_after(pause) {
                Some(wait) if tries < TRIES && began.elapsed() + wait <= PATIENCE => tokio::time::sleep(wait).await,
                _ => return Err(error),
            }
            pause *= 2;
        }
    }
}

/// For parse_mode HTML: Telegram knows these three, and counts them after they are parsed.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// So many characters at most, the last of them an ellipsis where something is missing.
pub fn shorten(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    text.chars().take(limit.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests;
