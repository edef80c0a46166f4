//! What the commands do to a store, whoever asked: the command line itself, or another process through the socket.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, OnceLock},
    time::Duration,
};

use satellite_core::{
    net::Executor,
    oci::{Digest, ImageReference, Manifest, Reference, Repository},
    replicate::{self, Connect, Replicator, Sink},
    store::{Finding, FsckReport, Mend, Store},
    transfer::{self, Engine, Throttle},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    control::{Agent, Command, Failed, Upstream},
    exit::{Code, Failure, Result},
    references,
    registries::Registries,
};

/// Told how far a check is: blobs and bytes.
pub(crate) type Progress = Arc<dyn Fn(u64, u64) + Send + Sync>;

/// A store, and what commands on it need.
pub(crate) struct Context {
    pub(crate) store: Store,
    executor: Executor,
    /// Shared by all that fetch over the WAN.
    throttle: Arc<Throttle>,
    /// The agent that this process is, if it is one.
    agent: OnceLock<Arc<dyn Agent>>,
}

/// What a check found, and what of it could be fetched again.
#[derive(Serialize, Deserialize)]
pub(crate) struct Checked {
    #[serde(flatten)]
    pub(crate) report: FsckReport,
    pub(crate) healed: Vec<Finding>,
    /// With the reason.
    pub(crate) unhealed: Vec<(Finding, String)>,
}

/// An image as it is listed.
#[derive(Serialize, Deserialize)]
pub(crate) struct Listed {
    pub(crate) repository: Repository,
    /// None for an image that is held by its digest.
    pub(crate) tag: Option<String>,
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    /// Bytes of all that is here of it.
    pub(crate) size: u64,
    /// Platforms that are here.
    pub(crate) platforms: Vec<String>,
    /// Hosts it was replicated from.
    pub(crate) origins: Vec<String>,
    /// Here only because a client asked for it: goes when room is needed.
    pub(crate) cached: bool,
}

impl Context {
    pub(crate) fn new(store: Store, executor: Executor, limit_rate: Option<u64>) -> Self {
        Self { store, executor, throttle: Arc::new(Throttle::new(limit_rate)), agent: OnceLock::new() }
    }

    /// Commands about the agent are answered by this one.
    pub(crate) fn set_agent(&self, agent: Arc<dyn Agent>) {
        let _ = self.agent.set(agent);
    }

    fn agent(&self) -> Result<&Arc<dyn Agent>> {
        let none =
            || Failure::new(Code::NotFound, "no agent runs here: `satellite run` is not what has this store");
        self.agent.get().ok_or_else(none)
    }

    /// What all fetching over the WAN shares.
    pub(crate) fn throttle(&self) -> Arc<Throttle> {
        self.throttle.clone()
    }

    /// Does a command, and gives its result as JSON.
    pub(crate) async fn execute(&self, command: Command, sink: Sink, progress: Progress) -> Result<Value> {
        match command {
            Command::Pull { images, platforms, referrers, concurrency, limit_rate, upstream } => {
                let options = replicate::Options { platforms, referrers, concurrency };
                self.pull(&images, &options, limit_rate, upstream, sink).await
            }
            Command::Push { source, target, upstream } => self.push(&source, &target, upstream, sink).await,
            Command::Images => value(&self.images()?),
            Command::Status => value(&self.agent()?.status()),
            Command::Now { job } => {
                self.agent()?.now(&job).map_err(|e| Failure::new(Code::Usage, e))?;
                Ok(json!({"job": job}))
            }
            Command::Inspect { reference } => self.inspect(&reference),
            Command::Remove { references } => self.remove(&references).await,
            Command::Gc { grace_ms } => value(&self.store.gc(grace_ms.map(Duration::from_millis)).await?),
            Command::Fsck { repair, heal } => value(&self.fsck(repair, heal, progress).await?),
        }
    }

    async fn pull(
        &self,
        images: &[String],
        options: &replicate::Options,
        limit_rate: Option<u64>,
        upstream: Upstream,
        sink: Sink,
    ) -> Result<Value> {
        let images: Vec<ImageReference> = images
            .iter()
            .map(|text| text.parse().map_err(|e| Failure::new(Code::Usage, e)))
            .collect::<Result<_>>()?;
        let report = self.replicator(limit_rate, upstream, None)?.run(&images, options, sink).await;
        value(&report)
    }

