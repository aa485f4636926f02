//! Charts as SVG, drawn on the server: they need no script, print well and can be tested as text.
//!
//! Colours come from the style sheet through classes, so a chart follows light and dark. Every
//! chart has a twin as a table for those who cannot see it or want the numbers.

use maud::{Markup, html};
use openledger_node::view::{LossPoint, ScoredRowView};

use crate::format;

/// Size of the loss chart's drawing area and its margins, in SVG units.
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 34.0;

/// Points of a line that a chart of this width can tell apart; longer series are thinned.
const MAX_POINTS: usize = 600;

/// Rows of the table twin; the JSON has all of them.
const TABLE_ROWS: usize = 60;

/// A mapping of data to the drawing area.
struct Scale {
    x: (f64, f64),
    y: (f64, f64),
}

impl Scale {
    /// Fits all finite values, with a little air above and below.
    fn of(points: &[LossPoint], steps: u64) -> Self {
        let values = points
            .iter()
            .flat_map(|p| [Some(p.loss), Some(p.smoothed), p.eval])
            .flatten()
            .filter(|v| v.is_finite());
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
            (low.min(v), high.max(v))
        });
        let (low, high) = if low.is_finite() {
            (low, high)
        } else {
            (0.0, 1.0)
        };
        let air = ((high - low) * 0.06).max(1e-3);
        let last = points.last().map_or(0, |p| p.step).max(steps).max(2);
        Self {
            x: (1.0, units(last)),
            y: (low - air, high + air),
        }
    }

    fn x(&self, step: u64) -> f64 {
        let share = (units(step) - self.x.0) / (self.x.1 - self.x.0);
        LEFT + share * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let share = (value - self.y.0) / (self.y.1 - self.y.0);
        HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
    }

    /// An SVG path through the finite points.
    fn path(&self, points: impl Iterator<Item = (u64, f64)>) -> String {
        let mut path = String::new();
        for (step, value) in points.filter(|(_, v)| v.is_finite()) {
            path.push(if path.is_empty() { 'M' } else { 'L' });
            path.push_str(&format!("{:.1} {:.1}", self.x(step), self.y(value)));
        }
        path
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "steps and counts far below 2^53"
)]
fn units(n: u64) -> f64 {
    n as f64
}

/// Round values (1, 2 or 5 times a power of ten) that cut `low..high` into about `wanted` parts.
fn ticks(low: f64, high: f64, wanted: f64) -> Vec<f64> {
    let rough = ((high - low) / wanted).max(f64::MIN_POSITIVE);
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|m| m * power)
        .find(|s| *s >= rough)
        .unwrap_or(power * 10.0);
    let mut ticks = Vec::new();
    let mut at = (low / step).ceil() * step;
    // At most a few steps by construction; the bound guards against a degenerate range.
    while at <= high && ticks.len() < 32 {
        ticks.push(at);
        at += step;
    }
    ticks
}

/// Every n-th item, so that at most `limit` remain, and always the last.
fn thinned<T>(items: &[T], limit: usize) -> impl Iterator<Item = &T> {
    let every = items.len().div_ceil(limit.max(1)).max(1);
    let last = items.len().saturating_sub(1);
    items
        .iter()
        .enumerate()
        .filter(move |(at, _)| at % every == 0 || *at == last)
        .map(|(_, item)| item)
}

