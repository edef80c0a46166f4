//! The end of a repository. What lives in one is the registry's business.

use surf::http::Method;

use super::{
    super::{Error, Result},
    Harbor,
};

/// `/projects/PROJECT/repositories/NAME`, where the slashes of NAME are encoded twice: Harbor's front decodes once, and
/// Harbor then takes the path apart.
fn path(repository: &str) -> Result<String> {
    let (project, name) = repository.split_once('/').ok_or_else(|| {
        Error::permanent("name", format!("{repository:?} is no repository of Harbor's: PROJECT/NAME"))
    })?;
    Ok(format!("projects/{project}/repositories/{}", name.replace('/', "%252F")))
}

impl Harbor {
    pub(super) async fn remove_repository(&self, repository: &str) -> Result<()> {
        // Also the guard of what becomes a path.
        let repository = super::push::repository(repository)?;
        let answer = self.api.call(Method::Delete, &path(repository.as_str())?, None).await?;
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
}
