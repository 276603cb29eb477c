//! Questions in SQL, asked by people and agents: one SELECT that can neither change anything nor cost the Pi much.
//!
//! What stands between a question and the database, each for itself enough against a change:
//! - the role is `nexus_reader`, which the schema grants nothing but to read;
//! - the transaction is READ ONLY, and whatever came of it is rolled back;
//! - the text is prepared first, which takes one statement and no more, and then asked as the inner query of another
//!   one. There neither a command (`SET`, `COPY`, `DO`) nor a statement that writes is grammar. A text that is a whole
//!   statement by itself can't end the parenthesis that it stands in.
//!
//! Against cost: Postgres ends what takes longer than [`Bounds::time`], spills at most what the role may
//! (`temp_file_limit`), and gives no row that is longer than [`Bounds::row_bytes`]; what is beyond [`Bounds::rows`] or
//! [`Bounds::bytes`] is cut, and the answer says so. Two questions are answered at a time.
//!
//! What this does not do: bound the memory of Postgres for one question. compose.yml does, for each of its processes
//! (RLIMIT_DATA); here what Postgres says then is put into words.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, pin_mut};
use schemars::{JsonSchema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use tokio_postgres::{Client, Transaction, error::SqlState, types::ToSql};

use crate::{
    database::{Database, DatabaseError},
    errors::chain,
    report::format::count,
};

/// Of a question, in bytes.
pub const SQL_LIMIT: usize = 4096;
/// At a time: more would be more than the Pi has processors to spare.
const AT_A_TIME: usize = 2;
/// What the client waits beyond the time that Postgres keeps itself to.
const GRACE: Duration = Duration::from_secs(5);

/// What a question may cost.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub time: Duration,
    pub rows: usize,
    /// Of all rows, as JSON.
    pub bytes: usize,
    pub row_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        // The time is what the role has, too. An agent is given 40 kB of an answer; a program may want more.
        Bounds { time: Duration::from_secs(10), rows: 1000, bytes: 256 * 1024, row_bytes: 32 * 1024 }
    }
}

/// `GET /api/v1/query`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QueryAnswer {
    pub columns: Vec<QueryColumn>,
    /// Each with a value for each column, in their order.
    #[schemars(schema_with = "rows")]
    pub rows: Vec<Vec<Value>>,
    /// False when there are more rows than were given.
    pub complete: bool,
    /// For people: why not.
    pub note: Option<String>,
    pub milliseconds: u64,
}

