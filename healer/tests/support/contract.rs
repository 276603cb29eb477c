//! Holds each answer of the running healer against its document.

use std::sync::LazyLock;

use serde_json::Value;

#[path = "../../../lib/web/testing/contract.rs"]
mod shared;

static CONTRACT: LazyLock<shared::Contract> =
    LazyLock::new(|| shared::Contract::new(include_str!("../../src/api/openapi.json")));

pub fn check_answer(method: &str, target: &str, status: u16, content_type: &str, body: &str) {
    CONTRACT.check_answer(method, target, status, content_type, body);
}

pub fn validate(value: &Value, schema: &Value, at: &str) -> Result<(), String> {
    CONTRACT.validate(value, schema, at)
}
