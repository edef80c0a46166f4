//! Rules for passwords and names of users.

use crate::settings::PasswordPolicy;

/// Longest name of a user.
const MAX_USERNAME: usize = 255;

/// Whether a password is good enough.
///
/// # Errors
/// The reference's sentence with everything that is missing.
pub fn check_password(policy: &PasswordPolicy, password: &str) -> Result<(), String> {
    let has = |test: fn(char) -> bool| password.chars().any(test);
    let mut missing = Vec::new();
    if password.len() < policy.min {
        missing.push(format!("at least {} characters", policy.min));
    }
    if password.len() > policy.max {
        missing.push(format!("at most {} characters", policy.max));
    }
    for (wanted, there, text) in [
        (policy.upper, has(char::is_uppercase), "one uppercase letter"),
        (policy.lower, has(char::is_lowercase), "one lowercase letter"),
        (policy.number, has(char::is_numeric), "one number"),
        (policy.special, has(|c| !c.is_alphanumeric()), "one special character"),
    ] {
        if wanted && !there {
            missing.push(text.into());
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(format!("password must contain: {}", missing.join(", "))) }
}

/// Whether a name may be a user's: it has to fit into a path and into Basic credentials.
///
/// # Errors
/// What to tell who chose it.
pub fn check_username(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("Username is required".into());
    }
    if name == "admin" {
        return Err("Username 'admin' is reserved".into());
    }
    let good = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | '+');
    if name.len() > MAX_USERNAME || !name.starts_with(char::is_alphanumeric) || !name.chars().all(good) {
        return Err(format!(
            "Invalid username: must be 1-{MAX_USERNAME} bytes of letters, digits, and . _ - @ +, starting with a letter or digit"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_weak_password_is_told_everything_that_it_lacks() {
        let policy = PasswordPolicy::default();
        let told = |password: &str| check_password(&policy, password).unwrap_err();
        assert_eq!(
            told("x"),
            "password must contain: at least 8 characters, one uppercase letter, one number"
        );
        assert_eq!(told("abcdefg1"), "password must contain: one uppercase letter");
        assert_eq!(told("ABCDEFG1"), "password must contain: one lowercase letter");
        assert_eq!(told("Abcdefgh"), "password must contain: one number");
        assert_eq!(told(&format!("Aa1{}", "x".repeat(130))), "password must contain: at most 128 characters");
        assert_eq!(check_password(&policy, "Opspassw0rd"), Ok(()));
        let special = PasswordPolicy { special: true, ..policy };
        assert_eq!(check_password(&special, "Ops passw0rd"), Ok(()));
        assert!(check_password(&special, "Opspassw0rd").unwrap_err().ends_with("one special character"));
    }

    #[test]
    fn names_fit_into_paths_and_credentials() {
        for name in ["ops", "a.b-c_d", "who@example.com", "Ünal"] {
            assert_eq!(check_username(name), Ok(()), "{name}");
        }
        let long = "u".repeat(256);
        for name in ["", "admin", "a b", "a/b", "a:b", "<x>", ".a", long.as_str()] {
            assert!(check_username(name).is_err(), "{name}");
        }
    }
}
