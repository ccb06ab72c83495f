//! Callbacks as the platform writes, encrypts and signs them, or as somebody who would like to be it.

use dripwheel::inbound::cipher::Cipher;
use dripwheel::inbound::signature::sign;

use super::{KEY, NOW, TOKEN};

/// A callback before it is posted, to be spoiled by tests.
#[derive(Clone)]
pub(super) struct Letter {
    pub(super) account: &'static str,
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) body: String,
}

impl Letter {
    /// Signed for its URL only.
    pub(super) fn plain(account: &'static str, body: &str) -> Self {
        Self::plain_at(account, body, NOW.seconds())
    }

    pub(super) fn plain_at(account: &'static str, body: &str, seconds: i64) -> Self {
        let (timestamp, nonce) = (seconds.to_string(), "486452656".to_owned());
        let signature = sign(&[TOKEN, &timestamp, &nonce]);
        Self {
            account,
            query: vec![
                ("signature", signature),
                ("timestamp", timestamp),
                ("nonce", nonce),
            ],
            body: body.to_owned(),
        }
    }

    /// Encrypted and signed.
    pub(super) fn sealed((account, app_id): (&'static str, &str), inner: &str) -> Self {
        Self::sealed_with(account, app_id, KEY, inner, NOW.seconds())
    }

    pub(super) fn sealed_with(
        account: &'static str,
        app_id: &str,
        key: &str,
        inner: &str,
        at: i64,
    ) -> Self {
        let cipher = Cipher::new(app_id, &[key]).unwrap();
        let encrypted = cipher.encrypt(inner.as_bytes(), 0, *b"sixteen bytes ok");
        let body = format!(
            "<xml><ToUserName><![CDATA[gh_1]]></ToUserName>\
             <Encrypt><![CDATA[{encrypted}]]></Encrypt></xml>"
        );
        Self::plain_at(account, &body, at).signing(&encrypted)
    }

    /// Adds the signature over what is encrypted.
    pub(super) fn signing(mut self, encrypted: &str) -> Self {
        let (timestamp, nonce) = (self.query[1].1.clone(), self.query[2].1.clone());
        let signature = sign(&[TOKEN, &timestamp, &nonce, encrypted]);
        self.query.push(("encrypt_type", "aes".to_owned()));
        self.query.push(("msg_signature", signature));
        self
    }

    /// The same with another value in the query.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        let found = self.query.iter_mut().find(|(key, _)| *key == name);
        value.clone_into(&mut found.unwrap().1);
        self
    }

    pub(super) fn without(mut self, name: &str) -> Self {
        self.query.retain(|(key, _)| *key != name);
        self
    }

    pub(super) fn target(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&self.query);
        format!("{}?{}", self.account, query.finish())
    }
}

/// A message of the platform's shape; `rest` comes after what all have.
pub(super) fn xml(openid: &str, seconds: i64, rest: &str) -> String {
    format!(
        "<xml><ToUserName><![CDATA[gh_1]]></ToUserName>\
         <FromUserName><![CDATA[{openid}]]></FromUserName>\
         <CreateTime>{seconds}</CreateTime>{rest}</xml>"
    )
}

pub(super) const FOLLOW: &str = "<MsgType><![CDATA[event]]></MsgType><Event><![CDATA[subscribe]]></Event>\
     <EventKey><![CDATA[]]></EventKey>";

pub(super) fn follow(openid: &str) -> String {
    xml(openid, NOW.seconds(), FOLLOW)
}
