//! Against CNCF distribution, where Debian's `docker-registry` is installed.

use std::{
    io::{self, BufRead, BufReader},
    net::TcpListener,
    process::{Child, Command, Stdio},
};

use bytes::Bytes;
use futures_lite::stream;

use super::*;
use crate::{net::client::script::run, oci::media_type};

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts one and waits until it says that it listens.
fn start() -> Option<(Process, String, tempfile::TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    let host = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let config = format!(
        "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
         http: {{addr: \"{host}\", secret: test}}\n",
        folder.path().join("data").display()
    );
    let path = folder.path().join("config.yml");
    std::fs::write(&path, config).unwrap();
    let spawned = Command::new("docker-registry")
        .arg("serve")
        .arg(&path)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut process = match spawned {
        Ok(child) => Process(child),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => panic!("docker-registry: {error}"),
    };
    let mut log = BufReader::new(process.0.stderr.take().unwrap()).lines();
    assert!(log.any(|line| line.unwrap().contains("listening on")), "it did not start");
    // Somebody has to read on, or it blocks.
    std::thread::spawn(move || log.for_each(drop));
    Some((process, host, folder))
}

#[test]
fn everything_works_against_cncf_distribution() {
    let Some((_process, host, _folder)) = start() else {
        #[allow(clippy::print_stderr)]
        {
            eprintln!("SKIPPED: docker-registry is not installed");
        }
        return;
    };
    run(async |executor| {
        let client = surf_client(ClientConfig::default(), executor).unwrap();
        let registry = Registry::new(&host, Options::default(), client).unwrap();
        let (app, copy): (Repository, Repository) = (app(), "edge/copy".parse().unwrap());
        registry.check().await.unwrap();

        let bytes: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let blob = Bytes::from(bytes);
        let digest = Digest::sha256(&blob);
        let size = blob.len() as u64;
        let source = |offset: u64| {
            let rest = blob.slice(usize::try_from(offset).unwrap()..);
            async move { Ok(Box::pin(stream::once(Ok(rest))) as ByteStream) }
        };
        assert_eq!(registry.head_blob(&app, &digest).await.unwrap(), None);
        let chunked = UploadOptions { chunk_size: Some(5_000_000), session: None };
        registry.upload_blob(&app, &digest, size, source, chunked).await.unwrap();
        assert_eq!(registry.head_blob(&app, &digest).await.unwrap(), Some(size));
        assert!(matches!(registry.mount(&copy, &digest, &app).await.unwrap(), Mounted::Done));
        let other: Repository = "edge/other".parse().unwrap();
        registry.upload_blob(&other, &digest, size, source, UploadOptions::default()).await.unwrap();
        let Mounted::Session(session) = registry.mount(&copy, &Digest::sha256(b"no"), &app).await.unwrap()
        else {
            panic!("mounted what is not there");
        };
        registry.cancel_upload(&copy, session).await.unwrap();

        for offset in [0, 1, 7_000_000, size - 1] {
            let got = registry.open_blob(&other, &digest, offset).await.unwrap();
            assert_eq!((got.offset, got.total), (offset, Some(size)));
            assert!(all(got.stream).await.unwrap() == blob[usize::try_from(offset).unwrap()..]);
        }
        assert!(matches!(registry.open_blob(&app, &digest, size).await, Err(Error::Range { .. })));

        let nothing = Digest::sha256(b"");
        let from_nothing = |_| async { Ok(Box::pin(stream::empty()) as ByteStream) };
        registry.upload_blob(&app, &nothing, 0, from_nothing, UploadOptions::default()).await.unwrap();
        assert!(all(registry.open_blob(&app, &nothing, 0).await.unwrap().stream).await.unwrap().is_empty());

        let config = Bytes::from_static(b"{}");
        let config_digest = Digest::sha256(&config);
        let from_config = |_| {
            let config = config.clone();
            async move { Ok(Box::pin(stream::once(Ok(config))) as ByteStream) }
        };
        registry.upload_blob(&app, &config_digest, 2, from_config, UploadOptions::default()).await.unwrap();
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{config_digest}","size":2}},"layers":[{{"mediaType":"{}","digest":"{digest}","size":{size}}}]}}"#,
            media_type::OCI_MANIFEST,
            media_type::OCI_CONFIG,
            media_type::OCI_LAYER_GZIP
        );
        let pushed = registry
            .put_manifest(&app, &tag(), media_type::OCI_MANIFEST, manifest.clone().into())
            .await
            .unwrap();
        let head = registry.head_manifest(&app, &tag()).await.unwrap();
        assert_eq!(head.digest.as_ref(), Some(&pushed.digest));
        let by_digest = Reference::Digest(pushed.digest.clone());
        let fetched = registry.get_manifest(&app, &by_digest, None).await.unwrap();
        assert!(matches!(fetched, Fetched::Manifest { bytes, .. } if bytes == manifest));
        let again = registry.get_manifest(&app, &tag(), Some(&pushed.digest)).await.unwrap();
        assert_eq!(again, Fetched::NotModified);
        assert_eq!(registry.tags(&app).await.unwrap().len(), 1);
        assert_eq!(registry.catalog().await.unwrap().len(), 3);
        assert!(registry.referrers(&app, &pushed.digest, None).await.unwrap().is_empty());
        assert!(registry.delete_manifest(&app, &pushed.digest).await.unwrap());
        assert!(registry.head_manifest(&app, &tag()).await.unwrap_err().is_not_found());
        assert!(registry.delete_blob(&app, &config_digest).await.unwrap());
        assert!(!registry.delete_blob(&app, &config_digest).await.unwrap());
    });
}
