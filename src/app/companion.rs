//! What passive replies ask of the platform, asked through the accounts' clients.

use std::sync::Arc;

use crate::inbound::answer::{Companion, Help};
use crate::journey::ids::AccountId;
use crate::journey::message::Message;
use crate::sender::platform::Platform;
use crate::sender::wechat::Clients;

/// The clients as the replies' companion.
#[derive(Debug)]
pub(super) struct ByClients(pub(super) Arc<Clients>);

impl Companion for ByClients {
    fn language<'a>(&'a self, account: AccountId, openid: &'a str) -> Help<'a, Option<String>> {
        Box::pin(async move { self.0.client(account)?.language(openid).await })
    }

    fn media<'a>(
        &'a self,
        account: AccountId,
        message: &'a Message,
    ) -> Help<'a, Option<Vec<String>>> {
        Box::pin(async move { self.0.client(account)?.media_of(message).await.ok() })
    }
}
