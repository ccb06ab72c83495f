//! Compares the accounts of a component with the platform's own list: what was missed while we were
//! away is found there, at each start, once a day, and when the platform speaks of somebody unknown.
//!
//! Source: the platform's pages "get authorizer list" and "get authorizer info".

use std::collections::HashMap;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use super::authorizer::NOT_AUTHORIZED;
use super::list::Listed;
use super::not_stored;
use super::registrar::{AT_ONCE, FOLLOW_EVERY, Registrar, Taken};
use crate::clock::Timestamp;
use crate::sender::platform::{Answer, AnswerClass};
use crate::store::authorizers::{self, Authorizer, State};
use crate::store::components;

/// How often the accounts are compared with the platform's list.
const RECONCILE_EVERY: Duration = Duration::from_secs(24 * 3600);
/// Pause after a comparison that failed.
const TRY_AGAIN: Duration = Duration::from_secs(60);
/// A comparison that keeps failing is tried less and less often, at least this often.
const TRY_AGAIN_MAX: Duration = Duration::from_secs(3600);

/// Shortest time between two comparisons, in real time.
const COMPARE_APART: Duration = Duration::from_secs(2);

fn backoff(failures: u32) -> Duration {
    TRY_AGAIN_MAX.min(TRY_AGAIN * (1 << failures.min(8)))
}

impl Registrar {
    pub(super) async fn reconcile_forever(&self) {
        let mut next_at = self.clock.now();
        let mut failures = 0;
        let mut compared_at = Instant::now();
        // Nobody who makes us look makes us look before.
        let mut rest_until = next_at;
        let mut asked = false;
        let mut was_another = false;
        loop {
            // One node compares for all, but whoever misses somebody looks at once.
            let ours = self.store.leases().hold_server();
            if ours && was_another {
                next_at = self.compared_at().await.plus(RECONCILE_EVERY);
            }
            was_another = !ours;
            if self.clock.now() >= next_at && (ours || asked) {
                compared_at = Instant::now();
                let reconciled = self.reconcile().await;
                failures = if reconciled.is_ok() { 0 } else { failures + 1 };
                if let Err(answer) = &reconciled {
                    tracing::warn!(
                        component = self.component.app_id(),
                        reason = answer.detail,
                        "accounts not compared with the platform's list"
                    );
                }
                let now = self.clock.now();
                rest_until = match &reconciled {
                    Err(_) => now.plus(backoff(failures)),
                    Ok(false) if asked => now.plus(TRY_AGAIN),
                    Ok(_) => now,
                };
                next_at = match failures {
                    0 => now.plus(RECONCILE_EVERY),
                    _ => rest_until,
                };
                asked = false;
            }
            tokio::select! {
                () = self.clock.sleep_until(next_at), if ours => {}
                () = tokio::time::sleep(FOLLOW_EVERY), if !ours => {}
                () = self.ticket.notified() => if failures > 0 { next_at = self.clock.now() },
                () = self.component.0.missed.notified() => {
                    // Whoever makes us look again and again finds us at rest meanwhile.
                    tokio::time::sleep_until(compared_at + COMPARE_APART).await;
                    next_at = next_at.min(self.clock.now().max(rest_until));
                    asked = true;
                }
            }
        }
    }

    /// When the accounts were last compared, by any node.
    async fn compared_at(&self) -> Timestamp {
        let standings = components::standings(self.store.read()).await;
        let app_id = self.component.app_id();
        let ours = standings.into_iter().flatten();
        let ours = ours.filter(|one| one.app_id == app_id);
        let at = ours.filter_map(|one| one.reconciled_at).next();
        at.unwrap_or_default()
    }

