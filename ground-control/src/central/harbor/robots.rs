//! Robot accounts: of system level, one for each satellite, which may pull and nothing else.

use std::{
    collections::BTreeSet,
    time::{SystemTime, UNIX_EPOCH},
};

use satellite_core::{fleet::is_robot_name, remote::Secret};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use surf::http::Method;

use super::{
    super::{Error, Result, Robot, RobotRow, RobotWant},
    Harbor,
    api::Answer,
};

const DAY: i64 = 86_400;
/// Entries of a page; Harbor's most.
const PAGE: usize = 100;
/// Most pages of the list.
const MAX_PAGES: usize = 10_000;

/// The answer to a creation.
#[derive(Deserialize)]
struct Created {
    id: i64,
    name: String,
    secret: String,
    expires_at: i64,
}

/// The answer to a refresh.
#[derive(Deserialize)]
struct Refreshed {
    #[serde(default)]
    secret: String,
}

/// A robot as Harbor shows it. An update sends it back whole, with what is changed.
#[derive(Clone, Debug, Deserialize)]
struct Found {
    id: i64,
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    disable: bool,
    #[serde(default)]
    duration: i64,
    /// -1: never, and so for those of old that do not say.
    #[serde(default = "never")]
    expires_at: i64,
    #[serde(default)]
    creation_time: String,
    #[serde(default)]
    permissions: Vec<Permission>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

fn never() -> i64 {
    -1
}

#[derive(Clone, Debug, Deserialize)]
struct Permission {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    access: Vec<Access>,
}

#[derive(Clone, Debug, Deserialize)]
struct Access {
    #[serde(default)]
    resource: String,
    #[serde(default)]
    action: String,
    #[serde(default)]
    effect: String,
}

impl Access {
    fn as_sent(&self) -> Value {
        let mut sent = json!({"resource": self.resource, "action": self.action});
        if !self.effect.is_empty() {
            sent["effect"] = self.effect.as_str().into();
        }
        sent
    }
}

/// What an update changes.
#[derive(Default)]
struct Change {
    permissions: Option<Value>,
    duration: Option<i64>,
    enable: bool,
}

impl Found {
    fn row(self) -> RobotRow {
        RobotRow { id: self.id.to_string(), expires_at: self.expires(), login: self.name }
    }

    /// Unix seconds; `None`: never.
    fn expires(&self) -> Option<i64> {
        (self.expires_at >= 0).then_some(self.expires_at)
    }

    /// Unix seconds.
    fn created(&self) -> Option<i64> {
        // Exact, where it expires at all.
        let by_life =
            (self.expires_at >= 0 && self.duration > 0).then(|| self.expires_at - self.duration * DAY);
        by_life.or_else(|| self.creation_time.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second))
    }

    /// The duration, in days from its creation, with which it lives for `days` from `now` (less a part of a day).
    fn duration_for(&self, days: u32, now: i64) -> Option<i64> {
        let age = (now - self.created()?).max(0);
        Some(age / DAY + i64::from(days))
    }

    /// Whether it may pull from these projects and do nothing else.
    fn is_right(&self, projects: &BTreeSet<String>) -> bool {
        let mut may = BTreeSet::new();
        for permission in &self.permissions {
            let pull_only = permission.access.iter().all(|a| {
                a.resource == "repository" && a.action == "pull" && matches!(a.effect.as_str(), "" | "allow")
            });
            if permission.kind != "project" || !pull_only {
                return false;
            }
            if !permission.access.is_empty() {
                may.insert(permission.namespace.as_str());
            }
        }
        may.into_iter().eq(projects.iter().map(String::as_str))
    }

