//! The device key: Ed25519, made at the first start, and the way back in after a year in the dark.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use satellite_core::oci::Digest;

use super::super::cause::{Cause, Trouble};

const FILE: &str = "device.key";

/// This device's key. Its `Debug` shows nothing of it.
pub struct DeviceKey(Ed25519KeyPair);

impl std::fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DeviceKey")
    }
}

impl DeviceKey {
    /// The key in `dir`, made if there is none. A file that is no key is set aside as `device.key.damaged`: Ground Control
    /// does not know the new one until the next exchange. Blocks.
    ///
    /// # Errors
    /// [`Cause::DEVICE_KEY`] names the file.
    pub fn open(dir: &Path) -> Result<Self, Trouble> {
        let path = dir.join(FILE);
        let failed =
            |e: &dyn std::fmt::Display| Trouble::new(Cause::DEVICE_KEY, format!("{}: {e}", path.display()));
        match fs::read(&path) {
            Ok(bytes) => match Ed25519KeyPair::from_pkcs8(&bytes) {
                Ok(pair) => return Ok(Self(pair)),
                Err(e) => {
                    log::error!("{} is no key ({e}): it is set aside, and another is made", path.display());
                    fs::rename(&path, dir.join("device.key.damaged")).map_err(|e| failed(&e))?;
                }
            },
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed(&e)),
        }
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|e| failed(&e))?;
        fs::create_dir_all(dir).map_err(|e| failed(&e))?;
        put(&path, made.as_ref()).map_err(|e| failed(&e))?;
        Ed25519KeyPair::from_pkcs8(made.as_ref()).map(Self).map_err(|e| failed(&e))
    }

    /// The public key, as Ground Control is told it.
    pub fn public(&self) -> String {
        STANDARD.encode(self.0.public_key().as_ref())
    }

    /// Names this device's try of a token: the same after a crash, and guessed by nobody who has not the key.
    pub fn try_of(&self, token: &str) -> String {
        let signature = self.0.sign(format!("satellite-exchange\n{token}").as_bytes());
        Digest::sha256(signature.as_ref()).hex().into()
    }

    /// Answers a challenge.
    pub fn answer(&self, name: &str, nonce: &str) -> String {
        STANDARD.encode(self.0.sign(format!("satellite-enroll\n{name}\n{nonce}").as_bytes()).as_ref())
    }
}

/// Writes a private file so that it is there whole or not at all, durably.
///
/// # Errors
/// The first that fails of writing, syncing, renaming.
pub(in crate::agent) fn put(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let temporary = Path::new(&name);
    match fs::remove_file(temporary) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    path.parent().map_or(Ok(()), |dir| fs::File::open(dir)?.sync_all())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_key_stays_is_private_and_signs() {
        let dir = tempfile::tempdir().unwrap();
        let key = DeviceKey::open(dir.path()).unwrap();
        let again = DeviceKey::open(dir.path()).unwrap();
        assert_eq!((key.public(), key.try_of("t")), (again.public(), again.try_of("t")));
        assert_ne!(key.try_of("t"), key.try_of("u"));
        assert_eq!(fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        let public = STANDARD.decode(key.public()).unwrap();
        let signature = STANDARD.decode(key.answer("gate", "n")).unwrap();
        let verifier = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, public);
        verifier.verify(b"satellite-enroll\ngate\nn", &signature).unwrap();
    }

    #[test]
    fn what_is_no_key_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), b"rubbish").unwrap();
        DeviceKey::open(dir.path()).unwrap();
        assert_eq!(fs::read(dir.path().join("device.key.damaged")).unwrap(), b"rubbish");
    }
}