fn rows(_: &mut SchemaGenerator) -> schemars::Schema {
    let value = json!({"description": "As Postgres writes a value of the column's type in JSON."});
    json_schema!({"type": "array", "items": {"type": "array", "items": value}})
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueryColumn {
    pub name: String,
    /// Postgres' name of the type.
    #[serde(rename = "type")]
    pub kind: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// Something in the question.
    #[error("{0}")]
    Wrong(String),
    #[error("{AT_A_TIME} questions are being answered already: ask again in a moment")]
    Busy,
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("asking postgres")]
    Postgres(#[source] tokio_postgres::Error),
    #[error("postgres did not answer within {} s", .0.as_secs())]
    TimedOut(Duration),
}

/// Asks as the role that may only read.
#[derive(Debug)]
pub struct Reader {
    database: Database,
    bounds: Bounds,
    slots: Semaphore,
}

impl Reader {
    /// `database` is that of [`Database::reader`].
    pub fn new(database: Database, bounds: Bounds) -> Reader {
        Reader { database, bounds, slots: Semaphore::new(AT_A_TIME) }
    }

    pub async fn ask(&self, sql: &str) -> Result<QueryAnswer, SqlError> {
        let sql = checked(sql).map_err(SqlError::Wrong)?;
        let _slot = self.slots.try_acquire().map_err(|_| SqlError::Busy)?;
        let begun = Instant::now();
        let within = self.bounds.time + GRACE;
        let asked = async {
            let mut client = self.connect().await?;
            answer(&mut client, sql, self.bounds).await
        };
        let answered = tokio::time::timeout(within, asked).await.map_err(|_| SqlError::TimedOut(within))?;
        let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        answered.map(|answer| QueryAnswer { milliseconds, ..answer })
    }

    /// What can be asked about: tables and views with their columns, or one of them.
    pub async fn schema(&self, table: Option<&str>) -> Result<Schema, SqlError> {
        let _slot = self.slots.try_acquire().map_err(|_| SqlError::Busy)?;
        let within = self.bounds.time + GRACE;
        let asked = async { schema(&self.connect().await?, table).await };
        tokio::time::timeout(within, asked).await.map_err(|_| SqlError::TimedOut(within))?
    }

    async fn connect(&self) -> Result<Client, SqlError> {
        Ok(self.database.connect().await?)
    }
}

/// Says in words what Postgres would say less clearly. What is let pass here Postgres judges.
fn checked(sql: &str) -> Result<&str, String> {
    if sql.len() > SQL_LIMIT {
        return Err(format!("a question has at most {SQL_LIMIT} bytes"));
    }
    if sql.contains('\0') {
        return Err("a question can't hold NUL".to_owned());
    }
    let sql = sql.trim().trim_end_matches(|c: char| c == ';' || c.is_whitespace());
    let word: String = first_word(sql).chars().take_while(char::is_ascii_alphabetic).collect();
    match word.to_ascii_lowercase().as_str() {
        "select" | "with" | "values" | "table" => Ok(sql),
        "" if first_word(sql).starts_with('(') => Ok(sql),
        _ => Err("a question is one SELECT (or WITH, VALUES, TABLE): nothing else is answered".to_owned()),
    }
}

/// The text from the first thing on that is no comment.
fn first_word(mut sql: &str) -> &str {
    loop {
        sql = sql.trim_start();
        sql = if let Some(rest) = sql.strip_prefix("--") {
            rest.split_once('\n').map_or("", |(_, rest)| rest)
        } else if let Some(rest) = sql.strip_prefix("/*") {
            rest.split_once("*/").map_or("", |(_, rest)| rest)
        } else {
            return sql;
        }
    }
}

async fn answer(client: &mut Client, sql: &str, bounds: Bounds) -> Result<QueryAnswer, SqlError> {
    // Never committed: dropped it is rolled back, and so is what a function may have done that cares for no READ ONLY.
    let transaction = client.build_transaction().read_only(true).start().await.map_err(told)?;
    let columns = columns(&transaction, sql).await?;
    // A line of its own, since the question may end in a comment.
    let bounded = format!(
        "SELECT octet_length(line), CASE WHEN octet_length(line) <= {most} THEN line END
         FROM (SELECT row_to_json(question)::text AS line FROM (\n{sql}\n) AS question LIMIT {limit}) AS lines",
        most = bounds.row_bytes,
        limit = bounds.rows + 1,
    );
    let none: [&(dyn ToSql + Sync); 0] = [];
    let stream = transaction.query_raw(&bounded, none).await.map_err(told)?;
    pin_mut!(stream);
    let mut answer = QueryAnswer { columns, rows: Vec::new(), complete: true, note: None, milliseconds: 0 };
    let mut bytes = 0;
    while let Some(row) = stream.next().await {
        let row = row.map_err(told)?;
        let length: i32 = row.try_get(0).map_err(SqlError::Postgres)?;
        let text: Option<&str> = row.try_get(1).map_err(SqlError::Postgres)?;
        let Some(text) = text else {
            let (row, most) = (answer.rows.len() + 1, bounds.row_bytes);
            return Err(SqlError::Wrong(format!(
                "row {row} has {length} bytes as JSON, and {most} are the most: select less of it, such as left(column, 1000)"
            )));
        };
        bytes += text.len();
        let cut = match (answer.rows.len() >= bounds.rows, bytes > bounds.bytes) {
            (true, _) => Some(format!("only the first {}: ask for fewer, or aggregate", count(bounds.rows, "row"))),
            (_, true) => Some(format!("only the first {} bytes: ask for fewer rows or columns", bounds.bytes)),
            _ => None,
        };
        if cut.is_some() {
            (answer.complete, answer.note) = (false, cut);
            break;
        }
        let fields: Map<String, Value> = serde_json::from_str(text)
            .map_err(|error| SqlError::Wrong(format!("a row can't be written as JSON: {error}")))?;
        let value = |column: &QueryColumn| fields.get(&column.name).cloned().unwrap_or(Value::Null);
        answer.rows.push(answer.columns.iter().map(value).collect());
    }
    Ok(answer)
}

/// Prepares the text as it is, which tells whether it is one statement, and of which columns.
async fn columns(transaction: &Transaction<'_>, sql: &str) -> Result<Vec<QueryColumn>, SqlError> {
    let statement = transaction.prepare(sql).await.map_err(told)?;
    let wrong = |why: String| Err(SqlError::Wrong(why));
    if !statement.params().is_empty() {
        return wrong("a question has no parameters such as $1: write the values into it".to_owned());
    }
    if statement.columns().is_empty() {
        return wrong("a question must give columns: name what to select".to_owned());
    }
    let column =
        |it: &tokio_postgres::Column| QueryColumn { name: it.name().to_owned(), kind: it.type_().name().to_owned() };
    let columns: Vec<QueryColumn> = statement.columns().iter().map(column).collect();
    let mut names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return wrong(format!("two columns are called {:?}: give them names with AS", pair[0]));
    }
    Ok(columns)
}

