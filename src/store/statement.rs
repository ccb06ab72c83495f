//! Plain SQL through the ORM: statements, sets of rows as one JSON parameter, and typed columns.
//!
//! A set travels as one bound JSON array that `json_each` unfolds, so that each statement is
//! prepared once whatever the number of rows.

use sea_orm::{DbBackend, QueryResult, Statement, Value};
use serde::Serialize;

use crate::clock::Timestamp;
use crate::store::Error;

/// A statement with its values.
pub(super) fn statement(sql: &str, values: impl IntoIterator<Item = Value>) -> Statement {
    Statement::from_sql_and_values(DbBackend::Sqlite, sql, values)
}

/// A statement whose first parameter is a set of rows.
pub(super) fn over<T: Serialize>(sql: &str, rows: &[T]) -> Result<Statement, Error> {
    let json = serde_json::to_string(rows).map_err(|error| Error::Row {
        table: "parameter",
        what: error.to_string(),
    })?;
    Ok(statement(sql, [json.into()]))
}

/// A statement whose first parameter is a set of rows, with further ones.
pub(super) fn over_with<T: Serialize>(
    sql: &str,
    rows: &[T],
    values: impl IntoIterator<Item = Value>,
) -> Result<Statement, Error> {
    let mut statement = over(sql, rows)?;
    if let Some(all) = &mut statement.values {
        all.0.extend(values);
    }
    Ok(statement)
}

/// An integer column.
pub(super) fn int(row: &QueryResult, index: usize) -> Result<i64, Error> {
    Ok(row.try_get_by_index(index)?)
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
