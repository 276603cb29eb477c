//! The report for programs. Its schema is docs/status.schema.json.

use serde_json::Value;

use crate::report::Report;

/// Control characters in names are escaped by JSON itself.
pub fn json(report: &Report) -> Result<String, serde_json::Error> {
    Ok(format!("{}\n", serde_json::to_string_pretty(report)?))
}

/// The JSON Schema of it.
pub fn schema() -> Value {
    schemars::schema_for!(Report).to_value()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::facts::{History, Usual, Vital};
    use crate::report::testing::{judged, well, worst};

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/status.schema.json");

    #[test]
    fn the_schema_is_made_from_the_report() {
        let text = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());
        if std::env::var_os("NEXUS_BLESS").is_some() {
            std::fs::write(FILE, &text).unwrap();
        }
        let kept = std::fs::read_to_string(FILE).unwrap_or_default();
        assert!(
            kept == text,
            "docs/status.schema.json is stale: run NEXUS_BLESS=1 cargo test -p nexus-reporter schema"
        );
    }

    #[test]
    fn reports_are_what_the_schema_says() {
        let mut history = well();
        let usual = [(Vital::Cpu, Usual { median: 0.1, spread: 0.0 })].into();
        history.history = Some(Ok(History { usual, ..History::default() }));
        let mut away = well();
        (away.healer, away.services, away.incidents) = (Err("away".into()), None, None);
        (away.exporter, away.containers, away.alerts) = (Err("away".into()), None, Err("away".into()));
        for facts in [well(), worst("web"), worst("\u{1b}\"\\\n"), history, away] {
            let text = json(&judged(&facts)).unwrap();
            let value: Value = serde_json::from_str(&text).unwrap();
            check(&value, &schema(), &schema(), "report").unwrap();
            assert!(!text.contains('\u{1b}'), "{text}");
            assert_eq!(value["schema"], crate::report::SCHEMA);
        }
    }

    #[test]
    fn the_checker_finds_what_is_wrong() {
        let good: Value = serde_json::from_str(&json(&judged(&worst("web"))).unwrap()).unwrap();
        let broken = |change: fn(&mut Value)| {
            let mut value = good.clone();
            change(&mut value);
            check(&value, &schema(), &schema(), "report").unwrap_err()
        };
        assert_eq!(broken(|it| it["verdict"] = "fine".into()), "report.verdict: \"fine\" is none of the words");
        assert_eq!(broken(|it| it["parts"][0]["up"] = "yes".into()), "report.parts[0].up: \"yes\" has another type");
        assert_eq!(broken(|it| it["new"] = 1.into()), "report.new is not documented");
        assert_eq!(broken(|it| _ = it.as_object_mut().unwrap().remove("missing")), "report.missing is missing");
    }

    /// The part of JSON Schema that the document uses; what it does not know it does not let pass.
    fn check(value: &Value, schema: &Value, all: &Value, at: &str) -> Result<(), String> {
        const KNOWN: [&str; 14] = [
            "$defs",
            "$ref",
            "$schema",
            "anyOf",
            "const",
            "description",
            "enum",
            "format",
            "items",
            "minimum",
            "oneOf",
            "properties",
            "required",
            "title",
        ];
        let rules = schema.as_object().ok_or_else(|| format!("{at}: {schema} is no schema"))?;
        if let Some(rule) = rules.keys().find(|rule| !KNOWN.contains(&rule.as_str()) && *rule != "type") {
            return Err(format!("{at}: the checker does not know {rule}"));
        }
        if let Some(name) = schema["$ref"].as_str() {
            let name = name.strip_prefix("#/$defs/").ok_or_else(|| format!("{at}: {name} leads elsewhere"))?;
            return check(value, &all["$defs"][name], all, at);
        }
        if let Some(any) = schema["anyOf"].as_array().or(schema["oneOf"].as_array()) {
            let mut errors: Vec<String> = any.iter().filter_map(|one| check(value, one, all, at).err()).collect();
            let fits = errors.len() < any.len();
            errors.dedup();
            return if fits { Ok(()) } else { Err(errors.join("; nor ")) };
        }
        if schema.get("const").is_some_and(|word| word != value)
            || schema["enum"].as_array().is_some_and(|words| !words.contains(value))
        {
            return Err(format!("{at}: {value} is none of the words"));
        }
        let is = |kind: &str| match kind {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "null" => value.is_null(),
            _ => false,
        };
        let fits = match &schema["type"] {
            Value::String(kind) => is(kind),
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).any(is),
            _ => true,
        };
        if !fits {
            return Err(format!("{at}: {value} has another type"));
        }
        if schema["format"] == "date-time"
            && value.as_str().is_some_and(|text| text.parse::<jiff::Timestamp>().is_err())
        {
            return Err(format!("{at}: {value} is no time"));
        }
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            check(item, &schema["items"], all, &format!("{at}[{index}]"))?;
        }
        let Some(fields) = value.as_object() else { return Ok(()) };
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                return Err(format!("{at}.{name} is missing"));
            }
        }
        for (name, value) in fields {
            match &schema["properties"][name] {
                Value::Null => return Err(format!("{at}.{name} is not documented")),
                schema => check(value, schema, all, &format!("{at}.{name}"))?,
            }
        }
        Ok(())
    }
}
