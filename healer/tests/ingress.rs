//! What comes in over HTTP and what is written on the command line, as bytes.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    engine::{Engine, Fake, Temper},
    eventually,
    healer::{API_TOKEN, Alertmanager, Healer, POLICY, WEBHOOK_TOKEN, firing, payload},
};

#[tokio::test]
async fn bad_requests_are_refused_and_leave_no_trace() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web").ill());
    let healer = Healer::started(&engine).await;
    healer.sees("web", "running", "unhealthy").await;
    let good = payload(&[firing("shop", "web")]).to_string();
    let check = async |method: &str, token: Option<&str>, body: &str, status: u16| {
        let (found, answer) = healer.request(method, "/webhook", token, body).await;
        assert_eq!(found, status, "{method} {token:?} {body:.80}: {answer}");
    };
    check("POST", None, &good, 401).await;
    check("POST", Some("wrong"), &good, 401).await;
    check("POST", Some(API_TOKEN), &good, 401).await;
    check("POST", Some(""), &good, 401).await;
    check("GET", Some(WEBHOOK_TOKEN), "", 405).await;
    check("PUT", Some(WEBHOOK_TOKEN), &good, 405).await;
    for body in [
        "",
        "nonsense",
        "{}",
        "[]",
        "{\"alerts\":{}}",
        "{\"alerts\":[{}]}",
        "{\"alerts\":[null]}",
        &good[..good.len() - 1],
    ] {
        check("POST", Some(WEBHOOK_TOKEN), body, 400).await;
    }
    check("POST", Some(WEBHOOK_TOKEN), &"[".repeat(100_000), 400).await;
    check("POST", Some(WEBHOOK_TOKEN), &" ".repeat(4 * 1024 * 1024 + 1), 413).await;
    let text = "not UTF-8: \u{fffd}".replace('\u{fffd}', "\\ud800");
    check("POST", Some(WEBHOOK_TOKEN), &format!("{{\"alerts\":[{{\"status\":\"{text}\"}}]}}"), 400).await;

    let head = format!("POST /webhook HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {WEBHOOK_TOKEN}\r\n");
    let chunked = format!(
        "{head}Transfer-Encoding: chunked\r\n\r\n{}",
        "100000\r\n".to_owned() + &"x".repeat(0x10_0000) + "\r\n"
    );
    let endless = chunked.clone() + &("100000\r\n".to_owned() + &"x".repeat(0x10_0000) + "\r\n").repeat(5);
    assert!(healer.raw(endless.as_bytes()).await.starts_with("HTTP/1.1 413"));
    assert!(healer.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await.starts_with("HTTP/1.1 400"));
    // One that only announces too much is not waited for.
    let large = format!("{head}Content-Length: 52428800\r\n\r\n");
    assert!(healer.raw(large.as_bytes()).await.starts_with("HTTP/1.1 413"));

    assert_eq!(healer.incidents().await.incidents, []);
    assert_eq!(engine.all_restarts(), []);
    let (_, text) = healer.request("GET", "/metrics", None, "").await;
    assert!(text.contains("nexus_healer_webhook_requests_total{code=\"401\"} 4"), "{text}");
    assert!(text.contains("nexus_healer_webhook_requests_total{code=\"405\"} 2"), "{text}");
    assert!(text.contains("nexus_healer_webhook_requests_total{code=\"413\"} 3"), "{text}");
}

#[tokio::test]
async fn the_api_wants_its_own_token_and_says_what_is_wrong() {
    let engine = Engine::start();
    let healer = Healer::started(&engine).await;
    let routes =
        ["/api/v1/incidents", "/api/v1/services", "/api/v1/status", "/api/v1/selftest/x", "/api/v1/incidents/x"];
    for route in routes {
        for token in [None, Some(WEBHOOK_TOKEN)] {
            assert_eq!(healer.request("GET", route, token, "").await.0, 401, "{route}");
        }
    }
    assert_eq!(healer.request("PUT", "/api/v1/heal", None, "{}").await.0, 401);
    let check = async |path: &str, status: u16, says: &str| {
        let (found, answer) = healer.api("GET", path, "").await;
        assert_eq!(found, status, "{path}: {answer}");
        assert!(answer.contains(says), "{path}: {answer}");
    };
    check("/api/v1/incidents?state=ill", 400, "no state is called ill; there are suspect").await;
    check("/api/v1/incidents?limit=0", 400, "limit must be 1 to 1000").await;
    check("/api/v1/incidents?limit=1001", 400, "limit must be 1 to 1000").await;
    check("/api/v1/incidents?limt=1", 400, "limt").await;
    check("/api/v1/incidents?state=gave_up&project=%27;DROP&service=%00", 200, "\"incidents\":[]").await;
    check("/api/v1/incidents/nonsense", 400, "UUID").await;
    check("/api/v1/incidents/01a206d1-7bae-70b5-b33b-490cfbd43229", 404, "there is no incident").await;
    check("/api/v1/nothing", 404, "no such route").await;
    check("/api/v1/status", 200, "\"docker\"").await;
    assert_eq!(healer.request("GET", "/healthz", None, "").await.0, 200);
    assert_eq!(healer.request("GET", "/readyz", None, "").await.0, 200);
    assert_eq!(healer.api("DELETE", "/api/v1/incidents", "").await.0, 405);
}