    fn with(&self, change: &Change) -> Value {
        let mut body = self.rest.clone();
        // Empty where it has none left, because its projects are gone: refused, as it should be.
        let kept = || {
            let entry = |p: &Permission| {
                let access: Vec<Value> = p.access.iter().map(Access::as_sent).collect();
                json!({"kind": p.kind, "namespace": p.namespace, "access": access})
            };
            Value::Array(self.permissions.iter().map(entry).collect())
        };
        body.insert("id".into(), self.id.into());
        body.insert("name".into(), self.name.as_str().into());
        body.insert("description".into(), self.description.as_str().into());
        body.insert("disable".into(), (self.disable && !change.enable).into());
        body.insert("duration".into(), change.duration.unwrap_or(self.duration).into());
        body.insert("permissions".into(), change.permissions.clone().unwrap_or_else(kept));
        Value::Object(body)
    }
}

fn pull_from(projects: &BTreeSet<String>) -> Value {
    let entry = |project: &String| json!({"kind": "project", "namespace": project, "access": [{"resource": "repository", "action": "pull"}]});
    Value::Array(projects.iter().map(entry).collect())
}

fn now(answer: &Answer) -> i64 {
    // Its own clock counts where it says what that is: ours may have jumped.
    answer.date.unwrap_or_else(|| {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|d| i64::try_from(d.as_secs()).ok())
            .unwrap_or_default()
    })
}

impl Harbor {
    pub(super) async fn make_robot(&self, want: &RobotWant) -> Result<Robot> {
        if !is_robot_name(&want.name) {
            let text = format!(
                "{:?} cannot be a robot's name in Harbor: lower-case letters and digits, with single . _ - between them",
                want.name
            );
            return Err(Error::permanent("name", text));
        }
        if want.projects.is_empty() {
            let text = format!("robot {}: Harbor wants one project at least", want.name);
            return Err(Error::permanent("no_project", text));
        }
        if let Some(id) = &want.known_id
            && let Some((found, now)) = self.robot(id).await?
        {
            return self.bring(found, now, want).await;
        }
        let body = json!({
            "name": want.name,
            "description": self.description,
            "disable": false,
            "level": "system",
            "duration": want.days.max(1),
            "permissions": pull_from(&want.projects),
        });
        let answer = self.api.call(Method::Post, "robots", Some(&body)).await?;
        match answer.status {
            201 => {
                let made: Created = answer.json()?;
                Ok(Robot {
                    id: made.id.to_string(),
                    login: made.name,
                    secret: Some(Secret::from(made.secret)),
                    expires_at: (made.expires_at >= 0).then_some(made.expires_at),
                })
            }
            404 => Err(self.which_project(want, answer.refusal()).await),
            409 => {
                let found = self.robot_by_name(&want.name).await?.ok_or_else(|| {
                    Error::transient("conflict", format!("robot {} comes and goes in Harbor", want.name))
                })?;
                self.bring(found, now(&answer), want).await
            }
            _ => Err(answer.refusal()),
        }
    }

    /// Brings a robot that is there to the rights wanted, and makes it live on if half of its life is over.
    async fn bring(&self, found: Found, now: i64, want: &RobotWant) -> Result<Robot> {
        if found.description != self.description {
            let text = format!(
                "robot {} is in Harbor already, and is not managed by this server: delete it there, or take another name",
                found.name
            );
            return Err(Error::permanent("conflict", text));
        }
        let half = i64::from(want.days) * DAY / 2;
        let short = found.expires().is_none_or(|at| at - now < half);
        let duration = if short { found.duration_for(want.days.max(1), now) } else { None };
        let change = Change {
            permissions: (!found.is_right(&want.projects)).then(|| pull_from(&want.projects)),
            duration: duration.filter(|d| *d != found.duration),
            enable: found.disable,
        };
        let expires_at = self.change(&found, &change, Some(want)).await?;
        Ok(Robot { id: found.id.to_string(), login: found.name, secret: None, expires_at })
    }

