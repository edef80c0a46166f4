//! Harbor, by its REST API (`/api/v2.0`) and as a registry (`/v2/`).
//!
//! | file | does |
//! |---|---|
//! | `api` | one call: credentials, a deadline, what a 401 is worth |
//! | `refusal` | what a refusal means; pure |
//! | `projects`, `robots`, `artifacts` | one chapter of the API each |
//!
//! What a real Harbor does that one would not think, and where it is met: a 401 may be its database or a wrong password
//! of somebody else a second ago (`api`); no cookie is ever sent back, since one makes every write a 403 (the client
//! keeps none); an update replaces all permissions, and its duration counts from the robot's creation (`robots`); slashes
//! in repository names are encoded twice (`artifacts`); what a moved tag leaves behind stays for ever, so it is deleted; each
//! call with a user's password costs 100 ms of CPU, so states are published and cleaned up with one token for all.

mod api;
mod artifacts;
mod projects;
mod refusal;
mod robots;

use std::time::Duration;

use async_trait::async_trait;
use satellite_core::{
    net::client::SurfClient,
    remote::{Registry, Secret},
};

use super::{Central, Error, Health, Result, Robot, RobotRow, RobotWant, push};
use api::Api;

/// Tokens are asked for this repository, which need not exist: they open its whole project, the one that states are in.
const TOKENS: &str = "satellite/state";

/// How a Harbor is reached, and how robots are made there.
#[derive(Clone, Debug)]
pub struct HarborSettings {
    /// `https://harbor.example`: scheme, host and port.
    pub url: String,
    /// A system administrator's user: robots cannot change robots.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// Full life of a robot, in days.
    pub robot_days: u32,
    /// What stands in the description of our robots, by which they are known. Two servers that share a Harbor need two.
    pub description: String,
    /// Longest time for one call of the API.
    pub timeout: Duration,
    /// How long after a 401 to ask once more: Harbor refuses right passwords, too, for 1.5 s after a wrong one.
    pub login_freeze: Duration,
}

impl HarborSettings {
    /// With the reference's description and life of robots.
    pub fn new(url: impl Into<String>, user: impl Into<String>, password: Secret) -> Self {
        Self {
            url: url.into(),
            user: user.into(),
            password,
            robot_days: 30,
            description: "managed by ground-control should not edit".into(),
            timeout: Duration::from_secs(30),
            login_freeze: Duration::from_secs(2),
        }
    }
}

/// A Harbor.
pub struct Harbor {
    api: Api,
    registry: Registry,
    robot_days: u32,
    description: String,
}

impl Harbor {
    /// Nothing is sent yet. `client` decides about proxies and which authorities are trusted.
    ///
    /// # Errors
    /// `config` if the URL is none, or more than scheme, host and port.
    pub fn new(settings: HarborSettings, client: SurfClient) -> Result<Self> {
        let base = push::base_url(&settings.url)?;
        let registry = push::registry(
            &base,
            settings.user.clone(),
            settings.password.clone(),
            settings.login_freeze,
            Some(push::repository(TOKENS)?),
            client.clone(),
        )?;
        let HarborSettings { user, password, robot_days, description, timeout, login_freeze, .. } = settings;
        let api = Api::new(base, client, &user, &password, timeout, login_freeze);
        Ok(Self { api, registry, robot_days, description })
    }
}

#[async_trait]
impl Central for Harbor {
    fn url(&self) -> &str {
        self.api.url()
    }

    async fn ensure_project(&self, name: &str, public: bool) -> Result<()> {
        self.make_project(name, public).await
    }

    async fn project_exists(&self, name: &str) -> Result<bool> {
        self.has_project(name).await
    }

    async fn ensure_robot(&self, want: &RobotWant) -> Result<Robot> {
        self.make_robot(want).await
    }

    async fn rotate_robot(&self, id: &str) -> Result<Robot> {
        self.renew_robot(id).await
    }

    async fn delete_robot(&self, id: &str) -> Result<()> {
        self.remove_robot(id).await
    }

    async fn find_robot(&self, name: &str) -> Result<Option<RobotRow>> {
        self.our_robot(name).await
    }

    async fn list_robots(&self) -> Result<Vec<RobotRow>> {
        self.our_robots().await
    }

    async fn publish(&self, repository: &str, json: &[u8], stamp: i64) -> Result<String> {
        let work = async {
            let repository = push::repository(repository)?;
            let digest = match push::push(&self.registry, &repository, json, stamp).await {
                Err(error) => return Err(self.unknown_project(repository.as_str(), error).await),
                Ok(digest) => digest,
            };
            push::prune(&self.registry, &repository, &digest, stamp, false).await?;
            Ok(digest.to_string())
        };
        push::within(push::PUBLISH, work).await
    }

    async fn unpublish(&self, repository: &str) -> Result<()> {
        self.remove_repository(repository).await
    }

    async fn resolve(&self, repository: &str, tag: &str) -> Result<Option<String>> {
        let name = push::repository(repository)?;
        match push::within(push::RESOLVE, push::resolve(&self.registry, &name, tag)).await {
            Ok(digest) => Ok(digest.map(|d| d.to_string())),
            Err(error) => match self.unknown_project(repository, error).await {
                error if error.code() == "no_project" => Ok(None),
                error => Err(error),
            },
        }
    }

    async fn health(&self) -> Health {
        self.api.health().await
    }
}

impl Harbor {
    /// Harbor's registry says 401 for a project that does not exist. Gives `no_project` then, else the error itself.
    async fn unknown_project(&self, repository: &str, error: Error) -> Error {
        if error.status() != Some(401) {
            return error;
        }
        let project = repository.split('/').next().unwrap_or_default();
        match self.has_project(project).await {
            Ok(false) => {
                Error::permanent("no_project", format!("project {project} does not exist in Harbor"))
                    .with_status(401)
            }
            Ok(true) => error,
            // It cannot answer that either, and knows better why.
            Err(cause) => cause,
        }
    }
}
