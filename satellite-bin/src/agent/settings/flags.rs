//! The command line and environment of `satellite run`: names as the reference has them. A flag goes before its variable,
//! both before the file. An empty variable is as good as none.

use std::{convert::Infallible, path::PathBuf, time::Duration};

use clap::Args;
use satellite_core::{fleet::Interval, remote::Secret};

/// Waited for running jobs at a stop, where nothing else is said.
const SHUTDOWN: Duration = Duration::from_secs(30);

/// What was given for this start. Its `Debug` shows no secret.
#[derive(Args, Clone, Debug, Default)]
pub struct Flags {
    /// Ground Control; no configuration moves a satellite to another one
    #[arg(long, env = "GROUND_CONTROL_URL", value_name = "URL")]
    pub ground_control_url: Option<String>,
    /// One-time token to register with; not looked at once registered
    #[arg(long, env = "TOKEN", hide_env_values = true, value_parser = secret, value_name = "TOKEN")]
    pub token: Option<Secret>,
    /// Scheme, host and port that take the place of those in every address of the registry
    #[arg(long, env = "HARBOR_REGISTRY_URL", value_name = "URL")]
    pub harbor_registry_url: Option<String>,
    /// Where config.json and the device key are [default: satellite in the user's configuration directory]
    #[arg(long, env = "CONFIG_DIR", value_name = "DIR")]
    pub config_dir: Option<PathBuf>,
    /// The store's directory [default: zot in the configuration directory]
    #[arg(long, env = "REGISTRY_DATA_DIR", value_name = "DIR")]
    pub registry_data_dir: Option<PathBuf>,
    /// Allow plain HTTP to Ground Control and the registry
    #[arg(long, env = "USE_UNSECURE", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = switch, value_name = "BOOL")]
    pub use_unsecure: Option<Switch>,
    /// Time for running jobs to end at a stop, as in 30s
    #[arg(long, env = "SHUTDOWN_TIMEOUT", value_name = "TIME")]
    pub shutdown_timeout: Option<String>,

    /// Put images into a registry of your own, and start none
    #[arg(long, env = "BYO_REGISTRY", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = switch, value_name = "BOOL")]
    pub byo_registry: Option<Switch>,
    /// That registry
    #[arg(long, env = "REGISTRY_URL", value_name = "URL")]
    pub registry_url: Option<String>,
    /// Its user
    #[arg(long, env = "REGISTRY_USERNAME", value_name = "NAME")]
    pub registry_username: Option<String>,
    /// The user's password; better given by the variable
    #[arg(long, env = "REGISTRY_PASSWORD", hide_env_values = true, value_parser = secret, value_name = "PASSWORD")]
    pub registry_password: Option<Secret>,

    /// Point a runtime at the satellite: containerd:docker.io,quay.io or docker:true. May be given more than once;
    /// registry_fallback in the configuration goes before
    #[arg(long, value_name = "RUNTIME:REGISTRY[,REGISTRY…]")]
    pub mirrors: Vec<String>,
    /// Where the host's root is, for a satellite in a container that has the host's /etc and /run [default: /]
    #[arg(long, env = "HOST_ROOT", value_name = "DIR")]
    pub host_root: Option<PathBuf>,
    /// Leave the runtimes alone, whatever else is said
    #[arg(long, env = "NO_REGISTRY_FALLBACK", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = switch, value_name = "BOOL")]
    pub no_registry_fallback: Option<Switch>,
    /// Point the runtimes at the satellite, and end
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch,
          value_name = "BOOL")]
    pub fallback_only: Option<Switch>,

    /// Write images into the import directory of k3s or RKE2
    #[arg(long, env = "DIRECT_DELIVERY", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = switch, value_name = "BOOL")]
    pub direct_delivery: Option<Switch>,
    /// That directory [default: the first of k3s' and RKE2's that exists]
    #[arg(long, env = "IMAGE_DIR", value_name = "DIR")]
    pub image_dir: Option<PathBuf>,

    /// Register by a certificate of SPIFFE: files that app_config.spiffe or app_config.tls name
    #[arg(long, env = "SPIFFE_ENABLED", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = switch, value_name = "BOOL")]
    pub spiffe_enabled: Option<Switch>,
    /// The agent's socket; kept for what writes the files
    #[arg(long, env = "SPIFFE_ENDPOINT_SOCKET", value_name = "ADDRESS")]
    pub spiffe_endpoint_socket: Option<String>,
    /// SPIFFE ID that Ground Control must show; without it any that the bundle vouches for
    #[arg(long, env = "SPIFFE_EXPECTED_SERVER_ID", value_name = "ID")]
    pub spiffe_expected_server_id: Option<String>,
}

/// A boolean by Go's rules; `None` for an empty variable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switch(pub Option<bool>);

fn switch(text: &str) -> Result<Switch, String> {
    match text {
        "" => Ok(Switch(None)),
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Switch(Some(true))),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Switch(Some(false))),
        _ => Err("expected true or false".into()),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the signature that clap calls")]
fn secret(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text))
}

impl Flags {
    /// Where the configuration is. Relative paths are of the working directory.
    pub fn config_dir(&self) -> PathBuf {
        if let Some(dir) = self.config_dir.as_ref().filter(|d| !d.as_os_str().is_empty()) {
            return home_expanded(dir);
        }
        let of = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        of("XDG_CONFIG_HOME")
            .or_else(|| of("HOME").map(|home| home.join(".config")))
            .map_or_else(|| "/var/lib/satellite".into(), |dir| dir.join("satellite"))
    }

    /// How long running jobs may take at a stop; what cannot be read is 30 s.
    pub fn shutdown_timeout(&self) -> Duration {
        let text = self.shutdown_timeout.as_deref().unwrap_or_default();
        format!("@every {text}").parse::<Interval>().map_or(SHUTDOWN, Interval::duration)
    }

    /// The token, if one was given.
    pub fn token(&self) -> Option<&Secret> {
        self.token.as_ref().filter(|t| !t.expose().is_empty())
    }
}

/// `~` at the beginning is the user's home.
fn home_expanded(path: &std::path::Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => path.into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        flags: Flags,
    }

    #[test]
    fn booleans_are_gos_and_mirrors_repeat() {
        let args = [
            "x",
            "--use-unsecure",
            "--byo-registry=F",
            "--mirrors=docker:true",
            "--mirrors",
            "podman:quay.io",
        ];
        let flags = Program::try_parse_from(args).unwrap().flags;
        assert_eq!(flags.use_unsecure, Some(Switch(Some(true))));
        assert_eq!(flags.byo_registry, Some(Switch(Some(false))));
        assert_eq!(flags.mirrors, ["docker:true", "podman:quay.io"]);
        assert!(Program::try_parse_from(["x", "--use-unsecure=yes"]).is_err());
        assert_eq!(switch(""), Ok(Switch(None)));
    }

    #[test]
    fn no_secret_is_shown() {
        let args = ["x", "--token=hush-token", "--registry-password=hush-password"];
        let flags = Program::try_parse_from(args).unwrap().flags;
        assert_eq!(flags.token().unwrap().expose(), "hush-token");
        assert!(!format!("{flags:?}").contains("hush"));
    }

    #[test]
    fn times_to_stop_are_gos_durations() {
        let with =
            |text: &str| Flags { shutdown_timeout: Some(text.into()), ..Flags::default() }.shutdown_timeout();
        assert_eq!([with("1m30s"), with("soon"), with("")].map(|d| d.as_secs()), [90, 30, 30]);
    }
}
