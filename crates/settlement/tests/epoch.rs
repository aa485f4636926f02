//! The promises of docs/protocol/rewards.md, each as a property of whole epochs.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;

use common::{COMMONS, any_epoch, epoch, inference, model, wallet};
use openledger_primitives::{Address, B256, Mode, Record, Wei, merkle, records::digest_leaf};
use openledger_settlement::{
    Channel, Cumulative, EpochInput, EpochOutput, Error, Quality, Role, Row, Unpaid, close_epoch,
};
use proptest::prelude::*;

fn contributor_income(output: &EpochOutput, of: impl Fn(Address) -> bool) -> u128 {
    let credits = output.credits.iter();
    credits
        .filter(|((wallet, role), _)| *role == Role::Contributor && of(*wallet))
        .map(|(_, amount)| amount.get())
        .sum()
}

fn income(output: &EpochOutput, of: Address) -> u128 {
    output.earners.get(of).get()
}

proptest! {
    /// In = out, to the wei, and every credit is a sum of lines.
    #[test]
    fn conserves(input in any_epoch()) {
        let out = close_epoch(&input).unwrap();
        let fees: u128 = input.inferences.iter().map(|i| i.receipt.fee).sum();
        let lines: u128 = out.lines.iter().map(|line| line.amount.get()).sum();
        let t = out.totals;
        prop_assert_eq!(lines, fees);
        prop_assert_eq!(out.settlement.fees, fees);
        let parts = [t.contributors, t.operator, t.model_owner, t.stakers, t.treasury, t.commons];
        prop_assert_eq!(Wei::total(parts).unwrap(), t.fees);
        prop_assert_eq!(out.payers.total().unwrap(), out.earners.total().unwrap());

        let mut by_line = BTreeMap::<(Address, Role), u128>::new();
        for line in &out.lines {
            prop_assert!(!line.amount.is_zero());
            *by_line.entry((line.earner, line.channel.role())).or_default() += line.amount.get();
        }
        let credits: BTreeMap<_, _> = out.credits.iter().map(|(&k, v)| (k, v.get())).collect();
        prop_assert_eq!(by_line, credits);
    }

    /// Contributors and commons together get the contributors' share of each fee and no more.
    #[test]
    fn the_budget_is_never_exceeded(input in any_epoch()) {
        let out = close_epoch(&input).unwrap();
        let budget: u128 = input.inferences.iter().map(|i| i.receipt.fee * 4_000 / 10_000).sum();
        let got = out.totals.contributors.get() + out.totals.commons.get();
        prop_assert_eq!(got, budget);
    }

    /// Same input, same bytes: neither the order of receipts nor that of models matters.
    #[test]
    fn order_does_not_matter(input in any_epoch(), seed: u64) {
        let before = close_epoch(&input).unwrap();
        let mut shuffled = input;
        shuffled.models.reverse();
        shuffled.inferences.sort_by_key(|i| (i.receipt.sequence ^ seed).wrapping_mul(seed | 1));
        prop_assert_eq!(close_epoch(&shuffled).unwrap(), before);
    }

    /// A later exact copy by anybody, however it would score, changes no payment.
    #[test]
    fn a_later_copy_changes_nothing(
        input in any_epoch(),
        of in any::<prop::sample::Index>(),
        score: i32,
    ) {
        let before = close_epoch(&input).unwrap();
        let mut copied = input;
        let original = &mut copied.models[0];
        let cluster = original.rows[of.index(original.rows.len())].cluster;
        original.rows.push(Row { owner: wallet(99), cluster });
        let adapter = original.adapter;
        for inference in copied.inferences.iter_mut().filter(|i| i.receipt.adapter == adapter) {
            inference.scores.push(score);
        }
        let after = close_epoch(&copied).unwrap();
        prop_assert_eq!(&after.lines, &before.lines);
        prop_assert_eq!(after.settlement, before.settlement);
    }

    /// Whoever finds a span in the copy instead of the original pays the original all the same.
    #[test]
    fn a_span_found_in_the_copy_pays_the_original(input in any_epoch()) {
        let before = close_epoch(&input).unwrap();
        let mut by_head = input;
        for inference in &mut by_head.inferences {
            let adapter = inference.receipt.adapter;
            let model = by_head.models.iter().find(|m| m.adapter == adapter).unwrap();
            for row in inference.cover.iter_mut().flatten() {
                *row = model.rows[usize::try_from(*row).unwrap()].cluster;
            }
        }
        prop_assert_eq!(close_epoch(&by_head).unwrap(), before);
    }

    /// Spreading one contributor's rows over many wallets never gains; without a dust floor it
    /// changes nothing.
    #[test]
    fn splitting_over_wallets_never_gains(input in any_epoch(), victim in 0u8..6) {
        let before = close_epoch(&input).unwrap();
        let mut split = input;
        let mut next = 100;
        for row in split.models.iter_mut().flat_map(|model| &mut model.rows) {
            if row.owner == wallet(victim) {
                row.owner = wallet(next);
                next += 1;
            }
        }
        let after = close_epoch(&split).unwrap();
        let one = contributor_income(&before, |w| w == wallet(victim));
        let many = contributor_income(&after, |w| (100..next).any(|n| w == wallet(n)));
        prop_assert!(many <= one);
        if split.parameters.dustFloor == 0 {
            prop_assert_eq!(many, one);
        }
    }

    /// Buying answers to pay oneself loses at least everything that is not the contributors' part.
    #[test]
    fn self_purchase_loses(input in any_epoch()) {
        let mut selfish = input;
        let me = Address::repeat_byte(0x11);
        for row in selfish.models.iter_mut().flat_map(|model| &mut model.rows) {
            row.owner = me;
        }
        for inference in &mut selfish.inferences {
            inference.receipt.payer = me;
        }
        selfish.signed.insert(me, Wei::new(u128::MAX));
        let out = close_epoch(&selfish).unwrap();
        let spent = out.payers.get(me).get();
        let lost = spent - income(&out, me);
        let others: u128 = selfish
            .inferences
            .iter()
            .map(|i| i.receipt.fee - i.receipt.fee * 4_000 / 10_000)
            .sum();
        prop_assert!(lost >= others);
    }

    /// Epochs add up: what was credited before is carried, and both roots prove every account.
    #[test]
    fn epochs_accumulate(first in any_epoch(), second in any_epoch()) {
        let one = close_epoch(&first).unwrap();
        let mut second = second;
        second.epoch = 2;
        second.payers = one.payers.clone();
        second.earners = one.earners.clone();
        let two = close_epoch(&second).unwrap();
        for (account, before) in one.earners.iter() {
            prop_assert!(two.earners.get(account) >= before);
        }
        for proof in two.earners.proofs() {
            prop_assert!(proof.verify(two.settlement.earnerCumRoot));
        }
        for proof in two.payers.proofs() {
            prop_assert!(proof.verify(two.settlement.payerCumRoot));
        }
        prop_assert_eq!(two.receipt_tree().root(), two.settlement.receiptRoot);
        for (i, &(receipt, report)) in two.receipts.iter().enumerate() {
            let at = u64::try_from(i).unwrap();
            let (receipts, reports) = (two.receipt_tree(), two.report_tree());
            let proved = |tree: &merkle::Tree, digest: B256| {
                let leaf = merkle::leaf(&digest_leaf(digest));
                merkle::verify(tree.root(), leaf, at, &tree.proof(i).unwrap())
            };
            prop_assert!(proved(&receipts, receipt) && proved(&reports, report));
        }
    }

    /// Any prices and weights end in an error or a conserving result, never in a wrong sum.
    #[test]
    fn extremes_are_refused_not_wrapped(price: u128, scores in any::<[i32; 2]>()) {
        let mut m = model(1, &[(0, 0), (1, 1)]);
        m.prices.output = Wei::new(price);
        let Ok(fee) = m.prices.fee(11, 3) else { return Ok(()) };
        let tokens = [(u32::MAX, Some(0)), (u32::MAX, Some(1)), (1, None)];
        let answer = |n| inference(&m, n, wallet(50), &tokens, scores.to_vec(), vec![i32::MIN]);
        let input = epoch(vec![m.clone()], vec![answer(1), answer(2)]);
        match close_epoch(&input) {
            Ok(out) => prop_assert_eq!(out.totals.fees, fee.mul_u64(2).unwrap()),
            Err(error) => prop_assert!(matches!(error, Error::Amount(_)), "{}", error),
        }
    }
}

