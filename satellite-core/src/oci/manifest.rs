//! Manifests: the exact bytes, and a view of what they name.

use std::collections::BTreeMap;

use bytes::Bytes;
use oci_spec::image as spec;
use serde::{Deserialize, Serialize};

use super::{Digest, DigestError, Platform, media_type};

/// The largest manifest taken or fetched: 4 MiB, as the distribution specification asks of registries.
pub const MAX_MANIFEST_BYTES: usize = 4 << 20;
/// The most children, layers or annotations walked in one manifest.
const MAX_ENTRIES: usize = 100_000;
/// The longest media type.
const MAX_MEDIA_TYPE: usize = 255;

/// A reference to content: what it is, its name, its size (image-spec, "Content Descriptors").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of the content.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// What the content runs on, for children of an index.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub platform: Option<Platform>,
    /// Type of the artifact, for referrers.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub artifact_type: Option<String>,
    /// Free annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub annotations: BTreeMap<String, String>,
    /// Whether the content has other places to come from (`urls`), as foreign layers do.
    #[serde(skip)]
    pub has_urls: bool,
}

impl Descriptor {
    /// One with no more than what is required.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            platform: None,
            artifact_type: None,
            annotations: BTreeMap::new(),
            has_urls: false,
        }
    }

    /// Whether registries need not hold it: a foreign layer.
    pub fn is_foreign(&self) -> bool {
        self.has_urls && media_type::is_foreign_layer(&self.media_type)
    }
}

/// Why bytes are no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Longer than [`MAX_MANIFEST_BYTES`].
    #[error("the manifest has {0} bytes, more than the {MAX_MANIFEST_BYTES} allowed")]
    TooLarge(usize),
    /// Not JSON of the shape that its media type asks for (also: nested too deep, a field twice).
    #[error("not a valid {media_type}: {cause}")]
    Json {
        /// The type it was said to be of.
        media_type: String,
        /// Where and what.
        cause: serde_json::Error,
    },
    /// `mediaType` inside contradicts the type it came with.
    #[error("the manifest says it is {inside:?} but came as {outside:?}")]
    MediaType {
        /// In the document.
        inside: String,
        /// In the header or descriptor.
        outside: String,
    },
    /// Docker's first format, which names its layers in another way and is not served by anybody any more.
    #[error("Docker schema 1 manifests are not supported: build or push the image again")]
    Schema1,
    /// A media type that is none (RFC 6838 §4.2: 127 bytes on each side of the slash).
    #[error("the manifest's media type has {0} bytes, more than the {MAX_MEDIA_TYPE} allowed")]
    MediaTypeLength(usize),
    /// It names content by a digest that is none.
    #[error("the manifest names {0}")]
    Digest(#[from] DigestError),
    /// More entries than anybody needs.
    #[error("the manifest has {0} entries, more than the {MAX_ENTRIES} allowed")]
    Entries(usize),
}

