//! One object at central, brought in line with the tables. Every step may be done again, and cut anywhere.

use std::{
    collections::BTreeSet,
    time::{SystemTime, UNIX_EPOCH},
};

use satellite_core::fleet::{GroupState, SatelliteState, StateKind, config::printed};
use sha2::{Digest, Sha256};

use super::{Inner, Kind};
use crate::{
    central::{Error, Robot, RobotWant},
    db::{self, configs, groups, outbox::Entry, publications, robots, satellites},
    fleet::health::Standing,
};

/// The project that holds states.
pub(crate) const PROJECT: &str = "satellite";

/// Why a step was not done.
#[derive(Debug)]
pub(super) enum Failure {
    Central(Error),
    Database(db::Error),
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self::Central(e)
    }
}

impl From<db::Error> for Failure {
    fn from(e: db::Error) -> Self {
        Self::Database(e)
    }
}

type Result<T> = std::result::Result<T, Failure>;

impl Inner {
    pub(super) async fn step(&self, entry: &Entry) -> Result<()> {
        match Kind::from_text(&entry.kind) {
            Some(Kind::Group) => {
                let state = self.group_state(&entry.name).await?;
                self.state(StateKind::Group, &entry.name, state).await
            }
            Some(Kind::Satellite) => {
                let state = self.satellite_state(&entry.name).await?;
                self.state(StateKind::Satellite, &entry.name, state).await
            }
            Some(Kind::Config) => {
                let state = self.config_state(&entry.name).await?;
                self.state(StateKind::Config, &entry.name, state).await
            }
            Some(Kind::Robot) => self.robot(entry).await,
            // A newer replica's, which will do it.
            None => Err(Error::transient("unknown_kind", format!("{} is not known here", entry.kind)).into()),
        }
    }

    async fn group_state(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(group) = groups::by_name(&mut *self.db.read().await?, name).await? else { return Ok(None) };
        let artifacts = serde_json::from_value(group.artifacts).map_err(|e| broken(name, &e))?;
        let state = GroupState { group: group.name, registry: String::new(), artifacts };
        text(name, &state.for_publishing(self.central.url())).map(Some)
    }

    async fn satellite_state(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let mut c = self.db.read().await?;
        let Some(satellite) = satellites::by_name(&mut c, name).await? else { return Ok(None) };
        if satellite.standing == Standing::Revoked {
            return Ok(None);
        }
        let url = |kind: StateKind, name: &str| {
            kind.url(self.central.url(), name)
                .map_err(|e| Failure::Central(Error::permanent("name", format!("{name}: {e}"))))
        };
        let groups = groups::of_satellite(&mut c, satellite.id).await?;
        let states = groups.iter().map(|g| url(StateKind::Group, g)).collect::<Result<Vec<_>>>()?;
        let config = match configs::of_satellite(&mut c, satellite.id).await? {
            Some(config) => url(StateKind::Config, &config)?,
            None => String::new(),
        };
        text(name, &SatelliteState { states, config }).map(Some)
    }

    async fn config_state(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match configs::by_name(&mut *self.db.read().await?, name).await? {
            Some(config) => text(name, &printed(&config.config)).map(Some),
            None => Ok(None),
        }
    }

