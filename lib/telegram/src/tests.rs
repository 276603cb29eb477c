//! Against a Telegram that is made up, over real sockets.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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

/// An answer with this head that goes on for ever. Counts what it has sent.
async fn endless(status: &'static str) -> (String, Arc<AtomicUsize>) {
    _ = rustls::crypto::ring::default_provider().install_default();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        // An answer that comes before the question is none.
        stream.read_exact(&mut [0; 1]).await.unwrap();
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        // Until it is no longer read.
        let piece = [b' '; 1 << 16];
        while stream.write_all(&piece).await.is_ok() {
            counted.fetch_add(piece.len(), Ordering::Relaxed);
        }
    });
    (address, sent)
}

#[tokio::test]
async fn an_endless_answer_is_not_kept() {
    for status in ["200 OK", "400 Bad Request", "502 Bad Gateway"] {
        let (address, sent) = endless(status).await;
        let began = Instant::now();
        let error = Bot::new(&address, "1:good", "1").send_once("x").await.unwrap_err();
        assert!(matches!(error, TelegramError::TooLong { .. }), "{status}: {error}");
        assert_eq!(error.again_after(PAUSE), Some(PAUSE));
        assert!(error.to_string().contains("longer than 256 kB"), "{error}");
        // Not what the deadline would end, and little more than the limit was taken: the sockets' buffers hold some megabytes.
        assert!(began.elapsed() < DEADLINE, "{status}: {:?}", began.elapsed());
        let sent = sent.load(Ordering::Relaxed);
        assert!((ANSWER_LIMIT..64 << 20).contains(&sent), "{status}: {sent} bytes");
    }
}

#[tokio::test]
async fn the_largest_answer_of_telegram_is_read() {
    // A character of which JSON makes six bytes.
    let text = "\u{1}".repeat(4096);
    let message = json!({"chat": {"id": 4, "type": "private"}, "text": text, "reply_to_message": {"text": text}});
    let updates: Vec<Value> = (0..100).map(|id| json!({"update_id": id, "message": message})).collect();
    let answer = (200, json!({"ok": true, "result": updates}));
    assert!(answer.1.to_string().len() > 4 << 20);
    let (address, _) = answering(&[answer]).await;
    assert_eq!(Api::new(&address, "1:good").updates(0, Duration::ZERO).await.unwrap().len(), 100);
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