    /// Compares the accounts with the platform's list: takes in and lets go what was missed.
    /// Answers whether that was anything.
    ///
    /// # Errors
    /// When the list cannot be had whole; then nothing changes.
    pub async fn reconcile(&self) -> Result<bool, Answer> {
        let sweep = self.component.list_anew().await?;
        let component = self.component.app_id();
        let rows = authorizers::all(self.store.read(), component).await;
        let rows = rows.map_err(|error| not_stored(&error))?;
        let rows: HashMap<_, _> = rows.iter().map(|row| (row.app_id.as_str(), row)).collect();
        let directory = self.store.knowledge().authorizers();
        let unchanged = |app_id: &str| !directory.changed_since(component, app_id, sweep.moment);
        let mut news = Vec::new();
        for (app_id, listed) in sweep.accounts.iter() {
            let row = rows.get(app_id.as_str());
            let same = row.is_some_and(|row| {
                row.state == State::Authorized && row.authorized_at == listed.authorized_at
            });
            if !same && !self.settings.test_accounts.contains(app_id) && unchanged(app_id) {
                news.push((app_id.clone(), listed.clone(), row.copied().cloned()));
            }
        }
        let taken = stream::iter(news).map(async |(app_id, listed, before)| {
            let taken = self.take_listed(&app_id, &listed, sweep.moment).await;
            if let Err(answer) = &taken {
                tracing::warn!(authorizer = app_id, reason = answer.detail, "not taken in");
            }
            // Whoever is not served is looked at each time, and mostly with the same result.
            taken.map(|taken| {
                before.is_none_or(|row: Authorizer| {
                    row.state != State::NotServed || row.reason != taken.reason
                })
            })
        });
        let taken: Vec<Result<bool, Answer>> = taken.buffer_unordered(AT_ONCE).collect().await;
        let gone: Vec<Authorizer> = rows
            .values()
            .filter(|row| row.state == State::Authorized)
            .filter(|row| !sweep.accounts.contains_key(&row.app_id) && unchanged(&row.app_id))
            .map(|row| Authorizer::clone(row))
            .collect();
        if sweep.accounts.is_empty() && gone.len() > 1 {
            let words = "the platform lists no account at all: nothing is believed of that";
            return Err(Answer::without_code(AnswerClass::RetrySoon, words));
        }
        let gone = stream::iter(gone).map(async |row| self.let_go(&row, sweep.moment).await);
        let gone: Vec<Result<bool, Answer>> = gone.buffer_unordered(AT_ONCE).collect().await;
        let gone = gone.into_iter().collect::<Result<Vec<_>, _>>()?;
        if taken.iter().any(Result::is_err) {
            let words = "some accounts of the platform's list were not taken in";
            return Err(Answer::without_code(AnswerClass::RetrySoon, words));
        }
        let noted = components::note_reconciled(&self.store, component, self.clock.now()).await;
        noted.map_err(|error| not_stored(&error))?;
        Ok(gone.contains(&true) || taken.iter().any(|taken| matches!(taken, Ok(true))))
    }

    /// Ends the authorization of an account that is missing in the list, if the platform says so of
    /// that account too: its refresh token goes with it. Answers whether it has ended.
    async fn let_go(&self, row: &Authorizer, moment: u64) -> Result<bool, Answer> {
        let app_id = row.app_id.as_str();
        match self.component.info(app_id).await {
            Err(answer) if answer.code == Some(NOT_AUTHORIZED) => {}
            Err(answer) => return Err(answer),
            Ok(_) => {
                tracing::warn!(
                    authorizer = app_id,
                    "not in the platform's list, but authorized: kept"
                );
                return Ok(false);
            }
        }
        let key = (self.component.app_id(), app_id);
        let directory = self.store.knowledge().authorizers();
        if directory.changed_since(key.0, key.1, moment) {
            return Ok(false);
        }
        let reason = "the platform lists it no more: ask its owner to authorize again";
        let now = self.clock.now();
        let ended = authorizers::withdraw(&self.store, key, None, reason, now).await;
        let ended = ended.map_err(|error| not_stored(&error))?;
        tracing::warn!(authorizer = app_id, "authorization ended unnoticed");
        Ok(ended)
    }

    /// Takes in an account that was authorized, or authorized anew, without our knowing.
    async fn take_listed(
        &self,
        app_id: &str,
        listed: &Listed,
        moment: u64,
    ) -> Result<Taken, Answer> {
        let key = (self.component.app_id(), app_id);
        if let Some(refresh_token) = &listed.refresh_token {
            let now = self.clock.now();
            let kept = authorizers::keep(&self.store, key, refresh_token, now).await;
            kept.map_err(|error| not_stored(&error))?;
        }
        let info = self.component.info(app_id).await?;
        let about = (app_id, info.permissions.clone(), Some(info));
        self.decide(about, listed.authorized_at, moment, None).await
    }
}