#[tokio::test]
async fn a_self_test_is_remembered_and_opens_nothing() {
    let engine = Engine::start();
    let healer = Healer::started(&engine).await;
    assert_eq!(healer.api("GET", "/api/v1/selftest/n0", "").await.0, 404);
    for number in 0..150 {
        let alert = json!({ "status": "firing", "labels": {
            "alertname": "NexusSelfTest", "heal": "test", "nonce": format!("n{number}") } });
        assert_eq!(healer.post(&json!({ "alerts": [alert] })).await.0, 200);
    }
    let (status, answer) = healer.api("GET", "/api/v1/selftest/n149", "").await;
    assert_eq!(status, 200);
    assert!(answer.contains("\"nonce\":\"n149\"") && answer.contains("received_at"), "{answer}");
    assert_eq!(healer.api("GET", "/api/v1/selftest/n49", "").await.0, 404, "old ones are forgotten");
    assert_eq!(healer.incidents().await.incidents, []);
}

#[tokio::test]
async fn hostile_labels_and_unknown_fields_are_survived() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web").ill());
    let healer = Healer::started(&engine).await;
    healer.sees("web", "running", "unhealthy").await;
    let hostile = [
        "'; DROP TABLE incidents; --",
        "<script>alert(1)</script>",
        "$(reboot)",
        "../../etc/passwd",
        "{{ .Labels }}",
        "\u{202e}evil",
        "a\0b",
        "new\nline",
        &"x".repeat(100_000),
        "",
    ];
    let mut alerts: Vec<Value> = hostile.iter().map(|name| firing(name, name)).collect();
    let mut future = firing("shop", "web");
    future["newField"] = json!({ "deep": [1, 2, { "er": null }] });
    alerts.push(future);
    let mut body = payload(&alerts);
    body["anotherNewField"] = json!(true);
    assert_eq!(healer.post(&body).await.0, 200);
    healer.incident("web", "the one real service", |it| it.incident.outcome.is_some()).await;
    assert_eq!(healer.incidents().await.incidents.len(), 1);
    assert_eq!(healer.request("GET", "/readyz", None, "").await.0, 200);
}

#[tokio::test]
async fn duplicates_at_once_are_one_restart() {
    let engine = Engine::start();
    engine.set("c1", Fake { stops_in: Duration::from_millis(300), ..Fake::service("shop", "web").ill() });
    let healer = Healer::started(&engine).await;
    healer.sees("web", "running", "unhealthy").await;
    let body = payload(&vec![firing("shop", "web"); 20]);
    let posts = (0..20).map(|_| healer.post(&body));
    for (status, answer) in futures_util::future::join_all(posts).await {
        assert_eq!(status, 200, "{answer}");
    }
    healer.incident("web", "the end of the incident", |it| it.incident.outcome.is_some()).await;
    assert_eq!(engine.restarts("c1"), 1);
    assert_eq!(healer.incidents().await.incidents.len(), 1);
}