    /// A replicator over the WAN. `name`: what its requests are called by, where they are not on anybody's command.
    pub(crate) fn replicator(
        &self,
        limit_rate: Option<u64>,
        upstream: Upstream,
        name: Option<&str>,
    ) -> Result<Replicator> {
        let throttle = match limit_rate {
            Some(rate) => Arc::new(Throttle::new(Some(rate.min(self.throttle.rate().unwrap_or(u64::MAX))))),
            None => self.throttle.clone(),
        };
        let stall = transfer::Options { stall: upstream.stall(), ..transfer::Options::default() };
        let engine = Engine::new(self.store.clone(), throttle, stall);
        let mut registries = Registries::new(upstream, &self.executor)?;
        if let Some(name) = name {
            registries = registries.named(name);
        }
        Ok(Replicator::new(engine, Arc::new(registries), self.executor.clone()))
    }

    async fn push(&self, source: &str, target: &str, upstream: Upstream, sink: Sink) -> Result<Value> {
        let target: ImageReference = target.parse().map_err(|e| Failure::new(Code::Usage, e))?;
        let (repository, reference) = references::find(&self.store, source)?;
        let registry = Registries::new(upstream, &self.executor)?
            .connect(&target.registry)
            .map_err(replicate::Error::from)?;
        let digest =
            replicate::push(&self.store, (&repository, &reference), &target, &registry, sink).await?;
        Ok(json!({"image": target.to_string(), "digest": digest}))
    }

    /// Checks; what is damaged is fetched again before records are removed that lead nowhere.
    async fn fsck(&self, repair: bool, heal: Option<Upstream>, progress: Progress) -> Result<Checked> {
        let mend = match (&heal, repair) {
            (Some(_), _) => Mend::SetAside,
            (None, true) => Mend::All,
            (None, false) => Mend::Nothing,
        };
        let report = self.store.fsck(mend, move |blobs, bytes| progress(blobs, bytes)).await?;
        let mut checked = Checked { report, healed: Vec::new(), unhealed: Vec::new() };
        let Some(upstream) = heal else { return Ok(checked) };
        let replicator = self.replicator(None, upstream, None)?;
        // What a file was needed for is found with the records: a corrupt blob and a missing one are one to mend.
        let findings = checked.report.findings.clone();
        for finding in &findings {
            match replicator.heal(finding).await {
                Ok(true) => checked.healed.push(finding.clone()),
                Ok(false) => {}
                Err(e) => checked.unhealed.push((finding.clone(), e.to_string())),
            }
        }
        if repair {
            self.store.check_records(Mend::All).await?;
        }
        Ok(checked)
    }

    /// All tags and pins, by repository.
    fn images(&self) -> Result<Vec<Listed>> {
        let mut list = Vec::new();
        for repository in self.store.repositories(None) {
            let repository = repository?;
            let origins = self.store.origins(&repository)?;
            let mut add = |tag: Option<String>, digest: Digest, host: Option<String>| -> Result<()> {
                let Some(info) = self.store.manifest(&repository, &Reference::Digest(digest.clone()))? else {
                    return Ok(());
                };
                let (size, platforms) = self.weigh(&repository, &digest)?;
                let cached = host.is_some();
                let (repository, origins) = (repository.clone(), host.map_or(origins.clone(), |h| vec![h]));
                list.push(Listed {
                    repository,
                    tag,
                    digest,
                    media_type: info.media_type,
                    size,
                    platforms,
                    origins,
                    cached,
                });
                Ok(())
            };
            for tag in self.store.tags(&repository, None) {
                let (tag, digest) = tag?;
                add(Some(tag.to_string()), digest, None)?;
            }
            for info in self.store.manifests(&repository, None) {
                let info = info?;
                if self.store.is_pinned(&repository, &info.digest)? {
                    add(None, info.digest, None)?;
                }
            }
            for item in self.store.cached_tags(&repository) {
                let (host, tag, digest) = item?;
                add(Some(tag.to_string()), digest, Some(host))?;
            }
        }
        Ok(list)
    }

    /// Bytes of what is here of an image, and the platforms.
    fn weigh(&self, repository: &Repository, root: &Digest) -> Result<(u64, Vec<String>)> {
        let (mut size, mut platforms) = (0, BTreeSet::new());
        let (mut seen, mut todo) = (HashSet::new(), vec![root.clone()]);
        while let Some(digest) = todo.pop() {
            let Some(manifest) = self.manifest(repository, &digest)? else { continue };
            size += manifest.raw.len() as u64;
            for blob in &manifest.blobs {
                if seen.insert(blob.digest.clone()) {
                    size += self.store.blob_size(&blob.digest)?.unwrap_or(0);
                }
            }
            for child in manifest.children {
                let here =
                    self.store.manifest(repository, &Reference::Digest(child.digest.clone()))?.is_some();
                if here && seen.insert(child.digest.clone()) {
                    platforms.extend(child.platform.map(|p| p.to_string()));
                    todo.push(child.digest);
                }
            }
        }
        Ok((size, platforms.into_iter().collect()))
    }

