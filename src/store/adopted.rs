//! Accounts of third-party platforms that were taken in before we started, or by another node: how they
//! become known here. Deliberately absent: who is taken in (`authorizers`).

use std::sync::Arc;

use crate::policy::account::Account;
use crate::store::authorizers::{self, Authorizer, State, account_of, account_row};
use crate::store::{Error, Store};

/// Makes a component's accounts known after a start, as they stood before it. `like` is what each
/// is like; those in `others` belong to somebody else by now and are left out.
pub async fn load(
    store: &Store,
    component: &str,
    like: &Account,
    is_other: impl Fn(&str) -> bool,
) -> Result<Vec<Arc<Authorizer>>, Error> {
    let _change = store.knowledge().authorizers().change.lock().await;
    let found = unknown(store, component, is_other).await?;
    let rows = found.iter();
    let rows = rows.map(|row| account_row(&row.app_id, &row.reason));
    authorizers::write(store, rows.collect()).await?;
    Ok(know(store, found, like))
}

/// Makes those accounts known that another node has taken in since; their rows are that node's. `ready`
/// hears of each before anything is sent for it.
pub async fn follow(
    store: &Store,
    component: &str,
    like: &Account,
    is_other: impl Fn(&str) -> bool,
    ready: impl Fn(&Authorizer),
) -> Result<(), Error> {
    let _change = store.knowledge().authorizers().change.lock().await;
    let found = unknown(store, component, is_other).await?;
    found.iter().for_each(ready);
    know(store, found, like);
    Ok(())
}

async fn unknown(
    store: &Store,
    component: &str,
    is_other: impl Fn(&str) -> bool,
) -> Result<Vec<Authorizer>, Error> {
    let directory = store.knowledge().authorizers();
    let mut found = authorizers::all(store.read(), component).await?;
    found.retain(|row| {
        let ours = row.account.is_some() && row.state != State::NotServed;
        let free = directory.get(&row.app_id).is_none_or(|known| {
            // Its owner went from that platform to this one.
            let left = known.component != component && known.state == State::Withdrawn;
            left && row.state == State::Authorized
        });
        ours && free && !is_other(&row.app_id)
    });
    Ok(found)
}

fn know(store: &Store, found: Vec<Authorizer>, like: &Account) -> Vec<Arc<Authorizer>> {
    let directory = store.knowledge().authorizers();
    if found.is_empty() {
        return Vec::new();
    }
    store.knowledge().change_accounts(|accounts| {
        for row in &found {
            if let Some(id) = row.account {
                accounts.insert(id, Arc::new(account_of(row, id, like)));
            }
        }
    });
    for row in &found {
        directory.put(row.clone());
    }
    found.into_iter().map(Arc::new).collect()
}
