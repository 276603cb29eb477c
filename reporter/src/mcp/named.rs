//! Services as an agent names them: with their project, or alone where only one is called so, as on the command line.

use nexus_model::api::{ServiceList, ServiceView, called};

use super::Tools;

impl Tools {
    /// Project and service. Only a name alone takes a question.
    pub(super) async fn named(&self, project: Option<String>, service: String) -> Result<(String, String), String> {
        if let Some(project) = project {
            return Ok((project, service));
        }
        if let Some((project, service)) = service.split_once('/') {
            return Ok((project.to_owned(), service.to_owned()));
        }
        let asked = self.healer()?.get::<ServiceList>("/api/v1/services", &[]).await;
        only(&asked.map_err(|error| error.to_string())?.services, &service)
    }
}

fn only(services: &[ServiceView], service: &str) -> Result<(String, String), String> {
    let found: Vec<&str> = called(services, service).iter().map(|it| it.project.as_str()).collect();
    match &found[..] {
        [project] => Ok(((*project).to_owned(), service.to_owned())),
        [] => Err(format!("there is no service {}: the tool `services` lists them", service.escape_debug())),
        several => {
            Err(format!("several services are called {service}: name the project too, one of {}", several.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use nexus_model::Refusal;

    use super::*;
    use crate::report::testing::view;

    #[test]
    fn a_service_alone_is_the_only_one_called_so_or_the_candidates_are_named() {
        let own = |service: &str| ServiceView { refusal: Some(Refusal::OwnStack), ..view("nexus", service) };
        let run = [view("blog", "web"), view("photos", "web"), view("photos", "db"), own("db"), own("healer")];
        let check = |service: &str, expected: Result<(&str, &str), &str>| {
            let found = only(&run, service);
            let found = found.as_ref().map(|(project, service)| (project.as_str(), service.as_str()));
            assert_eq!(found.map_err(String::as_str), expected, "{service}");
        };
        check("db", Ok(("photos", "db")));
        check("healer", Ok(("nexus", "healer")));
        check("web", Err("several services are called web: name the project too, one of blog, photos"));
        check("wbe", Err("there is no service wbe: the tool `services` lists them"));
    }
}