#[tokio::test]
async fn a_thousand_alerts_in_one_post_are_durable_within_a_second() {
    let engine = Engine::start();
    for number in 0..100 {
        engine.set(&format!("c{number}"), Fake::service("shop", &format!("s{number}")));
    }
    let healer = Healer::started(&engine).await;
    healer.sees("s99", "running", "healthy").await;
    let alerts: Vec<Value> = (0..1000).map(|number| firing("shop", &format!("s{number}"))).collect();
    let body = payload(&alerts);
    let began = Instant::now();
    let (status, answer) = healer.post(&body).await;
    let took = began.elapsed();
    assert_eq!((status, answer.trim()), (200, "1000 alerts: 1000 services to look at, 0 ignored"));
    assert!(took < Duration::from_secs(1), "{took:?}");
    eventually("all are looked into", async || {
        let gone = healer.metric("nexus_healer_refusals_total{reason=\"gone\"}").await?;
        let well = healer.metric("nexus_healer_refusals_total{reason=\"already_well\"}").await?;
        (gone + well == 1000.0).then_some(())
    })
    .await;
    let (private, files) = healer.resident();
    eprintln!("1000 alerts answered in {took:?}; resident {private} KiB private, {files} KiB of files");
    assert!(private < 40 * 1024, "{private} KiB");
}

#[tokio::test]
async fn a_thousand_posts_at_once_are_all_taken() {
    let engine = Engine::start();
    let healer = Healer::started(&engine).await;
    let posts = (0..1000).map(|number| {
        let alert = json!({ "status": "firing", "labels": {
            "alertname": "NexusSelfTest", "heal": "test", "nonce": format!("n{number}") } });
        let (healer, body) = (&healer, json!({ "alerts": [alert] }));
        async move { healer.post(&body).await }
    });
    let began = Instant::now();
    let answers = futures_util::future::join_all(posts).await;
    let took = began.elapsed();
    assert!(answers.iter().all(|(status, _)| *status == 200));
    let (private, _) = healer.resident();
    eprintln!("1000 posts at once answered in {took:?}; resident {private} KiB private");
    assert!(private < 40 * 1024, "{private} KiB");
}

#[tokio::test]
async fn a_thousand_posts_on_a_slow_disk_are_answered_and_none_is_lost() {
    let engine = Engine::start();
    let mut healer = Healer::new(&engine);
    // As an SD card: each commit takes 30 ms. Docker hangs, so that all of them wait.
    engine.hang(true);
    healer.start_with(&[("NEXUS_FAULT_COMMIT_MS", "30")]).await;
    let posts = (0..1000).map(|number| {
        let (healer, body) = (&healer, payload(&[firing("shop", &format!("s{number}"))]));
        async move { healer.post(&body).await }
    });
    let began = Instant::now();
    let answers = futures_util::future::join_all(posts).await;
    let took = began.elapsed();
    assert!(answers.iter().all(|(status, _)| *status == 200));
    let (private, _) = healer.resident();
    eprintln!("1000 posts at once with 30 ms a commit answered in {took:?}; resident {private} KiB private");
    // One after the other they would take 30 s.
    assert!(took < Duration::from_secs(15), "{took:?}");
    assert!(private < 40 * 1024, "{private} KiB");
    healer.kill();
    engine.hang(false);
    healer.start().await;
    eventually("all of them are looked into", async || {
        healer.metric("nexus_healer_refusals_total{reason=\"gone\"}").await.filter(|gone| *gone == 1000.0)
    })
    .await;
}

#[tokio::test]
async fn those_who_send_slowly_keep_nobody_from_being_heard() {
    use tokio::{io::AsyncWriteExt, net::TcpStream};

    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web").ill());
    let healer = Healer::started(&engine).await;
    let whole = "POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{\"alerts\":";
    let mut slow = Vec::new();
    for number in 0..600 {
        let mut stream = TcpStream::connect(healer.address()).await.unwrap();
        // Nothing, half a head, or a head and half a body by somebody who has no token.
        let sent = ["", &whole[..30], whole][number % 3];
        // It may have made room for another already.
        _ = stream.write_all(sent.as_bytes()).await;
        slow.push(stream);
    }
    let began = Instant::now();
    healer.alert("shop", "web").await;
    // There is room for 128 connections. Who sends nothing makes room after a second, and all those that come after it at once.
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    healer.incident("web", "the end of the incident", |it| it.incident.outcome.is_some()).await;
    drop(slow);
}

