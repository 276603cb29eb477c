//! Questions in SQL.
//!
//! The token that reads is enough for them, and that is why they are `GET`: the role that asks may read what the API tells
//! anyway, the history and the incidents (whose evidence was redacted before it was stored), nothing is changed by it, and
//! what it costs is bounded ([`crate::sql`]). No secret is in a row.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
};
use serde::Deserialize;

use super::{Problem, asked};
use crate::{
    server::App,
    sql::{QueryAnswer, Reader, Schema, SqlError, sentence},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqlQuery {
    sql: String,
}

pub async fn query(
    State(app): State<App>,
    query: Result<Query<SqlQuery>, QueryRejection>,
) -> Result<Json<QueryAnswer>, Problem> {
    let SqlQuery { sql } = asked(query)?;
    reader(&app)?.ask(&sql).await.map(Json).map_err(problem)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchemaQuery {
    table: Option<String>,
}

pub async fn schema(
    State(app): State<App>,
    query: Result<Query<SchemaQuery>, QueryRejection>,
) -> Result<Json<Schema>, Problem> {
    let SchemaQuery { table } = asked(query)?;
    reader(&app)?.schema(table.as_deref()).await.map(Json).map_err(problem)
}

fn reader(app: &App) -> Result<&Reader, Problem> {
    const NONE: &str = "no --database.url or no --database.reader-password-file: there is nothing to be asked";
    app.reader.as_ref().ok_or_else(|| Problem(StatusCode::BAD_GATEWAY, NONE.to_owned()))
}

fn problem(error: SqlError) -> Problem {
    let status = match error {
        SqlError::Wrong(_) => StatusCode::BAD_REQUEST,
        SqlError::Busy => StatusCode::TOO_MANY_REQUESTS,
        SqlError::Database(_) | SqlError::Postgres(_) | SqlError::TimedOut(_) => StatusCode::BAD_GATEWAY,
    };
    Problem(status, sentence(&error))
}
