#![allow(clippy::panic)]
//! Everything that reads what others wrote, as functions of bytes: for the fuzzers in `tests/fuzz`, and for a replay of their
//! corpora in every run of the tests. Not part of the interface.

/// What is fuzzed: a name, and a function that must return whatever the bytes are.
pub const TARGETS: &[(&str, Target)] = &[
    ("names", names),
    ("manifest", manifest),
    ("records", crate::store::fuzz::records),
    #[cfg(feature = "fleet")]
    ("layers", layers),
    #[cfg(feature = "fleet")]
    ("fleet", fleet),
    #[cfg(feature = "serve")]
    ("paths", crate::registry::fuzz::paths),
    #[cfg(feature = "serve")]
    ("uploads", crate::registry::fuzz::uploads),
    #[cfg(feature = "serve")]
    ("requests", crate::net::server::fuzz::requests),
    #[cfg(feature = "replicate")]
    ("headers", crate::remote::fuzz::headers),
    #[cfg(feature = "replicate")]
    ("answers", crate::remote::fuzz::answers),
    #[cfg(all(feature = "serve", feature = "replicate"))]
    ("rules", rules),
];

/// A function of bytes.
pub type Target = fn(&[u8]);

/// Runs one target. For `fuzz_target!`.
///
/// # Panics
/// If there is no such target, or the target found something.
pub fn run(name: &str, data: &[u8]) {
    match TARGETS.iter().find(|(n, _)| *n == name) {
        Some((_, target)) => target(data),
        None => panic!("no fuzz target {name}"),
    }
}

/// What parses is written as it was read, and reads the same again.
fn names(data: &[u8]) {
    use crate::oci::{Digest, ImageReference, Platform, Reference, Repository, Tag};

    fn again<T: std::str::FromStr + ToString + PartialEq + std::fmt::Debug>(text: &str) {
        if let Ok(value) = text.parse::<T>() {
            let written = value.to_string();
            assert_eq!(written.parse::<T>().ok(), Some(value), "{text:?} becomes {written:?}");
        }
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    again::<Digest>(text);
    again::<Repository>(text);
    again::<Tag>(text);
    again::<Reference>(text);
    again::<ImageReference>(text);
    again::<Platform>(text);
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(Digest::from_key(&digest.key()), Some(digest));
    }
}

