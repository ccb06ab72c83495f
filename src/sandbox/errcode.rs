//! What the platform says when it refuses: its error codes, their texts and the `rid` behind them.
//!
//! Texts are those of the platform's table of return codes where it has one for the code. Whether a
//! call is refused is decided elsewhere.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;

use crate::clock::Timestamp;

/// What the platform says to each code, in the order of the codes.
const TEXTS: &[(i32, &str)] = &[
    (0, "ok"),
    (
        40001,
        "invalid credential, access_token is invalid or not latest, could get \
                 access_token by getStableAccessToken, more details at https://mmbizurl.cn/s/JtxxFh33r",
    ),
    (40002, "invalid grant_type"),
    (40003, "invalid openid"),
    (40004, "invalid media type"),
    (40005, "invalid file type"),
    (40007, "invalid media_id"),
    (40008, "invalid message type"),
    (40009, "invalid image size"),
    (40010, "invalid voice size"),
    (40011, "invalid video size"),
    (40012, "invalid thumb size"),
    (40013, "invalid appid"),
    (40014, "invalid access_token"),
    (40031, "invalid openid list"),
    (40032, "invalid openid list size"),
    (
        40033,
        "invalid charset. please check your request, if include \\uxxxx will create fail!",
    ),
    (40035, "invalid args size"),
    (40037, "invalid template_id"),
    (40059, "invalid msg id"),
    (40066, "invalid url"),
    (40125, "invalid appsecret"),
    (40130, "invalid openid list size, at least two openid"),
    (40132, "invalid username"),
    (40137, "invalid image format"),
    (40164, "invalid ip, not in whitelist"),
    (40200, "invalid account type"),
    (41001, "access_token missing"),
    (41002, "appid missing"),
    (41004, "appsecret missing"),
    (41005, "media data missing"),
    (41009, "missing openid"),
    (42001, "access_token expired"),
    (
        42007,
        "access_token and refresh_token exception, please re-authorize",
    ),
    (43001, "require GET method"),
    (43002, "require POST method"),
    (43003, "require https"),
    (43004, "require subscribe"),
    (43005, "require friend relations"),
    (43019, "require remove blacklist"),
    (43101, "user refuse to accept the msg"),
    (43117, "sending messages to this openid too frequently"),
    (44001, "empty media data"),
    (44002, "empty post data"),
    (44003, "empty news data"),
    (44004, "empty content"),
    (45001, "media size out of limit"),
    (45002, "content size out of limit"),
    (45003, "title size out of limit"),
    (45004, "description size out of limit"),
    (45005, "url size out of limit"),
    (45006, "picurl size out of limit"),
    (45007, "playtime out of limit"),
    (45008, "article size out of limit"),
    (45009, "reach max api daily quota limit"),
    (
        45011,
        "api minute-quota reach limit, must slower, retry next minute",
    ),
    (
        45015,
        "response out of time limit or subscription is canceled",
    ),
    (45028, "has no masssend quota"),
    (45029, "qrcode count out of limit"),
    (
        45035,
        "access clientip is not registered, not in ip-white-list",
    ),
    (45047, "out of response count limit"),
    (45056, "can't add more tag"),
    (45059, "can't add this tag, too many tags for one user"),
    (45064, "weapp not linked"),
    (45065, "clientmsgid exist"),
    (45066, "same clientmsgid retry too fast"),
    (45067, "clientmsgid size out of limit"),
    (45157, "invalid tag name"),
    (45158, "tag name too long"),
    (45159, "invalid tag id"),
    (45162, "invalid type"),
    (45166, "invalid content"),
    (46001, "media not exist"),
    (46004, "user not exist"),
    (47001, "data format error"),
    (47003, "argument invalid!"),
    (48001, "api unauthorized"),
    (48002, "user block receive message"),
    (48003, "user not agree mass-send protocol"),
    (48004, "api forbidden for irregularities"),
    (48006, "forbid to clear quota because of reaching the limit"),
    (48008, "no permission for this msgtype"),
    (49003, "not match openid with appid"),
    (50001, "user unauthorized the api"),
    (50002, "user limited"),
    (50005, "user is unsubscribed"),
    (76003, "cgi_path not found, please check"),
    (87009, "invalid signature"),
];

