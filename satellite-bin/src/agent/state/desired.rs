//! Group states become a set of images. Pure.

use std::collections::BTreeMap;

use satellite_core::{
    fleet::GroupState,
    oci::{Digest, Repository, Tag},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::agent::cause::{Cause, Trouble};

/// Most images of all groups together.
pub(super) const MAX_IMAGES: usize = 50_000;

/// One image: a name in the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Entity {
    /// The repository's last part, as the reference writes it.
    #[serde(default)]
    pub name: String,
    /// Project and name.
    pub repository: Repository,
    /// Its tag; empty: it is held by its digest.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tag: String,
    /// The manifest's digest; empty: whatever the tag names.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
}

impl Entity {
    /// The tag, where it has one.
    pub fn tag(&self) -> Option<Tag> {
        self.tag.parse().ok()
    }

    /// The digest, where the state says one.
    pub fn digest(&self) -> Option<Digest> {
        self.digest.parse().ok()
    }

    /// Where it is in the store: two entities of one place are one name.
    pub fn place(&self) -> (&Repository, &str) {
        (&self.repository, if self.tag.is_empty() { &self.digest } else { &self.tag })
    }
}

/// A group, as it was last read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Group {
    /// Where its state is.
    pub url: String,
    /// Manifest digest of the state.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// Scheme and host of the registry that has the images; empty: the account's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub registry: String,
    /// The images.
    pub entities: Vec<Entity>,
}

/// All that was last known: `state.json`, the reference's fields and ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Known {
    /// Manifest digest of the satellite's state.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub state_digest: String,
    /// Where the configuration is, if there is one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub config: String,
    /// Manifest digest of the configuration that was last read.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub config_digest: String,
    /// The groups.
    pub groups: Vec<Group>,
    /// What no group wants any more, and stays until all that they want is here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub retired: Vec<Entity>,
}

impl Group {
    /// From a state as it was published. Every artifact that is no image is left out and told; the others count.
    ///
    /// # Errors
    /// [`Cause::STATE_UNREADABLE`] for what is no group state at all, [`Cause::STATE_INVALID`] for more than 50,000 images.
    pub fn read(url: &str, digest: &str, json: &[u8]) -> Result<(Self, Option<Trouble>), Trouble> {
        let state: GroupState = object(url, json)?;
        // Something else's JSON must not be a group that wants nothing.
        if state.group.is_empty() {
            return Err(Trouble::new(Cause::STATE_UNREADABLE, format!("{url}: it names no group")));
        }
        let mut wrong = None;
        let mut entities = Vec::new();
        let mut refuse = |i: usize, what: String| {
            wrong.get_or_insert_with(|| {
                Trouble::new(Cause::STATE_INVALID, format!("{url}: artifacts[{i}]: {what}"))
            });
        };
        for (i, artifact) in state.artifacts.into_iter().enumerate() {
            if artifact.deleted {
                continue;
            }
            if entities.len() >= MAX_IMAGES {
                // Half of it is nobody's wish.
                let message = format!("{url}: more than {MAX_IMAGES} images");
                return Err(Trouble::new(Cause::STATE_INVALID, message));
            }
            let repository: Repository = match artifact.repository.parse() {
                Ok(repository) => repository,
                Err(e) => {
                    refuse(i, format!("{e}"));
                    continue;
                }
            };
            if !artifact.digest.is_empty() && artifact.digest.parse::<Digest>().is_err() {
                refuse(i, format!("digest: {:?} is none", short(&artifact.digest)));
                continue;
            }
            let name = repository.as_str().rsplit('/').next().unwrap_or_default().to_string();
            let entity = |tag: String| Entity {
                name: name.clone(),
                repository: repository.clone(),
                tag,
                digest: artifact.digest.clone(),
            };
            let (good, bad): (Vec<String>, Vec<String>) =
                artifact.tag.iter().cloned().partition(|tag| tag.parse::<Tag>().is_ok());
            if let Some(bad) = bad.first() {
                refuse(i, format!("tag: {:?} is none", short(bad)));
            }
            if artifact.tag.is_empty() {
                if artifact.digest.is_empty() {
                    refuse(i, "neither tag nor digest".into());
                } else {
                    entities.push(entity(String::new()));
                }
            }
            entities.extend(good.into_iter().map(entity));
        }
        entities.sort();
        entities.dedup();
        let group = Self { url: url.into(), digest: digest.into(), registry: state.registry, entities };
        Ok((group, wrong))
    }
}

/// An object; serde would also fill a structure's fields from a list.
///
/// # Errors
/// [`Cause::STATE_UNREADABLE`]
pub(super) fn object<T: DeserializeOwned>(url: &str, json: &[u8]) -> Result<T, Trouble> {
    let unreadable = |e: &dyn std::fmt::Display| Trouble::new(Cause::STATE_UNREADABLE, format!("{url}: {e}"));
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err(unreadable(&"it is no JSON object"));
    }
    serde_json::from_slice(json).map_err(|e| unreadable(&e))
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

