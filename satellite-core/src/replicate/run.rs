//! Doing it: discover, plan, fetch, publish.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_lock::Semaphore;

use super::{
    Connect, Error, Event, Options, Outcome, Report, Sink,
    discover::{Discovery, Tree},
    name,
    places::Places,
    plan::plan,
    upstream::RegistrySource,
};
use crate::{
    net::Executor,
    oci::{Digest, ImageReference, PlatformSet},
    remote,
    store::{self, Put, Sparse, Store},
    transfer::{self, Engine, How, Source},
};

/// Images whose manifests are read at once.
const DISCOVERIES: usize = 4;
/// Between two events of progress of one blob.
const PROGRESS: Duration = Duration::from_millis(100);

/// Replicates images into a store.
#[derive(Clone)]
pub struct Replicator {
    engine: Engine,
    connect: Arc<dyn Connect>,
    executor: Executor,
}

/// One image under way.
struct Job {
    image: ImageReference,
    registry: remote::Registry,
    tree: Tree,
}

impl Replicator {
    /// A replicator; tasks for several blobs at once run on `executor`.
    pub fn new(engine: Engine, connect: Arc<dyn Connect>, executor: Executor) -> Self {
        Self { engine, connect, executor }
    }

    /// The store that it fills.
    pub fn store(&self) -> &Store {
        self.engine.store()
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(super) fn connect(&self, host: &str) -> Result<remote::Registry, remote::Error> {
        self.connect.connect(host)
    }

    /// Replicates images. One that fails does not stop the others. What is there already is not fetched again; each
    /// blob is fetched once, however many images need it. An image is published when all of its own blobs are there.
    pub async fn run(&self, images: &[ImageReference], options: &Options, sink: Sink) -> Report {
        let mut outcomes: Vec<Option<Result<(Digest, bool), Error>>> = Vec::new();
        let mut jobs: Vec<Option<Job>> = Vec::new();
        for result in self.discover(images, options).await {
            match result {
                Ok(job) if job.tree.unchanged => {
                    outcomes.push(Some(Ok((job.tree.root.clone(), true))));
                    jobs.push(None);
                }
                Ok(job) => {
                    outcomes.push(None);
                    jobs.push(Some(job));
                }
                Err(e) => {
                    outcomes.push(Some(Err(e)));
                    jobs.push(None);
                }
            }
        }
        let mut report = Report::default();
        let failed = self.fetch(&jobs, options, &sink, &mut report).await;
        for (index, job) in jobs.iter().enumerate() {
            let Some(job) = job else { continue };
            let result = match failed.get(&index) {
                Some(error) => Err(Arc::clone(error)),
                None => self.publish(job, options).await.map_err(Arc::new),
            };
            let result = result.map(|()| (job.tree.root.clone(), false));
            // What is announced as done is also what a lost index would be rebuilt to.
            if let Err(e) = self.store().refresh_layout().await {
                log::warn!("index.json could not be written: {e}");
            }
            self.conclude(&mut report, &images[index], result.as_ref().map_err(|e| &**e), &sink);
            outcomes[index] = None;
        }
        for (index, outcome) in outcomes.iter().enumerate() {
            if let Some(outcome) = outcome {
                self.conclude(&mut report, &images[index], outcome.as_ref(), &sink);
            }
        }
        let place: HashMap<String, usize> =
            images.iter().enumerate().rev().map(|(i, image)| (name(image), i)).collect();
        report.images.sort_by_key(|o| place.get(&o.image).copied());
        report
    }

    fn conclude(
        &self,
        report: &mut Report,
        image: &ImageReference,
        result: Result<&(Digest, bool), &Error>,
        sink: &Sink,
    ) {
        let image = name(image);
        let outcome = match result {
            Ok((digest, unchanged)) => {
                sink(Event::ImageDone {
                    image: image.clone(),
                    digest: digest.clone(),
                    unchanged: *unchanged,
                });
                Outcome { image, digest: Some(digest.clone()), unchanged: *unchanged, error: None }
            }
            Err(e) => {
                sink(Event::ImageFailed { image: image.clone(), error: e.report() });
                Outcome { image, digest: None, unchanged: false, error: Some(e.report()) }
            }
        };
        report.images.push(outcome);
    }

    /// Reads the manifests of all images, a few at once, in the order asked for.
    async fn discover(&self, images: &[ImageReference], options: &Options) -> Vec<Result<Job, Error>> {
        let places = Arc::new(Semaphore::new(DISCOVERIES));
        let tasks: Vec<_> = images
            .iter()
            .map(|image| {
                let (this, image, options, places) =
                    (self.clone(), image.clone(), options.clone(), places.clone());
                self.executor.spawn(async move {
                    let _place = places.acquire().await;
                    let registry = this.connect.connect(&image.registry)?;
                    let tree = Discovery::new(this.store(), &registry, &image, &options).run().await?;
                    Ok(Job { image, registry, tree })
                })
            })
            .collect();
        let mut results = Vec::new();
        for task in tasks {
            results.push(task.await);
        }
        results
    }

    /// Fetches what is missing. Returns the images that cannot be published, with the first reason of each.
    async fn fetch(
        &self,
        jobs: &[Option<Job>],
        options: &Options,
        sink: &Sink,
        report: &mut Report,
    ) -> HashMap<usize, Arc<Error>> {
        let store = self.store();
        let manifests = jobs.iter().map(|job| job.iter().flat_map(|j| &j.tree.nodes).map(|n| &n.manifest));
        let mut plan =
            plan(manifests, |blob| store.blob_size(&blob.digest).is_ok_and(|s| s == Some(blob.size)));
        let missing: u64 =
            plan.transfers.iter().map(|t| t.size - store.resumable(&t.digest).min(t.size)).sum();
        // What was only cached makes room for what is wanted.
        let room = store.make_room(missing).await.unwrap_or(u64::MAX);
        let left_out = plan.fit(room, |t| store.resumable(&t.digest));
        let kept: u64 = plan.transfers.iter().map(|t| store.resumable(&t.digest).min(t.size)).sum();
        sink(Event::Planned {
            blobs: plan.transfers.len() as u64,
            bytes: plan.bytes().saturating_sub(kept),
            present_blobs: plan.present.0,
            present_bytes: plan.present.1 + kept,
        });
        report.present = plan.present.1;
        let places = Arc::new(Places::new(options.concurrency));
        let totals = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
        let tasks: Vec<_> = plan
            .transfers
            .into_iter()
            .map(|t| {
                let sources: Vec<Arc<dyn Source>> = t
                    .images
                    .iter()
                    .filter_map(|i| jobs[*i].as_ref())
                    .map(|job| {
                        let upstream = RegistrySource {
                            registry: job.registry.clone(),
                            repository: job.image.repository.clone(),
                        };
                        Arc::new(upstream) as Arc<dyn Source>
                    })
                    .collect();
                let (engine, places, sink, totals) =
                    (self.engine.clone(), places.clone(), sink.clone(), totals.clone());
                let images = t.images.clone();
                let task = self.executor.spawn(async move {
                    let place = places.take(t.size).await;
                    let listener = Listener::new(sink, t.size);
                    let how = engine
                        .fetch(&t.digest, Some(t.size), &sources, &|event| listener.hear(event))
                        .await?;
                    if let How::Fetched { received, resumed } = how {
                        totals.0.fetch_add(received, Ordering::Relaxed);
                        totals.1.fetch_add(resumed, Ordering::Relaxed);
                        let (wait, bytes) = listener.times();
                        places.give_back(place, t.size, wait, bytes);
                    }
                    Ok::<_, transfer::Error>(())
                });
                (images, task)
            })
            .collect();
        let no_room =
            |needs| store::Error::NoSpace { path: store.root().into(), needs, has: room, cap: store.cap() };
        let mut failed: HashMap<usize, Arc<Error>> =
            left_out.into_iter().map(|(image, needs)| (image, Arc::new(no_room(needs).into()))).collect();
        for (images, task) in tasks {
            if let Err(e) = task.await {
                let error = Arc::new(Error::from(e));
                for image in images {
                    failed.entry(image).or_insert_with(|| error.clone());
                }
            }
        }
        report.received = totals.0.load(Ordering::Relaxed);
        report.resumed = totals.1.load(Ordering::Relaxed);
        failed
    }

    /// Puts the manifests of an image whose blobs are all here; its own tag is the last thing to move.
    async fn publish(&self, job: &Job, options: &Options) -> Result<(), Error> {
        let Job { image, tree, .. } = job;
        let sparse = if options.platforms == PlatformSet::All { Sparse::Nothing } else { Sparse::Children };
        for node in &tree.nodes {
            let is_root = node.digest == tree.root;
            let own = image.tag.clone().filter(|_| is_root);
            let put = Put {
                tags: own.into_iter().chain(node.tag.clone()).collect(),
                pin: is_root && image.tag.is_none(),
                sparse,
                origins: vec![image.registry.clone()],
                cached: None,
            };
            self.store().put_manifest(&image.repository, &node.digest, node.manifest.clone(), put).await?;
        }
        debug_assert!(!tree.leases.is_empty());
        Ok(())
    }
}

/// Turns the engine's events of one blob into those of the replication.
struct Listener {
    sink: Sink,
    size: u64,
    seen: Mutex<Seen>,
}

/// How far a blob is.
struct Seen {
    /// Bytes here, and when that was last told.
    at: u64,
    told: Option<Instant>,
    begun: Instant,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Listener {
    fn new(sink: Sink, size: u64) -> Self {
        let seen = Seen { at: 0, told: None, begun: Instant::now(), first: None, last: None };
        Self { sink, size, seen: Mutex::new(seen) }
    }

    /// How long the first byte took to come, and how much longer the last.
    fn times(&self) -> (Duration, Duration) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let first = seen.first.unwrap_or(seen.begun);
        (first - seen.begun, seen.last.map_or(Duration::ZERO, |last| last - first))
    }

    fn hear(&self, event: &transfer::Event<'_>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match *event {
            transfer::Event::Begun { digest, resumed, .. } => {
                seen.at = resumed;
                seen.begun = Instant::now();
                (self.sink)(Event::BlobBegun { digest: digest.clone(), resumed, size: self.size });
            }
            transfer::Event::Bytes { digest, count } => {
                let now = Instant::now();
                seen.at += count;
                seen.first.get_or_insert(now);
                seen.last = Some(now);
                if seen.told.is_none_or(|told| now - told >= PROGRESS) {
                    seen.told = Some(now);
                    (self.sink)(Event::BlobProgress { digest: digest.clone(), at: seen.at });
                }
            }
            transfer::Event::Retry { digest, source, cause, wait } => (self.sink)(Event::BlobRetry {
                digest: digest.clone(),
                source: source.into(),
                cause: cause.into(),
                wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            }),
            transfer::Event::Done { digest, how } => {
                let received = if let How::Fetched { received, .. } = how { received } else { 0 };
                (self.sink)(Event::BlobDone { digest: digest.clone(), received });
            }
            transfer::Event::Joined { .. } | transfer::Event::Restarted { .. } => {}
        }
    }
}