/// A refusal by its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) i32);

impl Refusal {
    pub(super) const GRANT_TYPE: Self = Self(40002);
    pub(super) const TOKEN_NOT_LATEST: Self = Self(40001);
    pub(super) const OPENID: Self = Self(40003);
    pub(super) const MEDIA_TYPE: Self = Self(40004);
    pub(super) const FILE_TYPE: Self = Self(40005);
    pub(super) const MEDIA_ID: Self = Self(40007);
    pub(super) const MESSAGE_TYPE: Self = Self(40008);
    pub(super) const IMAGE_SIZE: Self = Self(40009);
    pub(super) const VOICE_SIZE: Self = Self(40010);
    pub(super) const VIDEO_SIZE: Self = Self(40011);
    pub(super) const THUMB_SIZE: Self = Self(40012);
    pub(super) const APP_ID: Self = Self(40013);
    pub(super) const TOKEN_SHAPE: Self = Self(40014);
    pub(super) const OPENID_LIST: Self = Self(40031);
    pub(super) const OPENID_LIST_SIZE: Self = Self(40032);
    pub(super) const CHARSET: Self = Self(40033);
    pub(super) const TEMPLATE_ID: Self = Self(40037);
    pub(super) const MASS_MSG_ID: Self = Self(40059);
    pub(super) const URL: Self = Self(40066);
    pub(super) const APP_SECRET: Self = Self(40125);
    pub(super) const TOO_FEW_OPENIDS: Self = Self(40130);
    pub(super) const TOKEN_MISSING: Self = Self(41001);
    pub(super) const APP_ID_MISSING: Self = Self(41002);
    pub(super) const APP_SECRET_MISSING: Self = Self(41004);
    pub(super) const MEDIA_MISSING: Self = Self(41005);
    pub(super) const OPENID_MISSING: Self = Self(41009);
    pub(super) const TOKEN_EXPIRED: Self = Self(42001);
    pub(super) const REQUIRE_GET: Self = Self(43001);
    pub(super) const REQUIRE_POST: Self = Self(43002);
    pub(super) const REQUIRE_FOLLOW: Self = Self(43004);
    pub(super) const NO_CONSENT: Self = Self(43101);
    pub(super) const EMPTY_MEDIA: Self = Self(44001);
    pub(super) const EMPTY_POST: Self = Self(44002);
    pub(super) const EMPTY_NEWS: Self = Self(44003);
    pub(super) const EMPTY_CONTENT: Self = Self(44004);
    pub(super) const MEDIA_SIZE: Self = Self(45001);
    pub(super) const CONTENT_SIZE: Self = Self(45002);
    pub(super) const ARTICLE_COUNT: Self = Self(45008);
    pub(super) const DAILY_LIMIT: Self = Self(45009);
    pub(super) const MINUTE_LIMIT: Self = Self(45011);
    pub(super) const GRANT_CLOSED: Self = Self(45015);
    pub(super) const GRANT_SPENT: Self = Self(45047);
    pub(super) const TAGS_OF_ONE: Self = Self(45059);
    pub(super) const TAG_COUNT: Self = Self(45056);
    pub(super) const SAME_CLIENT_ID: Self = Self(45065);
    pub(super) const SAME_CLIENT_ID_SOON: Self = Self(45066);
    pub(super) const CLIENT_ID_SIZE: Self = Self(45067);
    pub(super) const TAG_NAME_TAKEN: Self = Self(45157);
    pub(super) const TAG_NAME_SIZE: Self = Self(45158);
    pub(super) const TAG: Self = Self(45159);
    pub(super) const ARTICLES_TYPE: Self = Self(45162);
    pub(super) const JSON: Self = Self(47001);
    pub(super) const TEMPLATE_DATA: Self = Self(47003);
    pub(super) const UNAUTHORIZED: Self = Self(48001);
    pub(super) const MUTED: Self = Self(48002);
    pub(super) const CLEARS_SPENT: Self = Self(48006);
    pub(super) const CGI_PATH: Self = Self(76003);

