//! Freezes an audience: an account's followers are read page by page in the order of their openids, and
//! who belongs to it becomes a recipient. Each commit writes down how far it has come.

use crate::broadcast::audience::Audience;
use crate::journey::follower::Follower;
use crate::journey::ids::FollowerId;
use crate::store::broadcasts::{Broadcast, Part};
use crate::store::recipients::{self, CHUNK};
use crate::store::{Error, Store};

/// Pages that are read for one commit where hardly anybody belongs to the audience.
const PAGES_MAX: usize = 20;

/// Reads on, until there is about a chunk of recipients, and freezes them.
pub(super) async fn read_on(
    store: &Store,
    broadcast: &Broadcast,
    part: &Part,
) -> Result<(), Error> {
    let audience = Audience::read(&broadcast.audience).map_err(|error| Error::Row {
        table: "broadcasts",
        what: format!("audience of {}: {error}", broadcast.id),
    })?;
    let (mut found, mut read_to) = (Vec::new(), part.read_to.clone());
    // Who was named is a recipient already.
    let mut over = audience.listed;
    let mut pages = 0;
    while !over && found.len() < CHUNK / 2 && pages < PAGES_MAX {
        let page = recipients::followers_after(store.read(), part.account, &read_to, CHUNK).await?;
        over = page.len() < CHUNK;
        pages += 1;
        if let Some(last) = page.last() {
            read_to.clone_from(&last.openid);
        }
        found.extend(choose(store, broadcast, &audience, &page).await?);
    }
    recipients::freeze(store, part, found, read_to, over).await?;
    Ok(())
}

/// Who of a page belongs to the audience.
pub(super) async fn choose(
    store: &Store,
    broadcast: &Broadcast,
    audience: &Audience,
    page: &[Follower],
) -> Result<Vec<FollowerId>, Error> {
    let fitting = page.iter();
    let fitting = fitting.filter(|one| audience.fits(one, broadcast.started_at));
    let mut ids: Vec<_> = fitting.map(|one| one.id).collect();
    for (sequence, inside) in [
        (&audience.in_sequence, true),
        (&audience.not_in_sequence, false),
    ] {
        if let Some(sequence) = sequence {
            let theirs = recipients::inside(store.read(), &ids, sequence).await?;
            ids.retain(|id| theirs.contains(id) == inside);
        }
    }
    Ok(ids)
}