/// The loss curve of a run: raw, smoothed and evaluation loss over `steps` steps, and its table.
pub(crate) fn loss(points: &[LossPoint], steps: u64) -> Markup {
    let Some(last) = points.last() else {
        return crate::parts::empty(
            "No step is done yet",
            "The curve appears with the first training step.",
        );
    };
    let scale = Scale::of(points, steps);
    let line: Vec<&LossPoint> = thinned(points, MAX_POINTS).collect();
    let evals: Vec<(u64, f64)> = points
        .iter()
        .filter_map(|p| p.eval.map(|e| (p.step, e)))
        .filter(|(_, e)| e.is_finite())
        .collect();
    let bottom = HEIGHT - BOTTOM;
    let summary = format!(
        "Loss after {} of {} steps: smoothed {:.3}{}",
        last.step,
        steps.max(last.step),
        last.smoothed,
        evals
            .last()
            .map_or_else(String::new, |(_, e)| format!(", evaluation {e:.3}")),
    );
    html! {
        figure.chart {
            div.scroll { svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(summary) {
                g.grid {
                    @for tick in ticks(scale.y.0, scale.y.1, 5.0) {
                        line x1=(LEFT) x2=(WIDTH - RIGHT) y1=(format!("{:.1}", scale.y(tick))) y2=(format!("{:.1}", scale.y(tick))) {}
                        text.end x=(LEFT - 8.0) y=(format!("{:.1}", scale.y(tick) + 4.0)) { (short(tick)) }
                    }
                    line.axis x1=(LEFT) x2=(WIDTH - RIGHT) y1=(bottom) y2=(bottom) {}
                    @for tick in ticks(scale.x.0, scale.x.1, 6.0) {
                        @let x = LEFT + (tick - scale.x.0) / (scale.x.1 - scale.x.0) * (WIDTH - LEFT - RIGHT);
                        text.middle x=(format!("{x:.1}")) y=(bottom + 18.0) { (short(tick)) }
                    }
                    text.middle x=(format!("{:.1}", LEFT.midpoint(WIDTH - RIGHT))) y=(HEIGHT - 2.0) { "step" }
                }
                path.raw d=(scale.path(line.iter().map(|p| (p.step, p.loss)))) {}
                path.smoothed d=(scale.path(line.iter().map(|p| (p.step, p.smoothed)))) {}
                path.eval d=(scale.path(evals.iter().copied())) {}
                @for (step, value) in &evals {
                    rect.eval-dot x=(format!("{:.1}", scale.x(*step) - 3.5)) y=(format!("{:.1}", scale.y(*value) - 3.5)) width="7" height="7" {
                        title { "step " (step) ": evaluation loss " (format!("{value:.4}")) }
                    }
                }
            } }
            figcaption.legend {
                span.key.raw { "training loss of each step" }
                span.key.smoothed title="s = 0.9·s + 0.1·loss, or as the recipe says" { "moving average" }
                @if !evals.is_empty() { span.key.eval { "evaluation loss (rows never trained on)" } }
                span.muted { "nats a token" }
            }
            (loss_table(points))
        }
    }
}

fn loss_table(points: &[LossPoint]) -> Markup {
    let rows: Vec<&LossPoint> = thinned(points, TABLE_ROWS).collect();
    html! {
        details.twin {
            summary { "The curve as a table" }
            div.scroll {
                table {
                    thead { tr {
                        th.num scope="col" { "Step" } th.num scope="col" { "Loss" } th.num scope="col" { "Average" }
                        th.num scope="col" { "Evaluation" } th.num scope="col" { "Learning rate" }
                        th.num scope="col" { "Gradient norm" } th.num scope="col" { "Tokens/s" }
                    } }
                    tbody {
                        @for p in &rows {
                            tr {
                                td.num { (p.step) }
                                td.num { (format!("{:.4}", p.loss)) }
                                td.num { (format!("{:.4}", p.smoothed)) }
                                td.num { @if let Some(eval) = p.eval { (format!("{eval:.4}")) } }
                                td.num { (format!("{:.2e}", p.lr)) }
                                td.num { (format!("{:.3}", p.grad_norm)) }
                                td.num { (format::rounded(p.tokens_per_second)) }
                            }
                        }
                    }
                }
            }
            @if rows.len() < points.len() {
                p.muted { "Every " (points.len().div_ceil(TABLE_ROWS)) "th step of " (points.len()) "." }
            }
        }
    }
}

/// A tick's label without needless zeros.
fn short(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" {
        "0".to_owned()
    } else {
        text.to_owned()
    }
}

/// Influence of rows on one answer as bars from zero, with the noise floor as a line.
///
/// `label` and `class` give each row's text and colour class.
pub(crate) fn influence(
    rows: &[ScoredRowView],
    floor: i64,
    label: impl Fn(&ScoredRowView) -> String,
    class: impl Fn(&ScoredRowView) -> String,
) -> Markup {
    const NAMES: f64 = 210.0;
    const VALUES: f64 = 70.0;
    const LINE: f64 = 24.0;
    const HEAD: f64 = 22.0;
    let width = 700.0;
    let height = HEAD + LINE * units(rows.len() as u64) + 8.0;
    let value = |score: i64| {
        #[allow(clippy::cast_precision_loss, reason = "scores are below 2^21")]
        let score = score as f64;
        score
    };
    let scores = || {
        rows.iter()
            .map(|r| value(r.score))
            .chain([value(floor), 0.0])
    };
    let low = scores().fold(0.0, f64::min);
    let high = scores().fold(0.0, f64::max);
    let span = (high - low).max(1.0);
    let x = |v: f64| NAMES + (v - low) / span * (width - NAMES - VALUES);
    let zero = x(0.0);
    html! {
        figure.chart.influence {
            div.scroll { svg viewBox={ "0 0 " (width) " " (height) } role="img"
                aria-label={ "Influence of " (rows.len()) " training rows; noise floor " (format::cosine(floor)) } {
                defs {
                    pattern #hatch width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
                        line.hatch x1="0" y1="0" x2="0" y2="6" {}
                    }
                }
                line.axis x1=(format!("{zero:.1}")) x2=(format!("{zero:.1}")) y1=(HEAD) y2=(height - 4.0) {}
                line.floor x1=(format!("{:.1}", x(value(floor)))) x2=(format!("{:.1}", x(value(floor)))) y1=(HEAD - 4.0) y2=(height - 4.0) {}
                text.floor-label.middle x=(format!("{:.1}", x(value(floor)))) y=(HEAD - 9.0) { "noise floor " (format::cosine(floor)) }
                @for (at, row) in rows.iter().enumerate() {
                    @let top = HEAD + LINE * units(at as u64);
                    @let end = x(value(row.score));
                    g class={ (class(row)) @if !row.above_floor { " below" } } {
                        text.name x=(NAMES - 12.0) y=(top + 16.0) { (format::cut(&label(row), 28)) }
                        rect x=(format!("{:.1}", end.min(zero))) y=(top + 4.0)
                            width=(format!("{:.1}", (end - zero).abs().max(1.0))) height=(LINE - 8.0) rx="2" {}
                        text.value x=(format!("{:.1}", end.max(zero) + 8.0)) y=(top + 16.0) { (format::cosine(row.score)) }
                    }
                }
            } }
        }
    }
}