#[tokio::test]
async fn a_body_without_an_end_is_cut_off() {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    let engine = Engine::start();
    let healer = Healer::started(&engine).await;
    let stream = TcpStream::connect(healer.address()).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let head = format!(
        "POST /webhook HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {WEBHOOK_TOKEN}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    writing.write_all(head.as_bytes()).await.unwrap();
    let endless = tokio::spawn(async move {
        let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
        let mut sent = 0_usize;
        while writing.write_all(chunk.as_bytes()).await.is_ok() {
            sent += chunk.len();
        }
        sent
    });
    let mut answer = [0; 12];
    reading.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    // And then it is not listened to any more.
    let sent = tokio::time::timeout(crate::support::PATIENCE, endless).await.unwrap().unwrap();
    assert!(sent < 64 << 20, "{sent} bytes were taken");
    let (private, _) = healer.resident();
    assert!(private < 40 * 1024, "{private} KiB");
}

#[tokio::test]
async fn resolved_is_not_recovered_whether_it_comes_first_or_last() {
    let engine = Engine::start();
    engine.set("c1", Fake { temper: Temper::StaysIll, ..Fake::service("shop", "web").ill() });
    let healer = Healer::started(&engine).await;
    healer.sees("web", "running", "unhealthy").await;
    let resolved = || {
        let mut alert = firing("shop", "web");
        (alert["status"], alert["endsAt"]) = ("resolved".into(), "2026-01-02T03:09:05Z".into());
        let mut body = payload(&[alert]);
        body["status"] = "resolved".into();
        body
    };
    let (status, answer) = healer.post(&resolved()).await;
    assert_eq!((status, answer.trim()), (200, "1 alerts: 0 services to look at, 1 ignored"));
    assert_eq!(healer.incidents().await.incidents, []);
    healer.alert("shop", "web").await;
    healer.incident("web", "a failed attempt", |it| it.incident.failed_attempts >= 1).await;
    assert_eq!(healer.post(&resolved()).await.0, 200);
    engine.change("c1", |it| it.temper = Temper::Mends);
    let detail = healer.incident("web", "the end of the incident", |it| it.incident.outcome.is_some()).await;
    // It was restarted until Docker called it well, whatever the alert said.
    assert!(detail.attempts.len() >= 2, "{detail:?}");
    assert_eq!(healer.incidents().await.incidents.len(), 1);
}

#[tokio::test]
async fn what_alertmanager_left_out_of_a_long_list_is_seen_by_the_healer_itself() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web").ill());
    engine.set("c2", Fake::service("shop", "left-out").ill());
    let alertmanager = Alertmanager::start().await;
    let mut healer = Healer::new(&engine);
    healer.tells(&alertmanager);
    healer.start().await;
    let mut body = payload(&[firing("shop", "web")]);
    body["truncatedAlerts"] = json!(1);
    assert_eq!(healer.post(&body).await.0, 200);
    healer.says("alertmanager left out 1 alerts: group them by").await;
    for service in ["web", "left-out"] {
        healer.incident(service, "the end of the incident", |it| it.incident.outcome.is_some()).await;
    }
    assert_eq!((engine.restarts("c1"), engine.restarts("c2")), (1, 1));
}

#[tokio::test]
async fn no_secret_is_in_a_log_a_row_a_metric_or_a_message() {
    let engine = Engine::start();
    let log =
        ["connecting to postgres://app:hunter2@db/app", "Authorization: Bearer abcdef0123456789", "PASSWORD=hunter2"];
    let log: Vec<String> = log.map(str::to_owned).into();
    // In its environment, its arguments, its probes, its log, and in Docker's refusal.
    engine.set("c1", Fake { temper: Temper::Refuses, log: log.clone(), ..Fake::service("shop", "web").ill() });
    engine.set("c2", Fake { temper: Temper::StaysIll, log, ..Fake::service("shop", "api").ill() });
    let alertmanager = Alertmanager::start().await;
    let mut healer = Healer::new(&engine);
    healer.tells(&alertmanager);
    healer.start().await;
    let mut seen = String::new();
    for service in ["web", "api"] {
        healer.alert("shop", service).await;
        let failed =
            |it: &nexus_model::api::IncidentDetail| it.incident.failed_attempts >= 3 && it.evidence.len() >= 15;
        let detail = healer.incident(service, "all attempts with their evidence", failed).await;
        seen += &healer.api("GET", &format!("/api/v1/incidents/{}", detail.incident.id), "").await.1;
    }
    eventually("the owner is told", async || {
        let told = alertmanager.told("HealerGaveUp");
        (told.len() >= 2).then_some(told)
    })
    .await;
    for name in ["HealerGaveUp", "HealingFailed", "HealerSawUnhealthy", "HealerSawDown"] {
        seen += &serde_json::to_string(&alertmanager.told(name)).unwrap();
    }
    for route in ["/api/v1/incidents", "/api/v1/services", "/api/v1/status", "/metrics"] {
        seen += &healer.request("GET", route, Some(API_TOKEN), "").await.1;
    }
    let (_, log) = healer.stop();
    seen += &log;
    let journal = std::fs::read(healer.folder.path().join("journal.db")).unwrap();
    seen += &String::from_utf8_lossy(&journal);
    assert!(seen.contains("PASSWORD=***") && seen.contains("restarting"), "it looks in the wrong places");
    for secret in ["hunter2", "abcdef", WEBHOOK_TOKEN, API_TOKEN] {
        let at = seen
            .find(secret)
            .map(|at| seen[seen.floor_char_boundary(at.saturating_sub(100))..].chars().take(200).collect::<String>());
        assert_eq!(at, None, "{secret}");
    }
}

