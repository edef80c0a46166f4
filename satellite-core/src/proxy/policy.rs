//! What may be fetched for a client: an allow-list, pure. What no rule allows is denied.

use std::{fmt, str::FromStr};

use crate::oci::{Reference, Repository, Tag, canonical_host};

/// Longest rule, in bytes.
const MAX_RULE: usize = 512;

/// One thing that is allowed: `HOST`, `HOST/REPOSITORY` or `HOST/REPOSITORY:TAG`. In repository and tag, `*` stands for
/// any characters but `/`, and `**` for any at all: `docker.io/library/*`, `harbor.example/edge/**`,
/// `quay.io/org/app:v1.*`. A repository of Docker Hub without a `/` is one of its `library`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    host: String,
    repository: Option<Pattern>,
    tag: Option<Pattern>,
}

/// A rule that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{rule:?} is no rule for a pull-through: {why}; expected HOST, HOST/REPOSITORY or HOST/REPOSITORY:TAG"
)]
pub struct RuleError {
    rule: String,
    why: &'static str,
}

/// What may be fetched from a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Everything.
    All,
    /// Some tags, and what they lead to.
    SomeTags,
}

/// An allow-list.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    rules: Vec<Rule>,
    default_host: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern(String);

impl Pattern {
    /// Whether it is this text. Time is bounded by the product of their lengths.
    fn matches(&self, text: &str) -> bool {
        let text = text.as_bytes();
        // ends[i]: the pattern so far can end after i bytes of the text.
        let mut ends = vec![false; text.len() + 1];
        ends[0] = true;
        let mut pattern = self.0.as_bytes();
        while let Some((first, rest)) = pattern.split_first() {
            let stars = if *first == b'*' { 1 + usize::from(rest.first() == Some(&b'*')) } else { 0 };
            if stars > 0 {
                for i in 0..text.len() {
                    ends[i + 1] |= ends[i] && (stars == 2 || text[i] != b'/');
                }
                pattern = &pattern[stars..];
            } else {
                for i in (0..text.len()).rev() {
                    ends[i + 1] = ends[i] && text[i] == *first;
                }
                ends[0] = false;
                pattern = rest;
            }
        }
        ends[text.len()]
    }
}

