//! What somebody may do. Rights hang on projects, not on repositories.

use super::Harbor;
use super::login::Who;
use super::state::State;

type Pairs = &'static [(&'static str, &'static [&'static str])];

/// What a robot can be granted on a project (`GET /api/v2.0/permissions`, recorded).
pub(super) const PROJECT: Pairs = &[
    ("log", &["list"]),
    ("project", &["read", "delete", "update"]),
    ("metadata", &["read", "create", "delete", "list", "update"]),
    ("repository", &["read", "update", "delete", "list", "pull", "push"]),
    ("artifact", &["read", "create", "list", "delete"]),
    ("scan", &["create", "read", "stop"]),
    ("sbom", &["create", "stop", "read"]),
    ("tag", &["create", "list", "delete"]),
    ("accessory", &["list"]),
    ("artifact-addition", &["read"]),
    ("artifact-label", &["create", "delete"]),
    ("scanner", &["create", "read"]),
    ("preheat-policy", &["read", "create", "delete", "list", "update"]),
    ("immutable-tag", &["create", "delete", "list", "update"]),
    ("notification-policy", &["read", "create", "delete", "list", "update"]),
    ("tag-retention", &["read", "create", "delete", "list", "update"]),
    ("label", &["read", "create", "delete", "list", "update"]),
    ("quota", &["read"]),
    ("robot", &["create", "read", "list", "delete"]),
    ("export-cve", &["create", "read"]),
    ("member", &["create", "read", "update", "list", "delete"]),
];

/// What it can be granted on the system.
pub(super) const SYSTEM: Pairs = &[
    ("audit-log", &["list"]),
    ("preheat-instance", &["read", "create", "delete", "list", "update"]),
    ("project", &["list", "create"]),
    ("replication-policy", &["read", "create", "delete", "list", "update"]),
    ("replication", &["read", "create", "list"]),
    ("replication-adapter", &["list"]),
    ("registry", &["read", "create", "delete", "list", "update"]),
    ("scan-all", &["read", "update", "stop", "create"]),
    ("system-volumes", &["read"]),
    ("garbage-collection", &["read", "create", "list", "update", "stop"]),
    ("purge-audit", &["read", "create", "list", "update", "stop"]),
    ("jobservice-monitor", &["list", "stop"]),
    ("scanner", &["read", "create", "delete", "list", "update"]),
    ("label", &["read", "create", "delete", "update"]),
    ("security-hub", &["read", "list"]),
    ("catalog", &["read"]),
    ("quota", &["read", "list", "update"]),
    ("robot", &["create", "read", "list", "delete"]),
    ("user", &["create", "read", "update", "list", "delete"]),
    ("ldap-user", &["create", "list"]),
    ("user-group", &["create", "read", "update", "list", "delete"]),
];

/// What anybody may do in a public project.
const PUBLIC: Pairs = &[
    ("project", &["read"]),
    ("repository", &["pull", "read", "list"]),
    ("artifact", &["read", "list"]),
    ("tag", &["list"]),
    ("accessory", &["list"]),
    ("artifact-addition", &["read"]),
];

pub(super) fn holds(pairs: Pairs, resource: &str, action: &str) -> bool {
    pairs.iter().any(|(known, actions)| *known == resource && actions.contains(&action))
}

/// Whether somebody may do that in a project, or (`None`) to the system.
pub(super) fn may(state: &State, who: &Who, project: Option<u64>, resource: &str, action: &str) -> bool {
    let public = project.and_then(|id| state.projects.get(&id)).is_some_and(|p| p.public);
    if public && holds(PUBLIC, resource, action) {
        return true;
    }
    match who {
        Who::User(name) if name == Harbor::ADMIN => true,
        Who::User(name) => match project.and_then(|id| state.projects.get(&id)) {
            Some(project) => project.members.contains(name),
            // Whoever has a name may make projects, unless the configuration says otherwise.
            None => (resource, action) == ("project", "create"),
        },
        Who::Robot(id) => state.robots.get(id).is_some_and(|robot| robot.may(project, resource, action)),
        // Tokens are for the registry, and open the whole project of the repository that they name.
        Who::Bearer(claims) => claims.access.iter().any(|(name, actions)| {
            let named = name.split('/').next().and_then(|name| state.project_named(name));
            let same = project.is_some() && named.map(|p| p.id) == project;
            resource == "repository" && same && actions.iter().any(|a| a == action)
        }),
        Who::Anonymous => false,
    }
}
