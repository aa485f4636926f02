//! From an answer to a report, to what a reader sees, and back by recomputation.

#![allow(clippy::unwrap_used, reason = "tests")]

mod tuned;

use openledger_attribution::{
    Attribution, Attributor, Context, Error, Evidence, Mismatch, PaidSpan, RowSketches, Share,
    Source, span_method, verify,
};
use openledger_model::{KvCache, Lane, Tokenizer, Workspace, step, surprisal_millibits};
use openledger_primitives::{
    Address, B256, Mode, Record, Wei, merkle,
    records::{AttributionReport, InferenceReceipt, Parameters, digest_u32},
};
use openledger_suffix_index::Index;
use tuned::Tuned;

/// A prompt and an answer that quotes row 3 in the middle of other words.
const PROMPT: [u32; 3] = [1, 8, 9];

struct Answered {
    tuned: Tuned,
    sketches: RowSketches,
    index: Index,
    clusters: Vec<u32>,
    parameters: Parameters,
    output: Vec<u32>,
    surprisals: Vec<u32>,
    receipt: InferenceReceipt,
}

impl Answered {
    fn new() -> Self {
        let tuned = Tuned::new();
        let sketches = tuned.sketches();
        let documents: Vec<&[u32]> = tuned.rows.iter().map(|row| row.tokens.as_slice()).collect();
        let index = Index::build(&documents, 200).unwrap();
        let quoted = &tuned.rows[3].tokens[1..7];
        let output = [&[150, 151], quoted, &[152, 2]].concat();
        let surprisals = surprisals(&tuned, &PROMPT, &output);
        // Row 3 is a near copy of row 1, which was committed before it.
        let mut clusters: Vec<u32> = (0..12).collect();
        clusters[3] = 1;
        let receipt = InferenceReceipt {
            promptDigest: digest_u32(&PROMPT),
            outputDigest: digest_u32(&output),
            surprisals: digest_u32(&surprisals),
            ..InferenceReceipt::default()
        };
        let parameters = Parameters {
            minSpanTokens: 4,
            minSpanMillibits: 1_000,
            ..Parameters::default()
        };
        Self {
            tuned,
            sketches,
            index,
            clusters,
            parameters,
            output,
            surprisals,
            receipt,
        }
    }

    fn attributor(&self) -> Attributor<'_> {
        Attributor {
            base: &self.tuned.base,
            adapter: &self.tuned.adapter,
            sketches: &self.sketches,
            index: &self.index,
            clusters: &self.clusters,
            parameters: &self.parameters,
        }
    }

    fn evidence(&self) -> Evidence<'_> {
        Evidence {
            receipt: &self.receipt,
            prompt: &PROMPT,
            output: &self.output,
            surprisals: &self.surprisals,
            sketch_root: self.sketches.root(),
        }
    }

    fn attribute(&self) -> Attribution {
        self.attributor()
            .attribute(&self.receipt, &PROMPT, &self.output, &self.surprisals)
            .unwrap()
    }
}

/// Surprisals as serving computes them: token by token.
fn surprisals(tuned: &Tuned, prompt: &[u32], output: &[u32]) -> Vec<u32> {
    let mut cache = KvCache::new(&tuned.base.config, 64);
    let mut ws = Workspace::new();
    let mut next: &[u32] = prompt;
    let mut surprisals = Vec::new();
    for at in 0..output.len() {
        let lane = Lane {
            tokens: next,
            cache: &mut cache,
            adapter: Some(&tuned.adapter),
            all_logits: false,
        };
        let out = step(&tuned.base, &mut [lane], &mut ws).unwrap();
        surprisals.push(surprisal_millibits(&out[0].logits, output[at]));
        next = &output[at..=at];
    }
    surprisals
}

#[test]
fn a_quotation_is_found_and_paid_to_the_cluster() {
    let answered = Answered::new();
    let attribution = answered.attribute();
    let [span] = attribution.spans.as_slice() else {
        panic!("one span expected: {:?}", attribution.spans)
    };
    assert_eq!((span.start, span.len, span.row, span.offset), (2, 6, 3, 1));
    let covered: Vec<bool> = attribution.cover.iter().map(Option::is_some).collect();
    assert_eq!(
        covered,
        [
            false, false, true, true, true, true, true, true, false, false
        ]
    );
    let won: u64 = answered.surprisals[2..8]
        .iter()
        .map(|&w| u64::from(w))
        .sum();
    assert_eq!(
        attribution.shares,
        [Share {
            cluster: 1,
            millibits: won
        }]
    );
    assert_eq!(attribution.cover_rows()[2], Some(3));
    assert_eq!(attribution.row_scores().len(), 12);
    assert_eq!(attribution.decoy_scores().len(), 12);
}

