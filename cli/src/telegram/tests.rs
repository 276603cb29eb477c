//! Against a Telegram that is made up, over real sockets.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::*;

const TOKEN: &str = "12345678:AAbbCCddEEffGGhhIIjjKK";

/// What it answers to getUpdates, in turn, then nothing new; and to sendMessage.
#[derive(Clone)]
struct Standin {
    updates: Arc<Mutex<VecDeque<(u16, Value)>>>,
    send: (u16, Value),
    sent: Arc<Mutex<Vec<Value>>>,
}

impl Standin {
    fn with(updates: &[(u16, Value)]) -> Standin {
        let updates = Arc::new(Mutex::new(updates.iter().cloned().collect()));
        Standin { updates, send: (200, json!({"ok": true, "result": {}})), sent: Arc::default() }
    }

    async fn serve(&self) -> String {
        let _ = rustls::crypto::ring::default_provider().install_default();
        async fn take(
            State(standin): State<Standin>,
            Path((token, method)): Path<(String, String)>,
            Json(body): Json<Value>,
        ) -> (StatusCode, Json<Value>) {
            let ok = |result: Value| (200, json!({"ok": true, "result": result}));
            let (status, answer) = match method.as_str() {
                _ if token != TOKEN => (401, json!({"ok": false, "description": "Unauthorized"})),
                "getMe" => ok(json!({"id": 1, "is_bot": true, "username": "pi_bot"})),
                "getUpdates" => standin.updates.lock().unwrap().pop_front().unwrap_or_else(|| ok(json!([]))),
                _ => {
                    standin.sent.lock().unwrap().push(body);
                    standin.send.clone()
                }
            };
            (StatusCode::from_u16(status).unwrap(), Json(answer))
        }
        let router = Router::new()
            .route(
                "/{bot}/{method}",
                post(|State(standin), Path((bot, method)): Path<(String, String)>, body| {
                    take(State(standin), Path((bot.trim_start_matches("bot").to_owned(), method)), body)
                }),
            )
            .with_state(self.clone());
        let listener = nexus_web::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(nexus_web::serve(listener, router, nexus_web::Limits::default(), std::future::pending()));
        address
    }
}

fn wrote(id: i64, kind: &str, name: &str) -> Value {
    json!({"update_id": id, "message": {"chat": {"id": id, "type": kind, "title": name}}})
}

fn updates(all: &[Value]) -> (u16, Value) {
    (200, json!({"ok": true, "result": all}))
}

struct Ended {
    result: Result<()>,
    told: String,
    env: String,
    token: Option<String>,
    folder: tempfile::TempDir,
}

/// Plays it: with a token in the file or without, and what is answered; `None` without a terminal.
async fn play(address: &str, file: Option<&str>, answers: Option<&[&str]>, options: Options) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    let env = format!("# mine\nNEXUS_HOST=pi\nNEXUS_TELEGRAM_CHAT_ID=\nNEXUS_TELEGRAM_API_URL={address}\n");
    std::fs::write(folder.path().join(".env"), &env).unwrap();
    std::fs::create_dir(folder.path().join("secrets")).unwrap();
    let source = folder.path().join("secrets/telegram_bot_token");
    if let Some(token) = file {
        std::fs::write(&source, token).unwrap();
    }
    let home = Home::for_test(folder.path(), &env);
    let mut asked = match answers {
        Some(answers) => Asked::Script(answers.iter().map(|answer| (*answer).to_owned()).collect()),
        None => Asked::Nobody,
    };
    let told = RefCell::new(String::new());
    let result = setup(&home, &options, &mut asked, |line| told.borrow_mut().push_str(&format!("{line}\n"))).await;
    let env = std::fs::read_to_string(folder.path().join(".env")).unwrap();
    let token = std::fs::read_to_string(&source).ok();
    Ended { result, told: told.into_inner(), env, token, folder }
}

fn options() -> Options {
    Options { chat: None, wait: Duration::from_secs(5), new_token: false }
}

