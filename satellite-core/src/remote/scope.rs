//! What a bearer token is good for (Docker's "Token Scope Documentation"): resources and actions on them.

use std::collections::{BTreeMap, BTreeSet};

use crate::oci::Repository;

/// Most resources taken over from a challenge.
const MAX_RESOURCES: usize = 16;

/// `repository:edge/app` → `pull`, `push`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scopes(BTreeMap<String, BTreeSet<String>>);

impl Scopes {
    pub(super) fn none() -> Self {
        Self::default()
    }

    pub(super) fn pull(repository: &Repository) -> Self {
        Self::default().and(repository, &["pull"])
    }

    pub(super) fn push(repository: &Repository) -> Self {
        Self::default().and(repository, &["pull", "push"])
    }

    pub(super) fn delete(repository: &Repository) -> Self {
        Self::default().and(repository, &["delete", "pull"])
    }

    pub(super) fn catalog() -> Self {
        let actions = BTreeSet::from(["*".to_string()]);
        Self(BTreeMap::from([("registry:catalog".to_string(), actions)]))
    }

    pub(super) fn names_repositories(&self) -> bool {
        self.0.keys().any(|resource| resource.starts_with("repository:"))
    }

    pub(super) fn and(mut self, repository: &Repository, actions: &[&str]) -> Self {
        let entry = self.0.entry(format!("repository:{repository}")).or_default();
        entry.extend(actions.iter().map(ToString::to_string));
        self
    }

    /// Reads a challenge's `scope`: entries apart by spaces, `type:name:action,action`.
    pub(super) fn parse(text: &str) -> Self {
        let mut scopes = Self::default();
        for entry in text.split_ascii_whitespace().take(MAX_RESOURCES) {
            // A name may hold a port's colon, so the actions are what follows the last one.
            let Some((resource, actions)) = entry.rsplit_once(':').filter(|(r, _)| r.contains(':')) else {
                continue;
            };
            let actions = actions.split(',').filter(|a| !a.is_empty()).take(MAX_RESOURCES).map(String::from);
            scopes.0.entry(resource.into()).or_default().extend(actions);
        }
        scopes
    }

    pub(super) fn union(mut self, other: &Self) -> Self {
        for (resource, actions) in &other.0 {
            self.0.entry(resource.clone()).or_default().extend(actions.iter().cloned());
        }
        self
    }

    /// What `other` says about resources that are named here.
    pub(super) fn grown_by(mut self, other: &Self) -> Self {
        for (resource, actions) in &mut self.0 {
            actions.extend(other.0.get(resource).into_iter().flatten().cloned());
        }
        self
    }

    pub(super) fn covers(&self, wanted: &Self) -> bool {
        wanted.0.iter().all(|(resource, actions)| self.0.get(resource).is_some_and(|a| actions.is_subset(a)))
    }

    /// One text per resource.
    pub(super) fn texts(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(|(resource, actions)| {
            format!("{resource}:{}", actions.iter().map(String::as_str).collect::<Vec<_>>().join(","))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn scopes_grow_per_repository_and_action() {
        let app: Repository = "edge/app".parse().unwrap();
        let base: Repository = "edge/base".parse().unwrap();
        let push = Scopes::push(&app);
        assert!(push.covers(&Scopes::pull(&app)) && !Scopes::pull(&app).covers(&push));
        assert!(!push.covers(&Scopes::pull(&base)));
        let mount = push.clone().and(&base, &["pull"]);
        assert_eq!(
            mount.texts().collect::<Vec<_>>(),
            ["repository:edge/app:pull,push", "repository:edge/base:pull"]
        );
        assert_eq!(Scopes::pull(&app).grown_by(&mount), push);
        assert_eq!(Scopes::parse("repository:edge/app:push,pull repository:edge/base:pull junk a:b"), {
            let mut m = mount.clone();
            m.0.retain(|k, _| k != "a");
            m
        });
        assert_eq!(
            Scopes::parse("repository:h:5000/a:pull").texts().next().unwrap(),
            "repository:h:5000/a:pull"
        );
        assert_eq!(Scopes::catalog().texts().next().unwrap(), "registry:catalog:*");
    }
}
