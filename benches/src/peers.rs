//! The servers that are compared, each with the same blob.

use std::{
    fs,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    str::FromStr,
    time::Duration,
};

use satellite_tests::{
    certs::Certs,
    dir::Dir,
    has,
    http::Client,
    image::{Artifact, Blob},
    oci::noise,
    ports,
    process::Daemon,
    registry::Registry,
    satellite::{Server, Store},
    skip,
};

/// A large blob, in a file, and a small image that names it.
pub(crate) struct Content {
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
    pub(crate) digest: String,
    pub(crate) config: Blob,
    pub(crate) manifest: String,
}

impl Content {
    /// Incompressible bytes of that size.
    pub(crate) fn make(dir: &Path, size: u64) -> Self {
        fs::create_dir_all(dir).unwrap();
        let path = dir.join("blob");
        let mut file = fs::File::create(&path).unwrap();
        let piece = noise(1 << 20, 7);
        for n in 0..size >> 20 {
            // Each piece differs, so that nothing can be shared.
            file.write_all(&n.to_le_bytes()).unwrap();
            file.write_all(&piece[8..]).unwrap();
        }
        let out =
            Command::new("openssl").args(["dgst", "-sha256", "-r"]).arg(&path).output().expect("openssl");
        let digest = format!("sha256:{}", String::from_utf8_lossy(&out.stdout).split(' ').next().unwrap());
        let config = Blob::new("application/vnd.oci.image.config.v1+json", b"{}".to_vec());
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"{}","digest":"{}","size":2}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{digest}","size":{size}}}]}}"#,
            config.media_type, config.digest
        );
        Self { path, size, digest, config, manifest }
    }
}

/// A registry that runs already, and that anybody may push to: `NAME=http://ADDR:PORT[,PID]`. Without the number of its
/// process only its answers are measured.
#[derive(Clone, Debug)]
pub(crate) struct Other {
    name: String,
    address: SocketAddr,
    pid: u32,
}

impl FromStr for Other {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not NAME=http://ADDR:PORT[,PID]");
        let (name, rest) = text.split_once('=').ok_or_else(wrong)?;
        let (url, pid) = rest.split_once(',').unwrap_or((rest, "0"));
        let address = url.strip_prefix("http://").map(|a| a.trim_end_matches('/')).ok_or_else(wrong)?;
        let address = address.parse().map_err(|_| wrong())?;
        Ok(Self { name: name.into(), address, pid: pid.parse().map_err(|_| wrong())? })
    }
}

enum Kind {
    Other(Other),
    Satellite(Server),
    Registry(Registry),
    Nginx { _daemon: Daemon, address: SocketAddr },
}

/// A running server.
pub(crate) struct Peer {
    kind: Kind,
    pid: u32,
}

impl Peer {
    pub(crate) fn name(&self) -> &str {
        match &self.kind {
            Kind::Other(other) => &other.name,
            Kind::Satellite(_) => "satellite",
            Kind::Registry(_) => "docker-registry",
            Kind::Nginx { .. } => "nginx",
        }
    }

