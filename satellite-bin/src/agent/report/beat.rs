//! One heartbeat.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use satellite_core::fleet::SyncAnswer;

use super::{
    body::{BeatInput, Known, Said, body},
    events::Events,
    machine::Machine,
};
use crate::agent::{
    cause::{Cause, Trouble},
    center::Center,
    identity::Identity,
    schedule::Clock,
};

/// What Ground Control asks for when a secret is to be replaced.
const REFRESH: &str = "refresh_credentials";
/// Waited after a renewal that failed: Ground Control asks again with each heartbeat.
const RENEWAL: Duration = Duration::from_secs(300);
/// Waited while Ground Control refuses: a suspended satellite may be let in again soon, and a 404 be of a balancer.
const OFTENER: [Cause; 3] = [Cause::ACCOUNT_REFUSED, Cause::ACCOUNT_REVOKED, Cause::CENTER_REFUSED];
/// How long.
const REFUSED: Duration = Duration::from_secs(300);

/// Sends heartbeats.
pub struct Reporter {
    center: Arc<Center>,
    identity: Arc<Identity>,
    clock: Arc<Clock>,
    events: Events,
    machine: Arc<Machine>,
    /// On the file system whose use is reported.
    store: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: Option<Known>,
    renewal_failed: Option<Duration>,
}

/// What came of a heartbeat.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answered {
    /// What the satellite should run, in full; `None` from the reference's Ground Control, which says nothing.
    pub answer: Option<SyncAnswer>,
    /// Whether that is another than after the heartbeat before: time to wake the jobs for state and configuration.
    pub news: bool,
    /// Whether there is a new account now.
    pub renewed: bool,
    /// Why there is not, where Ground Control asked for one.
    pub renewal: Option<Trouble>,
}

impl Reporter {
    /// Nothing is sent yet. `store` is where the images are.
    pub fn new(
        center: Arc<Center>,
        identity: Arc<Identity>,
        clock: Arc<Clock>,
        events: Events,
        store: PathBuf,
    ) -> Self {
        let machine = Arc::new(Machine::new());
        Self { center, identity, clock, events, machine, store, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports, and does what the answer says about the account. An account that Ground Control refuses is replaced, where
    /// there is a way, and the report sent again.
    ///
    /// # Errors
    /// [`Cause::TOKEN_ABSENT`] before registration; [`Cause::ACCOUNT_REFUSED`], [`Cause::ACCOUNT_REVOKED`]; codes of
    /// `center`. What was not heard is said again by the next heartbeat.
    pub async fn beat(&self, input: BeatInput) -> Result<Answered, Trouble> {
        let (machine, store, collect) = (Arc::clone(&self.machine), self.store.clone(), input.collect);
        let measured = smol::unblock(move || machine.measure(collect, &store)).await;
        let events = self.events.send();
        let heard = events.last().map_or(0, |e| e.seq);
        let known = self.state().known.clone();
        let name = self.identity.name().unwrap_or_default();
        let sync = body(name, self.clock.now(), &input, measured, events, known.as_ref());
        let brief = !sync.unchanged.is_empty();
        let mut answered = Answered::default();
        let answer = loop {
            let login = self.identity.login().ok_or_else(|| {
                Trouble::new(Cause::TOKEN_ABSENT, "not registered yet: there is nothing to report")
            })?;
            match self.center.sync(&login, &sync).await {
                Err(trouble) if trouble.cause == Cause::ACCOUNT_REFUSED && !answered.renewed => {
                    if let Err(why) = self.identity.refused().await {
                        let message = format!("{}; no other account: {why}", trouble.message);
                        let cause =
                            if why.cause == Cause::ACCOUNT_REVOKED { why.cause } else { trouble.cause };
                        return Err(Trouble::new(cause, message).after(REFUSED));
                    }
                    answered.renewed = true;
                }
                Err(trouble) if OFTENER.contains(&trouble.cause) => {
                    return Err(trouble.after(REFUSED));
                }
                other => break other?,
            }
        };
        self.events.heard(heard);
        if let Some(at) = self.center.date() {
            self.clock.witness(at);
        }
        let after = answer.map(|a| Known::after(known.as_ref(), Said::of(&input), a, brief));
        answered.answer = after.as_ref().map(|k| k.answer.clone());
        answered.news = wanted(after.as_ref()) != wanted(known.as_ref());
        self.state().known = after;
        self.renew(&mut answered).await;
        Ok(answered)
    }

    async fn renew(&self, answered: &mut Answered) {
        let wanted = answered.answer.as_ref().is_some_and(|a| a.actions.iter().any(|a| a == REFRESH));
        let now = self.clock.monotonic();
        let tried = self.state().renewal_failed.is_some_and(|at| now.saturating_sub(at) < RENEWAL);
        if !wanted || tried || answered.renewed {
            return;
        }
        match self.identity.renew().await {
            Ok(()) => {
                answered.renewed = true;
                self.state().renewal_failed = None;
            }
            Err(trouble) => {
                self.state().renewal_failed = Some(now);
                answered.renewal = Some(trouble);
            }
        }
    }
}

/// What the satellite should run.
fn wanted(known: Option<&Known>) -> Option<(&str, &str, &BTreeMap<String, String>)> {
    known.map(|k| (k.answer.state_digest.as_str(), k.answer.config_digest.as_str(), &k.answer.states))
}

#[cfg(test)]
#[path = "beat_tests.rs"]
mod tests;
