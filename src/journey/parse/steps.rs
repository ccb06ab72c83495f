//! Checks the steps of a sequence: names, order, horizon, conditions.

use std::time::Duration;

use super::raw::{RawStep, RawTime};
use super::{HORIZON_MAX, Reader, StepDefaults, on_unknown};
use crate::journey::sequence::{Due, Fallback, Step};
use crate::journey::template::Condition;
use crate::yaml::{At, print_span};

/// Most steps of one sequence.
const STEPS_MAX: usize = 200;
const DAY: Duration = Duration::from_secs(86_400);

impl Reader<'_> {
    pub(super) fn steps(
        &mut self,
        raw: &At<Vec<At<RawStep>>>,
        defaults: &StepDefaults,
        horizon: Duration,
    ) -> Vec<Step> {
        if raw.value.is_empty() {
            self.note(
                raw.place,
                "a sequence has at least one step",
                "add `- id: hello`, `after: 0s` and `say: { text: … }`",
            );
        }
        if raw.value.len() > STEPS_MAX {
            self.note(
                raw.value[STEPS_MAX].place,
                format!("this sequence has {} steps", raw.value.len()),
                format!("use at most {STEPS_MAX}"),
            );
            return Vec::new();
        }
        let mut steps: Vec<Step> = Vec::new();
        let mut last: Option<Due> = None;
        for at in &raw.value {
            let step = &at.value;
            let id = self.name(&step.id);
            if let Some(id) = &id
                && steps.iter().any(|step| step.id == *id)
            {
                self.note(
                    step.id.place,
                    format!("the step `{id}` is here twice"),
                    "give every step a name of its own",
                );
            }
            let due = self.due(at, horizon, last);
            last = due.or(last);
            let when = step.when.as_ref().and_then(|when| self.condition(when));
            let mut say = self.say(&step.say);
            let links = say.as_mut().map(|say| self.links(&step.say, say));
            let late = self.late(step.late.as_ref(), defaults.late);
            let expire_after = self.span_within(
                step.expire_after.as_ref(),
                defaults.expire_after,
                HORIZON_MAX,
            );
            let closed = match &step.closed {
                Some(raw) => self.closed(raw),
                None => defaults.closed.clone(),
            };
            if let Some(say) = &say
                && closed.carriers.contains(&Fallback::MassSend)
            {
                self.mass_sendable(say, step.say.place, step.closed.as_ref());
            }
            if let (Some(id), Some(due), Some(say)) = (id, due, say) {
                steps.push(Step {
                    id,
                    due,
                    when,
                    say,
                    links: links.unwrap_or_default(),
                    late,
                    closed,
                    on_unknown: step.on_unknown.map_or(defaults.on_unknown, on_unknown),
                    expire_after,
                });
            }
        }
        steps
    }

    fn due(&mut self, at: &At<RawStep>, horizon: Duration, last: Option<Due>) -> Option<Due> {
        let step = &at.value;
        let (due, place) = match (&step.after, &step.at) {
            (Some(after), None) => (Due::After(self.span(after)?), after.place),
            (None, Some(time)) => (self.time_of(time)?, time.place),
            (Some(_), Some(time)) => {
                self.note(
                    time.place,
                    "a step has either `after` or `at`",
                    "leave one of them out",
                );
                return None;
            }
            (None, None) => {
                self.note(
                    step.id.place,
                    "this step does not say when it is due",
                    "add `after: 10m`, or `at: { day: 1, time: \"09:00\" }`",
                );
                return None;
            }
        };
        let (_, latest) = range(due);
        if latest > horizon {
            self.note(
                place,
                format!(
                    "this step is due up to {} after the start, beyond the horizon of {}",
                    print_span(latest),
                    print_span(horizon)
                ),
                format!(
                    "make it earlier, or set `horizon: {}` for the sequence",
                    print_span(latest)
                ),
            );
        }
        if let Some(last) = last
            && always_before(due, last)
        {
            self.note(
                place,
                "this step is due before the one above it",
                "steps go out in the order in which they are written: move it up",
            );
        }
        Some(due)
    }

    fn time_of(&mut self, at: &At<RawTime>) -> Option<Due> {
        let raw = &at.value;
        let time = self.time(&raw.time)?;
        if raw.day.value > 366 {
            self.note(
                raw.day.place,
                format!("day {} is more than a year away", raw.day.value),
                "use a day from 0 to 366",
            );
            return None;
        }
        Some(Due::At {
            day: raw.day.value,
            time,
        })
    }

    fn condition(&mut self, at: &At<String>) -> Option<Condition> {
        match Condition::new(&at.value) {
            Ok(condition) => Some(condition),
            Err(refusal) => {
                self.refuse(at, &refusal);
                None
            }
        }
    }
}

/// Earliest and latest time after the start at which a step can be due, leaving out that clocks
/// change: somebody can start at any time of the day.
fn range(due: Due) -> (Duration, Duration) {
    match due {
        Due::After(span) => (span, span),
        Due::At { day, time } => {
            let seconds = i64::from(time.hour()) * 3_600 + i64::from(time.minute()) * 60;
            let latest = DAY * u32::from(day)
                + Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
            (latest.saturating_sub(DAY), latest)
        }
    }
}

/// Whether `due` comes before `last` whenever the start is.
fn always_before(due: Due, last: Due) -> bool {
    match (due, last) {
        (Due::At { day, time }, Due::At { day: d, time: t }) => (day, time) < (d, t),
        (Due::After(span), Due::After(last)) => span < last,
        (due, last) => range(due).1 < range(last).0,
    }
}
