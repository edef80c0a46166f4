//! Artifacts and their tags.

use super::super::message::Reply;
use super::super::query::{Filter, Row, page};
use super::super::rights::may;
use super::super::state::{Repository, Stored, Tag};
use super::super::v2::{is_index, is_tag};
use super::repositories::immutable;
use super::{Answer, Call, NEVER, created};
use serde_json::{Map, Value, json};

const IMAGE_CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

impl Call<'_> {
    pub(super) fn artifacts(&mut self, project: &str, repository: &str) -> Answer {
        match self.method() {
            "GET" => {
                let id = self.allow_in(project, "artifact", "list")?;
                self.list_artifacts(&self.full_name(id, repository))
            }
            "POST" => {
                let id = self.allow_in(project, "artifact", "create")?;
                self.copy_artifact(id, repository)
            }
            _ => Err(self.not_allowed("GET,POST")),
        }
    }

    fn list_artifacts(&self, name: &str) -> Answer {
        let filter = Filter::of(self.request)?;
        let Some(repository) = self.state.repositories.get(name) else {
            return Ok(page(self.request, Vec::new()));
        };
        let hits = |(digest, artifact): &(&String, &Stored)| {
            let tagged = filter.exact("tags").is_none_or(|tag| repository.tags_of(digest).any(|t| t == tag));
            let kind = self.show_artifact(name, digest)["type"].as_str().unwrap_or_default().to_owned();
            tagged && filter.hits("type", &kind) && artifact.subject().is_none()
        };
        let mut all: Vec<_> = repository.artifacts.iter().filter(hits).collect();
        all.sort_by_key(|(_, artifact)| std::cmp::Reverse(artifact.id));
        let rows =
            all.into_iter().map(|(digest, a)| Row::new(digest, a.id, || self.show_artifact(name, digest)));
        Ok(page(self.request, rows.collect()))
    }

    /// `?from=project/name@digest` or `:tag`.
    fn copy_artifact(&mut self, project: u64, repository: &str) -> Answer {
        let from = self.request.query("from").unwrap_or_default().to_owned();
        let absent = || Reply::error(400, "BAD_REQUEST", &format!("artifact {from} not found"));
        let split = from.split_once('@').or_else(|| from.rsplit_once(':'));
        let (source, reference) = split.ok_or_else(absent)?;
        let (digest, bytes, media_type, blobs) = {
            let found = self.state.repositories.get(source).ok_or_else(absent)?;
            let digest = found.digest(reference).ok_or_else(absent)?;
            let artifact = &found.artifacts[digest];
            (digest.to_owned(), artifact.bytes.clone(), artifact.media_type.clone(), found.blobs.clone())
        };
        let name = self.full_name(project, repository);
        let (id, stamp) = (self.state.number(), self.state.clock.stamp());
        let target = self.state.repository_mut(&name);
        target.blobs.extend(blobs);
        if reference != digest {
            let tag = Tag { id, digest: digest.clone(), pushed: stamp.clone() };
            target.tags.insert(reference.into(), tag);
        }
        target.artifacts.entry(digest).or_insert(Stored { id, bytes, media_type, pushed: stamp });
        let project = &self.state.projects[&project].name;
        Ok(created(&format!("/api/v2.0/projects/{project}/repositories/{repository}/artifacts/{reference}")))
    }

    pub(super) fn artifact(&mut self, project: &str, repository: &str, reference: &str) -> Answer {
        let action = match self.method() {
            "GET" => "read",
            "DELETE" => "delete",
            _ => return Err(self.not_allowed("GET,DELETE")),
        };
        let id = self.allow_in(project, "artifact", action)?;
        let name = self.full_name(id, repository);
        let digest = self.digest(&name, reference)?;
        if action == "read" {
            return Ok(Reply::json(&self.show_artifact(&name, &digest)));
        }
        let found = &self.state.repositories[&name];
        if let Some(tag) = found.tags_of(&digest).find(|tag| self.state.is_immutable(&name, tag)) {
            return Err(immutable(tag));
        }
        let held = |a: &Stored| {
            a.manifest()["manifests"].as_array().into_iter().flatten().any(|c| c["digest"] == digest.as_str())
        };
        if found.artifacts.values().any(held) {
            let text = "the deleting artifact is referenced by others";
            return Err(Reply::error(412, "VIOLATE_FOREIGN_KEY_CONSTRAINT", text));
        }
        let repository = self.state.repository_mut(&name);
        repository.artifacts.remove(&digest);
        repository.tags.retain(|_, tag| tag.digest != digest);
        // What was about it goes with it.
        repository.artifacts.retain(|_, a| a.subject().as_deref() != Some(digest.as_str()));
        Ok(Reply::empty(200))
    }

    pub(super) fn accessories(&self, project: &str, repository: &str, reference: &str) -> Answer {
        let id = self.allow_in(project, "accessory", "list")?;
        let name = self.full_name(id, repository);
        let digest = self.digest(&name, reference)?;
        let shown = self.show_accessories(&name, &digest);
        Ok(page(self.request, shown.into_iter().map(|row| Row::new("", 0, || row)).collect()))
    }

    pub(super) fn tags(&mut self, project: &str, repository: &str, reference: &str) -> Answer {
        let action = match self.method() {
            "GET" => "list",
            "POST" => "create",
            _ => return Err(self.not_allowed("GET,POST")),
        };
        let body = if action == "create" { self.body("tag")? } else { Value::Null };
        let id = self.allow_in(project, "tag", action)?;
        let name = self.full_name(id, repository);
        let digest = self.digest(&name, reference)?;
        if action == "list" {
            let shown = self.show_tags(&name, &digest);
            return Ok(page(self.request, shown.into_iter().map(|row| Row::new("", 0, || row)).collect()));
        }
        let tag = body["name"].as_str().unwrap_or_default().to_owned();
        if !is_tag(&tag) {
            return Err(Reply::error(400, "BAD_REQUEST", &format!("bad request: invalid tag name: {tag}")));
        }
        let (id, pushed) = (self.state.number(), self.state.clock.stamp());
        let repository = self.state.repository_mut(&name);
        if repository.tags.contains_key(&tag) {
            let text = format!("tag {tag} already exists under the repository {}", repository.id);
            return Err(Reply::error(409, "CONFLICT", &text));
        }
        repository.tags.insert(tag, Tag { id, digest, pushed });
        Ok(Reply::empty(201))
    }

    pub(super) fn tag(&mut self, project: &str, repository: &str, reference: &str, tag: &str) -> Answer {
        if self.method() != "DELETE" {
            return Err(self.not_allowed("DELETE"));
        }
        let id = self.allow_in(project, "tag", "delete")?;
        let name = self.full_name(id, repository);
        let digest = self.digest(&name, reference)?;
        if self.state.is_immutable(&name, tag) {
            return Err(immutable(tag));
        }
        let repository = self.state.repository_mut(&name);
        if repository.tags.get(tag).is_none_or(|t| t.digest != digest) {
            let text = format!("tag {tag} attached to artifact {digest} not found");
            return Err(Reply::error(404, "NOT_FOUND", &text));
        }
        repository.tags.remove(tag);
        Ok(Reply::empty(200))
    }

    fn digest(&self, name: &str, reference: &str) -> Result<String, Reply> {
        let found = self.state.repositories.get(name).and_then(|r| r.digest(reference));
        found
            .map(str::to_owned)
            .ok_or_else(|| Reply::error(404, "NOT_FOUND", &format!("artifact {name}:{reference} not found")))
    }

    fn show_artifact(&self, name: &str, digest: &str) -> Value {
        let repository = &self.state.repositories[name];
        let artifact = &repository.artifacts[digest];
        let manifest = artifact.manifest();
        let project = self.state.project_of(name);
        let index = is_index(&artifact.media_type);
        let config = manifest["config"]["mediaType"].as_str().unwrap_or_default();
        let image = IMAGE_CONFIGS.contains(&config);
        let accessories = self.show_accessories(name, digest);
        let wants = self.request.query("with_accessory") == Some("true");
        let tags = self.show_tags(name, digest);
        let list = |items: Vec<Value>| if items.is_empty() { Value::Null } else { items.into() };
        let mut shown = Map::new();
        let mut put = |key: &str, value: Value| shown.insert(key.into(), value);
        put("accessories", if wants { list(accessories) } else { Value::Null });
        put("digest", digest.into());
        put("icon", "sha256:0048162a053eef4d4ce3fe7518615bef084403614f8bca43b40ae2e762e11e06".into());
        put("id", artifact.id.into());
        put("labels", Value::Null);
        put("manifest_media_type", artifact.media_type.as_str().into());
        put("media_type", if index { artifact.media_type.as_str() } else { config }.into());
        put("project_id", project.map_or(0, |p| p.id).into());
        put("pull_time", NEVER.into());
        put("push_time", artifact.pushed.as_str().into());
        put("references", list(self.show_children(repository, artifact)));
        put("repository_id", repository.id.into());
        put("repository_name", name.into());
        put("size", self.size(artifact).into());
        put("tags", list(tags));
        put("type", if index || image { "IMAGE" } else { "UNKNOWN" }.into());
        if !index {
            put("artifact_type", manifest["artifactType"].as_str().unwrap_or(config).into());
        }
        if manifest["annotations"].is_object() {
            put("annotations", manifest["annotations"].clone());
        }
        if image {
            let href = format!("/api/v2.0/projects/{name}/artifacts/{digest}/additions/build_history");
            put("addition_links", json!({"build_history": {"absolute": false, "href": href}}));
            put("extra_attrs", self.show_config(&manifest));
        }
        shown.into()
    }

    fn show_config(&self, manifest: &Value) -> Value {
        let digest = manifest["config"]["digest"].as_str().unwrap_or_default();
        let bytes = self.state.blobs.get(digest);
        let config: Value = bytes.and_then(|b| serde_json::from_slice(b).ok()).unwrap_or_default();
        json!({
            "architecture": config["architecture"], "author": "", "config": config["config"],
            "created": config["created"], "os": config["os"],
        })
    }

    fn show_children(&self, repository: &Repository, artifact: &Stored) -> Vec<Value> {
        let manifest = artifact.manifest();
        let children = manifest["manifests"].as_array().cloned().unwrap_or_default();
        let child = |entry: &Value| {
            let digest = entry["digest"].as_str().unwrap_or_default();
            let platform = json!({
                "OsFeatures": null, "architecture": entry["platform"]["architecture"], "os": entry["platform"]["os"],
            });
            json!({
                "child_digest": digest, "child_id": repository.artifacts.get(digest).map_or(0, |a| a.id),
                "parent_id": artifact.id, "platform": platform, "urls": null,
            })
        };
        children.iter().map(child).collect()
    }

    fn show_accessories(&self, name: &str, digest: &str) -> Vec<Value> {
        let repository = &self.state.repositories[name];
        let about = repository.artifacts.iter().filter(|(_, a)| a.subject().as_deref() == Some(digest));
        about
            .map(|(own, artifact)| {
                json!({
                    "artifact_id": artifact.id, "creation_time": artifact.pushed, "digest": own, "icon": "",
                    "id": artifact.id, "size": self.size(artifact), "subject_artifact_digest": digest,
                    "subject_artifact_id": repository.artifacts.get(digest).map_or(0, |a| a.id),
                    "subject_artifact_repo": name, "type": "subject.accessory",
                })
            })
            .collect()
    }

    fn show_tags(&self, name: &str, digest: &str) -> Vec<Value> {
        let repository = &self.state.repositories[name];
        if !self
            .state
            .project_of(name)
            .is_some_and(|p| may(self.state, self.who, Some(p.id), "artifact", "read"))
        {
            return Vec::new();
        }
        let of = repository.tags.iter().filter(|(_, tag)| tag.digest == digest);
        of.map(|(tag, facts)| {
            json!({
                "artifact_id": repository.artifacts[digest].id, "id": facts.id, "name": tag,
                "immutable": self.state.is_immutable(name, tag), "pull_time": NEVER, "push_time": facts.pushed,
                "repository_id": repository.id,
            })
        })
        .collect()
    }

    /// Of the manifest and what it names.
    fn size(&self, artifact: &Stored) -> u64 {
        let manifest = artifact.manifest();
        let own = artifact.bytes.len() as u64 + manifest["config"]["size"].as_u64().unwrap_or(0);
        let layers =
            manifest["layers"].as_array().into_iter().chain(manifest["manifests"].as_array()).flatten();
        own + layers.filter_map(|entry| entry["size"].as_u64()).sum::<u64>()
    }
}
