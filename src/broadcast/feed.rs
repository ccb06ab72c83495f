//! Feeds one part of a broadcast: as many recipients as leave within about two seconds have an
//! enrollment, and the others wait in their rows. So memory and queues stay small whatever the size of
//! the audience, an interruption takes effect at once, and sequences keep going first.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::broadcast::pace::{self, Share, Speed};
use crate::broadcast::{Key, freeze};
use crate::clock::{Clock, Timestamp};
use crate::journey::sequence::Kind;
use crate::policy::profile::MassSend;
use crate::store::broadcasts::{self, Broadcast, Part, Phase, State};
use crate::store::chunks::{self, Chunk};
use crate::store::recipients::{self, CHUNK};
use crate::store::{Error, Store};

/// Rest between two looks at what is on its way. Of the machine's time, as it is about work.
const PAUSE: Duration = Duration::from_millis(100);

/// The same while nothing can come: the account is paused, or the broadcast interrupted.
const IDLE_PAUSE: Duration = Duration::from_millis(500);

/// What is due until then counts as on its way; a mass send's recipients are due together sooner.
const SOON: Duration = Duration::from_secs(2);
const TOGETHER_IN: Duration = Duration::from_millis(1_500);

/// Chunks that are counted at one look: the newest, and some of the older ones in turn.
const COUNTED_NEWEST: usize = 24;
const COUNTED_OLDER: usize = 8;

/// What one step leads to.
enum Next {
    At(Duration),
    /// There is nothing to do here now.
    Over,
}

/// One part while it is ours.
pub(super) struct Feeder {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    key: Key,
    speed: Speed,
    /// Chunks whose counts are older than what we did.
    touched: HashSet<i64>,
    begun: bool,
    /// Which of the older chunks are counted next.
    turn: usize,
}

impl Feeder {
    pub(super) fn new(store: Arc<Store>, clock: Arc<dyn Clock>, key: Key) -> Self {
        let speed = Speed::new(clock.now());
        Self {
            store,
            clock,
            key,
            speed,
            touched: HashSet::new(),
            begun: false,
            turn: 0,
        }
    }

