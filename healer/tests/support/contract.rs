//! Holds each answer of the running healer against the OpenAPI document that it serves: a strict checker of the part of JSON
//! Schema that the document uses. What it does not know it does not let pass.

use std::sync::LazyLock;

use serde_json::Value;

static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../src/api/openapi.json")).unwrap());

/// Panics when the document does not know such an answer. Paths that it does not know are none of its business: they answer 404.
pub fn check_answer(method: &str, target: &str, status: u16, content_type: &str, body: &str) {
    let path = target.split('?').next().unwrap_or_default();
    let Some(item) = template(path) else {
        assert_eq!(status, 404, "{method} {path} is not documented and answers {status}");
        return;
    };
    let at = format!("{method} {path} -> {status}");
    let Some(operation) = item.get(method.to_lowercase()) else {
        // Without a token nobody is told which methods there are.
        assert!([401, 403, 405].contains(&status), "{at}: no such method is documented");
        return;
    };
    let answer = &operation["responses"][status.to_string()];
    assert!(answer.is_object(), "{at}: this status is not documented; the body is {body:?}");
    let Some(content) = answer.get("content").and_then(Value::as_object) else {
        assert_eq!(body, "", "{at}: no body is documented");
        return;
    };
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    let Some(media) = content.get(kind) else {
        panic!("{at}: the body is {kind:?}, documented is {:?}", content.keys().collect::<Vec<_>>());
    };
    if kind == "application/json" {
        let body: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{at}: {error} in {body}"));
        if let Err(why) = validate(&body, &media["schema"], "body") {
            panic!("{at}: {why}\n{body:#}");
        }
    }
}

/// The item of the path that fits, the one with the fewest parameters first.
fn template(path: &str) -> Option<&'static Value> {
    let parts: Vec<&str> = path.split('/').collect();
    let fits = |template: &str| {
        let wanted: Vec<&str> = template.split('/').collect();
        wanted.len() == parts.len()
            && wanted.iter().zip(&parts).all(|(wanted, part)| wanted.starts_with('{') || wanted == part)
    };
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let mut found: Vec<(&String, &Value)> = paths.iter().filter(|(template, _)| fits(template)).collect();
    found.sort_by_key(|(template, _)| template.matches('{').count());
    found.first().map(|(_, item)| *item)
}

/// Whether a value is what a schema says.
pub fn validate(value: &Value, schema: &Value, at: &str) -> Result<(), String> {
    const KNOWN: [&str; 13] = [
        "$ref",
        "description",
        "type",
        "format",
        "enum",
        "anyOf",
        "items",
        "properties",
        "required",
        "additionalProperties",
        "minimum",
        "maximum",
        "maxLength",
    ];
    let rules = schema.as_object().ok_or_else(|| format!("{at}: {schema} is no schema"))?;
    if let Some(rule) = rules.keys().find(|rule| !KNOWN.contains(&rule.as_str())) {
        return Err(format!("{at}: the checker does not know {rule}"));
    }
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.strip_prefix("#/components/schemas/").ok_or_else(|| format!("{at}: {name} leads elsewhere"))?;
        return validate(value, &DOCUMENT["components"]["schemas"][name], at);
    }
    if let Some(any) = schema["anyOf"].as_array() {
        let errors: Vec<String> = any.iter().filter_map(|one| validate(value, one, at).err()).collect();
        return if errors.len() < any.len() { Ok(()) } else { Err(errors.join("; nor ")) };
    }
    let is = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("null") => value.is_null(),
        Some(other) => return Err(format!("{at}: the checker does not know the type {other}")),
        None => true,
    };
    if !is {
        return Err(format!("{at}: {value} is no {}", schema["type"]));
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        return Err(format!("{at}: {value} is none of the words"));
    }
    if let Some(text) = value.as_str() {
        let is = match schema["format"].as_str() {
            Some("date-time") => text.parse::<jiff::Timestamp>().is_ok(),
            Some("uuid") => text.parse::<uuid::Uuid>().is_ok(),
            Some(other) => return Err(format!("{at}: the checker does not know the format {other}")),
            None => true,
        };
        if !is || schema["maxLength"].as_u64().is_some_and(|most| text.chars().count() as u64 > most) {
            return Err(format!("{at}: {text:?} is not {schema}"));
        }
    }
    if let Some(number) = value.as_i64()
        && (schema["minimum"].as_i64().is_some_and(|least| number < least)
            || schema["maximum"].as_i64().is_some_and(|most| number > most))
    {
        return Err(format!("{at}: {number} is not {schema}"));
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        validate(item, &schema["items"], &format!("{at}[{index}]"))?;
    }
    let Some(fields) = value.as_object() else { return Ok(()) };
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(name) {
            return Err(format!("{at}: {name} is missing"));
        }
    }
    for (name, value) in fields {
        let at = format!("{at}.{name}");
        match (&schema["properties"][name], &schema["additionalProperties"]) {
            (Value::Null, Value::Null | Value::Bool(true)) => (),
            (Value::Null, Value::Bool(false)) => return Err(format!("{at} is not documented")),
            (Value::Null, others) => validate(value, others, &at)?,
            (schema, _) => validate(value, schema, &at)?,
        }
    }
    Ok(())
}
