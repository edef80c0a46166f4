//! Which images a group has, and which groups a satellite.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{FieldError, Name, StateKind, is_false, null_is_default};
use crate::oci::{Digest, Repository, Tag};

/// Most artifacts of a group.
const MAX_ARTIFACTS: usize = 50_000;

/// A group: the body of `POST /api/groups/sync`, and what is published as its state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupState {
    /// Its name.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Scheme and host of the registry that has the images. Whatever a caller sends, Ground Control puts its own.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub registry: String,
    /// The images.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
}

/// One digest of a group under its tags.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Artifact {
    /// Project and name: `edge/app`.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub repository: String,
    /// All tags that name it.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub tag: Vec<String>,
    /// Whatever the caller likes. The reference's satellite reads nothing but `null` and lists of texts: any other
    /// value makes the whole group unreadable to it, see [`GroupState::for_publishing`].
    #[serde(skip_serializing_if = "Value::is_null")]
    pub labels: Value,
    /// `docker`, `oci`; no one decides by it.
    #[serde(rename = "type", deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Of the manifest; empty if only the tags count.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// No longer part of the group. The reference's satellite does not look at it.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_false")]
    pub deleted: bool,
}

impl Artifact {
    /// The project in Harbor: what stands before the first slash.
    pub fn project(&self) -> Option<&str> {
        self.repository.split_once('/').map(|(project, _)| project).filter(|p| !p.is_empty())
    }
}

impl GroupState {
    /// Whether satellites can read it and a registry can have it.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn check(&self) -> Result<(), FieldError> {
        self.group.parse::<Name>().map_err(|e| FieldError::new("group", e.to_string()))?;
        StateKind::Group.repository(&self.group).map_err(|e| FieldError::new("group", e.to_string()))?;
        if self.artifacts.len() > MAX_ARTIFACTS {
            return Err(FieldError::new("artifacts", format!("at most {MAX_ARTIFACTS} in a group")));
        }
        for (i, artifact) in self.artifacts.iter().enumerate() {
            let field = |name: &str| format!("artifacts[{i}].{name}");
            if artifact.project().is_none() {
                return Err(FieldError::new(field("repository"), "must have a project, as in edge/app"));
            }
            artifact
                .repository
                .parse::<Repository>()
                .map_err(|e| FieldError::new(field("repository"), e.to_string()))?;
            for (j, tag) in artifact.tag.iter().enumerate() {
                tag.parse::<Tag>()
                    .map_err(|e| FieldError::new(field(&format!("tag[{j}]")), e.to_string()))?;
            }
            if !artifact.digest.is_empty() {
                artifact
                    .digest
                    .parse::<Digest>()
                    .map_err(|e| FieldError::new(field("digest"), e.to_string()))?;
            }
        }
        Ok(())
    }

    /// Projects whose images it has, sorted, each once; those of deleted artifacts do not count.
    pub fn projects(&self) -> Vec<&str> {
        let mut projects: Vec<&str> =
            self.artifacts.iter().filter(|a| !a.deleted).filter_map(Artifact::project).collect();
        projects.sort_unstable();
        projects.dedup();
        projects
    }

    /// What every satellite reads alike, the reference's too: from `registry`, without the deleted artifacts (it
    /// replicates them), with labels as a list of texts (`{"a":"b"}` becomes `["a=b"]`).
    #[must_use]
    pub fn for_publishing(&self, registry: &str) -> Self {
        let artifacts = self.artifacts.iter().filter(|a| !a.deleted).cloned();
        let artifacts = artifacts.map(|a| Artifact { labels: label_list(&a.labels), ..a }).collect();
        Self { group: self.group.clone(), registry: registry.into(), artifacts }
    }
}

/// Texts of a list, `key=value` of an object, one text of anything else; `null` for nothing.
fn label_list(labels: &Value) -> Value {
    let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), String::from);
    let list: Vec<String> = match labels {
        Value::Null => Vec::new(),
        Value::Array(items) => items.iter().map(text).collect(),
        Value::Object(map) => map.iter().map(|(k, v)| format!("{k}={}", text(v))).collect(),
        other => vec![text(other)],
    };
    if list.is_empty() { Value::Null } else { list.into() }
}

/// What a satellite is told to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SatelliteState {
    /// Where its groups' states are, with scheme and tag.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<String>,
    /// Where its configuration is. The reference's satellite logs an error each cycle if it has none.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub config: String,
}
