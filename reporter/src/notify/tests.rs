//! Against an Alertmanager and a Telegram that are made up, over real sockets.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::post,
};
use serde_json::{Value, json};

use super::*;

/// What one of them answers, in turn; then 200. And what it was sent.
#[derive(Clone, Default)]
struct Standin {
    answers: Arc<Mutex<VecDeque<(u16, Value)>>>,
    sent: Arc<Mutex<Vec<Value>>>,
}

impl Standin {
    fn answering(answers: &[(u16, Value)]) -> Standin {
        Standin { answers: Arc::new(Mutex::new(answers.iter().cloned().collect())), sent: Arc::default() }
    }

    async fn alertmanager(&self) -> Url {
        self.serve("/api/v2/alerts").await
    }

    async fn telegram(&self) -> Url {
        self.serve("/bot{token}/sendMessage").await
    }

    async fn serve(&self, path: &'static str) -> Url {
        _ = rustls::crypto::ring::default_provider().install_default();
        async fn take(
            State(standin): State<Standin>,
            token: Option<Path<String>>,
            Json(body): Json<Value>,
        ) -> (StatusCode, Json<Value>) {
            if token.is_some_and(|Path(token)| token != "1:good") {
                return (StatusCode::UNAUTHORIZED, Json(json!({"ok": false, "description": "Unauthorized"})));
            }
            standin.sent.lock().unwrap().push(body);
            let (status, answer) =
                standin.answers.lock().unwrap().pop_front().unwrap_or((200, json!({"ok": true, "result": {}})));
            (StatusCode::from_u16(status).unwrap(), Json(answer))
        }
        let router = Router::new().route(path, post(take)).with_state(self.clone());
        let listener = nexus_web::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(nexus_web::serve(listener, router, nexus_web::Limits::default(), std::future::pending()));
        url
    }

    fn sent(&self) -> Vec<Value> {
        self.sent.lock().unwrap().clone()
    }
}

/// Nobody listens there.
fn nowhere() -> Url {
    "http://127.0.0.1:1".parse().unwrap()
}

fn message() -> Message {
    let wanted = MessageWanted {
        title: "Backup <failed>".into(),
        text: Some("disk & all".into()),
        severity: Severity::Critical,
        project: Some("shop".into()),
    };
    Message::new(wanted).unwrap()
}

async fn deliver(alertmanager: Url, telegram: Telegram) -> Result<Delivery, NotifyError> {
    _ = rustls::crypto::ring::default_provider().install_default();
    let notifier = Notifier::new(alertmanager, "pi".into(), telegram, None)?;
    notifier.deliver(&message(), Uuid::nil(), Timestamp::UNIX_EPOCH).await
}

fn bot(api: &Url, token: &str) -> Telegram {
    Telegram::On(Bot::new(api.as_str(), token, "-100"))
}

#[tokio::test]
async fn a_message_is_an_alert_of_its_own_that_ends_by_itself() {
    let (alertmanager, telegram) = (Standin::default(), Standin::default());
    let bot = bot(&telegram.telegram().await, "1:good");
    let delivery = deliver(alertmanager.alertmanager().await, bot).await.unwrap();
    assert_eq!(delivery, Delivery { id: Uuid::nil(), way: Way::Alertmanager, cut: false, reason: None });
    assert_eq!(
        alertmanager.sent(),
        [json!([{
            "labels": {
                "alertname": "NexusMessage", "severity": "none", "level": "critical", "host": "pi", "project": "shop",
                "message": "00000000-0000-0000-0000-000000000000",
            },
            "annotations": {"summary": "Backup <failed>", "description": "disk & all"},
            "startsAt": "1970-01-01T00:00:00Z",
            "endsAt": "1970-01-01T01:00:00Z",
        }])]
    );
    assert!(telegram.sent().is_empty());
}

