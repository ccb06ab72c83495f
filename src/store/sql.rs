//! Plain SQL through the ORM: one text for SQLite and PostgreSQL.
//!
//! A text is what both databases understand. `?1` stands for the first value, and `{rows}` for a
//! set of rows under the name `r`, with the columns that `Rows` names. SQLite gets the set as one
//! JSON array that `json_each` unfolds, PostgreSQL as one array for each column that `UNNEST`
//! unfolds; either way the statement is prepared once, whatever the number of rows. What the two
//! spell differently is written down once, in `dialect`.
//!
//! PostgreSQL has no text with a NUL in it. The doors let none in; whichever gets this far all the
//! same is another character, so that one bad text never fails the commit of everybody else's.

use std::borrow::Cow;

use sea_orm::{ConnectionTrait, DbBackend, QueryResult, Statement, Value};

use crate::clock::Timestamp;
use crate::store::Error;

/// Runs a statement; says how many rows it touched.
pub(super) async fn run(
    on: &impl ConnectionTrait,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<u64, Error> {
    let statement = statement(on.get_database_backend(), sql, values);
    Ok(on.execute_raw(statement).await?.rows_affected())
}

/// All rows that a statement gives.
pub(super) async fn all(
    on: &impl ConnectionTrait,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<Vec<QueryResult>, Error> {
    let statement = statement(on.get_database_backend(), sql, values);
    Ok(on.query_all_raw(statement).await?)
}

/// The first row that a statement gives.
pub(super) async fn first(
    on: &impl ConnectionTrait,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<Option<QueryResult>, Error> {
    let statement = statement(on.get_database_backend(), sql, values);
    Ok(on.query_one_raw(statement).await?)
}

/// Runs a statement over a set of rows, unless it is empty; says how many rows it touched.
pub(super) async fn run_over<T>(
    on: &impl ConnectionTrait,
    sql: &str,
    rows: Rows<'_, T>,
    values: impl IntoIterator<Item = Value>,
) -> Result<u64, Error> {
    if rows.items.is_empty() {
        return Ok(0);
    }
    let statement = rows.statement(on.get_database_backend(), sql, values);
    Ok(on.execute_raw(statement).await?.rows_affected())
}

/// All rows that a statement over a set of rows gives; none for an empty set.
pub(super) async fn all_over<T>(
    on: &impl ConnectionTrait,
    sql: &str,
    rows: Rows<'_, T>,
    values: impl IntoIterator<Item = Value>,
) -> Result<Vec<QueryResult>, Error> {
    if rows.items.is_empty() {
        return Ok(Vec::new());
    }
    let statement = rows.statement(on.get_database_backend(), sql, values);
    Ok(on.query_all_raw(statement).await?)
}

/// What the two databases spell differently: the text for the one at hand.
pub(super) fn dialect<'a>(
    on: &impl ConnectionTrait,
    sqlite: &'a str,
    postgres: &'a str,
) -> &'a str {
    match on.get_database_backend() {
        DbBackend::Postgres => postgres,
        _ => sqlite,
    }
}

/// Joins to each row of a set those of a table, under a name, that a condition finds.
///
/// PostgreSQL would begin with the table where it takes a condition for weaker than it is: a range
/// counts as a part of the whole, whatever its ends. `OFFSET 0` keeps it from taking the two apart.
pub(super) fn each(on: &impl ConnectionTrait, table: &str, name: &str, found: &str) -> String {
    match on.get_database_backend() {
        DbBackend::Postgres => format!(
            "CROSS JOIN LATERAL (SELECT * FROM {table} AS {name} WHERE {found} OFFSET 0) AS {name}"
        ),
        _ => format!("CROSS JOIN {table} AS {name} ON {found}"),
    }
}

/// Whether rows must be locked by hand: PostgreSQL lets several nodes write at once.
pub(super) fn has_other_writers(on: &impl ConnectionTrait) -> bool {
    on.get_database_backend() == DbBackend::Postgres
}

/// A text as it can be stored, and is to be looked for.
pub(super) fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        return Cow::Owned(text.replace('\0', "\u{FFFD}"));
    }
    Cow::Borrowed(text)
}

fn without_nul(value: Value) -> Value {
    match value {
        Value::String(Some(text)) if text.contains('\0') => storable(&text).into_owned().into(),
        other => other,
    }
}

fn statement(backend: DbBackend, sql: &str, values: impl IntoIterator<Item = Value>) -> Statement {
    let values = values.into_iter().map(without_nul);
    if backend == DbBackend::Postgres {
        return Statement::from_sql_and_values(backend, sql.replace('?', "$"), values);
    }
    Statement::from_sql_and_values(backend, sql, values)
}

/// A set of rows, column by column.
#[derive(Debug)]
pub(super) struct Rows<'a, T> {
    items: &'a [T],
    columns: Vec<(&'static str, Column)>,
}

#[derive(Debug)]
enum Column {
    Int(Vec<Option<i64>>),
    Text(Vec<Option<String>>),
}

impl<'a, T> Rows<'a, T> {
    /// Rows made of these items; columns are to be added.
    pub(super) fn of(items: &'a [T]) -> Self {
        let columns = Vec::new();
        Self { items, columns }
    }

    /// A column of integers.
    pub(super) fn int(self, name: &'static str, value: impl Fn(&T) -> i64) -> Self {
        self.int_or_none(name, |item| Some(value(item)))
    }

    /// A column of integers that may be NULL.
    pub(super) fn int_or_none(
        mut self,
        name: &'static str,
        value: impl Fn(&T) -> Option<i64>,
    ) -> Self {
        let values = self.items.iter().map(value).collect();
        self.columns.push((name, Column::Int(values)));
        self
    }

