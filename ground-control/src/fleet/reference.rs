//! Image references as satellites report them (`127.0.0.1:8585/library/web:v1@sha256:…`) and as people ask for them
//! (`library/web:v1`, `library/web`, `sha256:…`).

/// The parts, without the host: where an image came from is not what it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts<'a> {
    /// Empty for a bare digest.
    pub repository: &'a str,
    /// Empty if it says none.
    pub tag: &'a str,
    /// Empty if it says none.
    pub digest: &'a str,
}

impl<'a> Parts<'a> {
    /// Never fails: what is not a reference is a repository of that name.
    pub fn of(reference: &'a str) -> Self {
        if is_digest(reference) {
            return Self { digest: reference, ..Self::default() };
        }
        let (name, digest) = match reference.rsplit_once('@') {
            Some((name, digest)) if is_digest(digest) => (name, digest),
            _ => (reference, ""),
        };
        let (name, tag) = match name.rsplit_once(':') {
            Some((before, tag)) if !tag.contains('/') && !before.is_empty() => (before, tag),
            _ => (name, ""),
        };
        let repository = match name.split_once('/') {
            Some((host, rest)) if is_host(host) && !rest.is_empty() => rest,
            _ => name,
        };
        Self { repository, tag, digest }
    }
}

fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, hex)| {
        matches!(algorithm, "sha256" | "sha512")
            && hex.len() >= 64
            && hex.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

fn is_host(text: &str) -> bool {
    text == "localhost" || text.contains(['.', ':']) && !text.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_does_not_count_and_the_rest_does() {
        let d = format!("sha256:{}", "a".repeat(64));
        let full = format!("127.0.0.1:8585/library/web:v1@{d}");
        assert_eq!(Parts::of(&full), Parts { repository: "library/web", tag: "v1", digest: &d });
        assert_eq!(Parts::of("library/web:v1"), Parts { repository: "library/web", tag: "v1", digest: "" });
        assert_eq!(Parts::of("library/web"), Parts { repository: "library/web", tag: "", digest: "" });
        assert_eq!(Parts::of(&d), Parts { repository: "", tag: "", digest: &d });
        assert_eq!(Parts::of("localhost/a/b").repository, "a/b");
        assert_eq!(Parts::of("[::1]:5000/a/b:t"), Parts { repository: "a/b", tag: "t", digest: "" });
        assert_eq!(Parts::of("host:5000/a/b").tag, "");
        assert_eq!(Parts::of("").repository, "");
        assert_eq!(Parts::of("r1").repository, "r1");
    }
}
