//! What was acknowledged, and whether the server, its Harbor and the satellites' states agree with it.

use satellite_tests::ground_control::{Api, state};
use satellite_tests::http::Client;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What must be so. What was asked for and not acknowledged is not in here: it may be either way.
#[derive(Debug, Default, Clone)]
pub(crate) struct Facts {
    /// Satellites: there, or gone.
    pub(crate) satellites: BTreeMap<String, bool>,
    /// Groups: there with this project, or gone.
    pub(crate) groups: BTreeMap<String, Option<String>>,
    /// Satellite and group: a member, or not.
    pub(crate) members: BTreeMap<(String, String), bool>,
    /// Satellites' configurations.
    pub(crate) configs: BTreeMap<String, String>,
}

impl Facts {
    /// The first thing that is not so; also when the parts do not agree with each other, or a robot belongs to nobody.
    pub(crate) fn check(&self, api: &Api, harbor: &Client) -> Result<(), String> {
        let satellites = names(&json(api, "/api/satellites")?, "Name");
        for (name, there) in &self.satellites {
            if satellites.contains(name) != *there {
                return Err(format!("satellite {name}: there {}, acknowledged {there}", !there));
            }
        }
        let groups = json(api, "/api/groups")?;
        let present = names(&groups, "GroupName");
        for (name, project) in &self.groups {
            if present.contains(name) != project.is_some() {
                return Err(format!("group {name}: acknowledged with {project:?}"));
            }
        }
        let mut members: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut projects: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for group in groups.as_array().into_iter().flatten() {
            let name = text(&group["GroupName"]);
            let of: BTreeSet<String> = group["Projects"].as_array().into_iter().flatten().map(text).collect();
            if let Some(Some(project)) = self.groups.get(&name)
                && !of.contains(project)
            {
                return Err(format!("group {name}: {of:?}, acknowledged {project}"));
            }
            published(harbor, &format!("satellite/group-state/{name}/state"), |state| {
                let repositories = state["artifacts"].as_array().into_iter().flatten();
                let published: BTreeSet<String> = repositories
                    .filter_map(|artifact| {
                        Some(artifact["repository"].as_str()?.split('/').next()?.to_owned())
                    })
                    .collect();
                (published == of)
                    .then_some(())
                    .ok_or(format!("group {name} has {of:?}, published {published:?}"))
            })?;
            for satellite in names(&json(api, &format!("/api/groups/{name}/satellites"))?, "Name") {
                members.entry(satellite.clone()).or_default().insert(name.clone());
                projects.entry(satellite).or_default().extend(of.iter().cloned());
            }
        }
        for ((satellite, group), member) in &self.members {
            let is = members.get(satellite).is_some_and(|groups| groups.contains(group));
            // Neither a satellite nor a group that is gone has members.
            if is != *member && satellites.contains(satellite) && present.contains(group) {
                return Err(format!("{satellite} in {group}: {is}, acknowledged {member}"));
            }
        }
        for name in &satellites {
            let groups = members.remove(name).unwrap_or_default();
            let config = self.configs.get(name);
            published(harbor, &format!("satellite/satellite-state/{name}/state"), |state| {
                states_agree(name, state, &groups, config)
            })?;
        }
        robots_agree(harbor, &satellites, &projects)?;
        nothing_left(harbor, &satellites, &present)
    }
}

/// A satellite's published state names its groups and its configuration.
fn states_agree(
    name: &str,
    state: &Value,
    groups: &BTreeSet<String>,
    config: Option<&String>,
) -> Result<(), String> {
    let part = |url: &Value| state_name(url.as_str().unwrap_or_default());
    let published: BTreeSet<String> = state["states"].as_array().into_iter().flatten().map(part).collect();
    if &published != groups {
        return Err(format!("{name} is in {groups:?}, its state says {published:?}"));
    }
    let published = part(&state["config"]);
    match config {
        Some(config) if *config != published => {
            Err(format!("{name} has config {config}, its state says {published}"))
        }
        _ => Ok(()),
    }
}

