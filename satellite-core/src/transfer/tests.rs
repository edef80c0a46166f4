#![allow(clippy::unwrap_used, clippy::expect_used)]
//! Transfers from sources that misbehave in every way that sources do.

use std::{
    io,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use bytes::Bytes;
use futures_lite::{StreamExt, future, stream};

use super::*;

/// What a source does at its n-th opening.
#[derive(Clone)]
enum Act {
    /// Gives everything from where it was asked.
    Whole,
    /// Cuts the connection after so many bytes.
    Cut(usize),
    /// Ends early, as if that were all.
    Short(usize),
    /// Knows no ranges.
    FromStart,
    /// Flips a byte.
    Lie,
    /// Appends a byte.
    Long,
    /// Gives so many bytes and then nothing.
    Stall(usize),
    Missing,
    Refuse,
    Busy,
}

struct Scripted {
    name: &'static str,
    trusted: bool,
    content: Bytes,
    acts: Vec<Act>,
    opened: AtomicU32,
    sent: Arc<AtomicU64>,
}

impl Scripted {
    fn new(name: &'static str, trusted: bool, content: &Bytes, acts: &[Act]) -> Arc<Self> {
        let sent = Arc::default();
        Arc::new(Self {
            name,
            trusted,
            content: content.clone(),
            acts: acts.into(),
            opened: AtomicU32::new(0),
            sent,
        })
    }
}

#[async_trait::async_trait]
impl Source for Scripted {
    fn name(&self) -> String {
        self.name.into()
    }

    fn trusted(&self) -> bool {
        self.trusted
    }

    async fn open(&self, _: &Digest, offset: u64) -> Result<Opened, SourceError> {
        let n = self.opened.fetch_add(1, Ordering::SeqCst) as usize;
        let act = self.acts.get(n).or(self.acts.last()).unwrap().clone();
        let from = if matches!(act, Act::FromStart) { 0 } else { offset as usize };
        let mut bytes = self.content.slice(from..).to_vec();
        let (mut end, mut total) = (Some(Ok(())), Some(self.content.len() as u64));
        match act {
            Act::Whole | Act::FromStart => {}
            Act::Cut(n) => {
                bytes.truncate(n);
                end = Some(Err("reset"));
            }
            Act::Short(n) => bytes.truncate(n),
            Act::Lie => bytes[0] ^= 1,
            Act::Long => {
                bytes.push(0);
                total = None;
            }
            Act::Stall(n) => {
                bytes.truncate(n);
                end = None;
            }
            Act::Missing => return Err(SourceError::NotFound("404".into())),
            Act::Refuse => return Err(SourceError::Refused { message: "403".into(), unauthorized: false }),
            Act::Busy => return Err(SourceError::Later { message: "503".into(), after: None }),
        }
        self.sent.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        let pieces: Vec<_> = bytes.chunks(50_000).map(|p| Ok(Bytes::copy_from_slice(p))).collect();
        let tail = stream::once(end).then(|end| async move {
            match end {
                Some(Ok(())) => None,
                Some(Err(e)) => Some(Err(io::Error::other(e))),
                None => future::pending().await,
            }
        });
        let stream = Box::pin(stream::iter(pieces).chain(tail.filter_map(|x| x)));
        Ok(Opened { offset: from as u64, total, stream })
    }
}

fn content() -> Bytes {
    (0..1_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn engine(dir: &std::path::Path) -> Engine {
    let store = Store::open(dir, store::Options { floor: 0, ..store::Options::default() }).unwrap();
    let backoff = Backoff { first: Duration::from_millis(1), most: Duration::from_millis(5) };
    let options = Options { stall: Duration::from_millis(100), attempts: 4, backoff };
    Engine::new(store, Arc::new(Throttle::new(None)), options)
}

fn fetch(sources: &[&Arc<Scripted>]) -> Result<How, Error> {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    let digest = Digest::sha256(&content());
    let sources: Vec<Arc<dyn Source>> = sources.iter().map(|s| Arc::clone(s) as Arc<dyn Source>).collect();
    let result = smol::block_on(engine.fetch(&digest, Some(1_000_000), &sources, &|_| ()));
    assert_eq!(engine.store().blob_size(&digest).unwrap().is_some(), result.is_ok());
    result
}

#[test]
fn a_link_that_is_cut_again_and_again_costs_each_byte_once() {
    let c = content();
    let source = Scripted::new("up", true, &c, &[Act::Cut(70_000)]);
    assert_eq!(fetch(&[&source]).unwrap(), How::Fetched { received: 1_000_000, resumed: 0 });
    assert!(source.opened.load(Ordering::SeqCst) >= 14);
    for act in [Act::Short(70_000), Act::Stall(400_000)] {
        let source = Scripted::new("up", true, &c, &[act]);
        assert_eq!(fetch(&[&source]).unwrap(), How::Fetched { received: 1_000_000, resumed: 0 });
    }
}

#[test]
fn a_source_without_ranges_is_read_from_its_start() {
    let source = Scripted::new("up", true, &content(), &[Act::Cut(500_000), Act::FromStart]);
    assert_eq!(fetch(&[&source]).unwrap(), How::Fetched { received: 1_500_000, resumed: 0 });
}

#[test]
fn the_next_source_goes_on_where_the_last_stopped() {
    let c = content();
    let peer = Scripted::new("peer", false, &c, &[Act::Cut(600_000), Act::Missing]);
    let up = Scripted::new("up", true, &c, &[Act::Whole]);
    fetch(&[&peer, &up]).unwrap();
    assert_eq!(up.sent.load(Ordering::SeqCst), 400_000);
}

#[test]
fn a_peer_that_lies_is_shunned_and_the_blob_fetched_afresh() {
    let c = content();
    let peer = Scripted::new("peer", false, &c, &[Act::Lie]);
    let up = Scripted::new("up", true, &c, &[Act::Whole]);
    fetch(&[&peer, &up]).unwrap();
    assert_eq!(up.sent.load(Ordering::SeqCst), 1_000_000);
    assert_eq!(peer.opened.load(Ordering::SeqCst), 1);
    // What is beyond the end is nobody's business: the digest is right.
    fetch(&[&Scripted::new("up", true, &c, &[Act::Long])]).unwrap();
    // Where both gave bytes, the one that is not trusted is the suspect.
    let peer = Scripted::new("peer", false, &c, &[Act::Cut(300_000)]);
    let up = Scripted::new("up", true, &c, &[Act::Lie, Act::Whole]);
    fetch(&[&peer, &up]).unwrap();
}

#[test]
fn errors_name_the_blob_the_source_and_the_cause() {
    let c = content();
    let digest = Digest::sha256(&c).to_string();
    for (act, cause) in [
        (Act::Lie, "wrong content"),
        (Act::Missing, "404"),
        (Act::Refuse, "403"),
        (Act::Busy, "503"),
        (Act::Stall(0), "no byte for"),
        (Act::Cut(0), "reset"),
    ] {
        let error = fetch(&[&Scripted::new("up.example", true, &c, &[act])]).unwrap_err().to_string();
        assert!(error.contains(&digest) && error.contains(cause) && error.contains("up.example"), "{error}");
    }
}

#[test]
fn a_transfer_goes_on_after_it_was_dropped_and_two_that_want_it_fetch_it_once() {
    let dir = tempfile::tempdir().unwrap();
    let c = content();
    let digest = Digest::sha256(&c);
    let stalling = Scripted::new("up", true, &c, &[Act::Stall(500_000), Act::Busy]);
    let sources: Vec<Arc<dyn Source>> = vec![stalling];
    smol::block_on(async {
        let engine = engine(dir.path());
        assert!(engine.fetch(&digest, Some(1_000_000), &sources, &|_| ()).await.is_err());
        let up = Scripted::new("up", true, &c, &[Act::Cut(100_000), Act::Whole]);
        let sources: Vec<Arc<dyn Source>> = vec![up.clone()];
        let one = engine.fetch(&digest, Some(1_000_000), &sources, &|_| ());
        let two = engine.fetch(&digest, Some(1_000_000), &sources, &|_| ());
        let (one, two) = future::zip(one, two).await;
        let hows = [one.unwrap(), two.unwrap()];
        // Which of them leads is chance.
        assert!(hows.contains(&How::Fetched { received: 500_000, resumed: 500_000 }), "{hows:?}");
        assert!(hows.contains(&How::Joined), "{hows:?}");
        assert_eq!(up.sent.load(Ordering::SeqCst), 500_000);
    });
}
