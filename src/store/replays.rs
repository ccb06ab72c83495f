//! Table `replays`: answers to requests that may be sent again, for as long as they are remembered.
//!
//! Whoever is asked first makes the answer, and whoever is asked meanwhile, on any node, waits for it.
//! Instants are the wall clock's, whatever time followers live in.

use std::time::Duration;

use sea_orm::{DatabaseConnection, DatabaseTransaction};

use crate::clock::Timestamp;
use crate::store::sql::{self, text};
use crate::store::{Error, Store};

/// How long an answer is remembered.
const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 3600);

/// How long whoever makes an answer may take. After that, as when its process was killed, the request
/// is acted upon anew.
const MADE_WITHIN: Duration = Duration::from_secs(60);

/// What is known of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing: its answer is ours to make.
    New,
    /// Somebody makes its answer.
    BeingMade,
    Answered(String),
}

/// A request as its sender repeats it.
#[derive(Clone, Debug)]
pub struct Request {
    /// The same for a request that is sent again.
    pub key: String,
    /// What is asked for.
    pub request: String,
    /// Known to nobody else.
    pub claim: String,
}

/// Looks a request up, and makes its answer ours to make when there is none. The second value is what
/// was asked for under its key.
pub async fn claim(
    store: &Store,
    request: &Request,
    now: Timestamp,
) -> Result<(Known, String), Error> {
    if let Some((known, asked)) = look(store.read(), request, now).await?
        && known != Known::New
    {
        return Ok((known, asked));
    }
    let values = [
        request.key.clone().into(),
        request.request.clone().into(),
        request.claim.clone().into(),
        now.plus(MADE_WITHIN).0.into(),
        now.0.into(),
        now.minus(REMEMBERED_FOR).0.into(),
    ];
    store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                sql::run(
                    tx,
                    "INSERT INTO replays (key, request, answer, claim, until, at)
                     VALUES (?1, ?2, '', ?3, ?4, ?5)
                     ON CONFLICT (key) DO UPDATE SET request = excluded.request, answer = '',
                         claim = excluded.claim, until = excluded.until, at = excluded.at
                     WHERE replays.at <= ?6 OR replays.answer = '' AND replays.until <= ?5",
                    values,
                )
                .await?;
                Ok(())
            })
        })
        .await?;
    let known = look(store.read(), request, now).await?;
    Ok(known.unwrap_or((Known::BeingMade, request.request.clone())))
}

async fn look(
    read: &DatabaseConnection,
    request: &Request,
    now: Timestamp,
) -> Result<Option<(Known, String)>, Error> {
    let sql = "SELECT answer, claim, request FROM replays
               WHERE key = ?1 AND at > ?2 AND (answer <> '' OR until > ?3)";
    let oldest = now.minus(REMEMBERED_FOR);
    let values = [request.key.clone().into(), oldest.0.into(), now.0.into()];
    let Some(row) = sql::first(read, sql, values).await? else {
        return Ok(None);
    };
    let (answer, claim) = (text(&row, 0)?, text(&row, 1)?);
    let known = match answer.as_str() {
        "" if claim == request.claim => Known::New,
        "" => Known::BeingMade,
        _ => Known::Answered(answer),
    };
    Ok(Some((known, text(&row, 2)?)))
}

/// Remembers the answer that was ours to make; `None` when the request left nothing behind.
pub async fn answer(store: &Store, request: &Request, answer: Option<String>) -> Result<(), Error> {
    let (key, claim) = (request.key.clone().into(), request.claim.clone().into());
    store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                match answer {
                    Some(answer) => {
                        let sql = "UPDATE replays SET answer = ?3 WHERE key = ?1 AND claim = ?2";
                        sql::run(tx, sql, [key, claim, answer.into()]).await?
                    }
                    None => {
                        let sql = "DELETE FROM replays WHERE key = ?1 AND claim = ?2";
                        sql::run(tx, sql, [key, claim]).await?
                    }
                };
                Ok(())
            })
        })
        .await
}

/// Forgets what is remembered no longer.
pub(super) async fn prune(tx: &DatabaseTransaction, now: Timestamp) -> Result<(), Error> {
    let sql = "DELETE FROM replays WHERE at <= ?1";
    sql::run(tx, sql, [now.minus(REMEMBERED_FOR).0.into()]).await?;
    Ok(())
}
