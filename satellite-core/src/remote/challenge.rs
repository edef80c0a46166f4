//! `WWW-Authenticate` (RFC 9110 §11.6.1): a list of challenges whose commas also part their parameters. Pure.

/// One way to authenticate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    /// Lower case: `basic`, `bearer`.
    pub(super) scheme: String,
    /// Names in lower case.
    parameters: Vec<(String, String)>,
}

/// Most challenges and parameters read.
const MAX: usize = 32;

impl Challenge {
    /// Value of the first parameter of that name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// Reads one header line. What follows something unreadable is dropped; an empty line is no challenge.
pub(super) fn parse(line: &str) -> Vec<Challenge> {
    let mut all: Vec<Challenge> = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = token(rest);
        if word.is_empty() || all.len() > MAX {
            return all;
        }
        let spaced = after.trim_start_matches([' ', '\t']);
        match (spaced.strip_prefix('='), all.last_mut()) {
            // `name = value` belongs to the challenge before it.
            (Some(value), Some(challenge)) => {
                let Some((value, after)) = parameter(value.trim_start_matches([' ', '\t'])) else {
                    return all;
                };
                if challenge.parameters.len() < MAX {
                    challenge.parameters.push((word.to_ascii_lowercase(), value));
                }
                rest = after;
            }
            (Some(_), None) => return all,
            (None, _) => {
                all.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
                rest = token68(spaced).unwrap_or(after);
            }
        }
    }
}

fn token(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    text.split_at(text.find(|c| !is_token(c)).unwrap_or(text.len()))
}

/// What follows a `token68`, as Negotiate has it, if one is at the front: nothing but a comma or the end may.
fn token68(text: &str) -> Option<&str> {
    let is_68 = |c: char| c.is_ascii_alphanumeric() || "-._~+/".contains(c);
    let after = text.trim_start_matches(is_68);
    if after.len() == text.len() {
        return None;
    }
    let after = after.trim_start_matches('=');
    (after.is_empty() || after.starts_with(',')).then_some(after)
}

fn parameter(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        // Unquoted values are tokens by the grammar; registries put URLs there as well.
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some((text[..end].to_string(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        type Expected<'a> = &'a [(&'a str, &'a [(&'a str, &'a str)])];
        let table: &[(&str, Expected<'_>)] = &[
            ("", &[]),
            ("Basic realm=\"harbor\"", &[("basic", &[("realm", "harbor")])]),
            (
                r#"Bearer realm="https://h/service/token",service="harbor-registry",scope="repository:edge/app:pull,push repository:b:pull""#,
                &[(
                    "bearer",
                    &[
                        ("realm", "https://h/service/token"),
                        ("service", "harbor-registry"),
                        ("scope", "repository:edge/app:pull,push repository:b:pull"),
                    ],
                )],
            ),
            (
                r#"bearer Realm = "a\"b" , error=invalid_token, Basic realm=x"#,
                &[("bearer", &[("realm", "a\"b"), ("error", "invalid_token")]), ("basic", &[("realm", "x")])],
            ),
            ("Negotiate, Basic", &[("negotiate", &[]), ("basic", &[])]),
            ("Negotiate abc==, Basic realm=y", &[("negotiate", &[]), ("basic", &[("realm", "y")])]),
            (
                "Bearer realm=https://h/token,service=s",
                &[("bearer", &[("realm", "https://h/token"), ("service", "s")])],
            ),
            ("Bearer realm=\"open", &[("bearer", &[])]),
            ("=x", &[]),
            ("realm=\"x\"", &[]),
            ("Bearer ,, realm=a", &[("bearer", &[("realm", "a")])]),
        ];
        for (line, expected) in table {
            let got = parse(line);
            let got: Vec<_> = got
                .iter()
                .map(|c| {
                    let p: Vec<_> = c.parameters.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                    (c.scheme.as_str(), p)
                })
                .collect();
            let expected: Vec<_> = expected.iter().map(|(s, p)| (*s, p.to_vec())).collect();
            assert_eq!(got, expected, "{line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_the_parser_panic_or_hang(line in "[ -~]{0,80}|(Bearer|Basic| |,|=|\"|\\\\|realm){0,20}") {
            let _ = parse(&line);
        }
    }
}
