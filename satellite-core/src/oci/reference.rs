//! Names: repositories, tags, and the references that people type.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Digest, DigestError};

/// Why a text names nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Against the grammar of repository names (distribution-spec, "Pulling manifests").
    #[error(
        "{0:?} is not a repository name: path components of lower-case letters and digits, \
         separated by one of . _ __ or dashes, joined by /, {MAX_REPOSITORY} bytes at most"
    )]
    Repository(String),
    /// Against the grammar of tags.
    #[error("{0:?} is not a tag: a letter, digit or _ and then up to 127 letters, digits, or . _ -")]
    Tag(String),
    /// Against the grammar of digests.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// A host that is none.
    #[error("{0:?} is not a registry: expected HOST or HOST:PORT")]
    Registry(String),
}

const MAX_REPOSITORY: usize = 255;

fn quote(text: &str) -> String {
    text.chars().take(160).collect()
}

macro_rules! text_type {
    ($name:ident) => {
        impl $name {
            /// Its text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// A repository's name, without a host: `edge/app`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository(Box<str>);
text_type!(Repository);

impl FromStr for Repository {
    type Err = NameError;

    /// The grammar `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*`.
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() <= MAX_REPOSITORY && text.split('/').all(is_component) {
            Ok(Self(text.into()))
        } else {
            Err(NameError::Repository(quote(text)))
        }
    }
}

fn is_component(text: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends_well = |b: Option<&u8>| b.is_some_and(|b| alnum(*b));
    ends_well(bytes.first())
        && ends_well(bytes.last())
        && bytes
            .split(|b| alnum(*b))
            .all(|gap| matches!(gap, b"" | b"." | b"_" | b"__") || gap.iter().all(|b| *b == b'-'))
}

/// A tag: `v1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Box<str>);
text_type!(Tag);

impl FromStr for Tag {
    type Err = NameError;

    /// The grammar `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let good = text.len() <= 128
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'));
        if good { Ok(Self(text.into())) } else { Err(NameError::Tag(quote(text))) }
    }
}

/// What follows `/manifests/`: a tag or a digest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// By name.
    Tag(Tag),
    /// By content.
    Digest(Digest),
}

impl FromStr for Reference {
    type Err = NameError;

    /// Text with a colon can only be a digest.
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.contains(':') { Ok(Self::Digest(text.parse()?)) } else { Ok(Self::Tag(text.parse()?)) }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// An image as people and pods name it, completed the Docker way: `alpine` is `docker.io/library/alpine:latest`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageReference {
    /// Host, with port if not the scheme's own. Docker Hub is always `docker.io`.
    pub registry: String,
    /// Name within the registry.
    pub repository: Repository,
    /// The tag, if one was given or neither tag nor digest was.
    pub tag: Option<Tag>,
    /// The digest, if one was given: it decides, the tag is then only a name for it.
    pub digest: Option<Digest>,
}

impl ImageReference {
    /// What to ask the registry for.
    pub fn reference(&self) -> Reference {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => Reference::Digest(digest.clone()),
            (None, Some(tag)) => Reference::Tag(tag.clone()),
            // FromStr leaves at least one; whoever builds a value by hand without either gets Docker's default.
            (None, None) => Reference::Tag(Tag("latest".into())),
        }
    }
}

impl FromStr for ImageReference {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse()?)),
            None => (text, None),
        };
        // A colon after the last slash starts a tag; one before it belongs to a port.
        let (name, tag) = match name.rfind(':').filter(|colon| !name[*colon..].contains('/')) {
            Some(colon) if colon > 0 => (&name[..colon], Some(name[colon + 1..].parse()?)),
            _ => (name, None),
        };
        let (registry, path) = match name.split_once('/') {
            Some((host, path))
                if host.contains(['.', ':']) || host == "localhost" || host.starts_with('[') =>
            {
                (host, path)
            }
            _ => ("docker.io", name),
        };
        let registry = canonical_host(registry).ok_or_else(|| NameError::Registry(quote(registry)))?;
        let repository = if registry == "docker.io" && !path.contains('/') {
            format!("library/{path}").parse()
        } else {
            path.parse()
        };
        let repository = repository.map_err(|_| NameError::Repository(quote(path)))?;
        let tag = tag.or_else(|| digest.is_none().then(|| Tag("latest".into())));
        Ok(Self { registry, repository, tag, digest })
    }
}

