//! Uploads by any client, against a model.

use proptest::prelude::*;

use super::*;

/// One request to an upload. Offsets are relative to where it is.
#[derive(Clone, Debug)]
enum Step {
    Status,
    /// `true`: cut after the bytes.
    Stream(Vec<u8>, bool),
    Chunk {
        shift: i8,
        bytes: Vec<u8>,
        /// Announced more (or fewer) than there are, in a body without a length.
        lie: i8,
    },
    /// Ends it: with the right digest or another, with this at its end.
    Finish(Vec<u8>, bool),
    FinishCut(Vec<u8>),
    Cancel,
    Begin,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
    let step = prop_oneof![
        2 => Just(Step::Status),
        4 => (bytes(), any::<bool>()).prop_map(|(b, cut)| Step::Stream(b, cut)),
        4 => (-2i8..3, proptest::collection::vec(any::<u8>(), 1..40), -2i8..3)
            .prop_map(|(shift, bytes, lie)| Step::Chunk { shift, bytes, lie }),
        2 => (bytes(), any::<bool>()).prop_map(|(b, right)| Step::Finish(b, right)),
        1 => bytes().prop_map(Step::FinishCut),
        1 => Just(Step::Cancel),
        2 => Just(Step::Begin),
    ];
    proptest::collection::vec(step, 1..20)
}

/// Does the steps, with a plain model of what the upload holds: `None` when there is none.
async fn follow(home: &Home, steps: &[Step]) {
    let mut at = home.begin("a").await;
    let mut held: Option<Vec<u8>> = Some(Vec::new());
    for step in steps {
        let offset = held.as_ref().map_or(0, Vec::len);
        let gone = held.is_none();
        let mut take = |bytes: &[u8]| held.iter_mut().for_each(|h| h.extend(bytes));
        match step {
            Step::Status => {}
            Step::Stream(bytes, cut) => {
                let (first, second) = bytes.split_at(bytes.len() / 2);
                let got = home.send("PATCH", &at, ask().stream(&[first, second], *cut)).await;
                take(bytes);
                assert_eq!(
                    got.status,
                    if gone {
                        404
                    } else if *cut {
                        400
                    } else {
                        202
                    },
                    "{step:?}"
                );
            }
            Step::Chunk { shift, bytes, lie } => {
                let first = offset as i64 + i64::from(*shift);
                let last = first + bytes.len() as i64 - 1 + i64::from(*lie);
                let request = ask().with("content-range", format!("{first}-{last}")).stream(&[bytes], false);
                let got = home.send("PATCH", &at, request).await;
                let expected = match () {
                    () if gone => 404,
                    () if first < 0 || last < first => 400,
                    () if *shift != 0 => 416,
                    () if *lie == 0 => 202,
                    () => 400,
                };
                assert_eq!(got.status, expected, "{step:?} at {offset}");
                // More than was announced is not taken; less is a cut.
                if expected == 202
                    || expected == 400 && first >= 0 && last >= first && *shift == 0 && *lie > 0
                {
                    take(bytes);
                }
            }
            Step::Finish(bytes, right) => {
                take(bytes);
                let whole = held.take().unwrap_or_default();
                let digest = if *right { Digest::sha256(&whole) } else { Digest::sha256(b"another") };
                let got =
                    home.send("PUT", &format!("{at}?digest={digest}"), ask().stream(&[bytes], false)).await;
                assert_eq!(
                    got.status,
                    if gone {
                        404
                    } else if *right {
                        201
                    } else {
                        400
                    },
                    "{step:?}"
                );
                if got.status == 201 {
                    assert_eq!(home.get(&got.location()).await.is(200).body, whole);
                }
            }
            Step::FinishCut(bytes) => {
                let path = format!("{at}?digest={}", Digest::sha256(bytes));
                let got = home.send("PUT", &path, ask().stream(&[bytes], true)).await;
                take(bytes);
                assert_eq!(got.status, if gone { 404 } else { 400 }, "{step:?}");
            }
            Step::Cancel => {
                home.send("DELETE", &at, ask()).await.is(if gone { 404 } else { 204 });
                held = None;
            }
            Step::Begin if gone => {
                at = home.begin("a").await;
                held = Some(Vec::new());
            }
            Step::Begin => {}
        }
        let status = home.get(&at).await;
        match &held {
            None => assert_eq!(status.status, 404, "{step:?}"),
            Some(held) => {
                assert_eq!(status.status, 204, "{step:?}");
                assert_eq!(status.header("range"), format!("0-{}", held.len().saturating_sub(1)), "{step:?}");
            }
        }
    }
}

#[test]
fn an_upload_holds_exactly_what_it_acknowledged_whatever_the_client_does() {
    let home = open();
    let config = ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() };
    proptest::test_runner::TestRunner::new(config)
        .run(&steps(), |steps| {
            smol::block_on(follow(&home, &steps));
            Ok(())
        })
        .unwrap();
}