/// protocol.md section 2: clipping each inference at zero pays rows that help by chance; netting
/// over the epoch does not. Here 20 of 100 rows are mislabelled: their influence has no direction,
/// the others' has a small one, and every single score is mostly noise.
#[test]
fn netting_does_not_pay_mislabelled_rows() {
    const ROWS: usize = 100;
    const BAD: usize = 20;
    let mut state = 20_251_121u64;
    let mut noise = || -> i32 {
        // Sum of 12 uniform draws: close to normal, mean 0, in about +-60,000.
        (0..12)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                i32::try_from(state >> 49).unwrap() - 16_384
            })
            .sum()
    };
    let rows: Vec<(u8, u32)> = (0..ROWS).map(|r| (u8::from(r < BAD), r as u32)).collect();
    let m = model(1, &rows);
    let answers: Vec<_> = (0..200)
        .map(|n| {
            let scores = (0..ROWS)
                .map(|r| noise() + if r < BAD { -6_000 } else { 12_000 })
                .collect::<Vec<i32>>();
            let decoys = (0..40).map(|_| noise()).collect();
            inference(&m, n, wallet(50), &[(1_000, None)], scores, decoys)
        })
        .collect();

    let netted = close_epoch(&epoch(vec![m.clone()], answers.clone())).unwrap();
    let pot = netted.models[0].pot.get();
    let netted_bad = contributor_income(&netted, |w| w == wallet(1));
    // The same epoch with each inference settled alone is what clipping per inference does.
    let clipped_bad: u128 = answers
        .into_iter()
        .map(|answer| {
            let mut alone = epoch(vec![m.clone()], vec![answer]);
            alone.models[0].floor = 0;
            alone.parameters.noiseQuantileBps = 0;
            contributor_income(&close_epoch(&alone).unwrap(), |w| w == wallet(1))
        })
        .sum();
    assert!(
        clipped_bad * 100 > pot * 8,
        "clipping pays {clipped_bad} of {pot}"
    );
    assert!(
        netted_bad * 1_000 < pot,
        "netting pays {netted_bad} of {pot}"
    );
    let good = contributor_income(&netted, |w| w == wallet(0));
    assert!(
        good * 100 > pot * 90,
        "netting pays the good rows {good} of {pot}"
    );
}

