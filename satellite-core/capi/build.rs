//! Gives the shared object its name: the ABI's version is in it.

use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=src/version.rs");
    println!("cargo:rerun-if-changed=build.rs");
    let text = fs::read_to_string("src/version.rs").unwrap_or_default();
    let version = text.split_once("SATELLITE_ABI_VERSION: u32 = ").and_then(|(_, rest)| rest.split_once(';'));
    let version = version.map_or("", |(number, _)| number);
    if version.is_empty() {
        println!("cargo:error=src/version.rs has no SATELLITE_ABI_VERSION");
    }
    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libsatellite.so.{version}");
    }
}
