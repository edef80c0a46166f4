//! Any OCI registry in Harbor's place. It has no robots and no projects: every satellite gets the one credential that the
//! operator gives, and projects are just the beginnings of names.

use std::time::Duration;

use async_trait::async_trait;
use satellite_core::{
    net::client::SurfClient,
    oci::Reference,
    remote::{Registry, Secret},
};

use super::{Central, Error, Health, Result, Robot, RobotRow, RobotWant, push};

/// Longest wait for the registry's word that it is well.
const HEALTH: Duration = Duration::from_secs(5);

/// How a registry is reached.
#[derive(Clone, Debug)]
pub struct PlainSettings {
    /// `https://registry.example`: scheme, host and port.
    pub url: String,
    /// Who we are there: may push, and delete if that is allowed at all.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// What satellites are given; by default what we are.
    pub satellites: Option<(String, Secret)>,
}

/// A registry.
pub struct Plain {
    url: String,
    registry: Registry,
    login: String,
    secret: Secret,
}

impl Plain {
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// `config` if the URL is none, or more than scheme, host and port.
    pub fn new(settings: PlainSettings, client: SurfClient) -> Result<Self> {
        let base = push::base_url(&settings.url)?;
        let PlainSettings { user, password, satellites, .. } = settings;
        let (login, secret) = satellites.unwrap_or_else(|| (user.clone(), password.clone()));
        let registry = push::registry(&base, user, password, Duration::from_secs(2), None, client)?;
        Ok(Self { url: base.as_str().trim_end_matches('/').into(), registry, login, secret })
    }

    fn robot(&self, id: &str) -> Robot {
        Robot {
            id: id.into(),
            login: self.login.clone(),
            secret: Some(self.secret.clone()),
            expires_at: None,
        }
    }
}

#[async_trait]
impl Central for Plain {
    fn url(&self) -> &str {
        &self.url
    }

    async fn ensure_project(&self, _name: &str, _public: bool) -> Result<()> {
        Ok(())
    }

    async fn project_exists(&self, _name: &str) -> Result<bool> {
        Ok(true)
    }

    /// The one credential, always with its secret. Its id is the name wanted.
    async fn ensure_robot(&self, want: &RobotWant) -> Result<Robot> {
        Ok(self.robot(want.known_id.as_deref().unwrap_or(&want.name)))
    }

    async fn rotate_robot(&self, id: &str) -> Result<Robot> {
        Ok(self.robot(id))
    }

    async fn delete_robot(&self, _id: &str) -> Result<()> {
        Ok(())
    }

    /// None, as of the list.
    async fn find_robot(&self, _name: &str) -> Result<Option<RobotRow>> {
        Ok(None)
    }

    /// None: nothing is made there that could be left behind.
    async fn list_robots(&self) -> Result<Vec<RobotRow>> {
        Ok(Vec::new())
    }

    async fn publish(&self, repository: &str, json: &[u8], stamp: i64) -> Result<String> {
        let work = async {
            let repository = push::repository(repository)?;
            let digest = push::push(&self.registry, &repository, json, stamp).await?;
            push::prune(&self.registry, &repository, &digest, stamp, true).await?;
            Ok(digest.to_string())
        };
        push::within(push::PUBLISH, work).await
    }

    /// By deleting all that is tagged. In a registry that deletes nothing it stays, and the log says so.
    async fn unpublish(&self, repository: &str) -> Result<()> {
        let work = async {
            let repository = push::repository(repository)?;
            let tags = match self.registry.tags(&repository).await {
                Err(error) if error.is_not_found() => return Ok(()),
                other => other.map_err(push::from_remote)?,
            };
            for tag in tags {
                let reference = Reference::Tag(tag);
                let head = match self.registry.head_manifest(&repository, &reference).await {
                    Err(error) if error.is_not_found() => continue,
                    other => other.map_err(push::from_remote)?,
                };
                let digest = head.digest.ok_or_else(|| {
                    Error::permanent("protocol", format!("{repository}: the registry gives no digest"))
                })?;
                if !push::delete(&self.registry, &repository, &digest, true).await? {
                    break;
                }
            }
            Ok(())
        };
        push::within(push::PUBLISH, work).await
    }

    async fn resolve(&self, repository: &str, tag: &str) -> Result<Option<String>> {
        let repository = push::repository(repository)?;
        let found = push::within(push::RESOLVE, push::resolve(&self.registry, &repository, tag)).await?;
        Ok(found.map(|digest| digest.to_string()))
    }

    async fn health(&self) -> Health {
        let check = async { self.registry.check().await.map_err(push::from_remote) };
        match push::within(HEALTH, check).await {
            Ok(()) => Health::Well,
            Err(error) if error.status().is_some() => Health::Ill(error.to_string()),
            Err(error) => Health::Away(error.to_string()),
        }
    }
}