/// A manifest of any kind. `raw` is what is stored, hashed and served; the rest is read from it and never written back.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The bytes as they came.
    pub raw: Bytes,
    /// Its media type.
    pub media_type: String,
    /// Manifests it lists (an index's children).
    pub children: Vec<Descriptor>,
    /// Blobs it needs: config and layers. Foreign layers are in it too.
    pub blobs: Vec<Descriptor>,
    /// The manifest it is about (image-spec, `subject`).
    pub subject: Option<Descriptor>,
    /// `artifactType`, or for an image the type of its config.
    pub artifact_type: Option<String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// What all kinds share; read leniently, so that an unknown kind passes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    media_type: Option<String>,
    artifact_type: Option<String>,
    subject: Option<spec::Descriptor>,
    annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    blobs: Vec<spec::Descriptor>,
    manifests: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl Manifest {
    /// Reads `raw`, which came as `declared` (a `Content-Type` or a descriptor's type) or without a type.
    ///
    /// A manifest of an unknown media type is taken as it is: it names nothing but its subject.
    pub fn parse(raw: impl Into<Bytes>, declared: Option<&str>) -> Result<Self, ManifestError> {
        let raw: Bytes = raw.into();
        if raw.len() > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLarge(raw.len()));
        }
        let declared =
            declared.map(media_type::essence).filter(|t| !t.is_empty() && *t != media_type::OCTET_STREAM);
        let json = |media_type: &str, cause| ManifestError::Json { media_type: media_type.into(), cause };
        let envelope: Envelope =
            serde_json::from_slice(&raw).map_err(|e| json(declared.unwrap_or("manifest"), e))?;
        let media_type = match (declared, envelope.media_type.as_deref()) {
            (Some(outside), Some(inside)) if outside != inside => {
                return Err(ManifestError::MediaType { inside: inside.into(), outside: outside.into() });
            }
            (Some(given), _) | (None, Some(given)) => given.to_string(),
            // Neither said it: the shape does (image-spec makes mediaType optional).
            (None, None) if envelope.manifests.is_some() => media_type::OCI_INDEX.into(),
            (None, None) if envelope.config.is_some() => media_type::OCI_MANIFEST.into(),
            (None, None) => media_type::OCTET_STREAM.into(),
        };
        if media_type.starts_with("application/vnd.docker.distribution.manifest.v1+")
            || envelope.fs_layers.is_some()
        {
            return Err(ManifestError::Schema1);
        }
        if media_type.len() > MAX_MEDIA_TYPE {
            return Err(ManifestError::MediaTypeLength(media_type.len()));
        }
        let mut manifest = Self {
            media_type,
            children: Vec::new(),
            blobs: Vec::new(),
            subject: envelope.subject.as_ref().map(descriptor).transpose()?,
            artifact_type: envelope.artifact_type.filter(|t| !t.is_empty()),
            annotations: envelope.annotations.unwrap_or_default(),
            raw,
        };
        match manifest.media_type.as_str() {
            media_type::OCI_INDEX | media_type::DOCKER_LIST => {
                let index: spec::ImageIndex =
                    serde_json::from_slice(&manifest.raw).map_err(|e| json(&manifest.media_type, e))?;
                manifest.children = descriptors(index.manifests())?;
            }
            media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST => {
                let image: spec::ImageManifest =
                    serde_json::from_slice(&manifest.raw).map_err(|e| json(&manifest.media_type, e))?;
                manifest.blobs.push(descriptor(image.config())?);
                manifest.blobs.extend(descriptors(image.layers())?);
                let config_type = || Some(manifest.blobs.first()?.media_type.clone());
                manifest.artifact_type = manifest.artifact_type.take().or_else(config_type);
            }
            media_type::OCI_ARTIFACT => manifest.blobs = descriptors(&envelope.blobs)?,
            _ => {}
        }
        Ok(manifest)
    }

    /// Whether it lists manifests.
    pub fn is_index(&self) -> bool {
        media_type::is_index(&self.media_type)
    }

    /// How a referrers list describes it (distribution-spec, "Listing Referrers").
    pub fn as_referrer(&self, digest: Digest) -> Descriptor {
        Descriptor {
            artifact_type: self.artifact_type.clone(),
            annotations: self.annotations.clone(),
            ..Descriptor::new(&self.media_type, digest, self.raw.len() as u64)
        }
    }
}

fn descriptors(list: &[spec::Descriptor]) -> Result<Vec<Descriptor>, ManifestError> {
    if list.len() > MAX_ENTRIES {
        return Err(ManifestError::Entries(list.len()));
    }
    list.iter().map(descriptor).collect()
}