#[test]
fn an_honest_report_verifies_and_any_change_is_named() {
    let answered = Answered::new();
    let attribution = answered.attribute();
    let record = attribution.record(7);
    let attributor = answered.attributor();
    verify(&attributor, &answered.evidence(), &attribution, &record).unwrap();

    let check = |spoil: &dyn Fn(&mut Attribution, &mut AttributionReport), expected: &str| {
        let (mut attribution, mut record) = (attribution.clone(), record.clone());
        spoil(&mut attribution, &mut record);
        let found = verify(&attributor, &answered.evidence(), &attribution, &record);
        let error = found.unwrap_err().to_string();
        assert!(
            error.contains(expected),
            "{error:?} does not say {expected:?}"
        );
    };
    check(&|a, _| a.scores[4] += 1, "row 4: score");
    check(
        &|a, _| a.scores.truncate(20),
        "row 20: score nothing in the report",
    );
    check(&|a, _| a.query[9] ^= 1, "query sketch: dimension 9");
    check(&|a, _| a.spans[0].row = 2, "span 0");
    check(&|a, _| a.spans.clear(), "span 0");
    check(&|a, _| a.shares[0].cluster = 3, "share 0");
    check(&|a, _| a.methods.clear(), "methods");
    check(&|a, _| a.receipt = B256::ZERO, "receipt");
    check(&|a, _| a.noise_floor += 1, "noise floor");
    check(&|_, r| r.scoresRoot = B256::ZERO, "the record has digest");
    check(&|_, r| r.mode = 1, "the report names arithmetic mode 1");

    let evidence = Evidence {
        sketch_root: B256::ZERO,
        ..answered.evidence()
    };
    let error = verify(&attributor, &evidence, &attribution, &record).unwrap_err();
    assert!(matches!(error, Mismatch::SketchRoot { .. }), "{error}");
    let evidence = Evidence {
        prompt: &[1],
        ..answered.evidence()
    };
    let error = verify(&attributor, &evidence, &attribution, &record).unwrap_err();
    assert!(
        error.to_string().starts_with("the prompt tokens given"),
        "{error}"
    );
    // A receipt that overstates how surprising a token was.
    let mut lie = answered.surprisals.clone();
    lie[5] += 1;
    let receipt = InferenceReceipt {
        surprisals: digest_u32(&lie),
        ..answered.receipt.clone()
    };
    let evidence = Evidence {
        receipt: &receipt,
        surprisals: &lie,
        ..answered.evidence()
    };
    let error = verify(&attributor, &evidence, &attribution, &record).unwrap_err();
    assert!(
        matches!(error, Mismatch::Surprisal { position: 5, .. }),
        "{error}"
    );
}

#[test]
fn only_exact_answers_are_attributed() {
    let answered = Answered::new();
    let attribution = answered.attribute();
    let record = attribution.record(7);
    assert_eq!(record.mode, u8::from(Mode::Exact));
    let receipt = InferenceReceipt {
        mode: Mode::Fast.into(),
        ..answered.receipt
    };
    let refused = [
        answered
            .attributor()
            .attribute(&receipt, &PROMPT, &answered.output, &answered.surprisals)
            .unwrap_err(),
        Attribution::of_base(&receipt, &answered.surprisals, &answered.parameters).unwrap_err(),
    ];
    for error in refused {
        assert!(matches!(error, Error::NotExact { found: 1 }), "{error}");
    }
    let evidence = Evidence {
        receipt: &receipt,
        ..answered.evidence()
    };
    let error = verify(&answered.attributor(), &evidence, &attribution, &record).unwrap_err();
    assert!(matches!(error, Mismatch::Mode { found: 1, .. }), "{error}");
}

#[test]
fn a_score_is_proved_from_two_sketches() {
    let answered = Answered::new();
    let attribution = answered.attribute();
    // What a contract does: open the row's sketch, multiply, scale, and compare with the leaf.
    let (sketch, path) = answered.sketches.proof(5).unwrap();
    let leaf = merkle::leaf(&openledger_attribution::sketch_leaf(5, sketch));
    assert!(merkle::verify(answered.sketches.root(), leaf, 5, &path));
    let dot = openledger_attribution::dot(&attribution.query, sketch);
    let score = openledger_attribution::score(dot, sketch.len());
    assert_eq!(score, attribution.scores[5]);
    assert!(attribution.scores_tree().proof(5).is_some());
}

