//! The end of the socket that does the work.

use std::{
    fs, io,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_io::Async;
use futures_lite::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, future, io::BufReader};
use satellite_core::net::Executor;
use smol::channel::{Sender, bounded};

use super::{Command, MAX_COMMAND, Reply};
use crate::{
    exit::{Code, Failure},
    ops::{Context, Progress},
};

/// Commands at once.
const MAX_CALLS: usize = 16;
/// Replies that wait for a slow reader; progress beyond is dropped, results are not.
const QUEUE: usize = 256;

/// Takes commands until it is dropped, which removes the socket.
pub(crate) struct ControlServer {
    listener: Async<UnixListener>,
    path: PathBuf,
    _folder: Option<fs::File>,
}

impl ControlServer {
    /// Binds the socket of the store in `root`. The caller has the store, so an old socket is nobody's.
    pub(crate) fn bind(root: &Path) -> io::Result<Self> {
        let (path, folder) = super::socket(root)?;
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener: Async::new(listener)?, path, _folder: folder })
    }

    /// Serves until dropped; commands under way are then cancelled.
    pub(crate) async fn run(&self, executor: &Executor, context: Arc<Context>) {
        let places = Arc::new(smol::lock::Semaphore::new(MAX_CALLS));
        let mut calls: Vec<smol::Task<()>> = Vec::new();
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    calls.retain(|call| !call.is_finished());
                    let (context, place) = (context.clone(), places.acquire_arc().await);
                    calls.push(executor.spawn(async move {
                        if let Err(e) = serve(stream, &context).await {
                            log::debug!("control connection: {e}");
                        }
                        drop(place);
                    }));
                }
                Err(e) => {
                    log::warn!("control socket: {e}");
                    async_io::Timer::after(std::time::Duration::from_millis(200)).await;
                }
            }
        }
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

async fn serve(stream: Async<std::os::unix::net::UnixStream>, context: &Context) -> io::Result<()> {
    let stream = Arc::new(stream);
    let mut reader = BufReader::new(&*stream);
    let mut text = String::new();
    (&mut reader).take(MAX_COMMAND).read_line(&mut text).await?;
    let (sender, receiver) = bounded(QUEUE);
    let work = async {
        let reply = match serde_json::from_str::<Command>(&text) {
            Ok(command) => match Box::pin(context.execute(command, events(&sender), checks(&sender))).await {
                Ok(value) => Reply::Done(value),
                Err(failure) => Reply::Failed(failure.into()),
            },
            Err(e) => Reply::Failed(Failure::new(Code::Usage, format!("not a command: {e}")).into()),
        };
        let _ = sender.send(reply).await;
        sender.close();
    };
    let answer = async {
        let mut writer = &*stream;
        while let Ok(reply) = receiver.recv().await {
            let mut line = serde_json::to_vec(&reply).map_err(io::Error::other)?;
            line.push(b'\n');
            writer.write_all(&line).await?;
        }
        Ok(())
    };
    // Who asked is gone: nobody wants the result. What a transfer has so far is kept.
    let gone = async {
        let mut byte = [0];
        let _ = reader.read(&mut byte).await;
        Err(io::ErrorKind::BrokenPipe.into())
    };
    let done = async { future::zip(work, answer).await.1 };
    future::or(done, gone).await
}

fn events(sender: &Sender<Reply>) -> satellite_core::replicate::Sink {
    let sender = sender.clone();
    Arc::new(move |event| drop(sender.try_send(Reply::Event(event))))
}

fn checks(sender: &Sender<Reply>) -> Progress {
    let sender = sender.clone();
    Arc::new(move |blobs, bytes| drop(sender.try_send(Reply::Checked { blobs, bytes })))
}
