//! Names of services as an owner types them: whole, in short where only one is meant, or mistyped. What is meant is never guessed and
//! done, only asked.

use std::fmt::Display;
use std::str::FromStr;

use anyhow::{Result, anyhow};
use nexus_model::api::{ServiceList, ServiceView, called};
use nexus_reporter::incidents;

use crate::home::Home;
use crate::http::{HttpError, Part};
use crate::owner::OneService;
use crate::text::plain;

/// As like as this, two names are taken for the same one mistyped: two letters of three, three of five.
const ALIKE: f64 = 0.59;

/// `PROJECT/SERVICE`, or the name of a service alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceName {
    Whole(OneService),
    Alone(String),
}

impl FromStr for ServiceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            None if !text.is_empty() => Ok(ServiceName::Alone(text.to_owned())),
            _ => text.parse().map(ServiceName::Whole),
        }
    }
}

/// The one service that is meant. Only a name alone takes a question.
pub async fn resolve(healer: &Part, name: &ServiceName) -> Result<OneService> {
    match name {
        ServiceName::Whole(one) => Ok(one.clone()),
        ServiceName::Alone(service) => only(&known(healer).await?, service),
    }
}

/// Those of Nexus itself at the end: they are seldom meant.
async fn known(healer: &Part) -> Result<Vec<ServiceView>, HttpError> {
    let list: ServiceList = healer.get("/api/v1/services", &[]).await?;
    let mut all = list.services;
    all.sort_by_key(ServiceView::is_own);
    Ok(all)
}

fn whole(view: &ServiceView) -> String {
    format!("{}/{}", view.project, view.service)
}

fn list<'a>(all: impl IntoIterator<Item = &'a ServiceView>) -> String {
    all.into_iter().map(whole).collect::<Vec<_>>().join(", ")
}

/// The one service of that name.
fn only(known: &[ServiceView], name: &str) -> Result<OneService> {
    let found = called(known, name);
    match &found[..] {
        [one] => Ok(OneService { project: one.project.clone(), service: one.service.clone() }),
        [] if known.iter().all(ServiceView::is_own) => {
            Err(anyhow!("there is no service {name}, nor any other: no Docker Compose project runs here"))
        }
        [] => {
            let of_project: Vec<&ServiceView> = known.iter().filter(|it| it.project == name).collect();
            if !of_project.is_empty() {
                return Err(anyhow!("{name} is a project: name one of {}", list(of_project)));
            }
            let near = nearest(name, known.iter().map(|it| it.service.as_str()));
            match near {
                Some(near) => {
                    Err(anyhow!("no service \"{name}\"; {}", meant(list(known.iter().filter(|it| it.service == near)))))
                }
                None => Err(anyhow!(
                    "there is no service {name}; there are {}",
                    list(known.iter().filter(|it| !it.is_own()))
                )),
            }
        }
        several => Err(anyhow!("several services are called {name}: name one of {}", list(several.iter().copied()))),
    }
}

fn meant(what: impl Display) -> String {
    format!("did you mean {what}?")
}

/// What is called most like it, if anything is.
pub fn nearest<'a>(asked: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let asked = asked.to_lowercase();
    let alike = |name: &str| strsim::normalized_damerau_levenshtein(&asked, &name.to_lowercase());
    let all = known.into_iter().map(|name| (alike(name), name)).filter(|(alike, _)| *alike > ALIKE);
    // Of several the first, so that those of Nexus itself come last.
    all.reduce(|best, next| if next.0 > best.0 { next } else { best }).map(|(_, name)| name)
}

/// Behind the names of what there is.
pub fn or_nearest<'a>(asked: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(asked, known).map_or_else(String::new, |near| format!("; {}", meant(near)))
}

/// What is said of a name that there is not: `None` where there is, or where nothing is called like it.
fn mistyped(known: &[ServiceView], project: Option<&str>, service: Option<&str>) -> Option<String> {
    let projects = || known.iter().map(|it| it.project.as_str());
    match (project, service) {
        (Some(project), Some(service)) => {
            if known.iter().any(|it| it.project == project && it.service == service) {
                return None;
            }
            let names: Vec<String> = known.iter().map(whole).collect();
            let asked = format!("{project}/{service}");
            let near = nearest(&asked, names.iter().map(String::as_str))?;
            Some(format!("no service \"{asked}\"; {}", meant(near)))
        }
        (Some(project), None) => {
            let near = nearest(project, projects()).filter(|near| *near != project)?;
            Some(format!("no project \"{project}\"; {}", meant(near)))
        }
        (None, Some(service)) => {
            let near = nearest(service, known.iter().map(|it| it.service.as_str())).filter(|near| *near != service)?;
            Some(format!("no service \"{service}\"; {}", meant(near)))
        }
        (None, None) => None,
    }
}

