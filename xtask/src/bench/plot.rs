//! Line charts as SVG, legible on light and dark pages: both axes logarithmic.

use std::fmt::Write as _;

use serde_json::{Value, json};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
/// Room that the label of a tick takes along the axis.
const LABEL: f64 = 46.0;
/// Room for the numbers, the labels and the title: left, right, top, bottom.
const MARGIN: [f64; 4] = [76.0, 24.0, 84.0, 56.0];

/// Lines over one x axis.
#[derive(Debug)]
pub(super) struct Plot {
    /// Ends the file's name.
    pub(super) name: &'static str,
    title: &'static str,
    x_label: &'static str,
    y_label: &'static str,
    series: Vec<Series>,
}

/// One line.
#[derive(Debug)]
struct Series {
    name: &'static str,
    points: Vec<(f64, f64)>,
}

impl Plot {
    pub(super) fn new(
        name: &'static str,
        title: &'static str,
        [x_label, y_label]: [&'static str; 2],
    ) -> Self {
        Self {
            name,
            title,
            x_label,
            y_label,
            series: Vec::new(),
        }
    }

    /// Adds a point, both of whose numbers are positive, to the line of that name.
    pub(super) fn add(&mut self, name: &'static str, x: f64, y: f64) {
        let known = self.series.iter().position(|series| series.name == name);
        let index = known.unwrap_or_else(|| {
            self.series.push(Series {
                name,
                points: Vec::new(),
            });
            self.series.len() - 1
        });
        self.series[index].points.push((x, y));
    }

    pub(super) fn json(&self) -> Value {
        let series = |series: &Series| json!({ "name": series.name, "points": series.points });
        json!({
            "by": self.name,
            "title": self.title,
            "x": self.x_label,
            "y": self.y_label,
            "series": self.series.iter().map(series).collect::<Vec<_>>(),
        })
    }

    /// The chart as a document.
    pub(super) fn svg(&self) -> String {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let mut xs: Vec<f64> = points().map(|point| point.0).collect();
        xs.sort_by(f64::total_cmp);
        xs.dedup();
        let x = Axis::around(
            points().map(|p| p.0),
            MARGIN[0] + 16.0,
            WIDTH - MARGIN[1] - 16.0,
            1.0,
        );
        let y = Axis::around(points().map(|p| p.1), HEIGHT - MARGIN[3], MARGIN[2], 1.15);
        let mut body = String::new();
        let [left, right, top, bottom] =
            [MARGIN[0], WIDTH - MARGIN[1], MARGIN[2], HEIGHT - MARGIN[3]];
        // Writing to a string does not fail.
        let mut push = |line: std::fmt::Arguments<'_>| {
            let _ = writeln!(body, "{line}");
        };
        for tick in y.ticks() {
            let at = y.place(tick);
            push(format_args!(
                r#"<line class="grid" x1="{left}" x2="{right}" y1="{at:.1}" y2="{at:.1}"/>"#
            ));
            push(format_args!(
                r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
                left - 8.0,
                at + 4.0,
                short(tick)
            ));
        }
        let mut labelled = f64::NEG_INFINITY;
        for tick in &xs {
            let at = x.place(*tick);
            push(format_args!(
                r#"<line class="axis" x1="{at:.1}" x2="{at:.1}" y1="{bottom}" y2="{:.1}"/>"#,
                bottom + 5.0
            ));
            // Labels that would run into each other are left away.
            if at - labelled < LABEL {
                continue;
            }
            labelled = at;
            push(format_args!(
                r#"<text x="{at:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
                bottom + 20.0,
                short(*tick)
            ));
        }
        push(format_args!(
            r#"<path class="axis" d="M{left} {top}V{bottom}H{right}"/>"#
        ));
        push(format_args!(
            r#"<text x="{:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
            (left + right) / 2.0,
            HEIGHT - 12.0,
            self.x_label
        ));
        push(format_args!(
            r#"<text x="20" y="{0:.1}" text-anchor="middle" transform="rotate(-90 20 {0:.1})">{1}</text>"#,
            (top + bottom) / 2.0,
            self.y_label
        ));
        push(format_args!(
            r#"<text class="title" x="{left}" y="28">{}</text>"#,
            self.title
        ));
        for (index, series) in self.series.iter().enumerate() {
            let class = format!("s{}", index % 4);
            let place = |(a, b): &(f64, f64)| format!("{:.1},{:.1}", x.place(*a), y.place(*b));
            let line: Vec<String> = series.points.iter().map(place).collect();
            push(format_args!(
                r#"<polyline class="{class}" points="{}"/>"#,
                line.join(" ")
            ));
            for (a, b) in &series.points {
                let (cx, cy) = (x.place(*a), y.place(*b));
                push(format_args!(
                    r#"<circle class="{class}" cx="{cx:.1}" cy="{cy:.1}" r="4"><title>{}: {} at {}</title></circle>"#,
                    series.name,
                    short(*b),
                    short(*a)
                ));
            }
            let at = left + 212.0 * index as f64;
            push(format_args!(
                r#"<line class="{class}" x1="{at:.1}" x2="{:.1}" y1="54" y2="54"/>"#,
                at + 22.0
            ));
            push(format_args!(
                r#"<text x="{:.1}" y="58">{}</text>"#,
                at + 28.0,
                series.name
            ));
        }
        format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">
<style>
text {{ font: 13px system-ui, sans-serif; fill: #24292f }}
.title {{ font-size: 16px; font-weight: 600 }}
.back {{ fill: #ffffff }}
.grid {{ stroke: #d0d7de }}
.axis {{ stroke: #57606a; fill: none }}
polyline, line[class^="s"] {{ fill: none; stroke-width: 2.5 }}
.s0 {{ stroke: #0550ae }} circle.s0 {{ fill: #0550ae }}
.s1 {{ stroke: #bc4c00; stroke-dasharray: 7 4 }} circle.s1 {{ fill: #bc4c00; stroke-dasharray: none }}
.s2 {{ stroke: #116329 }} circle.s2 {{ fill: #116329 }}
.s3 {{ stroke: #8250df; stroke-dasharray: 3 3 }} circle.s3 {{ fill: #8250df; stroke-dasharray: none }}
@media (prefers-color-scheme: dark) {{
text {{ fill: #e6edf3 }}
.back {{ fill: #0d1117 }}
.grid {{ stroke: #30363d }}
.axis {{ stroke: #8b949e }}
.s0 {{ stroke: #79c0ff }} circle.s0 {{ fill: #79c0ff }}
.s1 {{ stroke: #ffa657 }} circle.s1 {{ fill: #ffa657 }}
.s2 {{ stroke: #7ee787 }} circle.s2 {{ fill: #7ee787 }}
.s3 {{ stroke: #d2a8ff }} circle.s3 {{ fill: #d2a8ff }}
}}
</style>
<title>{title}</title>
<rect class="back" width="{WIDTH}" height="{HEIGHT}"/>
{body}</svg>
"##,
            title = self.title
        )
    }
}

/// A logarithmic axis.
struct Axis {
    low: f64,
    high: f64,
    /// Where those two lie.
    from: f64,
    to: f64,
}

impl Axis {
    /// Holds all values, and a factor of `room` more at either end.
    fn around(values: impl Iterator<Item = f64>, from: f64, to: f64, room: f64) -> Self {
        let (low, high) = values.fold((f64::INFINITY, 0.0_f64), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        let (low, high) = if low < high { (low, high) } else { (0.5, 2.0) };
        Self {
            low: low / room,
            high: high * room,
            from,
            to,
        }
    }

    fn place(&self, value: f64) -> f64 {
        let share = (value / self.low).ln() / (self.high / self.low).ln();
        self.from + share * (self.to - self.from)
    }

    /// 1, 2 and 5 times powers of ten.
    fn ticks(&self) -> Vec<f64> {
        (-3..12)
            .flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10.0_f64.powi(power)))
            .filter(|tick| (self.low..=self.high).contains(tick))
            .collect()
    }
}

/// `512`, `4.1k`, `135M`.
fn short(value: f64) -> String {
    let (scaled, unit) = match value {
        v if v >= 1e6 => (v / 1e6, "M"),
        v if v >= 1e4 => (v / 1e3, "k"),
        v => (v, ""),
    };
    let digits = usize::from(scaled < 10.0 && scaled.fract() > 0.05);
    format!("{scaled:.digits$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_has_its_lines_its_axes_and_both_colour_schemes() {
        let mut plot = Plot::new("threads", "Speed", ["threads", "tokens/s"]);
        for (x, y) in [(1.0, 700.0), (2.0, 1300.0)] {
            plot.add("ours", x, y);
            plot.add("theirs", x, y / 2.0);
        }
        let svg = plot.svg();
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert_eq!(svg.matches("<circle class").count(), 4);
        for part in [
            ">tokens/s<",
            ">threads<",
            ">Speed<",
            ">500<",
            "prefers-color-scheme: dark",
        ] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        // Its label would stand on that of 2.
        plot.add("ours", 2.02, 1300.0);
        assert_eq!(plot.svg().matches(">2<").count(), 1);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert_eq!(plot.json()["series"][0]["points"][1][1], 1300.0);
    }

    #[test]
    fn an_axis_is_logarithmic() {
        let axis = Axis::around([1.0, 100.0].into_iter(), 0.0, 10.0, 1.0);
        assert!((axis.place(10.0) - 5.0).abs() < 1e-9);
        assert_eq!(axis.ticks(), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
    }

    #[test]
    fn large_numbers_are_short() {
        let shown = [1.0, 4096.0, 25_000.0, 134_500_000.0, 6_400_000.0].map(short);
        assert_eq!(shown, ["1", "4096", "25k", "134M", "6.4M"]);
    }
}
