//! What the registry has acknowledged, and what it was being asked when it died.

use satellite_tests::http::{Client, Request};
use satellite_tests::image::Artifact;
use satellite_tests::oci;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a tag may point to: an image, or nothing.
type Target = Option<Arc<Artifact>>;

#[derive(Debug, Default)]
struct Tag {
    acknowledged: Target,
    /// Asked for since, with no answer yet.
    asked: Vec<Target>,
}

/// The expectations of one repository.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    tags: BTreeMap<String, Tag>,
    blobs: BTreeSet<String>,
    /// Acknowledged since the last check.
    fresh: Vec<String>,
}

impl Ledger {
    /// The tag is about to be changed.
    pub(crate) fn ask(&mut self, tag: &str, target: Target) {
        self.tags.entry(tag.into()).or_default().asked.push(target);
    }

    /// The last change that was asked for is done.
    pub(crate) fn acknowledge(&mut self, tag: &str) {
        let tag = self.tags.entry(tag.into()).or_default();
        tag.acknowledged = tag.asked.pop().expect("a change that was asked for");
        tag.asked.clear();
    }

    /// The last change that was asked for was refused.
    pub(crate) fn refused(&mut self, tag: &str) {
        self.tags.entry(tag.into()).or_default().asked.pop();
    }

    /// The blob is there.
    pub(crate) fn blob(&mut self, digest: &str) {
        self.blobs.insert(digest.into());
        self.fresh.push(digest.into());
    }

    /// Blobs that are acknowledged.
    pub(crate) fn blobs(&self) -> usize {
        self.blobs.len()
    }

    /// Every digest that the tags reach.
    pub(crate) fn reach(&self) -> BTreeSet<String> {
        let images = self.tags.values().filter_map(|tag| tag.acknowledged.as_ref());
        images.flat_map(|image| image.reach().into_iter().map(|(digest, _)| digest.to_owned())).collect()
    }

    /// Compares with what is served, and expects what it saw from now on. Tags are read with all they reach, new
    /// blobs and a few drawn by lot by every byte; of the other blobs some two hundred are asked for.
    pub(crate) fn check(&mut self, client: &Client, repository: &str, rng: &mut fastrand::Rng) {
        for (name, tag) in &mut self.tags {
            let answer = client.get(&format!("/v2/{repository}/manifests/{name}"));
            let seen = match answer.status {
                200 => Some(oci::sha256(&answer.body)),
                404 => None,
                other => panic!("{other} for the tag {name}: {}", answer.text()),
            };
            let mut possible = std::iter::once(&tag.acknowledged).chain(&tag.asked);
            let target = possible.find(|target| target.as_ref().map(|image| &image.digest) == seen.as_ref());
            let Some(target) = target.cloned() else {
                let name_of = |target: &Target| target.as_ref().map(|image| image.digest.clone());
                let asked: Vec<_> = tag.asked.iter().map(name_of).collect();
                let acknowledged = name_of(&tag.acknowledged);
                panic!(
                    "the tag {name} points to {seen:?}; acknowledged: {acknowledged:?}, asked for since: {asked:?}"
                );
            };
            if let Some(image) = &target {
                image.check(client, repository, name);
            }
            *tag = Tag { acknowledged: target, asked: Vec::new() };
        }
        for digest in std::mem::take(&mut self.fresh) {
            whole(client, repository, &digest);
        }
        let mut connection = client.connect().expect("a connection");
        let share = 200.0 / self.blobs.len().max(1) as f64;
        for digest in &self.blobs {
            if rng.f64() > share {
                continue;
            }
            let head = Request::new("HEAD", &format!("/v2/{repository}/blobs/{digest}"));
            let answer = connection.exchange(&head).expect("an answer");
            assert_eq!(answer.status, 200, "the acknowledged blob {digest} is gone");
            if rng.u8(..100) == 0 {
                whole(client, repository, digest);
            }
        }
    }

    /// As [`Self::check`], every byte of everything.
    pub(crate) fn check_all(&mut self, client: &Client, repository: &str, rng: &mut fastrand::Rng) {
        self.fresh = self.blobs.iter().cloned().collect();
        self.check(client, repository, rng);
    }
}

fn whole(client: &Client, repository: &str, digest: &str) {
    let answer = client.get(&format!("/v2/{repository}/blobs/{digest}"));
    assert_eq!(answer.status, 200, "the acknowledged blob {digest} is gone: {}", answer.text());
    assert_eq!(oci::sha256(&answer.body), digest, "bytes that are served");
}