#[tokio::test]
async fn an_alertmanager_that_stumbles_is_asked_again_with_the_same_alert() {
    let alertmanager = Standin::answering(&[(503, json!({}))]);
    let delivery = deliver(alertmanager.alertmanager().await, Telegram::Unknown("x".into())).await.unwrap();
    assert_eq!(delivery.way, Way::Alertmanager);
    let sent = alertmanager.sent();
    assert!(sent.len() == 2 && sent[0] == sent[1]);
}

#[tokio::test]
async fn without_alertmanager_telegram_is_told_directly() {
    let busy = json!({"ok": false, "error_code": 429, "parameters": {"retry_after": 0}});
    let telegram = Standin::answering(&[(429, busy), (502, json!({}))]);
    let delivery = deliver(nowhere(), bot(&telegram.telegram().await, "1:good")).await.unwrap();
    assert_eq!(delivery.way, Way::Telegram);
    assert_eq!(delivery.reason.as_deref(), Some("alertmanager does not answer at http://127.0.0.1:1"));
    let sent = telegram.sent();
    assert_eq!(sent.len(), 3, "it was busy, then not well");
    assert_eq!(
        (&sent[2]["chat_id"], &sent[2]["parse_mode"], &sent[2]["text"]),
        (&json!("-100"), &json!("HTML"), &json!("🔴 <b>shop: Backup &lt;failed&gt;</b>\non pi\n\ndisk &amp; all"))
    );
    // One that refuses is as good as none.
    let refusing = Standin::answering(&[(400, json!({}))]);
    let delivery = deliver(refusing.alertmanager().await, bot(&telegram.telegram().await, "1:good")).await.unwrap();
    assert_eq!((delivery.way, refusing.sent().len()), (Way::Telegram, 1));
}

#[tokio::test]
async fn when_neither_takes_it_both_reasons_are_said_and_no_token() {
    let check = async |telegram: Telegram, expected: &str| {
        let error = deliver(nowhere(), telegram).await.unwrap_err();
        let mut said = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            said.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        assert!(said.contains(expected) && !said.contains(":good") && !said.contains(":bad"), "{said}");
    };
    let answering = async |status: u16, answer: Value| Standin::answering(&[(status, answer)]).telegram().await;
    let ok = Standin::default().telegram().await;
    check(bot(&ok, "1:bad"), "directly: telegram does not know the bot's token").await;
    let chat = answering(400, json!({"ok": false, "description": "Bad Request: chat not\u{1b} found"})).await;
    check(bot(&chat, "1:good"), "telegram refuses the message with 400: Bad Request: chat not\u{fffd} found").await;
    let busy = answering(429, json!({"ok": false, "parameters": {"retry_after": 3600}})).await;
    check(bot(&busy, "1:good"), "asks to wait 3600 s").await;
    check(Telegram::Unknown("the token can't be read".into()), "asked directly: the token can't be read").await;
}

#[tokio::test]
async fn without_telegram_nothing_is_sent_into_the_void() {
    let alertmanager = Standin::default();
    let error = deliver(alertmanager.alertmanager().await, Telegram::Off).await.unwrap_err();
    assert!(error.to_string().contains("NEXUS_TELEGRAM_CHAT_ID") && alertmanager.sent().is_empty(), "{error}");
}

#[tokio::test]
async fn in_quiet_hours_what_can_wait_lives_until_they_are_over() {
    let check = async |severity: Severity, expected: &str| {
        let alertmanager = Standin::default();
        let quiet = Quiet { window: "22:00-07:00".parse().unwrap(), zone: TimeZone::UTC };
        let url = alertmanager.alertmanager().await;
        let notifier = Notifier::new(url, "pi".into(), Telegram::Unknown("x".into()), Some(quiet)).unwrap();
        let message = Message { severity, ..message() };
        // Midnight.
        notifier.deliver(&message, Uuid::nil(), Timestamp::UNIX_EPOCH).await.unwrap();
        assert_eq!(alertmanager.sent()[0][0]["endsAt"], expected, "{severity:?}");
    };
    check(Severity::Info, "1970-01-01T08:00:00Z").await;
    check(Severity::Warning, "1970-01-01T08:00:00Z").await;
    check(Severity::Critical, "1970-01-01T01:00:00Z").await;
}
