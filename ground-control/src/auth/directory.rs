//! Who has which login: asked for by every heartbeat, and so looked up for many at once. While one look is under way the
//! next ones gather, so that a crowd costs few questions.

use std::{collections::HashMap, time::Duration};

use async_io::Timer;
use smol::channel::{Receiver, Sender, bounded};

use crate::db::{
    Db,
    robots::{self, Caller},
};

/// Questions that may wait.
const QUEUE: usize = 16_384;
/// Most of one look.
const BATCH: usize = 128;
/// How long the first of a look waits for company.
const GATHER: Duration = Duration::from_millis(1);

struct Question {
    login: String,
    answer: Sender<Option<Caller>>,
}

/// The near end.
#[derive(Clone)]
pub struct Directory {
    questions: Sender<Question>,
}

/// The far end: to be run by somebody.
pub struct Reader {
    questions: Receiver<Question>,
    db: Db,
}

/// Both ends.
pub fn directory(db: Db) -> (Directory, Reader) {
    let (sender, questions) = bounded(QUEUE);
    (Directory { questions: sender }, Reader { questions, db })
}

/// The database did not answer, or too many ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unanswered;

impl Directory {
    /// Whose login it is. For logins that are one satellite's alone.
    ///
    /// # Errors
    /// [`Unanswered`]
    pub async fn caller(&self, login: String) -> Result<Option<Caller>, Unanswered> {
        let (answer, answered) = bounded(1);
        self.questions.try_send(Question { login, answer }).map_err(|_| Unanswered)?;
        answered.recv().await.map_err(|_| Unanswered)
    }
}

impl Reader {
    /// Answers for as long as anybody may ask.
    pub async fn run(self) {
        while let Ok(first) = self.questions.recv().await {
            Timer::after(GATHER).await;
            let mut batch = vec![first];
            while batch.len() < BATCH
                && let Ok(question) = self.questions.try_recv()
            {
                batch.push(question);
            }
            match self.look(&batch).await {
                Ok(mut found) => {
                    for question in batch {
                        // Two heartbeats of one satellite at once are asked for once.
                        let caller = found.get_mut(&question.login).and_then(|left| match left {
                            (1, caller) => caller.take(),
                            (n, caller) => {
                                *n -= 1;
                                caller.clone()
                            }
                        });
                        let _ = question.answer.try_send(caller);
                    }
                }
                // Their senders are dropped, and they know.
                Err(e) => log::warn!("{} logins could not be looked up: {e}", batch.len()),
            }
        }
    }

    /// How often each login was asked for, and whose it is.
    async fn look(&self, batch: &[Question]) -> crate::db::Result<HashMap<String, (usize, Option<Caller>)>> {
        let mut wanted: HashMap<String, (usize, Option<Caller>)> = HashMap::with_capacity(batch.len());
        for question in batch {
            wanted.entry(question.login.clone()).or_default().0 += 1;
        }
        let logins: Vec<&str> = wanted.keys().map(String::as_str).collect();
        let found = robots::callers_of(&mut *self.db.read().await?, &logins).await?;
        for (login, caller) in found {
            if let Some(slot) = wanted.get_mut(&login) {
                slot.1 = Some(caller);
            }
        }
        Ok(wanted)
    }
}