#[test]
fn lists_that_do_not_fit_are_refused() {
    let answered = Answered::new();
    let attributor = answered.attributor();
    let error = attributor
        .attribute(
            &InferenceReceipt::default(),
            &PROMPT,
            &answered.output,
            &[1],
        )
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::Surprisals {
                expected: 10,
                found: 1
            }
        ),
        "{error}"
    );
    let short = Attributor {
        clusters: &answered.clusters[1..],
        ..attributor
    };
    let error = short
        .attribute(&InferenceReceipt::default(), &PROMPT, &[], &[])
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::RowCount {
                index: 11,
                sketches: 12
            }
        ),
        "{error}"
    );
    let nothing = attributor
        .attribute(&InferenceReceipt::default(), &PROMPT, &[], &[])
        .unwrap();
    assert!(nothing.scores.iter().all(|&score| score == 0));
}

#[test]
fn a_reader_sees_where_the_words_come_from() {
    let text = "The river Ü flows north. The river Ü flows south.";
    let tokenizer = Tokenizer::train([text].iter().map(ToString::to_string), 270).unwrap();
    let output = tokenizer.encode_continuation(text);
    let count = u32::try_from(output.len()).unwrap();
    let span = PaidSpan {
        start: 3,
        len: 9,
        row: 1,
        offset: 4,
        occurrences: 2,
        millibits: 44_000,
    };
    let mut cover = vec![None; output.len()];
    cover[3..12].fill(Some(0));
    let attribution = Attribution {
        receipt: B256::repeat_byte(1),
        methods: vec![span_method(), B256::repeat_byte(2)],
        parameters: Parameters::default().digest(),
        query: vec![0; 4],
        spans: vec![span],
        cover,
        total_millibits: 400,
        shares: vec![Share {
            cluster: 0,
            millibits: 100,
        }],
        scores: vec![900, -500, 20, 0, 50],
        rows: 4,
        noise_floor: 50,
    };
    let source = |row: u32| Source {
        contributor: format!("author {row}"),
        wallet: Address::repeat_byte(7),
        contribution: B256::repeat_byte(8),
        excerpt: None,
    };
    let amount = |row: u32| (row == 0).then_some(Wei::new(5));
    let view = attribution.view(
        &output,
        &Context {
            id: "cmpl-1",
            chain_id: 7,
            parameters: &Parameters::default(),
            decoder: &tokenizer.continuation_decoder(),
            top: 2,
            source: &source,
            amount: &amount,
        },
    );
    assert_eq!(view.text, text);
    let [shown] = view.spans.as_slice() else {
        panic!("{:?}", view.spans)
    };
    assert_eq!(shown.tokens, [3, 12]);
    assert_eq!(shown.text, text[shown.bytes[0]..shown.bytes[1]]);
    assert_eq!(
        shown.text,
        tokenizer
            .decode(&output[..12])
            .replacen(&tokenizer.decode(&output[..3]), "", 1)
    );
    let chars: String = text
        .chars()
        .skip(shown.chars[0])
        .take(shown.chars[1] - shown.chars[0])
        .collect();
    assert_eq!(chars, shown.text);
    assert_eq!((shown.row_tokens, shown.paid_tokens), ([4, 13], 9));
    assert_eq!(view.sources[0].share_ppm, 250_000);
    assert_eq!(view.sources[0].amount, Some(Wei::new(5)));
    let scores = |list: &[openledger_attribution::ScoreView]| -> Vec<(u32, i32, bool)> {
        list.iter()
            .map(|s| (s.row, s.score, s.above_noise))
            .collect()
    };
    assert_eq!(scores(&view.helpful), [(0, 900, true), (2, 20, false)]);
    assert_eq!(scores(&view.harmful), [(1, -500, false)]);
    assert_eq!(view.methods[0].name, "span");
    assert_eq!(view.report, attribution.record(7).digest());
    assert_eq!((view.rows_scored, view.threshold.decoys), (4, 1));
    assert!(count > 12);
    let json = serde_json::to_value(&view).unwrap();
    assert_eq!(json["object"], "attribution");
    assert_eq!(json["sources"][0]["amount"], "5");
    assert_eq!(json["spans"][0]["source"]["contributor"], "author 1");
}
