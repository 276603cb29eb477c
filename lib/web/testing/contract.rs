//! Holds each answer of a running server against the OpenAPI document that it serves: a strict checker of the part of JSON
//! Schema that our documents use. What it does not know it does not let pass. The tests of each server include this file.

use serde_json::Value;

/// A document that answers are held against.
pub struct Contract {
    document: Value,
}

impl Contract {
    pub fn new(document: &str) -> Contract {
        Contract { document: serde_json::from_str(document).unwrap() }
    }

    /// Panics when the document does not know such an answer. Paths that it does not know are none of its business: they answer 404.
    pub fn check_answer(&self, method: &str, target: &str, status: u16, content_type: &str, body: &str) {
        let path = target.split('?').next().unwrap_or_default();
        let Some(item) = self.template(path) else {
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
            if let Err(why) = self.validate(&body, &media["schema"], "body") {
                panic!("{at}: {why}\n{body:#}");
            }
        }
    }

    /// The item of the path that fits, the one with the fewest parameters first.
    fn template(&self, path: &str) -> Option<&Value> {
        let parts: Vec<&str> = path.split('/').collect();
        let fits = |template: &str| {
            let wanted: Vec<&str> = template.split('/').collect();
            wanted.len() == parts.len()
                && wanted.iter().zip(&parts).all(|(wanted, part)| wanted.starts_with('{') || wanted == part)
        };
        let paths = self.document["paths"].as_object().unwrap();
        let mut found: Vec<(&String, &Value)> = paths.iter().filter(|(template, _)| fits(template)).collect();
        found.sort_by_key(|(template, _)| template.matches('{').count());
        found.first().map(|(_, item)| *item)
    }

    /// Whether a value is what a schema says.
    pub fn validate(&self, value: &Value, schema: &Value, at: &str) -> Result<(), String> {
        const KNOWN: [&str; 18] = [
            "$ref",
            "description",
            "title",
            "default",
            "type",
            "format",
            "enum",
            "const",
            "anyOf",
            "oneOf",
            "items",
            "properties",
            "required",
            "additionalProperties",
            "minimum",
            "maximum",
            "maxLength",
            "maxItems",
        ];
        let rules = schema.as_object().ok_or_else(|| format!("{at}: {schema} is no schema"))?;
        if let Some(rule) = rules.keys().find(|rule| !KNOWN.contains(&rule.as_str())) {
            return Err(format!("{at}: the checker does not know {rule}"));
        }
        if let Some(name) = schema["$ref"].as_str() {
            let name =
                name.strip_prefix("#/components/schemas/").ok_or_else(|| format!("{at}: {name} leads elsewhere"))?;
            return self.validate(value, &self.document["components"]["schemas"][name], at);
        }
        if let Some(any) = schema["anyOf"].as_array().or(schema["oneOf"].as_array()) {
            let errors: Vec<String> = any.iter().filter_map(|one| self.validate(value, one, at).err()).collect();
            return if errors.len() < any.len() { Ok(()) } else { Err(errors.join("; nor ")) };
        }
        of_type(value, &schema["type"], at)?;
        if let Some(words) = schema["enum"].as_array()
            && !words.contains(value)
        {
            return Err(format!("{at}: {value} is none of the words"));
        }
        if !schema["const"].is_null() && schema["const"] != *value {
            return Err(format!("{at}: {value} is not {}", schema["const"]));
        }
        bounds(value, schema, at)?;
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            self.validate(item, &schema["items"], &format!("{at}[{index}]"))?;
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
                (Value::Null, others) => self.validate(value, others, &at)?,
                (schema, _) => self.validate(value, schema, &at)?,
            }
        }
        Ok(())
    }
}

/// `types` is a name, several of them, or nothing.
fn of_type(value: &Value, types: &Value, at: &str) -> Result<(), String> {
    let is = |name: &str| match name {
        "object" => Ok(value.is_object()),
        "array" => Ok(value.is_array()),
        "string" => Ok(value.is_string()),
        "boolean" => Ok(value.is_boolean()),
        "integer" => Ok(value.is_i64() || value.is_u64()),
        "number" => Ok(value.is_number()),
        "null" => Ok(value.is_null()),
        other => Err(format!("{at}: the checker does not know the type {other}")),
    };
    let names: Vec<&str> = match types {
        Value::Null => return Ok(()),
        Value::String(name) => vec![name],
        several => several.as_array().into_iter().flatten().filter_map(Value::as_str).collect(),
    };
    for name in names {
        if is(name)? {
            return Ok(());
        }
    }
    Err(format!("{at}: {value} is no {types}"))
}

fn bounds(value: &Value, schema: &Value, at: &str) -> Result<(), String> {
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
    if let Some(number) = value.as_f64()
        && (schema["minimum"].as_f64().is_some_and(|least| number < least)
            || schema["maximum"].as_f64().is_some_and(|most| number > most))
    {
        return Err(format!("{at}: {value} is not {schema}"));
    }
    if value.as_array().is_some_and(|items| schema["maxItems"].as_u64().is_some_and(|most| items.len() as u64 > most)) {
        return Err(format!("{at}: there are more items than {}", schema["maxItems"]));
    }
    Ok(())
}
