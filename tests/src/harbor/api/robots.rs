//! Robot accounts.

use super::super::login::{Who, random};
use super::super::message::Reply;
use super::super::query::{Filter, Row, page};
use super::super::rights::{PROJECT, SYSTEM, holds, may};
use super::super::state::{Access, Account, Permission, Scope};
use super::projects::satisfies_grammar;
use super::{Answer, Call};
use serde_json::{Map, Value, json};

const DAY: i64 = 86_400;

fn bad(text: &str) -> Reply {
    Reply::error(400, "BAD_REQUEST", text)
}

impl Call<'_> {
    pub(super) fn robots(&mut self) -> Answer {
        match self.method() {
            "GET" => self.list_robots(),
            "POST" => self.create_robot(),
            _ => Err(self.not_allowed("GET,POST")),
        }
    }

    fn list_robots(&self) -> Answer {
        self.known()?;
        let filter = Filter::of(self.request)?;
        let project = if filter.exact("level") == Some("project") {
            let id = filter.exact("projectid").and_then(|id| id.parse::<u64>().ok());
            Some(id.ok_or_else(|| bad("must with project ID when to query project robots"))?)
        } else {
            None
        };
        if !may(self.state, self.who, project, "robot", "list") {
            return Err(Reply::error(403, "FORBIDDEN", &self.caller()));
        }
        // By the name without prefix, here and in the filter.
        let mut robots: Vec<&Account> = self
            .state
            .robots
            .values()
            .filter(|robot| robot.project == project && filter.hits("name", &robot.name))
            .collect();
        robots.sort_by(|a, b| a.name.cmp(&b.name));
        let rows = robots.into_iter().map(|robot| Row::new(&robot.name, robot.id, || self.show_robot(robot)));
        Ok(page(self.request, rows.collect()))
    }

    fn create_robot(&mut self) -> Answer {
        let body = self.body("robot")?;
        if body.get("duration").is_some_and(|d| !d.is_number()) {
            let text = "validation failure list:\nparsing robot body from \"\" failed, because duration is of another type";
            return Err(Reply::error(422, "UNPROCESSABLE_ENTITY", text));
        }
        self.known()?;
        let name = body["name"].as_str().unwrap_or_default().to_owned();
        if !satisfies_grammar(&name) {
            return Err(bad("robot name is not in lower case or contains illegal characters"));
        }
        let duration = check_duration(&body)?;
        let level = body["level"].as_str().unwrap_or_default();
        if !matches!(level, "system" | "project") {
            return Err(bad(&format!("bad request error level input: {level}")));
        }
        let permissions = self.permissions_of(&body)?;
        let project = match (level, &permissions[..]) {
            ("project", [Permission { scope: Scope::Project(id), .. }]) => Some(*id),
            ("project", _) => return Err(bad("bad request permission")),
            _ => None,
        };
        if !may(self.state, self.who, project, "robot", "create") {
            let text = if project.is_some() { "forbidden".into() } else { self.caller() };
            return Err(Reply::error(403, "FORBIDDEN", &text));
        }
        self.check_within_own(&permissions)?;
        if name.len() > 255 {
            return Err(Reply::error(500, "UNKNOWN", "internal server error"));
        }
        if self.state.robots.values().any(|r| r.name == name && r.project == project) {
            let text = format!("robot account {}:{name} already exists", project.unwrap_or(0));
            return Err(Reply::error(409, "CONFLICT", &text));
        }
        let (now, stamp) = (self.state.clock.now(), self.state.clock.stamp());
        let id = self.state.next_robot;
        self.state.next_robot += 1;
        let robot = Account {
            id,
            name,
            project,
            description: body["description"].as_str().unwrap_or_default().into(),
            secret: new_secret(),
            disable: body["disable"].as_bool().unwrap_or(false),
            duration,
            created: (now, stamp),
            expires_at: expiry(now, duration),
            creator: self.creator(),
            permissions,
        };
        let shown = json!({
            "creation_time": robot.created.1, "expires_at": robot.expires_at, "id": id,
            "name": robot.login(self.state), "secret": robot.secret,
        });
        self.state.robots.insert(id, robot);
        let reply = Reply::json(&shown).status(201);
        Ok(reply.header("Location", &format!("/api/v2.0/robots/{id}")))
    }

    fn creator(&self) -> (u64, &'static str) {
        match self.who {
            Who::Robot(id) => (*id, "robot"),
            _ => (1, "local"),
        }
    }

    /// A robot gives nobody more than it has.
    fn check_within_own(&self, permissions: &[Permission]) -> Result<(), Reply> {
        let Who::Robot(id) = self.who else { return Ok(()) };
        let own = &self.state.robots[id].permissions;
        let within = permissions.iter().all(|wanted| {
            wanted.access.iter().all(|access| {
                own.iter()
                    .any(|p| (p.scope == wanted.scope || p.scope == Scope::All) && p.access.contains(access))
            })
        });
        if within {
            return Ok(());
        }
        let text = format!(
            "permission scope is invalid. It must be equal to or more restrictive than the creator robot's permissions: {}",
            self.caller()
        );
        Err(Reply::error(403, "DENIED", &text))
    }

    fn permissions_of(&self, body: &Value) -> Result<Vec<Permission>, Reply> {
        let empty = || bad("bad request empty permission");
        let list = body["permissions"].as_array().filter(|list| !list.is_empty()).ok_or_else(empty)?;
        list.iter().map(|entry| self.permission_of(entry)).collect()
    }

    fn permission_of(&self, entry: &Value) -> Result<Permission, Reply> {
        if entry.is_null() {
            return Err(bad("bad request empty permission"));
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (kind, namespace) = (text(&entry["kind"]), text(&entry["namespace"]));
        let pairs = match kind.as_str() {
            "project" => PROJECT,
            "system" => SYSTEM,
            other => return Err(bad(&format!("bad request permission level: {other}"))),
        };
        let access = entry["access"].as_array().filter(|list| !list.is_empty());
        let access = access.ok_or_else(|| bad("bad request empty access"))?.iter().map(|a| Access {
            resource: text(&a["resource"]),
            action: text(&a["action"]),
            effect: text(&a["effect"]),
        });
        let access: Vec<Access> = access.collect();
        if let Some(a) = access.iter().find(|a| !holds(pairs, &a.resource, &a.action)) {
            return Err(bad(&format!("bad request permission: {}:{}", a.resource, a.action)));
        }
        let scope = match (kind.as_str(), namespace.as_str()) {
            ("system", _) => Scope::System,
            (_, "*") => Scope::All,
            (_, name) => {
                let project = self
                    .state
                    .project_named(name)
                    .ok_or_else(|| Reply::error(404, "NOT_FOUND", &format!("project {name} not found")))?;
                Scope::Project(project.id)
            }
        };
        Ok(Permission { kind, scope, access })
    }

    pub(super) fn robot(&mut self, id: &str) -> Answer {
        let action = match self.method() {
            "GET" => "read",
            "PUT" | "PATCH" => "update",
            "DELETE" => "delete",
            _ => return Err(self.not_allowed("GET,PUT,PATCH,DELETE")),
        };
        let id = self.number("robot_id", id)?;
        let body = match self.method() {
            "PUT" => self.body("robot")?,
            "PATCH" => self.body("robotSec")?,
            _ => Value::Null,
        };
        self.known()?;
        let Some(robot) = self.state.robots.get(&id) else {
            return Err(Reply::error(404, "NOT_FOUND", &format!("robot {id} not found")));
        };
        // robot:update can be granted to nobody: only users have it.
        if !may(self.state, self.who, robot.project, "robot", action) {
            return Err(Reply::error(403, "FORBIDDEN", &self.caller()));
        }
        match self.method() {
            "GET" => Ok(Reply::json(&self.show_robot(robot))),
            "PUT" => self.update_robot(id, &body),
            "PATCH" => self.refresh_robot(id, &body),
            _ => {
                self.state.robots.remove(&id);
                Ok(Reply::empty(200))
            }
        }
    }

    fn update_robot(&mut self, id: u64, body: &Value) -> Answer {
        let robot = &self.state.robots[&id];
        let level = if robot.project.is_some() { "project" } else { "system" };
        if body["name"] != robot.login(self.state).as_str() || body["level"] != level {
            return Err(bad("cannot update the level or name of robot"));
        }
        let duration = check_duration(body)?;
        let permissions = self.permissions_of(body)?;
        let Some(robot) = self.state.robots.get_mut(&id) else { unreachable!("it was there") };
        robot.description = body["description"].as_str().unwrap_or_default().into();
        robot.disable = body["disable"].as_bool().unwrap_or(false);
        // From the creation, not from now.
        robot.expires_at = expiry(robot.created.0, duration);
        robot.duration = duration;
        robot.permissions = permissions;
        Ok(Reply::empty(200))
    }

    /// A new secret, and nothing else: who is expired stays so.
    fn refresh_robot(&mut self, id: u64, body: &Value) -> Answer {
        let given = body["secret"].as_str().unwrap_or_default();
        let has = |class: fn(&u8) -> bool| given.as_bytes().iter().any(class);
        let good = (8..=128).contains(&given.len())
            && has(u8::is_ascii_uppercase)
            && has(u8::is_ascii_lowercase)
            && has(u8::is_ascii_digit);
        if !given.is_empty() && !good {
            return Err(bad(
                "the secret must be 8-128, inclusively, characters long with at least 1 uppercase letter, \
                 1 lowercase letter and 1 number",
            ));
        }
        let secret = if given.is_empty() { new_secret() } else { given.to_owned() };
        if let Some(robot) = self.state.robots.get_mut(&id) {
            robot.secret.clone_from(&secret);
        }
        Ok(Reply::json(&if given.is_empty() { json!({"secret": secret}) } else { json!({}) }))
    }

    fn show_robot(&self, robot: &Account) -> Value {
        let access = |a: &Access| {
            let mut shown = json!({"action": a.action, "resource": a.resource});
            if !a.effect.is_empty() {
                shown["effect"] = a.effect.as_str().into();
            }
            shown
        };
        let permissions: Vec<Value> = robot
            .permissions
            .iter()
            .map(|p| {
                let access: Vec<Value> = p.access.iter().map(access).collect();
                json!({"kind": p.kind, "namespace": p.scope.name(self.state), "access": access})
            })
            .collect();
        let mut shown = Map::new();
        let mut put = |name: &str, value: Value| shown.insert(name.into(), value);
        put("id", robot.id.into());
        put("name", robot.login(self.state).into());
        put("level", if robot.project.is_some() { "project" } else { "system" }.into());
        put("duration", robot.duration.into());
        put("disable", robot.disable.into());
        put("editable", true.into());
        put("expires_at", robot.expires_at.into());
        put("creation_time", robot.created.1.as_str().into());
        put("update_time", robot.created.1.as_str().into());
        put("creator_ref", robot.creator.0.into());
        put("creator_type", robot.creator.1.into());
        put("permissions", permissions.into());
        if !robot.description.is_empty() {
            put("description", robot.description.as_str().into());
        }
        shown.into()
    }
}

fn check_duration(body: &Value) -> Result<i64, Reply> {
    let duration = body["duration"].as_i64().unwrap_or(0);
    if duration == -1 || duration > 0 {
        return Ok(duration);
    }
    let text = format!(
        "bad request error duration input: {duration}, duration must be either -1(Never) or a positive integer"
    );
    Err(bad(&text))
}

fn expiry(created: i64, days: i64) -> i64 {
    if days < 0 { -1 } else { created + days * DAY }
}

/// As Harbor's: letters of both cases and digits.
fn new_secret() -> String {
    format!("{}Aa1", random(29))
}
