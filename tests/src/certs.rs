//! A private certificate authority and a server certificate of it, made by openssl.

use crate::process::run;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Files of a private authority and of a server it vouches for.
#[derive(Debug, Clone)]
pub struct Certs {
    /// The authority's certificate: what clients trust.
    pub ca: PathBuf,
    /// The server's certificate, for `127.0.0.1` and `localhost`.
    pub cert: PathBuf,
    /// The server's private key.
    pub key: PathBuf,
    /// The authority's private key.
    ca_key: PathBuf,
}

impl Certs {
    /// Makes them below `dir`.
    pub fn make(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).expect("a directory for certificates");
        let (ca, ca_key) = (dir.join("ca.crt"), dir.join("ca.key"));
        let (cert, key, request) = (dir.join("server.crt"), dir.join("server.key"), dir.join("server.csr"));
        let extensions = dir.join("extensions");
        std::fs::write(&extensions, "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n")
            .expect("the extensions");
        let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        openssl(|command| {
            command.args(["req", "-x509", "-days", "30", "-subj", "/CN=test authority"]).args(new_key);
            command
                .args(["-addext", "basicConstraints=critical,CA:TRUE"])
                .arg("-keyout")
                .arg(&ca_key)
                .arg("-out")
                .arg(&ca);
        });
        openssl(|command| {
            command.args(["req", "-subj", "/CN=test server"]).args(new_key);
            command.arg("-keyout").arg(&key).arg("-out").arg(&request);
        });
        openssl(|command| {
            command.args(["x509", "-req", "-days", "30", "-CAcreateserial", "-in"]).arg(&request);
            command
                .arg("-CA")
                .arg(&ca)
                .arg("-CAkey")
                .arg(&ca_key)
                .arg("-extfile")
                .arg(&extensions)
                .arg("-out")
                .arg(&cert);
        });
        Self { ca, cert, key, ca_key }
    }

    /// Makes a client's certificate, and its key, whose only name is that URI; below the directory of the others.
    pub fn client(&self, uri: &str) -> (PathBuf, PathBuf) {
        let dir = tempfile::tempdir_in(self.ca.parent().expect("a directory")).expect("a directory").keep();
        let (cert, key, request) = (dir.join("client.crt"), dir.join("client.key"), dir.join("client.csr"));
        let extensions = dir.join("extensions");
        std::fs::write(&extensions, format!("subjectAltName=URI:{uri}\nextendedKeyUsage=clientAuth\n"))
            .expect("the extensions");
        openssl(|command| {
            command.args(["req", "-subj", "/O=test"]);
            command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
            command.arg("-keyout").arg(&key).arg("-out").arg(&request);
        });
        openssl(|command| {
            command.args(["x509", "-req", "-days", "30", "-CAcreateserial", "-in"]).arg(&request);
            command.arg("-CA").arg(&self.ca).arg("-CAkey").arg(&self.ca_key);
            command.arg("-extfile").arg(&extensions).arg("-out").arg(&cert);
        });
        (cert, key)
    }
}

/// Runs openssl; gives what it prints.
pub(crate) fn openssl(arguments: impl FnOnce(&mut Command)) -> String {
    let mut command = Command::new("openssl");
    arguments(&mut command);
    run(&mut command, Duration::from_secs(30)).ok()
}
