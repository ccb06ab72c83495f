//! The defaults are complete, and every mistake says where it is without saying a secret.

use secrecy::ExposeSecret;

use super::*;

const AES: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG";
const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn env(name: &str) -> Option<String> {
    match name {
        "SECRET" => Some(SECRET.to_owned()),
        "AES" => Some(AES.to_owned()),
        "NUMBER" => Some("2048".to_owned()),
        "HIDDEN" => Some("hunter2hunter2".to_owned()),
        _ => None,
    }
}

fn read(text: &str) -> Result<Config, Vec<Problem>> {
    Config::from_text(text, "dripwheel.yaml", &env)
}

fn wechat(account: &Account) -> &WechatAccess {
    account.access.wechat().expect("is on WeChat")
}

fn account(lines: &str) -> String {
    format!(
        "accounts:\n  - key: main\n    app_id: wx0123456789abcdef\n    app_secret: ${{SECRET}}\n    \
         token: pamtest\n    encoding_aes_key: ${{AES}}\n{lines}"
    )
}

/// The one problem of a text; whatever it prints, no secret is in it.
fn check(text: &str, place: &str, message: &str, fix: &str) {
    let problems = read(text).expect_err(text);
    assert_eq!(problems.len(), 1, "{text}\n{problems:#?}");
    let problem = &problems[0];
    assert_eq!(
        format!("{}:{}", problem.line, problem.column),
        place,
        "{text}\n{problem}"
    );
    assert!(problem.message.contains(message), "{text}\n{problem}");
    let advised = problem.fix.as_deref().unwrap_or("-");
    assert!(advised.contains(fix), "{text}\n{problem}");
    let shown = format!("{}{problem}{problem:?}", problem.render(false));
    for secret in [SECRET, AES, "hunter2", "topsecret"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn the_default_file_is_the_defaults() {
    let written = Config::from_text(DEFAULT_YAML, "default.yaml", &|_| None).unwrap();
    assert_eq!(format!("{written:?}"), format!("{:?}", Config::default()));
    let config = Config::default();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.server.console, Console::Key);
    assert_eq!(config.wheel.ring_entries, 262_144);
    assert_eq!(config.wheel.lead, Duration::from_secs(2));
    assert_eq!(config.wheel.sweep_every, Duration::from_secs(45));
    assert_eq!(config.wheel.promote_max, 20_000);
    assert_eq!(
        (config.sender.in_flight, config.sender.per_account_in_flight),
        (256, 64)
    );
    assert_eq!(config.sender.attempt_timeout, Duration::from_secs(8));
    assert_eq!(config.sender.connect_timeout, Duration::from_secs(2));
}

#[test]
fn the_default_file_tells_of_every_key() {
    fn keys(schema: &serde_json::Value, into: &mut Vec<String>) {
        if let Some(properties) = schema.get("properties").and_then(|value| value.as_object()) {
            into.extend(properties.keys().cloned());
        }
        match schema {
            serde_json::Value::Object(map) => map.values().for_each(|value| keys(value, into)),
            serde_json::Value::Array(list) => list.iter().for_each(|value| keys(value, into)),
            _ => {}
        }
    }
    let mut all = Vec::new();
    keys(&config_schema(), &mut all);
    assert!(all.len() > 30, "{all:?}");
    for key in all {
        assert!(
            DEFAULT_YAML.contains(&format!("{key}:")),
            "`{key}` is not in default.yaml"
        );
    }
}

#[test]
fn an_account_has_the_defaults_that_it_does_not_replace() {
    let config = read(&account(
        "    timezone: Europe/Berlin\n    rate: { per_second: 5 }\n",
    ))
    .unwrap();
    let account = config.account("main").unwrap();
    assert_eq!(account.name, "main");
    assert_eq!(account.profile, "wechat-48h");
    assert_eq!(account.access.platform(), PlatformName::Wechat);
    assert_eq!(wechat(account).mode, CallbackMode::Safe);
    assert_eq!(account.api_base, "https://api.weixin.qq.com");
    assert_eq!(account.timezone, "Europe/Berlin");
    assert_eq!(
        (account.rate.per_second, account.rate.per_minute),
        (5, 5_000)
    );
    assert_eq!(account.in_flight, None);
    assert_eq!(wechat(account).app_secret.expose_secret(), SECRET);
    assert_eq!(wechat(account).token.expose_secret(), "pamtest");
    let given = "account_defaults: { profile: wechat-2023, mode: compat, in_flight: 8, \
        rate: { per_minute: 60 }, api_base: \"http://127.0.0.1:9000/\" }\n";
    let config = read(&format!("{given}{}", self::account("    mode: safe\n"))).unwrap();
    let account = &config.accounts[0];
    assert_eq!(
        (account.profile.as_str(), wechat(account).mode),
        ("wechat-2023", CallbackMode::Safe)
    );
    assert_eq!((account.in_flight, account.rate.per_minute), (Some(8), 60));
    assert_eq!(account.api_base, "http://127.0.0.1:9000");
}

#[test]
fn secrets_are_never_printed() {
    let config = read(&format!(
        "server:\n  api_keys:\n    - name: ops\n      secret: ${{SECRET}}\n      scopes: [read]\n{}",
        account("")
    ));
    let shown = format!("{:?}", config.unwrap());
    for secret in [SECRET, AES, "pamtest"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn secrets_come_from_files_too() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("secrets")).unwrap();
    std::fs::write(dir.path().join("secrets/app"), format!("  {SECRET}\n")).unwrap();
    let text = account("")
        .replace("${SECRET}", "{ file: secrets/app }")
        .replace("${AES}", AES);
    let path = dir.path().join("dripwheel.yaml");
    std::fs::write(&path, &text).unwrap();
    let config = Config::load(&path).unwrap();
    assert_eq!(
        wechat(&config.accounts[0]).app_secret.expose_secret(),
        SECRET
    );
    assert_eq!(config.sequences.dir, dir.path().join("sequences"));
    let database = dir.path().join("dripwheel.db");
    assert_eq!(
        config.database.url,
        format!("sqlite://{}", database.display())
    );
    std::fs::write(dir.path().join("secrets/app"), "x".repeat(5_000)).unwrap();
    let problems = Config::load(&path).unwrap_err();
    assert_eq!(
        problems[0].message,
        "`secrets/app` has more than 4096 bytes"
    );
    check(
        &text.replace("secrets/app", "nowhere"),
        "4:25",
        "does not exist",
        "name a file",
    );
    assert!(
        Config::load(&dir.path().join("none.yaml")).unwrap_err()[0]
            .message
            .contains("does not exist")
    );
}

#[test]
fn digits_are_a_secret_as_well() {
    let config = read(&account("").replace("pamtest", "123456")).unwrap();
    assert_eq!(wechat(&config.accounts[0]).token.expose_secret(), "123456");
    let config = read(&account("").replace("pamtest", "${NUMBER}")).unwrap();
    assert_eq!(wechat(&config.accounts[0]).token.expose_secret(), "2048");
    let body = read("server:\n  callback_body_max: ${NUMBER}\n").unwrap();
    assert_eq!(body.server.callback_body_max, 2_048);
}

#[test]
fn secrets_that_cannot_be_right_are_refused_unseen() {
    let with = |line: &str| account("").replace("token: pamtest", line);
    check(
        &with("token: ab"),
        "5:12",
        "3 to 32 letters and digits",
        "copy it",
    );
    check(
        &with("token: topsecret-"),
        "5:12",
        "3 to 32 letters",
        "copy it",
    );
    check(
        &with("token: ${HIDDEN}-"),
        "5:12",
        "and this one has 15",
        "copy it",
    );
    check(&with("token: [topsecret]"), "5:12", "does not belong", "-");
    check(
        &with("token: { fil: topsecret }"),
        "5:19",
        "does not belong",
        "-",
    );
    check(
        &with("token:\n      topsecret:x"),
        "6:7",
        "3 to 32",
        "copy it",
    );
    check(
        &account("").replace("${AES}", "topsecret"),
        "6:23",
        "exactly 43",
        "copy it",
    );
    check(
        &account("    mode: saef\n"),
        "7:11",
        "unknown word `saef`",
        "`safe`",
    );
    check(
        &account("    token: topsecret\n"),
        "7:5",
        "`token` is here twice",
        "keep one",
    );
    let short = "server:\n  api_keys:\n    - { name: a, secret: topsecret, scopes: [read] }\n";
    check(short, "3:26", "16 to 256", "copy it");
}

#[test]
fn variables_that_are_not_set_are_all_named() {
    let text = account("")
        .replace("${SECRET}", "${NOPE}")
        .replace("${AES}", "${NADA}");
    let problems = read(&text).unwrap_err();
    let found: Vec<(usize, usize)> = problems.iter().map(|p| (p.line, p.column)).collect();
    assert_eq!(found, [(4, 17), (6, 23)]);
    assert!(problems[0].message.contains("`NOPE` is not set"));
    assert!(problems[1].fix.as_deref().unwrap().contains("set NADA"));
}

#[test]
fn values_from_the_environment_are_not_shown() {
    check(
        "server:\n  listen: ${HIDDEN}\n",
        "2:11",
        "`${HIDDEN}` is no address",
        "127.0.0.1",
    );
    check(
        "server:\n  console: ${HIDDEN}\n",
        "2:12",
        "unknown word `${HIDDEN}`",
        "open",
    );
    check(
        "wheel:\n  ring_entries: ${HIDDEN}\n",
        "2:17",
        "no whole number",
        "-",
    );
    check(
        &account("    timezone: ${HIDDEN}\n"),
        "7:15",
        "`${HIDDEN}` is no time zone",
        "Asia",
    );
    check(
        "server:\n  listen: \"${HIDDEN}\"\n",
        "2:11",
        "in quotes is not replaced",
        "without",
    );
}

#[test]
fn the_doors_and_the_store_have_their_bounds() {
    check(
        "servr: {}\n",
        "1:1",
        "unknown key `servr`",
        "did you mean `server`?",
    );
    check(
        "server: { listen: localhost }\n",
        "1:19",
        "no address and port",
        "127.0.0.1:8080",
    );
    let open = "server: { listen: \"0.0.0.0:80\", console: open }\n";
    check(open, "1:42", "open to the network", "console: key");
    assert!(read("server: { listen: \"[::1]:80\", console: open }\n").is_ok());
    check(
        "server: { public_url: \"ftp://a.example\" }\n",
        "1:23",
        "does not begin",
        "https://",
    );
    check(
        "server: { public_url: \"https://a.example/?x\" }\n",
        "1:23",
        "parameters",
        "https://",
    );
    check(
        "server: { callback_body_max: 1 }\n",
        "1:30",
        "from 1024 to 1048576",
        "-",
    );
    check(
        "database: { url: \"mysql://u:topsecret@h/d\" }\n",
        "1:18",
        "SQLite and PostgreSQL",
        "sqlite://",
    );
    check(
        "database: { url: \"sqlite://\" }\n",
        "1:18",
        "names no file",
        "sqlite://",
    );
    check(
        "database: { url: \"sqlite://a?mode=ro\" }\n",
        "1:18",
        "has parameters",
        "a path",
    );
    check(
        "sequences: { dir: \"\" }\n",
        "1:19",
        "0 characters",
        "1 to 4096",
    );
}

#[test]
fn the_wheel_and_the_sender_have_their_bounds() {
    check(
        "wheel: { lead: 2 }\n",
        "1:16",
        "has no unit",
        "from 0s to 1m",
    );
    check(
        "wheel: { lead: 2h }\n",
        "1:16",
        "too short or too long",
        "from 0s to 1m",
    );
    check("wheel: { ring_entries: 0 }\n", "1:24", "from 1024", "-");
    check("wheel: { promote_max: 0 }\n", "1:23", "from 1 to", "-");
    check("sender: { in_flight: 0 }\n", "1:22", "from 1 to", "-");
    check(
        "sender: { connect_timeout: 20s }\n",
        "1:28",
        "longer than the whole",
        "shorter",
    );
}

#[test]
fn accounts_have_their_bounds() {
    check(
        &account("    rate: { per_second: 0 }\n"),
        "7:25",
        "would send nothing",
        "pause",
    );
    check(
        &account("    rate: { per_day: -1 }\n"),
        "7:22",
        "no whole number",
        "-",
    );
    check(
        &account("    api_base: api.weixin.qq.com\n"),
        "7:15",
        "no web address",
        "https://",
    );
    check(
        &account("    platform: pager\n"),
        "7:15",
        "unknown word `pager`",
        "wechat",
    );
    check(
        &account("").replace("wx0123456789abcdef", "gh_12345"),
        "3:13",
        "no app id",
        "`wx`",
    );
    check(
        &account("").replace("key: main", "key: Main"),
        "2:10",
        "not a name",
        "small letters",
    );
    check(
        &account("").replace("    encoding_aes_key: ${AES}\n", ""),
        "2:10",
        "need `encoding_aes_key`",
        "43",
    );
    let second = account("").replace("accounts:\n", "");
    let twice = format!("{}{second}", account(""));
    let problems = read(&twice).unwrap_err();
    assert_eq!(problems.len(), 2);
    assert!(problems[0].message.contains("`main` is here twice"));
    assert!(problems[1].message.contains("same app id"));
    let keys = format!("server: {{ api_keys: [{{ name: a, secret: {SECRET}, scopes: [] }}] }}\n");
    check(&keys, "1:83", "may do nothing", "scopes: [read]");
}

fn component(lines: &str) -> String {
    format!(
        "server: {{ public_url: 'https://drip.example.com' }}\ncomponents:\n  - key: pro\n    \
         app_id: wx00000000000000c0\n    app_secret: ${{SECRET}}\n    token: pamtest\n    \
         encoding_aes_key: ${{AES}}\n{lines}"
    )
}

#[test]
fn a_component_says_what_its_accounts_have() {
    let text = component("    profile: wechat-2023\n    in_flight: 3\n");
    let defaults = "account_defaults: { timezone: Europe/Berlin, profile: wecom-kf }\n";
    let config = read(&format!("{defaults}{text}")).unwrap();
    let one = &config.components[0];
    assert_eq!((&*one.key, &*one.profile), ("pro", "wechat-2023"));
    assert_eq!((&*one.timezone, one.in_flight), ("Europe/Berlin", Some(3)));
    assert_eq!(one.api_base, "https://api.weixin.qq.com");
    assert_eq!(one.login_base, "https://mp.weixin.qq.com");
    assert_eq!(one.mobile_login_base, "https://open.weixin.qq.com");
    assert_eq!(one.rate.per_day, 500_000);
    let pages = "component_defaults: { login_base: 'http://127.0.0.1:9' }\n";
    let config = read(&format!("{pages}{}", component(""))).unwrap();
    assert_eq!(config.components[0].login_base, "http://127.0.0.1:9");
    let shown = format!("{config:?}");
    assert!(!shown.contains(SECRET) && !shown.contains(AES));
}

#[test]
fn components_have_their_bounds() {
    let text = component("");
    let nowhere = text.replace("server: { public_url: 'https://drip.example.com' }\n", "");
    check(&nowhere, "2:10", "sends people back", "public_url");
    let second = component("")
        .split_once("components:\n")
        .unwrap()
        .1
        .to_owned();
    let other = second.replace("00c0", "00c1");
    check(
        &format!("{text}{other}"),
        "8:10",
        "is here twice",
        "its own key",
    );
    let same = second.replace("key: pro", "key: two");
    check(&format!("{text}{same}"), "9:13", "app id is here twice", "");
    let account = account("").replace("wx0123456789abcdef", "wx00000000000000c0");
    let both = format!("{account}{text}");
    check(&both, "10:13", "app id is here twice", "no account's");
    let short = text.replace("${AES}", "topsecret");
    let fix = "copy it again";
    check(&short, "7:23", "exactly 43 letters", fix);
}