/// What Postgres says of a question is told to who asked it; that it is away, is full or stops is no fault of theirs.
fn told(error: tokio_postgres::Error) -> SqlError {
    let Some(said) = error.as_db_error() else { return SqlError::Postgres(error) };
    let code = said.code().code();
    if ["08", "57P", "58", "XX"].iter().any(|class| code.starts_with(class)) {
        return SqlError::Postgres(error);
    }
    if *said.code() == SqlState::QUERY_CANCELED {
        return SqlError::Wrong("it took too long and was ended: ask for less, such as a shorter time".to_owned());
    }
    if *said.code() == SqlState::OUT_OF_MEMORY {
        return SqlError::Wrong(
            "it took more memory than a question may and was ended: ask for less, or aggregate in steps".to_owned(),
        );
    }
    let mut sentence = said.message().to_owned();
    for more in [said.detail(), said.hint()].into_iter().flatten() {
        sentence.push_str("; ");
        sentence.push_str(more);
    }
    SqlError::Wrong(format!("{sentence} ({code})"))
}

/// `GET /api/v1/schema`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Schema {
    pub tables: Vec<SchemaTable>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SchemaTable {
    /// As a question names it.
    pub name: String,
    /// `table` or `view`.
    pub kind: String,
    pub says: Option<String>,
    pub columns: Vec<SchemaColumn>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SchemaColumn {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    /// What it holds; only where one table was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub says: Option<String>,
}

/// From Postgres itself: what it is told in the migrations, and only what the role may read. Partitions are their table's.
const SCHEMA: &str = "
SELECT CASE WHEN n.nspname = 'public' THEN '' ELSE n.nspname || '.' END || c.relname,
       CASE WHEN c.relkind = 'v' THEN 'view' ELSE 'table' END, obj_description(c.oid, 'pg_class'),
       a.attname::text, format_type(a.atttypid, a.atttypmod), col_description(c.oid, a.attnum)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE n.nspname IN ('public', 'history') AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
  AND has_table_privilege(c.oid, 'SELECT')
ORDER BY n.nspname DESC, c.relkind = 'v' DESC, c.relname, a.attnum LIMIT 5000";

async fn schema(client: &Client, table: Option<&str>) -> Result<Schema, SqlError> {
    let rows = client.query(SCHEMA, &[]).await.map_err(SqlError::Postgres)?;
    let mut tables: Vec<SchemaTable> = Vec::new();
    for row in &rows {
        let text = |column: usize| row.try_get::<_, String>(column).map_err(SqlError::Postgres);
        let says = |column: usize| row.try_get::<_, Option<String>>(column).map_err(SqlError::Postgres);
        let name = text(0)?;
        if tables.last().is_none_or(|last| last.name != name) {
            tables.push(SchemaTable { name, kind: text(1)?, says: says(2)?, columns: Vec::new() });
        }
        // All of them in full are more than an agent is given.
        let says = if table.is_some() { says(5)? } else { None };
        let column = SchemaColumn { name: text(3)?, kind: text(4)?, says };
        tables.last_mut().into_iter().for_each(|last| last.columns.push(column.clone()));
    }
    let Some(wanted) = table else { return Ok(Schema { tables }) };
    let names: Vec<String> = tables.iter().map(|table| table.name.clone()).collect();
    tables.retain(|table| table.name == wanted);
    if tables.is_empty() {
        return Err(SqlError::Wrong(format!("there is no table {wanted:?}; there are {}", names.join(", "))));
    }
    Ok(Schema { tables })
}

/// The whole of an error, for who is told nothing else.
pub fn sentence(error: &SqlError) -> String {
    match error {
        SqlError::Wrong(why) => why.clone(),
        error => chain(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_one_select() {
        let good = |sql: &str, expected: &str| assert_eq!(checked(sql), Ok(expected));
        good(" SELECT 1 ; ", "SELECT 1");
        good("with a as (select 1) select * from a", "with a as (select 1) select * from a");
        good("(select 1)", "(select 1)");
        good("-- why\n/* and */ values (1)", "-- why\n/* and */ values (1)");
        good("table incidents;;", "table incidents");
        // Whether a second statement follows Postgres says.
        good("select 1; drop table incidents", "select 1; drop table incidents");
        for sql in [
            "",
            ";",
            "--",
            "/*",
            "explain select 1",
            "SET ROLE postgres",
            "copy x to program 'sh'",
            "selectx",
            "ſelect 1",
        ] {
            assert!(checked(sql).unwrap_err().contains("one SELECT"), "{sql}");
        }
        assert!(checked(&format!("select '{}'", "x".repeat(SQL_LIMIT))).unwrap_err().contains("4096 bytes"));
        assert!(checked("select '\0'").is_err());
    }
}