    /// Its process; 0 if that is not known.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn address(&self) -> SocketAddr {
        match &self.kind {
            Kind::Other(other) => other.address,
            Kind::Satellite(server) => server.address(),
            Kind::Registry(registry) => registry.address(),
            Kind::Nginx { address, .. } => *address,
        }
    }

    /// The path under which it has the content's blob.
    pub(crate) fn blob(&self, content: &Content) -> String {
        match self.kind {
            Kind::Nginx { .. } => "/blob".into(),
            _ => format!("/v2/bench/blobs/{}", content.digest),
        }
    }

    /// Those that speak TLS with a certificate of the bench's own, with the content in them.
    pub(crate) fn start_tls(dir: &Dir, content: &Content) -> Vec<Self> {
        let certs = Certs::make(&dir.join("certs"));
        let place = dir.join("store-tls");
        let _ = fs::remove_dir_all(&place);
        let store = Store::at(&place);
        {
            let mut server = store.serve();
            let plain = Self { pid: server.daemon().pid(), kind: Kind::Satellite(server) };
            fill(&plain, content);
        }
        let flags =
            ["--tls-cert".as_ref(), certs.cert.as_os_str(), "--tls-key".as_ref(), certs.key.as_os_str()];
        let mut server = store.serve_with(flags);
        let mut peers = vec![Self { pid: server.daemon().pid(), kind: Kind::Satellite(server) }];
        if has("nginx") || Path::new("/usr/sbin/nginx").exists() {
            peers.push(nginx(dir, content, Some(&certs)));
        }
        peers
    }

    /// The path under which it has the content's manifest.
    pub(crate) fn manifest(&self) -> &'static str {
        match self.kind {
            Kind::Nginx { .. } => "/manifest",
            _ => "/v2/bench/manifests/v1",
        }
    }

    /// All of them with the content in them.
    pub(crate) fn start_all(dir: &Dir, content: &Content, others: &[Other]) -> Vec<Self> {
        let mut peers = Self::start_registries(dir, others);
        for peer in &peers {
            fill(peer, content);
        }
        if has("nginx") || Path::new("/usr/sbin/nginx").exists() {
            peers.push(nginx(dir, content, None));
        } else {
            skip("nginx", "it is not installed; tests/install gets it");
        }
        peers
    }

    /// Those that can be pushed to: empty, but for those that run already.
    pub(crate) fn start_registries(dir: &Dir, others: &[Other]) -> Vec<Self> {
        let place = dir.join("store");
        let _ = fs::remove_dir_all(&place);
        let mut server = Store::at(&place).serve();
        let mut peers = vec![Self { pid: server.daemon().pid(), kind: Kind::Satellite(server) }];
        if Registry::available() {
            let mut registry = Registry::start();
            peers.push(Self { pid: registry.daemon().pid(), kind: Kind::Registry(registry) });
        } else {
            skip("docker-registry", "it is not installed; tests/install gets it");
        }
        peers.extend(others.iter().map(|o| Self { pid: o.pid, kind: Kind::Other(o.clone()) }));
        peers
    }
}

/// Puts blob, configuration and manifest into a registry.
pub(crate) fn fill(peer: &Peer, content: &Content) {
    crate::load::push(peer, content);
    let client = Client::new(peer.address());
    content.config.try_push(&client, "bench").expect("the configuration");
    let kind = "application/vnd.oci.image.manifest.v1+json";
    client.put("/v2/bench/manifests/v1", kind, content.manifest.as_bytes()).expect(201);
}

fn nginx(dir: &Dir, content: &Content, certs: Option<&Certs>) -> Peer {
    let (port, root) = (ports::free(), dir.join("nginx"));
    fs::create_dir_all(&root).unwrap();
    fs::write(content.path.with_file_name("manifest"), &content.manifest).unwrap();
    let (ssl, keys) = match certs {
        Some(certs) => (
            " ssl",
            format!("ssl_certificate {}; ssl_certificate_key {};", certs.cert.display(), certs.key.display()),
        ),
        None => ("", String::new()),
    };
    let conf = root.join("nginx.conf");
    let text = format!(
        "worker_processes 1; daemon off; master_process off; pid {root}/pid; error_log {root}/error.log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; sendfile on; keepalive_requests 100000000; default_type application/octet-stream;\n\
           client_body_temp_path {root}/t; proxy_temp_path {root}/t; fastcgi_temp_path {root}/t; uwsgi_temp_path {root}/t; scgi_temp_path {root}/t;\n\
           server {{ listen 127.0.0.1:{port}{ssl}; {keys} root {}; }} }}\n",
        content.path.parent().unwrap().display(),
        root = root.display()
    );
    fs::write(&conf, text).unwrap();
    let program = if has("nginx") { "nginx" } else { "/usr/sbin/nginx" };
    let daemon = Daemon::start("nginx", Command::new(program).arg("-c").arg(&conf), &root.join("log"));
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    ports::wait_open(address, Duration::from_secs(20));
    Peer { pid: daemon.pid(), kind: Kind::Nginx { _daemon: daemon, address } }
}

/// Small images by the thousand, for stores with many blobs.
pub(crate) fn small_image(n: usize) -> Artifact {
    let seed = n as u64;
    satellite_tests::image::Image::new()
        .layer(Blob::noise(200, seed))
        .layer(Blob::noise(200, seed + (1 << 32)))
        .build()
}
