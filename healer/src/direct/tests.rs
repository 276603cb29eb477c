use super::*;

/// After which Alertmanager would repeat a message.
const DAY: i64 = 24 * 3600;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

fn alert(name: &str, service: &str) -> Alert {
    let mut labels = BTreeMap::from([
        ("alertname", name.to_owned()),
        ("severity", "critical".to_owned()),
        ("host", "pi".to_owned()),
    ]);
    if !service.is_empty() {
        labels.extend([("project", "shop".to_owned()), ("service", service.to_owned())]);
    }
    let annotations = BTreeMap::from([("summary", format!("{name} of {service}"))]);
    Alert { labels, annotations, since: at(0) }
}

static NOTHING: Taken = Taken::new();

fn moment(now: i64, alerts: &[Alert]) -> Moment<'_> {
    Moment {
        now: at(now),
        host: "pi",
        away_since: Some(at(0)),
        journal_since: None,
        docker_since: None,
        alerts,
        taken: &NOTHING,
        is_settled: true,
    }
}

fn names(news: &News) -> Vec<&str> {
    news.begun.iter().map(|alert| alert.labels["alertname"].as_str()).collect()
}

/// What is told at a moment, and then remembered as told.
fn tell(memory: &mut Memory, moment: &Moment<'_>) -> (Vec<String>, usize) {
    let news = memory.news(moment, |_| false);
    if !news.begun.is_empty() || !news.ended.is_empty() {
        memory.told(&news, moment.now);
    }
    (names(&news).into_iter().map(str::to_owned).collect(), news.ended.len())
}

#[test]
fn nothing_is_told_while_alertmanager_answers_or_is_only_just_away() {
    let alerts = [alert("HealingFailed", "web")];
    let memory = Memory::default();
    assert_eq!(memory.news(&Moment { away_since: None, ..moment(1000, &alerts) }, |_| false), News::default());
    assert_eq!(memory.news(&moment(59, &alerts), |_| false), News::default());
    assert_eq!(names(&memory.news(&moment(60, &alerts), |_| false)), ["HealingFailed"]);
    assert_eq!(memory.news(&moment(60, &alerts), |_| true), News::default(), "it is silenced");
}

#[test]
fn each_is_told_once_and_so_is_its_end() {
    let mut memory = Memory::default();
    let alerts = [alert("HealingFailed", "web"), alert("HealingFailed", "api")];
    assert_eq!(tell(&mut memory, &moment(60, &alerts[..1])), (vec!["HealingFailed".to_owned()], 0));
    assert_eq!(tell(&mut memory, &moment(65, &alerts[..1])), (vec![], 0));
    assert_eq!(tell(&mut memory, &moment(70, &alerts)), (vec!["HealingFailed".to_owned()], 0));
    // Alertmanager is back, and who told the beginning tells the end.
    let back = |now, alerts| Moment { away_since: None, ..moment(now, alerts) };
    assert_eq!(tell(&mut memory, &back(80, &alerts)), (vec![], 0));
    assert!(memory.marks(&alerts[0], at(80)) && !memory.marks(&alert("HealingFailed", "db"), at(80)));
    assert_eq!(tell(&mut memory, &back(90, &alerts[1..])), (vec![], 1));
    assert!(!memory.marks(&alerts[0], at(90)));
    // What lasts is Alertmanager's to repeat.
    assert!(memory.marks(&alerts[1], at(70 + DAY - 1)) && !memory.marks(&alerts[1], at(70 + DAY)));
}

#[test]
fn what_is_acknowledged_is_neither_told_nor_called_ended() {
    let mut acknowledged = alert("ServiceAcknowledged", "web");
    acknowledged.labels.insert("severity", "none".into());
    let alerts = [alert("HealerGaveUp", "web"), acknowledged];
    let mut memory = Memory::default();
    assert_eq!(tell(&mut memory, &moment(60, &alerts)), (vec![], 0));
    assert_eq!(tell(&mut memory, &moment(70, &alerts[..1])), (vec!["HealerGaveUp".to_owned()], 0));
    assert_eq!(tell(&mut memory, &moment(80, &alerts)), (vec![], 0), "it is as ill as before");
    assert_eq!(tell(&mut memory, &moment(70 + DAY, &alerts)).0, ["AlertmanagerDown"], "nor is it repeated");
    assert_eq!(tell(&mut memory, &moment(80 + DAY, &[])), (vec![], 1), "and its end is its end");
}

