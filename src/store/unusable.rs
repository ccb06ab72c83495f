//! PostgreSQL's url, and why a server cannot be used, in words that say what to change.
//!
//! One connection is made before any pool: a pool tries again until its time is up and then only says
//! that. Nothing here shows a password.

use std::str::FromStr;
use std::time::Duration;

use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::{self, ConnectOptions, Connection, PgConnection};
use url::Url;

use crate::store::Error;

/// Oldest server that is supported, as `server_version_num` counts.
const VERSION_MIN: i64 = 140_000;

/// Longest wait for the server.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// Stands where a password did.
const HIDDEN: &str = "***";

/// Why a PostgreSQL cannot be used. `at` is its host and port, or the path of its socket.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error("PostgreSQL at {at} cannot be reached ({what}): start it, or correct database.url")]
    Unreachable { at: String, what: String },
    #[error(
        "PostgreSQL at {at} does not let `{role}` in ({what}): correct the password in database.url, \
         PGPASSWORD or PGPASSFILE, or the server's pg_hba.conf"
    )]
    Refused {
        at: String,
        role: String,
        what: String,
    },
    #[error(
        "PostgreSQL at {at} has no database `{database}`: run `createdb {database}` there, or correct \
         database.url"
    )]
    NoDatabase { at: String, database: String },
    #[error("PostgreSQL at {at} is version {version}: use 14 or later")]
    TooOld { at: String, version: String },
    #[error(
        "PostgreSQL at {at} is a read-only standby: name its primary in database.url, or promote it"
    )]
    Standby { at: String },
    #[error(
        "PostgreSQL at {at}: TLS failed ({what}): set the server up for it, name its certificate with \
         sslrootcert, or choose another sslmode in database.url"
    )]
    Tls { at: String, what: String },
    #[error("PostgreSQL at {at} has no connection left ({what}): raise its max_connections")]
    Crowded { at: String, what: String },
    #[error("database.url: {what}")]
    Url { what: &'static str },
    #[error(
        "the database was changed by a later dripwheel (migration `{migration}`): run that version, or \
         restore a backup of before"
    )]
    NewerSchema { migration: String },
}

/// A url as logs and messages may show it.
pub fn shown_url(url: &str) -> String {
    if !super::postgres::is_url(url) {
        return url.to_owned();
    }
    let Ok(mut parsed) = Url::parse(url) else {
        return "postgres://…".to_owned();
    };
    if parsed.password().is_some() && parsed.set_password(Some(HIDDEN)).is_err() {
        return "postgres://…".to_owned();
    }
    // A password may stand among the parameters, and what is no parameter may be the end of one.
    parsed.set_query(None);
    parsed.set_fragment(None);
    parsed.into()
}

/// What a url and the environment say of the server.
pub(super) fn options(url: &str) -> Result<PgConnectOptions, Error> {
    // Neither is repeated: the end of a password may have been taken for a parameter.
    let what = match Url::parse(url) {
        Ok(_) => {
            "a parameter has a value that is not understood, such as an sslmode other than \
                  disable, allow, prefer, require, verify-ca and verify-full"
        }
        Err(_) => "write postgres://name:password@host:5432/database",
    };
    PgConnectOptions::from_str(url).map_err(|_| Unusable::Url { what }.into())
}

/// Connects once to see whether the server can be used; to be written to, if `writes`.
pub(super) async fn look(options: &PgConnectOptions, writes: bool) -> Result<(), Error> {
    let at = address(options);
    let looked = tokio::time::timeout(ANSWERS_WITHIN, ask(options)).await;
    let (version, standby) = match looked {
        Ok(Ok(told)) => told,
        Ok(Err(error)) => return Err(why(error, options)),
        Err(_) => {
            let what = format!("no answer within {} s", ANSWERS_WITHIN.as_secs());
            return Err(Unusable::Unreachable { at, what }.into());
        }
    };
    if is_too_old(version) {
        let version = format!("{}.{}", version / 10_000, version % 10_000);
        return Err(Unusable::TooOld { at, version }.into());
    }
    if standby && writes {
        return Err(Unusable::Standby { at }.into());
    }
    Ok(())
}

/// The server's version number, and whether it only follows another one.
async fn ask(options: &PgConnectOptions) -> Result<(i64, bool), sqlx::Error> {
    let mut connection: PgConnection = options
        .clone()
        .disable_statement_logging()
        .connect()
        .await?;
    let told = sqlx::query_as(
        "SELECT CAST(current_setting('server_version_num') AS BIGINT), pg_is_in_recovery()",
    )
    .fetch_one(&mut connection)
    .await?;
    connection.close().await?;
    Ok(told)
}

fn is_too_old(version: i64) -> bool {
    version < VERSION_MIN
}

fn address(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}

/// What an error in connecting means.
fn why(error: sqlx::Error, options: &PgConnectOptions) -> Error {
    let at = address(options);
    let role = options.get_username().to_owned();
    let unusable = match &error {
        sqlx::Error::Io(source) => Unusable::Unreachable {
            at,
            what: source.to_string(),
        },
        sqlx::Error::Tls(source) => Unusable::Tls {
            at,
            what: source.to_string(),
        },
        sqlx::Error::Configuration(_) => Unusable::Url {
            what: "sslcert and sslkey are given together, each as the path of a PEM file",
        },
        sqlx::Error::Database(said) => {
            let what = said.message().to_owned();
            match said.code().as_deref() {
                Some("28P01" | "28000") => Unusable::Refused { at, role, what },
                Some("3D000") => Unusable::NoDatabase {
                    at,
                    database: options.get_database().unwrap_or(&role).to_owned(),
                },
                // It starts, stops or recovers.
                Some("57P03" | "57P01" | "57P02") => Unusable::Unreachable { at, what },
                Some("53300") => Unusable::Crowded { at, what },
                _ => {
                    return sea_orm::DbErr::Conn(sea_orm::RuntimeErr::SqlxError(error.into()))
                        .into();
                }
            }
        }
        _ => return sea_orm::DbErr::Conn(sea_orm::RuntimeErr::SqlxError(error.into())).into(),
    };
    unusable.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_url_is_shown_with_its_password() {
        for (url, shown) in [
            (
                "postgres://ann:canary@db:5433/drip?sslmode=require",
                "postgres://ann:***@db:5433/drip",
            ),
            (
                "postgresql://db/drip?user=ann&password=canary",
                "postgresql://db/drip",
            ),
            ("postgres://ann@db/drip#canary", "postgres://ann@db/drip"),
            ("postgres://ann:can#ary@db/drip", "postgres://…"),
            ("sqlite://dripwheel.db", "sqlite://dripwheel.db"),
        ] {
            assert_eq!(shown_url(url), shown, "{url}");
        }
    }

    #[test]
    fn versions_before_14_are_too_old() {
        assert!(is_too_old(130_018) && is_too_old(90_624));
        assert!(!is_too_old(140_000) && !is_too_old(180_001));
    }

    #[test]
    fn a_url_that_says_nonsense_is_refused_without_being_repeated() {
        for url in [
            "postgres://ann:canary@db:port/drip",
            "postgres://ann:canary@db/d?sslmode=maybe",
        ] {
            let error = options(url).unwrap_err();
            let said = format!("{error} {error:?}");
            assert!(!said.contains("canary") && said.contains("url"), "{said}");
        }
    }
}
