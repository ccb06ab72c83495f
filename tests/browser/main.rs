//! The pages in a real Chromium: what a person does on the sandbox's phone, what arrives there
//! while they watch, and what the console tells of it.
//!
//! Opt-in (`cargo browser`): needs chromium and chromedriver, which `tests/run` installs.

#![expect(
    clippy::unwrap_used,
    reason = "a test's helper that fails fails its test"
)]

mod chromium;
#[path = "../it/support/cluster.rs"]
#[expect(dead_code, reason = "the pages need a database and stop no server")]
mod cluster;
#[path = "../it/support/database.rs"]
#[expect(dead_code, reason = "the pages are looked at, not the rows")]
mod database;
mod stage;

use std::panic::{AssertUnwindSafe, resume_unwind};

use chromium::{Chromium, Tab};
use dripwheel::sandbox::Action;
use futures_util::FutureExt;
use stage::{APP_ID, Stage};

/// Openid of the follower whose phone is open.
async fn openid(tab: &Tab) -> String {
    let address = tab.address().await;
    let found = address.query_pairs().find(|(name, _)| name == "follower");
    found.unwrap().1.into_owned()
}

/// Adds somebody and opens their phone.
async fn add(tab: &Tab, name: &str) -> String {
    tab.write(".new input[name=value]", name).await;
    tab.click(".new button").await;
    tab.until_says(".people [aria-current] .name", name).await;
    openid(tab).await
}

/// From here on a reload would be noticed.
async fn mark(tab: &Tab) {
    tab.value("(window.isSamePage = true)").await;
}

async fn assert_not_reloaded(tab: &Tab) {
    assert_eq!(tab.value("window.isSamePage === true").await, true);
}

/// Whether every picture in the chat is one, of which there are `count`.
fn pictures(count: usize) -> String {
    format!(
        "(() => {{ const all = [...document.querySelectorAll('#chat img')]; \
         return all.length === {count} && all.every((one) => one.naturalWidth > 0); }})()"
    )
}

async fn assert_quiet(tab: &Tab, page: &str) {
    let complaints = tab.complaints().await;
    assert!(complaints.is_empty(), "{page}: {complaints:#?}");
}

async fn assert_no_sideways(tab: &Tab, page: &str) {
    let widths = "[document.documentElement.scrollWidth, window.innerWidth]";
    let widths = tab.value(widths).await;
    assert!(widths[0].as_u64() <= widths[1].as_u64(), "{page}: {widths}");
}

async fn play(stage: &Stage, tab: &Tab) {
    tab.open(&stage.phone("/?lang=zh")).await;
    // A log that hears nothing would find nothing below.
    tab.value("console.error('heard')").await;
    assert_eq!(tab.complaints().await.len(), 1);
    tab.shoot("01-empty").await;
    let ming = add(tab, "小明").await;
    tab.shoot("02-before-follow").await;
    watch_messages_arrive(stage, tab).await;
    act_on_the_phone(stage, tab).await;
    let hong = follow_in_english(stage, tab).await;
    leave(stage, tab, &ming, &hong).await;
    assert_quiet(tab, "phone").await;
    look_at_the_console(stage, tab, &ming, &hong).await;
    assert_quiet(tab, "console").await;
}

async fn watch_messages_arrive(stage: &Stage, tab: &Tab) {
    mark(tab).await;
    tab.click("#bottom .primary").await;
    tab.until_says("#chat .theirs", "欢迎关注绵绵茶铺").await;
    tab.until_says("#strip .badge", "已关注").await;
    tab.until_says("#grant", "剩 19 条").await;
    tab.shoot("03-welcome").await;
    stage.pass(10);
    tab.until(&pictures(1)).await;
    stage.pass(3 * 60);
    tab.until_says("#chat .menu", "价格与礼包").await;
    assert_not_reloaded(tab).await;
    tab.shoot("04-menu").await;
}

async fn act_on_the_phone(stage: &Stage, tab: &Tab) {
    tab.click("#chat .menu form:nth-of-type(2) button").await;
    tab.until_says("#chat .mine .bubble", "价格与礼包").await;
    tab.write(".write input[name=value]", "有龙井吗？").await;
    tab.click(".write button").await;
    tab.until_says("#chat .mine .bubble", "有龙井吗？").await;
    tab.click(".buttons form:first-child button").await;
    tab.until_says("#chat .notice", "点击了菜单 today").await;
    tab.click(".more summary").await;
    tab.shoot("05-drawer").await;
    tab.write(".rows form:nth-child(2) input[name=value]", "event-9")
        .await;
    tab.click(".rows form:nth-child(2) button").await;
    tab.until_says("#chat .notice", "扫描了二维码").await;
    // Two messages to one follower keep a distance.
    stage.pass(1);
    tab.until_says("#chat .theirs", "报名成功").await;
    tab.click(".more summary").await;
    tab.click(".rows form:nth-child(3) button").await;
    tab.until(&pictures(2)).await;
    tab.shoot("06-chat").await;
    agree_to_notices(stage, tab).await;
    assert_not_reloaded(tab).await;
    tab.narrow(true).await;
    tab.until("chat().scrollHeight - chat().scrollTop - chat().clientHeight < 2")
        .await;
    tab.shoot("07-narrow").await;
    assert_no_sideways(tab, "phone").await;
    tab.narrow(false).await;
}