/// The one spelling of a registry's HOST or HOST:PORT: lower case, and one name for Docker Hub. `None`: it is no host.
pub(crate) fn canonical_host(text: &str) -> Option<String> {
    let host = text.to_ascii_lowercase();
    is_host(&host).then(|| match host.as_str() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".into(),
        _ => host,
    })
}

/// Whether a text can be the HOST or HOST:PORT of a registry.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port_ok = port.is_none_or(|p| p.parse::<u16>().is_ok_and(|n| n > 0) && !p.starts_with('+'));
    let host_ok = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let label = |l: &str| {
                !l.is_empty()
                    && !l.starts_with('-')
                    && !l.ends_with('-')
                    && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            };
            !host.is_empty() && host.len() <= 253 && host.split('.').all(label)
        }
    };
    port_ok && host_ok
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.as_ref().map_or(Ok(()), |d| write!(f, "@{d}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn repository_names_follow_the_grammar() {
        let longest = "a/".repeat(127) + "a";
        for good in ["a", "edge/app", "a.b/c_d/e__f/g---h", "0/1", &longest] {
            assert!(good.parse::<Repository>().is_ok(), "{good}");
        }
        let too_long = "a".repeat(256);
        for bad in [
            "", "/", "a/", "/a", "a//b", "A", "a..b", "a___b", "a._b", "-a", "a-", "a/../b", "..", "a b",
            "ä", &too_long,
        ] {
            assert!(bad.parse::<Repository>().is_err(), "{bad}");
        }
    }

    #[test]
    fn tags_follow_the_grammar() {
        for good in ["v1", "_x", "1.2-3_4", &"t".repeat(128)] {
            assert!(good.parse::<Tag>().is_ok(), "{good}");
        }
        for bad in ["", ".a", "-a", "a/b", "a:b", "a b", "..", &"t".repeat(129)] {
            assert!(bad.parse::<Tag>().is_err(), "{bad}");
        }
    }

    #[test]
    fn short_names_are_completed_as_docker_does() {
        let d = Digest::sha256(b"");
        for (text, whole) in [
            ("alpine", "docker.io/library/alpine:latest".to_string()),
            ("alpine:3", "docker.io/library/alpine:3".into()),
            ("me/app", "docker.io/me/app:latest".into()),
            ("index.docker.io/me/app", "docker.io/me/app:latest".into()),
            ("localhost/app", "localhost/app:latest".into()),
            ("localhost:5000/app:v1", "localhost:5000/app:v1".into()),
            ("Harbor.example/edge/web", "harbor.example/edge/web:latest".into()),
            ("[::1]:5000/a/b:c", "[::1]:5000/a/b:c".into()),
            (&format!("h.test/a@{d}"), format!("h.test/a@{d}")),
            (&format!("h.test/a:t@{d}"), format!("h.test/a:t@{d}")),
        ] {
            assert_eq!(text.parse::<ImageReference>().unwrap().to_string(), whole);
        }
        for bad in [
            "",
            ":",
            "a:",
            "@",
            "a@b",
            "h.test/",
            "h.test/A",
            "h.test:99999/a",
            "h..test/a",
            "a b",
            "http://h.test/a",
        ] {
            assert!(bad.parse::<ImageReference>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_parses_or_fails_without_panic(text in ".{0,300}") {
            if let Ok(image) = text.parse::<ImageReference>() {
                prop_assert_eq!(image.to_string().parse::<ImageReference>().unwrap(), image);
            }
        }
    }
}