    /// The platform's text for the code; codes outside the table read as system errors.
    pub(super) fn text(self) -> &'static str {
        let found = TEXTS.binary_search_by_key(&self.0, |row| row.0);
        let found = found.map(|index| TEXTS[index].1).ok();
        let found = found.or_else(|| super::component::text(self.0));
        found.unwrap_or("system error")
    }

    /// The JSON body the platform answers with.
    pub(super) fn body(self, now: Timestamp) -> String {
        if self.0 == 0 {
            return OK.to_owned();
        }
        Detailed::from(self).body(now)
    }
}

/// A refusal that says more than its code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Detailed {
    pub(super) refusal: Refusal,
    /// Behind the text of the code, such as the member that is wrong.
    pub(super) detail: String,
    /// The message that the caller sent already.
    pub(super) msg_id: Option<u64>,
}

impl From<Refusal> for Detailed {
    fn from(refusal: Refusal) -> Self {
        Self {
            refusal,
            detail: String::new(),
            msg_id: None,
        }
    }
}

impl Detailed {
    pub(super) fn body(&self, now: Timestamp) -> String {
        let text = [self.refusal.text(), &self.detail, "rid:", &rid(now)];
        let text = text.map(str::to_owned).into_iter();
        let text: Vec<String> = text.filter(|part| !part.is_empty()).collect();
        let mut body = json!({"errcode": self.refusal.0, "errmsg": text.join(" ")});
        if let Some(msg_id) = self.msg_id {
            body["msg_id"] = msg_id.into();
        }
        body.to_string()
    }
}

/// The body of a call that went well.
pub(super) const OK: &str = r#"{"errcode":0,"errmsg":"ok"}"#;

/// `rid` as the platform writes it: the second, then two words that name the request.
fn rid(now: Timestamp) -> String {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let seconds = now.seconds() & 0xffff_ffff;
    let first = call.wrapping_mul(0x9e37_79b9);
    format!(
        "{seconds:08x}-{first:08x}-{:08x}",
        first.rotate_left(13) ^ 0x5bd1_e995
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_is_json_with_its_code_and_a_rid() {
        for code in [-1, 40001, 40033, 45015, 45047, 99999] {
            let body = Refusal(code).body(Timestamp(1_700_000_000_000));
            let json: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(json["errcode"], code);
            let text = json["errmsg"].as_str().unwrap();
            assert!(text.contains("rid: 6553f100-"), "{text}");
        }
    }

    #[test]
    fn what_a_refusal_adds_stays_inside_its_json() {
        let mut refusal = Detailed::from(Refusal::TEMPLATE_DATA);
        refusal.detail = "data.a\"b\\.value".to_owned();
        refusal.msg_id = Some(7);
        let json: serde_json::Value = serde_json::from_str(&refusal.body(Timestamp(0))).unwrap();
        let text = json["errmsg"].as_str().unwrap();
        assert!(
            text.starts_with("argument invalid! data.a\"b\\.value rid: "),
            "{text}"
        );
        assert_eq!(json["msg_id"], 7);
    }

    #[test]
    fn texts_are_found_by_their_codes() {
        assert!(TEXTS.is_sorted_by(|one, next| one.0 < next.0));
        assert_eq!(Refusal(0).text(), "ok");
        assert_eq!(Refusal(45028).text(), "has no masssend quota");
        assert_eq!(Refusal(-1).text(), "system error");
    }

    #[test]
    fn success_carries_no_rid() {
        assert_eq!(
            Refusal(0).body(Timestamp(0)),
            r#"{"errcode":0,"errmsg":"ok"}"#
        );
    }
}