    pub(super) async fn renew_robot(&self, id: &str) -> Result<Robot> {
        let Some((found, now)) = self.robot(id).await? else {
            return Err(
                Error::permanent("not_found", format!("robot {id} is not in Harbor")).with_status(404)
            );
        };
        // Longer first: a refresh does not revive an expired robot. One that has lost its last project cannot be updated but
        // with new rights, which are not known here.
        let updatable = !found.permissions.is_empty();
        let duration = found.expires().and_then(|_| found.duration_for(self.robot_days.max(1), now));
        let duration = duration.filter(|d| *d > found.duration);
        let duration = duration.filter(|_| updatable);
        let change = Change { duration, enable: found.disable && updatable, ..Change::default() };
        let expires_at = self.change(&found, &change, None).await?;
        let answer = self.api.call(Method::Patch, &format!("robots/{id}"), Some(&json!({}))).await?;
        if answer.status != 200 {
            return Err(answer.refusal());
        }
        let secret = answer.json::<Refreshed>()?.secret;
        if secret.is_empty() {
            return Err(Error::transient("protocol", format!("robot {id}: Harbor gave an empty secret")));
        }
        Ok(Robot { id: found.id.to_string(), login: found.name, secret: Some(secret.into()), expires_at })
    }

    /// Sends what changes, if anything does. Gives when it expires then.
    async fn change(&self, found: &Found, change: &Change, want: Option<&RobotWant>) -> Result<Option<i64>> {
        if change.permissions.is_none() && change.duration.is_none() && !change.enable {
            return Ok(found.expires());
        }
        let path = format!("robots/{}", found.id);
        let answer = self.api.call(Method::Put, &path, Some(&found.with(change))).await?;
        match (answer.status, want) {
            (200, _) => {}
            (404, Some(want)) => return Err(self.which_project(want, answer.refusal()).await),
            _ => return Err(answer.refusal()),
        }
        let moved = change.duration.and_then(|d| Some(found.created()? + d * DAY));
        Ok(moved.or_else(|| found.expires()))
    }

    /// A 404 where projects are named: says which is not there.
    async fn which_project(&self, want: &RobotWant, refusal: Error) -> Error {
        for project in &want.projects {
            match self.has_project(project).await {
                Ok(true) => {}
                Ok(false) => {
                    let text = format!("robot {}: project {project} does not exist in Harbor", want.name);
                    return Error::permanent("no_project", text).with_status(404);
                }
                Err(error) => return error,
            }
        }
        // Deleted while we looked, and made anew, or the robot itself went.
        Error::transient("conflict", refusal.to_string()).with_status(404)
    }

    pub(super) async fn remove_robot(&self, id: &str) -> Result<()> {
        let answer = self.api.call(Method::Delete, &format!("robots/{}", number(id)?), None).await?;
        match answer.status {
            200 | 404 => Ok(()),
            _ => Err(answer.refusal()),
        }
    }

    pub(super) async fn our_robot(&self, name: &str) -> Result<Option<RobotRow>> {
        if !is_robot_name(name) {
            return Ok(None);
        }
        let found = self.robot_by_name(name).await?;
        Ok(found.filter(|f| f.description == self.description).map(Found::row))
    }

    pub(super) async fn our_robots(&self) -> Result<Vec<RobotRow>> {
        let mut rows = Vec::new();
        for page in 1..=MAX_PAGES {
            // Counted by ourselves: the links that Harbor gives are not escaped.
            let path = format!("robots?page={page}&page_size={PAGE}&sort=id");
            let answer = self.api.call(Method::Get, &path, None).await?;
            if answer.status != 200 {
                return Err(answer.refusal());
            }
            let found: Vec<Found> = answer.json()?;
            let last = found.len() < PAGE;
            rows.extend(found.into_iter().filter(|f| f.description == self.description).map(Found::row));
            if last {
                return Ok(rows);
            }
        }
        Err(Error::permanent("protocol", format!("Harbor lists more than {} robots", MAX_PAGES * PAGE)))
    }

    /// With Harbor's time.
    async fn robot(&self, id: &str) -> Result<Option<(Found, i64)>> {
        let answer = self.api.call(Method::Get, &format!("robots/{}", number(id)?), None).await?;
        match answer.status {
            200 => Ok(Some((answer.json()?, now(&answer)))),
            404 => Ok(None),
            _ => Err(answer.refusal()),
        }
    }