#[tokio::test]
async fn mistakes_are_one_line_each_with_exit_code_two() {
    let engine = Engine::start();
    let healer = Healer::new(&engine);
    let folder = healer.folder.path();
    let check = |change: &dyn Fn(&mut std::process::Command), code: i32, parts: &[&str]| {
        let mut command = healer.command();
        change(&mut command);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(!said.contains("panicked"), "{said}");
        for part in parts {
            assert!(said.contains(part), "{said:?} lacks {part:?}");
        }
        let last = said.lines().last().unwrap_or_default();
        assert!(parts[0].starts_with("error: ") || last.starts_with("nexus-healer: "), "{said}");
    };
    check(&|it| _ = it.arg("--nonsense"), 2, &["error: unexpected argument", "--nonsense"]);
    check(&|it| _ = it.args(["--web.listen-address", "here"]), 2, &["error: invalid value", "--web.listen-address"]);
    check(&|it| _ = it.args(["--database.url", "mysql://x:secret@y"]), 2, &["--database.url", "postgres://"]);
    check(&|it| _ = it.args(["--alertmanager.url", "alertmanager:9093"]), 2, &["alertmanager:9093", "http://"]);
    check(&|it| _ = it.args(["--log.level", "a=b=c"]), 2, &["--log.level"]);
    healer.policy("default: maybe\n");
    check(&|_| (), 2, &["healer.yml, line 1: default", "heal, shadow or off"]);
    std::fs::remove_file(folder.join("healer.yml")).unwrap();
    check(&|_| (), 2, &["reading the policy", "healer.yml", "No such file"]);
    healer.policy(POLICY);
    std::fs::write(folder.join("api"), "").unwrap();
    check(&|_| (), 2, &["api is empty"]);
    std::fs::write(folder.join("api"), API_TOKEN).unwrap();
    std::fs::remove_file(folder.join("webhook")).unwrap();
    check(&|_| (), 2, &["can't read the secret file", "webhook"]);
    std::fs::write(folder.join("webhook"), WEBHOOK_TOKEN).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    check(&|it| _ = it.args(["--web.listen-address", &address]), 1, &["can't listen on", "choose another port"]);
    std::fs::write(
        folder.join("journal.db"),
        "this is no journal, but it is long enough to be taken for one".repeat(100),
    )
    .unwrap();
    check(&|_| (), 1, &["journal.db is damaged", "move it away"]);
}

#[test]
fn a_policy_is_checked_without_starting_anything() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("healer.yml");
    let check = |text: &str, code: i32, parts: &[&str]| {
        std::fs::write(&file, text).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_nexus-healer"));
        let output = command.env_clear().args(["check", "--policy.file"]).arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), said.lines().count()), (Some(code), parts.len().min(1)), "{said}");
        for part in parts {
            assert!(said.contains(part), "{said:?} lacks {part:?}");
        }
    };
    check(POLICY, 0, &[]);
    check("# nothing\n", 0, &[]);
    check("healing:\n  attempts: 0\n", 2, &["nexus-healer: ", "healer.yml, line 2: healing.attempts", "1 to 20"]);
    check("defualt: heal\n", 2, &["healer.yml, line 1: defualt", "default is meant"]);
}

#[tokio::test]
async fn the_health_check_asks_the_running_healer() {
    let engine = Engine::start();
    let healer = Healer::started(&engine).await;
    let ask = |address: &str| {
        std::process::Command::new(env!("CARGO_BIN_EXE_nexus-healer"))
            .env_clear()
            .args(["healthcheck", "--web.listen-address", address])
            .output()
            .unwrap()
    };
    let well = ask(&healer.address().to_string());
    assert!(well.status.success(), "{well:?}");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let away = ask(&nobody.to_string());
    assert_eq!(away.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&away.stderr).contains("does not answer"));
}
