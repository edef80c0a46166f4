//! The hot paths by themselves, without sockets: `cargo bench -p satellite-benches --bench hot`, under a minute.
//!
//! For comparing two builds on one machine; what is promised is measured by `benches/run` and held by counts in
//! `tests/tests/counts.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::{BatchSize, Criterion, Throughput};
use http::{Method, StatusCode};
use satellite_core::{
    net::message::{Peer, Request, RequestBody, Response},
    oci::{Algorithm, Digest, Hasher, ImageReference, Manifest, Reference},
    registry::{Access, Registry, Settings},
    store::{Options, Store},
};
use satellite_tests::{
    dir::Dir,
    image::{Artifact, Blob, Image},
};

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(30)
        .configure_from_args();
    answers(&mut criterion);
    manifests(&mut criterion);
    hashes(&mut criterion);
    names(&mut criterion);
    criterion.final_summary();
}

fn image(layers: u64) -> Artifact {
    (0..layers).fold(Image::new(), |image, n| image.layer(Blob::noise(100, n))).build()
}

/// A registry as `satellite serve` has it, with one image as `team/app:v1`.
struct Home {
    registry: Registry,
    // Last: the store in it is closed first.
    _dir: Dir,
}

impl Home {
    fn with(image: &Artifact) -> Self {
        let dir = Dir::new();
        let store = Store::open(&dir.join("s"), Options { floor: 0, ..Options::default() }).unwrap();
        let access = Access { trust_loopback: true, ..Access::default() };
        let home =
            Self { registry: Registry::new(store, access, Settings::default(), Arc::default()), _dir: dir };
        for blob in &image.blobs {
            let path = format!("/v2/team/app/blobs/uploads/?digest={}", blob.digest);
            home.put(&Method::POST, &path, "application/octet-stream", &blob.bytes);
        }
        home.put(&Method::PUT, "/v2/team/app/manifests/v1", &image.media_type, &image.manifest);
        home
    }

    fn put(&self, method: &Method, path: &str, kind: &str, bytes: &[u8]) {
        let mut request = request(method, path, bytes);
        request.headers_mut().insert("content-type", kind.parse().unwrap());
        assert_eq!(self.answer(request).status(), StatusCode::CREATED, "{method} {path}");
    }

    fn answer(&self, request: Request) -> Response {
        smol::block_on(self.registry.answer(request))
    }
}

fn request(method: &Method, path: &str, body: &[u8]) -> Request {
    let address = ([127, 0, 0, 1], 40_000).into();
    let request = http::Request::builder().method(method).uri(path).extension(Peer { address, tls: false });
    request.body(RequestBody::from_bytes(body.to_vec())).unwrap()
}

/// Requests as the HTTP server hands them over, to answers as it gets them back.
fn answers(criterion: &mut Criterion) {
    let image = image(3);
    let home = Home::with(&image);
    let mut group = criterion.benchmark_group("answer");
    let mut case = |name: &str, method: &Method, path: &str, range: Option<&str>, status: StatusCode| {
        let ask = || {
            let mut request = request(method, path, b"");
            if let Some(range) = range {
                request.headers_mut().insert("range", range.parse().unwrap());
            }
            request
        };
        assert_eq!(home.answer(ask()).status(), status, "{name}");
        group.bench_function(name, |b| {
            b.iter_batched(ask, |request| black_box(home.answer(request)), BatchSize::SmallInput);
        });
    };
    let (manifest, blob) =
        ("/v2/team/app/manifests", format!("/v2/team/app/blobs/{}", image.blobs[1].digest));
    let by_digest = format!("{manifest}/{}", image.digest);
    let by_tag = format!("{manifest}/v1");
    case("manifest by tag", &Method::GET, &by_tag, None, StatusCode::OK);
    case("manifest by tag, HEAD", &Method::HEAD, &by_tag, None, StatusCode::OK);
    case("manifest by digest", &Method::GET, &by_digest, None, StatusCode::OK);
    case("no such manifest", &Method::GET, &format!("{manifest}/v2"), None, StatusCode::NOT_FOUND);
    case("blob", &Method::GET, &blob, None, StatusCode::OK);
    // What a range costs is the difference.
    case("blob, a range", &Method::GET, &blob, Some("bytes=10-59"), StatusCode::PARTIAL_CONTENT);
    group.finish();
}

fn manifests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("manifest");
    for layers in [1, 200] {
        let image = image(layers);
        group.throughput(Throughput::Bytes(image.manifest.len() as u64));
        group.bench_function(format!("{layers} layers"), |b| {
            let parse = |raw| Manifest::parse(raw, Some(&image.media_type)).unwrap();
            b.iter_batched(|| image.manifest.clone(), parse, BatchSize::SmallInput);
        });
    }
    group.finish();
}

fn hashes(criterion: &mut Criterion) {
    let bytes = satellite_tests::oci::noise(256 << 10, 1);
    let mut group = criterion.benchmark_group("hash 256 KiB");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    for algorithm in Algorithm::ALL {
        group.bench_function(algorithm.name(), |b| {
            b.iter(|| {
                let mut hasher = Hasher::new(algorithm);
                hasher.update(black_box(&bytes));
                hasher.finish()
            });
        });
    }
    group.finish();
    // Of every checkpoint: two each 3 MiB.
    let mut hasher = Hasher::new(Algorithm::Sha256);
    hasher.update(&bytes);
    criterion.bench_function("hash state saved and restored", |b| {
        b.iter(|| Hasher::restore(&black_box(&hasher).save()).unwrap());
    });
}

fn names(criterion: &mut Criterion) {
    let digest = Digest::sha256(b"").to_string();
    let full = format!("registry.example.com:5000/library/team/app:v1.2.3@{digest}");
    let mut group = criterion.benchmark_group("parse");
    group.bench_function("digest", |b| b.iter(|| black_box(&*digest).parse::<Digest>().unwrap()));
    group.bench_function("tag", |b| b.iter(|| black_box("v1.2.3").parse::<Reference>().unwrap()));
    group.bench_function("image", |b| b.iter(|| black_box(&*full).parse::<ImageReference>().unwrap()));
    group.finish();
}
