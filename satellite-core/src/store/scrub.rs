//! Reading everything again, slowly, for as long as the store is open: what rots on a disk shows no other way.
//!
//! One thread at the lowest priority, with the idle class of I/O, goes through the blobs by name, never faster than its
//! rate, and rests so that it takes no more than its share of a processor. Where it is is kept across restarts. Pages that
//! it brought into the cache are dropped again; those that were there stay.

use std::{
    fs::{self, File},
    io::{self, IoSliceMut},
    os::fd::AsFd,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::io::ReadWriteFlags;

use super::{Inner, Mend, Store, error::Result};
use crate::oci::{Algorithm, Digest, Hasher};

/// Bytes read at once.
const PIECE: usize = 256 << 10;
/// Between two notes of the position: what is read twice after a restart.
const NOTE_EVERY: Duration = Duration::from_secs(60);
const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// How a store is scrubbed.
#[derive(Clone, Copy, Debug)]
pub struct ScrubOptions {
    /// Most bytes read in a second. Default 2 MB.
    pub rate: u64,
    /// Most of one processor, in percent. Default 5.
    pub share: u32,
    /// From the end of a pass to the beginning of the next. Default seven days.
    pub interval: Duration,
}

impl Default for ScrubOptions {
    fn default() -> Self {
        Self { rate: 2_000_000, share: 5, interval: Duration::from_secs(7 * 24 * 3600) }
    }
}

/// What a scrub did so far.
#[derive(Debug, Default)]
pub struct Scrubbed {
    /// Bytes read.
    pub bytes: AtomicU64,
    /// Blobs checked.
    pub blobs: AtomicU64,
    /// Passes ended.
    pub passes: AtomicU64,
    /// What was found wrong.
    pub findings: AtomicU64,
}

/// A scrub that runs. Dropping it ends it.
pub struct Scrub {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
    done: Arc<Scrubbed>,
}

impl Scrub {
    /// What it did so far.
    pub fn done(&self) -> Arc<Scrubbed> {
        self.done.clone()
    }
}

impl Drop for Scrub {
    fn drop(&mut self) {
        self.stop.set();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[derive(Default)]
struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    fn set(&self) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Rests; `true` if it shall end.
    fn rest(&self, time: Duration) -> bool {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let (stopped, _) =
            self.changed.wait_timeout_while(stopped, time, |s| !*s).unwrap_or_else(PoisonError::into_inner);
        *stopped
    }
}

/// How fast content is read. A check on demand is as fast as it can be.
pub(super) struct Pace {
    limits: Option<(ScrubOptions, Arc<Stop>, Arc<Scrubbed>)>,
}

impl Pace {
    pub(super) fn full() -> Self {
        Self { limits: None }
    }

    /// The digest of a file's content; `None` if the reading shall end.
    pub(super) fn hash(&self, file: &File, algorithm: Algorithm) -> io::Result<Option<Digest>> {
        let mut hasher = Hasher::new(algorithm);
        let mut buffer = vec![0; PIECE];
        let mut at = 0;
        loop {
            let (begun, busy) = (Instant::now(), thread_time());
            let (n, was_cached) = read(file, &mut buffer, at)?;
            if n == 0 {
                return Ok(Some(hasher.finish()));
            }
            hasher.update(&buffer[..n]);
            if !was_cached {
                let length = std::num::NonZeroU64::new(n as u64);
                let _ = rustix::fs::fadvise(file, at, length, rustix::fs::Advice::DontNeed);
            }
            at += n as u64;
            let Some((options, stop, done)) = &self.limits else { continue };
            done.bytes.fetch_add(n as u64, Ordering::Relaxed);
            let busy = thread_time().saturating_sub(busy);
            if stop.rest(rest(options, n as u64, begun.elapsed(), busy)) {
                return Ok(None);
            }
        }
    }
}

/// How long to rest after `bytes` that took `taken`, of which the processor was `busy`.
fn rest(options: &ScrubOptions, bytes: u64, taken: Duration, busy: Duration) -> Duration {
    let by_rate = Duration::from_secs_f64(bytes as f64 / options.rate.max(1) as f64);
    let by_share = busy.mul_f64(100.0 / f64::from(options.share.clamp(1, 100)));
    by_rate.max(by_share).saturating_sub(taken)
}

/// Reads a piece, and says whether all of it was in the page cache already.
fn read(file: &File, buffer: &mut [u8], at: u64) -> io::Result<(usize, bool)> {
    let mut slices = [IoSliceMut::new(buffer)];
    // Not every file system knows the flag; then nothing counts as cached.
    if let Ok(n) = rustix::io::preadv2(file.as_fd(), &mut slices, at, ReadWriteFlags::NOWAIT)
        && n > 0
    {
        return Ok((n, true));
    }
    loop {
        match std::os::unix::fs::FileExt::read_at(file, buffer, at) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map(|n| (n, false)),
        }
    }
}

/// Time that the processor spent on this thread.
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Makes this thread the last to get the processor and the disk. Best effort: some kernels have no such classes.
fn be_idle() {
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 19);
    const WHO_PROCESS: libc::c_int = 1;
    const CLASS_IDLE: libc::c_int = 3 << 13;
    // SAFETY: ioprio_set(2) takes three numbers and no memory; neither std nor rustix has it.
    #[allow(unsafe_code)]
    unsafe {
        libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, CLASS_IDLE);
    }
}

