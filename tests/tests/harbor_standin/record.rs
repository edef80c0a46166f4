//! Recorded calls.

use serde_json::Value;
use std::path::Path;

/// One line of the file.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) n: u64,
    pub(crate) case: String,
    pub(crate) who: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) all: Value,
}

impl Record {
    pub(crate) fn all() -> Vec<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/harbor-transcripts.jsonl");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        text.lines().map(Self::read).collect()
    }

    fn read(line: &str) -> Self {
        let all: Value = serde_json::from_str(line).expect("a line of JSON");
        let text = |name: &str| all[name].as_str().expect("a text").to_owned();
        Self {
            n: all["n"].as_u64().expect("a number"),
            case: text("case"),
            who: text("as"),
            method: text("method"),
            path: text("path"),
            all,
        }
    }

    pub(crate) fn status(&self) -> u64 {
        self.all["status"].as_u64().expect("a status")
    }

    /// The body, with nothing filled in.
    pub(crate) fn body(&self) -> Option<Vec<u8>> {
        if let Some(size) = self.all["noise"].as_u64() {
            return Some(satellite_tests::oci::noise(usize::try_from(size).unwrap(), self.n));
        }
        if let Some(repeat) = self.all["repeat"].as_array() {
            let times = usize::try_from(repeat[1].as_u64().unwrap()).unwrap();
            return Some(repeat[0].as_str().unwrap().repeat(times).into_bytes());
        }
        if let Some(text) = self.all["text"].as_str() {
            return Some(text.as_bytes().to_vec());
        }
        self.all.get("json").map(|json| json.to_string().into_bytes())
    }
}