/// One horizontal bar cut into shares; `parts` are class and size. Sizes are relative.
pub(crate) fn stacked(label: &str, parts: &[(String, u64)]) -> Markup {
    let total = parts.iter().map(|(_, n)| *n).sum::<u64>().max(1);
    let mut at = 0.0;
    let mut rects = Vec::with_capacity(parts.len());
    for (class, size) in parts.iter().filter(|(_, n)| *n > 0) {
        let width = units(*size) / units(total) * 1000.0;
        rects.push((class, at, width));
        at += width;
    }
    html! {
        svg.stacked viewBox="0 0 1000 20" preserveAspectRatio="none" role="img" aria-label=(label) {
            @for (class, start, width) in rects {
                rect class=(class) x=(format!("{start:.2}")) y="0" width=(format!("{:.2}", (width - 3.0).max(1.0))) height="20" {}
            }
        }
    }
}

/// A bar from the left, `part` of `whole` long.
pub(crate) fn bar(part: u64, whole: u64) -> Markup {
    let width = if whole == 0 {
        0.0
    } else {
        (units(part) / units(whole) * 100.0).min(100.0)
    };
    html! {
        svg.bar viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true" focusable="false" {
            rect.track x="0" y="0" width="100" height="4" {}
            rect x="0" y="0" width=(format!("{width:.2}")) height="4" {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn point(step: u64, loss: f64, eval: Option<f64>) -> LossPoint {
        LossPoint {
            step,
            steps: 10,
            loss,
            smoothed: loss,
            perplexity: loss.exp(),
            tokens: step * 100,
            memory_bytes: None,
            eta_seconds: 1.0,
            eval,
            lr: 1e-3,
            grad_norm: 1.0,
            tokens_per_second: 100.0,
        }
    }

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks(0.0, 10.0, 5.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert!(ticks(3.1, 4.2, 5.0).iter().all(|t| (3.1..=4.2).contains(t)));
        assert!(ticks(1.0, 1.0, 5.0).len() < 33);
    }

    #[test]
    fn a_curve_survives_nan_one_point_and_many() {
        let nan = loss(&[point(1, f64::NAN, None)], 10).into_string();
        let (drawing, table) = nan.split_once("</svg>").unwrap();
        assert!(
            !drawing.contains("\"NaN") && !drawing.contains("MNaN"),
            "{drawing}"
        );
        assert!(table.contains("NaN"), "a diverged run is shown as it is");
        let many: Vec<_> = (1..=5_000)
            .map(|s| point(s, 4.0 - units(s) / 5_000.0, (s % 500 == 0).then_some(3.5)))
            .collect();
        let svg = loss(&many, 5_000).into_string();
        assert!(
            svg.len() < 60_000,
            "thinned to what can be seen: {}",
            svg.len()
        );
        assert_eq!(svg.matches("eval-dot").count(), 10);
        assert!(svg.contains("The curve as a table"));
        assert!(loss(&[], 10).into_string().contains("No step is done yet"));
    }

    #[test]
    fn shares_fill_the_bar() {
        let svg = stacked(
            "split",
            &[("a".into(), 1), ("b".into(), 3), ("c".into(), 0)],
        );
        let svg = svg.into_string();
        assert_eq!(svg.matches("<rect").count(), 2);
        assert!(svg.contains("x=\"250.00\""));
    }
}
