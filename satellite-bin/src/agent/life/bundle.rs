//! A support bundle: a `tar.gz` of what helps somebody far away, without secrets.
//!
//! Secrets are kept out twice: what writes a document leaves them out, and whatever goes in is looked through for those
//! that this satellite knows.

use std::{
    fs,
    io::{self, Read, Write},
    path::Path,
};

use flate2::{Compression, write::GzEncoder};

/// Most bytes of a file of the machine.
const MAX_FILE: u64 = 1 << 20;
/// Shorter texts are no secrets, and would be found everywhere.
const SHORTEST: usize = 6;

/// Puts `***` in place of secrets.
#[derive(Clone, Debug, Default)]
pub struct Redactor(Vec<String>);

impl Redactor {
    /// Of these secrets; as they are, and as they stand in JSON and in base64.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let mut all = Vec::new();
        for secret in secrets.into_iter().filter(|s| s.len() >= SHORTEST) {
            let json = serde_json::to_string(&secret).unwrap_or_default();
            all.push(json.trim_matches('"').to_string());
            all.push(STANDARD.encode(&secret));
            all.push(secret);
        }
        // A secret that contains another goes first.
        all.sort_by_key(|s| std::cmp::Reverse(s.len()));
        all.dedup();
        Self(all)
    }

    /// The text without them.
    pub fn clean(&self, text: &str) -> String {
        self.0.iter().fold(text.to_string(), |text, secret| text.replace(secret, "***"))
    }
}

/// A bundle that is being written.
pub struct Bundle<W: Write> {
    tar: tar::Builder<GzEncoder<W>>,
    redactor: Redactor,
    /// Seconds since the epoch.
    at: u64,
}

impl<W: Write> Bundle<W> {
    /// An empty one; `at` is when it was made.
    pub fn new(out: W, redactor: Redactor, at: u64) -> Self {
        Self { tar: tar::Builder::new(GzEncoder::new(out, Compression::default())), redactor, at }
    }

    /// Puts a text in, under a name.
    ///
    /// # Errors
    /// What the output says.
    pub fn add(&mut self, name: &str, text: &str) -> io::Result<()> {
        let bytes = self.redactor.clean(text).into_bytes();
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.at);
        self.tar.append_data(&mut header, Path::new("satellite-support").join(name), bytes.as_slice())
    }

    /// Puts a file of the machine in, the first MiB of it; one that cannot be read is a note that says why.
    ///
    /// # Errors
    /// What the output says.
    pub fn add_file(&mut self, name: &str, path: &Path) -> io::Result<()> {
        let read = || {
            let mut bytes = Vec::new();
            fs::File::open(path)?.take(MAX_FILE).read_to_end(&mut bytes)?;
            Ok::<_, io::Error>(String::from_utf8_lossy(&bytes).into_owned())
        };
        let text = read().unwrap_or_else(|e| format!("cannot be read: {}: {e}\n", path.display()));
        self.add(name, &text)
    }

    /// Writes the end.
    ///
    /// # Errors
    /// What the output says.
    pub fn finish(self) -> io::Result<W> {
        self.tar.into_inner()?.finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn no_secret_goes_in_however_it_is_written() {
        let secrets = ["hunter2-hunter2", "with \"quotes\"", "hunter2-hunter2-longer", "abc"];
        let mut bundle = Bundle::new(Vec::new(), Redactor::new(secrets.map(String::from)), 0);
        let json = serde_json::json!({"password": secrets[1], "other": secrets[2]}).to_string();
        bundle.add("a.json", &json).unwrap();
        bundle.add("log", "Authorization: aHVudGVyMi1odW50ZXIy and hunter2-hunter2, abc").unwrap();
        bundle.add_file("absent", Path::new("/absent/file")).unwrap();
        let bytes = bundle.finish().unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice()));
        let mut all = String::new();
        let mut names = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            names.push(entry.path().unwrap().display().to_string());
            entry.read_to_string(&mut all).unwrap();
        }
        assert_eq!(names.len(), 3);
        for secret in &secrets[..3] {
            assert!(!all.contains(secret), "{all}");
        }
        assert!(!all.contains("quotes") && !all.contains("longer") && !all.contains("aHVudGVy"), "{all}");
        assert!(all.contains("and ***, abc") && all.contains("cannot be read: /absent/file"), "{all}");
    }
}
