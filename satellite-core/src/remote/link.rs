//! The `Link` header (RFC 8288), as far as pages need it.

/// The target of the link whose relation is `next`. Harbor writes unescaped queries and `prev` first.
pub(super) fn next(header: &str) -> Option<&str> {
    let mut rest = header;
    loop {
        let start = rest.find('<')?;
        let end = start + rest[start..].find('>')?;
        let target = &rest[start + 1..end];
        // Parameters reach to the next comma outside quotes.
        let after = &rest[end + 1..];
        let mut quoted = false;
        let stop = after.find(|c| {
            quoted ^= c == '"';
            c == ',' && !quoted
        });
        let (parameters, remaining) = stop.map_or((after, ""), |at| (&after[..at], &after[at + 1..]));
        let is_next = parameters.split(';').filter_map(|p| p.split_once('=')).any(|(name, value)| {
            let relations = value.trim().trim_matches('"').split_ascii_whitespace();
            name.trim().eq_ignore_ascii_case("rel")
                && relations.into_iter().any(|r| r.eq_ignore_ascii_case("next"))
        });
        if is_next {
            return Some(target.trim());
        }
        rest = remaining;
    }
}

#[cfg(test)]
mod tests {
    use super::next;

    #[test]
    fn the_next_page_is_found() {
        let table = [
            (r#"</v2/a/tags/list?last=b&n=2>; rel="next""#, Some("/v2/a/tags/list?last=b&n=2")),
            (r#"</p?page=1>; rel="prev" , </p?page=3&q=a,b>; rel="next""#, Some("/p?page=3&q=a,b")),
            (r"<https://h/x>;REL=next", Some("https://h/x")),
            (r#"<x>; title="a, <y>; rel=next"; rel="last next""#, Some("x")),
            (r#"<x>; rel="prev""#, None),
            ("<x", None),
            ("", None),
            ("<>; rel=next", Some("")),
        ];
        for (header, target) in table {
            assert_eq!(next(header), target, "{header}");
        }
    }
}
