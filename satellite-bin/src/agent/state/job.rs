//! One turn of the loop: what is wanted now, what is missing of it, and what may go.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use satellite_core::{
    fleet::{CachedImage, SatelliteState, SyncAnswer},
    oci::{Digest, ImageReference, Reference},
    replicate::{self, Connect, Event, FailureKind, Replicator, Sink},
    store::{self, Store},
};
use serde::{Deserialize, Serialize};
use smol::{lock, unblock};
use url::Url;

use super::{
    Registries,
    artifact::{self, Read, reference},
    desired::{Entity, Group, Known, object},
    file, inventory,
    registries::trouble,
};
use crate::agent::{
    byo::OwnRegistry,
    cause::{Cause, Trouble},
    identity::{Identity, at_harbor},
    report::{EventKind, Events, Inventory},
};

/// Most groups of a satellite.
const MAX_GROUPS: usize = 1000;
/// An image that the registry does not have is asked for again after so long.
const ABSENT: Duration = Duration::from_secs(300);
/// Images that are replicated in one go: their manifests are in memory meanwhile.
const CHUNK: usize = 64;
/// Where a state names a tag and no digest, it is looked at again so often.
const LOOK: Duration = Duration::from_secs(300);
/// How long a list of what is held is good, where this satellite changed nothing itself.
const INVENTORY: Duration = Duration::from_secs(600);

/// How it is done; may be replaced at any time.
#[derive(Clone, Debug)]
pub struct Options {
    /// Scheme, host and port that take the place of those in every address of the registry.
    pub harbor: Option<Url>,
    /// Platforms, referrers, concurrency.
    pub replicate: replicate::Options,
}

/// Where images go.
pub enum Place {
    /// Into the store; clients find it at this `HOST:PORT`.
    Store(String),
    /// Into a registry of the user's own; the store is where they pass through.
    Own(OwnRegistry),
}

/// How the last turn ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Groups.
    pub groups: usize,
    /// Images that are wanted.
    pub wanted: usize,
    /// Of these, those that are not here.
    pub missing: usize,
    /// Images that are not wanted any more, and are here until all that is wanted is.
    pub retired: usize,
    /// Bytes of blobs that came over the wire.
    pub received: u64,
    /// Manifest digest of the satellite's state.
    pub state_digest: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// Brings the store, or the user's registry, in line with what Ground Control says.
pub struct StateJob {
    dir: PathBuf,
    identity: Arc<Identity>,
    registries: Arc<Registries>,
    replicator: Replicator,
    place: Place,
    options: RwLock<Options>,
    events: Events,
    known: lock::Mutex<Known>,
    /// A copy for whoever asks while a turn takes hours.
    seen: Mutex<Known>,
    done: Mutex<Done>,
    looked: Mutex<Option<Instant>>,
    held: Mutex<Option<(Instant, Arc<Inventory>)>>,
}

impl StateJob {
    /// With what `state.json` in `dir` says. Blocks.
    pub fn new(
        dir: PathBuf,
        identity: Arc<Identity>,
        registries: Arc<Registries>,
        replicator: Replicator,
        place: Place,
        options: Options,
        events: Events,
    ) -> Self {
        let known = file::load(&dir);
        let done = Mutex::new(Done {
            groups: known.groups.len(),
            wanted: known.wanted().0.len(),
            state_digest: known.state_digest.clone(),
            ..Done::default()
        });
        Self {
            dir,
            identity,
            registries,
            replicator,
            place,
            options: RwLock::new(options),
            events,
            seen: Mutex::new(known.clone()),
            known: lock::Mutex::new(known),
            done,
            looked: Mutex::default(),
            held: Mutex::default(),
        }
    }

    /// From the next turn on.
    pub fn set(&self, options: Options) {
        *self.options.write().unwrap_or_else(PoisonError::into_inner) = options;
    }

