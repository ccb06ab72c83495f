//! What is compared: each peer says what its acknowledgement promises, hands messages over, and
//! consumes them.
//!
//! Two of them are not servers: messages are handed over inside the process that fires them.

pub mod keyspace;
pub mod postgres;
pub mod rabbitmq;
pub mod sorted_set;
pub mod timers;

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use crate::server::Kind;
use crate::workload::{Message, Recorder};

/// One way to have messages fire later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    DripwheelSqlite,
    DripwheelPostgres,
    TokioTimers,
    PostgresPoll,
    RedisExpiry,
    RedisSortedSet,
    RedisSortedSetAlways,
    RabbitmqTtl,
}

/// How messages are handed over.
#[derive(Clone, Copy, Debug)]
pub enum How {
    /// In the best batch that the client offers.
    Batch,
    /// By so many callers, each of whom waits for its own acknowledgement.
    OneByOne(usize),
}

/// Where messages are kept until they are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a server; the consumer is a process beside it.
    Server(Kind),
    /// In the consumer, whatever its database is.
    Consumer(Option<Kind>),
}

impl Peer {
    /// What the table has when nothing else is asked for.
    pub const USUAL: [Self; 7] = [
        Self::DripwheelSqlite,
        Self::PostgresPoll,
        Self::RedisSortedSet,
        Self::RedisSortedSetAlways,
        Self::RedisExpiry,
        Self::RabbitmqTtl,
        Self::TokioTimers,
    ];

    pub fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    pub fn is_dripwheel(self) -> bool {
        matches!(self, Self::DripwheelSqlite | Self::DripwheelPostgres)
    }

    pub fn place(self) -> Place {
        match self {
            Self::DripwheelSqlite | Self::TokioTimers => Place::Consumer(None),
            Self::DripwheelPostgres => Place::Consumer(Some(Kind::Postgres)),
            Self::PostgresPoll => Place::Server(Kind::Postgres),
            Self::RedisExpiry | Self::RedisSortedSet => Place::Server(Kind::RedisEverySecond),
            Self::RedisSortedSetAlways => Place::Server(Kind::RedisAlways),
            Self::RabbitmqTtl => Place::Server(Kind::Rabbitmq),
        }
    }

    /// What a message has behind it when it is acknowledged.
    pub fn acknowledged(self) -> &'static str {
        match self {
            Self::DripwheelSqlite => "fsync (WAL, synchronous=FULL)",
            Self::DripwheelPostgres | Self::PostgresPoll => "fsync",
            Self::TokioTimers => "memory of the process",
            Self::RedisExpiry | Self::RedisSortedSet => "memory; AOF fsync each second",
            Self::RedisSortedSetAlways => "AOF fsync",
            Self::RabbitmqTtl => "confirmed, persistent",
        }
    }

    /// How it was set, and what it does when its consumer is killed.
    pub fn settings(self) -> &'static str {
        match self {
            Self::DripwheelSqlite | Self::DripwheelPostgres => {
                "engine without HTTP; a message is the follow of a new follower with a one-step \
                 sequence. Batch: 2,000 callers. Intent committed before each send; what a kill \
                 leaves between intent and outcome is recorded as unknown and, here, sent again"
            }
            Self::TokioTimers => "one task per message; a kill forgets whatever is pending",
            Self::PostgresPoll => {
                "table and index on the due instant, poll each second, 500 rows in a transaction by \
                 FOR UPDATE SKIP LOCKED, deleted in it. Batch: 5,000 rows by UNNEST. A kill rolls \
                 back: what the open transaction had fired fires again"
            }
            Self::RedisExpiry => {
                "SET … PXAT and expired events. Batch: pipelines of 1,000. No reserve and no ack: \
                 events that nobody hears are gone, and the value is gone when the event comes"
            }
            Self::RedisSortedSet | Self::RedisSortedSetAlways => {
                "ZADD and HSET in a MULTI; a Lua script moves 500 due ids at a time to a set of \
                 reserved ones, poll each 100 ms. Batch: pipelines of 1,000. Acknowledged by id \
                 afterwards; reserved ones come back 10 s after a kill, and those that had fired \
                 by then fire again"
            }
            Self::RabbitmqTtl => {
                "per-message TTL in a durable classic queue, dead-lettered to the queue that is \
                 consumed with prefetch 1,000 and acked one by one. Batch: windows of 1,000 \
                 confirms. A queue expires only its head, so mixed delays wait for longer ones \
                 ahead of them. A kill gives unacked ones back at once"
            }
        }
    }

    /// Makes tables, queues or settings in a fresh server; fails while the server is not up.
    pub async fn prepare(self, url: &str) -> Result<()> {
        match self {
            Self::PostgresPoll => postgres::prepare(url).await,
            Self::DripwheelPostgres => postgres::connect(url).await.map(drop),
            Self::RedisExpiry => keyspace::prepare(url).await,
            Self::RedisSortedSet | Self::RedisSortedSetAlways => sorted_set::prepare(url).await,
            Self::RabbitmqTtl => rabbitmq::prepare(url).await,
            Self::DripwheelSqlite | Self::TokioTimers => Ok(()),
        }
    }

    /// Hands messages over to a server; says how long that took, from open connections on.
    pub async fn hand_over(self, url: &str, messages: &[Message], how: How) -> Result<Duration> {
        match self {
            Self::PostgresPoll => postgres::hand_over(url, messages, how).await,
            Self::RedisExpiry => keyspace::hand_over(url, messages, how).await,
            Self::RedisSortedSet | Self::RedisSortedSetAlways => {
                sorted_set::hand_over(url, messages, how).await
            }
            Self::RabbitmqTtl => rabbitmq::hand_over(url, messages, how).await,
            Self::DripwheelSqlite | Self::DripwheelPostgres | Self::TokioTimers => {
                anyhow::bail!("{} hands over in its consumer", self.name())
            }
        }
    }

    /// Consumes from a server for ever, after saying on standard output that it is ready.
    pub async fn consume(self, url: &str, recorder: &Recorder) -> Result<()> {
        match self {
            Self::PostgresPoll => postgres::consume(url, recorder).await,
            Self::RedisExpiry => keyspace::consume(url, recorder).await,
            Self::RedisSortedSet | Self::RedisSortedSetAlways => {
                sorted_set::consume(url, recorder).await
            }
            Self::RabbitmqTtl => rabbitmq::consume(url, recorder).await,
            Self::DripwheelSqlite | Self::DripwheelPostgres | Self::TokioTimers => {
                anyhow::bail!("{} consumes in a way of its own", self.name())
            }
        }
    }
}

/// Tells who started this consumer that it takes messages from now on.
pub fn say_ready() {
    println!("ready");
}

/// The messages of each of `callers`, dealt out in turn.
fn dealt(messages: &[Message], callers: usize) -> Vec<Vec<Message>> {
    let callers = callers.max(1);
    let of = |first| messages.iter().skip(first).step_by(callers).copied();
    (0..callers).map(|first| of(first).collect()).collect()
}
