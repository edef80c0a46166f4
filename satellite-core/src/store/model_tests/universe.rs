//! Everything that can exist, and what a store says it holds.

use super::*;

/// Everything that can exist.
pub(super) struct Universe {
    pub(super) repositories: Vec<Repository>,
    pub(super) tags: Vec<Tag>,
    pub(super) blobs: Vec<(Digest, Bytes)>,
    /// Images, then indexes, then what is about any of them.
    pub(super) manifests: Vec<(Digest, Manifest)>,
}

impl Universe {
    pub(super) const IMAGES: usize = 10;
    pub(super) const INDEXES: usize = 4;
    pub(super) const REFERRERS: usize = 6;

    pub(super) fn new(random: &mut Random) -> Self {
        let blobs: Vec<(Digest, Bytes)> = (0..20u8)
            .map(|n| {
                let content: Bytes = (0..=random.below(400)).map(|i| n ^ i as u8).chain([n]).collect();
                (Digest::sha256(&content), content)
            })
            .collect();
        let mut universe = Self {
            repositories: ["a", "a/b", "c.d/e"].map(|n| n.parse().unwrap()).into(),
            tags: (0..TAGS).map(|n| format!("v{n}").parse().unwrap()).collect(),
            blobs,
            manifests: Vec::new(),
        };
        for n in 0..Self::IMAGES + Self::INDEXES + Self::REFERRERS {
            let is_index = (Self::IMAGES..Self::IMAGES + Self::INDEXES).contains(&n);
            let kind = if is_index { media_type::OCI_INDEX } else { media_type::OCI_MANIFEST };
            let mut value =
                json!({"schemaVersion": 2, "mediaType": kind, "annotations": {"n": n.to_string()}});
            if is_index {
                let mut children: Vec<_> =
                    (0..3).map(|_| universe.describe(random.below(Self::IMAGES))).collect();
                if n == Self::IMAGES + 1 {
                    children.push(universe.describe(Self::IMAGES));
                }
                value["manifests"] = children.into();
            } else {
                let mut blobs = (0..=n % 4).map(|_| {
                    let (digest, content) = &universe.blobs[random.below(universe.blobs.len())];
                    json!({"mediaType": "a/b", "digest": digest, "size": content.len()})
                });
                value["config"] = blobs.next().unwrap();
                value["layers"] = blobs.collect();
            }
            if n >= Self::IMAGES + Self::INDEXES {
                value["subject"] = universe.describe(random.below(n));
            }
            let text = value.to_string();
            universe.manifests.push((Digest::sha256(text.as_bytes()), Manifest::parse(text, None).unwrap()));
        }
        universe
    }

    pub(super) fn describe(&self, manifest: usize) -> serde_json::Value {
        let (digest, manifest) = &self.manifests[manifest];
        json!({"mediaType": manifest.media_type, "digest": digest, "size": manifest.raw.len()})
    }

    pub(super) fn number(&self, digest: &Digest) -> usize {
        self.manifests.iter().position(|(d, _)| d == digest).expect("of this universe")
    }

    /// What is reachable within one repository that has the manifests `there`, from `roots`.
    pub(super) fn closure(
        &self,
        there: &BTreeSet<usize>,
        roots: impl IntoIterator<Item = usize>,
    ) -> BTreeSet<usize> {
        let mut reached = BTreeSet::new();
        let mut todo: Vec<usize> = roots.into_iter().collect();
        while let Some(n) = todo.pop() {
            if !there.contains(&n) || !reached.insert(n) {
                continue;
            }
            let (digest, manifest) = &self.manifests[n];
            todo.extend(manifest.children.iter().map(|c| self.number(&c.digest)));
            let about =
                |m: &usize| self.manifests[*m].1.subject.as_ref().is_some_and(|s| s.digest == *digest);
            todo.extend(there.iter().copied().filter(about));
        }
        reached
    }
}

/// All that a store says it holds, in one comparable value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) files: BTreeSet<Digest>,
    pub(super) links: BTreeSet<(usize, Digest)>,
    pub(super) manifests: BTreeSet<(usize, usize)>,
    pub(super) tags: BTreeMap<(usize, usize), usize>,
    pub(super) pins: BTreeSet<(usize, usize)>,
    /// Repository, subject, referrer.
    pub(super) referrers: BTreeSet<(usize, Digest, usize)>,
    pub(super) origins: BTreeSet<(usize, String)>,
}

