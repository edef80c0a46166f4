//! Encryption at rest, bound to this machine.
//!
//! It keeps a copied file or a discarded disk image from telling the account, not somebody who runs programs on this
//! machine: what the key is made of can be read there.
//!
//! Version 2 is ours: HKDF-SHA256 (RFC 5869) of the machine's identity with a fresh salt, AES-256-GCM. Version 1 is the
//! reference's and is read alone: its Argon2id takes 64 MiB of memory each time, and guards nothing that can be guessed.

use std::{fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Salt},
    rand::{SecureRandom, SystemRandom},
};
use satellite_core::oci::Digest;
use serde::{Deserialize, Serialize};

use crate::agent::{
    cause::{Cause, Trouble},
    identity::put,
};

const INFO: &[&[u8]] = &[b"satellite configuration, version 2"];

/// A file, encrypted.
#[derive(Debug, Serialize, Deserialize)]
struct Sealed {
    version: u8,
    /// Base64.
    salt: String,
    /// Base64 of nonce, ciphertext and tag.
    data: String,
}

/// What a machine is known by.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Machine {
    /// For version 2.
    identity: Vec<u8>,
    /// The reference's fingerprint, where it can be told.
    fingerprint: Option<String>,
}

impl Machine {
    /// This one: by its machine-id, or where it has none by a random key that is made in `dir`. Blocks.
    ///
    /// # Errors
    /// [`Cause::CONFIG_FILE`] if the key cannot be made.
    pub(super) fn here(dir: &Path) -> Result<Self, Trouble> {
        let id = fs::read_to_string("/etc/machine-id").unwrap_or_default().trim().to_string();
        let fingerprint = fingerprint(Path::new("/"));
        if id.len() >= 32 {
            return Ok(Self { identity: id.into_bytes(), fingerprint });
        }
        let path = dir.join("seal.key");
        if let Ok(key) = fs::read(&path)
            && key.len() == 32
        {
            return Ok(Self { identity: key, fingerprint });
        }
        let mut key = vec![0; 32];
        let failed =
            |e: &dyn std::fmt::Display| Trouble::new(Cause::CONFIG_FILE, format!("{}: {e}", path.display()));
        SystemRandom::new().fill(&mut key).map_err(|e| failed(&e))?;
        put(&path, &key).map_err(|e| failed(&e))?;
        Ok(Self { identity: key, fingerprint })
    }
}

/// Encrypts.
pub(super) fn seal(machine: &Machine, plain: &[u8]) -> Result<Vec<u8>, Trouble> {
    let failed = |_| Trouble::new(Cause::CONFIG_FILE, "the configuration could not be encrypted");
    let (mut salt, mut nonce) = ([0; 16], [0; NONCE_LEN]);
    let random = SystemRandom::new();
    random.fill(&mut salt).map_err(failed)?;
    random.fill(&mut nonce).map_err(failed)?;
    let mut body = plain.to_vec();
    let key = derived(machine, &salt).map_err(failed)?;
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut body)
        .map_err(failed)?;
    let data = [nonce.as_slice(), &body].concat();
    let sealed = Sealed { version: 2, salt: STANDARD.encode(salt), data: STANDARD.encode(data) };
    serde_json::to_vec(&sealed).map_err(|e| Trouble::new(Cause::CONFIG_FILE, e))
}

/// Decrypts what is encrypted; anything else is as it is.
///
/// # Errors
/// [`Cause::CONFIG_FOREIGN`] for what another machine encrypted, or was changed since.
pub(super) fn open(machine: &Machine, bytes: &[u8]) -> Result<Vec<u8>, Trouble> {
    let Ok(sealed) = serde_json::from_slice::<Sealed>(bytes) else { return Ok(bytes.to_vec()) };
    if sealed.version == 0 || sealed.data.is_empty() {
        return Ok(bytes.to_vec());
    }
    let foreign =
        |what: &str| Trouble::new(Cause::CONFIG_FOREIGN, format!("it cannot be decrypted here: {what}"));
    let damaged = |_| foreign("it is damaged");
    let salt = STANDARD.decode(&sealed.salt).map_err(damaged)?;
    let mut data = STANDARD.decode(&sealed.data).map_err(damaged)?;
    let key = match sealed.version {
        1 => {
            let fingerprint = machine.fingerprint.as_ref();
            let fingerprint =
                fingerprint.ok_or_else(|| foreign("this machine has nothing to be known by"))?;
            of_version_1(fingerprint, &salt).ok_or_else(|| foreign("its key cannot be made"))?
        }
        2 => derived(machine, &salt).map_err(|_| foreign("its key cannot be made"))?,
        n => return Err(foreign(&format!("version {n} is newer than this program"))),
    };
    if data.len() < NONCE_LEN {
        return Err(foreign("it is damaged"));
    }
    let mut body = data.split_off(NONCE_LEN);
    let nonce = Nonce::try_assume_unique_for_key(&data).map_err(|_| foreign("it is damaged"))?;
    let plain = key.open_in_place(nonce, Aad::empty(), &mut body);
    let plain = plain.map_err(|_| foreign("another machine encrypted it, or it was changed"))?;
    Ok(plain.to_vec())
}

