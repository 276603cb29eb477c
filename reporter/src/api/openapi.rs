//! The API's description for programs, OpenAPI 3.1. Made from the types and the table below; tests hold it against the router and
//! against every answer that a test gets.

use axum::{
    http::header,
    response::{IntoResponse, Response},
};

pub const DOCUMENT: &str = include_str!("openapi.json");

pub async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use schemars::{SchemaGenerator, generate::SchemaSettings};
    use serde_json::{Map, Value, json};

    use crate::{
        api::ChartList,
        baseline::Baseline,
        capacity::Capacity,
        history::{series::HistorySeries, service::ServiceHistory},
        notify::{Delivery, MessageWanted},
        report::{Report, facts::History},
        server,
        sql::{QueryAnswer, Schema},
    };

    /// A parameter: name, whether it must be given, what it is, and its schema. It is in the path when that names it.
    type Parameter = (&'static str, bool, &'static str, Value);

    struct Operation {
        path: &'static str,
        method: &'static str,
        id: &'static str,
        summary: &'static str,
        parameters: Vec<Parameter>,
        /// Name of the schema.
        body: Option<&'static str>,
        answer: &'static str,
        /// Statuses beyond 200 and 401, each with what it means.
        others: &'static [(&'static str, &'static str)],
    }

    const WRONG: (&str, &str) = ("400", "Something in the request is wrong; the sentence says what is right.");
    const NOT_THERE: (&str, &str) =
        ("404", "There is no such thing; the sentence lists what exists, where that is known.");
    const BUSY: (&str, &str) = ("429", "Two questions are being answered already.");
    const NO_ANSWER: (&str, &str) = ("502", "The part that knows can't be asked; the sentence says which and why.");

    fn operations() -> Vec<Operation> {
        let text = || json!({"type": "string"});
        let project = |what| ("project", false, what, text());
        let service = |what| ("service", false, what, text());
        let named = || {
            vec![("project", true, "The Compose project.", text()), ("service", true, "The service within it.", text())]
        };
        let time = || json!({"type": "string", "format": "date-time"});
        let over = || {
            vec![
                ("from", false, "After then; a day before the end without it, 390 days at most.", time()),
                ("to", false, "Up to then; now without it.", time()),
            ]
        };
        let step = || {
            let minutes = json!({"type": "integer", "minimum": 5, "maximum": 10080});
            (
                "step",
                false,
                "Minutes: a multiple of 5, of 60 from an hour on; the shortest that fits without it.",
                minutes,
            )
        };
        let host = || ("host", false, "The machine; this one without it.", text());
        let get = |path, id, summary, parameters, answer, others| Operation {
            path,
            method: "get",
            id,
            summary,
            parameters,
            body: None,
            answer,
            others,
        };
        vec![
            get(
                "/api/v1/status",
                "status",
                "Tell how everything is",
                vec![
                    project("Only the services of this project."),
                    (
                        "since",
                        false,
                        "What was healed since then; a day without it.",
                        json!({"type": "string", "format": "date-time"}),
                    ),
                ],
                "Report",
                &[WRONG, NOT_THERE],
            ),
            get(
                "/api/v1/charts",
                "charts",
                "Give the series of the page",
                vec![
                    (
                        "span",
                        false,
                        "The last day or week; day without it.",
                        json!({"type": "string", "enum": ["day", "week"]}),
                    ),
                    project("With a service: its series instead of the machine's."),
                    service("The service within the project."),
                ],
                "ChartList",
                &[WRONG, NO_ANSWER],
            ),
            get(
                "/api/v1/incidents",
                "incidents",
                "List the incidents, newest first",
                vec![
                    project("Only this project."),
                    service("Only this service."),
                    (
                        "state",
                        false,
                        "Only those in this state.",
                        json!({"$ref": "#/components/schemas/IncidentState"}),
                    ),
                    (
                        "limit",
                        false,
                        "At most so many; 100 when absent.",
                        json!({"type": "integer", "minimum": 1, "maximum": 1000}),
                    ),
                ],
                "IncidentList",
                &[WRONG, NOT_THERE, NO_ANSWER],
            ),
            get(
                "/api/v1/incidents/{id}",
                "incident",
                "Tell one incident with attempts, evidence and events",
                vec![("id", true, "Its id.", json!({"type": "string", "format": "uuid"}))],
                "IncidentDetail",
                &[WRONG, NOT_THERE, NO_ANSWER],
            ),
            get(
                "/api/v1/services/{project}/{service}/history",
                "service_history",
                "Tell how a service did over a time, with its incidents",
                [named(), over(), vec![step()]].concat(),
                "ServiceHistory",
                &[WRONG, NOT_THERE, NO_ANSWER],
            ),
            get(
                "/api/v1/history",
                "history",
                "Give series of the machine, a file system or a service",
                [
                    vec![
                        (
                            "figures",
                            true,
                            "Names of one to ten figures with commas between; what there are is told without.",
                            text(),
                        ),
                        host(),
                        ("mountpoint", false, "Of the file system mounted there.", text()),
                        project("With a service: of this one."),
                        service("Of this service; alone, of a container outside Compose."),
                    ],
                    over(),
                    vec![
                        (
                            "resolution",
                            false,
                            "Steps of five minutes or of an hour; instead of step.",
                            json!({"type": "string", "enum": ["raw", "hourly"]}),
                        ),
                        step(),
                    ],
                ]
                .concat(),
                "HistorySeries",
                &[WRONG, NOT_THERE, NO_ANSWER],
            ),
            get(
                "/api/v1/query",
                "query",
                "Answer one SELECT, asked of Postgres as a role that may only read",
                vec![(
                    "sql",
                    true,
                    "One SELECT (WITH, VALUES, TABLE) of at most 4096 bytes. At most 1000 rows, 256 KiB and 10 s.",
                    json!({"type": "string", "maxLength": 4096}),
                )],
                "QueryAnswer",
                &[WRONG, BUSY, NO_ANSWER],
            ),
            get(
                "/api/v1/schema",
                "schema",
                "Tell which tables and views a query can be about",
                vec![("table", false, "This one alone, with what each column holds.", text())],
                "Schema",
                &[WRONG, BUSY, NO_ANSWER],
            ),
            get("/api/v1/services", "services", "List the services", vec![], "ServiceList", &[NO_ANSWER]),
            get(
                "/api/v1/services/{project}/{service}",
                "service",
                "Tell how a service is and why",
                named(),
                "ServiceDetail",
                &[NOT_THERE, NO_ANSWER],
            ),
            get(
                "/api/v1/baseline",
                "baseline",
                "Tell what is usual for each hour of the week",
                vec![
                    host(),
                    (
                        "days",
                        false,
                        "Of so many days; 91 without it.",
                        json!({"type": "integer", "minimum": 7, "maximum": 366}),
                    ),
                ],
                "Baseline",
                &[WRONG, NOT_THERE, NO_ANSWER],
            ),
            get(
                "/api/v1/capacity",
                "capacity",
                "Tell what there is room for, and when it ends",
                vec![
                    host(),
                    (
                        "machine",
                        false,
                        "Compare with this machine alone, such as pi5-8gb; with all that are known without it.",
                        text(),
                    ),
                ],
                "Capacity",
                &[WRONG, NOT_THERE, NO_ANSWER],
            ),
            get(
                "/api/v1/history/now",
                "history_now",
                "Give what a report compares with",
                vec![],
                "History",
                &[NO_ANSWER],
            ),
            Operation {
                path: "/api/v1/notify",
                method: "post",
                id: "notify",
                summary: "Send a message to the owner's phone",
                parameters: vec![],
                body: Some("MessageWanted"),
                answer: "Delivery",
                others: &[
                    WRONG,
                    ("403", "The token may only read."),
                    ("409", "Telegram is off, so that nobody would get it."),
                    ("413", "The body is too large."),
                    NO_ANSWER,
                ],
            },
        ]
    }

    fn operation(of: &Operation) -> Value {
        let reference = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
        let in_json = |what: &str, name: &str| json!({"description": what, "content": {"application/json": {"schema": reference(name)}}});
        let plain = json!({"description": "No token, or a wrong one.", "content": {"text/plain": {"schema": {"type": "string"}}}});
        let mut responses =
            Map::from_iter([("200".to_owned(), in_json("The answer.", of.answer)), ("401".to_owned(), plain)]);
        responses.extend(of.others.iter().map(|(status, what)| ((*status).to_owned(), in_json(what, "ApiError"))));
        let parameters = of.parameters.iter().map(|(name, required, what, schema)| {
            let place = if of.path.contains(&format!("{{{name}}}")) { "path" } else { "query" };
            json!({"name": name, "in": place, "required": required, "description": what, "schema": schema})
        });
        let security = if of.method == "get" { json!([{"read": []}, {"act": []}]) } else { json!([{"act": []}]) };
        let mut operation =
            json!({"operationId": of.id, "summary": of.summary, "security": security, "responses": responses});
        if !of.parameters.is_empty() {
            operation["parameters"] = parameters.collect();
        }
        if let Some(body) = of.body {
            operation["requestBody"] =
                json!({"required": true, "content": {"application/json": {"schema": reference(body)}}});
        }
        operation
    }

    /// Keywords that only repeat what the type says are left out, and what is not documented is not there.
    fn tidy(schema: &mut Value) {
        match schema {
            Value::Object(fields) => {
                if fields
                    .get("format")
                    .and_then(Value::as_str)
                    .is_some_and(|format| !["date-time", "uuid"].contains(&format))
                {
                    fields.remove("format");
                }
                if fields.contains_key("properties") {
                    fields.entry("additionalProperties").or_insert(Value::Bool(false));
                }
                fields.values_mut().for_each(tidy);
            }
            Value::Array(items) => items.iter_mut().for_each(tidy),
            _ => (),
        }
    }

    /// Schemas by name: those of our types, and those of the healer's document that are passed on.
    fn schemas() -> Map<String, Value> {
        let below = |settings: SchemaSettings| {
            SchemaGenerator::new(settings.with(|it| it.definitions_path = "/components/schemas".into()))
        };
        // One generator for all that is answered: it tells apart types that are called the same.
        let mut answers = below(SchemaSettings::draft2020_12().for_serialize());
        answers.subschema_for::<Report>();
        answers.subschema_for::<ChartList>();
        answers.subschema_for::<Baseline>();
        answers.subschema_for::<Capacity>();
        answers.subschema_for::<History>();
        answers.subschema_for::<Delivery>();
        answers.subschema_for::<HistorySeries>();
        answers.subschema_for::<ServiceHistory>();
        answers.subschema_for::<QueryAnswer>();
        answers.subschema_for::<Schema>();
        let mut found = answers.take_definitions(true);
        let mut bodies = below(SchemaSettings::draft2020_12());
        bodies.subschema_for::<MessageWanted>();
        for (name, schema) in bodies.take_definitions(true) {
            let known = found.insert(name.clone(), schema.clone());
            assert!(known.is_none_or(|known| known == schema), "two types are called {name}");
        }
        found.values_mut().for_each(tidy);
        let healers: Value = serde_json::from_str(include_str!("../../../healer/src/api/openapi.json")).unwrap();
        let mut wanted: Vec<String> =
            ["IncidentList", "IncidentDetail", "IncidentState", "ServiceList", "ServiceDetail", "ApiError"]
                .map(str::to_owned)
                .into();
        while let Some(name) = wanted.pop() {
            let schema = &healers["components"]["schemas"][&name];
            assert!(schema.is_object(), "the healer's document has no {name}");
            let known = found.insert(name.clone(), schema.clone());
            assert!(known.is_none_or(|known| known == *schema), "{name} is also a type of the reporter");
            // What is told of the copy says so (crate::incidents::Told).
            if ["IncidentList", "IncidentDetail"].contains(&name.as_str()) {
                let what = "That the healer could not be asked, and these are those of its copy in Postgres. Not there otherwise.";
                found[&name]["properties"]["note"] = json!({"type": "string", "description": what});
            }
            let mut references = Vec::new();
            collect(schema, &mut references);
            wanted.extend(references.into_iter().filter(|name| !found.contains_key(name)));
        }
        found
    }

    fn collect(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                let name =
                    fields.get("$ref").and_then(Value::as_str).and_then(|it| it.strip_prefix("#/components/schemas/"));
                found.extend(name.map(str::to_owned));
                fields.values().for_each(|value| collect(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| collect(value, found)),
            _ => (),
        }
    }

    fn made() -> Value {
        let mut paths: Map<String, Value> = Map::new();
        for of in operations() {
            paths.entry(of.path).or_insert(json!({}))[of.method] = operation(&of);
        }
        paths.insert(
            "/api/v1/openapi.json".to_owned(),
            json!({"get": {"operationId": "document", "summary": "Give this document", "security": [], "responses": {
                "200": {"description": "This.", "content": {"application/json": {"schema": {"type": "object"}}}}}}}),
        );
        let bearer = |what: &str| json!({"type": "http", "scheme": "bearer", "description": what});
        json!({
            "openapi": "3.1.0",
            "info": {
                "title": "Nexus reporter",
                "version": "1",
                "license": {"name": "MIT", "identifier": "MIT"},
                "description": "How the machine is, for programs. The token `act` (secrets/cli/reporter_api_token) is good for \
                    everything, `read` (secrets/cli/reporter_api_read_token) for GET alone.",
            },
            "servers": [{"url": "http://127.0.0.1:10192"}],
            "paths": paths,
            "components": {
                "schemas": schemas(),
                "securitySchemes": {"read": bearer("Reads."), "act": bearer("Reads and acts.")},
            },
        })
    }

    #[test]
    fn the_document_is_made_from_the_types() {
        let made = format!("{:#}\n", made());
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/api/openapi.json");
        if std::env::var_os("NEXUS_BLESS").is_some() {
            std::fs::write(path, &made).unwrap();
        }
        assert!(
            std::fs::read_to_string(path).unwrap() == made,
            "reporter/src/api/openapi.json is stale: run NEXUS_BLESS=1 cargo test -p nexus-reporter openapi"
        );
    }

    #[test]
    fn it_is_whole_and_has_every_route() {
        let document = made();
        let routes: BTreeSet<&str> = server::api_routes()
            .iter()
            .map(|(path, _)| *path)
            .chain(server::open_routes().iter().map(|(path, _)| *path))
            .collect();
        let documented: BTreeSet<&str> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(routes, documented);
        let mut references = Vec::new();
        collect(&document, &mut references);
        let used: BTreeSet<&str> = references.iter().map(String::as_str).collect();
        let there: BTreeSet<&str> =
            document["components"]["schemas"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(used, there, "each schema is there and used");
    }
}
