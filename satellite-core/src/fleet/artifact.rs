//! A state as an image: Docker schema 2, one gzipped tar layer with one file `artifacts.json` (the reference's form).

use std::io::{self, Read, Write as _};

use flate2::{Compression, GzBuilder, read::MultiGzDecoder};
use tar::{Archive, EntryType, Header};

use crate::oci::{Digest, media_type};

/// The file that holds the state.
const FILE: &str = "artifacts.json";
/// Media type of the config.
const CONFIG_TYPE: &str = "application/vnd.docker.container.image.v1+json";
/// Media type of the layer.
const LAYER_TYPE: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// Largest state, in bytes: 50,000 images with long names.
pub const MAX_STATE: usize = 16 << 20;
/// Most bytes of a layer that are unpacked in search of the file.
const MAX_UNPACKED: u64 = 64 << 20;
/// Most files of a layer that are looked at.
const MAX_FILES: usize = 10_000;

/// A state, ready to be pushed: two blobs and the manifest that names them.
#[derive(Clone, PartialEq, Eq)]
pub struct Packed {
    /// The image's config.
    pub config: Vec<u8>,
    /// The layer, gzipped.
    pub layer: Vec<u8>,
    /// The manifest, of type [`DOCKER_MANIFEST`](media_type::DOCKER_MANIFEST).
    pub manifest: Vec<u8>,
    /// The manifest's digest.
    pub digest: Digest,
}

/// Why a layer gives no state.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// Not a tar, gzipped or plain, or a cut one.
    #[error("the layer cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It holds other files only.
    #[error("the layer has no file {FILE}")]
    Missing,
    /// More than anybody publishes.
    #[error("the layer holds more than the {limit} {unit} allowed")]
    TooLarge {
        /// The limit.
        limit: u64,
        /// Of what.
        unit: &'static str,
    },
}

/// Packs a state. The same content gives the same bytes, so that publishing what has not changed changes nothing; only
/// another version of the compressor could give others. The tar is the reference's, byte for byte.
///
/// # Errors
/// [`UnpackError::TooLarge`] for more than [`MAX_STATE`] bytes.
pub fn pack(json: &[u8]) -> Result<Packed, UnpackError> {
    if json.len() > MAX_STATE {
        return Err(UnpackError::TooLarge { limit: MAX_STATE as u64, unit: "bytes" });
    }
    let tar = tar(json)?;
    let diff_id = Digest::sha256(&tar);
    // At level 9 the library finds matches the same way on every processor; below, it depends on the instructions there.
    let mut gzip = GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::new(9));
    gzip.write_all(&tar)?;
    let layer = gzip.finish()?;
    let config = format!(
        r#"{{"architecture":"","created":"0001-01-01T00:00:00Z","history":[{{"created":"0001-01-01T00:00:00Z"}}],"os":"","rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}},"config":{{}}}}"#
    )
    .into_bytes();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{CONFIG_TYPE}","size":{},"digest":"{}"}},"layers":[{{"mediaType":"{LAYER_TYPE}","size":{},"digest":"{}"}}]}}"#,
        media_type::DOCKER_MANIFEST,
        config.len(),
        Digest::sha256(&config),
        layer.len(),
        Digest::sha256(&layer),
    )
    .into_bytes();
    let digest = Digest::sha256(&manifest);
    Ok(Packed { config, layer, manifest, digest })
}

/// One file of mode 0 and time 0, as Go's archive/tar writes it.
fn tar(json: &[u8]) -> io::Result<Vec<u8>> {
    let mut header = Header::new_ustar();
    header.set_path(FILE)?;
    header.set_size(json.len() as u64);
    header.set_mode(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_entry_type(EntryType::Regular);
    header.set_device_major(0)?;
    header.set_device_minor(0)?;
    header.set_cksum();
    // Six digits, NUL, space (POSIX.1-1988); the library writes seven digits and a NUL, which reads the same.
    let checksum = format!("{:06o}\0 ", header.cksum()?);
    header.as_mut_bytes()[148..156].copy_from_slice(checksum.as_bytes());
    let padded = json.len().next_multiple_of(512);
    let mut tar = Vec::with_capacity(512 + padded + 1024);
    tar.extend_from_slice(header.as_bytes());
    tar.extend_from_slice(json);
    tar.resize(512 + padded + 1024, 0);
    Ok(tar)
}

/// The state in a layer, gzipped or not. Other files are passed over; of several of that name the first counts. Memory
/// and work are bounded, whatever the layer unpacks to.
///
/// # Errors
/// [`UnpackError`]
pub fn unpack(layer: &[u8]) -> Result<Vec<u8>, UnpackError> {
    if layer.starts_with(&[0x1f, 0x8b]) {
        find(Bounded { inner: MultiGzDecoder::new(layer), left: MAX_UNPACKED })
    } else {
        find(Bounded { inner: layer, left: MAX_UNPACKED })
    }
}

fn find(tar: impl Read) -> Result<Vec<u8>, UnpackError> {
    let mut archive = Archive::new(tar);
    for (seen, entry) in archive.entries()?.enumerate() {
        if seen >= MAX_FILES {
            return Err(UnpackError::TooLarge { limit: MAX_FILES as u64, unit: "files" });
        }
        let entry = entry.map_err(too_large)?;
        if entry.header().entry_type() != EntryType::Regular || *entry.path_bytes() != *FILE.as_bytes() {
            continue;
        }
        let size = entry.size();
        if size > MAX_STATE as u64 {
            return Err(UnpackError::TooLarge { limit: MAX_STATE as u64, unit: "bytes" });
        }
        let mut json = Vec::new();
        let read = entry.take(MAX_STATE as u64).read_to_end(&mut json).map_err(too_large)?;
        if read as u64 != size {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        return Ok(json);
    }
    Err(UnpackError::Missing)
}

/// Gives up after so many bytes: a gzip of a few kilobytes may unpack to gigabytes.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = self.inner.read(&mut buffer[..most])?;
        self.left -= read as u64;
        Ok(read)
    }
}

fn too_large(error: io::Error) -> UnpackError {
    if error.kind() == io::ErrorKind::FileTooLarge {
        return UnpackError::TooLarge { limit: MAX_UNPACKED, unit: "bytes" };
    }
    error.into()
}
