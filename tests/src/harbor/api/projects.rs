//! Projects, their members and immutability rules.

use super::super::login::Who;
use super::super::message::Reply;
use super::super::query::{Filter, Row, page};
use super::super::rights::may;
use super::super::state::{Project, Rule, Scope};
use super::{Answer, Call, NEVER, created};
use serde_json::{Value, json};

impl Call<'_> {
    pub(super) fn projects(&mut self) -> Answer {
        match self.method() {
            "GET" => self.list_projects(),
            "HEAD" => {
                self.known()?;
                let name = self.request.query("project_name").unwrap_or_default();
                match self.state.project_named(name) {
                    Some(_) => Ok(Reply::empty(200)),
                    None => Err(Reply::error(404, "NOT_FOUND", &format!("project {name} not found"))),
                }
            }
            "POST" => self.create_project(),
            _ => Err(self.not_allowed("GET,POST,HEAD")),
        }
    }

    fn list_projects(&self) -> Answer {
        let filter = Filter::of(self.request)?;
        let seen = |p: &&Project| {
            let robot = match self.who {
                Who::Robot(id) => self.state.robots[id].permissions.iter().any(|permission| {
                    permission.scope == Scope::All || permission.scope == Scope::Project(p.id)
                }),
                _ => false,
            };
            robot || may(self.state, self.who, Some(p.id), "project", "read")
        };
        let mut projects: Vec<&Project> =
            self.state.projects.values().filter(seen).filter(|p| filter.hits("name", &p.name)).collect();
        projects.sort_by(|a, b| a.name.cmp(&b.name));
        let rows = projects.into_iter().map(|p| Row::new(&p.name, p.id, || self.show_project(p)));
        Ok(page(self.request, rows.collect()))
    }

    fn create_project(&mut self) -> Answer {
        let body = self.body("project")?;
        self.allow("project", "create")?;
        let name = body["project_name"].as_str().unwrap_or_default();
        if name.is_empty() || name.len() > 255 {
            let text = format!("Project name {name} is illegal in length. (greater than 255 or less than 1)");
            return Err(Reply::error(400, "BAD_REQUEST", &text));
        }
        if !satisfies_grammar(name) {
            let text = "project name is not in lower case or contains illegal characters";
            return Err(Reply::error(400, "BAD_REQUEST", text));
        }
        let limit = body["storage_limit"].as_i64().unwrap_or(-1);
        if limit < -1 || limit == 0 {
            let text = format!("bad request: invalid non-positive value for quota limit, value={limit}");
            return Err(Reply::error(400, "BAD_REQUEST", &text));
        }
        if self.state.project_named(name).is_some() {
            let text = format!("The project named {name} already exists");
            return Err(Reply::error(409, "CONFLICT", &text));
        }
        let public = body["metadata"]["public"] == "true" || body["public"] == true;
        // A robot gets no right in what it makes.
        let owner = match self.who {
            Who::User(name) => name.clone(),
            _ => String::new(),
        };
        let id = self.state.make_project(name, public, limit, &owner);
        let by_name = self.request.header("x-resource-name-in-location") == Some("true");
        let last = if by_name { name.to_owned() } else { id.to_string() };
        Ok(created(&format!("/api/v2.0/projects/{last}")))
    }

    pub(super) fn project(&mut self, project: &str) -> Answer {
        let action = match self.method() {
            "GET" => "read",
            "PUT" => "update",
            "DELETE" => "delete",
            _ => return Err(self.not_allowed("GET,PUT,DELETE,HEAD")),
        };
        let id = self.allow_in(project, "project", action)?;
        match action {
            "read" => Ok(Reply::json(&self.show_project(&self.state.projects[&id]))),
            "update" => {
                let body = self.body("project")?;
                if let (Some(project), Some(more)) =
                    (self.state.projects.get_mut(&id), body["metadata"].as_object())
                {
                    project.metadata.extend(more.clone());
                    project.public = project.metadata["public"] == "true";
                }
                Ok(Reply::empty(200))
            }
            _ if self.has_repositories(id) => {
                let text = "precondition failed: the project contains repositories, can not be deleted";
                Err(Reply::error(412, "PRECONDITION", text))
            }
            _ => {
                self.state.drop_project(id);
                Ok(Reply::empty(200))
            }
        }
    }

    pub(super) fn deletable(&self, project: &str) -> Answer {
        let id = self.allow_in(project, "project", "delete")?;
        Ok(Reply::json(&if self.has_repositories(id) {
            json!({"message": "the project contains repositories, can not be deleted"})
        } else {
            json!({"deletable": true})
        }))
    }

    pub(super) fn summary(&self, project: &str) -> Answer {
        let id = self.allow_in(project, "project", "read")?;
        let project = &self.state.projects[&id];
        Ok(Reply::json(&json!({
            "project_admin_count": project.members.len(), "repo_count": self.repo_count(&project.name),
            "quota": {"hard": {"storage": project.limit}, "used": {"storage": self.state.used(&project.name)}},
        })))
    }

    /// Only project administrators (role 1) are known.
    pub(super) fn members(&mut self, project: &str) -> Answer {
        let id = self.allow_in(project, "member", "create")?;
        if self.method() != "POST" {
            return Err(self.not_allowed("POST"));
        }
        let body = self.body("projectMember")?;
        let user = body["member_user"]["username"].as_str().unwrap_or_default().to_owned();
        let number = self.state.number();
        if let Some(project) = self.state.projects.get_mut(&id) {
            project.members.insert(user);
        }
        Ok(created(&format!("/api/v2.0/projects/{project}/members/{number}")))
    }

    pub(super) fn immutable_rules(&mut self, project: &str) -> Answer {
        match self.method() {
            "GET" => {
                let id = self.allow_in(project, "immutable-tag", "list")?;
                let rules = self.state.rules.iter().filter(|rule| rule.project == id);
                let rows = rules.map(|rule| Row::new("", rule.id, || rule.body.clone()));
                Ok(page(self.request, rows.collect()))
            }
            "POST" => {
                let id = self.allow_in(project, "immutable-tag", "create")?;
                let mut body = self.body("ImmutableRule")?;
                let number = self.state.rules.len() as u64 + 1;
                body["id"] = number.into();
                if let Some(object) = body.as_object_mut() {
                    object.remove("disabled");
                }
                self.state.rules.push(Rule { id: number, project: id, body });
                Ok(created(&format!("/api/v2.0/projects/{project}/immutabletagrules/{number}")))
            }
            _ => Err(self.not_allowed("GET,POST")),
        }
    }

    fn has_repositories(&self, id: u64) -> bool {
        self.repo_count(&self.state.projects[&id].name) > 0
    }

    fn repo_count(&self, name: &str) -> usize {
        self.state.repositories.keys().filter(|r| r.split('/').next() == Some(name)).count()
    }

    fn show_project(&self, project: &Project) -> Value {
        let member = matches!(self.who, Who::User(name) if self.is_admin() || project.members.contains(name));
        let mut shown = json!({
            "creation_time": project.created, "metadata": project.metadata, "name": project.name, "owner_id": 1,
            "owner_name": project.owner, "project_id": project.id, "repo_count": self.repo_count(&project.name),
            "update_time": project.created, "current_user_role_ids": if member { json!([1]) } else { Value::Null },
            "cve_allowlist": {
                "creation_time": NEVER, "id": project.id, "items": [], "project_id": project.id, "update_time": NEVER,
            },
        });
        if member {
            shown["current_user_role_id"] = 1.into();
        }
        shown
    }
}

/// `^[a-z0-9]+(?:[._-][a-z0-9]+)*$`, for projects and robots.
pub(super) fn satisfies_grammar(name: &str) -> bool {
    let part = |p: &str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    name.split(['.', '_', '-']).all(part)
}