    /// Goes on until there is nothing to do, the account is another node's, or `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let (broadcast, account) = self.key;
        while !stop.is_cancelled() && self.store.leases().hold(account) {
            let stepped = tokio::select! {
                () = stop.cancelled() => return,
                stepped = self.step() => stepped,
            };
            let pause = match stepped {
                Ok(Next::At(pause)) => pause,
                Ok(Next::Over) | Err(Error::Stopped) => return,
                Err(error) => {
                    tracing::error!(%error, cause = ?error, broadcast.id = broadcast.0,
                        account.id = account.0, "a broadcast cannot go on for now");
                    super::STORE_REST
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn step(&mut self) -> Result<Next, Error> {
        let (id, account) = self.key;
        let found = broadcasts::part_now(self.store.read(), id, account).await?;
        let Some((broadcast, part)) = found else {
            return Ok(Next::Over);
        };
        match (broadcast.state, part.phase) {
            (State::Sending, Phase::Reading) => {
                freeze::read_on(&self.store, &broadcast, &part).await?;
            }
            (State::Sending, Phase::Cutting) => chunks::cut(&self.store, &part).await?,
            (State::Sending, Phase::Reopening) => {
                chunks::reopen(&self.store, &part, broadcast.started_at).await?;
            }
            (State::Sending | State::Interrupted, Phase::Sending) => {
                return self.feed(&broadcast, &part).await;
            }
            _ => return Ok(Next::Over),
        }
        Ok(Next::At(Duration::ZERO))
    }

    /// Counts what is on its way, and lets so many recipients come that as many are again.
    async fn feed(&mut self, broadcast: &Broadcast, part: &Part) -> Result<Next, Error> {
        let mut open = chunks::open_chunks(self.store.read(), part).await?;
        let (due, changed) = self.count(broadcast, part, &mut open).await?;
        let is_open = |chunk: &&Chunk| chunk.counts.waiting + chunk.counts.sending > 0;
        if !open.iter().any(|chunk| is_open(&chunk)) {
            return Ok(Next::Over);
        }
        let account = self.store.knowledge().account(part.account);
        let account = account.filter(|account| self.store.knowledge().may_send(account));
        let catalog = self.store.knowledge().catalog();
        let version = catalog.version(broadcast.version);
        let (Some(account), Some(version)) = (account, version) else {
            return Ok(Next::At(IDLE_PAUSE));
        };
        if broadcast.state != State::Sending {
            let over = open.iter().all(|chunk| chunk.counts.sending == 0);
            return Ok(if over {
                Next::Over
            } else {
                Next::At(IDLE_PAUSE)
            });
        }
        let now = self.clock.now();
        let together = match version.sequence.kind {
            Kind::MassBroadcast => account.profile.carriers.mass_send,
            Kind::Sequence | Kind::Broadcast => None,
        };
        let sum = |of: fn(&Chunk) -> i64| -> i64 { open.iter().map(of).sum() };
        let (waiting, sending) = (sum(|one| one.counts.waiting), sum(|one| one.counts.sending));
        let room = match together {
            Some(mass) => call_of(mass, sending, waiting),
            None => self.speed.window(account.rate, now).saturating_sub(due),
        };
        let room = match (self.pace_of(broadcast, part).await?, together) {
            (Some(per_second), Some(mass)) => {
                // A call cannot be cut: it comes when the pace has let all of it come.
                let call = pace::gathered(room, waiting, mass.chunk_least, per_second);
                let allowed = self.speed.allows(per_second, call, now);
                if allowed >= call { call } else { 0 }
            }
            (Some(per_second), None) => room.min(self.speed.allows(per_second, 1, now)),
            (None, _) => room,
        };
        let due_at = together.map(|_| now.plus(TOGETHER_IN));
        let came = self.admit(broadcast, part, &open, room, due_at).await?;
        self.speed.took(came);
        Ok(Next::At(if changed || came > 0 {
            PAUSE
        } else {
            IDLE_PAUSE.min(PAUSE * 2)
        }))
    }

    /// How many a second the broadcast's own pace lets come; `None` for any number.
    async fn pace_of(&self, broadcast: &Broadcast, part: &Part) -> Result<Option<f64>, Error> {
        let pace = broadcast.pace;
        if pace.per_second.is_none() && pace.spread.is_none() {
            return Ok(None);
        }
        let parts = broadcasts::parts(self.store.read(), broadcast.id).await?;
        let share = Share {
            part: part.total,
            whole: parts.iter().map(|one| one.total).sum(),
        };
        Ok(pace::per_second(pace, share))
    }

    /// Counts chunks anew, and writes down what has changed. Says how many messages are due, and
    /// whether anything has changed.
    async fn count(
        &mut self,
        broadcast: &Broadcast,
        part: &Part,
        open: &mut [Chunk],
    ) -> Result<(usize, bool), Error> {
        let looked_at = self.chosen(open);
        let soon = self.clock.now().plus(SOON);
        let read = self.store.read();
        let counted = chunks::count(read, part, &looked_at, broadcast.started_at, soon).await?;
        let now = self.clock.now();
        let (mut due, mut ended, mut changed) = (0, 0, Vec::new());
        for chunk in open {
            let Some(new) = counted.get(&chunk.first) else {
                continue;
            };
            due += new.due;
            if new.counts != chunk.counts {
                ended += (new.counts.ended() - chunk.counts.ended()).max(0);
                chunk.counts = new.counts;
                changed.push((chunk.first, new.counts));
            }
            self.touched.remove(&chunk.first);
        }
        self.speed.note(ended, now);
        let has_changed = !changed.is_empty();
        if has_changed {
            let rate = self.speed.rate(now);
            chunks::note(&self.store, part, changed, rate).await?;
        }
        Ok((usize::try_from(due).unwrap_or(0), has_changed))
    }

    /// The chunks to count: those that we changed, and of those with messages on their way the newest
    /// and some others. When the part has just become ours the first ones too: another node may have
    /// written older counts last.
    fn chosen(&mut self, open: &[Chunk]) -> Vec<Chunk> {
        let first = if self.begun { 0 } else { COUNTED_NEWEST };
        self.begun = true;
        let mut chosen: Vec<Chunk> = Vec::new();
        let mut on_their_way = Vec::new();
        for (index, chunk) in open.iter().enumerate() {
            let waits = chunk.counts.waiting > 0 && index < first;
            if waits || self.touched.contains(&chunk.first) {
                chosen.push(*chunk);
            } else if chunk.counts.sending > 0 {
                on_their_way.push(*chunk);
            }
        }
        let newest = on_their_way.len().saturating_sub(COUNTED_NEWEST);
        chosen.extend(on_their_way.drain(newest..));
        let older = on_their_way.len();
        for step in 0..COUNTED_OLDER.min(older) {
            chosen.push(on_their_way[(self.turn + step) % older]);
        }
        self.turn = self.turn.wrapping_add(COUNTED_OLDER) % older.max(1);
        chosen
    }

    /// Makes enrollments of the next recipients who wait, at most `room`, a chunk in one commit.
    async fn admit(
        &mut self,
        broadcast: &Broadcast,
        part: &Part,
        open: &[Chunk],
        room: usize,
        due_at: Option<Timestamp>,
    ) -> Result<usize, Error> {
        let mut came = 0;
        for chunk in open.iter().filter(|chunk| chunk.counts.waiting > 0) {
            let limit = (room - came).min(CHUNK);
            if limit == 0 {
                break;
            }
            let read = self.store.read();
            let followers = recipients::waiting(read, part, chunk, limit).await?;
            self.touched.insert(chunk.first);
            if followers.is_empty() {
                continue;
            }
            let key = (part.broadcast, part.account, broadcast.version);
            let writer = self.store.writer();
            let admitted = writer.admit(key, due_at, followers).await?;
            came += admitted.recipients;
            if !admitted.sending {
                break;
            }
        }
        Ok(came)
    }
}

/// How many recipients the next call of a mass send takes: none while one is on its way. Nobody is left
/// behind alone, for whom there would be no call.
/// One who found no company is on the way for long, and keeps nobody back.
fn call_of(mass: MassSend, sending: i64, waiting: i64) -> usize {
    let size = |n: i64| usize::try_from(n).unwrap_or(0);
    let (sending, waiting) = (size(sending), size(waiting));
    if sending >= mass.chunk_least {
        return 0;
    }
    let rest = waiting.saturating_sub(mass.chunk_most);
    match rest {
        0 => waiting,
        rest if rest < mass.chunk_least => waiting - mass.chunk_least,
        _ => mass.chunk_most,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::profile::named;

    #[test]
    fn nobody_is_left_for_a_call_of_one() {
        let profile = named("wechat-48h").expect("is shipped");
        let mass = profile.carriers.mass_send.expect("has mass sends");
        for (waiting, taken) in [
            (0, 0),
            (1, 1),
            (9_999, 9_999),
            (10_000, 10_000),
            (10_001, 9_999),
            (10_002, 10_000),
            (25_000, 10_000),
        ] {
            assert_eq!(call_of(mass, 0, waiting), taken, "{waiting}");
            assert_eq!(
                call_of(mass, 1, waiting),
                taken,
                "one who waits for company"
            );
            assert_eq!(call_of(mass, 2, waiting), 0, "a call is on its way");
        }
    }
}
