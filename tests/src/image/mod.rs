//! Images made in memory: reproducible layers, several platforms, Docker's types, signatures and other referrers.
//!
//! ```
//! use satellite_tests::image::{Artifact, Image};
//! let one = Image::new().file("message", b"hello").noise(100_000, 1).build();
//! let both = Artifact::index(vec![one.clone(), Image::new().platform("linux/arm64/v8").build()]);
//! assert_eq!(both.reach().len(), 7); // two layers, two configurations, two manifests, the index
//! # assert_ne!(one.digest, both.digest);
//! ```

mod layout;
mod push;

pub use push::with_digest;

use crate::oci;
use serde_json::{Value, json};

/// Content with a digest and a media type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Its type.
    pub media_type: String,
    /// Its digest.
    pub digest: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Blob {
    /// A blob named by sha256.
    pub fn new(media_type: &str, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self { media_type: media_type.into(), digest: oci::sha256(&bytes), bytes }
    }

    /// Bytes that do not compress, called a layer.
    pub fn noise(size: usize, seed: u64) -> Self {
        Self::new(oci::LAYER, oci::noise(size, seed))
    }

    fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}

/// A manifest or index with all that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// The manifest's type.
    pub media_type: String,
    /// The manifest's digest.
    pub digest: String,
    /// The manifest itself.
    pub manifest: Vec<u8>,
    /// `OS/ARCH[/VARIANT]`, for an index's entry.
    pub platform: Option<String>,
    /// What a manifest names: configuration first, then layers.
    pub blobs: Vec<Blob>,
    /// What an index names.
    pub children: Vec<Artifact>,
}

impl Artifact {
    /// A manifest from JSON; the digest is of these very bytes.
    pub fn new(media_type: &str, manifest: &Value, blobs: Vec<Blob>) -> Self {
        let manifest = manifest.to_string().into_bytes();
        let digest = oci::sha256(&manifest);
        Self { media_type: media_type.into(), digest, manifest, platform: None, blobs, children: Vec::new() }
    }

    /// An OCI index of these.
    pub fn index(children: Vec<Self>) -> Self {
        Self::list(oci::INDEX, children)
    }

    /// A Docker manifest list of these.
    pub fn docker_list(children: Vec<Self>) -> Self {
        Self::list(oci::DOCKER_LIST, children)
    }

    fn list(media_type: &str, children: Vec<Self>) -> Self {
        let entries: Vec<Value> = children.iter().map(Self::entry).collect();
        let value = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": entries});
        Self { children, ..Self::new(media_type, &value, Vec::new()) }
    }

    fn entry(&self) -> Value {
        let mut value = self.descriptor();
        if let Some(platform) = &self.platform {
            let mut parts = platform.split('/');
            let mut object = json!({"os": parts.next(), "architecture": parts.next()});
            if let Some(variant) = parts.next() {
                object["variant"] = json!(variant);
            }
            value["platform"] = object;
        }
        value
    }

    /// An artefact of that type that refers to this one.
    pub fn referrer(&self, artifact_type: &str, payload: &[u8]) -> Self {
        let empty = Blob::new("application/vnd.oci.empty.v1+json", b"{}".as_slice());
        let payload = Blob::new("application/octet-stream", payload);
        let value = json!({
            "schemaVersion": 2, "mediaType": oci::MANIFEST, "artifactType": artifact_type,
            "config": empty.descriptor(), "layers": [payload.descriptor()], "subject": self.descriptor(),
        });
        Self::new(oci::MANIFEST, &value, vec![empty, payload])
    }

    /// A signature as cosign stores it: an image of its own under [`Self::signature_tag`].
    pub fn signature(&self) -> Self {
        let config = Blob::new(
            oci::CONFIG,
            br#"{"architecture":"","os":"","rootfs":{"type":"layers","diff_ids":[]}}"#.as_slice(),
        );
        let claim = json!({"critical": {"type": "cosign container image signature",
            "image": {"docker-manifest-digest": self.digest}, "identity": {"docker-reference": ""}}, "optional": null});
        let payload = Blob::new("application/vnd.dev.cosign.simplesigning.v1+json", claim.to_string());
        let mut layer = payload.descriptor();
        layer["annotations"] = json!({"dev.cosignproject.cosign/signature": "bm90IGEgcmVhbCBvbmU="});
        let value = json!({"schemaVersion": 2, "mediaType": oci::MANIFEST, "config": config.descriptor(), "layers": [layer]});
        Self::new(oci::MANIFEST, &value, vec![config, payload])
    }

