//! `Range` and `Content-Range` headers. Pure.

/// What a `Range` header asks for, of content with a known size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// No range, one not understood, or several: the whole (RFC 9110 §14.2 lets a server ignore it).
    Whole,
    /// First byte and length.
    Part(u64, u64),
    /// Nothing of it exists: 416.
    Outside,
}

/// Reads a `Range` header.
pub(super) fn wanted(header: &str, size: u64) -> Wanted {
    let Some(spec) = header.trim().strip_prefix("bytes=") else { return Wanted::Whole };
    let Some((first, last)) = spec.trim().split_once('-').filter(|_| !spec.contains(',')) else {
        return Wanted::Whole;
    };
    let number = |text: &str| {
        let text = text.trim();
        // A number too large for 64 bits is beyond any content, not malformed.
        (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
            .then(|| text.parse().unwrap_or(u64::MAX))
    };
    match (number(first), number(last), first.trim().is_empty(), last.trim().is_empty()) {
        (Some(first), None, _, true) if first < size => Wanted::Part(first, size - first),
        (Some(first), Some(last), ..) if last < first => Wanted::Outside,
        (Some(first), Some(last), ..) if first < size => Wanted::Part(first, last.min(size - 1) - first + 1),
        (Some(_), _, _, true) | (Some(_), Some(_), ..) => Wanted::Outside,
        (None, Some(0), true, _) => Wanted::Outside,
        (None, Some(_), true, _) if size == 0 => Wanted::Outside,
        (None, Some(tail), true, _) => Wanted::Part(size - tail.min(size), tail.min(size)),
        _ => Wanted::Whole,
    }
}

/// Reads the `Content-Range` of a chunk: first and last byte, in the form of the Distribution specification (`0-99`) or
/// of HTTP (`bytes 0-99/200`).
pub(super) fn chunk(header: &str) -> Option<(u64, u64)> {
    let spec = header.trim();
    let spec = spec.strip_prefix("bytes ").or_else(|| spec.strip_prefix("bytes=")).unwrap_or(spec);
    let spec = spec.split('/').next()?;
    let (first, last) = spec.split_once('-')?;
    let number = |t: &str| t.trim().bytes().all(|b| b.is_ascii_digit()).then(|| t.trim().parse().ok())?;
    let (first, last): (u64, u64) = (number(first)?, number(last)?);
    (first <= last && last < u64::MAX).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_read_as_http_says() {
        for (header, expected) in [
            ("bytes=0-9", Wanted::Part(0, 10)),
            ("bytes=90-", Wanted::Part(90, 10)),
            ("bytes=-10", Wanted::Part(90, 10)),
            ("bytes=-1000", Wanted::Part(0, 100)),
            ("bytes=50-1000", Wanted::Part(50, 50)),
            ("bytes=100-", Wanted::Outside),
            ("bytes=100-200", Wanted::Outside),
            ("bytes=9-0", Wanted::Outside),
            ("bytes=-0", Wanted::Outside),
            ("bytes=99999999999999999999999-", Wanted::Outside),
            ("bytes=0-99999999999999999999999", Wanted::Part(0, 100)),
            ("bytes=0-1,5-6", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("items=0-1", Wanted::Whole),
            ("", Wanted::Whole),
        ] {
            assert_eq!(wanted(header, 100), expected, "{header}");
        }
        assert_eq!(wanted("bytes=0-", 0), Wanted::Outside);
    }

    #[test]
    fn chunks_are_read_in_both_forms() {
        assert_eq!(chunk("0-99"), Some((0, 99)));
        assert_eq!(chunk("bytes 5-9/10"), Some((5, 9)));
        for bad in ["", "-", "5", "9-5", "a-b", "-5-9", "0-18446744073709551615", "5-"] {
            assert_eq!(chunk(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_part_is_always_inside(header in "bytes=[0-9]{0,22}-[0-9]{0,22}", size: u64) {
            if let Wanted::Part(first, length) = wanted(&header, size) {
                prop_assert!(length > 0 && first.checked_add(length).is_some_and(|end| end <= size));
            }
            chunk(&header);
        }
    }
}