    /// A column of texts.
    pub(super) fn text(self, name: &'static str, value: impl Fn(&T) -> String) -> Self {
        self.text_or_none(name, |item| Some(value(item)))
    }

    /// A column of texts that may be NULL.
    pub(super) fn text_or_none(
        mut self,
        name: &'static str,
        value: impl Fn(&T) -> Option<String>,
    ) -> Self {
        let storable = |text: String| match storable(&text) {
            Cow::Borrowed(_) => text,
            Cow::Owned(other) => other,
        };
        let values = self.items.iter().map(value);
        let values = values.map(|text| text.map(storable)).collect();
        self.columns.push((name, Column::Text(values)));
        self
    }

    fn statement(
        self,
        backend: DbBackend,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Statement {
        let mut values: Vec<_> = values.into_iter().collect();
        let first = values.len() + 1;
        let set = match backend {
            DbBackend::Postgres => self.into_arrays(first, &mut values),
            _ => self.into_json(first, &mut values),
        };
        statement(backend, &sql.replace("{rows}", &set), values)
    }

    fn into_json(self, place: usize, values: &mut Vec<Value>) -> String {
        let columns = self.columns.iter().enumerate();
        let columns = columns.map(|(at, (name, _))| format!("value ->> {at} AS {name}"));
        let columns: Vec<_> = columns.collect();
        let mut json = String::with_capacity(self.items.len() * self.columns.len() * 12 + 2);
        json.push('[');
        for row in 0..self.items.len() {
            json.push(if row == 0 { '[' } else { ',' });
            if row > 0 {
                json.push('[');
            }
            for (at, (_, column)) in self.columns.iter().enumerate() {
                if at > 0 {
                    json.push(',');
                }
                column.write_json(row, &mut json);
            }
            json.push(']');
        }
        json.push(']');
        values.push(json.into());
        format!(
            "(SELECT {} FROM json_each(?{place})) AS r",
            columns.join(", ")
        )
    }

    fn into_arrays(self, first: usize, values: &mut Vec<Value>) -> String {
        let (mut names, mut arrays) = (Vec::new(), Vec::new());
        for (at, (name, column)) in self.columns.into_iter().enumerate() {
            names.push(name);
            // As a literal: the ORM binds no arrays that hold NULL.
            arrays.push(format!("?{}::{}[]", first + at, column.kind()));
            values.push(column.to_literal().into());
        }
        format!("UNNEST({}) AS r({})", arrays.join(", "), names.join(", "))
    }
}

impl Column {
    /// The type that PostgreSQL gives it.
    fn kind(&self) -> &'static str {
        match self {
            Self::Int(_) => "bigint",
            Self::Text(_) => "text",
        }
    }

    /// All of it as an array literal of PostgreSQL.
    fn to_literal(&self) -> String {
        let mut literal = String::from("{");
        match self {
            Self::Int(all) => {
                for (row, value) in all.iter().enumerate() {
                    if row > 0 {
                        literal.push(',');
                    }
                    match value {
                        Some(value) => literal.push_str(&value.to_string()),
                        None => literal.push_str("NULL"),
                    }
                }
            }
            Self::Text(all) => {
                for (row, value) in all.iter().enumerate() {
                    if row > 0 {
                        literal.push(',');
                    }
                    match value {
                        Some(value) => quote(value, &mut literal),
                        None => literal.push_str("NULL"),
                    }
                }
            }
        }
        literal.push('}');
        literal
    }

    fn write_json(&self, row: usize, json: &mut String) {
        use std::fmt::Write;
        let written = match self {
            Self::Int(all) => match all.get(row).copied().flatten() {
                Some(value) => write!(json, "{value}"),
                None => write!(json, "null"),
            },
            Self::Text(all) => match all.get(row).and_then(Option::as_ref) {
                Some(value) => write!(json, "{}", serde_json::Value::String(value.clone())),
                None => write!(json, "null"),
            },
        };
        written.expect("a String takes whatever is written to it");
    }
}

/// A text within an array literal.
fn quote(value: &str, literal: &mut String) {
    literal.push('"');
    for letter in value.chars() {
        if matches!(letter, '"' | '\\') {
            literal.push('\\');
        }
        literal.push(letter);
    }
    literal.push('"');
}

/// An integer column.
pub(super) fn int(row: &QueryResult, index: usize) -> Result<i64, Error> {
    // What PostgreSQL makes of a literal is half as wide as what it stores.
    match row.try_get_by_index::<i64>(index) {
        Ok(value) => Ok(value),
        Err(error) => match row.try_get_by_index::<i32>(index) {
            Ok(value) => Ok(i64::from(value)),
            Err(_) => Err(error.into()),
        },
    }
}

/// A column that counts something small.
pub(super) fn small<T: TryFrom<i64>>(
    row: &QueryResult,
    index: usize,
    table: &'static str,
) -> Result<T, Error> {
    let number = int(row, index)?;
    T::try_from(number).map_err(|_| Error::Row {
        table,
        what: format!("column {index} holds {number}"),
    })
}

/// A column that holds 0 or 1.
pub(super) fn flag(row: &QueryResult, index: usize) -> Result<bool, Error> {
    Ok(int(row, index)? != 0)
}

/// An instant.
pub(super) fn instant(row: &QueryResult, index: usize) -> Result<Timestamp, Error> {
    Ok(Timestamp(int(row, index)?))
}

/// A text column.
pub(super) fn text(row: &QueryResult, index: usize) -> Result<String, Error> {
    Ok(row.try_get_by_index(index)?)
}

/// A text column that may be NULL.
pub(super) fn text_or_none(row: &QueryResult, index: usize) -> Result<Option<String>, Error> {
    Ok(row.try_get_by_index(index)?)
}
