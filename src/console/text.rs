//! The words on the pages, in English and Chinese. One struct: a word that is missing in one
//! language does not compile.

use crate::story::Lang;

macro_rules! texts {
    ($($name:ident: $en:literal, $zh:literal;)*) => {
        /// Every word of the pages in one language.
        #[derive(Debug)]
        pub(super) struct Text { $(pub(super) $name: &'static str),* }

        static EN: Text = Text { $($name: $en),* };
        static ZH: Text = Text { $($name: $zh),* };
    };
}

texts! {
    overview: "Overview", "总览";
    accounts: "Accounts", "公众号";
    account: "Account", "公众号";
    sequences: "Sequences", "序列";
    sequence: "Sequence", "序列";
    broadcasts: "Broadcasts", "群发";
    broadcast: "Broadcast", "群发";
    no_broadcasts: "No broadcast was ever made.", "还没有群发。";
    progress: "Progress", "进度";
    created: "Created", "创建";
    broadcast_freezing: "freezing the audience", "正在确定名单";
    broadcast_not_started: "not started", "未开始";
    broadcast_sending: "sending", "发送中";
    broadcast_interrupted: "interrupted", "已中断";
    broadcast_planned: "planned", "待发送";
    broadcast_sent: "sent", "已发送";
    broadcast_failed: "failed", "失败";
    broadcast_skipped: "skipped", "未发送";
    broadcast_starts: "Begins", "开始时间";
    broadcast_repeats: "Repeats", "重复";
    broadcast_says: "Message", "消息";
    broadcast_start: "Start", "开始";
    broadcast_interrupt: "Interrupt", "中断";
    broadcast_retry: "Retry the failed", "重试失败";
    broadcast_unknown_too: "also those whose answer was lost: some get it twice", "应答丢失的也重试：部分粉丝会收到两次";
    broadcast_changed: "Done.", "已执行。";
    broadcast_not_now: "Its state does not allow that now.", "当前状态不允许此操作。";
    followers: "Followers", "粉丝";
    follower: "Follower", "粉丝";
    newest_first: "newest first", "最新在前";
    older: "Older", "更早";
    newest: "Newest", "最新";
    nobody: "Nobody here yet.", "还没有粉丝。";
    nobody_here: "Nobody in this stretch; there are older ones.", "此区间没有该公众号的粉丝，可继续查看更早的。";
    openid: "openid", "openid";
    find: "Find", "查找";
    find_hint: "Exact openid", "完整的 openid";
    not_found: "Not found", "未找到";
    no_such_follower: "No account knows anybody by this openid.", "没有公众号认识这个 openid。";
    no_such_page: "There is nothing at this address.", "这个地址没有内容。";
    failed: "That did not work", "操作失败";
    failed_hint: "The server's log says what happened.", "详情见服务器日志。";
    refused: "Refused", "已拒绝";
    refused_hint: "This request did not come from this console, or your key may not do this.", "请求并非来自本控制台，或密钥没有相应权限。";
    sign_in: "Sign in", "登录";
    sign_out: "Sign out", "退出";
    api_key: "API key", "API 密钥";
    key_hint: "A key of `server.api_keys` in dripwheel.yaml. With the scope `write` it may enroll, cancel, pause and resume.", "dripwheel.yaml 中 `server.api_keys` 的密钥；带 `write` 权限可加入、取消、暂停和恢复。";
    key_wrong: "This is not one of the keys.", "密钥不正确。";
    other_language: "中文", "English";
    platform: "Platform", "平台";
    profile: "Rules", "规则";
    standing: "Standing", "状态";
    sending: "sends", "正常";
    paused: "paused", "已暂停";
    attention: "needs a person", "需人工处理";
    comparing: "comparing followers", "正在核对粉丝";
    compared: "followers compared", "粉丝已核对";
    not_compared: "followers not compared", "粉丝核对失败";
    compare_cancelled: "comparing followers was cancelled", "粉丝核对已取消";
    resting: "rests", "休息中";
    unauthorized: "authorization withdrawn", "授权已取消";
    app_id: "App id", "AppID";
    pause: "Pause", "暂停";
    resume: "Resume", "恢复";
    reason: "Reason", "原因";
    clear_quota: "Clear quotas", "清零额度";
    clears_left: "I know that the platform allows this ten times a month; left, as far as known:", "我知道平台每月仅允许十次；据本机统计剩余：";
    done_paused: "Paused: nothing is sent until it is resumed.", "已暂停：恢复之前不再发送。";
    done_resumed: "Resumed.", "已恢复。";
    done_unchanged: "Nothing has changed: it was so already.", "没有变化：已是该状态。";
    done_cleared: "The platform counts this account's calls anew.", "平台已清零该账号的调用次数。";
    no_clear_left: "The month's ten clears are used up, those in the platform's console included (48006): wait for the next month, or for the day's reset.", "本月十次清零已用完（含公众平台操作，48006）：请等待下月或当日额度重置。";
    not_cleared: "The platform refused; the words stand below and in the log.", "平台拒绝了清零；原因见下方与日志。";
    clear_silent: "The platform's answer was lost: the quotas may or may not be cleared.", "平台应答丢失：额度可能已清零，也可能没有。";
    not_confirmed: "Nothing was asked: tick the box first.", "未执行：请先勾选确认。";
    quotas: "Quotas", "额度";
    interface: "Interface", "接口";
    used: "Used", "已用";
    rate: "Rate", "频率";
    pace: "slowed to", "降速至";
    sends: "Sends", "发送";
    last_day: "last 24 hours", "最近 24 小时";
    carrier: "Carrier", "方式";
    accepted: "Accepted", "成功";
    refusals: "Refusals", "被拒";
    retries: "Retries", "重试";
    no_refusals: "The platform refused nothing.", "平台没有拒绝任何调用。";
    errcode: "Code", "错误码";
    count: "Count", "次数";
    reaction: "What was done", "处理";
    opened: "Opened", "获得";
    spent: "Spent", "使用";
    acts: "What people did", "人工操作";
    no_acts: "Nothing in the last month.", "最近一个月没有。";
    token_age: "Token's age", "令牌已用";
    token_ends: "Token ends in", "令牌剩余";
    token_failed: "Token refused", "令牌获取失败";
    due: "Due", "到期";
    due_hint: "Deliveries that are due or being sent", "已到期或正在发送";
    next_hour: "Timers in the next hour", "一小时内的定时";
    next_hour_hint: "Steps that fall due, by minute", "每分钟到期的步骤数";
    held: "Held", "暂留";
    active: "Active", "进行中";
    completed: "Completed", "已完成";
    cancelled: "Cancelled", "已取消";
    passages: "Passages", "旅程";
    newest_passages: "of the newest 20,000", "最新 20,000 个中";
    unknown: "Unknown sends", "未知发送";
    unknown_hint: "The answer was lost: they may or may not have arrived", "应答丢失：可能送达，也可能没有";
    none_unknown: "None: every answer was read.", "没有：所有应答均已收到。";
    latest: "Latest outcomes", "最近结果";
    latest_hint: "of the newest followers", "最新粉丝的";
    none_yet: "Nothing has happened yet.", "还没有任何结果。";
    no_sequences: "No sequence is published.", "尚未发布序列。";
    no_accounts: "No account is configured.", "尚未配置公众号。";
    step: "Step", "步骤";
    state: "State", "状态";
    why: "Why", "原因";
    when: "When", "时间";
    planned_for: "Due", "计划时间";
    live: "live", "生效";
    retired: "retired", "已停用";
    published: "Published", "发布时间";
    version: "Version", "版本";
    steps: "Steps", "步骤";
    follows: "follows", "已关注";
    gone: "does not follow", "未关注";
    muted: "blocks messages", "屏蔽消息";
    followed_at: "Followed", "关注时间";
    last_event_at: "Last act", "最近互动";
    last_sent_at: "Last send", "最近发送";
    never: "never", "从未";
    language: "Language", "语言";
    scene: "Scene", "场景";
    tags: "Tags", "标签";
    grants: "Grants", "发送许可";
    no_grants: "None was ever opened.", "从未获得许可。";
    open: "open", "可用";
    closed: "closed", "不可用";
    left: "left", "剩余";
    closes: "closes", "关闭于";
    timeline: "Timeline", "时间线";
    earlier: "Earlier", "更早的";
    enroll: "Enroll", "加入序列";
    cancel: "Cancel", "取消";
    cancel_all: "Cancel all passages", "取消全部旅程";
    no_passages: "This follower is in no sequence.", "该粉丝不在任何序列中。";
    done_enrolled: "Enrolled.", "已加入序列。";
    done_cancelled: "Cancelled.", "已取消。";
    done_nothing: "There was nothing to cancel.", "没有可取消的旅程。";
    not_allowed: "The sequence's `reenter` rule does not allow another passage now.", "序列的 `reenter` 规则目前不允许再次进入。";
    not_following: "The person does not follow.", "对方未关注。";
    no_such_sequence: "No live sequence of this name runs on this account.", "该公众号没有这个生效的序列。";
    read_only: "read only", "只读";
    more_than: "more than", "超过";
    numbers: "Numbers", "数据";
    days: "days", "天";
    all_days: "all", "全部";
    planned: "planned", "计划";
    was_sent: "sent", "已发送";
    clicked: "clicked", "点击人数";
    clicks: "clicks", "点击次数";
    left_within_hour: "left within the hour", "一小时内取关";
    links: "Links", "链接";
    link: "Link", "链接";
    links_hint: "clicks by people, machines left out", "仅计真人点击";
    leads_to: "Leads to", "指向";
    by_day: "last 30 days", "最近 30 天";
}

/// The words in a language.
pub(super) fn text(lang: Lang) -> &'static Text {
    match lang {
        Lang::En => &EN,
        Lang::Zh => &ZH,
    }
}
