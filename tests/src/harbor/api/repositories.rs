//! Repositories.

use super::super::message::Reply;
use super::super::query::{Filter, Row, page};
use super::super::rights::may;
use super::super::state::Repository;
use super::{Answer, Call};
use serde_json::{Value, json};

impl Call<'_> {
    pub(super) fn all_repositories(&self) -> Answer {
        self.known()?;
        self.list_repositories(None)
    }

    pub(super) fn repositories(&self, project: &str) -> Answer {
        let id = self.allow_in(project, "repository", "list")?;
        self.list_repositories(Some(id))
    }

    fn list_repositories(&self, project: Option<u64>) -> Answer {
        let filter = Filter::of(self.request)?;
        let seen = |(name, _): &(&String, &Repository)| {
            let Some(owner) = self.state.project_of(name) else { return false };
            project.map_or_else(
                || may(self.state, self.who, Some(owner.id), "repository", "list"),
                |p| p == owner.id,
            ) && filter.hits("name", name)
        };
        let mut all: Vec<_> = self.state.repositories.iter().filter(seen).collect();
        all.sort_by_key(|(_, repository)| std::cmp::Reverse(repository.id));
        let rows = all.into_iter().map(|(name, r)| Row::new(name, r.id, || self.show_repository(name)));
        Ok(page(self.request, rows.collect()))
    }

    pub(super) fn repository(&mut self, project: &str, repository: &str) -> Answer {
        let action = match self.method() {
            "GET" => "read",
            "DELETE" => "delete",
            _ => return Err(self.not_allowed("GET,DELETE,PUT")),
        };
        let id = self.allow_in(project, "repository", action)?;
        let name = self.full_name(id, repository);
        let Some(found) = self.state.repositories.get(&name) else {
            return Err(Reply::error(404, "NOT_FOUND", &format!("repository {name} not found")));
        };
        if action == "read" {
            return Ok(Reply::json(&self.show_repository(&name)));
        }
        if let Some(tag) = found.tags.keys().find(|tag| self.state.is_immutable(&name, tag)) {
            return Err(immutable(tag));
        }
        self.state.repositories.remove(&name);
        Ok(Reply::empty(200))
    }

    fn show_repository(&self, name: &str) -> Value {
        let repository = &self.state.repositories[name];
        let project = self.state.project_of(name).map_or(0, |p| p.id);
        json!({
            "artifact_count": repository.artifacts.values().filter(|a| a.subject().is_none()).count(),
            "creation_time": repository.created, "id": repository.id, "name": name, "project_id": project,
            "pull_count": repository.pulls, "update_time": repository.updated,
        })
    }
}

/// The refusal to touch such a tag.
pub(super) fn immutable(tag: &str) -> Reply {
    let text = format!("the tag {tag} configured as immutable, cannot be deleted");
    Reply::error(412, "PRECONDITION", &text)
}
