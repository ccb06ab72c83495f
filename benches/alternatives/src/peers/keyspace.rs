//! Redis key expiry: a key per message, and events of keys that expired.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Pipeline};

use crate::peers::{How, dealt, say_ready};
use crate::workload::{Message, Recorder, payload};

const BATCH: usize = 1000;

/// A connection that callers share, as this client is meant to be used.
pub async fn connect(url: &str) -> Result<MultiplexedConnection> {
    // A full batch may take longer than the client's usual half second.
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let client = Client::open(url)?;
    Ok(client
        .get_multiplexed_async_connection_with_config(&config)
        .await?)
}

/// Hands messages over by what `put` adds to a pipeline for each.
pub async fn by_pipeline(
    url: &str,
    messages: &[Message],
    how: How,
    put: fn(&mut Pipeline, &Message),
) -> Result<Duration> {
    let connection = connect(url).await?;
    let from = Instant::now();
    let (callers, batch) = match how {
        How::Batch => (1, BATCH),
        How::OneByOne(callers) => (callers, 1),
    };
    let callers = dealt(messages, callers).into_iter().map(|messages| {
        let mut connection = connection.clone();
        let call = async move {
            for batch in messages.chunks(batch) {
                let mut pipeline = redis::pipe();
                batch.iter().for_each(|message| put(&mut pipeline, message));
                let () = pipeline.query_async(&mut connection).await?;
            }
            anyhow::Ok(())
        };
        tokio::spawn(call)
    });
    for ended in try_join_all(callers).await? {
        ended?;
    }
    Ok(from.elapsed())
}

pub async fn prepare(url: &str) -> Result<()> {
    let mut set = redis::cmd("CONFIG");
    set.arg("SET").arg("notify-keyspace-events").arg("Ex");
    let () = set.query_async(&mut connect(url).await?).await?;
    Ok(())
}

pub async fn hand_over(url: &str, messages: &[Message], how: How) -> Result<Duration> {
    by_pipeline(url, messages, how, |pipeline, message| {
        let set = pipeline.cmd("SET").arg(message.id).arg(payload());
        set.arg("PXAT").arg(message.due_ms).ignore();
    })
    .await
}

pub async fn consume(url: &str, recorder: &Recorder) -> Result<()> {
    let mut events = Client::open(url)?.get_async_pubsub().await?;
    events.subscribe("__keyevent@0__:expired").await?;
    say_ready();
    let mut expired = events.on_message();
    while let Some(event) = expired.next().await {
        let key: String = event.get_payload()?;
        recorder.fired(key.parse().context("a key is a number")?)?;
    }
    anyhow::bail!("the server closed the connection")
}
