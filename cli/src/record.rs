//! `nexus heal record`: what healing would have done for services that are only watched, and what it would have been worth.

use anyhow::Result;
use jiff::SignedDuration;
use nexus_model::shadow::{ShadowRecord, ShadowReport};

use crate::heal::Target;
use crate::home::Home;
use crate::http::Part;
use crate::text::{duration, plain, table};

pub async fn report(home: &Home, target: Option<&Target>, since: Option<&str>) -> Result<ShadowReport> {
    let mut query = Vec::new();
    query.extend(since.map(|since| ("since", since)));
    query.extend(target.map(|target| ("project", target.project.as_str())));
    query.extend(target.and_then(|target| target.service.as_deref()).map(|service| ("service", service)));
    Ok(Part::healer_to_read(home)?.get("/api/v1/shadow", &query).await?)
}

pub fn text(report: &ShadowReport) -> String {
    if report.services.is_empty() {
        let since = crate::text::local(report.since);
        return format!("Nothing that is only watched has fallen ill since {since}.\n");
    }
    let row = |record: &ShadowRecord| {
        let ill = SignedDuration::from_secs(i64::try_from(record.ill_seconds).unwrap_or(i64::MAX));
        vec![
            format!("{}/{}", record.project, record.service),
            record.incidents.to_string(),
            duration(ill),
            record.well_before.to_string(),
            record.would_be_restarts.to_string(),
            record.would_have_helped.to_string(),
            record.would_not_have_helped.to_string(),
            record.not_known.to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = report.services.iter().map(row).collect();
    let head =
        ["SERVICE", "INCIDENTS", "ILL FOR", "WELL BEFORE", "WOULD RESTART", "WOULD HELP", "WOULD NOT", "NOT KNOWN"];
    let mut out = table(&head, &rows);
    out.push('\n');
    out.extend(report.services.iter().map(|record| format!("{}\n", sentence(record))));
    if report.truncated {
        out.push_str("There were more incidents than are looked at: the oldest are left out.\n");
    }
    out
}

/// The record in one sentence, with the command where it speaks for healing.
fn sentence(record: &ShadowRecord) -> String {
    let name = format!("{}/{}", record.project, record.service);
    let command = if record.would_have_helped > 0 { format!(": ./nexus heal on {name}") } else { String::new() };
    plain(&format!("{}{command}", record.sentence))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn the_record_is_a_table_and_a_sentence_each() {
        let record = ShadowRecord {
            project: "shop".into(),
            service: "web\u{1b}".into(),
            incidents: 4,
            well_before: 1,
            would_be_restarts: 3,
            would_have_helped: 2,
            not_known: 1,
            ill_seconds: 300,
            sentence: "would have restarted it".into(),
            ..ShadowRecord::default()
        };
        let other = ShadowRecord { would_have_helped: 0, not_known: 3, service: "db".into(), ..record.clone() };
        let mut report = ShadowReport {
            since: Timestamp::UNIX_EPOCH,
            until: Timestamp::UNIX_EPOCH,
            services: vec![other, record],
            truncated: true,
        };
        assert_eq!(
            text(&report),
            "SERVICE    INCIDENTS  ILL FOR  WELL BEFORE  WOULD RESTART  WOULD HELP  WOULD NOT  NOT KNOWN\n\
             shop/db    4          5 min    1            3              0           0          3\n\
             shop/web\u{fffd}  4          5 min    1            3              2           0          1\n\n\
             would have restarted it\n\
             would have restarted it: ./nexus heal on shop/web\u{fffd}\n\
             There were more incidents than are looked at: the oldest are left out.\n"
        );
        report.services.clear();
        assert!(text(&report).starts_with("Nothing that is only watched has fallen ill since "));
    }
}
