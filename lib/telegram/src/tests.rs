//! Against a Telegram that is made up, over real sockets.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};

use super::*;

type Answers = Arc<Mutex<VecDeque<(u16, Value)>>>;

/// The address of one that answers so, in turn; then with 200.
async fn answering(answers: &[(u16, Value)]) -> (String, Answers) {
    _ = rustls::crypto::ring::default_provider().install_default();
    async fn take(State(answers): State<Answers>) -> (StatusCode, Json<Value>) {
        let next = answers.lock().unwrap().pop_front().unwrap_or((200, json!({"ok": true, "result": {}})));
        (StatusCode::from_u16(next.0).unwrap(), Json(next.1))
    }
    let answers: Answers = Arc::new(Mutex::new(answers.iter().cloned().collect()));
    let router = Router::new().route("/bot1:good/{method}", post(take)).with_state(Arc::clone(&answers));
    let listener = nexus_web::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(nexus_web::serve(listener, router, nexus_web::Limits::default(), std::future::pending()));
    (address, answers)
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_what_will_not_is_told() {
    let check = async |answer: (u16, Value), again: Option<u64>, said: &str| {
        let (address, _) = answering(&[answer]).await;
        let error = Bot::new(&address, "1:good", "1").send_once("x").await.unwrap_err();
        assert_eq!(error.again_after(PAUSE).map(|wait| wait.as_secs()), again, "{error}");
        assert!(error.to_string().contains(said), "{error}");
    };
    let busy = json!({"ok": false, "parameters": {"retry_after": 17}});
    check((429, busy), Some(17), "asks to wait 17 s").await;
    check((502, json!({})), Some(1), "answers 502").await;
    check((200, json!({"ok": false})), Some(1), "answers 200").await;
    check((400, json!({"ok": false, "description": "chat\u{1b} not found"})), None, "400: chat\u{fffd} not found")
        .await;
    check((401, json!({})), None, "does not know the bot's token").await;
    check((409, json!({"description": "webhook"})), None, "409: webhook").await;
}

#[tokio::test]
async fn nothing_that_is_said_holds_the_token() {
    let (address, _) = answering(&[]).await;
    for (address, token) in [("http://127.0.0.1:1", "1:bad"), (address.as_str(), "1:bad")] {
        let bot = Bot::new(address, token, "1");
        let error = bot.send_once("x").await.unwrap_err();
        let mut said = format!("{bot:?} {error} {error:?}");
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            said.push_str(&format!(": {cause} {cause:?}"));
            source = cause.source();
        }
        assert!(!said.contains("bad"), "{said}");
    }
}

#[tokio::test]
async fn the_bot_and_who_wrote_to_it_are_found() {
    let update = json!({"update_id": 3, "message": {"chat": {"id": 4, "type": "private", "first_name": "Ada"}}});
    let answers = [
        (200, json!({"ok": true, "result": {"id": 1, "is_bot": true, "username": "pi_bot"}})),
        (200, json!({"ok": true, "result": [update]})),
        (200, json!({"ok": true, "result": 5})),
    ];
    let (address, _) = answering(&answers).await;
    let api = Api::new(&address, "1:good");
    assert_eq!(api.me().await.unwrap().username, "pi_bot");
    let chat = Chat { id: 4, kind: "private".into(), name: "Ada".into() };
    assert_eq!(api.updates(0, Duration::ZERO).await.unwrap(), [Update { id: 3, chat: Some(chat) }]);
    assert!(matches!(api.updates(4, Duration::ZERO).await, Err(TelegramError::Nonsense(_))));
}

#[test]
fn texts_are_escaped_and_cut_between_characters() {
    assert_eq!(escape("<b>&\"'"), "&lt;b&gt;&amp;\"'");
    assert_eq!(
        (shorten("ääää", 4).as_str(), shorten("äääää", 4).as_str(), shorten("ab", 0).as_str()),
        ("ääää", "äää…", "…")
    );
}
