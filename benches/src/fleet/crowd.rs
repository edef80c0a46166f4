//! Satellites by the thousand: one thread, a connection and a small state each.

use std::{
    cell::RefCell,
    io::{self, ErrorKind},
    net::{SocketAddr, TcpStream},
    rc::Rc,
    time::{Duration, Instant},
};

use satellite_tests::ground_control::{Robot, heartbeat};
use serde_json::json;
use smol::{
    Async, LocalExecutor, Timer,
    future::or,
    io::{AsyncReadExt, AsyncWriteExt},
};

/// What a satellite may wait for an answer or a connection.
const PATIENCE: Duration = Duration::from_secs(30);

/// One satellite: the heartbeat that it sends again and again.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    request: Rc<[u8]>,
}

impl Member {
    /// A satellite that holds `images` images and always the same ones.
    pub(crate) fn new(name: &str, robot: &Robot, images: usize) -> Self {
        let mut body = heartbeat(name);
        let digest = "0".repeat(64);
        let image = |n: usize| json!({"reference": format!("127.0.0.1:8585/library/app{n}:v1@sha256:{digest}"), "size_bytes": 1 << 20});
        if images > 0 {
            body["cached_images"] = (0..images).map(image).collect();
            body["image_count"] = json!(images);
        }
        let body = body.to_string();
        let head = format!(
            "POST /satellites/sync HTTP/1.1\r\nHost: bench\r\nAuthorization: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            robot.authorization(),
            body.len()
        );
        Self { request: (head + &body).into_bytes().into() }
    }
}

/// A kept connection.
struct Line {
    stream: Async<TcpStream>,
    buffer: Vec<u8>,
}

impl Line {
    async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = Async::<TcpStream>::connect(address).await?;
        stream.get_ref().set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; 2048] })
    }

    /// Sends a request and reads the answer; gives its status.
    async fn exchange(&mut self, request: &[u8]) -> io::Result<u16> {
        self.stream.write_all(request).await?;
        let mut filled = 0;
        loop {
            let n = self.stream.read(&mut self.buffer[filled..]).await?;
            if n == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            filled += n;
            if let Some((status, length)) = parse(&self.buffer[..filled])? {
                if length > self.buffer.len() {
                    self.buffer.resize(length, 0);
                }
                while filled < length {
                    match self.stream.read(&mut self.buffer[filled..length]).await? {
                        0 => return Err(ErrorKind::UnexpectedEof.into()),
                        n => filled += n,
                    }
                }
                return Ok(status);
            }
            if filled == self.buffer.len() {
                return Err(ErrorKind::InvalidData.into());
            }
        }
    }
}

/// Status, and the length of head and body, once the head is whole.
fn parse(bytes: &[u8]) -> io::Result<Option<(u16, usize)>> {
    let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&bytes[..head]).map_err(|_| ErrorKind::InvalidData)?;
    let status = text.split(' ').nth(1).and_then(|word| word.parse().ok()).ok_or(ErrorKind::InvalidData)?;
    let length = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok()).flatten()
    };
    Ok(Some((status, head + 4 + text.lines().find_map(length).unwrap_or(0))))
}

async fn patiently<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    or(work, async {
        Timer::after(PATIENCE).await;
        Err(ErrorKind::TimedOut.into())
    })
    .await
}

/// What happened to the syncs of a run.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Seconds from when a sync was due until its answer, of those answered by 200.
    pub(crate) times: Vec<f64>,
    /// When each of these was answered, in seconds from the start.
    pub(crate) at: Vec<f64>,
    /// Other answers, and broken or refused connections.
    pub(crate) refused: usize,
}

impl Log {
    /// The time that `part` of all stayed below.
    pub(crate) fn quantile(&self, part: f64) -> f64 {
        let mut times = self.times.clone();
        times.sort_by(f64::total_cmp);
        times.get(((times.len() as f64 - 1.0) * part) as usize).copied().unwrap_or(f64::NAN)
    }

    /// Answers in the best second.
    pub(crate) fn peak(&self) -> f64 {
        let mut seconds = std::collections::BTreeMap::<u64, usize>::new();
        for at in &self.at {
            *seconds.entry(*at as u64).or_default() += 1;
        }
        seconds.values().max().copied().unwrap_or(0) as f64
    }
}

/// A satellite's next sync, on its old connection if that still stands.
async fn sync(member: &Member, line: &mut Option<Line>, address: SocketAddr) -> io::Result<u16> {
    let work = async {
        if line.is_none() {
            *line = Some(Line::open(address).await?);
        }
        let open = line.as_mut().ok_or(ErrorKind::NotConnected)?;
        open.exchange(&member.request).await
    };
    let done = patiently(work).await;
    if done.is_err() {
        *line = None;
    }
    done
}

