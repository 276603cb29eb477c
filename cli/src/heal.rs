//! `nexus services`, `nexus heal list` and the switches `nexus heal on|off|shadow|clear`.

use anyhow::Result;
use nexus_model::api::{HealSwitch, ModeSource, ServiceList, ServiceView};
use nexus_model::{Mode, Refusal};

use crate::home::Home;
use crate::http::Part;
use crate::names;
use crate::text::{local, plain, table};

/// `PROJECT` or `PROJECT/SERVICE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub project: String,
    pub service: Option<String>,
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (project, service) = match text.split_once('/') {
            Some((project, service)) => (project, Some(service)),
            None => (text, None),
        };
        if project.is_empty() || service.is_some_and(|service| service.is_empty() || service.contains('/')) {
            return Err("must be PROJECT or PROJECT/SERVICE; `./nexus services` lists them".into());
        }
        Ok(Target { project: project.to_owned(), service: service.map(str::to_owned) })
    }
}

/// `nexus heal on|off|shadow|clear`. Returns the affected services as they are now.
pub async fn switch(home: &Home, target: &Target, mode: Option<Mode>) -> Result<String> {
    let body = HealSwitch { project: target.project.clone(), service: target.service.clone(), mode };
    let healer = Part::healer(home)?;
    let answer = healer.put("/api/v1/heal", &body).await;
    let answer: ServiceList = names::or_meant(&healer, &target.project, target.service.as_deref(), answer).await?;
    let mut text = list_of(&answer.services);
    for protected in
        answer.services.iter().filter(|s| mode == Some(Mode::Heal) && s.refusal == Some(Refusal::ProtectedImage))
    {
        let name = name_of(protected);
        text.push_str(&format!("{name} is a database and needs its own yes: ./nexus heal on {name}\n"));
    }
    Ok(text)
}

/// `nexus heal list`: each service's mode, and who decided it.
pub async fn list(home: &Home) -> Result<String> {
    let answer: ServiceList = Part::healer_to_read(home)?.get("/api/v1/services", &[]).await?;
    let text = list_of(&answer.services);
    Ok(if text.is_empty() { NONE.to_owned() } else { text })
}

/// `nexus services`: what was found, and the command that switches healing on. Printed at the end of `./nexus up`.
pub async fn services(home: &Home) -> Result<String> {
    let answer: ServiceList = Part::healer_to_read(home)?.get("/api/v1/services", &[]).await?;
    Ok(overview(&answer.services))
}

const NONE: &str = "No Docker Compose project runs here yet. Start one; it is watched from then on.\n";

fn name_of(service: &ServiceView) -> String {
    plain(&format!("{}/{}", service.project, service.service))
}

/// Services of the stack itself can't be switched and would only be in the way.
fn foreign(services: &[ServiceView]) -> Vec<&ServiceView> {
    let mut foreign: Vec<_> = services.iter().filter(|service| !service.is_own()).collect();
    foreign.sort_by(|a, b| (&a.project, &a.service).cmp(&(&b.project, &b.service)));
    foreign
}

fn overview(services: &[ServiceView]) -> String {
    let services = foreign(services);
    if services.is_empty() {
        return NONE.to_owned();
    }
    let rows: Vec<Vec<String>> = services
        .iter()
        .map(|service| {
            let command = match service.mode {
                Mode::Heal => String::new(),
                Mode::Shadow | Mode::Off => format!("./nexus heal on {}", name_of(service)),
            };
            vec![name_of(service), mode_words(service).to_owned(), command]
        })
        .collect();
    let mut text = table(&["SERVICE", "MODE", "SWITCH HEALING ON"], &rows);
    if let Some(service) = services.iter().find(|service| service.mode != Mode::Heal) {
        text.push_str(&format!("For a whole project: ./nexus heal on {}\n", plain(&service.project)));
    }
    text
}

fn list_of(services: &[ServiceView]) -> String {
    let rows: Vec<Vec<String>> = foreign(services)
        .into_iter()
        .map(|service| {
            vec![
                name_of(service),
                service.mode.to_string(),
                source_words(service.mode_source).to_owned(),
                service.paused_until.map_or_else(
                    || service.refusal.map(Refusal::words).unwrap_or_default().to_owned(),
                    |until| format!("paused until {}", local(until)),
                ),
            ]
        })
        .collect();
    table(&["SERVICE", "MODE", "DECIDED BY", "NOTE"], &rows)
}

fn mode_words(service: &ServiceView) -> &'static str {
    match service.mode {
        Mode::Heal => "heal (restarted when ill)",
        Mode::Shadow => "shadow (watched only)",
        Mode::Off => "off (left alone)",
    }
}

pub fn source_words(source: ModeSource) -> &'static str {
    match source {
        ModeSource::ServiceSwitch => "switch of the service",
        ModeSource::Label => "label nexus.heal",
        ModeSource::ProjectSwitch => "switch of the project",
        ModeSource::PolicyService => "healer.yml, service",
        ModeSource::PolicyProject => "healer.yml, project",
        ModeSource::PolicyDefault => "healer.yml, default",
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn service(project: &str, name: &str, mode: Mode, refusal: Option<Refusal>) -> ServiceView {
        ServiceView {
            project: project.into(),
            service: name.into(),
            mode,
            mode_source: ModeSource::PolicyDefault,
            refusal,
            containers: Vec::new(),
            incident: None,
            paused_until: None,
            today: None,
            stuck: None,
        }
    }

    #[test]
    fn targets_are_a_project_or_a_service() {
        let target = |project: &str, service: Option<&str>| Target {
            project: project.into(),
            service: service.map(str::to_owned),
        };
        assert_eq!("photos".parse(), Ok(target("photos", None)));
        assert_eq!("photos/web".parse(), Ok(target("photos", Some("web"))));
        for wrong in ["", "/web", "photos/", "a/b/c"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_overview_ends_with_commands_to_copy() {
        let all = [
            service("photos", "web", Mode::Shadow, None),
            service("nexus", "healer", Mode::Off, Some(Refusal::OwnStack)),
            service("blog", "app\u{1b}[2J", Mode::Heal, None),
        ];
        let text = overview(&all);
        assert_eq!(
            text,
            "SERVICE       MODE                       SWITCH HEALING ON\n\
             blog/app\u{fffd}[2J  heal (restarted when ill)\n\
             photos/web    shadow (watched only)      ./nexus heal on photos/web\n\
             For a whole project: ./nexus heal on photos\n"
        );
        assert_eq!(overview(&all[1..2]), NONE);
    }
}