    fn options(&self) -> Options {
        self.options.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How the last turn ended.
    pub fn done(&self) -> Done {
        locked(&self.done).clone()
    }

    /// What was last known.
    pub fn known(&self) -> Known {
        locked(&self.seen).clone()
    }

    /// Manifest digests of the groups' states, by their URLs.
    pub fn states(&self) -> BTreeMap<String, String> {
        let known = locked(&self.seen);
        let read = known.groups.iter().filter(|g| !g.digest.is_empty());
        read.map(|g| (g.url.clone(), g.digest.clone())).collect()
    }

    /// One turn. `told`: what our Ground Control said that should run; what runs already costs no request then.
    ///
    /// # Errors
    /// The first thing that is wrong, with its code; all else was done nevertheless.
    pub async fn run(&self, told: Option<&SyncAnswer>) -> Result<(), Trouble> {
        let begun = Instant::now();
        let mut known = self.known.lock().await;
        let learned = self.learn(&mut known, told).await.err();
        let (wanted, contradiction) = known.wanted();
        // Whoever published it has to publish it anew; reading it again and again is paid for.
        let mut first =
            learned.or(contradiction).map(|t| if t.is_of_the_state() { t.seldom(ABSENT) } else { t });
        let look = locked(&self.looked).is_none_or(|at| at.elapsed() >= LOOK);
        let mut missing = self.missing(&wanted, look).await?;
        let mut received = 0;
        if !missing.is_empty() {
            self.begun(wanted.len(), missing.len());
            let (bytes, failed) = self.replicate(&missing).await;
            received = bytes;
            first = sooner(first, failed);
            missing = self.missing(&wanted, false).await?;
            *locked(&self.held) = None;
        }
        if look && missing.is_empty() {
            *locked(&self.looked) = Some(Instant::now());
        }
        // Only what came whole takes the place of what was here.
        if missing.is_empty() && !known.retired.is_empty() && first.is_none() {
            first = self.retire(&mut known, &wanted).await.err();
            *locked(&self.held) = None;
        }
        *locked(&self.done) = Done {
            groups: known.groups.len(),
            wanted: wanted.len(),
            missing: missing.len(),
            retired: known.retired.len(),
            received,
            state_digest: known.state_digest.clone(),
            took_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        first.map_or(Ok(()), Err)
    }

    /// For whoever asks while they come.
    fn begun(&self, wanted: usize, missing: usize) {
        let mut done = locked(&self.done);
        (done.wanted, done.missing) = (wanted, missing);
    }

    /// The configuration that the state names, if it is another than the one with the digest `running`.
    ///
    /// # Errors
    /// Codes of `state` and `registry`.
    pub async fn config(
        &self,
        told: Option<&SyncAnswer>,
        running: &str,
    ) -> Result<Option<(Vec<u8>, String)>, Trouble> {
        let url = self.known().config;
        let same = told.is_some_and(|t| !t.config_digest.is_empty() && t.config_digest == running);
        if url.is_empty() || same {
            return Ok(None);
        }
        match self.read(&url, running).await? {
            Read::Unchanged => Ok(None),
            Read::New(json, digest) => Ok(Some((json, digest.to_string()))),
        }
    }

    /// Everything that is held, for a report.
    ///
    /// # Errors
    /// The store's.
    pub async fn held(&self) -> Result<Arc<Inventory>, Trouble> {
        if let Some((_, held)) = locked(&self.held).as_ref().filter(|(at, _)| at.elapsed() < INVENTORY) {
            return Ok(held.clone());
        }
        let held = match &self.place {
            Place::Own(own) => {
                let host = own.host().to_string();
                let wanted = self.known().wanted().0;
                let here = locked(&self.done).missing == 0;
                let image = |(e, _): &(Entity, String)| CachedImage {
                    reference: format!("{host}/{}", name_of(e)),
                    size_bytes: 0,
                };
                if here { wanted.iter().map(image).collect::<Vec<_>>() } else { Vec::new() }
            }
            Place::Store(host) => {
                let (store, host) = (self.store().clone(), host.clone());
                let held = unblock(move || inventory::held(&store, &host)).await;
                held.map_err(|e| store_trouble(&e))?
            }
        };
        let held = Arc::new(Inventory::new(held));
        *locked(&self.held) = Some((Instant::now(), held.clone()));
        Ok(held)
    }

    fn store(&self) -> &Store {
        self.replicator.store()
    }

    /// Reads the satellite's state and its groups' where they are others than what is known. What cannot be read is as
    /// it was.
    async fn learn(&self, known: &mut Known, told: Option<&SyncAnswer>) -> Result<(), Trouble> {
        let absent =
            || Trouble::new(Cause::TOKEN_ABSENT, "not registered yet: there is no state to be fetched");
        let url = self.identity.account().ok_or_else(absent)?.state;
        let before = known.clone();
        let mut first = None;
        let same = told.is_some_and(|t| !t.state_digest.is_empty() && t.state_digest == known.state_digest);
        let mut groups = known.groups.clone();
        if !same {
            match self.read(&url, &known.state_digest).await {
                Ok(Read::Unchanged) => {}
                Ok(Read::New(json, digest)) => {
                    let state: SatelliteState = object(&url, &json)?;
                    if state.states.len() > MAX_GROUPS {
                        let message = format!("{url}: more than {MAX_GROUPS} groups");
                        return Err(Trouble::new(Cause::STATE_INVALID, message));
                    }
                    let named: BTreeSet<String> = state.states.into_iter().collect();
                    let of = |url: String| {
                        let old = known.groups.iter().find(|g| g.url == url).cloned();
                        old.unwrap_or_else(|| Group { url, ..Group::default() })
                    };
                    groups = named.into_iter().map(of).collect();
                    known.state_digest = digest.to_string();
                    known.config = state.config;
                }
                Err(trouble) => first = Some(trouble),
            }
        }
        for group in &mut groups {
            let running = told.and_then(|t| t.states.get(&group.url));
            if !group.digest.is_empty() && running == Some(&group.digest) {
                continue;
            }
            match self.read(&group.url, &group.digest).await {
                Ok(Read::Unchanged) => {}
                Ok(Read::New(json, digest)) => match Group::read(&group.url, &digest.to_string(), &json) {
                    Ok((new, wrong)) => {
                        first = first.or(wrong);
                        *group = new;
                    }
                    Err(trouble) => first = first.or(Some(trouble)),
                },
                Err(trouble) if trouble.cause == Cause::REGISTRY_NOT_FOUND => {
                    let message = format!("{}; what it named stays", trouble.message);
                    first = first.or(Some(Trouble::new(Cause::STATE_VANISHED, message)));
                }
                Err(trouble) => first = first.or(Some(trouble)),
            }
        }
        known.replace(groups);
        if *known != before {
            // What is removed later is written down before anything is fetched.
            let (dir, copy) = (self.dir.clone(), known.clone());
            unblock(move || file::save(&dir, &copy)).await?;
            *locked(&self.seen) = known.clone();
        }
        first.map_or(Ok(()), Err)
    }

    async fn read(&self, url: &str, running: &str) -> Result<Read, Trouble> {
        let harbor = self.options().harbor;
        let invalid = |t: Trouble| Trouble { cause: Cause::STATE_INVALID, ..t };
        let image = reference(&at_harbor(url, harbor.as_ref()).map_err(invalid)?)?;
        let registry =
            self.registries.connect(&image.registry).map_err(|e| trouble(&image.to_string(), &e))?;
        artifact::read(&registry, &image, running.parse().ok().as_ref()).await
    }

    /// What is not here; with `look` also tags without a digest in the state, which may name something else by now.
    async fn missing(
        &self,
        wanted: &[(Entity, String)],
        look: bool,
    ) -> Result<Vec<(Entity, String)>, Trouble> {
        let all = wanted.to_vec();
        match &self.place {
            Place::Store(_) => {
                let store = self.store().clone();
                unblock(move || {
                    let mut missing = Vec::new();
                    for item in all {
                        if !is_here(&store, &item.0, look)? {
                            missing.push(item);
                        }
                    }
                    Ok(missing)
                })
                .await
                .map_err(|e: store::Error| store_trouble(&e))
            }
            Place::Own(own) => own.missing(all, look).await,
        }
    }

    /// Fetches; bytes that came, and the first failure.
    async fn replicate(&self, missing: &[(Entity, String)]) -> (u64, Option<Trouble>) {
        let options = self.options();
        let events = self.events.clone();
        let sink: Sink = Arc::new(move |event| tell(&events, &event));
        let (mut received, mut first) = (0, None);
        // Into a registry of the user's own one by one: what has passed through makes room for the next.
        let at_once = if matches!(self.place, Place::Own(_)) { 1 } else { CHUNK };
        for chunk in missing.chunks(at_once) {
            let mut images = Vec::new();
            for (entity, registry) in chunk {
                match self.source(entity, registry, options.harbor.as_ref()) {
                    Ok(image) => images.push(image),
                    Err(trouble) => first = first.or(Some(trouble)),
                }
            }
            for (entity, _) in chunk {
                self.events.push(&name_of(entity), EventKind::Started);
            }
            let report = self.replicator.run(&images, &options.replicate, sink.clone()).await;
            received += report.received;
            for outcome in &report.images {
                if let Some(failure) = &outcome.error {
                    let trouble = Trouble::new(cause_of(failure.kind), &failure.message);
                    let trouble = match failure.kind {
                        FailureKind::NoSpace => trouble.slowly(),
                        // Somebody is still to push it. Each try is paid for.
                        FailureKind::NotFound => trouble.seldom(ABSENT),
                        _ => trouble,
                    };
                    first = sooner(first, Some(trouble));
                }
            }
            if let Place::Own(own) = &self.place {
                for (entity, _) in chunk {
                    if let Err(trouble) = own.deliver(self.store(), entity, sink.clone()).await {
                        first = first.or(Some(trouble));
                    }
                }
            }
        }
        (received, first)
    }

    /// Where an image is to be had.
    fn source(
        &self,
        entity: &Entity,
        registry: &str,
        harbor: Option<&Url>,
    ) -> Result<ImageReference, Trouble> {
        let account = self.identity.account().map(|a| a.auth.url).unwrap_or_default();
        let url = if registry.is_empty() { account } else { at_harbor(registry, harbor)? };
        let host = super::registries::host_of(&url.parse().map_err(|e| {
            Trouble::new(Cause::STATE_INVALID, format!("{url:?} is no address of a registry: {e}"))
        })?);
        Ok(ImageReference {
            registry: host,
            repository: entity.repository.clone(),
            tag: entity.tag(),
            digest: entity.digest(),
        })
    }

    /// Removes what no group wants any more, but for what somebody else put there since.
    async fn retire(&self, known: &mut Known, wanted: &[(Entity, String)]) -> Result<(), Trouble> {
        let mut first = None;
        for entity in &known.retired {
            let gone = match &self.place {
                Place::Store(_) => remove(self.store(), entity).await.map_err(|e| store_trouble(&e))?,
                Place::Own(own) => match own.remove(entity, wanted).await {
                    Ok(gone) => gone,
                    Err(trouble) if trouble.cause == Cause::BYO_NO_DELETE => {
                        // Said once, and kept in the history: trying again would change nothing.
                        self.events.push(&name_of(entity), EventKind::Failed(trouble.cause));
                        first = first.or(Some(trouble));
                        false
                    }
                    Err(trouble) => return Err(trouble),
                },
            };
            if gone {
                self.events.push(&name_of(entity), EventKind::Removed);
            }
        }
        known.retired.clear();
        let (dir, copy) = (self.dir.clone(), known.clone());
        unblock(move || file::save(&dir, &copy)).await?;
        *locked(&self.seen) = known.clone();
        self.store().gc(None).await.map_err(|e| store_trouble(&e))?;
        first.map_or(Ok(()), Err)
    }
}

/// Whether an image is in the store as it should be.
fn is_here(store: &Store, entity: &Entity, look: bool) -> Result<bool, store::Error> {
    Ok(match (entity.tag(), entity.digest()) {
        (Some(tag), Some(digest)) => store.tag(&entity.repository, &tag)?.is_some_and(|t| t.digest == digest),
        (Some(tag), None) => !look && store.tag(&entity.repository, &tag)?.is_some(),
        (None, Some(digest)) => store.is_pinned(&entity.repository, &digest)?,
        (None, None) => true,
    })
}

/// Takes a name out of the store, if it is still what the state put there; and what is about it, if nothing else names it.
async fn remove(store: &Store, entity: &Entity) -> Result<bool, store::Error> {
    let repository = &entity.repository;
    let (digest, gone): (Option<Digest>, bool) = match entity.tag() {
        Some(tag) => {
            let now = store.tag(repository, &tag)?.map(|t| t.digest);
            let ours = match (&now, entity.digest()) {
                (Some(now), Some(put)) => *now == put,
                (now, None) => now.is_some(),
                (None, _) => false,
            };
            if ours {
                store.remove_tag(repository, &tag).await?;
            }
            (now, ours)
        }
        None => match entity.digest() {
            Some(digest) => {
                let gone = store.unpin(repository, &digest).await?;
                (Some(digest), gone)
            }
            None => (None, false),
        },
    };
    if let Some(digest) = digest.filter(|_| gone) {
        let named = store.tags(repository, None).any(|t| t.is_ok_and(|(_, d)| d == digest));
        if !named && !store.is_pinned(repository, &digest)? {
            for tag in replicate::cosign_tags(&digest) {
                store.remove_tag(repository, &tag).await?;
            }
        }
    }
    Ok(gone)
}

/// What of a replication is told.
fn tell(events: &Events, event: &Event) {
    // Less the host: it is Ground Control's own name for the image.
    let short = |image: &str| image.split_once('/').map_or(image, |(_, rest)| rest).to_string();
    match event {
        Event::ImageDone { image, unchanged: false, .. } => {
            events.push(&short(image), EventKind::Completed { total: 0 });
        }
        Event::ImageFailed { image, error } => {
            events.push(&short(image), EventKind::Failed(cause_of(error.kind)));
        }
        _ => {}
    }
}

/// The code of a failed image.
fn cause_of(kind: FailureKind) -> Cause {
    match kind {
        FailureKind::NotFound => Cause::REGISTRY_NOT_FOUND,
        FailureKind::Unauthorized => Cause::REGISTRY_UNAUTHORIZED,
        FailureKind::Network => Cause::REGISTRY_UNREACHABLE,
        FailureKind::Content => Cause::REGISTRY_CONTENT,
        FailureKind::NoSpace => Cause::DISK_BLOCKED,
        FailureKind::Store => Cause::STORE_FAILED,
    }
}

/// `edge/app:v1@sha256:…`
pub(in crate::agent) fn name_of(entity: &Entity) -> String {
    let mut name = entity.repository.to_string();
    for (mark, part) in [(':', &entity.tag), ('@', &entity.digest)] {
        if !part.is_empty() {
            name.push(mark);
            name.push_str(part);
        }
    }
    name
}

/// The reference of an entity within its repository.
pub(in crate::agent) fn reference_of(entity: &Entity) -> Option<Reference> {
    entity.tag().map(Reference::Tag).or_else(|| entity.digest().map(Reference::Digest))
}

pub(in crate::agent) fn store_trouble(error: &store::Error) -> Trouble {
    if error.is_no_space() {
        Trouble::new(Cause::DISK_BLOCKED, error).slowly()
    } else {
        Trouble::new(Cause::STORE_FAILED, error)
    }
}

/// The first of two troubles, and the shorter wait of both.
fn sooner(first: Option<Trouble>, next: Option<Trouble>) -> Option<Trouble> {
    let (Some(first), Some(next)) = (&first, &next) else { return first.or(next) };
    let from = if next.retry_after < first.retry_after { next } else { first };
    Some(Trouble { retry_after: from.retry_after, ours: from.ours, ..first.clone() })
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
