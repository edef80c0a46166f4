//! Repositories and artifacts: what a moved tag leaves behind, and the end of a repository.

use serde::Deserialize;
use surf::http::Method;

use super::{
    super::{Error, Result},
    Harbor,
};

/// Artifacts of a page; Harbor's most.
const PAGE: usize = 100;
/// Most pages that are cleaned at once: what is left goes with the next change.
const MAX_PAGES: usize = 20;

#[derive(Deserialize)]
struct Artifact {
    digest: String,
    /// `null` for none.
    #[serde(default)]
    tags: Option<Vec<Tag>>,
}

#[derive(Deserialize)]
struct Tag {
    name: String,
}

impl Artifact {
    /// Whether nothing needs it any more once `current` is published with tag `stamp`: it has no tags, or only such of
    /// earlier times. One of another server that publishes at the same time has a later one, or is `latest`; one that a
    /// person has tagged is hers.
    fn is_left_behind(&self, current: &str, stamp: i64) -> bool {
        let earlier = |t: &Tag| t.name.parse::<i64>().is_ok_and(|at| at <= stamp);
        self.digest != current && self.tags.iter().flatten().all(earlier)
    }
}

/// `/projects/PROJECT/repositories/NAME`, where the slashes of NAME are encoded twice: Harbor's front decodes once, and
/// Harbor then takes the path apart.
fn path(repository: &str) -> Result<String> {
    let (project, name) = repository.split_once('/').ok_or_else(|| {
        Error::permanent("name", format!("{repository:?} is no repository of Harbor's: PROJECT/NAME"))
    })?;
    Ok(format!("projects/{project}/repositories/{}", name.replace('/', "%252F")))
}

impl Harbor {
    /// Deletes what was published before. It was pulled by tag only, so nobody misses it.
    pub(super) async fn prune(&self, repository: &str, current: &str, stamp: i64) -> Result<()> {
        let path = path(repository)?;
        let mut kept = 0;
        for _ in 0..MAX_PAGES {
            // What was deleted has moved the rest forward, so the page to read is that of what was kept.
            let page = kept / PAGE + 1;
            let list = format!(
                "{path}/artifacts?page={page}&page_size={PAGE}&with_tag=true&with_label=false&with_accessory=false"
            );
            let answer = self.api.call(Method::Get, &list, None).await?;
            if answer.status != 200 {
                return Err(answer.refusal());
            }
            let artifacts: Vec<Artifact> = answer.json()?;
            let mut deleted = 0;
            for artifact in artifacts.iter().filter(|a| a.is_left_behind(current, stamp)) {
                let one = format!("{path}/artifacts/{}", artifact.digest);
                let answer = self.api.call(Method::Delete, &one, None).await?;
                match answer.status {
                    200 | 404 => deleted += 1,
                    // Held by a rule of the project's: its owner wants it kept.
                    412 => {}
                    _ => return Err(answer.refusal()),
                }
            }
            kept = (page - 1) * PAGE + artifacts.len() - deleted;
            if artifacts.len() < PAGE {
                break;
            }
        }
        Ok(())
    }

    pub(super) async fn remove_repository(&self, repository: &str) -> Result<()> {
        let answer = self.api.call(Method::Delete, &path(repository)?, None).await?;
        match answer.status {
            200 | 202 | 204 | 404 => Ok(()),
            _ => Err(answer.refusal()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn slashes_are_encoded_twice() {
        let path = path("satellite/group-state/g1/state").unwrap();
        assert_eq!(path, "projects/satellite/repositories/group-state%252Fg1%252Fstate");
        assert!(super::path("web").is_err());
    }

    #[test]
    fn only_what_nobody_needs_is_left_behind() {
        let with = |digest: &str, tags: &[&str]| Artifact {
            digest: digest.into(),
            tags: Some(tags.iter().map(|t| Tag { name: (*t).into() }).collect()),
        };
        assert!(Artifact { digest: "old".into(), tags: None }.is_left_behind("new", 100));
        assert!(with("old", &["99"]).is_left_behind("new", 100));
        assert!(with("old", &["99", "100"]).is_left_behind("new", 100));
        for kept in [
            with("new", &["99"]),
            with("old", &["101"]),
            with("old", &["latest"]),
            with("old", &["99", "by-hand"]),
        ] {
            assert!(!kept.is_left_behind("new", 100));
        }
    }
}