impl Snapshot {
    pub(super) fn of(store: &Store, universe: &Universe) -> Self {
        let mut seen = Self::default();
        store
            .inner
            .files
            .each_blob(|digest, _| {
                seen.files.insert(digest);
                Ok(())
            })
            .unwrap();
        for (r, repository) in universe.repositories.iter().enumerate() {
            let rests = |kind: Kind| {
                let prefix = index::key(kind, repository, &[]);
                let rest = |item: Result<(sled::IVec, sled::IVec)>| item.unwrap().0[prefix.len()..].to_vec();
                store.inner.index.scan(&prefix, None).map(rest).collect::<Vec<_>>()
            };
            let digests = |kind: Kind| rests(kind).into_iter().map(|rest| Digest::from_key(&rest).unwrap());
            seen.links.extend(digests(Kind::Link).map(|d| (r, d)));
            seen.pins.extend(digests(Kind::Pin).map(|d| (r, universe.number(&d))));
            for rest in rests(Kind::Referrer) {
                let (subject, referrer) = rest.split_at(33);
                let digest = |key: &[u8]| Digest::from_key(key).unwrap();
                seen.referrers.insert((r, digest(subject), universe.number(&digest(referrer))));
            }
            seen.origins.extend(store.origins(repository).unwrap().into_iter().map(|o| (r, o)));
            for info in store.manifests(repository, None) {
                let info = info.unwrap();
                let n = universe.number(&info.digest);
                let manifest = &universe.manifests[n].1;
                assert_eq!(info.media_type, manifest.media_type);
                assert_eq!(store.manifest_bytes(&info).unwrap().as_ref(), Some(&manifest.raw));
                seen.manifests.insert((r, n));
            }
            for tag in store.tags(repository, None) {
                let (tag, digest) = tag.unwrap();
                let t = universe.tags.iter().position(|t| *t == tag).unwrap();
                seen.tags.insert((r, t), universe.number(&digest));
            }
        }
        seen
    }

    pub(super) fn there(&self, repository: usize) -> BTreeSet<usize> {
        self.manifests.iter().filter(|(r, _)| *r == repository).map(|(_, n)| *n).collect()
    }

    /// Manifests that must stay, if those that are `fresh` are held beside tags and pins.
    pub(super) fn reachable(
        &self,
        universe: &Universe,
        fresh: impl Fn(&Digest) -> bool,
    ) -> BTreeSet<(usize, usize)> {
        let mut kept = BTreeSet::new();
        for r in 0..universe.repositories.len() {
            let there = self.there(r);
            let tagged = self.tags.iter().filter(|((of, _), _)| *of == r).map(|(_, n)| *n);
            let pinned = self.pins.iter().filter(|(of, _)| *of == r).map(|(_, n)| *n);
            let young = there.iter().copied().filter(|n| fresh(&universe.manifests[*n].0));
            kept.extend(
                universe.closure(&there, tagged.chain(pinned).chain(young)).into_iter().map(|n| (r, n)),
            );
        }
        kept
    }

    /// What a collection leaves.
    pub(super) fn collect(&mut self, universe: &Universe, fresh: impl Fn(&Digest) -> bool) {
        let kept = self.reachable(universe, &fresh);
        let named = |r: Option<usize>, digest: &Digest| {
            kept.iter().any(|(of, n)| {
                let (own, manifest) = &universe.manifests[*n];
                r.is_none_or(|r| r == *of)
                    && (r.is_none() && own == digest || manifest.blobs.iter().any(|b| b.digest == *digest))
            })
        };
        self.links.retain(|(r, digest)| named(Some(*r), digest) || fresh(digest));
        self.files.retain(|digest| named(None, digest) || fresh(digest));
        self.manifests = kept;
        self.forget_referrers(universe);
    }

    pub(super) fn forget_referrers(&mut self, universe: &Universe) {
        let about = |(r, n): &(usize, usize)| {
            universe.manifests[*n].1.subject.as_ref().map(|s| (*r, s.digest.clone(), *n))
        };
        self.referrers = self.manifests.iter().filter_map(about).collect();
    }
}