/// Consent to a subscription notice: given, shown, and withdrawn.
async fn agree_to_notices(stage: &Stage, tab: &Tab) {
    tab.click(".more summary").await;
    tab.write(".other input[name=value]", "lesson").await;
    tab.click(".other button[value=accept]").await;
    tab.until_says("#chat .notice", "允许 lesson").await;
    tab.click(".more summary").await;
    tab.until_says("#notices form:first-child", "lesson 1")
        .await;
    tab.shoot("06-consent").await;
    tab.click("#notices button[value=withdraw]").await;
    tab.until_says("#chat .notice", "取消订阅 lesson").await;
    tab.until("document.querySelector('#notices button[value=withdraw]') === null")
        .await;
    let ming = openid(tab).await;
    let left = stage.sandbox.control().follower(APP_ID, &ming);
    assert!(left.unwrap().consents.is_empty());
}

async fn follow_in_english(stage: &Stage, tab: &Tab) -> String {
    tab.open(&stage.phone("/?lang=en")).await;
    let hong = add(tab, "Hong").await;
    mark(tab).await;
    tab.click("#bottom .primary").await;
    tab.until_says("#chat .theirs", "Welcome to 绵绵茶铺").await;
    tab.shoot("08-english").await;
    hong
}

/// The first follower leaves with a step ahead; the second one gets that step, the first does not.
async fn leave(stage: &Stage, tab: &Tab, ming: &str, hong: &str) {
    let phone =
        |openid: &str| stage.phone(&format!("/?account={APP_ID}&follower={openid}&lang=zh"));
    tab.open(&phone(ming)).await;
    mark(tab).await;
    tab.click(".more summary").await;
    tab.click(".rows .danger").await;
    tab.until_says("#strip .badge", "未关注").await;
    tab.until_says("#chat .notice", "取消了关注").await;
    let lines = "document.querySelectorAll('#chat > *').length";
    let before = tab.value(lines).await;
    // Whoever is still there goes on to the last step, a day after the follow.
    stage.pass(10);
    tab.open(&phone(hong)).await;
    tab.until(&pictures(1)).await;
    stage.pass(3 * 60);
    tab.until_says("#chat .menu", "How to begin").await;
    stage.act(hong, Action::Text { text: "Hi".into() }).await;
    stage.pass(24 * 60);
    tab.until_says("#chat .card", "Your starter pack").await;
    tab.until(&pictures(2)).await;
    tab.shoot("09-news").await;
    tab.open(&phone(ming)).await;
    assert_eq!(
        tab.value(lines).await,
        before,
        "something arrived after the unfollow"
    );
    tab.shoot("10-left").await;
}

async fn look_at_the_console(stage: &Stage, tab: &Tab, ming: &str, hong: &str) {
    tab.open(&stage.console("/?lang=zh")).await;
    tab.until_says("table", "welcome").await;
    tab.shoot("11-overview").await;
    tab.open(&stage.console(&format!("/accounts/demo/followers/{hong}")))
        .await;
    for step in ["hello", "guide", "question", "offer"] {
        let sent = format!(
            "[...document.querySelectorAll('tr')].some((row) => \
             row.innerText.includes('{step}') && row.querySelector('.pill.sent') !== null)"
        );
        tab.until(&sent).await;
    }
    tab.shoot("12-follower").await;
    tab.open(&stage.console(&format!("/accounts/demo/followers/{ming}")))
        .await;
    tab.until(
        "[...document.querySelectorAll('tr')].some((row) => \
         row.innerText.includes('offer') && row.querySelector('.pill.cancelled') !== null)",
    )
    .await;
    tab.shoot("13-left").await;
    tab.narrow(true).await;
    tab.shoot("14-narrow").await;
    assert_no_sideways(tab, "console").await;
    tab.narrow(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follow_becomes_a_conversation_that_one_can_watch() {
    let stage = Stage::set().await;
    let chromium = Chromium::start().await;
    #[expect(clippy::print_stderr, reason = "says where to look at the pictures")]
    {
        eprintln!("screenshots: {}", chromium.tab.folder().display());
    }
    let played = AssertUnwindSafe(play(&stage, &chromium.tab)).catch_unwind();
    let played = played.await;
    // Also after a failure: a driver that is killed leaves its browser behind.
    chromium.close().await;
    if let Err(failure) = played {
        resume_unwind(failure);
    }
    stage.strike().await;
}