impl Store {
    /// Begins to read everything again in the background. What is found goes to [`damages`](Self::damages); damaged blobs
    /// are set aside at once. The store stays open as long as the scrub.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub fn scrub(&self, options: ScrubOptions) -> io::Result<Scrub> {
        let (stop, done) = (Arc::<Stop>::default(), Arc::<Scrubbed>::default());
        let pace = Pace { limits: Some((options, stop.clone(), done.clone())) };
        let (inner, stopping, counts) = (self.inner.clone(), stop.clone(), done.clone());
        let work = move || {
            be_idle();
            loop {
                match inner.scrub_pass(&pace, &counts) {
                    Ok(true) => return,
                    Ok(false) => drop(counts.passes.fetch_add(1, Ordering::Relaxed)),
                    Err(e) => log::error!("scrub: {e}"),
                }
                // After an error too: the disk may be better another day.
                if stopping.rest(options.interval) {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("scrub".into()).stack_size(256 << 10).spawn(work)?;
        Ok(Scrub { stop, thread: Some(thread), done })
    }
}

impl Inner {
    /// One pass from where the last one stopped. `true`: it was told to end.
    fn scrub_pass(&self, pace: &Pace, done: &Scrubbed) -> Result<bool> {
        let path = self.files.scrub_position();
        let from: Option<Digest> = fs::read_to_string(&path).ok().and_then(|t| t.trim().parse().ok());
        let mut noted = Instant::now();
        let whole = self.check_blobs(Mend::SetAside, pace, from.as_ref(), |digest, _, found| {
            done.blobs.fetch_add(1, Ordering::Relaxed);
            if let Some(finding) = found {
                done.findings.fetch_add(1, Ordering::Relaxed);
                self.damages.tell(finding);
            }
            if noted.elapsed() >= NOTE_EVERY {
                noted = Instant::now();
                // Not synced: at worst a minute is read twice.
                let _ = digest.map(|d| fs::write(&path, d.as_str()));
            }
        })?;
        if let Some(last) = whole {
            let _ = last.map(|d| fs::write(&path, d.as_str()));
            return Ok(true);
        }
        let _ = fs::remove_file(&path);
        for finding in self.check_records(Mend::SetAside)?.findings {
            done.findings.fetch_add(1, Ordering::Relaxed);
            self.damages.tell(finding);
        }
        Ok(false)
    }
}

/// The order of a walk: algorithms, then digits, then names.
pub(super) fn slices() -> impl Iterator<Item = (Algorithm, u8)> {
    Algorithm::ALL.into_iter().flat_map(|algorithm| DIGITS.iter().map(move |digit| (algorithm, *digit)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn it_rests_as_long_as_the_stronger_of_its_bounds_says() {
        let options = ScrubOptions::default();
        let ms = Duration::from_millis;
        // 200 kB at 2 MB/s are 100 ms, whatever they took.
        assert_eq!(rest(&options, 200_000, ms(10), ms(1)), ms(90));
        // A slow processor: 10 ms of work are 200 ms of a twentieth.
        assert_eq!(rest(&options, 200_000, ms(10), ms(10)), ms(190));
        assert_eq!(rest(&options, 200_000, ms(500), ms(1)), ms(0), "the disk was slower than the rate");
        assert_eq!(rest(&ScrubOptions { share: 0, ..options }, 1, ms(0), ms(1)), ms(100));
    }

    #[test]
    fn what_is_hashed_is_the_file_and_a_stop_is_prompt() {
        let file = tempfile::tempfile().unwrap();
        let content = vec![7; 700_000];
        std::os::unix::fs::FileExt::write_all_at(&file, &content, 0).unwrap();
        let expected = Digest::sha256(&content);
        assert_eq!(Pace::full().hash(&file, Algorithm::Sha256).unwrap(), Some(expected));
        let stop = Arc::<Stop>::default();
        stop.set();
        let slow = ScrubOptions { rate: 1, ..ScrubOptions::default() };
        let pace = Pace { limits: Some((slow, stop, Arc::default())) };
        assert_eq!(pace.hash(&file, Algorithm::Sha256).unwrap(), None);
    }
}