/// The healer's answer; where it knows no such name, with what may have been meant.
pub async fn or_meant<T>(
    healer: &Part,
    project: &str,
    service: Option<&str>,
    answer: Result<T, HttpError>,
) -> Result<T> {
    match answer {
        Err(error) if error.status() == Some(404) => {
            // That nobody can say what there is changes nothing of the answer.
            let known = known(healer).await.unwrap_or_default();
            Err(mistyped(&known, Some(project), service).map_or_else(|| error.into(), |told| anyhow!(told)))
        }
        answer => Ok(answer?),
    }
}

/// Where there are no incidents: that nothing is called as was asked, with what may have been meant. Where nobody can say what there
/// is, the names are taken as given.
pub async fn unknown(healer: &Part, project: Option<&str>, service: Option<&str>) -> Option<String> {
    project.or(service)?;
    let known = known(healer).await.ok()?;
    let unknown = incidents::unknown(&known, project, service)?;
    Some(mistyped(&known, project, service).unwrap_or_else(|| unknown.to_string()))
}

/// A line for who got nothing told, since no such name is known now. What is gone may have been called so.
pub async fn hint(home: &Home, project: Option<&str>, service: Option<&str>) -> String {
    let known = match Part::healer_to_read(home) {
        Ok(healer) if project.or(service).is_some() => known(&healer).await.unwrap_or_default(),
        _ => Vec::new(),
    };
    mistyped(&known, project, service).map_or_else(String::new, |told| format!("There is {}\n", plain(&told)))
}

#[cfg(test)]
mod tests {
    use nexus_model::{Mode, Refusal};

    use super::*;
    use crate::heal::tests::service;

    fn known() -> Vec<ServiceView> {
        let of = |project: &str, name: &str, refusal| service(project, name, Mode::Shadow, refusal);
        vec![
            of("photos", "web", None),
            of("blog", "web", None),
            of("blog", "db", None),
            of("nexus", "healer", Some(Refusal::OwnStack)),
            of("nexus", "db", Some(Refusal::OwnStack)),
        ]
    }

    #[test]
    fn a_name_is_whole_or_alone() {
        let check = |text: &str, expected: Option<ServiceName>| assert_eq!(text.parse().ok(), expected, "{text}");
        let one = OneService { project: "blog".into(), service: "web".into() };
        check("blog/web", Some(ServiceName::Whole(one)));
        check("web", Some(ServiceName::Alone("web".into())));
        for wrong in ["", "/", "blog/", "/web", "a/b/c"] {
            check(wrong, None);
        }
    }

    #[test]
    fn a_name_alone_must_be_that_of_one_service() {
        let one = |name: &str| only(&known(), name).map(|it| format!("{}/{}", it.project, it.service));
        assert_eq!(one("db").unwrap(), "blog/db");
        assert_eq!(one("healer").unwrap(), "nexus/healer");
        let told = |name: &str| one(name).unwrap_err().to_string();
        assert_eq!(told("web"), "several services are called web: name one of photos/web, blog/web");
        assert_eq!(told("wbe"), "no service \"wbe\"; did you mean photos/web, blog/web?");
        assert_eq!(told("blog"), "blog is a project: name one of blog/web, blog/db");
        assert_eq!(told("x"), "there is no service x; there are photos/web, blog/web, blog/db");
        assert!(only(&[], "x").unwrap_err().to_string().contains("nor any other"));
    }

    #[test]
    fn what_is_mistyped_is_met_with_what_there_is() {
        let check = |project: Option<&str>, service: Option<&str>, told: Option<&str>| {
            assert_eq!(mistyped(&known(), project, service).as_deref(), told, "{project:?} {service:?}");
        };
        check(Some("blog"), Some("web"), None);
        check(Some("blog"), Some("wbe"), Some("no service \"blog/wbe\"; did you mean blog/web?"));
        check(Some("Blog"), Some("web"), Some("no service \"Blog/web\"; did you mean blog/web?"));
        check(Some("phots"), None, Some("no project \"phots\"; did you mean photos?"));
        check(None, Some("wbe"), Some("no service \"wbe\"; did you mean web?"));
        check(Some("blog"), None, None);
        check(None, Some("db"), None);
        check(Some("zzz"), Some("yyy"), None);
        check(Some("zzz"), None, None);
        check(None, None, None);
    }
}