    /// The tag under which cosign looks for this one's signature.
    pub fn signature_tag(&self) -> String {
        format!("{}.sig", self.digest.replace(':', "-"))
    }

    /// Digest and bytes of all there is to it: blobs, children with theirs, and the manifest itself, last.
    pub fn reach(&self) -> Vec<(&str, &[u8])> {
        let blobs = self.blobs.iter().map(|blob| (blob.digest.as_str(), blob.bytes.as_slice()));
        let mut all: Vec<_> = blobs.chain(self.children.iter().flat_map(Self::reach)).collect();
        all.push((&self.digest, &self.manifest));
        all.sort_unstable_by_key(|(digest, _)| (*digest == self.digest, *digest));
        all.dedup_by_key(|(digest, _)| *digest);
        all
    }

    /// The type, digest and size that name it.
    pub fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.manifest.len()})
    }
}

/// Makes an image of one platform.
#[derive(Debug, Clone)]
pub struct Image {
    platform: String,
    docker: bool,
    files: Vec<(String, Vec<u8>)>,
    layers: Vec<Blob>,
}

impl Default for Image {
    fn default() -> Self {
        Self::new()
    }
}

impl Image {
    /// An image of `linux/amd64` without layers.
    pub fn new() -> Self {
        Self { platform: "linux/amd64".into(), docker: false, files: Vec::new(), layers: Vec::new() }
    }

    /// For `OS/ARCH[/VARIANT]`.
    pub fn platform(mut self, platform: &str) -> Self {
        self.platform = platform.into();
        self
    }

    /// In Docker's version 2, schema 2.
    pub fn docker(mut self) -> Self {
        self.docker = true;
        self
    }

    /// With a file in its first layer.
    pub fn file(mut self, path: &str, bytes: &[u8]) -> Self {
        self.files.push((path.into(), bytes.into()));
        self
    }

    /// With a layer of `size` bytes that do not compress. It is no tar archive: nothing here unpacks it.
    pub fn noise(mut self, size: usize, seed: u64) -> Self {
        self.layers.push(Blob::noise(size, seed));
        self
    }

    /// With a layer made elsewhere.
    pub fn layer(mut self, layer: Blob) -> Self {
        self.layers.push(layer);
        self
    }

    /// The image; the same steps give the same digest.
    pub fn build(self) -> Artifact {
        let (manifest_type, config_type, layer_type) = if self.docker {
            (oci::DOCKER_MANIFEST, oci::DOCKER_CONFIG, oci::DOCKER_LAYER)
        } else {
            (oci::MANIFEST, oci::CONFIG, oci::LAYER)
        };
        let mut layers = self.layers;
        if !self.files.is_empty() {
            layers.insert(0, Blob::new(oci::LAYER, archive(&self.files)));
        }
        for layer in &mut layers {
            layer.media_type = layer_type.into();
        }
        let mut parts = self.platform.split('/');
        let (os, arch) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let digests: Vec<&str> = layers.iter().map(|layer| layer.digest.as_str()).collect();
        let mut config = json!({"os": os, "architecture": arch, "config": {}, "rootfs": {"type": "layers", "diff_ids": digests}});
        if let Some(variant) = parts.next() {
            config["variant"] = json!(variant);
        }
        let config = Blob::new(config_type, config.to_string());
        let descriptors: Vec<Value> = layers.iter().map(Blob::descriptor).collect();
        let value = json!({"schemaVersion": 2, "mediaType": manifest_type, "config": config.descriptor(), "layers": descriptors});
        layers.insert(0, config);
        Artifact { platform: Some(self.platform), ..Artifact::new(manifest_type, &value, layers) }
    }
}

/// A gzipped tar archive that is the same each time.
pub fn archive(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let gzip = flate2::GzBuilder::new().mtime(0).write(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gzip);
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        tar.append_data(&mut header, path, bytes.as_slice()).expect("a file into an archive in memory");
    }
    tar.into_inner().and_then(flate2::write::GzEncoder::finish).expect("an archive in memory")
}
