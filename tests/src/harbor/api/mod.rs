//! `/api/v2.0`: a file a resource.

mod artifacts;
mod projects;
mod repositories;
mod robots;
mod system;

use super::Harbor;
use super::fault::Part;
use super::login::Who;
use super::message::{Reply, Request, decode};
use super::rights::may;
use super::state::{Project, State};
use serde_json::Value;

/// `Err` is an answer too.
type Answer = Result<Reply, Reply>;

/// A call on its way.
pub(super) struct Call<'a> {
    state: &'a mut State,
    who: &'a Who,
    request: &'a Request,
}

pub(super) fn answer(state: &mut State, who: &Who, request: &Request, down: &[Part]) -> Reply {
    let mut call = Call { state, who, request };
    call.route(down).unwrap_or_else(|refused| refused)
}

impl Call<'_> {
    fn route(&mut self, down: &[Part]) -> Answer {
        let path = self.request.path.clone();
        if path == "/api/version" {
            return Ok(Reply::text(200, "{\"version\":\"v2.0\"}"));
        }
        if path == "/c/login" {
            return self.log_in();
        }
        let not_found = || Reply::error(404, "NOT_FOUND", &format!("path {path} was not found"));
        let rest = path.strip_prefix("/api/v2.0/").ok_or_else(not_found)?;
        let mut accepted = self.request.all("accept").peekable();
        let json = |line: &str| line.contains("*/*") || line.contains("application/json");
        if accepted.peek().is_some() && !accepted.any(json) {
            let text = "validation failure list:\nunsupported media type requested, only [application/json] are available";
            return Err(Reply::error(422, "UNPROCESSABLE_ENTITY", text));
        }
        // The front decoded once; what is left in a part is the part's own.
        let parts: Vec<String> = rest.trim_end_matches('/').split('/').map(decode).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match parts[..] {
            ["ping"] => self.ping(),
            ["health"] => self.health(down),
            ["systeminfo"] => self.system_info(),
            ["permissions"] => self.permissions(),
            ["configurations"] => self.configurations(),
            ["users"] => self.users(),
            ["users", "current"] => self.current_user(),
            ["quotas"] => self.quotas(),
            ["quotas", id] => self.quota(id),
            ["replication", "policies"] => self.replication_policies(),
            ["robots"] => self.robots(),
            ["robots", id] => self.robot(id),
            ["repositories"] => self.all_repositories(),
            ["projects"] => self.projects(),
            ["projects", p] => self.project(p),
            ["projects", p, "_deletable"] => self.deletable(p),
            ["projects", p, "summary"] => self.summary(p),
            ["projects", p, "members"] => self.members(p),
            ["projects", p, "immutabletagrules"] => self.immutable_rules(p),
            ["projects", p, "repositories"] => self.repositories(p),
            ["projects", p, "repositories", r] => self.repository(p, r),
            ["projects", p, "repositories", r, "artifacts"] => self.artifacts(p, r),
            ["projects", p, "repositories", r, "artifacts", a] => self.artifact(p, r, a),
            ["projects", p, "repositories", r, "artifacts", a, "accessories"] => self.accessories(p, r, a),
            ["projects", p, "repositories", r, "artifacts", a, "tags"] => self.tags(p, r, a),
            ["projects", p, "repositories", r, "artifacts", a, "tags", t] => self.tag(p, r, a, t),
            _ => Err(not_found()),
        }
    }

    fn method(&self) -> &str {
        &self.request.method
    }

    fn not_allowed(&self, allowed: &str) -> Reply {
        let text = format!("method {} is not allowed, but [{allowed}] are", self.method());
        Reply::error(405, "METHOD_NOT_ALLOWED", &text)
    }

    /// The JSON of the body, which must be an object. `name` is what Harbor calls it.
    fn body(&self, name: &str) -> Result<Value, Reply> {
        let invalid = |text: &str| {
            Reply::error(422, "UNPROCESSABLE_ENTITY", &format!("validation failure list:\n{text}"))
        };
        if self.request.body.is_empty() {
            return Err(invalid(&format!("{name} in body is required")));
        }
        let media_type = self.request.header("content-type").unwrap_or("application/octet-stream");
        if media_type.split(';').next().map(str::trim) != Some("application/json") {
            let text =
                format!("unsupported media type \"{media_type}\", only [application/json] are allowed");
            return Err(invalid(&text));
        }
        let body: Value = serde_json::from_slice(&self.request.body)
            .map_err(|e| invalid(&format!("parsing {name} body from \"\" failed, because {e}")))?;
        if !body.is_object() {
            return Err(invalid(&format!("parsing {name} body from \"\" failed, because it is no object")));
        }
        Ok(body)
    }

    /// A name or number of a path.
    fn number(&self, name: &str, text: &str) -> Result<u64, Reply> {
        text.parse().map_err(|_| {
            let text = format!("validation failure list:\n{name} in path must be of type int64: {text:?}");
            Reply::error(422, "UNPROCESSABLE_ENTITY", &text)
        })
    }

    fn is_admin(&self) -> bool {
        matches!(self.who, Who::User(name) if name == Harbor::ADMIN)
    }

    /// The name that a refusal shows.
    fn caller(&self) -> String {
        match self.who {
            Who::User(name) => name.clone(),
            Who::Robot(id) => self.state.robots.get(id).map(|r| r.login(self.state)).unwrap_or_default(),
            Who::Anonymous | Who::Bearer(_) => String::new(),
        }
    }

    /// Somebody with a name.
    fn known(&self) -> Result<(), Reply> {
        match self.who {
            Who::User(_) | Who::Robot(_) => Ok(()),
            Who::Anonymous | Who::Bearer(_) => Err(Reply::error(401, "UNAUTHORIZED", "unauthorized")),
        }
    }

    /// Whether somebody may do that to the system.
    fn allow(&self, resource: &str, action: &str) -> Result<(), Reply> {
        self.known()?;
        let may = may(self.state, self.who, None, resource, action);
        if may { Ok(()) } else { Err(Reply::error(403, "FORBIDDEN", &self.caller())) }
    }

    /// Whether somebody may do that in a project. To others than administrators absent and forbidden are alike.
    fn allow_in(&self, project: &str, resource: &str, action: &str) -> Result<u64, Reply> {
        let found = self.find(project).map(|p| p.id);
        if let Some(id) = found
            && may(self.state, self.who, Some(id), resource, action)
        {
            return Ok(id);
        }
        self.known()?;
        if found.is_none() && self.is_admin() {
            return Err(Reply::error(404, "NOT_FOUND", &format!("project {project} not found")));
        }
        Err(Reply::error(403, "FORBIDDEN", "forbidden"))
    }

    /// By number if it is all digits, unless the request says that it is a name.
    fn find(&self, project: &str) -> Option<&Project> {
        let named = self.request.header("x-is-resource-name") == Some("true");
        match project.parse::<u64>() {
            Ok(id) if !named => self.state.projects.get(&id),
            _ => self.state.project_named(project),
        }
    }

    /// `project/name`.
    fn full_name(&self, project: u64, repository: &str) -> String {
        format!("{}/{repository}", self.state.projects[&project].name)
    }
}

fn created(location: &str) -> Reply {
    Reply::empty(201).header("Location", location)
}

/// Set in the answer for what has not happened yet.
const NEVER: &str = "0001-01-01T00:00:00.000Z";
