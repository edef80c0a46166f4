//! The central registry, its states, and a satellite's lives.

use futures_lite::future;
use satellite_bin::agent::cause::Trouble;
use satellite_bin::agent::center::{Address, Center};
use satellite_bin::agent::identity::{DeviceKey, Identity, Vault, Way};
use satellite_bin::agent::report::Events;
use satellite_bin::agent::schedule::{Clock, MachineTicks};
use satellite_bin::agent::state::{Options, Place, Reach, Registries, StateJob};
use satellite_core::fleet::artifact::pack;
use satellite_core::fleet::{SyncAnswer, Ztr, ZtrAuth};
use satellite_core::net::Executor;
use satellite_core::oci::{Reference, Repository, Tag};
use satellite_core::replicate::{self, Replicator};
use satellite_core::store::{self, Store};
use satellite_core::transfer::{self, Backoff, Engine, Throttle};
use satellite_tests::dir::Dir;
use satellite_tests::image::{Artifact, Blob, Image};
use satellite_tests::oci;
use satellite_tests::proxy::Proxy;
use satellite_tests::registry::{self, PASSWORD, Registry, USER};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Where the satellite's own state is.
pub(crate) const STATE: &str = "satellite/satellite-state/s1/state";

/// The account, as it is kept.
pub(crate) struct Kept(pub(crate) Mutex<Option<Ztr>>);

impl Vault for Kept {
    fn load(&self) -> Option<Ztr> {
        self.0.lock().unwrap().clone()
    }

    fn store(&self, account: &Ztr) -> Result<(), Trouble> {
        *self.0.lock().unwrap() = Some(account.clone());
        Ok(())
    }
}

/// The central registry behind a link, and the disk of one satellite.
pub(crate) struct World {
    pub(crate) central: Registry,
    pub(crate) link: Proxy,
    pub(crate) dir: Dir,
    pub(crate) vault: Arc<Kept>,
}

