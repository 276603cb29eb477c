//! A server in the shape of api.telegram.org, as strict as the real one where it matters to us.
//!
//! | route | answer |
//! |---|---|
//! | `POST /bot<token>/sendMessage` | 200 and the message; 400 for another chat, bad HTML, an empty or a too long text |
//! | the same, with a word that is cut off | 503 |
//! | the same, with a word for which it stumbles | the statuses that it was told, one after the other, then as above |
//! | the same, with a word for which it hangs up | none: the connection is closed, once for each time that it was told |
//! | anything with another token | 401 |
//! | anything else | 404 |

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Json, Response};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::html;

/// After the entities are taken out, in UTF-16 units as Telegram counts.
const MAX_LENGTH: usize = 4096;

/// One message that was accepted.
#[derive(Clone, Debug)]
pub struct Message {
    pub at: Timestamp,
    /// As a reader sees it.
    pub text: String,
    pub html: String,
}

struct Bot {
    token: String,
    chat_id: i64,
    accepted: Mutex<Vec<Message>>,
    /// What the real one would have refused: each is a lost alert.
    refused: Mutex<Vec<String>>,
    /// What it answers to messages with a word before it takes one; `None`: it hangs up.
    stumbles: Mutex<Vec<(String, Option<StatusCode>)>>,
    /// Messages with these words don't get through.
    cut_off: Mutex<BTreeSet<String>>,
    /// The words of those that did not.
    held_back: Mutex<Vec<String>>,
}

/// A running server.
#[derive(Clone)]
pub struct Telegram {
    pub address: SocketAddr,
    bot: Arc<Bot>,
}