/// Every satellite has one robot, with the rights of its groups, and there is no other.
fn robots_agree(
    harbor: &Client,
    satellites: &BTreeSet<String>,
    projects: &BTreeMap<String, BTreeSet<String>>,
) -> Result<(), String> {
    let mut robots = BTreeMap::new();
    for robot in robots_of(harbor)? {
        let name = text(&robot["name"]).trim_start_matches("robot$").to_owned();
        let rights = robot["permissions"].as_array().into_iter().flatten();
        let of: BTreeSet<String> = rights.map(|right| text(&right["namespace"])).collect();
        if robots.insert(name.clone(), of).is_some() {
            return Err(format!("two robots for {name}"));
        }
    }
    let named: BTreeSet<String> = robots.keys().cloned().collect();
    if &named != satellites {
        let leaked: Vec<_> = named.difference(satellites).collect();
        let lost: Vec<_> = satellites.difference(&named).collect();
        return Err(format!("robots leaked: {leaked:?}, lost: {lost:?}"));
    }
    for (name, of) in robots {
        let mut due = projects.get(&name).cloned().unwrap_or_default();
        due.insert("satellite".into());
        if of != due {
            return Err(format!("the robot of {name} may pull from {of:?}, its groups need {due:?}"));
        }
    }
    Ok(())
}

/// No state is published of what is gone.
fn nothing_left(
    harbor: &Client,
    satellites: &BTreeSet<String>,
    groups: &BTreeSet<String>,
) -> Result<(), String> {
    for page in 1.. {
        let list =
            answer(harbor, &format!("/api/v2.0/projects/satellite/repositories?page_size=100&page={page}"))?;
        let list = list.as_array().cloned().unwrap_or_default();
        for repository in &list {
            let name = text(&repository["name"]);
            let gone = match name.split('/').collect::<Vec<_>>()[..] {
                [_, "satellite-state", satellite, _] => !satellites.contains(satellite),
                [_, "group-state", group, _] => !groups.contains(group),
                _ => false,
            };
            if gone {
                return Err(format!("{name} is still published"));
            }
        }
        if list.len() < 100 {
            break;
        }
    }
    Ok(())
}

/// The robots that Ground Control made.
pub(crate) fn robots_of(harbor: &Client) -> Result<Vec<Value>, String> {
    let mut all = Vec::new();
    for page in 1.. {
        let list = answer(harbor, &format!("/api/v2.0/robots?page_size=100&page={page}"))?;
        let list = list.as_array().cloned().unwrap_or_default();
        let full = list.len() == 100;
        all.extend(list.into_iter().filter(|robot| text(&robot["description"]).contains("ground-control")));
        if !full {
            break;
        }
    }
    Ok(all)
}

fn published(
    harbor: &Client,
    repository: &str,
    judge: impl Fn(&Value) -> Result<(), String>,
) -> Result<(), String> {
    let url = format!("http://{}/{repository}:latest", harbor.host());
    let state = state::read(harbor, &url).ok_or_else(|| format!("{repository} is not published"))?;
    judge(&state)
}

/// The name in a state's URL.
fn state_name(url: &str) -> String {
    url.rsplit('/').nth(1).unwrap_or_default().to_owned()
}

fn names(list: &Value, field: &str) -> BTreeSet<String> {
    list.as_array().into_iter().flatten().map(|row| text(&row[field])).collect()
}

fn text(value: impl std::borrow::Borrow<Value>) -> String {
    value.borrow().as_str().unwrap_or_default().to_owned()
}

fn json(api: &Api, path: &str) -> Result<Value, String> {
    let answer =
        api.client().try_send(&api.request("GET", path)).map_err(|error| format!("{path}: {error}"))?;
    if answer.status == 200 {
        Ok(answer.json())
    } else {
        Err(format!("{path}: {} {}", answer.status, answer.text()))
    }
}

fn answer(harbor: &Client, path: &str) -> Result<Value, String> {
    let answer = harbor.get(path);
    match answer.status {
        200 => Ok(answer.json()),
        404 => Ok(json!([])),
        status => Err(format!("{path}: {status} {}", answer.text())),
    }
}
