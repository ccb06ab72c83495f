//! The page's words in Chinese and English.

/// Every word on the page.
#[derive(Debug)]
pub(super) struct Labels {
    pub(super) tag: &'static str,
    pub(super) other_tag: &'static str,
    pub(super) other_name: &'static str,
    pub(super) title: &'static str,
    pub(super) people: &'static str,
    pub(super) nobody: &'static str,
    pub(super) new_person: &'static str,
    pub(super) name: &'static str,
    pub(super) add: &'static str,
    pub(super) log: &'static str,
    pub(super) quiet: &'static str,
    pub(super) following: &'static str,
    pub(super) not_following: &'static str,
    pub(super) follow: &'static str,
    pub(super) follow_hint: &'static str,
    pub(super) unfollow: &'static str,
    pub(super) scan_follow: &'static str,
    pub(super) scan: &'static str,
    pub(super) scene: &'static str,
    pub(super) key: &'static str,
    pub(super) click: &'static str,
    pub(super) write: &'static str,
    pub(super) send: &'static str,
    pub(super) picture: &'static str,
    pub(super) more: &'static str,
    pub(super) no_grant: &'static str,
    /// Around the number of messages left.
    pub(super) grant_left: (&'static str, &'static str),
    pub(super) read_more: &'static str,
    pub(super) article: &'static str,
    pub(super) card: &'static str,
    pub(super) mini_program: &'static str,
    pub(super) passive: &'static str,
    pub(super) did_follow: &'static str,
    pub(super) did_follow_scene: &'static str,
    pub(super) did_unfollow: &'static str,
    pub(super) did_click: &'static str,
    pub(super) did_scan: &'static str,
    pub(super) unavailable: &'static str,
    pub(super) expired: &'static str,
    pub(super) choose: &'static str,
    pub(super) received: &'static str,
    pub(super) pushed: &'static str,
    pub(super) unanswered: &'static str,
    pub(super) time: &'static str,
    pub(super) account: &'static str,
}

impl Labels {
    /// The words for `?lang=`, else for the browser's languages; Chinese when neither says.
    pub(super) fn choose(asked: Option<&str>, accepted: Option<&str>) -> &'static Self {
        let wanted = asked.or(accepted).unwrap_or("zh");
        let first = wanted.trim_start().get(..2).unwrap_or("zh");
        if first.eq_ignore_ascii_case("zh") {
            &ZH
        } else {
            &EN
        }
    }
}

const ZH: Labels = Labels {
    tag: "zh",
    other_tag: "en",
    other_name: "English",
    title: "沙盒手机",
    people: "粉丝",
    nobody: "还没有粉丝，先新建一个。",
    new_person: "新建粉丝",
    name: "名字",
    add: "新建",
    log: "事件记录",
    quiet: "启动以来还没有动静。",
    following: "已关注",
    not_following: "未关注",
    follow: "关注公众号",
    follow_hint: "关注后即可收到消息",
    unfollow: "取消关注",
    scan_follow: "扫码关注",
    scan: "扫码",
    scene: "场景值",
    key: "菜单 key",
    click: "点菜单",
    write: "发消息",
    send: "发送",
    picture: "发图片",
    more: "更多操作",
    no_grant: "无下发额度",
    grant_left: ("剩 ", " 条"),
    read_more: "阅读全文",
    article: "公众号文章",
    card: "卡券",
    mini_program: "小程序",
    passive: "被动回复",
    did_follow: "关注了公众号",
    did_follow_scene: "扫码关注了公众号，场景值",
    did_unfollow: "取消了关注",
    did_click: "点击了菜单",
    did_scan: "扫描了二维码，场景值",
    unavailable: "该公众号提供的服务出现故障，请稍后再试",
    expired: "素材已过期",
    choose: "先选择或新建一个粉丝。",
    received: "收到消息",
    pushed: "推送",
    unanswered: "无有效应答",
    time: "沙盒时间",
    account: "公众号",
};

const EN: Labels = Labels {
    tag: "en",
    other_tag: "zh",
    other_name: "中文",
    title: "Sandbox phone",
    people: "Followers",
    nobody: "Nobody here yet: add somebody.",
    new_person: "New follower",
    name: "Name",
    add: "Add",
    log: "Event log",
    quiet: "Nothing has happened since the start.",
    following: "following",
    not_following: "not following",
    follow: "Follow",
    follow_hint: "Follow to receive messages",
    unfollow: "Unfollow",
    scan_follow: "Scan to follow",
    scan: "Scan",
    scene: "scene",
    key: "menu key",
    click: "Click menu",
    write: "Write a message",
    send: "Send",
    picture: "Send picture",
    more: "More",
    no_grant: "no grant",
    grant_left: ("", " left"),
    read_more: "Read more",
    article: "Article",
    card: "Coupon",
    mini_program: "Mini program",
    passive: "passive reply",
    did_follow: "followed",
    did_follow_scene: "scanned and followed, scene",
    did_unfollow: "unfollowed",
    did_click: "clicked the menu",
    did_scan: "scanned, scene",
    unavailable: "The service of this account is unavailable, try again later",
    expired: "this file has expired",
    choose: "Choose or add a follower first.",
    received: "message",
    pushed: "push",
    unanswered: "no valid answer",
    time: "Sandbox time",
    account: "Account",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_decides_before_the_browser() {
        let tag = |asked, accepted| Labels::choose(asked, accepted).tag;
        assert_eq!(tag(None, None), "zh");
        assert_eq!(tag(None, Some("en-US,en;q=0.9")), "en");
        assert_eq!(tag(Some("zh"), Some("en-US")), "zh");
        assert_eq!(tag(Some(""), Some("en")), "zh");
    }
}
