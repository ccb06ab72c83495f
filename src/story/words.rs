//! A story as text, for `dripwheel explain`: the whole way in the order of time.

use std::fmt::Write;

use crate::story::phrases::{Lang, Phrase};
use crate::story::voice::{Voice, plain};
use crate::story::{Moment, Story, What, why};

/// The story in words; ends with a line break.
pub fn words(story: &Story, lang: Lang) -> String {
    let voice = story.voice(lang);
    let mut text = String::new();
    // Writing to a `String` cannot fail.
    head(&mut text, story, &voice).ok();
    text.push('\n');
    let mut past = true;
    for moment in story.moments() {
        if past && moment.at > story.now {
            past = false;
            now(&mut text, &voice).ok();
        }
        line(&mut text, story, &moment, &voice).ok();
    }
    if past {
        now(&mut text, &voice).ok();
    }
    text
}

fn head(text: &mut String, story: &Story, voice: &Voice) -> std::fmt::Result {
    let follower = &story.follower;
    let lang = voice.lang;
    let following = if follower.following {
        lang.pick("follows", "已关注")
    } else {
        lang.pick("does not follow", "未关注")
    };
    let since = voice.when(follower.followed_at);
    writeln!(
        text,
        "{} {}  {following}, {since}",
        plain(&story.account.key),
        plain(&follower.openid)
    )?;
    if follower.muted {
        writeln!(text, "  {}", voice.say(Phrase::Muted, &[]))?;
    }
    for grant in &story.grants {
        let left = grant.quota.saturating_sub(grant.spent);
        let open = if grant.permits(voice.now) {
            lang.pick("open", "可用")
        } else {
            lang.pick("closed", "不可用")
        };
        writeln!(
            text,
            "  {} {}: {open}, {left}/{}, {} .. {}",
            lang.pick("grant", "许可"),
            grant.kind.word(),
            grant.quota,
            voice.when(grant.opens_at),
            voice.when(grant.closes_at)
        )?;
    }
    if story.account.attention || story.account.paused_until > voice.now {
        let paused = lang.pick("account paused", "公众号暂停");
        writeln!(text, "  {paused}: {}", plain(&story.account.pause_reason))?;
    }
    Ok(())
}

fn line(text: &mut String, story: &Story, moment: &Moment<'_>, voice: &Voice) -> std::fmt::Result {
    let at = voice.when(moment.at);
    match moment.what {
        What::Event(receipt) => writeln!(text, "{at}  <  {}", why::event(receipt, voice)),
        What::Enrolled(passage) => {
            let sequence = passage.sequence();
            let said = voice.say(Phrase::Enrolled, &[("sequence", &sequence)]);
            writeln!(text, "{at}  +  {said}")
        }
        What::Entry(passage, stage, entry) => writeln!(
            text,
            "{at}  >  {}/{}: {} — {}",
            passage.sequence(),
            stage.id,
            entry.outcome.word(),
            why::entry(stage, entry, voice)
        ),
        What::Ahead(passage, stage) => writeln!(
            text,
            "{at}  .  {}/{}: {} — {}",
            passage.sequence(),
            stage.id,
            stage.state.word(),
            why::step(story, passage, stage, voice)
        ),
    }
}

fn now(text: &mut String, voice: &Voice) -> std::fmt::Result {
    let word = voice.lang.pick("now", "现在");
    writeln!(text, "{}  -- {word} --", voice.when(voice.now))
}
