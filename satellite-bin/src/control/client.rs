//! Sends a command to whoever has the store, or does it here.

use std::{
    io::{BufRead, BufReader, ErrorKind, Write},
    os::unix::net::UnixStream,
    path::Path,
    sync::Arc,
};

use satellite_core::{
    replicate::Sink,
    store::{self, Options, Store},
};
use serde_json::Value;

use super::{Command, Reply};
use crate::{
    exit::{Code, Failure, Result},
    ops::{Context, Progress},
    signals::interrupted,
};

/// Does `command` on the store in `dir`, and gives what it answered.
pub(crate) fn call(dir: &Path, command: Command, sink: &Sink, progress: &Progress) -> Result<Value> {
    match connect(dir) {
        Some(stream) => remote(stream, &command, sink, progress),
        None => match Store::open(dir, Options::default()) {
            Ok(store) => here(store, command, sink, progress),
            // It was just starting, or just stopping: ask once more before giving up.
            Err(e @ store::Error::Locked { .. }) => match connect(dir) {
                Some(stream) => remote(stream, &command, sink, progress),
                None => Err(e.into()),
            },
            Err(e) => Err(e.into()),
        },
    }
}

/// What whoever has the store answers; `None`: nobody has it.
pub(crate) fn running(dir: &Path, command: &Command) -> Result<Option<Value>> {
    let quiet: Sink = Arc::new(drop);
    let progress: Progress = Arc::new(|_, _| ());
    connect(dir).map(|stream| remote(stream, command, &quiet, &progress)).transpose()
}

fn connect(dir: &Path) -> Option<UnixStream> {
    let (path, _folder) = super::socket(dir).ok()?;
    UnixStream::connect(path).ok()
}

fn here(store: Store, command: Command, sink: &Sink, progress: &Progress) -> Result<Value> {
    let executor = Arc::new(smol::Executor::new());
    let context = Context::new(store, executor.clone(), None);
    let work = async {
        let result = context.execute(command, sink.clone(), progress.clone()).await;
        // What was removed or collected is in the layout before the command ends.
        if let Err(e) = context.store.refresh_layout().await {
            log::warn!("index.json could not be written: {e}");
        }
        result
    };
    smol::block_on(executor.run(futures_lite::future::or(work, interrupted())))
}

fn remote(mut stream: UnixStream, command: &Command, sink: &Sink, progress: &Progress) -> Result<Value> {
    let lost = |e: std::io::Error| {
        Failure::new(Code::Store, format!("the server that has the store went away: {e}; try again"))
    };
    let mut text = serde_json::to_string(command).map_err(|e| Failure::new(Code::Failed, e))?;
    text.push('\n');
    stream.write_all(text.as_bytes()).map_err(lost)?;
    for line in BufReader::new(stream).lines() {
        let line = line.map_err(lost)?;
        let reply: Reply = serde_json::from_str(&line)
            .map_err(|e| Failure::new(Code::Failed, format!("the server speaks another version: {e}")))?;
        match reply {
            Reply::Event(event) => sink(event),
            Reply::Checked { blobs, bytes } => progress(blobs, bytes),
            Reply::Done(value) => return Ok(value),
            Reply::Failed(failed) => return Err(failed.into()),
        }
    }
    Err(lost(ErrorKind::UnexpectedEof.into()))
}
