//! The library in a program of one's own: opens a store, replicates an image into it, and serves it to this machine.
//!
//! ```sh
//! cargo run -p satellite-core --example embed -- DIR HOST[:PORT]/REPOSITORY[:TAG] [ADDRESS:PORT]
//! ```
//!
//! Prints where it listens, and ends when its standard input does.
#![allow(clippy::print_stdout)]

use std::{error::Error, net::TcpListener, path::Path, sync::Arc};

use satellite_core::{
    net::{
        Executor,
        client::{ClientConfig, SurfClient, surf_client},
        server::{Limits, Server},
    },
    oci::{ImageReference, Platform, PlatformSet},
    registry::{Access, Registry, Settings},
    remote,
    replicate::{self, Connect, Event, Replicator},
    store::{self, Store},
    transfer::{self, Engine, Throttle},
};

/// Gives the client of a registry: anonymous here, by HTTPS but for loopback.
struct Registries(SurfClient);

impl Connect for Registries {
    fn connect(&self, host: &str) -> remote::Result<remote::Registry> {
        remote::Registry::new(host, remote::Options::default(), self.0.clone())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (dir, image, address) = match arguments.as_slice() {
        [dir, image] => (dir, image, "127.0.0.1:0"),
        [dir, image, address] => (dir, image, address.as_str()),
        _ => return Err("usage: embed DIR IMAGE [ADDRESS:PORT]".into()),
    };
    let image: ImageReference = image.parse()?;
    let store = Store::open(Path::new(dir), store::Options::default())?;
    // The program's own: all of the library's tasks run where it is driven, which is here.
    let executor: Executor = Arc::new(smol::Executor::new());
    smol::block_on(executor.run(async {
        replicate(&store, &executor, image).await?;
        serve(&store, &executor, address).await
    }))
}

async fn replicate(store: &Store, executor: &Executor, image: ImageReference) -> Result<(), Box<dyn Error>> {
    let client = surf_client(ClientConfig::from_env(), executor.clone())?;
    let engine = Engine::new(store.clone(), Arc::new(Throttle::new(None)), transfer::Options::default());
    let replicator = Replicator::new(engine, Arc::new(Registries(client)), executor.clone());
    let options = replicate::Options {
        platforms: PlatformSet::Some(vec![Platform::host()]),
        ..replicate::Options::default()
    };
    let listener = Arc::new(|event| {
        if let Event::BlobDone { digest, received } = event {
            println!("{digest}: {received} bytes received");
        }
    });
    for outcome in replicator.run(&[image], &options, listener).await.images {
        match (outcome.digest, outcome.error) {
            (Some(digest), None) => println!("{} is {digest}", outcome.image),
            (_, error) => return Err(error.map_or_else(String::new, |e| e.message).into()),
        }
    }
    Ok(())
}

async fn serve(store: &Store, executor: &Executor, address: &str) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    let registry = Registry::new(store.clone(), Access::default(), Settings::default(), Arc::default());
    let server = Server::new([listener], Arc::new(registry), Limits::default(), None)?;
    let stop = async {
        let end = || std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = smol::unblock(end).await;
    };
    server.run(executor, stop).await;
    store.refresh_layout().await?;
    Ok(())
}
