//! An artefact as an OCI image layout on disk.

use super::Artifact;
use serde_json::json;
use std::path::Path;

impl Artifact {
    /// Writes it as the only image of an OCI layout, under that name (skopeo's `oci:DIR:NAME`).
    pub fn write_layout(&self, dir: &Path, name: &str) {
        for (digest, bytes) in self.reach() {
            let (algorithm, hex) = digest.split_once(':').expect("a digest");
            let folder = dir.join("blobs").join(algorithm);
            std::fs::create_dir_all(&folder).expect("the folder of blobs");
            std::fs::write(folder.join(hex), bytes).expect("a blob");
        }
        let mut entry = self.descriptor();
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        let index = json!({"schemaVersion": 2, "manifests": [entry]});
        std::fs::write(dir.join("index.json"), index.to_string()).expect("the index");
        std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
            .expect("the layout's mark");
    }
}
