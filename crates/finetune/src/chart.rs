//! Loss curves as static SVG: readable without scripts, in light and dark pages.

use std::fmt::Write as _;

use crate::metrics::StepMetrics;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 48.0;
const BOTTOM: f64 = 36.0;
const TOP: f64 = 28.0;
const RIGHT: f64 = 12.0;
/// Points drawn of a line; longer curves are thinned.
const POINTS: usize = 600;

/// Draws raw loss, smoothed loss and evaluation loss over the steps. The axes' scale covers the
/// whole curve; text and axes take the page's text colour (`currentColor`).
pub fn loss_svg(title: &str, curve: &[StepMetrics]) -> String {
    let last = curve.last().map_or(1, |step| step.step).max(1) as f64;
    let values = curve
        .iter()
        .flat_map(|step| [Some(step.loss), step.eval_loss])
        .flatten();
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    let (low, high) = if low < high { (low, high) } else { (0.0, 1.0) };
    let step_size = tick(high - low);
    let (low, high) = (
        (low / step_size).floor() * step_size,
        (high / step_size).ceil() * step_size,
    );
    let x = |step: f64| LEFT + step / last * (WIDTH - LEFT - RIGHT);
    let y = |loss: f64| TOP + (high - loss) / (high - low) * (HEIGHT - TOP - BOTTOM);

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"currentColor\">\n\
         <title>{}</title>\n\
         <text x=\"{LEFT}\" y=\"16\">{} — nats a token over steps: raw (thin), smoothed (bold), \
         held out (dots)</text>\n",
        escape(title),
        escape(title)
    );
    let mut value = low;
    while value <= high + step_size * 0.01 {
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{:.0}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"currentColor\" \
             stroke-opacity=\"0.15\"/><text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            y(value),
            y(value),
            LEFT - 6.0,
            y(value) + 4.0,
            trim(value)
        );
        value += step_size;
    }
    for part in 0..=4 {
        let step = last * f64::from(part) / 4.0;
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{step:.0}</text>",
            x(step),
            HEIGHT - 12.0
        );
    }
    let stride = curve.len().div_ceil(POINTS).max(1);
    let line = |pick: fn(&StepMetrics) -> f64| {
        let mut points = String::new();
        for step in curve.iter().step_by(stride).chain(curve.last()) {
            let _ = write!(points, "{:.1},{:.1} ", x(step.step as f64), y(pick(step)));
        }
        points
    };
    let _ = writeln!(
        svg,
        "<polyline fill=\"none\" stroke=\"#0072b2\" stroke-opacity=\"0.35\" points=\"{}\"/>\n\
         <polyline fill=\"none\" stroke=\"#0072b2\" stroke-width=\"2\" points=\"{}\"/>",
        line(|step| step.loss).trim_end(),
        line(|step| step.smoothed).trim_end()
    );
    for step in curve {
        if let Some(loss) = step.eval_loss {
            let _ = writeln!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"#d55e00\"/>",
                x(step.step as f64),
                y(loss)
            );
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// Distance of grid lines: 1, 2 or 5 times a power of ten, about five lines over `span`.
fn tick(span: f64) -> f64 {
    let rough = span / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let scale = rough / power;
    let nice = match scale {
        s if s <= 1.0 => 1.0,
        s if s <= 2.0 => 2.0,
        s if s <= 5.0 => 5.0,
        _ => 10.0,
    };
    nice * power
}

fn trim(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// The curve as CSV: `step,loss,smoothed,eval_loss,learning_rate,gradient_norm,tokens`.
pub fn csv(curve: &[StepMetrics]) -> String {
    let mut text = "step,loss,smoothed,eval_loss,learning_rate,gradient_norm,tokens\n".to_owned();
    for step in curve {
        let eval = step.eval_loss.map(|loss| format!("{loss:.4}"));
        let _ = writeln!(
            text,
            "{},{:.4},{:.4},{},{:.3e},{:.4},{}",
            step.step,
            step.loss,
            step.smoothed,
            eval.unwrap_or_default(),
            step.learning_rate,
            step.gradient_norm,
            step.tokens
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn the_chart_holds_a_point_for_every_step_and_escapes_its_title() {
        let curve = testing::curve(20);
        let svg = loss_svg("a < b", &curve);
        assert!(svg.contains("a &lt; b"));
        assert_eq!(svg.matches("<circle").count(), 2);
        let points = svg.split("points=\"").nth(1).map_or(0, |rest| {
            rest.split('"').next().map_or(0, |p| p.split(' ').count())
        });
        assert_eq!(points, 21);
        assert!(!svg.contains("NaN"));
    }

    #[test]
    fn an_empty_curve_is_still_a_picture() {
        assert!(loss_svg("empty", &[]).ends_with("</svg>\n"));
        assert_eq!(csv(&testing::curve(3)).lines().count(), 4);
    }
}
