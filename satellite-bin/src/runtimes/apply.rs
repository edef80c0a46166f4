//! Doing what was planned, and taking it back.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Change, Error, Host, Plan, Probe, Sight, Wish, files,
    journal::{Entry, Journal},
    plan::reload_of,
    reload::{Reload, Told},
    wish::Kind,
};

/// What was done for a runtime to see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Done {
    /// Which.
    pub kind: Kind,
    /// What it needed.
    pub reload: Reload,
    /// Whether it has it; if not, `said` is what to do.
    pub done: bool,
    /// What happened.
    pub said: String,
    /// Whether the runtime itself found its files right; `None`: it cannot be asked.
    pub checked: Option<bool>,
}

/// What was done.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Files that were changed.
    pub files: Vec<String>,
    /// What each runtime needed.
    pub runtimes: Vec<Done>,
    /// What whoever runs this should know.
    pub notes: Vec<String>,
    /// Runtimes that were left as they are, and why.
    pub refused: Vec<(Kind, Error)>,
}

impl Host {
    /// Makes the runtimes go to the satellite as wished. Either all files of a runtime are changed and found right by it, or
    /// none is; the others are done all the same. Done twice, the second time does nothing.
    pub fn apply(&self, wish: &Wish, probe: Option<&dyn Probe>) -> Result<Outcome, Error> {
        let _lock = self.lock()?;
        let plan = self.plan(wish)?;
        let before = self.journal()?;
        let (during, mut after) = journals(self, &plan, &before);
        if plan.changes.is_empty() {
            // After a kill, files may be right and the journal still hold what was written before.
            if after != before {
                self.keep(&after)?;
            }
            return Ok(Outcome { notes: plan.notes, refused: plan.refused, ..Outcome::default() });
        }
        self.keep(&during)?;
        let mut outcome = Outcome { notes: plan.notes, refused: plan.refused, ..Outcome::default() };
        for (kind, reload) in plan.reloads {
            let changes: Vec<_> = plan.changes.iter().filter(|c| c.kind == kind).collect();
            match self.change(kind, &changes, reload, wish, probe) {
                Ok((done, note)) => {
                    outcome.runtimes.push(done);
                    outcome.notes.extend(note);
                    outcome.files.extend(changes.iter().map(|c| c.path.clone()));
                    for change in changes.iter().filter(|c| c.after.is_none()) {
                        remove_dirs(before.files.get(&change.path));
                    }
                }
                Err(error) => {
                    for change in changes.iter().rev() {
                        files::write(&self.at(&change.path), change.before.as_deref())?;
                        let made = during.files.get(&change.path).filter(|_| change.before.is_none());
                        remove_dirs(made);
                        match before.files.get(&change.path) {
                            Some(entry) => after.files.insert(change.path.clone(), entry.clone()),
                            None => after.files.remove(&change.path),
                        };
                    }
                    if let Told::ByHand(said) | Told::Failed(said) = self.reload(kind, reload) {
                        log::warn!("{kind}: {said}");
                    }
                    outcome.refused.push((kind, error));
                }
            }
        }
        self.keep(&after)?;
        Ok(outcome)
    }

    fn change(
        &self,
        kind: Kind,
        changes: &[&Change],
        reload: Reload,
        wish: &Wish,
        probe: Option<&dyn Probe>,
    ) -> Result<(Done, Option<String>), Error> {
        for change in changes {
            files::write(&self.at(&change.path), change.after.as_deref())?;
        }
        let refuse = |problem| Error::Unverified { runtime: kind, problem };
        let mut checked = self.check(kind, Some(wish)).map_err(refuse)?.then_some(true);
        let (done, said) = match self.reload(kind, reload) {
            Told::Done(said) => (true, said),
            Told::ByHand(said) => (false, said),
            Told::Failed(said) => return Err(refuse(said)),
        };
        if done && self.check_running(kind, reload, wish).map_err(refuse)? {
            checked = Some(true);
        }
        let mut note = None;
        if let Some(probe) = probe.filter(|_| done)
            && let Some(registry) = wish.upstreams.get(&kind).and_then(|list| list.first())
        {
            match probe.pull(self, kind, registry) {
                Sight::Seen => checked = Some(true),
                Sight::Unseen => return Err(refuse("a pull through it did not reach the satellite".into())),
                Sight::Untried(why) => note = Some(format!("{kind}: not tried by a pull: {why}")),
            }
        }
        Ok((Done { kind, reload, done, said, checked }, note))
    }