    fn manifest(&self, repository: &Repository, digest: &Digest) -> Result<Option<Manifest>> {
        let Some(info) = self.store.manifest(repository, &Reference::Digest(digest.clone()))? else {
            return Ok(None);
        };
        let raw = self.store.manifest_bytes(&info)?;
        Ok(raw.and_then(|raw| Manifest::parse(raw, Some(&info.media_type)).ok()))
    }

    fn inspect(&self, text: &str) -> Result<Value> {
        let (repository, reference) = references::find(&self.store, text)?;
        let digest = references::digest(&self.store, &repository, &reference)?;
        let digest =
            digest.ok_or_else(|| Failure::new(Code::NotFound, format!("{text} is not in the store")))?;
        let manifest = self.manifest(&repository, &digest)?;
        let manifest = manifest
            .ok_or_else(|| Failure::new(Code::Store, format!("{digest} is damaged; run `satellite fsck`")))?;
        let entry = |d: &satellite_core::oci::Descriptor| -> Result<Value> {
            let here = self.store.blob_size(&d.digest)? == Some(d.size);
            Ok(json!({"digest": d.digest, "media_type": d.media_type, "size": d.size, "here": here,
                      "platform": d.platform.as_ref().map(ToString::to_string)}))
        };
        let (size, platforms) = self.weigh(&repository, &digest)?;
        let history = match &reference {
            Reference::Tag(tag) => self.store.tag(&repository, tag)?,
            Reference::Digest(_) => None,
        };
        let referrers: Vec<_> = self
            .store
            .referrers(&repository, &digest, None)
            .take(1000)
            .collect::<std::result::Result<_, _>>()?;
        Ok(json!({
            "repository": repository, "reference": reference.to_string(), "digest": digest,
            "media_type": manifest.media_type, "artifact_type": manifest.artifact_type,
            "size": size, "platforms": platforms, "annotations": manifest.annotations,
            "manifests": manifest.children.iter().map(entry).collect::<Result<Vec<_>>>()?,
            "blobs": manifest.blobs.iter().map(entry).collect::<Result<Vec<_>>>()?,
            "referrers": referrers, "origins": self.store.origins(&repository)?,
            "tagged_at": history.as_ref().map(|h| h.since),
            "history": history.map(|h| h.history.into_iter().map(|(d, t)| json!({"digest": d, "tagged_at": t})).collect::<Vec<_>>()),
        }))
    }

    /// By tag the tag goes, by digest the manifest with its tags. cosign's tags of what nothing names any more go too.
    async fn remove(&self, texts: &[String]) -> Result<Value> {
        let mut found = Vec::new();
        for text in texts {
            found.push(references::find(&self.store, text)?);
        }
        let mut removed = Vec::new();
        for (repository, reference) in found {
            let digest = references::digest(&self.store, &repository, &reference)?;
            match &reference {
                Reference::Tag(tag) => drop(self.store.remove_tag(&repository, tag).await?),
                Reference::Digest(digest) => drop(self.store.remove_manifest(&repository, digest).await?),
            }
            removed.push(format!("{repository} {reference}"));
            let Some(digest) = digest else { continue };
            let mut others = self.store.tags(&repository, None);
            if others.any(|t| t.is_ok_and(|(_, d)| d == digest))
                || self.store.is_pinned(&repository, &digest)?
            {
                continue;
            }
            for tag in replicate::cosign_tags(&digest) {
                self.store.remove_tag(&repository, &tag).await?;
            }
        }
        Ok(json!({"removed": removed}))
    }
}

fn value(of: &impl Serialize) -> Result<Value> {
    serde_json::to_value(of).map_err(|e| Failure::new(Code::Failed, e))
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self { code: failure.code as u8, message: failure.message }
    }
}

impl From<Failed> for Failure {
    fn from(failed: Failed) -> Self {
        let codes = [
            Code::Usage,
            Code::NotFound,
            Code::Unauthorized,
            Code::Store,
            Code::Network,
            Code::Content,
            Code::Interrupted,
        ];
        let code = codes.into_iter().find(|c| *c as u8 == failed.code).unwrap_or(Code::Failed);
        Self::new(code, failed.message)
    }
}
