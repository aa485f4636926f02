//! One small file with every reason, and the rules that hold for any bytes.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use openledger_datanet::{
    Error, Evidence, Ingest, Ledger, Mapping, Policy, Reason, Row, ingest, ingest_file,
};
use proptest::prelude::*;
use serde_json::json;

fn mapping() -> Mapping {
    Mapping::new(["q", "a"], "who")
}

fn judge(bytes: &[u8], policy: &Policy) -> Ingest {
    ingest(bytes, &mapping(), policy, &mut |_| {}).unwrap()
}

fn line(who: &str, q: &str, a: &str) -> Vec<u8> {
    let mut line = serde_json::to_vec(&json!({"who": who, "q": q, "a": a})).unwrap();
    line.push(b'\n');
    line
}

/// A line for each reason, with the reason, after the rows that the copies are copies of.
fn one_line_per_reason() -> Vec<(Option<Reason>, Vec<u8>)> {
    let first = "A good note says what was measured, on which machine, and how often it was \
                 repeated. It also says which result would have shown the idea to be wrong, and \
                 where the raw numbers can be found by a reader who wants to check them.";
    let row = |a: &str| line("desk", "What should a note say?", a);
    let raw = |text: &str| format!("{text}\n").into_bytes();
    let long_words = "seed phrase: abandon ability able about above absent absorb abstract absurd \
                      abuse access accident";
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}",
        "MIIEvQIBADANBgkq".repeat(6)
    );
    let pasted =
        format!("Here is what I always tell my own readers about it. {first} Nothing more.");
    vec![
        (None, row(first)),
        (Some(Reason::LineTooLong), row(&"far too long ".repeat(400))),
        (
            Some(Reason::InvalidUtf8),
            b"{\"who\": \"\xff\xfe\"}\n".to_vec(),
        ),
        (Some(Reason::EmptyLine), raw("  ")),
        (
            Some(Reason::MalformedJson),
            raw("{\"who\": \"desk\", \"q\": "),
        ),
        (Some(Reason::NotAnObject), raw("[1, 2]")),
        (
            Some(Reason::MissingColumn),
            raw(r#"{"who": "desk", "q": "Where?", "a": null}"#),
        ),
        (
            Some(Reason::WrongType),
            raw(r#"{"who": "desk", "q": "How many?", "a": 42}"#),
        ),
        (
            Some(Reason::BadContributor),
            line(" ", "Who?", "Nobody at all."),
        ),
        (Some(Reason::RowTooLarge), row(&"large ".repeat(300))),
        (Some(Reason::ControlCharacter), row("a bell \u{7} rings")),
        (
            Some(Reason::BidiControl),
            row("text that runs \u{202e}backwards"),
        ),
        (Some(Reason::TagCharacter), row("a hidden tag \u{e0041}")),
        (
            Some(Reason::InvisibleCharacter),
            row("a zero\u{200b}width space"),
        ),
        (
            Some(Reason::PrivateCharacter),
            row("a private \u{e000} sign"),
        ),
        (Some(Reason::BrokenEncoding), row("caf\u{fffd} and more")),
        (Some(Reason::EmptyText), row(" \n ")),
        (
            Some(Reason::EmailAddress),
            row("Ask lost.wallet-desk@example.com about it."),
        ),
        (
            Some(Reason::PhoneNumber),
            row("Call (212) 555-0142 about it."),
        ),
        (
            Some(Reason::PaymentCard),
            row("Pay with 4111 1111 1111 1111 here."),
        ),
        (
            Some(Reason::Iban),
            row("Send it to GB82 WEST 1234 5698 7654 32 today."),
        ),
        (
            Some(Reason::SocialSecurityNumber),
            row("The number 123-45-6789 is an example."),
        ),
        (Some(Reason::PrivateKey), row(&pem)),
        (
            Some(Reason::ApiKey),
            row("Use api_key = Zk3v9QpL7xTq2WmB8sRy4NdU in the call."),
        ),
        (Some(Reason::SeedPhrase), row(long_words)),
        (Some(Reason::TooShort), line("desk", "?", "no")),
        (
            Some(Reason::Gibberish),
            row("xkqj zvbw qqpl mmzx jjwq hgfk wrtp xxcv bnmk lkjq zzpw qxvt"),
        ),
        (
            Some(Reason::Repetitive),
            row(&"again and again ".repeat(20)),
        ),
        (
            Some(Reason::SymbolHeavy),
            row(&"#$%^&*()_+{}|:<>?~".repeat(5)),
        ),
        (
            Some(Reason::Spam),
            row("Click here to claim your prize, it is risk-free."),
        ),
        (
            Some(Reason::ExactDuplicate),
            line("copier", "WHAT SHOULD A NOTE SAY?", &first.to_lowercase()),
        ),
        (
            Some(Reason::NearDuplicate),
            row(&first.replace("a reader who wants", "any reader who wishes")),
        ),
        (
            Some(Reason::ContainedCopy),
            line("copier", "May I quote you in my letter?", &pasted),
        ),
        (
            None,
            line(
                "desk",
                "What comes last?",
                "A good row after all the bad ones is still taken.",
            ),
        ),
    ]
}

/// Bounds small enough for a test file.
fn small() -> Policy {
    Policy {
        max_line_bytes: 4_096,
        max_row_bytes: 1_024,
        ..Policy::default()
    }
}

#[test]
fn every_reason_has_a_line_and_the_rest_goes_on() {
    let lines = one_line_per_reason();
    let bytes: Vec<u8> = lines.iter().flat_map(|(_, line)| line.clone()).collect();
    let ingest = judge(&bytes, &small());
    assert_eq!(
        (ingest.lines, ingest.bytes),
        (lines.len() as u64, bytes.len() as u64)
    );
    let mut rejected = ingest.rejected.iter();
    for (number, (expected, _)) in (1u64..).zip(&lines) {
        match expected {
            Some(reason) => {
                let rejection = rejected.next().unwrap();
                assert_eq!((rejection.line, rejection.reason), (number, *reason));
            }
            None => assert!(ingest.accepted.iter().any(|row| row.line == number)),
        }
    }
    assert!(rejected.next().is_none());
    let covered: BTreeSet<Reason> = ingest.rejected.iter().map(|r| r.reason).collect();
    assert_eq!(covered, Reason::ALL.iter().copied().collect());
    assert_eq!(
        ingest
            .accepted
            .iter()
            .map(|row| row.row)
            .collect::<Vec<_>>(),
        [0, 1]
    );
}

#[test]
fn evidence_is_machine_readable() {
    let bytes: Vec<u8> = one_line_per_reason()
        .into_iter()
        .flat_map(|(_, line)| line)
        .collect();
    let ingest = judge(&bytes, &small());
    let evidence = |reason| {
        &ingest
            .rejected
            .iter()
            .find(|r| r.reason == reason)
            .unwrap()
            .evidence
    };
    insta::assert_json_snapshot!(evidence(Reason::InvalidUtf8), @r#"
    {
      "kind": "byte",
      "offset": 9
    }
    "#);
    insta::assert_json_snapshot!(evidence(Reason::WrongType), @r#"
    {
      "kind": "column",
      "name": "a",
      "found": "number"
    }
    "#);
    insta::assert_json_snapshot!(evidence(Reason::InvisibleCharacter), @r#"
    {
      "kind": "character",
      "column": "a",
      "code_point": 8203,
      "offset": 6
    }
    "#);
    insta::assert_json_snapshot!(evidence(Reason::ExactDuplicate), @r#"
    {
      "kind": "winner",
      "row": 0,
      "similarity_bps": 10000
    }
    "#);
    let Evidence::Pasted {
        row,
        covered_bps,
        start,
        words,
        source,
    } = *evidence(Reason::ContainedCopy)
    else {
        panic!("not the evidence of a pasted text");
    };
    assert_eq!((row, start, source), (0, 18, 5));
    assert!(covered_bps >= 6_000 && words >= 40);
    // The whole verdict survives storage.
    let stored = serde_json::to_string(&ingest).unwrap();
    assert_eq!(serde_json::from_str::<Ingest>(&stored).unwrap(), ingest);
}

#[test]
fn columns_mean_what_the_mapping_says() {
    let bytes = br#"{"w": "x", "s": "The context is given.", "q": "And the question?", "a": "Here is the answer.", "field": "tests"}"#;
    let run = |columns: &[&str]| {
        let mapping = Mapping::new(columns.iter().copied(), "w");
        ingest(&bytes[..], &mapping, &Policy::default(), &mut |_| {})
            .unwrap()
            .accepted
            .remove(0)
    };
    let row = run(&["s", "q", "a"]);
    assert_eq!(
        row.prompt.as_deref(),
        Some("The context is given.\nAnd the question?")
    );
    assert_eq!(
        (row.text.as_str(), row.label.as_deref()),
        ("Here is the answer.", Some("tests"))
    );
    assert_eq!(
        row.content(),
        b"The context is given.\nAnd the question?\x1fHere is the answer."
    );
    let row = run(&["s"]);
    assert_eq!(
        (row.prompt, row.text.as_str()),
        (None, "The context is given.")
    );
}

#[test]
fn limits_and_missing_files_are_told() {
    let bytes: Vec<u8> = (0..9)
        .flat_map(|i| {
            line(
                "w",
                &format!("Question number {i} is?"),
                &format!("Answer {i} of its own kind, {}.", "abcdefghi".repeat(i)),
            )
        })
        .collect();
    let limited = ingest(
        &bytes[..],
        &mapping().limited(Some(4)),
        &Policy::default(),
        &mut |_| {},
    )
    .unwrap();
    assert_eq!(limited.lines, 4);
    let error = ingest_file(
        "does/not/exist.jsonl".as_ref(),
        &mapping(),
        &Policy::default(),
        &mut |_| {},
    )
    .unwrap_err();
    assert_eq!(error.to_string(), "cannot open does/not/exist.jsonl");
}

#[test]
fn progress_reaches_the_end() {
    let bytes: Vec<u8> = (0..3_000)
        .flat_map(|i| {
            line(
                "w",
                &format!("What is {i} times {i}?"),
                &format!("{}", i * i),
            )
        })
        .collect();
    let mut seen = Vec::new();
    let result = ingest(&bytes[..], &mapping(), &Policy::default(), &mut |p| {
        seen.push(p)
    })
    .unwrap();
    assert!(seen.len() >= 3 && seen.is_sorted_by(|a, b| a.lines < b.lines));
    let last = seen.last().unwrap();
    assert_eq!((last.lines, last.bytes), (3_000, bytes.len() as u64));
    assert_eq!(last.accepted + last.rejected, 3_000);
    assert_eq!(last.accepted, result.accepted.len() as u64);
}

/// Rows of a few shared sentences, so that copies of all kinds are frequent.
fn rows() -> impl Strategy<Value = Vec<(String, String, String)>> {
    const SENTENCES: [&str; 8] = [
        "The index keeps every row in the order in which it was committed to the chain.",
        "A copy that comes later is refused and its sender is told which row was first.",
        "Small models learn plain words faster than rare ones and forget them more slowly.",
        "Every number that decides about money is an integer and every sum is checked.",
        "A reader who doubts a verdict can run the same rules on the same lines at home.",
        "Wind from the west brought rain in the night and the river rose by two hands.",
        "Seven boats left the harbour before dawn and only five came back with fish.",
        "The baker puts salt and water into the flour before anybody else is awake.",
    ];
    let answer = prop::collection::vec(prop::sample::select(&SENTENCES[..]), 1..7);
    let row = ("[ab]", "[a-d]{4}", answer)
        .prop_map(|(who, q, a)| (who, format!("About {q}?"), a.join(" ")));
    prop::collection::vec(row, 0..24)
}

fn bytes_of(rows: &[(String, String, String)]) -> Vec<u8> {
    rows.iter()
        .flat_map(|(who, q, a)| line(who, q, a))
        .collect()
}

fn lines_of(accepted: &[Row]) -> Vec<u8> {
    accepted
        .iter()
        .flat_map(|row| line(&row.contributor, row.prompt.as_deref().unwrap(), &row.text))
        .collect()
}

proptest! {
    #[test]
    fn judging_the_accepted_rows_again_accepts_them_all(rows in rows()) {
        let once = judge(&bytes_of(&rows), &Policy::default());
        let twice = judge(&lines_of(&once.accepted), &Policy::default());
        prop_assert!(twice.rejected.is_empty());
        prop_assert_eq!(twice.accepted.len(), once.accepted.len());
    }

    #[test]
    fn winners_are_always_earlier(rows in rows()) {
        let ingest = judge(&bytes_of(&rows), &Policy::default());
        for rejection in &ingest.rejected {
            if let Evidence::Winner { row, .. } | Evidence::Pasted { row, .. } = rejection.evidence {
                prop_assert!(ingest.accepted[row as usize].line < rejection.line);
            }
        }
    }

    /// What comes later never changes a verdict: nobody can push out an earlier row.
    #[test]
    fn later_lines_change_nothing(rows in rows(), cut in 0usize..24) {
        let cut = cut.min(rows.len());
        let all = judge(&bytes_of(&rows), &Policy::default());
        let part = judge(&bytes_of(&rows[..cut]), &Policy::default());
        let kept: Vec<&Row> = all.accepted.iter().filter(|row| row.line <= cut as u64).collect();
        prop_assert_eq!(kept, part.accepted.iter().collect::<Vec<_>>());
        let kept: Vec<_> = all.rejected.iter().filter(|r| r.line <= cut as u64).collect();
        prop_assert_eq!(kept, part.rejected.iter().collect::<Vec<_>>());
    }

    /// Contributing in parts, with a restart between them, gives the rows of one big file.
    #[test]
    fn parts_equal_the_whole(rows in rows(), cut in 0usize..24) {
        let cut = cut.min(rows.len());
        let whole = judge(&bytes_of(&rows), &Policy::default());
        let mut ledger = Ledger::new(Policy::default());
        let first = ledger.preview(&bytes_of(&rows[..cut])[..], &mapping(), &mut |_| {}).unwrap();
        ledger.commit(&first).unwrap();
        let mut ledger = Ledger::restore(Policy::default(), &first.accepted).unwrap();
        let second = ledger.preview(&bytes_of(&rows[cut..])[..], &mapping(), &mut |_| {}).unwrap();
        let again = ledger.preview(&bytes_of(&rows[cut..])[..], &mapping(), &mut |_| {}).unwrap();
        prop_assert_eq!(&again, &second, "a preview changes nothing");
        ledger.commit(&second).unwrap();
        let joined: Vec<&Row> = first.accepted.iter().chain(&second.accepted).collect();
        prop_assert_eq!(joined.len(), whole.accepted.len());
        for (ours, theirs) in joined.iter().zip(&whole.accepted) {
            prop_assert_eq!((ours.row, ours.content()), (theirs.row, theirs.content()));
        }
        let verdicts = |ingest: &Ingest| ingest.rejected.iter().map(|r| (r.reason, r.evidence.clone())).collect::<Vec<_>>();
        let mut joined = verdicts(&first);
        joined.extend(verdicts(&second));
        prop_assert_eq!(joined, verdicts(&whole));
        let stale = matches!(ledger.commit(&second), Err(Error::Stale { .. }));
        prop_assert!(stale || second.accepted.is_empty() || rows.is_empty());
    }

    #[test]
    fn the_number_of_threads_changes_nothing(rows in rows()) {
        let bytes = bytes_of(&rows);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| judge(&bytes, &Policy::default()))
        };
        prop_assert_eq!(run(1), run(3));
    }

    #[test]
    fn any_bytes_get_one_verdict_a_line(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let ingest = judge(&bytes, &small());
        prop_assert_eq!(ingest.accepted.len() + ingest.rejected.len(), ingest.lines as usize);
    }

    #[test]
    fn any_text_gets_one_verdict(q: String, a: String, who in "\\PC{1,12}") {
        let ingest = judge(&line(&who, &q, &a), &small());
        prop_assert_eq!(ingest.accepted.len() + ingest.rejected.len(), 1);
    }

    #[test]
    fn any_damage_to_a_good_file_is_survived(at: usize, byte: u8, cut: usize) {
        let mut bytes: Vec<u8> = one_line_per_reason().into_iter().flat_map(|(_, line)| line).collect();
        let len = bytes.len();
        bytes[at % len] = byte;
        bytes.truncate(cut % len + 1);
        let ingest = judge(&bytes, &small());
        prop_assert_eq!(ingest.accepted.len() + ingest.rejected.len(), ingest.lines as usize);
    }
}

proptest! {
    /// Text that is full of what the patterns look for, in every script.
    #[test]
    fn near_misses_never_panic(text in "[0-9\\p{Nd}A-Z@.+() \\-]{0,80}(secret|private key|mnemonic|sk-|ghp_)?[: =]{0,2}[0-9a-fA-F\\p{Nd}]{0,70}") {
        let ingest = judge(&line("w", "What is this?", &text), &Policy::default());
        prop_assert_eq!(ingest.lines, 1);
    }
}
