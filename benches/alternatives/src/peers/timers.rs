//! tokio's timers: a task per message in the process that fires it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::future::try_join_all;

use crate::peers::dealt;
use crate::workload::{Message, Recorder, now_ms, payload};

/// Starts a timer per message. There is nothing to acknowledge: a caller goes on when the task is
/// there.
pub async fn hand_over(
    messages: &[Message],
    callers: usize,
    recorder: Arc<Recorder>,
) -> Result<Duration> {
    let from = Instant::now();
    let callers = dealt(messages, callers).into_iter().map(|messages| {
        let recorder = Arc::clone(&recorder);
        tokio::spawn(async move {
            for message in messages {
                tokio::spawn(fire(message, payload(), Arc::clone(&recorder)));
                tokio::task::yield_now().await;
            }
        })
    });
    try_join_all(callers).await?;
    Ok(from.elapsed())
}

async fn fire(message: Message, payload: String, recorder: Arc<Recorder>) {
    let wait_ms = u64::try_from(message.due_ms - now_ms()).unwrap_or(0);
    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    if let Err(error) = recorder.fired(message.id) {
        eprintln!("message {} of {} bytes: {error}", message.id, payload.len());
    }
}