#[tokio::test]
async fn a_token_that_is_typed_leads_to_a_message_and_to_the_settings() {
    let standin = Standin::with(&[updates(&[wrote(7, "private", "Ada\u{1b}[2J"), wrote(-1009, "supergroup", "Home")])]);
    let ended = play(&standin.serve().await, None, Some(&["hush", TOKEN, "9", "1"]), options()).await;
    ended.result.unwrap();
    assert!(ended.told.contains("That is no token") && ended.told.contains("@pi_bot"), "{}", ended.told);
    assert!(ended.told.contains("  1. Home (supergroup, -1009)\n  2. Ada\u{fffd}[2J (private, 7)\n"), "{}", ended.told);
    assert!(ended.told.contains("a number from 1 to 2") && ended.told.contains("Run ./nexus up"), "{}", ended.told);
    assert!(!ended.told.contains(TOKEN));
    assert!(ended.env.starts_with("# mine\nNEXUS_HOST=pi\nNEXUS_TELEGRAM_CHAT_ID=-1009\n"), "{}", ended.env);
    assert_eq!(ended.token.unwrap(), format!("{TOKEN}\n"));
    let mode = std::fs::metadata(ended.folder.path().join("secrets/telegram_bot_token")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let sent = standin.sent.lock().unwrap();
    assert_eq!((&sent[0]["chat_id"], sent[0]["text"].as_str().unwrap().contains("<b>pi</b>")), (&json!("-1009"), true));
}

#[tokio::test]
async fn without_a_terminal_the_file_and_a_number_do() {
    let late = [updates(&[]), (502, json!({})), updates(&[wrote(7, "private", "Ada")])];
    let ended = play(&Standin::with(&late).serve().await, Some(TOKEN), Some(&[""]), options()).await;
    ended.result.unwrap();
    assert!(ended.env.contains("NEXUS_TELEGRAM_CHAT_ID=7\n"), "{}", ended.env);
    let standin = Standin::with(&[]);
    let known = Options { chat: Some(-5), ..options() };
    let ended = play(&standin.serve().await, Some(TOKEN), None, known).await;
    ended.result.unwrap();
    assert!(ended.env.contains("NEXUS_TELEGRAM_CHAT_ID=-5\n"), "{}", ended.env);
}

#[tokio::test]
async fn without_a_terminal_what_it_needs_is_said_before_anything_is_asked_or_called() {
    // Nobody answers there: without a token it does not even try.
    let ended = play("http://127.0.0.1:1", None, None, options()).await;
    let error = format!("{:#}", ended.result.unwrap_err());
    assert_eq!(
        error,
        "there is no terminal to ask for the bot's token: write the token that @BotFather gave into secrets/telegram_bot_token, and \
         run this again; with --chat NUMBER, if you know the chat's number"
    );
    assert_eq!(ended.told, "");
    let new = Options { new_token: true, chat: Some(7), ..options() };
    let ended = play("http://127.0.0.1:1", Some(TOKEN), None, new).await;
    let error = format!("{:#}", ended.result.unwrap_err());
    assert!(error.ends_with("in place of the old one, and run this again without --new-token"), "{error}");
    // That no chat can be chosen comes first, the list last.
    let standin = Standin::with(&[updates(&[wrote(7, "private", "Ada")])]);
    let ended = play(&standin.serve().await, Some(TOKEN), None, options()).await;
    let told: Vec<&str> = ended.told.lines().collect();
    assert!(told[0].starts_with("There is no terminal to ask at") && told[0].ends_with("--chat NUMBER."), "{told:?}");
    assert_eq!(told.last(), Some(&"  1. Ada (private, 7)"));
    assert!(standin.sent.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_goes_wrong_is_told_and_changes_nothing() {
    let check = async |standin: Standin, file: Option<&str>, answers: Option<&[&str]>, said: &str| {
        let short = Options { wait: Duration::from_secs(1), ..options() };
        let ended = play(&standin.serve().await, file, answers, short).await;
        let error = format!("{:#}", ended.result.unwrap_err());
        assert!(error.contains(said), "{error}");
        assert!(!error.contains("AAbb") && !ended.told.contains("AAbb"), "{error} {}", ended.told);
        assert!(ended.env.contains("NEXUS_TELEGRAM_CHAT_ID=\n"), "{}", ended.env);
        assert_eq!(ended.token.as_deref(), file);
    };
    let one = || Standin::with(&[updates(&[wrote(7, "private", "Ada")])]);
    let two = || Standin::with(&[updates(&[wrote(7, "private", "Ada"), wrote(8, "private", "Bob")])]);
    check(one(), None, None, "write the token that @BotFather gave into secrets/telegram_bot_token").await;
    check(one(), None, Some(&["x", "y", "z"]), "no token was given").await;
    check(one(), Some("99999999:AAbbCCddEEffGGhhIIjjKK"), None, "telegram does not know this token").await;
    check(one(), Some(TOKEN), None, "--chat NUMBER").await;
    check(two(), Some(TOKEN), None, "--chat NUMBER").await;
    check(two(), Some(TOKEN), Some(&["0", "3", "Ada"]), "no chat was chosen").await;
    check(Standin::with(&[]), Some(TOKEN), None, "nobody has written to the bot within 1 s").await;
    let conflict = json!({"ok": false, "description": "Conflict: can't use getUpdates while webhook is active"});
    check(Standin::with(&[(409, conflict)]), Some(TOKEN), None, "while webhook is active").await;
    let refused = (403, json!({"ok": false, "description": "Forbidden: bot was kicked"}));
    check(Standin { send: refused, ..one() }, Some(TOKEN), Some(&["1"]), "403: Forbidden: bot was kicked").await;
    let ended = play("http://127.0.0.1:1", Some(TOKEN), None, options()).await;
    assert!(format!("{:#}", ended.result.unwrap_err()).contains("telegram can't be reached"));
}