impl Known {
    /// Every image that some group wants, once, with the registry that has it. Where groups disagree about what a tag
    /// names, the first in the order of their URLs counts, and it is told.
    pub fn wanted(&self) -> (Vec<(Entity, String)>, Option<Trouble>) {
        let mut groups: Vec<&Group> = self.groups.iter().collect();
        groups.sort_by(|a, b| a.url.cmp(&b.url));
        let mut all: BTreeMap<(Repository, String), (Entity, String)> = BTreeMap::new();
        let mut wrong = None;
        for group in groups {
            for entity in &group.entities {
                let (repository, name) = entity.place();
                let place = (repository.clone(), name.to_string());
                match all.get(&place) {
                    Some((other, _)) if other.digest != entity.digest => {
                        wrong.get_or_insert_with(|| {
                            let message = format!(
                                "{}:{} is {} in one group and {} in {}: the first counts",
                                entity.repository, entity.tag, other.digest, entity.digest, group.url
                            );
                            Trouble::new(Cause::STATE_INVALID, message)
                        });
                    }
                    Some(_) => {}
                    None => {
                        all.insert(place, (entity.clone(), group.registry.clone()));
                    }
                }
            }
        }
        (all.into_values().take(MAX_IMAGES).collect(), wrong)
    }

    /// Puts other groups in the place of these. What nobody wants any more is retired.
    pub fn replace(&mut self, groups: Vec<Group>) {
        let before: Vec<Entity> = self.wanted().0.into_iter().map(|(entity, _)| entity).collect();
        self.groups = groups;
        let wanted = self.wanted().0;
        let places: std::collections::BTreeSet<_> = wanted.iter().map(|(e, _)| e.place()).collect();
        let mut retired: Vec<Entity> = self.retired.drain(..).chain(before).collect();
        retired.retain(|e| !places.contains(&e.place()));
        retired.sort();
        retired.dedup();
        self.retired = retired;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn digest(n: u8) -> String {
        format!("sha256:{}", format!("{n:02x}").repeat(32))
    }

    fn group(url: &str, artifacts: &serde_json::Value) -> (Group, Option<Trouble>) {
        let body = json!({"group": "g", "registry": "http://h", "artifacts": artifacts}).to_string();
        Group::read(url, "d", body.as_bytes()).unwrap()
    }

    fn places(known: &Known) -> Vec<String> {
        known.wanted().0.iter().map(|(e, _)| format!("{}:{}", e.repository, e.place().1)).collect()
    }

    #[test]
    fn what_is_no_image_is_left_out_and_told_and_the_others_count() {
        let (group, wrong) = group(
            "u",
            &json!([
                {"repository": "edge/app", "tag": ["v1", "bad tag", "v2"], "digest": digest(1)},
                {"repository": "UPPER/case", "tag": ["v1"]},
                {"repository": "edge/gone", "tag": ["v1"], "deleted": true},
                {"repository": "edge/pinned", "tag": null, "digest": digest(2)},
                {"repository": "edge/none"},
                {"repository": "edge/lie", "tag": ["v1"], "digest": "sha256:short"},
            ]),
        );
        let known = Known { groups: vec![group], ..Known::default() };
        assert_eq!(places(&known), ["edge/app:v1", "edge/app:v2", &format!("edge/pinned:{}", digest(2))]);
        assert_eq!(wrong.unwrap().cause, Cause::STATE_INVALID);
        for text in ["", "[]", "{}", "{\"artifacts\": 3}", "<html>", "{\"artifacts\":[{\"tag\":{}}]}"] {
            let read = Group::read("u", "d", text.as_bytes());
            assert!(read.is_err_and(|t| t.cause == Cause::STATE_UNREADABLE), "{text}");
        }
    }

    #[test]
    fn what_several_groups_want_stays_until_none_does() {
        let app = json!([{"repository": "edge/app", "tag": ["v1"], "digest": digest(1)}]);
        let both = vec![group("a", &app).0, group("b", &app).0];
        let mut known = Known { groups: both.clone(), ..Known::default() };
        known.replace(vec![both[1].clone()]);
        assert!(known.retired.is_empty());
        known.replace(Vec::new());
        assert_eq!(known.retired.len(), 1);
        // It comes back before it went.
        known.replace(both);
        assert!(known.retired.is_empty() && places(&known) == ["edge/app:v1"]);
    }

    #[test]
    fn a_tag_that_moved_is_the_same_place_and_a_contradiction_is_told() {
        let at =
            |url, n| group(url, &json!([{"repository": "edge/app", "tag": ["v1"], "digest": digest(n)}])).0;
        let mut known = Known { groups: vec![at("a", 1)], ..Known::default() };
        known.replace(vec![at("a", 2)]);
        assert!(known.retired.is_empty() && known.wanted().0[0].0.digest == digest(2));
        known.replace(vec![at("b", 3), at("a", 2)]);
        let (wanted, wrong) = known.wanted();
        assert_eq!((wanted.len(), wanted[0].0.digest.as_str()), (1, digest(2).as_str()));
        assert_eq!(wrong.unwrap().cause, Cause::STATE_INVALID);
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[\\x00-\\x7f]{0,200}") {
            let _ = Group::read("u", "d", text.as_bytes());
        }
    }
}
