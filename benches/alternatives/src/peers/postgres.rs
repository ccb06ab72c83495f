//! PostgreSQL: a table, an index, and a poll each second.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::future::try_join_all;
use tokio::time::MissedTickBehavior;
use tokio_postgres::{Client, NoTls};

use crate::peers::{How, dealt, say_ready};
use crate::workload::{Message, Recorder, payload};

const POLL_EVERY: Duration = Duration::from_secs(1);
const ROWS: usize = 500;
const BATCH: usize = 5000;

pub async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

pub async fn prepare(url: &str) -> Result<()> {
    let schema = "CREATE TABLE messages (
                      id bigint PRIMARY KEY, due_at timestamptz NOT NULL, payload text NOT NULL
                  );
                  CREATE INDEX messages_due ON messages (due_at)";
    Ok(connect(url).await?.batch_execute(schema).await?)
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds far below 2^52")]
fn due(message: &Message) -> f64 {
    message.due_ms as f64 / 1000.0
}

pub async fn hand_over(url: &str, messages: &[Message], how: How) -> Result<Duration> {
    match how {
        How::Batch => in_batches(url, messages).await,
        How::OneByOne(callers) => one_by_one(url, messages, callers).await,
    }
}

async fn in_batches(url: &str, messages: &[Message]) -> Result<Duration> {
    let client = connect(url).await?;
    let insert = "INSERT INTO messages SELECT id, to_timestamp(due), payload
                  FROM UNNEST($1::bigint[], $2::float8[], $3::text[]) AS m (id, due, payload)";
    let insert = client.prepare(insert).await?;
    let from = Instant::now();
    for batch in messages.chunks(BATCH) {
        let ids: Vec<_> = batch.iter().map(|m| m.id).collect();
        let dues: Vec<_> = batch.iter().map(due).collect();
        let payloads: Vec<_> = batch.iter().map(|_| payload()).collect();
        client.execute(&insert, &[&ids, &dues, &payloads]).await?;
    }
    Ok(from.elapsed())
}

/// Each caller has a connection of its own.
async fn one_by_one(url: &str, messages: &[Message], callers: usize) -> Result<Duration> {
    let insert = "INSERT INTO messages VALUES ($1, to_timestamp($2::float8), $3)";
    let clients = (0..callers).map(|_| async {
        let client = connect(url).await?;
        let insert = client.prepare(insert).await?;
        anyhow::Ok((client, insert))
    });
    let clients = try_join_all(clients).await?;
    let from = Instant::now();
    let calls = clients.into_iter().zip(dealt(messages, callers));
    let calls = calls.map(|((client, insert), messages)| {
        tokio::spawn(async move {
            for message in &messages {
                let (due, payload) = (due(message), payload());
                client
                    .execute(&insert, &[&message.id, &due, &payload])
                    .await?;
            }
            anyhow::Ok(())
        })
    });
    for ended in try_join_all(calls).await? {
        ended?;
    }
    Ok(from.elapsed())
}

pub async fn consume(url: &str, recorder: &Recorder) -> Result<()> {
    let mut client = connect(url).await?;
    let due = format!(
        "SELECT id, payload FROM messages WHERE due_at <= now()
         ORDER BY due_at LIMIT {ROWS} FOR UPDATE SKIP LOCKED"
    );
    let due = client.prepare(&due).await?;
    let done = "DELETE FROM messages WHERE id = ANY($1)";
    let done = client.prepare(done).await?;
    let mut polls = tokio::time::interval(POLL_EVERY);
    polls.set_missed_tick_behavior(MissedTickBehavior::Skip);
    say_ready();
    loop {
        polls.tick().await;
        loop {
            let transaction = client.transaction().await?;
            let rows = transaction.query(&due, &[]).await?;
            let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
            for id in &ids {
                recorder.fired(*id)?;
            }
            transaction.execute(&done, &[&ids]).await?;
            transaction.commit().await?;
            if ids.len() < ROWS {
                break;
            }
        }
    }
}
