//! Keeps in the journal what Alertmanager told of silences, so that they count also when the healer is started while
//! Alertmanager is away.

use crate::{
    alertmanager::Alertmanager,
    evidence::chain,
    journal::{Change, Journal, JournalError, Memo, memo_body},
};

/// Silences that are noted. A person makes a handful.
const MOST: usize = 200;

/// Takes up what was noted before.
pub async fn remember(alertmanager: &Alertmanager, journal: &Journal) -> Result<(), JournalError> {
    if let Some(noted) = journal.read(|store| store.memo(Memo::Silences)).await? {
        alertmanager.remember(noted);
    }
    Ok(())
}

/// Notes what has changed. Runs until the journal is closed; what can't be noted now is with the next change.
pub async fn keep(alertmanager: Alertmanager, journal: Journal) {
    let mut changes = alertmanager.changes();
    let mut noted = None;
    while changes.changed().await.is_ok() {
        let standing = alertmanager.standing(MOST);
        let body = match memo_body(&standing) {
            Ok(body) => body,
            Err(error) => {
                tracing::warn!(reason = %chain(&error), "silences can't be noted");
                continue;
            }
        };
        // Asked for every minute, changed once in a while.
        if noted.as_ref() == Some(&body) {
            continue;
        }
        let change = Change::Memo { memo: Memo::Silences, body: Some(body.clone()) };
        match journal.commit(vec![change]).await {
            Ok(()) => noted = Some(body),
            Err(JournalError::Closed) => return,
            Err(error) => tracing::warn!(reason = %chain(&error), "silences can't be noted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::alertmanager::Labels;

    #[tokio::test]
    async fn what_was_silenced_stays_so_over_a_restart_without_alertmanager() {
        _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let (journal, thread) = Journal::open(&folder.path().join("journal.db")).unwrap();
        let silence = |state: &str, value: &str| {
            let matcher = json!({ "name": "service", "value": value, "isRegex": false, "isEqual": true });
            json!({ "id": "1", "status": { "state": state }, "startsAt": "2026-01-01T00:00:00Z",
                    "endsAt": "2999-01-01T00:00:00Z", "matchers": [matcher] })
        };
        let told = json!([silence("active", "web"), silence("expired", "old"), silence("pending", "next")]);
        // Nobody listens there: whatever is known was noted.
        let alertmanager = || Alertmanager::new("http://127.0.0.1:1/").unwrap();
        let first = alertmanager();
        let keeping = tokio::spawn(keep(first.clone(), journal.clone()));
        tokio::task::yield_now().await;
        first.remember(serde_json::from_value(told).unwrap());
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        while journal.read(|store| store.memo::<serde_json::Value>(Memo::Silences)).await.unwrap().is_none() {
            assert!(tokio::time::Instant::now() < deadline, "nothing was noted");
            tokio::task::yield_now().await;
        }
        keeping.abort();
        let second = alertmanager();
        remember(&second, &journal).await.unwrap();
        let covered = |service: &str| second.is_silenced(&Labels::from([("service", service)]));
        assert!(covered("web") && covered("next"), "what was to begin has begun since");
        assert!(!covered("old") && !covered("db"));
        assert_eq!(second.standing(MOST).len(), 2, "what is over is not kept");
        assert_eq!(second.standing(1).len(), 1);
        thread.close().await;
    }
}