#[test]
fn every_wei_has_a_reason() {
    let m = model(1, &[(0, 0), (1, 1), (2, 0)]);
    let tokens = [(30_000, Some(2)), (10_000, None)];
    let answer = inference(
        &m,
        7,
        wallet(50),
        &tokens,
        vec![500_000, -9, 1_000_000],
        vec![90, 70],
    );
    let receipt = answer.receipt.digest();
    let mut input = epoch(vec![m], vec![answer]);
    input.parameters.dustFloor = 1;
    let out = close_epoch(&input).unwrap();
    let fee = 11 * 1_003 + 2 * 3_001;
    let budget = fee * 4_000 / 10_000;
    let find = |channel| {
        out.lines
            .iter()
            .find(|line| line.channel == channel)
            .unwrap()
    };
    // Row 2 is a copy of row 0: its span pays row 0, and its higher score counts for nothing.
    let span = find(Channel::Span);
    assert_eq!((span.row, span.receipt), (Some(0), Some(receipt)));
    assert_eq!(span.earner, wallet(0));
    assert_eq!(span.amount.get(), budget / 2 * 3 / 4);
    let gradient = find(Channel::Gradient);
    let pot = budget - budget / 2;
    assert_eq!((gradient.row, gradient.receipt), (Some(0), None));
    assert_eq!(gradient.amount.get(), pot * 498_000 / (498_000 + 20_000));
    let uncovered = find(Channel::Commons(Unpaid::Uncovered));
    assert_eq!(uncovered.amount.get(), budget / 2 - budget / 2 * 3 / 4);
    assert_eq!(uncovered.earner, COMMONS);
    assert_eq!(out.lines.len(), 8);
}