/// A satellite from its start to its end.
pub(crate) struct Life {
    pub(crate) job: StateJob,
    pub(crate) store: Store,
    pub(crate) executor: Executor,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(&registry::Options::default())
    }

    pub(crate) fn with(options: &registry::Options) -> Self {
        let central = Registry::with(options);
        let link = Proxy::start(central.address());
        let auth = ZtrAuth {
            url: format!("http://{}", link.host()),
            username: USER.into(),
            password: PASSWORD.into(),
        };
        let account = Ztr { state: format!("http://{}/{STATE}:latest", link.host()), auth };
        Self { central, link, dir: Dir::new(), vault: Arc::new(Kept(Mutex::new(Some(account)))) }
    }

    /// Starts the satellite; it keeps images in a store without a limit.
    pub(crate) fn start(&self) -> Life {
        let options = store::Options { grace: Duration::ZERO, ..store::Options::default() };
        self.life(options, Place::Store("127.0.0.1:8585".into()))
    }

    fn life(&self, options: store::Options, place: Place) -> Life {
        let executor = Executor::default();
        let nowhere = Address {
            url: "http://127.0.0.1:9".parse().unwrap(),
            use_unsecure: false,
            ca: None,
            identity: None,
            server_id: None,
        };
        let center = Arc::new(Center::new(nowhere, executor.clone()).unwrap());
        let key = DeviceKey::open(self.dir.path()).unwrap();
        let identity = Arc::new(Identity::new(center, self.vault.clone(), key, Way::None, None));
        let reach = Reach { use_unsecure: true, ca: Vec::new() };
        let registries = Arc::new(Registries::new(identity.clone(), executor.clone(), reach, None));
        let store = Store::open(&self.dir.join("store"), options).unwrap();
        // Whoever fails, fails soon.
        let backoff = Backoff { first: Duration::from_millis(10), most: Duration::from_millis(50) };
        let transfer = transfer::Options { attempts: 3, backoff, ..transfer::Options::default() };
        let engine = Engine::new(store.clone(), Arc::new(Throttle::new(None)), transfer);
        let replicator = Replicator::new(engine, registries.clone(), executor.clone());
        let clock = Arc::new(Clock::open(self.dir.path(), Arc::new(MachineTicks::new())));
        let options = Options { harbor: None, replicate: replicate::Options::default() };
        let job = StateJob::new(
            self.dir.path().to_path_buf(),
            identity,
            registries,
            replicator,
            place,
            options,
            Events::new(clock),
        );
        Life { job, store, executor }
    }

    /// The URL of a group's state.
    pub(crate) fn url(&self, group: &str) -> String {
        format!("http://{}/{}:latest", self.link.host(), at(group))
    }

    /// Publishes what the satellite runs; the digest.
    pub(crate) fn satellite(&self, groups: &[&str]) -> String {
        let states: Vec<String> = groups.iter().map(|g| self.url(g)).collect();
        let config = format!("http://{}/satellite/config-state/c1/state:latest", self.link.host());
        self.publish(STATE, &json!({"states": states, "config": config}).to_string())
    }

    /// Publishes a group of these (repository, tags, digest); the digest of its state.
    pub(crate) fn group(&self, name: &str, artifacts: &[(&str, &[&str], &str)]) -> String {
        let list: Vec<Value> = artifacts
            .iter()
            .map(|(repository, tag, digest)| json!({"repository": repository, "tag": tag, "digest": digest}))
            .collect();
        self.group_of(name, &json!(list))
    }

    pub(crate) fn group_of(&self, name: &str, artifacts: &Value) -> String {
        let registry = format!("http://{}", self.link.host());
        let body = json!({"group": name, "registry": registry, "artifacts": artifacts});
        self.publish(&at(name), &body.to_string())
    }

    /// Publishes a text as a state.
    pub(crate) fn publish(&self, repository: &str, text: &str) -> String {
        let packed = pack(text.as_bytes()).unwrap();
        let blobs =
            vec![Blob::new(oci::DOCKER_CONFIG, packed.config), Blob::new(oci::DOCKER_LAYER, packed.layer)];
        let artifact = Artifact {
            media_type: oci::DOCKER_MANIFEST.into(),
            digest: packed.digest.to_string(),
            manifest: packed.manifest,
            platform: None,
            blobs,
            children: Vec::new(),
        };
        artifact.push(&self.central.client(), repository, "latest");
        artifact.digest
    }

    /// Takes a group's state away, as who deletes the group in the registry.
    pub(crate) fn vanish(&self, group: &str, digest: &str) {
        let path = format!("/v2/{}/manifests/{digest}", at(group));
        let delete = satellite_tests::http::Request::new("DELETE", &path);
        self.central.client().send(&delete).expect(202);
    }

    /// An image in the central registry.
    pub(crate) fn image(&self, repository: &str, tag: &str, seed: u64) -> Artifact {
        self.sized(repository, tag, seed, 40_000)
    }

    pub(crate) fn sized(&self, repository: &str, tag: &str, seed: u64, size: usize) -> Artifact {
        let image = Image::new().noise(size, seed).build();
        image.push(&self.central.client(), repository, tag);
        image
    }

    /// What our Ground Control says about these groups.
    pub(crate) fn told(&self, state: &str, groups: &[(&str, &str)]) -> SyncAnswer {
        let states: BTreeMap<String, String> =
            groups.iter().map(|(name, digest)| (self.url(name), (*digest).to_string())).collect();
        SyncAnswer { state_digest: state.into(), states, ..SyncAnswer::default() }
    }

    /// Requests that reached the central registry since they were forgotten.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.link.seen("").iter().map(|s| format!("{} {} {}", s.method, s.target, s.status)).collect()
    }
}

/// The repository of a group's state.
pub(crate) fn at(group: &str) -> String {
    format!("satellite/group-state/{group}/state")
}

impl Life {
    pub(crate) fn turn(&self) -> Result<(), Trouble> {
        self.told(None)
    }

    pub(crate) fn told(&self, told: Option<&SyncAnswer>) -> Result<(), Trouble> {
        self.wait(self.job.run(told))
    }

    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        future::block_on(self.executor.run(work))
    }

    /// What a name is in the store.
    pub(crate) fn digest(&self, repository: &str, tag: &str) -> Option<String> {
        let (repository, tag): (Repository, Tag) = (repository.parse().unwrap(), tag.parse().unwrap());
        self.store.tag(&repository, &tag).unwrap().map(|t| t.digest.to_string())
    }

    /// Panics unless the store has all of an image, right to the byte, under that name.
    #[track_caller]
    pub(crate) fn holds(&self, repository: &str, tag: &str, image: &Artifact) {
        assert_eq!(self.digest(repository, tag).as_ref(), Some(&image.digest), "{repository}:{tag}");
        let name: Repository = repository.parse().unwrap();
        let by_tag = Reference::Tag(tag.parse().unwrap());
        let info = self.store.manifest(&name, &by_tag).unwrap().expect("a manifest");
        assert_eq!(self.store.manifest_bytes(&info).unwrap().unwrap(), image.manifest.as_slice());
        for blob in &image.blobs {
            let size = self.store.blob_size(&blob.digest.parse().unwrap()).unwrap();
            assert_eq!(size, Some(blob.bytes.len() as u64), "{}", blob.digest);
        }
    }

    #[track_caller]
    pub(crate) fn lacks(&self, repository: &str, tag: &str) {
        assert_eq!(self.digest(repository, tag), None, "{repository}:{tag}");
    }
}