    /// By the name without prefix, which alone Harbor finds. What it shows is the name with the prefix, which is a setting
    /// of Harbor's.
    async fn robot_by_name(&self, name: &str) -> Result<Option<Found>> {
        let answer = self.api.call(Method::Get, &format!("robots?q=name%3D{name}&page_size=2"), None).await?;
        if answer.status != 200 {
            return Err(answer.refusal());
        }
        let found: Vec<Found> = answer.json()?;
        Ok(found.into_iter().find(|f| f.name.ends_with(name)))
    }
}

/// An id is a number, and goes into a path.
fn number(id: &str) -> Result<i64> {
    id.parse().map_err(|_| Error::permanent("refused", format!("{id:?} is not the id of a robot in Harbor")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn found(change: &Value) -> Found {
        let mut robot = json!({
            "id": 7, "name": "robot$sat1", "level": "system", "duration": 30, "editable": true, "new": {"x": 1},
            "creation_time": "2026-11-23T12:38:15.150Z", "expires_at": 1_798_029_495,
            "permissions": [{"kind": "project", "namespace": "edge", "access": [
                {"resource": "repository", "action": "pull"}]}],
        });
        robot.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        serde_json::from_value(robot).unwrap()
    }

    #[test]
    fn a_life_is_counted_from_the_creation() {
        let created = 1_795_437_495;
        let robot = found(&json!({}));
        assert_eq!((robot.created(), robot.expires()), (Some(created), Some(created + 30 * DAY)));
        assert_eq!(robot.duration_for(30, created + 5), Some(30));
        assert_eq!(robot.duration_for(30, created + 25 * DAY + 5), Some(55));
        assert_eq!(robot.duration_for(30, created - 100 * DAY), Some(30), "a clock that went back");
        let endless = found(&json!({"duration": -1, "expires_at": -1}));
        assert_eq!((endless.created(), endless.expires()), (Some(created), None));
        let bare: Found = serde_json::from_value(json!({"id": 1, "name": "robot$old"})).unwrap();
        assert_eq!((bare.created(), bare.expires(), bare.is_right(&BTreeSet::new())), (None, None, true));
    }

    #[test]
    fn rights_are_right_only_if_they_are_these_and_no_more() {
        let edge = BTreeSet::from(["edge".to_string()]);
        assert!(found(&json!({})).is_right(&edge));
        assert!(!found(&json!({})).is_right(&BTreeSet::from(["edge".into(), "lib".into()])));
        let with = |access: Value| {
            found(&json!({"permissions": [{"kind": "project", "namespace": "edge", "access": access}]}))
        };
        for wrong in [
            json!([]),
            json!([{"resource": "repository", "action": "push"}]),
            json!([{"resource": "repository", "action": "pull"}, {"resource": "artifact", "action": "read"}]),
            json!([{"resource": "repository", "action": "pull", "effect": "deny"}]),
        ] {
            assert!(!with(wrong.clone()).is_right(&edge), "{wrong}");
        }
    }

    #[test]
    fn an_update_sends_back_what_it_does_not_change() {
        let deny = json!([{"kind": "project", "namespace": "edge", "access": [
            {"resource": "repository", "action": "pull", "effect": "deny"}]}]);
        let robot = found(&json!({"permissions": deny, "disable": true, "description": "ours"}));
        let sent = robot.with(&Change { duration: Some(60), ..Change::default() });
        assert_eq!((&sent["permissions"], &sent["new"]), (&deny, &json!({"x": 1})));
        assert_eq!((&sent["duration"], &sent["disable"]), (&json!(60), &json!(true)));
        assert_eq!((&sent["name"], &sent["level"]), (&json!("robot$sat1"), &json!("system")));
        assert_eq!(sent["description"], "ours");
        let sent = robot.with(&Change { enable: true, ..Change::default() });
        assert_eq!((&sent["disable"], &sent["duration"]), (&json!(false), &json!(30)));
    }
}
