//! RabbitMQ: a TTL per message, and dead letters to the queue that is consumed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{BasicProperties, Connection, ConnectionProperties};

use crate::peers::{How, dealt, say_ready};
use crate::workload::{Message, Recorder, now_ms, payload};

const WINDOW: usize = 1000;
const PREFETCH: u16 = 1000;

/// AMQP's number for messages that outlive the broker.
const PERSISTENT: u8 = 2;

async fn connect(url: &str) -> Result<Connection> {
    Ok(Connection::connect(url, ConnectionProperties::default()).await?)
}

pub async fn prepare(url: &str) -> Result<()> {
    let connection = connect(url).await?;
    let amqp = connection.create_channel().await?;
    let text = |text: &str| AMQPValue::LongString(LongString::from(text));
    let mut dead_letters = FieldTable::default();
    dead_letters.insert("x-dead-letter-exchange".into(), text(""));
    dead_letters.insert("x-dead-letter-routing-key".into(), text("ready"));
    for (queue, arguments) in [("ready", FieldTable::default()), ("delayed", dead_letters)] {
        let durable = QueueDeclareOptions::durable();
        amqp.queue_declare(queue.into(), durable, arguments).await?;
    }
    Ok(connection.close(200, "prepared".into()).await?)
}

pub async fn hand_over(url: &str, messages: &[Message], how: How) -> Result<Duration> {
    let connection = connect(url).await?;
    let amqp = connection.create_channel().await?;
    amqp.confirm_select(ConfirmSelectOptions::default()).await?;
    let from = Instant::now();
    let (callers, window) = match how {
        How::Batch => (1, WINDOW),
        How::OneByOne(callers) => (callers, 1),
    };
    let amqp = Arc::new(amqp);
    let callers = dealt(messages, callers).into_iter().map(|messages| {
        let amqp = Arc::clone(&amqp);
        let call = async move {
            for window in messages.chunks(window) {
                let mut confirms = Vec::with_capacity(window.len());
                for message in window {
                    let ttl_ms = (message.due_ms - now_ms()).max(0).to_string();
                    let properties = BasicProperties::default()
                        .with_delivery_mode(PERSISTENT)
                        .with_message_id(message.id.to_string().into())
                        .with_expiration(ttl_ms.into());
                    let options = BasicPublishOptions::default();
                    let text = payload();
                    let sent = amqp.basic_publish(
                        "".into(),
                        "delayed".into(),
                        options,
                        text.as_bytes(),
                        properties,
                    );
                    confirms.push(sent.await?);
                }
                for confirm in try_join_all(confirms).await? {
                    ensure!(confirm.is_ack(), "the broker refused a message");
                }
            }
            anyhow::Ok(())
        };
        tokio::spawn(call)
    });
    for ended in try_join_all(callers).await? {
        ended?;
    }
    let took = from.elapsed();
    connection.close(200, "handed over".into()).await?;
    Ok(took)
}

pub async fn consume(url: &str, recorder: &Recorder) -> Result<()> {
    let connection = connect(url).await?;
    let amqp = connection.create_channel().await?;
    amqp.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let mut ready = amqp
        .basic_consume("ready".into(), "".into(), options, FieldTable::default())
        .await?;
    say_ready();
    while let Some(delivery) = ready.next().await {
        let delivery = delivery?;
        let id = delivery.properties.message_id().as_ref();
        let id = id.context("every message has a number")?.as_str().parse()?;
        recorder.fired(id)?;
        delivery.ack(BasicAckOptions::default()).await?;
    }
    anyhow::bail!("the server closed the connection")
}
