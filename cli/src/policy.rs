//! `nexus policy check` and `nexus policy explain`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nexus_model::api::{PolicyExplanation, ServiceList, ServiceView};
use nexus_policy::{Policy, explain};

use crate::failure::mistake;
use crate::files::read_text;
use crate::home::{Home, TEXT_LIMIT};
use crate::http::Part;
use crate::names::{self, ServiceName};
use crate::owner::OneService;
use crate::text::{local, plain, table};

/// What the file says, in plain words; an error that names every mistake when there is one.
pub fn check(path: &Path, shown: &str) -> Result<String> {
    let text = read_text(path, TEXT_LIMIT)
        .map_err(|error| mistake(format!("{error:#}")))?
        .ok_or_else(|| mistake(format!("{shown} is missing: run ./nexus up, which makes it, or name another file")))?;
    let policy = Policy::check(&text).map_err(|mistakes| {
        let lines: Vec<String> = mistakes.iter().map(|mistake| format!("{shown}: {mistake}")).collect();
        mistake(lines.join("\n"))
    })?;
    Ok(explained(&policy, shown))
}

/// What the file names and nothing that runs is called: a warning, since a project may be down.
pub fn unknown(policy: &Policy, services: &[ServiceView]) -> Vec<String> {
    let names: BTreeSet<&str> = services.iter().map(|it| it.project.as_str()).collect();
    let own = services.iter().filter(|it| it.is_own());
    let own: BTreeSet<&str> = own.map(|it| it.project.as_str()).collect();
    let there_are = |names: &BTreeSet<&str>| {
        let shown: Vec<&str> = names.difference(&own).copied().collect();
        if shown.is_empty() { "there is none".to_owned() } else { format!("there are {}", shown.join(", ")) }
    };
    let mut found = Vec::new();
    for (project, said) in &policy.projects {
        if !names.contains(project.as_str()) {
            let near = names::or_nearest(project, names.difference(&own).copied());
            found.push(format!("there is no project {project} now; {}{near}", there_are(&names)));
            continue;
        }
        let of: BTreeSet<&str> =
            services.iter().filter(|it| it.project == *project).map(|it| it.service.as_str()).collect();
        for service in said.services.keys().filter(|name| !of.contains(name.as_str())) {
            let near = names::or_nearest(service, of.iter().copied());
            found.push(format!("there is no service {service} in {project} now; {}{near}", there_are(&of)));
        }
    }
    found
}

/// The same of the file that has been checked, for who reads it. Empty while the healer does not answer.
pub async fn warnings(home: &Home, path: &Path) -> String {
    let policy = read_text(path, TEXT_LIMIT).ok().flatten().and_then(|text| Policy::check(&text).ok());
    let (Some(policy), Ok(healer)) = (policy, Part::healer_to_read(home)) else { return String::new() };
    match healer.get::<ServiceList>("/api/v1/services", &[]).await {
        Ok(list) => unknown(&policy, &list.services).iter().map(|it| format!("warning: {}\n", plain(it))).collect(),
        Err(_) => String::new(),
    }
}

fn explained(policy: &Policy, shown: &str) -> String {
    let rows: Vec<Vec<String>> =
        explain::lines(policy).into_iter().map(|line| vec![line.line.to_string(), line.key, line.means]).collect();
    let mut out = format!("{shown} is right.\n");
    if rows.is_empty() {
        out.push_str("It says nothing, so all of it is the default.\n");
    }
    out.push_str(&table(&["LINE", "KEY", "MEANS"], &rows));
    out.push_str(
        "\nWho gets what, where neither a label nor `nexus heal` says otherwise; what isn't listed is the default:\n",
    );
    for gets in explain::who_gets_what(policy) {
        out.push_str(&format!("{}\n", plain(&gets.who)));
        for what in gets.what {
            out.push_str(&format!("  {}\n", plain(&what)));
        }
    }
    out
}

/// The file that is meant, and how the owner would name it.
pub fn file(home: impl FnOnce() -> Result<Home>, named: Option<PathBuf>) -> Result<(PathBuf, String)> {
    match named {
        Some(path) => {
            let shown = path.display().to_string();
            Ok((path, shown))
        }
        None => {
            let home = home()?;
            Ok((home.policy(), home.show(&home.policy())))
        }
    }
}

/// What holds for a service, as the running healer sees it. `name` is PROJECT/SERVICE, or a service's name alone.
pub async fn of_service(home: &Home, name: &str) -> Result<PolicyExplanation> {
    let healer = Part::healer_to_read(home)?;
    let name: ServiceName = name.parse().map_err(mistake)?;
    let OneService { project, service } = names::resolve(&healer, &name).await?;
    let asked = [("project", project.as_str()), ("service", service.as_str())];
    let answer = healer.get("/api/v1/policy/explain", &asked).await;
    names::or_meant(&healer, &project, Some(&service), answer).await.context("cannot explain")
}

