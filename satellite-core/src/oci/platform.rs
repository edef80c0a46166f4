//! Platforms of images, and which of an index's children a machine wants.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::Descriptor;

/// Operating system, architecture and variant (image-spec, "Image Index Property Descriptions"), normalised:
/// `arm64/v8` is `arm64`, `x86_64` is `amd64`, `arm` is `arm/v7`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`, as Go's GOOS names it.
    pub os: String,
    /// `arm64`, as Go's GOARCH names it.
    pub architecture: String,
    /// `v7` for 32-bit ARM; absent where there is but one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Why a text names no platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a platform: expected OS/ARCHITECTURE[/VARIANT], e.g. linux/arm64 or linux/arm/v7")]
pub struct PlatformError(String);

impl Platform {
    /// Puts the parts into their normal form.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let architecture = architecture.to_ascii_lowercase();
        let variant = variant.filter(|v| !v.is_empty()).map(str::to_ascii_lowercase);
        let (architecture, variant) = match (architecture.as_str(), variant.as_deref()) {
            ("x86_64" | "x86-64" | "amd64", None | Some("v1")) => ("amd64".into(), None),
            ("x86_64" | "x86-64", _) => ("amd64".into(), variant),
            ("aarch64" | "arm64", None | Some("8" | "v8")) => ("arm64".into(), None),
            ("aarch64", _) => ("arm64".into(), variant),
            ("armhf", _) => ("arm".into(), Some("v7".into())),
            ("armel", _) => ("arm".into(), Some("v6".into())),
            ("arm", None) => ("arm".into(), Some("v7".into())),
            ("arm", Some(v @ ("5" | "6" | "7" | "8"))) => ("arm".into(), Some(format!("v{v}"))),
            ("i386" | "i686", _) => ("386".into(), None),
            _ => (architecture, variant),
        };
        Self { os: os.to_ascii_lowercase(), architecture, variant }
    }

    /// The machine this was built for.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86" => "386",
            "loongarch64" => "loong64",
            other => other,
        };
        Self::new(std::env::consts::OS, architecture, None)
    }

    /// How well an image for `offered` runs on this machine: `None` not at all, smaller is better. A 32-bit ARM of a
    /// lower variant runs on a higher one, and on no machine with a lower one.
    pub fn rank(&self, offered: &Self) -> Option<u8> {
        if self.os != offered.os || self.architecture != offered.architecture {
            return None;
        }
        if self.variant == offered.variant {
            return Some(0);
        }
        let level =
            |p: &Self| p.variant.as_deref().map_or(Some(0), |v| v.strip_prefix('v')?.parse::<u8>().ok());
        level(self)?.checked_sub(level(offered)?)
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let good = |p: &&str| {
            p.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
                && p.len() <= 32
                && p.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        match parts.as_slice() {
            [os, arch] if parts.iter().all(&good) => Ok(Self::new(os, arch, None)),
            [os, arch, variant] if parts.iter().all(good) => Ok(Self::new(os, arch, Some(variant))),
            _ => Err(PlatformError(text.chars().take(80).collect())),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_deref().map_or(Ok(()), |v| write!(f, "/{v}"))
    }
}

/// Which children of an index are wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PlatformSet {
    /// Every child.
    All,
    /// The best child for each of these machines, and children of no stated platform.
    Some(Vec<Platform>),
}

impl PlatformSet {
    /// The children of an index that are wanted, in its order. A child without a platform is always wanted (nothing
    /// says it is not); one of `unknown/unknown` (an attestation) if the child that it is about is wanted.
    pub fn select<'a>(&self, children: &'a [Descriptor]) -> Vec<&'a Descriptor> {
        let Self::Some(machines) = self else { return children.iter().collect() };
        let best: Vec<u8> = machines
            .iter()
            .map(|m| {
                let ranks = children.iter().filter_map(|c| m.rank(c.platform.as_ref()?));
                ranks.min().unwrap_or(u8::MAX)
            })
            .collect();
        let runs = |child: &Descriptor| match &child.platform {
            None => true,
            Some(p) => machines.iter().zip(&best).any(|(m, best)| m.rank(p) == Some(*best)),
        };
        let about = |child: &Descriptor| {
            let digest = child.annotations.get("vnd.docker.reference.digest")?;
            children.iter().find(|c| c.digest.as_str() == digest)
        };
        children.iter().filter(|c| runs(c) || about(c).is_some_and(runs)).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::oci::{Digest, media_type};

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    fn child(n: u8, text: &str) -> Descriptor {
        let mut d = Descriptor::new(media_type::OCI_MANIFEST, Digest::sha256(&[n]), 1);
        d.platform = (!text.is_empty()).then(|| platform(text));
        d
    }

    #[test]
    fn spellings_of_one_machine_are_equal() {
        for (a, b) in [
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("Linux/ARM/7", "linux/arm/v7"),
        ] {
            assert_eq!(platform(a), platform(b));
        }
        for bad in ["", "linux", "linux/", "/", "a/b/c/d", "linux/ar m", "linux/../x"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_machine_takes_the_best_variant_it_can_run() {
        let index = [
            child(1, "linux/arm/v5"),
            child(2, "linux/arm/v6"),
            child(3, "linux/arm/v8"),
            child(4, "linux/amd64"),
        ];
        let pick = |m: &str| {
            PlatformSet::Some(vec![platform(m)])
                .select(&index)
                .iter()
                .map(|d| d.digest.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(pick("linux/arm/v7"), [Digest::sha256(&[2])]);
        assert_eq!(pick("linux/arm/v5"), [Digest::sha256(&[1])]);
        assert_eq!(pick("linux/amd64"), [Digest::sha256(&[4])]);
        assert!(pick("linux/riscv64").is_empty());
        assert_eq!(PlatformSet::All.select(&index).len(), 4);
    }

    #[test]
    fn children_without_platform_and_attestations_of_wanted_ones_come_along() {
        let mut attestation = child(9, "unknown/unknown");
        attestation
            .annotations
            .insert("vnd.docker.reference.digest".into(), Digest::sha256(&[1]).to_string());
        let mut other = child(8, "unknown/unknown");
        other.annotations.insert("vnd.docker.reference.digest".into(), Digest::sha256(&[2]).to_string());
        let index = [child(1, "linux/arm64"), child(2, "linux/amd64"), child(3, ""), attestation, other];
        let picked: Vec<_> = PlatformSet::Some(vec![platform("linux/arm64")])
            .select(&index)
            .iter()
            .map(|d| d.digest.clone())
            .collect();
        assert_eq!(picked, [Digest::sha256(&[1]), Digest::sha256(&[3]), Digest::sha256(&[9])]);
    }
}
