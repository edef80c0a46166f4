#![allow(clippy::unwrap_used)]

use super::*;

fn settings(variables: &[(&str, &str)]) -> Result<Settings, SettingError> {
    let env: Environment = variables.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect();
    Settings::new(&Flags { data_dir: Some("/data".into()), ..Flags::default() }, &env)
}

#[test]
fn nothing_configured_means_sqlite_and_the_embedded_registry_on_this_machine() {
    let s = settings(&[]).unwrap();
    assert_eq!(s.database_url.expose(), "sqlite:///data/ground-control.db?mode=rwc");
    assert!(matches!(s.central, CentralSettings::Embedded));
    assert_eq!(s.listen, ["127.0.0.1:9090".parse().unwrap()]);
    assert_eq!((s.session, s.lockout), (Duration::from_secs(86_400), Duration::from_secs(300)));
}

#[test]
fn the_references_variables_mean_what_they_mean_there() {
    let s = settings(&[
        ("PORT", "8080"),
        ("DB_HOST", "db"),
        ("DB_USERNAME", "u"),
        ("DB_PASSWORD", "p@ss/word"),
        ("DB_DATABASE", "gc"),
        ("HARBOR_URL", "https://harbor.example/"),
        ("HARBOR_USERNAME", "admin"),
        ("HARBOR_PASSWORD", "Harbor12345"),
        ("ROBOT_DURATION_DAYS", "-3"),
        ("LOCKOUT_DURATION", "1m30s"),
        ("PASSWORD_MIN_LENGTH", "12"),
        ("PASSWORD_MAX_LENGTH", "4"),
        ("PASSWORD_REQUIRE_SPECIAL", "true"),
    ])
    .unwrap();
    assert_eq!(s.listen, ["0.0.0.0:8080".parse().unwrap()]);
    assert_eq!(s.database_url.expose(), "postgres://u:p%40ss%2Fword@db:5432/gc?sslmode=disable");
    let CentralSettings::Harbor { url, username, .. } = s.central else { panic!("Harbor") };
    assert_eq!((url.as_str(), username.as_str()), ("https://harbor.example", "admin"));
    assert_eq!(s.robot_days, 30);
    assert_eq!(s.lockout, Duration::from_secs(90));
    assert_eq!((s.policy.min, s.policy.max, s.policy.special), (12, 12, true));
}

#[test]
fn a_value_that_cannot_be_used_is_named() {
    for (name, value) in [
        ("PORT", "high"),
        ("SESSION_DURATION", "a day"),
        ("HARBOR_URL", "harbor.example"),
        ("HARBOR_URL", "http://harbor.example/path"),
        ("TLS_CERT_FILE", "/cert.pem"),
        ("PASSWORD_REQUIRE_NUMBER", "maybe"),
    ] {
        let error = settings(&[(name, value)]).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn secrets_are_not_shown() {
    let s =
        settings(&[("ADMIN_PASSWORD", "hunter2A"), ("DATABASE_URL", "postgres://u:hunter2B@h/d")]).unwrap();
    assert!(!format!("{s:?}").contains("hunter2"));
}

#[test]
fn a_dotenv_file_is_read_as_people_write_it() {
    let found = env::parse("# x\nexport A=1\nB = \"two words\" \nC='x#y'\nD=z # comment\n\nE\n");
    let get = |k: &str| found.get(k).map(String::as_str);
    assert_eq!(
        (get("A"), get("B"), get("C"), get("D"), get("E")),
        (Some("1"), Some("two words"), Some("x#y"), Some("z"), None)
    );
}

#[test]
fn durations_are_gos_and_days() {
    for (text, seconds) in
        [("90s", 90.0), ("1h30m", 5400.0), ("1.5h", 5400.0), ("500ms", 0.5), ("7d", 604_800.0)]
    {
        assert_eq!(parse_duration(text).map(|d| d.as_secs_f64()), Some(seconds), "{text}");
    }
    for text in ["", "5", "0s", "-5s", "5x", "s", "1e9h"] {
        assert_eq!(parse_duration(text), None, "{text}");
    }
}