#[test]
fn alertmanager_repeats_what_is_critical_as_seldom() {
    let routes = include_str!("../../../alertmanager/alertmanager.yml.tmpl");
    let (before, _) = routes.split_once("\n  routes:\n").unwrap();
    assert!(before.ends_with(&format!("\n  repeat_interval: {}h", REPEAT.as_hours())), "{before}");
    // At night only what is critical wakes, and at the hour at which it was told first.
    assert_eq!(REPEAT.as_secs() % DAY, 0);
}

#[test]
fn while_it_lasts_it_is_repeated_as_alertmanager_would() {
    let mut memory = Memory::default();
    let alerts = [alert("HealerGaveUp", "web")];
    assert_eq!(tell(&mut memory, &moment(60, &alerts)).0, ["HealerGaveUp"]);
    assert_eq!(tell(&mut memory, &moment(DAY, &alerts)).0, ["AlertmanagerDown"]);
    assert_eq!(tell(&mut memory, &moment(DAY + 60, &alerts)).0, ["HealerGaveUp"]);
    assert_eq!(memory.told.len(), 2);
}

#[test]
fn one_cause_makes_one_message() {
    let check = |alerts: &[Alert], expected: &[&str]| {
        assert_eq!(names(&Memory::default().news(&moment(60, alerts), |_| false)), expected);
    };
    let (failed, gave_up, hold) =
        (alert("HealingFailed", "web"), alert("HealerGaveUp", "web"), alert("HealingOnHold", ""));
    check(&[failed.clone(), gave_up.clone()], &["HealerGaveUp"]);
    check(&[failed.clone(), alert("HealerGaveUp", "api")], &["HealingFailed", "HealerGaveUp"]);
    check(&[failed, gave_up, hold, alert("HostReliefFailed", "")], &["HealingOnHold", "HostReliefFailed"]);
    let mut warning = alert("HealingWaits", "web");
    warning.labels.insert("severity", "warning".into());
    check(&[warning], &[]);
}

