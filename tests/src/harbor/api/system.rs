//! What is about the whole: health, versions, users, settings, quotas.

use super::super::fault::Part;
use super::super::login::Who;
use super::super::message::Reply;
use super::super::query::{Row, page};
use super::super::rights::{PROJECT, SYSTEM};
use super::super::state::User;
use super::{Answer, Call, NEVER, created};
use serde_json::{Value, json};

impl Call<'_> {
    pub(super) fn ping(&self) -> Answer {
        Ok(Reply::empty(200).header("Content-Type", "text/plain").bytes(b"Pong".to_vec()))
    }

    /// Answers whatever is down, and says it.
    pub(super) fn health(&self, down: &[Part]) -> Answer {
        let parts = [
            ("core", None),
            ("database", Some(Part::Postgres)),
            ("jobservice", None),
            ("portal", None),
            ("redis", Some(Part::Redis)),
            ("registry", Some(Part::Registry)),
            ("registryctl", None),
        ];
        let is_down = |part: Option<Part>| part.is_some_and(|part| down.contains(&part));
        let components: Vec<Value> = parts
            .into_iter()
            .map(|(name, part)| {
                if is_down(part) {
                    json!({"name": name, "status": "unhealthy", "error": "dial tcp: connect: connection refused"})
                } else {
                    json!({"name": name, "status": "healthy"})
                }
            })
            .collect();
        let well = parts.iter().all(|(_, part)| !is_down(*part));
        Ok(Reply::json(
            &json!({"components": components, "status": if well { "healthy" } else { "unhealthy" }}),
        ))
    }

    pub(super) fn system_info(&self) -> Answer {
        let mut info = json!({
            "auth_mode": "db_auth", "banner_message": "", "oidc_provider_name": "", "primary_auth_mode": false,
            "self_registration": false,
        });
        if self.known().is_ok() {
            let host = self.request.host();
            let more = json!({
                "current_time": self.state.clock.stamp(), "external_url": format!("http://{host}"),
                "harbor_version": "v2.16.0-standin", "has_ca_root": false, "notification_enable": true,
                "project_creation_restriction": "everyone", "read_only": self.state.config.read_only,
                "registry_storage_provider_name": "filesystem", "registry_url": host,
            });
            let (Value::Object(all), Value::Object(more)) = (&mut info, more) else { unreachable!() };
            all.extend(more);
        }
        Ok(Reply::json(&info))
    }

    pub(super) fn permissions(&self) -> Answer {
        self.known()?;
        let pairs = |list: &[(&str, &[&str])]| -> Vec<Value> {
            list.iter()
                .flat_map(|(resource, actions)| {
                    actions.iter().map(move |action| json!({"action": action, "resource": resource}))
                })
                .collect()
        };
        Ok(Reply::json(&json!({"project": pairs(PROJECT), "system": pairs(SYSTEM)})))
    }

    pub(super) fn configurations(&mut self) -> Answer {
        self.allow("configuration", "update")?;
        if self.method() != "PUT" {
            return Err(self.not_allowed("PUT"));
        }
        let body = self.body("configurations")?;
        let config = &mut self.state.config;
        if let Some(prefix) = body["robot_name_prefix"].as_str() {
            config.prefix = prefix.into();
        }
        if let Some(minutes) = body["token_expiration"].as_i64() {
            config.token_minutes = minutes;
        }
        if let Some(read_only) = body["read_only"].as_bool() {
            config.read_only = read_only;
        }
        Ok(Reply::empty(200))
    }

    pub(super) fn users(&mut self) -> Answer {
        if self.method() != "POST" {
            return Err(self.not_allowed("POST"));
        }
        let body = self.body("userReq")?;
        self.allow("user", "create")?;
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let (name, password) = (text("username"), text("password"));
        if self.state.users.iter().any(|user| user.name == name) {
            let text = format!("user {name} or email {} already exists", text("email"));
            return Err(Reply::error(409, "CONFLICT", &text));
        }
        let id = self.state.users.len() as u64 + 2;
        self.state.users.push(User { id, name, password });
        Ok(created(&format!("/api/v2.0/users/{id}")))
    }

    pub(super) fn current_user(&self) -> Answer {
        self.known()?;
        let Who::User(name) = self.who else {
            let text = "get current user not available for security context: robot";
            return Err(Reply::error(412, "PRECONDITION", text));
        };
        let id = self.state.users.iter().find(|user| user.name == *name).map_or(0, |user| user.id);
        Ok(Reply::json(&json!({
            "admin_role_in_auth": false, "comment": "admin user", "creation_time": NEVER, "realname": "system admin",
            "sysadmin_flag": self.is_admin(), "update_time": NEVER, "user_id": id, "username": name,
        })))
    }

    /// A form with name and password, for a session.
    pub(super) fn log_in(&mut self) -> Answer {
        let form = String::from_utf8_lossy(&self.request.body).into_owned();
        let value = |name: &str| {
            form.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default()
        };
        let (user, password) = (value("principal"), value("password"));
        if !self.state.users.iter().any(|known| known.name == user && known.password == password) {
            return Err(Reply::error(401, "UNAUTHORIZED", "unauthorized"));
        }
        if let Some(sid) = self.request.cookie("sid") {
            self.state.sessions.insert(sid.into(), user.into());
        }
        Ok(Reply::empty(200))
    }

    pub(super) fn quotas(&self) -> Answer {
        self.allow("quota", "list")?;
        let wanted = self.request.query("reference_id").and_then(|id| id.parse::<u64>().ok());
        let projects = self.state.projects.values().filter(|p| wanted.is_none_or(|id| p.id == id));
        let rows = projects.map(|p| Row::new("", p.id, || self.quota_of(p.id)));
        Ok(page(self.request, rows.collect()))
    }

    /// A quota has its project's number.
    pub(super) fn quota(&mut self, id: &str) -> Answer {
        let id = self.number("id", id)?;
        self.allow("quota", "update")?;
        if !self.state.projects.contains_key(&id) {
            return Err(Reply::error(404, "NOT_FOUND", &format!("quota {id} not found")));
        }
        match self.method() {
            "GET" => Ok(Reply::json(&self.quota_of(id))),
            "PUT" => {
                let hard = self.body("hard")?["hard"]["storage"].as_i64();
                if let (Some(project), Some(limit)) = (self.state.projects.get_mut(&id), hard) {
                    project.limit = limit;
                }
                Ok(Reply::empty(200))
            }
            _ => Err(self.not_allowed("GET,PUT")),
        }
    }

    fn quota_of(&self, id: u64) -> Value {
        let project = &self.state.projects[&id];
        json!({
            "creation_time": project.created, "hard": {"storage": project.limit}, "id": id, "update_time": NEVER,
            "ref": {"id": id, "name": project.name, "owner_name": ""},
            "used": {"storage": self.state.used(&project.name)},
        })
    }

    /// There are none.
    pub(super) fn replication_policies(&self) -> Answer {
        self.allow("replication-policy", "list")?;
        Ok(page(self.request, Vec::new()))
    }
}