/// Everybody syncs each `interval`, at times spread evenly, for as long as `length`.
pub(crate) fn steady(fleet: &[Member], address: SocketAddr, interval: Duration, length: Duration) -> Log {
    let (log, executor) = (Rc::new(RefCell::new(Log::default())), LocalExecutor::new());
    let begun = Instant::now();
    let tasks: Vec<_> = fleet
        .iter()
        .enumerate()
        .map(|(n, member)| {
            let log = Rc::clone(&log);
            executor.spawn(async move {
                let mut line = None;
                let mut due = begun + interval.mul_f64(n as f64 / fleet.len() as f64);
                while due < begun + length {
                    Timer::at(due).await;
                    // A kept connection may have been closed as this was sent: a client tries once more.
                    let kept = line.is_some();
                    let mut done = sync(member, &mut line, address).await;
                    if done.is_err() && kept {
                        done = sync(member, &mut line, address).await;
                    }
                    log.borrow_mut().note(&done, due, begun);
                    due += interval;
                }
            })
        })
        .collect();
    finish(&executor, tasks, log)
}

/// Everybody comes at once, and comes again after a second, two, four, … until served.
pub(crate) fn herd(fleet: &[Member], address: SocketAddr) -> Log {
    let (log, executor) = (Rc::new(RefCell::new(Log::default())), LocalExecutor::new());
    let begun = Instant::now();
    let tasks: Vec<_> = fleet
        .iter()
        .map(|member| {
            let log = Rc::clone(&log);
            executor.spawn(async move {
                let (mut line, mut pause) = (None, Duration::from_secs(1));
                loop {
                    let done = sync(member, &mut line, address).await;
                    log.borrow_mut().note(&done, begun, begun);
                    if matches!(done, Ok(200)) {
                        return;
                    }
                    Timer::after(pause.mul_f64(0.5 + fastrand::f64())).await;
                    pause = (pause * 2).min(Duration::from_secs(30));
                }
            })
        })
        .collect();
    finish(&executor, tasks, log)
}

/// `lines` connections in a closed loop, each taking satellite after satellite; spread over the addresses.
pub(crate) fn loops(fleet: &[Member], addresses: &[SocketAddr], lines: usize, length: Duration) -> Log {
    let (log, executor) = (Rc::new(RefCell::new(Log::default())), LocalExecutor::new());
    let begun = Instant::now();
    let tasks: Vec<_> = (0..lines)
        .map(|n| {
            let (log, address) = (Rc::clone(&log), addresses[n % addresses.len()]);
            executor.spawn(async move {
                let mut line = None;
                for member in fleet.iter().cycle().skip(n * fleet.len() / lines) {
                    let due = Instant::now();
                    if due > begun + length {
                        return;
                    }
                    let done = sync(member, &mut line, address).await;
                    log.borrow_mut().note(&done, due, begun);
                }
            })
        })
        .collect();
    finish(&executor, tasks, log)
}

impl Log {
    fn note(&mut self, done: &io::Result<u16>, due: Instant, begun: Instant) {
        match done {
            Ok(200) => {
                self.times.push(due.elapsed().as_secs_f64());
                self.at.push(begun.elapsed().as_secs_f64());
            }
            _ => self.refused += 1,
        }
    }
}

fn finish(executor: &LocalExecutor<'_>, tasks: Vec<smol::Task<()>>, log: Rc<RefCell<Log>>) -> Log {
    smol::block_on(executor.run(async {
        for task in tasks {
            task.await;
        }
    }));
    Rc::try_unwrap(log).map(RefCell::into_inner).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_to_its_end() {
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\ncontent-").unwrap(), None);
        let whole = b"HTTP/1.1 429 Too Many\r\nContent-Length: 2\r\n\r\nab";
        assert_eq!(parse(whole).unwrap(), Some((429, whole.len())));
        assert!(parse(b"nonsense\r\n\r\n").is_err());
    }

    #[test]
    fn the_best_second_and_the_quantiles_count_what_was_answered() {
        let log = Log { times: vec![0.3, 0.1, 0.2], at: vec![0.1, 1.2, 1.9], refused: 1 };
        assert!((log.peak() - 2.0).abs() < f64::EPSILON && (log.quantile(0.5) - 0.2).abs() < f64::EPSILON);
    }
}