    /// Publishes what there is, or removes what there was.
    async fn state(&self, kind: StateKind, name: &str, content: Option<Vec<u8>>) -> Result<()> {
        let repository = kind
            .repository(name)
            .map_err(|e| Failure::Central(Error::permanent("name", format!("{name}: {e}"))))?;
        let repository = repository.as_str();
        let Some(content) = content else {
            self.central.unpublish(repository).await?;
            let mut tx = self.db.begin().await?;
            publications::delete(&mut tx, repository).await?;
            tx.commit().await?;
            return Ok(());
        };
        let stamp = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let stamp = i64::try_from(stamp).unwrap_or(i64::MAX);
        let digest = match self.central.publish(repository, &content, stamp).await {
            Err(e) if e.code() == "no_project" => {
                self.central.ensure_project(PROJECT, false).await?;
                self.central.publish(repository, &content, stamp).await?
            }
            other => other?,
        };
        let hash: String = Sha256::digest(&content).iter().map(|b| format!("{b:02x}")).collect();
        let mut tx = self.db.begin().await?;
        publications::put(&mut tx, repository, &hash, &digest).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn robot(&self, entry: &Entry) -> Result<()> {
        let name = entry.name.as_str();
        let (satellite, known, projects) = {
            let mut c = self.db.read().await?;
            match satellites::by_name(&mut c, name).await?.filter(|s| s.standing != Standing::Revoked) {
                None => (None, None, Vec::new()),
                Some(satellite) => {
                    let known = robots::of_satellite(&mut c, satellite.id).await?;
                    let projects = match satellite.standing {
                        Standing::Active => groups::projects_of_satellite(&mut c, satellite.id).await?,
                        _ => Vec::new(),
                    };
                    (Some(satellite), known, projects)
                }
            }
        };
        let Some(satellite) = satellite else { return self.robot_gone(entry).await };
        let mut wanted: BTreeSet<String> = projects
            .iter()
            .flat_map(|list| serde_json::from_str::<Vec<String>>(list).unwrap_or_default())
            .collect();
        wanted.insert(PROJECT.into());
        let mut want = RobotWant {
            name: name.into(),
            projects: wanted,
            days: self.robot_days,
            known_id: known.as_ref().map(|r| r.robot_id.clone()),
        };
        let mut missing = Vec::new();
        let robot = match self.central.ensure_robot(&want).await {
            Err(e) if e.code() == "no_project" => {
                // One project that is not there must not keep the robot from the others.
                self.central.ensure_project(PROJECT, false).await?;
                for project in want.projects.clone() {
                    if !self.central.project_exists(&project).await? {
                        want.projects.remove(&project);
                        missing.push(project);
                    }
                }
                if missing.is_empty() {
                    self.central.ensure_robot(&want).await?
                } else if known.is_none() {
                    return Err(e.into());
                } else {
                    self.central.ensure_robot(&want).await?
                }
            }
            other => other?,
        };
        self.keep(satellite.id, known.as_ref(), &robot, &want.projects).await?;
        match missing.first() {
            None => Ok(()),
            Some(project) => {
                let text = format!(
                    "robot {name}: project {project} does not exist, so nothing can be pulled from it"
                );
                Err(Error::permanent("no_project", text).into())
            }
        }
    }

    async fn keep(
        &self,
        satellite: i64,
        known: Option<&robots::Robot>,
        robot: &Robot,
        projects: &BTreeSet<String>,
    ) -> Result<()> {
        let projects = serde_json::to_string(projects).map_err(|e| broken(&robot.login, &e))?;
        let expires_at = robot.expires_at.map(|secs| secs.saturating_mul(1_000_000));
        let mut tx = self.db.begin().await?;
        match robots::put(&mut tx, satellite, &robot.id, &robot.login, expires_at, &projects).await {
            // The satellite was deleted meanwhile: its row is due again, and removes the robot by its name.
            Err(db::Error::Reference) => return Ok(()),
            other => other?,
        }
        // Somebody deleted the robot at central: the new one has another secret, which the satellite has to fetch.
        if known.is_some_and(|k| k.robot_id != robot.id && k.issued_at.is_some()) {
            robots::want_refresh(&mut tx, satellite).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Removes the robot of a satellite that is gone or revoked: by its id where that is known, else by its name.
    async fn robot_gone(&self, entry: &Entry) -> Result<()> {
        let ours: BTreeSet<String> = {
            let mut c = self.db.read().await?;
            let mut ids: BTreeSet<String> = robots::ids(&mut c).await?.into_iter().collect();
            if let Some(satellite) = satellites::by_name(&mut c, &entry.name).await?
                && let Some(robot) = robots::of_satellite(&mut c, satellite.id).await?
            {
                ids.remove(&robot.robot_id);
            }
            ids
        };
        let mut gone: Vec<String> = entry.payload.iter().cloned().collect();
        if gone.is_empty() {
            gone.extend(self.central.find_robot(&entry.name).await?.map(|r| r.id));
        }
        for id in gone.iter().filter(|id| !ours.contains(*id)) {
            self.central.delete_robot(id).await?;
        }
        let mut tx = self.db.begin().await?;
        if let Some(satellite) = satellites::by_name(&mut tx, &entry.name).await?
            && satellite.standing == Standing::Revoked
        {
            robots::delete(&mut tx, satellite.id).await?;
        }
        tx.commit().await?;
        Ok(())
    }
}

fn text(name: &str, value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| broken(name, &e))
}

fn broken(name: &str, e: &serde_json::Error) -> Failure {
    Failure::Central(Error::permanent("document", format!("{name}: {e}")))
}