/// A manifest keeps its bytes, whatever is read from them.
fn manifest(data: &[u8]) {
    use crate::oci::{Digest, Manifest, Platform, PlatformSet};

    let (declared, raw) = match data.split_first() {
        Some((0, rest)) => (Some(crate::oci::media_type::OCI_INDEX), rest),
        Some((1, rest)) => (Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8"), rest),
        Some((2, rest)) => (Some("application/octet-stream"), rest),
        _ => (None, data),
    };
    let Ok(manifest) = Manifest::parse(raw.to_vec(), declared) else { return };
    assert_eq!(manifest.raw, raw);
    assert!(manifest.media_type.len() <= 255);
    let set = PlatformSet::Some(vec![Platform::host()]);
    assert!(set.select(&manifest.children).len() <= manifest.children.len());
    assert_eq!(PlatformSet::All.select(&manifest.children).len(), manifest.children.len());
    let foreign = manifest.blobs.iter().filter(|b| b.is_foreign()).count();
    assert!(foreign <= manifest.blobs.len());
    let _ = manifest.as_referrer(Digest::sha256(raw));
    if let Ok(again) = Manifest::parse(raw.to_vec(), Some(&manifest.media_type)) {
        assert_eq!(again.media_type, manifest.media_type);
    }
}

/// Whatever comes out of a layer is what goes into one.
#[cfg(feature = "fleet")]
fn layers(data: &[u8]) {
    use crate::fleet::artifact::{MAX_STATE, pack, unpack};

    let Ok(state) = unpack(data) else { return };
    assert!(state.len() <= MAX_STATE);
    let again = pack(&state).ok().and_then(|packed| unpack(&packed.layer).ok());
    assert_eq!(again, Some(state));
}

/// What satellites and Ground Control say to each other is read, checked and printed, and reads the same again.
#[cfg(feature = "fleet")]
fn fleet(data: &[u8]) {
    use crate::fleet::{
        GroupState, Interval, Name, SatelliteState, StateKind, Sync, SyncAnswer, Ztr, config,
    };

    fn again<T: serde::Serialize + serde::de::DeserializeOwned>(data: &[u8]) -> Option<T> {
        let value: T = serde_json::from_slice(data).ok()?;
        let once = serde_json::to_vec(&value).ok()?;
        let twice = serde_json::from_slice::<T>(&once).ok().and_then(|v| serde_json::to_vec(&v).ok());
        assert_eq!(Some(once), twice);
        Some(value)
    }
    if let Some(group) = again::<GroupState>(data) {
        let published = group.for_publishing("http://harbor");
        assert!(
            published.artifacts.iter().all(|a| !a.deleted && (a.labels.is_null() || a.labels.is_array()))
        );
        if group.check().is_ok() {
            assert!(StateKind::Group.url("http://harbor", &group.group).is_ok());
            assert!(group.artifacts.iter().all(|a| a.project().is_some()));
        }
    }
    again::<SatelliteState>(data);
    again::<Sync>(data);
    again::<SyncAnswer>(data);
    again::<Ztr>(data);
    let _ = SyncAnswer::from_body(data);
    if let Ok(value) = serde_json::from_slice::<serde_json::Value>(data) {
        let printed = config::printed(&value);
        assert_eq!(config::printed(&printed), printed);
        // What is printed has lost nothing but what means "not set".
        assert!(config::problems(&printed).len() <= config::problems(&value).len());
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(interval) = text.parse::<Interval>() {
        assert_eq!(interval.to_string().parse::<Interval>().ok(), Some(interval));
    }
    if let Ok(name) = text.parse::<Name>()
        && let Ok(repository) = StateKind::Config.repository(name.as_str())
    {
        let owner = Some((StateKind::Config, name.as_str()));
        assert_eq!(StateKind::of_repository(repository.as_str()), owner);
    }
}

/// A rule of a pull-through is written as it was read.
#[cfg(all(feature = "serve", feature = "replicate"))]
fn rules(data: &[u8]) {
    use crate::proxy::{Policy, Rule};

    let Ok(text) = std::str::from_utf8(data) else { return };
    let (rule, name) = text.split_once('\n').unwrap_or((text, "a/b"));
    let Ok(rule) = rule.parse::<Rule>() else { return };
    assert_eq!(rule.to_string().parse::<Rule>().ok().as_ref(), Some(&rule));
    let (Ok(policy), Ok(repository)) = (Policy::new(vec![rule], None), name.parse()) else { return };
    for host in policy.hosts() {
        let tag = policy.allows(host, &repository).is_none();
        let v1 = "v1".parse().is_ok_and(|tag| policy.allows_tag(host, &repository, &tag));
        assert!(!(tag && v1), "a tag is allowed of a repository that is not");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{fs, path::Path};

    use super::*;

    /// Inputs of a target: its corpus and what once broke it.
    fn inputs(name: &str) -> Vec<Vec<u8>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz");
        ["seeds", "regressions"]
            .iter()
            .filter_map(|kind| fs::read_dir(root.join(kind).join(name)).ok())
            .flat_map(|dir| dir.flatten().map(|entry| fs::read(entry.path()).unwrap()))
            .collect()
    }

    /// The same changes in every run: bytes exchanged, cut out, doubled, and cut off.
    fn change(input: &[u8], state: &mut u64) -> Vec<u8> {
        let mut below = |n: usize| {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*state >> 33) as usize % n.max(1)
        };
        let mut data = input.to_vec();
        for _ in 0..=below(3) {
            let at = below(data.len());
            match below(4) {
                _ if data.is_empty() => data.push(below(256) as u8),
                0 => data[at] = below(256) as u8,
                1 => drop(data.drain(at..(at + below(8)).min(input.len()).max(at).min(data.len()))),
                2 => {
                    let piece: Vec<u8> = data[at..].iter().take(1 + below(16)).copied().collect();
                    data.splice(at..at, piece);
                }
                _ => data.truncate(at),
            }
        }
        data
    }

    #[test]
    fn the_fuzzers_corpora_and_changes_of_them_break_nothing() {
        for (name, target) in TARGETS {
            let inputs = inputs(name);
            assert!(!inputs.is_empty(), "{name} has no corpus in tests/fuzz");
            let changes = if matches!(*name, "uploads" | "requests" | "answers") { 20 } else { 500 };
            let mut state = 7;
            for input in &inputs {
                target(input);
                for _ in 0..changes {
                    target(&change(input, &mut state));
                }
            }
        }
    }
}
