//! A Redis sorted set by due instant; a script moves due ids to a set of reserved ones.

use std::time::Duration;

use anyhow::Result;
use redis::Script;
use tokio::time::MissedTickBehavior;

use crate::peers::keyspace::{by_pipeline, connect};
use crate::peers::{How, say_ready};
use crate::workload::{Message, Recorder, now_ms, payload};

const POLL_EVERY: Duration = Duration::from_millis(100);
const IDS: usize = 500;

/// How long a consumer may keep an id to itself.
const RESERVED_MS: i64 = 10_000;

/// Keys: delayed, reserved, payloads. Arguments: now, most ids, when the reservation ends.
const RESERVE: &str = "
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])) do
    redis.call('ZREM', KEYS[2], id)
    redis.call('ZADD', KEYS[1], ARGV[1], id)
end
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
local taken = {}
for _, id in ipairs(due) do
    redis.call('ZREM', KEYS[1], id)
    redis.call('ZADD', KEYS[2], ARGV[3], id)
    taken[#taken + 1] = { id, redis.call('HGET', KEYS[3], id) }
end
return taken
";

pub async fn prepare(url: &str) -> Result<()> {
    let () = redis::cmd("PING")
        .query_async(&mut connect(url).await?)
        .await?;
    Ok(())
}

pub async fn hand_over(url: &str, messages: &[Message], how: How) -> Result<Duration> {
    by_pipeline(url, messages, how, |pipeline, message| {
        let Message { id, due_ms } = *message;
        pipeline.atomic();
        pipeline.hset("payloads", id, payload()).ignore();
        pipeline.zadd("delayed", id, due_ms).ignore();
    })
    .await
}

pub async fn consume(url: &str, recorder: &Recorder) -> Result<()> {
    let mut connection = connect(url).await?;
    let reserve = Script::new(RESERVE);
    let mut polls = tokio::time::interval(POLL_EVERY);
    polls.set_missed_tick_behavior(MissedTickBehavior::Skip);
    say_ready();
    loop {
        polls.tick().await;
        loop {
            let now = now_ms();
            let mut call = reserve.prepare_invoke();
            call.key("delayed").key("reserved").key("payloads");
            call.arg(now).arg(IDS).arg(now + RESERVED_MS);
            let taken: Vec<(i64, String)> = call.invoke_async(&mut connection).await?;
            if taken.is_empty() {
                break;
            }
            let mut ack = redis::pipe();
            ack.atomic();
            for (id, _) in &taken {
                recorder.fired(*id)?;
                ack.zrem("reserved", *id).ignore();
                ack.hdel("payloads", *id).ignore();
            }
            let () = ack.query_async(&mut connection).await?;
            if taken.len() < IDS {
                break;
            }
        }
    }
}
