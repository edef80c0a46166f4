//! What a satellite lacks of what its groups want.

use std::collections::HashSet;

use super::reference::Parts;

/// An image that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want<'a> {
    /// With its project.
    pub repository: &'a str,
    /// May be empty.
    pub tag: &'a str,
    /// May be empty.
    pub digest: &'a str,
}

/// Those of `wanted` that none of the references in `held` is, in their order. A digest decides where both sides tell one:
/// the reference's satellite stores other manifests than it fetched, and then the tag does.
pub fn missing<'a>(wanted: &[Want<'a>], held: &[String]) -> Vec<Want<'a>> {
    let (mut tags, mut digests) = (HashSet::new(), HashSet::new());
    for reference in held {
        let parts = Parts::of(reference);
        tags.insert((parts.repository, parts.tag));
        digests.insert((parts.repository, parts.digest));
    }
    let has = |want: &Want<'_>| {
        let by_tag = tags.contains(&(want.repository, want.tag));
        let by_digest = digests.contains(&(want.repository, want.digest));
        if want.tag.is_empty() { by_digest } else { by_tag || !want.digest.is_empty() && by_digest }
    };
    wanted.iter().filter(|want| !has(want)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_held_by_tag_or_digest_is_missing() {
        let d = format!("sha256:{}", "a".repeat(64));
        let want = |repository, tag, digest| Want { repository, tag, digest };
        let wanted =
            [want("a/x", "v1", ""), want("a/y", "v1", ""), want("a/x", "", &d), want("b/x", "v1", &d)];
        let held = vec![format!("127.0.0.1:1/a/x:v1@{d}"), "127.0.0.1:1/a/y:v2".to_string()];
        assert_eq!(missing(&wanted, &held), [wanted[1], wanted[3]]);
        assert_eq!(missing(&wanted, &[]).len(), 4);
    }
}