#[test]
fn an_unaudited_attribution_below_the_floor_pays_clusters_alike() {
    let mut m = model(1, &[(0, 0), (1, 1), (2, 0)]);
    m.quality = Quality::Lds(299_999);
    let answer = inference(&m, 7, wallet(50), &[(1, None)], vec![1 << 20, 0, 0], vec![]);
    let out = close_epoch(&epoch(vec![m.clone()], vec![answer.clone()])).unwrap();
    let equal: Vec<_> = out
        .lines
        .iter()
        .filter(|l| l.channel == Channel::Equal)
        .collect();
    assert_eq!(
        equal.iter().map(|l| l.row.unwrap()).collect::<Vec<_>>(),
        [0, 1]
    );
    assert_eq!(equal[0].amount, equal[1].amount);
    assert!(!out.models[0].by_score);
    m.quality = Quality::Lds(300_000);
    let out = close_epoch(&epoch(vec![m], vec![answer])).unwrap();
    assert!(out.lines.iter().all(|l| l.channel != Channel::Equal));
}

#[test]
fn an_empty_epoch_carries_the_ledgers() {
    let a = wallet(1);
    let mut input = epoch(vec![], vec![]);
    input.payers = Cumulative::new([(wallet(2), Wei::new(5))]).unwrap();
    input.earners = Cumulative::new([(a, Wei::new(5))]).unwrap();
    let out = close_epoch(&input).unwrap();
    assert_eq!(out.settlement.receiptRoot, B256::ZERO);
    assert_eq!(out.earners, input.earners);
    assert_eq!(out.settlement.fees, 0);
}

fn small() -> EpochInput {
    let m = model(1, &[(0, 0), (1, 1)]);
    let tokens = [(5, Some(1)), (6, None)];
    let answer = inference(&m, 7, wallet(50), &tokens, vec![1, 2], vec![3]);
    epoch(vec![m], vec![answer])
}

#[test]
fn bad_input_is_refused_with_the_fact() {
    let check = |spoil: &dyn Fn(&mut EpochInput), expected: &str| {
        let mut input = small();
        spoil(&mut input);
        let error = close_epoch(&input).unwrap_err().to_string();
        assert!(
            error.contains(expected),
            "{error:?} does not say {expected:?}"
        );
    };
    assert!(close_epoch(&small()).is_ok());
    check(&|i| i.chain_id = 1, "this epoch settles chain 1");
    check(
        &|i| i.inferences[0].receipt.mode = Mode::Fast.into(),
        "names arithmetic mode 1; only exact answers (0) are settled",
    );
    check(
        &|i| i.inferences.push(i.inferences[0].clone()),
        "stands twice in the epoch",
    );
    check(
        &|i| {
            let mut twin = i.inferences[0].clone();
            twin.receipt.createdAt = 9;
            i.inferences.push(twin);
        },
        "two receipts with sequence number 7",
    );
    check(
        &|i| i.models.push(i.models[0].clone()),
        "stands twice in the epoch's models",
    );
    check(&|i| i.models.clear(), "not among the epoch's models");
    check(
        &|i| i.inferences[0].receipt.fee += 1,
        "charges 17036 wei, its tokens cost 17035 wei",
    );
    check(
        &|i| i.inferences[0].surprisals[0] = 1,
        "commits to surprisals",
    );
    check(
        &|i| i.inferences[0].surprisals.push(1),
        "3 surprisals, expected 2",
    );
    check(
        &|i| i.inferences[0].scores.push(1),
        "3 row scores, expected 2",
    );
    check(
        &|i| i.inferences[0].cover[0] = Some(2),
        "covered by row 2, adapter",
    );
    check(
        &|i| i.models[0].rows[0].cluster = 1,
        "row 0 names cluster 1",
    );
    check(
        &|i| i.models[0].rows[1].owner = Address::ZERO,
        "paid to the zero address",
    );
    check(&|i| i.signed.clear(), "signed for 0 wei in all");
    check(
        &|i| i.payers = Cumulative::new([(wallet(1), Wei::new(1))]).unwrap(),
        "cumulative debits of 1 wei do not equal",
    );
}
