#![allow(clippy::unwrap_used)]
//! What registries may answer.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex, OnceLock,
        mpsc::{Sender, channel},
    },
    thread,
    time::Duration,
};

use super::{Options, Registry, RetryPolicy, challenge, error, link};
use crate::{
    net::{
        Executor,
        client::{ClientConfig, surf_client},
    },
    oci::Digest,
};

/// Challenges, links, and refusals' bodies.
pub(crate) fn headers(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for challenge in challenge::parse(&text) {
        let _ = (challenge.get("realm"), challenge.get("scope"));
    }
    if let Some(next) = link::next(&text) {
        assert!(text.contains(next));
    }
    let (_, message) = error::parse_message(data);
    assert!(message.len() <= 1000, "a message of {} bytes", message.len());
    super::blob::fuzz(&text);
}

/// Sends the same bytes on each connection, and then its end.
struct Stage {
    address: SocketAddr,
    next: Sender<Arc<[u8]>>,
}

/// A whole answer, head and body, to requests for a manifest and for a blob.
pub(crate) fn answers(data: &[u8]) {
    static STAGE: OnceLock<Mutex<Stage>> = OnceLock::new();
    let stage = STAGE.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (next, script) = channel::<Arc<[u8]>>();
        thread::spawn(move || {
            let mut bytes: Arc<[u8]> = Arc::from(&b""[..]);
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                while let Ok(newer) = script.try_recv() {
                    bytes = newer;
                }
                let _ = stream.set_read_timeout(Some(Duration::from_millis(500)));
                let mut head = [0; 4096];
                let _ = stream.read(&mut head);
                let _ = stream.write_all(&bytes);
            }
        });
        Mutex::new(Stage { address, next })
    });
    let stage = stage.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    stage.next.send(data.into()).unwrap();
    let executor: Executor = Executor::default();
    let config = ClientConfig { native_roots: false, ..ClientConfig::default() };
    let retry = RetryPolicy { attempts: 1, base: Duration::from_millis(1), ..RetryPolicy::default() };
    let quick = Duration::from_millis(300);
    let options = Options { retry, stall_timeout: quick, login_freeze: quick / 300, ..Options::default() };
    let client = surf_client(config, executor.clone()).unwrap();
    let registry = Registry::new(&stage.address.to_string(), options, client).unwrap();
    smol::block_on(executor.run(async {
        use futures_lite::StreamExt;
        let (repository, reference) = ("a/b".parse().unwrap(), "v1".parse().unwrap());
        let _ = registry.get_manifest(&repository, &reference, None).await;
        if let Ok(blob) = registry.open_blob(&repository, &Digest::sha256(data), 3).await {
            let mut stream = blob.stream;
            let mut left = 1 << 20;
            while let Some(Ok(piece)) = stream.next().await {
                left -= piece.len().min(left);
                if left == 0 {
                    break;
                }
            }
        }
    }));
}