fn derived(machine: &Machine, salt: &[u8]) -> Result<LessSafeKey, ring::error::Unspecified> {
    let secret = Salt::new(HKDF_SHA256, salt).extract(&machine.identity);
    Ok(LessSafeKey::new(UnboundKey::from(secret.expand(INFO, &AES_256_GCM)?)))
}

/// Argon2id, t = 3, m = 64 MiB, p = 4.
fn of_version_1(fingerprint: &str, salt: &[u8]) -> Option<LessSafeKey> {
    let params = argon2::Params::new(64 << 10, 3, 4, Some(32)).ok()?;
    let argon = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let mut key = [0; 32];
    argon.hash_password_into(fingerprint.as_bytes(), salt, &mut key).ok()?;
    UnboundKey::new(&AES_256_GCM, &key).ok().map(LessSafeKey::new)
}

/// The reference's: SHA-256 over machine-id, the first network card's address, the first disk's serial number, of those that
/// there are, joined by `|`.
fn fingerprint(root: &Path) -> Option<String> {
    let read =
        |path: &Path| fs::read_to_string(path).ok().map(|t| t.trim().to_string()).filter(|t| !t.is_empty());
    let list = |path: &str| {
        let mut found: Vec<_> =
            fs::read_dir(root.join(path)).into_iter().flatten().flatten().map(|e| e.path()).collect();
        found.sort();
        found
    };
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut parts = Vec::new();
    parts.extend(read(&root.join("etc/machine-id")));
    // Go lists interfaces by their number.
    let mut cards = list("sys/class/net");
    cards.sort_by_key(|p| read(&p.join("ifindex")).and_then(|t| t.parse::<u32>().ok()));
    let up = |path: &Path| read(&path.join("operstate")).is_some_and(|s| s == "up" || s == "unknown");
    let address = |path: &std::path::PathBuf| {
        let real = |a: &String| a != "00:00:00:00:00:00";
        (name(path) != "lo" && up(path)).then(|| read(&path.join("address")).filter(real)).flatten()
    };
    parts.extend(cards.iter().find_map(address));
    let disks = list("sys/class/block");
    let is_disk = |path: &&std::path::PathBuf| {
        let name = name(path);
        ["sd", "nvme", "vd", "mmcblk"].iter().any(|p| name.starts_with(p))
            && !(name.starts_with("nvme") && name.contains('p'))
    };
    parts.extend(disks.iter().filter(is_disk).find_map(|p| read(&p.join("device/serial"))));
    (!parts.is_empty()).then(|| Digest::sha256(parts.join("|").as_bytes()).hex().to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn machine(text: &str) -> Machine {
        let fingerprint = "d2c1e0f3b4a5968778695a4b3c2d1e0f00112233445566778899aabbccddeeff";
        Machine { identity: text.into(), fingerprint: Some(fingerprint.into()) }
    }

    #[test]
    fn what_was_encrypted_here_is_read_here_alone() {
        let plain = br#"{"state_config":{"auth":{"password":"hush"}}}"#;
        let sealed = seal(&machine("this"), plain).unwrap();
        assert!(!String::from_utf8_lossy(&sealed).contains("hush"));
        assert_ne!(sealed, seal(&machine("this"), plain).unwrap());
        assert_eq!(open(&machine("this"), &sealed).unwrap(), plain);
        assert_eq!(open(&machine("other"), &sealed).unwrap_err().cause, Cause::CONFIG_FOREIGN);
        let mut changed = String::from_utf8(sealed).unwrap();
        let at = changed.rfind("\"}").unwrap() - 3;
        let other = if &changed[at..=at] == "A" { "B" } else { "A" };
        changed.replace_range(at..=at, other);
        assert_eq!(open(&machine("this"), changed.as_bytes()).unwrap_err().cause, Cause::CONFIG_FOREIGN);
        for plain in [&b"{}"[..], b"", b"{\"app_config\":{}}", b"not json"] {
            assert_eq!(open(&machine("this"), plain).unwrap(), plain);
        }
    }

    #[test]
    fn the_references_file_is_read() {
        let file = br#"{"version":1,"salt":"wdRBKe9zROdj+U0c8Ro6lA==","data":"0TsC+d6BhSEoJZeaQCaZY3l8zHSgHVd6J9MdpLPv05DPtQTQo3zurwV69Us="}"#;
        assert_eq!(open(&machine("any"), file).unwrap(), br#"{"hello":"edge"}"#);
    }

    #[test]
    fn the_fingerprint_is_of_what_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(fingerprint(dir.path()), None);
        write("etc/machine-id", "abc\n");
        write("sys/class/net/lo/address", "00:00:00:00:00:00\n");
        write("sys/class/net/eth0/address", "aa:bb:cc:dd:ee:ff\n");
        write("sys/class/net/eth0/operstate", "up\n");
        write("sys/class/block/vda/device/serial", "S1\n");
        let expected = Digest::sha256(b"abc|aa:bb:cc:dd:ee:ff|S1");
        assert_eq!(fingerprint(dir.path()).as_deref(), Some(expected.hex()));
    }
}