impl Rule {
    fn allows_repository(&self, host: &str, repository: &Repository) -> bool {
        self.host == host && self.repository.as_ref().is_none_or(|p| p.matches(repository.as_str()))
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let error = |why| RuleError { rule: text.chars().take(100).collect(), why };
        if text.len() > MAX_RULE {
            return Err(error("it is too long"));
        }
        let (host, rest) = text.split_once('/').map_or((text, None), |(host, rest)| (host, Some(rest)));
        let host = canonical_host(host).ok_or_else(|| error("its host is not one"))?;
        if !host.contains(['.', ':']) && host != "localhost" {
            return Err(error("its host has neither a dot nor a port"));
        }
        let Some(rest) = rest else { return Ok(Self { host, repository: None, tag: None }) };
        let (name, tag) = rest.split_once(':').map_or((rest, None), |(name, tag)| (name, Some(tag)));
        let of_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-/*".contains(&b);
        if name.is_empty() || !name.bytes().all(of_name) {
            return Err(error("its repository has characters that none has"));
        }
        if name.split('/').any(str::is_empty) {
            return Err(error("a part of its repository is empty"));
        }
        let of_tag = |b: u8| b.is_ascii_alphanumeric() || b"._-*".contains(&b);
        if tag.is_some_and(|t| t.is_empty() || !t.bytes().all(of_tag)) {
            return Err(error("its tag has characters that none has"));
        }
        if name.contains("***") || tag.is_some_and(|t| t.contains("***")) {
            return Err(error("more than two stars in a row say nothing more"));
        }
        let hub = host == "docker.io" && !name.contains('/') && name != "**";
        let name = if hub { format!("library/{name}") } else { name.to_string() };
        Ok(Self { host, repository: Some(Pattern(name)), tag: tag.map(|t| Pattern(t.to_string())) })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        self.repository.as_ref().map_or(Ok(()), |p| write!(f, "/{}", p.0))?;
        self.tag.as_ref().map_or(Ok(()), |p| write!(f, ":{}", p.0))
    }
}

impl Policy {
    /// A list. `default_host` is whose repositories are meant by requests that name no host.
    ///
    /// # Errors
    /// [`RuleError`] if the default host is one that no rule is about: nothing of it could ever be fetched.
    pub fn new(rules: Vec<Rule>, default_host: Option<&str>) -> Result<Self, RuleError> {
        let default_host = default_host.map(|h| canonical_host(h).unwrap_or_else(|| h.to_string()));
        match &default_host {
            Some(host) if !rules.iter().any(|r| r.host == *host) => {
                Err(RuleError { rule: host.clone(), why: "it is the default host, and no rule is about it" })
            }
            _ => Ok(Self { rules, default_host }),
        }
    }

    /// Whether any rule is about a host.
    pub fn knows(&self, host: &str) -> bool {
        self.rules.iter().any(|r| r.host == host)
    }

    /// The host that a request means: the one it names, or the default.
    pub fn host<'a>(&'a self, named: Option<&'a str>) -> Option<&'a str> {
        named.or(self.default_host.as_deref())
    }

    /// The hosts, each once.
    pub fn hosts(&self) -> Vec<&str> {
        let mut hosts: Vec<&str> = self.rules.iter().map(|r| r.host.as_str()).collect();
        hosts.sort_unstable();
        hosts.dedup();
        hosts
    }

    /// What may be fetched from a repository; `None`: nothing.
    pub fn allows(&self, host: &str, repository: &Repository) -> Option<Allowed> {
        let mut found = None;
        for rule in self.rules.iter().filter(|r| r.allows_repository(host, repository)) {
            if rule.tag.is_none() {
                return Some(Allowed::All);
            }
            found = Some(Allowed::SomeTags);
        }
        found
    }

    /// Whether a tag may be fetched.
    pub fn allows_tag(&self, host: &str, repository: &Repository, tag: &Tag) -> bool {
        self.rules
            .iter()
            .filter(|r| r.allows_repository(host, repository))
            .any(|r| r.tag.as_ref().is_none_or(|p| p.matches(tag.as_str())))
    }

    /// Whether this may be fetched by name alone. A digest where only some tags are allowed may be if it is known to
    /// belong to one of them, which the caller finds out.
    pub fn allows_reference(&self, host: &str, repository: &Repository, reference: &Reference) -> bool {
        match reference {
            Reference::Tag(tag) => self.allows_tag(host, repository, tag),
            Reference::Digest(_) => self.allows(host, repository) == Some(Allowed::All),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn policy(rules: &[&str], default: Option<&str>) -> Policy {
        Policy::new(rules.iter().map(|r| r.parse().unwrap()).collect(), default).unwrap()
    }

    #[test]
    fn what_no_rule_allows_is_denied() {
        let list = policy(
            &[
                "docker.io/library/*",
                "harbor.example/edge/**",
                "quay.io/org/app:v1.*",
                "quay.io/org/app:latest",
                "ghcr.io",
                "docker.io/alpine:3.*",
                "127.0.0.1:5000/a",
            ],
            Some("harbor.example"),
        );
        let table = [
            ("docker.io", "library/busybox", "1", true),
            ("docker.io", "library/a/b", "1", false),
            ("docker.io", "bitnami/redis", "1", false),
            ("harbor.example", "edge/a/b/c", "x", true),
            ("harbor.example", "edge", "x", false),
            ("harbor.example", "edger/a", "x", false),
            ("quay.io", "org/app", "v1.2", true),
            ("quay.io", "org/app", "latest", true),
            ("quay.io", "org/app", "v2.0", false),
            ("quay.io", "org/app2", "v1.2", false),
            ("ghcr.io", "any/thing", "at-all", true),
            ("127.0.0.1:5000", "a", "v", true),
            ("127.0.0.1:5001", "a", "v", false),
            ("evil.example", "library/busybox", "1", false),
        ];
        for (host, repository, tag, expected) in table {
            let repository: Repository = repository.parse().unwrap();
            assert_eq!(
                list.allows_tag(host, &repository, &tag.parse().unwrap()),
                expected,
                "{host}/{repository}:{tag}"
            );
        }
        let app: Repository = "org/app".parse().unwrap();
        assert_eq!(list.allows("quay.io", &app), Some(Allowed::SomeTags));
        assert_eq!(list.allows("ghcr.io", &app), Some(Allowed::All));
        assert_eq!(list.allows("docker.io", &"library/alpine".parse().unwrap()), Some(Allowed::All));
        let digest = Reference::Digest(crate::oci::Digest::sha256(b""));
        assert!(!list.allows_reference("quay.io", &app, &digest));
        assert_eq!((list.host(None), list.host(Some("x.y"))), (Some("harbor.example"), Some("x.y")));
        assert_eq!(Policy::default().allows("docker.io", &app), None);
    }

    #[test]
    fn rules_that_do_not_parse_say_why() {
        for (text, part) in [
            ("", "host is not one"),
            ("library/alpine", "neither a dot nor a port"),
            ("docker.io/", "repository"),
            ("docker.io/Library/x", "repository has characters"),
            ("docker.io/a//b", "part of its repository is empty"),
            ("docker.io/a:", "tag has characters"),
            ("docker.io/a:b:c", "tag has characters"),
            ("docker.io/***", "two stars"),
            ("https://docker.io/a", "host is not one"),
            ("doc ker.io/a", "host is not one"),
            (&format!("docker.io/{}", "a".repeat(600)), "too long"),
        ] {
            let error = text.parse::<Rule>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        for text in ["docker.io/library/*", "127.0.0.1:5000", "[::1]:5000/a/**:v*", "ghcr.io"] {
            assert_eq!(text.parse::<Rule>().unwrap().to_string(), text);
        }
        let missing = Policy::new(vec!["ghcr.io".parse().unwrap()], Some("quay.io")).unwrap_err();
        assert!(missing.to_string().contains("no rule is about it"));
    }

    /// What `*` and `**` mean, said another way.
    fn slow(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', b'*', rest @ ..] => (0..=text.len()).any(|n| slow(rest, &text[n..])),
            [b'*', rest @ ..] => {
                (0..=text.len()).take_while(|n| !text[..*n].contains(&b'/')).any(|n| slow(rest, &text[n..]))
            }
            [c, rest @ ..] => text.first() == Some(c) && slow(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn patterns_match_as_they_are_defined(pattern in "[ab/*]{0,7}", text in "[ab/]{0,8}") {
            prop_assert_eq!(
                Pattern(pattern.clone()).matches(&text), slow(pattern.as_bytes(), text.as_bytes()), "{} {}", pattern, text
            );
        }

        #[test]
        fn any_text_is_a_rule_or_an_error(text in "[ -~]{0,60}") {
            if let Ok(rule) = text.parse::<Rule>() {
                prop_assert_eq!(rule.to_string().parse::<Rule>(), Ok(rule));
            }
        }
    }
}
