//! How well scores predict retraining: the linear datamodeling score.

use std::cmp::Ordering;

/// The linear datamodeling score (LDS) of Park et al. 2023 (TRAK, section 4): for each query, the
/// Spearman correlation between the sum of the scores of the rows in a subset and the fall of the
/// query's loss when the model is retrained on that subset; averaged over the queries.
///
/// `scores` is `[queries][rows]`, `subsets` is `[subsets][rows]` with true for the rows kept, and
/// `losses` is `[subsets][queries]`. Zero without subsets or queries. For audits and reports; no
/// money is computed from it, only compared with a governed floor.
pub fn lds(scores: &[Vec<f64>], subsets: &[Vec<bool>], losses: &[Vec<f64>]) -> f64 {
    let mut sum = 0.0;
    for (query, scores) in scores.iter().enumerate() {
        let predicted: Vec<f64> = subsets
            .iter()
            .map(|kept| {
                scores
                    .iter()
                    .zip(kept)
                    .filter(|(_, kept)| **kept)
                    .map(|(s, _)| s)
                    .sum()
            })
            .collect();
        let retrained: Vec<f64> = losses.iter().map(|losses| -losses[query]).collect();
        sum += spearman(&predicted, &retrained);
    }
    if scores.is_empty() {
        0.0
    } else {
        sum / scores.len() as f64
    }
}

/// Spearman's rank correlation, ties sharing their average rank; zero if a side is constant.
pub fn spearman(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (ranks(a), ranks(b));
    let mean = (a.len() as f64 + 1.0) / 2.0;
    let covariance = |x: &[f64], y: &[f64]| -> f64 {
        x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum()
    };
    let spread = (covariance(&a, &a) * covariance(&b, &b)).sqrt();
    if spread > 0.0 {
        covariance(&a, &b) / spread
    } else {
        0.0
    }
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut ranks = vec![0.0; values.len()];
    let equal = |i: &usize, j: &usize| values[*i].total_cmp(&values[*j]) == Ordering::Equal;
    let mut below = 0;
    for ties in order.chunk_by(equal) {
        let rank = below as f64 + (ties.len() as f64 + 1.0) / 2.0;
        for &i in ties {
            ranks[i] = rank;
        }
        below += ties.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rank_correlation_of_known_lists() {
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        close(spearman(&[1.0, 2.0, 3.0], &[10.0, 20.0, 30.0]), 1.0);
        close(spearman(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]), -1.0);
        // With ties: ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4.
        close(
            spearman(&[0.0, 5.0, 5.0, 9.0], &[1.0, 2.0, 3.0, 4.0]),
            0.948_683_298_050_513_8,
        );
        close(spearman(&[1.0, 1.0], &[1.0, 2.0]), 0.0);
    }

    #[test]
    fn perfect_scores_predict_retraining() {
        let subsets = [
            [true, true, false],
            [false, true, true],
            [true, false, false],
        ];
        let subsets: Vec<Vec<bool>> = subsets.iter().map(|s| s.to_vec()).collect();
        let scores = vec![vec![1.0, 2.0, 4.0]];
        let losses: Vec<Vec<f64>> = [7.0, 4.0, 9.0].iter().map(|l| vec![*l]).collect();
        assert!((lds(&scores, &subsets, &losses) - 1.0).abs() < 1e-12);
    }
}
