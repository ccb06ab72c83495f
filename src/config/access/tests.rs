//! Each platform's keys are read, and a key that is missing, wrong or another platform's is named with
//! its place and without its value.

use secrecy::ExposeSecret;

use super::super::{Access, Config, PlatformName};
use crate::yaml::Problem;

const TELEGRAM: &str = "accounts:
  - key: world
    platform: telegram
    bot_token: ${BOT}
    secret_token: ours-0123456789abcdef
";

const LINE: &str = "accounts:
  - key: jp
    platform: line
    channel_id: \"1234567890\"
    channel_secret: 8c570fa6dd201bb328f1c1eac23a96d8
    channel_access_token: ${LONG}
";

const WECOM: &str = "accounts:
  - key: service
    platform: wecom-kf
    corp_id: ww0123456789abcdef
    corp_secret: ${LONG}
    open_kfid: wkAJ2GCAAASSm4_FhToWMFea0xAFfd3Q
    token: pamtest
    encoding_aes_key: abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG
";

const HOUSE: &str = "accounts:
  - key: app
    platform: webhook
    url: https://push.example.com/in
    secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw
";

const BOT: &str = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw";
const LONG: &str = "topsecret-0123456789abcdef-0123456789abcdef";

fn env(name: &str) -> Option<String> {
    match name {
        "BOT" => Some(BOT.to_owned()),
        "LONG" => Some(LONG.to_owned()),
        "SHORT" => Some("topsecret".to_owned()),
        _ => None,
    }
}

fn read(text: &str) -> Result<Config, Vec<Problem>> {
    Config::from_text(text, "dripwheel.yaml", &env)
}

/// The one problem of a text; no secret is in it.
fn check(text: &str, place: &str, message: &str, fix: &str) {
    let problems = read(text).expect_err(text);
    assert_eq!(problems.len(), 1, "{text}\n{problems:#?}");
    let problem = &problems[0];
    let found = format!("{}:{}", problem.line, problem.column);
    assert_eq!(found, place, "{text}\n{problem}");
    assert!(problem.message.contains(message), "{text}\n{problem}");
    let advised = problem.fix.as_deref().unwrap_or("-");
    assert!(advised.contains(fix), "{text}\n{problem}");
    let shown = format!("{}{problem}{problem:?}", problem.render(false));
    assert!(
        !shown.contains("topsecret") && !shown.contains(BOT),
        "{shown}"
    );
}

#[test]
fn each_platform_has_its_own_keys_rules_and_address() {
    for (text, platform, id, profile, api_base) in [
        (
            TELEGRAM,
            PlatformName::Telegram,
            "110201543",
            "telegram",
            "https://api.telegram.org",
        ),
        (
            LINE,
            PlatformName::Line,
            "1234567890",
            "line",
            "https://api.line.me",
        ),
        (
            WECOM,
            PlatformName::WecomKf,
            "wkAJ2GCAAASSm4_FhToWMFea0xAFfd3Q",
            "wecom-kf",
            "https://qyapi.weixin.qq.com",
        ),
        (
            HOUSE,
            PlatformName::Webhook,
            "https://push.example.com/in",
            "webhook",
            "",
        ),
    ] {
        let config = read(text).unwrap_or_else(|problems| panic!("{problems:#?}"));
        let account = &config.accounts[0];
        assert_eq!(account.access.platform(), platform);
        assert_eq!(account.access.id(), id);
        assert_eq!(
            (account.profile.as_str(), account.api_base.as_str()),
            (profile, api_base)
        );
    }
    let config = read(TELEGRAM).unwrap();
    let Access::Telegram(bot) = &config.accounts[0].access else {
        panic!("is a bot");
    };
    assert_eq!(bot.bot_token.expose_secret(), BOT);
}

#[test]
fn defaults_for_one_platform_leave_accounts_of_others_alone() {
    let given = "account_defaults: { profile: wechat-2023, api_base: \"http://127.0.0.1:9\" }\n";
    let account = read(&format!("{given}{TELEGRAM}"))
        .unwrap()
        .accounts
        .remove(0);
    assert_eq!(account.profile, "telegram");
    assert_eq!(account.api_base, "https://api.telegram.org");
    let given = given.replace("{ profile", "{ platform: telegram, profile");
    let account = read(&format!("{given}{TELEGRAM}"))
        .unwrap()
        .accounts
        .remove(0);
    assert_eq!(account.profile, "wechat-2023");
    assert_eq!(account.api_base, "http://127.0.0.1:9");
    let own = format!("{TELEGRAM}    api_base: https://bots.example.com\n    profile: webhook\n");
    let account = read(&own).unwrap().accounts.remove(0);
    assert_eq!(account.profile, "webhook");
    assert_eq!(account.api_base, "https://bots.example.com");
}

#[test]
fn a_key_that_is_missing_or_another_platform_s_is_named() {
    for (text, key) in [
        (TELEGRAM, "secret_token"),
        (LINE, "channel_secret"),
        (WECOM, "open_kfid"),
        (HOUSE, "secret"),
    ] {
        let lines = text
            .lines()
            .filter(|line| !line.trim().starts_with(&format!("{key}:")));
        let without: String = lines.map(|line| format!("{line}\n")).collect();
        check(&without, "2:10", &format!("needs `{key}`"), "");
    }
    let text = format!("{TELEGRAM}    app_secret: ${{LONG}}\n");
    check(
        &text,
        "6:17",
        "platform `telegram` has no `app_secret`",
        "bot_token, secret_token",
    );
    let text = TELEGRAM.replace("    platform: telegram\n", "");
    let problems = read(&text).unwrap_err();
    let told = |words: &str| problems.iter().any(|one| one.message.contains(words));
    assert!(
        told("platform `wechat` has no `bot_token`"),
        "{problems:#?}"
    );
    assert!(told("needs `app_id`"), "{problems:#?}");
}

#[test]
fn a_value_that_cannot_be_right_is_refused_without_being_shown() {
    let swapped = |text: &str, from: &str, to: &str| text.replace(from, to);
    let text = swapped(TELEGRAM, "${BOT}", "${SHORT}");
    check(
        &text,
        "4:16",
        "a bot token is digits, a colon",
        "copy it again",
    );
    let text = swapped(TELEGRAM, "ours-0123456789abcdef", "${SHORT}");
    check(&text, "5:19", "16 to 256", "copy it again");
    let text = swapped(LINE, "\"1234567890\"", "main");
    check(&text, "4:17", "is no channel id", "digits");
    let text = swapped(HOUSE, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "${SHORT}");
    check(&text, "5:13", "whsec_", "copy it again");
    let text = swapped(HOUSE, "https://push.example.com/in", "push.example.com");
    check(&text, "4:10", "is no web address", "https://");
    let twice = format!(
        "{TELEGRAM}{}",
        TELEGRAM.replace("accounts:\n", "").replace("world", "two")
    );
    check(&twice, "8:16", "the same `bot_token`", "keep one of them");
}
