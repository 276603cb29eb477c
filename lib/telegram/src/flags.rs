//! The flags of a program that tells Telegram itself while Alertmanager is away: healer and reporter have the same.

use std::path::{Path, PathBuf};

use clap::Args;
use nexus_web::{Secret, SecretError};

use crate::{API, Bot};

#[derive(Clone, Debug, Args)]
pub struct TelegramFlags {
    /// File with the token of the Telegram bot, for what is told while Alertmanager can't be reached; may be empty
    #[arg(long = "telegram.token-file", env = "NEXUS_TELEGRAM_TOKEN_FILE", value_name = "FILE")]
    pub telegram_token_file: Option<PathBuf>,

    /// Telegram chat that gets it
    #[arg(
        long = "telegram.chat-id",
        env = "NEXUS_TELEGRAM_CHAT_ID",
        value_name = "NUMBER",
        allow_hyphen_values = true
    )]
    pub telegram_chat_id: Option<String>,

    /// Telegram's API, but for tests
    #[arg(long = "telegram.api-url", env = "NEXUS_TELEGRAM_API_URL", value_name = "URL", default_value = API)]
    pub telegram_api_url: String,
}

impl Default for TelegramFlags {
    /// As without any of them.
    fn default() -> TelegramFlags {
        TelegramFlags { telegram_token_file: None, telegram_chat_id: None, telegram_api_url: API.to_owned() }
    }
}

impl TelegramFlags {
    /// An empty setting counts as none: compose passes what `.env` leaves empty.
    pub fn chat(&self) -> Option<&str> {
        self.telegram_chat_id.as_deref().map(str::trim).filter(|chat| !chat.is_empty())
    }

    /// The same.
    pub fn token_file(&self) -> Option<&Path> {
        self.telegram_token_file.as_deref().filter(|path| !path.as_os_str().is_empty())
    }

    /// The bot that tells, unless Telegram is off: half of the settings is not enough, and neither is a file without a token.
    pub fn bot(&self) -> Result<Option<Bot>, SecretError> {
        let (Some(chat), Some(file)) = (self.chat(), self.token_file()) else { return Ok(None) };
        match Secret::read(file) {
            Ok(token) => Ok(Some(Bot::new(&self.telegram_api_url, token.expose(), chat))),
            Err(SecretError::Empty { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        telegram: TelegramFlags,
    }

    fn parse(arguments: &[&str]) -> TelegramFlags {
        CommandLine::try_parse_from(["it"].iter().chain(arguments)).unwrap().telegram
    }

    #[test]
    fn without_any_it_is_off_and_the_api_is_the_real_one() {
        CommandLine::command().debug_assert();
        for none in [TelegramFlags::default(), parse(&[])] {
            assert!(none.bot().unwrap().is_none());
            assert_eq!(none.telegram_api_url, API);
        }
    }

    #[test]
    fn telegram_is_on_when_all_of_it_is_set() {
        let folder = tempfile::tempdir().unwrap();
        let file = |text: &str| {
            let path = folder.path().join("token");
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let bot = |chat: &str, file: &str| parse(&["--telegram.chat-id", chat, "--telegram.token-file", file]).bot();
        assert!(bot("-100", &file("1:secret\n")).unwrap().is_some());
        for (chat, text) in [("-100", ""), ("-100", "\n"), ("", "1:secret"), (" ", "1:secret")] {
            assert!(bot(chat, &file(text)).unwrap().is_none(), "{chat:?} {text:?}");
        }
        let empty = TelegramFlags { telegram_token_file: Some(PathBuf::new()), ..parse(&["--telegram.chat-id=-100"]) };
        assert!(empty.bot().unwrap().is_none());
        assert!(matches!(bot("-100", "/nowhere"), Err(SecretError::Unreadable { .. })));
        assert!(matches!(bot("-100", &file("1:secret\n2:other")), Err(SecretError::NotOneLine { .. })));
        assert!(!format!("{:?}", bot("-100", &file("1:secret"))).contains("secret"));
    }
}
