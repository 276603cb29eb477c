//! Finding out who the bot is and who has written to it.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{ANSWER_LIMIT, Api, DEADLINE, TelegramError};

/// The most that is read of what has happened: Telegram gives a hundred updates at most, each as long as a message may be. Twice of what
/// that makes, since it also lists what is bold or a link.
const UPDATES_LIMIT: usize = 10 << 20;

/// The bot itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Me {
    pub username: String,
}

/// Something that happened to the bot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    pub id: i64,
    /// Where it happened; of kinds that Nexus does not know, none.
    pub chat: Option<Chat>,
}

/// A chat that the bot may write to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chat {
    pub id: i64,
    /// `private`, `group`, `supergroup` or `channel`.
    pub kind: String,
    /// Title of a group, name of a person: anybody's text.
    pub name: String,
}

impl Api {
    /// `getMe`: whether the token is right.
    pub async fn me(&self) -> Result<Me, TelegramError> {
        let me = self.call("getMe", &json!({}), DEADLINE, ANSWER_LIMIT).await?;
        serde_json::from_value(me).map_err(TelegramError::Nonsense)
    }

    /// `getUpdates`: waits up to `wait` until there is one from `offset` on. One that is asked beyond counts as seen by Telegram.
    pub async fn updates(&self, offset: i64, wait: Duration) -> Result<Vec<Update>, TelegramError> {
        let body = json!({
            "offset": offset,
            "timeout": wait.as_secs(),
            "allowed_updates": ["message", "channel_post", "my_chat_member"],
        });
        let updates = self.call("getUpdates", &body, wait + DEADLINE, UPDATES_LIMIT).await?;
        let updates: Vec<Value> = serde_json::from_value(updates).map_err(TelegramError::Nonsense)?;
        Ok(updates.iter().filter_map(update).collect())
    }
}

fn update(found: &Value) -> Option<Update> {
    let id = found["update_id"].as_i64()?;
    let kinds = ["message", "edited_message", "channel_post", "my_chat_member"];
    let chat = kinds.iter().find_map(|kind| chat(&found[*kind]["chat"]));
    Some(Update { id, chat })
}

fn chat(found: &Value) -> Option<Chat> {
    let word = |key: &str| found[key].as_str().filter(|text| !text.is_empty());
    let person = [word("first_name"), word("last_name")].into_iter().flatten().collect::<Vec<_>>().join(" ");
    let name = word("title").map(str::to_owned).or_else(|| (!person.is_empty()).then_some(person));
    let name = name.or_else(|| word("username").map(str::to_owned)).unwrap_or_else(|| "without a name".to_owned());
    Some(Chat { id: found["id"].as_i64()?, kind: word("type").unwrap_or("unknown").to_owned(), name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chats_are_found_in_all_kinds_of_updates() {
        let check = |text: &str, expected: Option<(i64, &str, &str)>| {
            let found = update(&serde_json::from_str(text).unwrap()).unwrap();
            let chat = found.chat.as_ref().map(|chat| (chat.id, chat.kind.as_str(), chat.name.as_str()));
            assert_eq!((found.id, chat), (7, expected), "{text}");
        };
        check(
            r#"{"update_id":7,"message":{"chat":{"id":12,"type":"private","first_name":"Ada","last_name":"L"}}}"#,
            Some((12, "private", "Ada L")),
        );
        check(
            r#"{"update_id":7,"my_chat_member":{"chat":{"id":-1001,"type":"supergroup","title":"Home"}}}"#,
            Some((-1001, "supergroup", "Home")),
        );
        check(
            r#"{"update_id":7,"channel_post":{"chat":{"id":-1002,"type":"channel","username":"pi"}}}"#,
            Some((-1002, "channel", "pi")),
        );
        check(r#"{"update_id":7,"message":{"chat":{"id":5}}}"#, Some((5, "unknown", "without a name")));
        check(r#"{"update_id":7,"poll":{}}"#, None);
        assert_eq!(update(&json!({"message": {}})), None);
    }
}