impl Telegram {
    /// Listens on every address, so that containers reach it through the bridge; nothing of it is worth protecting.
    pub async fn start(token: &str, chat_id: i64) -> Result<Telegram> {
        let bot = Arc::new(Bot {
            token: token.to_owned(),
            chat_id,
            accepted: Mutex::default(),
            refused: Mutex::default(),
            stumbles: Mutex::default(),
            cut_off: Mutex::default(),
            held_back: Mutex::default(),
        });
        let listener =
            tokio::net::TcpListener::bind(("0.0.0.0", 0)).await.context("cannot listen for Telegram messages")?;
        let address = listener.local_addr().context("cannot tell the address of the Telegram server")?;
        let router = Router::new().fallback(answer).with_state(Arc::clone(&bot));
        tokio::spawn(async move {
            // It ends with the test.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Telegram { address, bot })
    }

    /// Messages whose text holds `word`, oldest first.
    pub fn messages(&self, word: &str) -> Vec<Message> {
        let accepted = self.bot.accepted.lock().map(|all| all.clone()).unwrap_or_default();
        accepted.into_iter().filter(|message| message.text.contains(word)).collect()
    }

    /// From now on the next messages with `word` are answered so, one after the other: by one that is too busy, minds what it
    /// is sent, or is not well itself.
    pub fn stumble(&self, word: &str, statuses: &[StatusCode]) {
        if let Ok(mut stumbles) = self.bot.stumbles.lock() {
            stumbles.extend(statuses.iter().map(|status| (word.to_owned(), Some(*status))));
        }
    }

    /// From now on the next message with `word` is not answered: its connection is closed.
    pub fn hang_up(&self, word: &str) {
        if let Ok(mut stumbles) = self.bot.stumbles.lock() {
            stumbles.push((word.to_owned(), None));
        }
    }

    /// Whether messages with a word get through from now on.
    pub fn cut_off(&self, word: &str, is_cut_off: bool) {
        if let Ok(mut words) = self.bot.cut_off.lock() {
            if is_cut_off {
                words.insert(word.to_owned());
            } else {
                words.remove(word);
            }
        }
    }

    /// How many messages with a word did not get through.
    pub fn held_back(&self, word: &str) -> usize {
        self.bot.held_back.lock().map(|all| all.iter().filter(|other| *other == word).count()).unwrap_or_default()
    }

    /// How often it is still to stumble over a word.
    pub fn will_stumble(&self, word: &str) -> usize {
        self.bot.stumbles.lock().map(|all| all.iter().filter(|(other, _)| other == word).count()).unwrap_or_default()
    }

    pub fn refused(&self) -> Vec<String> {
        self.bot.refused.lock().map(|all| all.clone()).unwrap_or_default()
    }
}

#[derive(Deserialize)]
struct SendMessage {
    chat_id: Value,
    text: String,
    #[serde(default)]
    parse_mode: String,
}

async fn answer(State(bot): State<Arc<Bot>>, method: Method, uri: Uri, body: Bytes) -> Response {
    if bot.is_cut_off(&body) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if let Some(status) = bot.stumble(&body) {
        let Some(status) = status else { return no_answer() };
        let description = status.canonical_reason().unwrap_or_default();
        let answer = json!({"ok": false, "error_code": status.as_u16(), "description": description,
            "parameters": {"retry_after": 1}});
        return (status, Json(answer)).into_response();
    }
    let (status, answer) = match bot.judge(&method, uri.path(), &body) {
        Ok(message) => {
            let result = json!({"message_id": 1, "date": message.at.as_second(), "text": message.text,
                "chat": {"id": bot.chat_id, "type": "private"}});
            if let Ok(mut accepted) = bot.accepted.lock() {
                accepted.push(message);
            }
            (StatusCode::OK, json!({"ok": true, "result": result}))
        }
        Err((status, description)) => {
            if let Ok(mut refused) = bot.refused.lock() {
                refused.push(format!("{} {description}: {}", status.as_u16(), String::from_utf8_lossy(&body)));
            }
            (status, json!({"ok": false, "error_code": status.as_u16(), "description": description}))
        }
    };
    (status, Json(answer)).into_response()
}

/// A body that fails before its first byte: the server closes the connection and has sent nothing, not even a head.
fn no_answer() -> Response {
    let body = futures_util::stream::once(async { Err::<Bytes, _>(std::io::Error::other("hangs up")) });
    Body::from_stream(body).into_response()
}

impl Bot {
    fn is_cut_off(&self, body: &[u8]) -> bool {
        let text = String::from_utf8_lossy(body);
        let found = self.cut_off.lock().ok().and_then(|words| words.iter().find(|word| text.contains(*word)).cloned());
        let Some(word) = found else { return false };
        if let Ok(mut held_back) = self.held_back.lock() {
            held_back.push(word);
        }
        true
    }

    fn stumble(&self, body: &[u8]) -> Option<Option<StatusCode>> {
        let text = String::from_utf8_lossy(body);
        let mut stumbles = self.stumbles.lock().ok()?;
        let next = stumbles.iter().position(|(word, _)| text.contains(word.as_str()))?;
        Some(stumbles.remove(next).1)
    }

    fn judge(&self, method: &Method, path: &str, body: &[u8]) -> Result<Message, (StatusCode, String)> {
        let bad = |description: String| (StatusCode::BAD_REQUEST, format!("Bad Request: {description}"));
        let Some((token, call)) = path.strip_prefix("/bot").and_then(|rest| rest.split_once('/')) else {
            return Err((StatusCode::NOT_FOUND, "Not Found".into()));
        };
        if token != self.token {
            return Err((StatusCode::UNAUTHORIZED, "Unauthorized".into()));
        }
        if call != "sendMessage" || method != Method::POST {
            return Err((StatusCode::NOT_FOUND, format!("Not Found: method {method} {call}")));
        }
        let sent: SendMessage =
            serde_json::from_slice(body).map_err(|error| bad(format!("no JSON of a message: {error}")))?;
        let chat = sent.chat_id.as_i64().or_else(|| sent.chat_id.as_str().and_then(|text| text.parse().ok()));
        if chat != Some(self.chat_id) {
            return Err(bad("chat not found".into()));
        }
        let text = match sent.parse_mode.as_str() {
            "HTML" => html::parse(&sent.text).map_err(bad)?,
            "" => sent.text.clone(),
            other => return Err(bad(format!("unsupported parse_mode {other}"))),
        };
        if text.trim().is_empty() {
            return Err(bad("message text is empty".into()));
        }
        if text.encode_utf16().count() > MAX_LENGTH {
            return Err(bad("message is too long".into()));
        }
        Ok(Message { at: Timestamp::now(), text, html: sent.text })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    fn bot() -> Bot {
        let (accepted, refused, stumbles, cut_off, held_back) = Default::default();
        Bot { token: "1:a".into(), chat_id: -100, accepted, refused, stumbles, cut_off, held_back }
    }

    #[test]
    fn it_stumbles_as_often_as_it_is_told() {
        let bot = bot();
        let word = |status| ("web".to_owned(), Some(status));
        *bot.stumbles.lock().unwrap() =
            vec![word(StatusCode::TOO_MANY_REQUESTS), ("api".to_owned(), Some(StatusCode::BAD_REQUEST))];
        assert_eq!(bot.stumble(b"the db"), None);
        assert_eq!(bot.stumble(b"the web"), Some(Some(StatusCode::TOO_MANY_REQUESTS)));
        assert_eq!(bot.stumble(b"the web"), None);
        assert_eq!(bot.stumble(b"the api"), Some(Some(StatusCode::BAD_REQUEST)));
    }

    #[test]
    fn what_is_cut_off_is_counted() {
        let bot = bot();
        bot.cut_off.lock().unwrap().insert("web".into());
        assert!(bot.is_cut_off(b"the web") && !bot.is_cut_off(b"the api"));
        assert_eq!(*bot.held_back.lock().unwrap(), ["web"]);
    }

    #[tokio::test]
    async fn one_that_hangs_up_sends_nothing_and_takes_the_next() {
        let telegram = Telegram::start("1:a", -100).await.unwrap();
        telegram.hang_up("web");
        let mut answers = Vec::new();
        for _ in 0..2 {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, telegram.address.port())).await.unwrap();
            let body = r#"{"chat_id":-100,"text":"the web"}"#;
            let head = format!("POST /bot1:a/sendMessage HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n", body.len());
            stream.write_all(format!("{head}Connection: close\r\n\r\n{body}").as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            // A connection that is reset is as good as one that is closed.
            _ = stream.read_to_end(&mut answer).await;
            answers.push(String::from_utf8(answer).unwrap());
        }
        assert_eq!(answers[0], "");
        assert!(answers[1].starts_with("HTTP/1.1 200 "), "{}", answers[1]);
        assert_eq!((telegram.messages("web").len(), telegram.will_stumble("web")), (1, 0));
    }

    fn judge(path: &str, body: &str) -> Result<String, u16> {
        let bot = bot();
        bot.judge(&Method::POST, path, body.as_bytes())
            .map(|message| message.text)
            .map_err(|(status, _)| status.as_u16())
    }

    #[test]
    fn it_is_as_strict_as_the_real_one() {
        let send = "/bot1:a/sendMessage";
        let message = |chat: &str, text: &str| format!(r#"{{"chat_id":{chat},"text":"{text}","parse_mode":"HTML"}}"#);
        assert_eq!(judge(send, &message("\"-100\"", "<b>x</b>")), Ok("x".into()));
        assert_eq!(judge(send, &message("-100", "x")), Ok("x".into()));
        assert_eq!(judge(send, &message("-101", "x")), Err(400));
        assert_eq!(judge(send, &message("-100", "<b>x")), Err(400));
        assert_eq!(judge(send, &message("-100", "<b></b>")), Err(400));
        assert_eq!(judge(send, &message("-100", &"x".repeat(4096))), Ok("x".repeat(4096)));
        assert_eq!(judge(send, &message("-100", &"x".repeat(4097))), Err(400));
        assert_eq!(judge(send, "nonsense"), Err(400));
        assert_eq!(judge("/bot2:b/sendMessage", &message("-100", "x")), Err(401));
        assert_eq!(judge("/bot1:a/getMe", ""), Err(404));
        assert_eq!(judge("/", ""), Err(404));
    }
}