fn descriptor(from: &spec::Descriptor) -> Result<Descriptor, ManifestError> {
    let platform = from
        .platform()
        .as_ref()
        .map(|p| Platform::new(&p.os().to_string(), &p.architecture().to_string(), p.variant().as_deref()));
    Ok(Descriptor {
        media_type: from.media_type().to_string(),
        digest: from.digest().to_string().parse()?,
        size: from.size(),
        platform,
        artifact_type: from.artifact_type().as_ref().map(ToString::to_string),
        annotations: from.annotations().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect(),
        has_urls: from.urls().as_ref().is_some_and(|u| !u.is_empty()),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn digest(n: u8) -> Digest {
        Digest::sha256(&[n])
    }

    fn image(media_type: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{media_type}","x-unknown":[1],
              "config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":1}},
              "layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{}","size":2}}],
              "subject":{{"mediaType":"{media_type}","digest":"{}","size":3}},"annotations":{{"a":"b"}}}}"#,
            digest(1),
            digest(2),
            digest(3)
        )
    }

    #[test]
    fn images_of_both_families_name_their_blobs_and_keep_their_bytes() {
        for kind in [media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST] {
            let text = image(kind);
            let m = Manifest::parse(text.clone(), Some(kind)).unwrap();
            assert_eq!(m.raw, text);
            assert_eq!(m.blobs.iter().map(|b| b.digest.clone()).collect::<Vec<_>>(), [digest(1), digest(2)]);
            assert_eq!(m.subject.unwrap().digest, digest(3));
            assert_eq!(m.artifact_type.as_deref(), Some(media_type::OCI_CONFIG));
            assert_eq!(m.annotations["a"], "b");
        }
    }

    #[test]
    fn lists_of_both_families_name_their_children_with_platforms() {
        for kind in [media_type::OCI_INDEX, media_type::DOCKER_LIST] {
            let text = format!(
                r#"{{"schemaVersion":2,"mediaType":"{kind}","manifests":[{{"mediaType":"{}","digest":"{}","size":1,
                   "platform":{{"os":"linux","architecture":"arm","variant":"v6"}}}},{{"mediaType":"{}","digest":"{}","size":1,
                   "platform":{{"os":"unknown","architecture":"unknown"}}}}]}}"#,
                media_type::OCI_MANIFEST,
                digest(1),
                media_type::OCI_MANIFEST,
                digest(2)
            );
            let m = Manifest::parse(text, None).unwrap();
            assert!(m.is_index() && m.children.len() == 2);
            assert_eq!(m.children[0].platform.as_ref().unwrap().to_string(), "linux/arm/v6");
            assert_eq!(m.children[1].platform.as_ref().unwrap().to_string(), "unknown/unknown");
        }
    }

    #[test]
    fn artifact_and_unknown_manifests_pass_through() {
        let text = format!(
            r#"{{"mediaType":"{}","artifactType":"sbom/x","blobs":[{{"mediaType":"a/b","digest":"{}","size":1}}]}}"#,
            media_type::OCI_ARTIFACT,
            digest(1)
        );
        let m = Manifest::parse(text, None).unwrap();
        assert_eq!((m.blobs.len(), m.artifact_type.as_deref()), (1, Some("sbom/x")));
        let m = Manifest::parse(r#"{"anything":{"goes":1}}"#, Some("application/vnd.example+json")).unwrap();
        assert!(
            m.blobs.is_empty() && m.children.is_empty() && m.media_type == "application/vnd.example+json"
        );
    }

    #[test]
    fn docker_schema_1_is_refused_by_name() {
        let text = r#"{"schemaVersion":1,"name":"a","tag":"b","fsLayers":[{"blobSum":"x"}]}"#;
        for kind in [None, Some("application/vnd.docker.distribution.manifest.v1+prettyjws")] {
            assert!(matches!(Manifest::parse(text, kind), Err(ManifestError::Schema1)));
        }
    }

    #[test]
    fn bad_manifests_are_refused_with_a_cause() {
        let good = image(media_type::OCI_MANIFEST);
        let deep = format!(r#"{{"x":{}1{}}}"#, "[".repeat(5000), "]".repeat(5000));
        for (bad, why) in [
            (String::new(), "EOF"),
            ("[]".into(), "invalid"),
            ("null".into(), "invalid"),
            (good.replace("sha256:", "sha256:../"), "Invalid"),
            (good.replace("sha256:", "md5:"), "digest"),
            (good.replace("\"size\":1", "\"size\":-1"), "invalid"),
            (good.replacen("\"config\"", "\"config\":{},\"config\"", 1), "duplicate"),
            (good.replace("\"layers\":[", "\"layers\":null,\"x\":["), "null"),
            (deep, "missing field"),
        ] {
            let error = Manifest::parse(bad.clone(), Some(media_type::OCI_MANIFEST)).unwrap_err().to_string();
            assert!(error.contains(why), "{bad:.80}: {error}");
        }
        assert!(matches!(
            Manifest::parse(good, Some(media_type::OCI_INDEX)),
            Err(ManifestError::MediaType { .. })
        ));
        assert!(matches!(
            Manifest::parse(vec![b' '; MAX_MANIFEST_BYTES + 1], None),
            Err(ManifestError::TooLarge(_))
        ));
    }

    proptest! {
        #[test]
        fn damaged_manifests_never_panic(at in 0usize..600, byte: u8, kind in 0usize..5) {
            let kinds = [media_type::OCI_MANIFEST, media_type::OCI_INDEX, media_type::DOCKER_LIST, media_type::OCI_ARTIFACT, "x/y"];
            let mut bytes = image(kinds[kind]).into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = Manifest::parse(bytes, Some(kinds[kind]));
        }
    }
}
