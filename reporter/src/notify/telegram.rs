//! Telegram's Bot API, as far as a message needs it when Alertmanager can't be had.

use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode};
use serde::Deserialize;
use serde_json::json;

/// For one request, which may go around the world.
const DEADLINE: Duration = Duration::from_secs(10);
/// For all tries together: whoever waits for a script's end does not want to wait longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Before the second try, then doubled.
const PAUSE: Duration = Duration::from_secs(1);
/// Tries of what may pass: time-outs and its own errors.
const TRIES: u32 = 4;

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
}

/// The bot, and the chat that it writes to.
pub struct Bot {
    api: String,
    token: String,
    chat_id: String,
}

impl std::fmt::Debug for Bot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bot").field("api", &self.api).field("chat_id", &self.chat_id).finish_non_exhaustive()
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    ok: bool,
    description: String,
    parameters: Parameters,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Parameters {
    retry_after: Option<u64>,
}

/// What one try came to.
enum Tried {
    Sent,
    /// Another try may do.
    Again {
        after: Option<u64>,
        error: TelegramError,
    },
    Failed(TelegramError),
}

impl Bot {
    /// `api` is https://api.telegram.org, but for tests.
    pub fn new(api: &str, token: &str, chat_id: &str) -> Bot {
        Bot { api: api.trim_end_matches('/').to_owned(), token: token.to_owned(), chat_id: chat_id.to_owned() }
    }

    /// `sendMessage`, again and again while it may help and Telegram does not ask for more patience than there is.
    pub async fn send(&self, html: &str) -> Result<(), TelegramError> {
        // The way to it may lead through a proxy: the environment says so.
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(DEADLINE).build();
        let client = client.map_err(|error| TelegramError::Unreachable(error.without_url()))?;
        let (began, mut pause) = (Instant::now(), PAUSE);
        let mut tries = 0;
        loop {
            tries += 1;
            let (after, error) = match self.once(&client, html).await {
                Tried::Sent => return Ok(()),
                Tried::Failed(error) => return Err(error),
                Tried::Again { after, error } => (after.map(Duration::from_secs), error),
            };
            let wait = after.unwrap_or(pause);
            if tries >= TRIES || began.elapsed() + wait > PATIENCE {
                return Err(error);
            }
            tokio::time::sleep(wait).await;
            pause *= 2;
        }
    }

    async fn once(&self, client: &Client, html: &str) -> Tried {
        let body = json!({
            "chat_id": self.chat_id,
            "text": html,
            "parse_mode": "HTML",
            "link_preview_options": {"is_disabled": true},
        });
        let answer = client.post(format!("{}/bot{}/sendMessage", self.api, self.token)).json(&body).send().await;
        let answer = match answer {
            Ok(answer) => answer,
            // The address holds the token.
            Err(error) => return Tried::Again { after: None, error: TelegramError::Unreachable(error.without_url()) },
        };
        let status = answer.status();
        let said: Answer = answer.json().await.unwrap_or_default();
        if status.is_success() && said.ok {
            return Tried::Sent;
        }
        let description: String = nexus_model::plain::plain(&said.description).chars().take(200).collect();
        let refused = TelegramError::Refused { status: status.as_u16(), description };
        match (status, said.parameters.retry_after) {
            (StatusCode::TOO_MANY_REQUESTS, after) => {
                let seconds = after.unwrap_or(PAUSE.as_secs());
                Tried::Again { after: Some(seconds), error: TelegramError::TooMany { seconds } }
            }
            (status, after) if status.is_server_error() => Tried::Again { after, error: refused },
            (StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND, _) => Tried::Failed(TelegramError::Token),
            _ => Tried::Failed(refused),
        }
    }
}