pub fn text(explained: &PolicyExplanation) -> String {
    let rows: Vec<Vec<String>> = explained
        .values
        .iter()
        .map(|it| vec![it.key.clone(), it.value.clone(), it.source.clone(), it.means.clone()])
        .collect();
    let mut out = format!("{}\n\n", plain(&format!("{}/{}", explained.project, explained.service)));
    out.push_str(&table(&["KEY", "VALUE", "SAID BY", "MEANS"], &rows));
    if let Some(until) = explained.maintenance_until {
        out.push_str(&format!("\nA maintenance window holds: nothing is healed until {}.\n", local(until)));
    }
    for wrong in &explained.wrong_labels {
        out.push_str(&format!("\nThe label {} is left out: {}\n", plain(&wrong.name), plain(&wrong.message)));
    }
    if let Some(reason) = explained.policy.as_ref().and_then(|policy| policy.reason.as_deref()) {
        out.push_str(&format!(
            "\nThis is the policy of before: the file was changed since, and can't be used. {}\n",
            plain(reason)
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use nexus_model::api::{ExplainedLabel, ExplainedValue, PartStatus};
    use nexus_model::{Mode, Refusal};

    use super::*;
    use crate::heal::tests::service;

    #[test]
    fn what_the_file_names_and_nothing_is_called_is_a_warning() {
        let service = |project: &str, name: &str, refusal| service(project, name, Mode::Shadow, refusal);
        let run = [
            service("media", "player", None),
            service("nexus", "healer", Some(Refusal::OwnStack)),
            service("shop", "web", None),
        ];
        let check = |text: &str, services: &[ServiceView], expected: &[&str]| {
            assert_eq!(unknown(&Policy::check(text).unwrap(), services), expected, "{text}");
        };
        let there_is_none = "there is no project shpo now; there are media, shop; did you mean shop?";
        check("projects:\n  shpo:\n    mode: heal\n", &run, &[there_is_none]);
        check("projects:\n  shop:\n    mode: heal\n", &run, &[]);
        check("default: heal\n", &run, &[]);
        check(
            "projects:\n  shop:\n    services:\n      wbe:\n        mode: heal\n      web:\n        mode: heal\n",
            &run,
            &["there is no service wbe in shop now; there are web; did you mean web?"],
        );
        check("projects:\n  cloud:\n    mode: heal\n", &run[1..2], &["there is no project cloud now; there is none"]);
    }

    #[test]
    fn a_right_policy_is_explained_and_a_wrong_one_told_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("healer.yml");
        std::fs::write(&path, "default: heal\nprojects:\n  photos:\n    mode: off\n").unwrap();
        assert_eq!(
            check(&path, "healer.yml").unwrap(),
            "healer.yml is right.\n\
             LINE  KEY                         MEANS\n\
             1     default: heal               what nothing more particular is said of is restarted when ill\n\
             4     projects.photos.mode: off   services of photos are left alone\n\
             \n\
             Who gets what, where neither a label nor `nexus heal` says otherwise; what isn't listed is the default:\n\
             photos\n  left alone (line 4)\n\
             all others\n  restarted when ill (line 1)\n"
                .replace("off   services", "off  services")
                .replace("KEY                         ", "KEY                        ")
                .replace("heal               what", "heal              what")
        );
        std::fs::write(&path, "default: maybe\nhealing:\n  attempts: 0\n  attemps: 3\n").unwrap();
        let error = check(&path, "healer.yml").unwrap_err().to_string();
        let lines: Vec<&str> = error.lines().collect();
        assert_eq!(lines.len(), 3, "{error}");
        for (line, number) in lines.iter().zip([1, 3, 4]) {
            assert!(line.starts_with(&format!("healer.yml: line {number}: ")), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(check(&path, "healer.yml").unwrap_err().to_string().contains("healer.yml is missing"));
    }

    #[test]
    fn an_explanation_tells_what_is_left_out_and_what_is_of_before() {
        let explained = PolicyExplanation {
            project: "photos".into(),
            service: "web".into(),
            values: vec![ExplainedValue {
                key: "attempts".into(),
                value: "2".into(),
                source: "label nexus.attempts".into(),
                means: "given up after 2 attempts".into(),
            }],
            wrong_labels: vec![ExplainedLabel { name: "nexus.\u{1b}[2J".into(), message: "x".into() }],
            maintenance_until: None,
            policy: Some(PartStatus { state: "down".into(), reason: Some("line 3".into()) }),
        };
        let shown = text(&explained);
        assert!(shown.contains("attempts  2      label nexus.attempts  given up after 2 attempts\n"), "{shown}");
        assert!(shown.contains("The label nexus.\u{fffd}[2J is left out: x\n"), "{shown}");
        assert!(shown.ends_with("can't be used. line 3\n"), "{shown}");
    }
}