    /// Takes back what was applied, of these runtimes or of all. What the admin changed since stays; where that is in our own
    /// lines, it is an error, unless `force`: then the file becomes what it was before us.
    pub fn revert(&self, kinds: Option<&[Kind]>, force: bool) -> Result<Outcome, Error> {
        let _lock = self.lock()?;
        let mut journal = self.journal()?;
        let mut outcome = Outcome::default();
        let mut reloads: BTreeMap<Kind, Reload> = BTreeMap::new();
        let wanted = |kind: Kind| kinds.is_none_or(|kinds| kinds.contains(&kind));
        let paths: Vec<String> =
            journal.files.iter().filter(|(_, e)| wanted(e.kind)).map(|(p, _)| p.clone()).collect();
        for path in paths {
            let Some(entry) = journal.files.get(&path).cloned() else { continue };
            let now = files::read(&self.at(&path))?;
            let after = match entry.without_us(&path, now.as_deref()) {
                Err(Error::Changed { .. }) if force => entry.original.clone(),
                Err(e) => {
                    outcome.refused.push((entry.kind, e));
                    continue;
                }
                Ok(after) => after,
            };
            if after != now {
                files::write(&self.at(&path), after.as_deref())?;
                outcome.files.push(path.clone());
                let needed = reloads.entry(entry.kind).or_insert(Reload::None);
                *needed = reload_of(&path, entry.kind).max(*needed);
            }
            if after.is_none() {
                remove_dirs(Some(&entry));
            }
            journal.files.remove(&path);
            self.keep(&journal)?;
        }
        for (kind, reload) in reloads {
            let checked = match self.check(kind, None) {
                Ok(asked) => asked.then_some(true),
                Err(said) => {
                    outcome.notes.push(said);
                    Some(false)
                }
            };
            let (done, said) = match self.reload(kind, reload) {
                Told::Done(said) => (true, said),
                Told::ByHand(said) | Told::Failed(said) => (false, said),
            };
            outcome.runtimes.push(Done { kind, reload, done, said, checked });
        }
        Ok(outcome)
    }

    /// The runtimes that something was applied to, with its files, and whether each is still as it was written.
    pub fn applied(&self) -> Result<BTreeMap<Kind, BTreeMap<String, bool>>, Error> {
        let mut all: BTreeMap<Kind, BTreeMap<String, bool>> = BTreeMap::new();
        for (path, entry) in self.journal()?.files {
            let now = files::read(&self.at(&path)).ok().flatten();
            let same = now.is_some() && now.as_ref() == entry.written.first();
            all.entry(entry.kind).or_default().insert(path, same);
        }
        Ok(all)
    }
}

/// The journal while files change, and when they have.
fn journals(host: &Host, plan: &Plan, before: &Journal) -> (Journal, Journal) {
    let (mut during, mut after) = (before.clone(), before.clone());
    for change in &plan.changes {
        after.files.remove(&change.path);
    }
    for change in &plan.owned {
        let known = before.files.get(&change.path);
        let dirs = known.map_or_else(|| files::missing_dirs(&host.at(&change.path)), |k| k.dirs.clone());
        let written: Vec<String> = change.after.iter().cloned().collect();
        let mut entry = Entry { kind: change.kind, original: change.original.clone(), written, dirs };
        after.files.insert(change.path.clone(), entry.clone());
        entry.written.extend(known.into_iter().flat_map(|k| k.written.clone()).take(1));
        during.files.insert(change.path.clone(), entry);
    }
    (during, after)
}

/// Directories that were made for a file and hold nothing else.
fn remove_dirs(entry: Option<&Entry>) {
    for dir in entry.into_iter().flat_map(|e| &e.dirs) {
        if std::fs::remove_dir(dir).is_err() {
            break;
        }
    }
}
