//! The worker's eye on Prometheus, which nobody else has.

use super::Worker;
use crate::{
    evidence::chain,
    journal::{Change, Memo, memo_body},
    scrapes,
};

/// Whether Prometheus is lost, and whether that is in the journal for the next healer: it would take what it has not seen yet for
/// ended.
#[derive(Debug, Default)]
pub(super) struct Unscraped {
    pub is_lost: bool,
    pub is_noted: bool,
}

impl Worker {
    /// Told whether it can be noted or not.
    pub(super) async fn look_for_scrapes(&mut self) {
        if self.parts.alertmanager.is_none() {
            // Nobody could be told, and perhaps nobody is meant to come.
            return;
        }
        let last = self.parts.scraped.borrow().clone();
        let is_lost = scrapes::is_lost(&last, &self.clock.now());
        if is_lost != self.unscraped.is_lost {
            self.unscraped.is_lost = is_lost;
            if is_lost {
                tracing::warn!(since = %last.wall, "prometheus does not come for metrics any more");
            } else {
                tracing::info!("prometheus comes for metrics again");
            }
            self.tell();
        }
        if is_lost != self.unscraped.is_noted {
            let body = match is_lost.then(|| memo_body(&last)).transpose() {
                Ok(body) => body,
                Err(error) => {
                    tracing::error!(reason = %chain(&error), "that prometheus is lost can't be noted");
                    return;
                }
            };
            if self.commit(vec![Change::Memo { memo: Memo::Unscraped, body }]).await {
                self.unscraped.is_noted = is_lost;
            }
        }
    }
}