#[test]
fn what_rules_would_say_is_told_as_long_after_as_they_would() {
    let of = |now: i64| {
        let moment = Moment { journal_since: Some(at(100)), docker_since: Some(at(100)), ..moment(now, &[]) };
        let news = Memory::default().news(&moment, |_| false);
        names(&news).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(of(159), [""; 0]);
    assert_eq!(of(160), ["JournalUnwritable"]);
    assert_eq!(of(220), ["JournalUnwritable", "DockerDown"]);
    assert_eq!(of(300), ["JournalUnwritable", "DockerDown", "AlertmanagerDown"]);
}

#[test]
fn what_comes_and_goes_without_end_is_bounded() {
    let mut memory = Memory::default();
    let alerts = [alert("HealingFailed", "web")];
    let told = (0..600).filter(|turn| {
        let alerts = if turn % 2 == 0 { &alerts[..] } else { &[] };
        let moment = Moment { away_since: Some(at(-60)), ..moment(turn * 5, alerts) };
        tell(&mut memory, &moment) != (vec![], 0)
    });
    assert_eq!(told.count(), MOST_AN_HOUR);
    assert_eq!(memory.sent.len(), MOST_AN_HOUR);
    assert_ne!(memory.news(&moment(3601 + 100, &alerts), |_| false), News::default(), "an hour later");
}

#[test]
fn what_was_told_is_known_after_a_restart() {
    let mut memory = Memory::default();
    let alerts = [alert("HealingFailed", "web")];
    tell(&mut memory, &moment(60, &alerts));
    let again: Memory = serde_json::from_str(&serde_json::to_string(&memory).unwrap()).unwrap();
    assert_eq!(again, memory);
    assert_eq!(again.news(&moment(70, &alerts), |_| false), News::default());
}

#[test]
fn a_healer_that_was_just_started_does_not_take_what_it_has_not_seen_yet_for_ended() {
    let mut memory = Memory::default();
    let alerts = [alert("HealingFailed", "web")];
    let told = |now, alerts| Moment { journal_since: Some(at(0)), docker_since: Some(at(0)), ..moment(now, alerts) };
    assert_eq!(tell(&mut memory, &told(600, &alerts)).0.len(), 4);
    // It knows neither its incidents nor for how long the rest has been so.
    let started = Moment { is_settled: false, away_since: Some(at(700)), ..moment(700, &[]) };
    assert_eq!(memory.news(&started, |_| false), News::default());
    let since = Some(at(700));
    let seen = Moment { away_since: since, journal_since: since, docker_since: since, ..moment(730, &alerts) };
    assert_eq!(memory.news(&seen, |_| false), News::default());
    // Two of them have ended indeed.
    let seen = Moment { away_since: since, ..moment(830, &alerts) };
    let ended: Vec<_> =
        memory.news(&seen, |_| false).ended.iter().map(|told| told.labels["alertname"].clone()).collect();
    assert_eq!(ended, ["JournalUnwritable", "DockerDown"]);
}

#[test]
fn what_alertmanager_told_before_it_went_away_is_not_told_again() {
    let alerts = [alert("HealingOnHold", ""), alert("HealingFailed", "web")];
    let taken = Taken::from([alerts[0].labels.clone()]);
    let away = Moment { taken: &taken, ..moment(60, &alerts[..1]) };
    let mut memory = Memory::default();
    assert_eq!(tell(&mut memory, &away), (vec![], 0));
    // Nor is it kept from Alertmanager, which would say that it has ended.
    assert!(!memory.marks(&alerts[0], at(60)));
    let more = Moment { taken: &Taken::from([alerts[1].labels.clone()]), ..moment(60, &alerts) };
    assert_eq!(tell(&mut memory, &more).0, ["HealingOnHold"]);
}

#[test]
fn a_message_says_it_in_one_line_then_what_helps() {
    let mut main = alert("HealerGaveUp", "web");
    for (key, text) in [
        ("tried", "6 restarts"),
        ("evidence", "a < b\nrefused"),
        ("action", "one\ntwo"),
        ("incident", "0195-ab"),
        ("runbook_url", "docs/runbooks/HealerGaveUp.md"),
        ("dashboard_url", "/d/nexus-healing"),
    ] {
        main.annotations.insert(key, text.into());
    }
    let mut memory = Memory::default();
    tell(&mut memory, &moment(60, &[alert("HealingFailed", "db")]));
    let news = memory.news(&moment(70, &[alert("HealingFailed", "api"), main]), |_| false);
    let links = Links { base: "http://pi:3000".into(), page: "https://pi:10192".into() };
    assert_eq!(
        html(&news, "pi", &links, &TimeZone::UTC),
        "🔴 <b>shop/web: HealerGaveUp of web</b>\non pi, since Mon 12 Jan 13:46 UTC\n\n<b>Tried:</b> 6 restarts\n\n\
         <b>Seen:</b>\n<pre>a &lt; b\nrefused</pre>\n\n<b>What to do:</b>\n<pre>one\ntwo</pre>\n\n<b>Also:</b>\n• shop/api: HealingFailed of api\n\n\
         <b>No longer:</b>\n• shop/db: HealingFailed of db\n\n<i>Sent by the healer itself: Alertmanager does not answer.</i>\n\
         <a href=\"https://pi:10192/incidents/0195-ab\">Incident</a> · <a href=\"https://pi:10192/runbooks/HealerGaveUp\">Help</a> · \
         <a href=\"http://pi:3000/d/nexus-healing\">Dashboard</a>"
    );
    let ended = News { begun: Vec::new(), ended: memory.told.clone() };
    assert_eq!(
        html(&ended, "pi", &Links::default(), &TimeZone::UTC),
        "✅ <b>pi</b>\n\n<b>No longer:</b>\n• shop/db: HealingFailed of db"
    );
}

#[test]
fn hostile_texts_fit_into_a_message() {
    for piece in ["<", "&amp;", "🔥", "\u{202e}", "\n", "\u{1b}[31m", "</pre>", "a"] {
        let text = piece.repeat(3000);
        let mut one = alert("HealerGaveUp", &text);
        for key in [
            "summary",
            "description",
            "cause",
            "tried",
            "evidence",
            "action",
            "since",
            "incident",
            "runbook_url",
            "dashboard_url",
        ] {
            one.annotations.insert(key, text.clone());
        }
        one.labels.insert("project", text.clone());
        let begun: Vec<Alert> = (0..40).map(|_| one.clone()).collect();
        let ended: Vec<Told> =
            (0..40).map(|_| Told { labels: Labels::new(), summary: text.clone(), at: at(0) }).collect();
        let links = Links { base: "http://pi:3000".into(), page: "https://pi:10192".into() };
        let html = html(&News { begun, ended }, &text, &links, &TimeZone::UTC);
        let parsed = html.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        assert!(parsed.encode_utf16().count() <= 4096, "{} of {piece:?}", parsed.encode_utf16().count());
        assert!(!html.contains('\u{1b}') && !html.contains('\u{202e}'));
        // Nothing of the text opens or closes anything.
        assert_eq!(html.matches("</pre>").count(), html.matches("<pre>").count());
    }
}
