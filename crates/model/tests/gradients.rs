//! Hand-written gradients against finite differences, and the exact mode's promises.
#![allow(clippy::unwrap_used, clippy::float_cmp, reason = "tests")]

mod common;

use common::{adapter, example, small};
use openledger_model::{
    Adapter, Base, Example, KvCache, Lane, Workspace, full_gradients, lora_gradients, loss, step,
};

/// Directional derivative by central differences in f64 losses.
fn slope(mut at: impl FnMut(f32) -> f64, step: f32) -> f64 {
    (at(step) - at(-step)) / (2.0 * f64::from(step))
}

/// Checks the gradient of every named tensor along the direction of that gradient itself, where
/// the slope must be its squared norm over its norm.
fn check_tensors(
    layout: &[(String, usize, Vec<usize>)],
    grads: &[f32],
    mut loss_at: impl FnMut(&[f32]) -> f64,
) {
    for (name, at, shape) in layout {
        let range = *at..at + shape.iter().product::<usize>();
        let part = &grads[range.clone()];
        let norm = part
            .iter()
            .map(|g| f64::from(*g).powi(2))
            .sum::<f64>()
            .sqrt();
        assert!(norm > 0.0, "{name} has no gradient");
        let mut direction = vec![0.0_f32; grads.len()];
        for (d, g) in direction[range].iter_mut().zip(part) {
            *d = (f64::from(*g) / norm) as f32;
        }
        let found = slope(
            |t| {
                let shift: Vec<f32> = direction.iter().map(|d| d * t).collect();
                loss_at(&shift)
            },
            2e-2,
        );
        let error = (found - norm).abs() / norm;
        assert!(error < 2e-2, "{name}: slope {found:e}, gradient {norm:e}");
    }
}

#[test]
fn full_gradients_agree_with_finite_differences() {
    for tied in [true, false] {
        let base = small(tied);
        let ex = example(41, 1);
        let mut ws = Workspace::new();
        let mut grads = vec![f32::NAN; base.params().len()];
        let got = full_gradients(&base, &ex, &mut grads, &mut ws).unwrap();
        assert_eq!(got, loss(&base, None, &ex, &mut ws).unwrap());
        check_tensors(&base.layout(), &grads, |shift| {
            let mut moved = base.clone();
            moved.update(|p| p.iter_mut().zip(shift).for_each(|(p, s)| *p += s));
            loss(&moved, None, &ex, &mut Workspace::new())
                .unwrap()
                .mean()
        });
    }
}

#[test]
fn lora_gradients_agree_with_finite_differences() {
    let base = small(true);
    let adapter = adapter(&base.config, 5);
    let ex = example(37, 9);
    let mut ws = Workspace::new();
    let mut grads = vec![f32::NAN; adapter.params().len()];
    let got = lora_gradients(&base, &adapter, &ex, &mut grads, &mut ws).unwrap();
    assert_eq!(got, loss(&base, Some(&adapter), &ex, &mut ws).unwrap());
    assert_eq!(got.tokens, 28);
    check_tensors(&adapter.layout(), &grads, |shift| {
        let mut moved = adapter.clone();
        moved
            .params_mut()
            .iter_mut()
            .zip(shift)
            .for_each(|(p, s)| *p += s);
        loss(&base, Some(&moved), &ex, &mut Workspace::new())
            .unwrap()
            .mean()
    });
}

/// The loss as the logits of `step` give it.
fn loss_of_steps(base: &Base, adapter: &Adapter, ex: &Example) -> f64 {
    let mut cache = KvCache::new(&base.config, 64);
    let mut sum = 0.0;
    for (i, token) in ex.tokens.iter().enumerate() {
        if i + 1 == ex.tokens.len() {
            break;
        }
        let lane = Lane {
            tokens: &[*token],
            cache: &mut cache,
            adapter: Some(adapter),
            all_logits: false,
        };
        let out = step(base, &mut [lane], &mut Workspace::new()).unwrap();
        if i + 1 >= ex.loss_from {
            sum -= openledger_model::log_probability(&out[0].logits, ex.tokens[i + 1]);
        }
    }
    sum
}

#[test]
fn stepping_gives_the_loss_of_the_full_forward() {
    let base = small(true);
    let adapter = adapter(&base.config, 5);
    let ex = example(40, 9);
    let full = loss(&base, Some(&adapter), &ex, &mut Workspace::new()).unwrap();
    // The same logits; only the order of two f64 additions differs.
    assert!((loss_of_steps(&base, &adapter, &ex) - full.sum).abs() < 1e-11);
}
