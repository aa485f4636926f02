//! `/runs` and `/runs/{id}`: tuning runs, live and past.

use maud::{Markup, html};
use openledger_node::view::RunView;

use crate::{
    chart, format,
    layout::{Frame, Page, heading},
    parts,
};

/// All tuning runs.
pub fn runs(frame: &Frame, list: &[RunView]) -> Markup {
    Page {
        title: "Tuning runs",
        section: "/runs",
        topics: &["block", "run:*"],
        json: Some("/v1/runs"),
        body: html! {
            (heading(&[], "Tuning runs",
                html! { p { "Each run teaches the base model one Datanet and leaves an adapter of a few hundred kilobytes, with the recipe and every loss value on record." } },
                html! { a.button href="/studio/new" { "New run" } }))
            div #runs hx-get="/runs" hx-select="#runs" hx-swap="outerMorph" hx-trigger="run from:#live throttle:2s" {
                @if list.is_empty() {
                    (parts::empty("No run yet", html! { a href="/studio/new" { "Start one" } ": it takes three choices." }))
                } @else {
                    div.card.flush.scroll {
                        table {
                            thead { tr { th scope="col" { "Model" } th scope="col" { "Status" } th scope="col" { "Datanet" } th scope="col" { "Preset" } th.grow scope="col" { "Progress" } th.num scope="col" { "Steps" } } }
                            tbody {
                                @for run in list {
                                    tr {
                                        td.model { a.mono href={ "/runs/" (format::segment(&run.id)) } { (run.model) } }
                                        td { (parts::badge(&run.status)) }
                                        td { a href={ "/datanets/" (run.datanet) } { "Datanet " (run.datanet) } }
                                        td { (run.preset) }
                                        td.grow { (chart::bar(run.step, run.steps)) }
                                        td.num { (format::count(run.step)) " / " (format::count(run.steps)) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        },
        ..Page::default()
    }
    .render(frame)
}

/// One run, updated while it runs.
pub fn run(frame: &Frame, run: &RunView) -> Markup {
    let path = format!("/runs/{}", format::segment(&run.id));
    let topic = format!("run:{}", run.id);
    let json = format!("/v1/runs/{}", format::segment(&run.id));
    let live = matches!(run.status.as_str(), "queued" | "running" | "paused");
    let topics = ["block", topic.as_str()];
    Page {
        title: &run.model,
        section: "/runs",
        topics: &topics[..if live { 2 } else { 1 }],
        json: Some(&json),
        body: html! {
            div #run hx-get=[live.then_some(&path)] hx-select="#run" hx-swap="outerMorph" hx-trigger="run from:#live throttle:700ms" {
                (heading(&[("Tuning runs", "/runs")], &run.model,
                    html! { p {
                        "Base " (parts::model(&run.base)) " on " a href={ "/datanets/" (run.datanet) } { "Datanet " (run.datanet) } ", preset " (run.preset) ". " (parts::badge(&run.status))
                    } },
                    controls(run, &path)))
                @if run.status == "failed" {
                    div.alert role="alert" { strong { "The run failed. " } (format::sentence(&run.message)) }
                } @else if !run.message.is_empty() {
                    p.muted { (format::sentence(&run.message)) }
                }
                (headline(run))
                section.card aria-labelledby="curve" {
                    h2 #curve { "Loss" }
                    (chart::loss(&run.points, run.steps))
                }
                section.card aria-labelledby="recipe" {
                    h2 #recipe { "Recipe" }
                    dl.facts.wide {
                        @for (name, value) in &run.recipe { dt { (name) } dd { (value) } }
                        @if let Some(digest) = run.digest { dt { "Record" } dd { (parts::hash(digest)) } }
                        dt { "Job" } dd.mono { (run.id) }
                    }
                }
            }
        },
        ..Page::default()
    }
    .render(frame)
}

fn headline(run: &RunView) -> Markup {
    let last = run.points.last();
    let first = run.points.first();
    html! {
        dl.stats {
            div.stat.wide {
                dt { "Progress" }
                dd {
                    strong { (format::count(run.step)) " / " (format::count(run.steps)) }
                    small { @match (run.status.as_str(), run.eta_seconds) {
                        ("running", Some(eta)) => { "about " (format::duration(eta)) " left" },
                        ("running", None) => "measuring the pace",
                        _ => "steps",
                    } }
                    progress value=(run.step) max=(run.steps.max(1)) aria-label="steps done" {}
                }
            }
            (parts::stat("Loss", last.map_or_else(|| "–".to_owned(), |p| format!("{:.3}", p.smoothed)), first.map_or_else(|| "no step yet".to_owned(), |p| format!("from {:.3}", p.loss))))
            (parts::stat("On unseen rows",
                run.points.iter().rev().find_map(|p| p.eval).map_or_else(|| "–".to_owned(), |e| format!("{e:.3}")),
                run.points.iter().find_map(|p| p.eval).map_or_else(|| "not measured yet".to_owned(), |e| format!("from {e:.3}"))))
            (parts::stat("Perplexity", last.map_or_else(|| "–".to_owned(), |p| format!("{:.1}", p.smoothed.exp())), "choices a token"))
            (parts::stat("Speed", last.map_or_else(|| "–".to_owned(), |p| format::rounded(p.tokens_per_second)), "tokens a second"))
            (parts::stat("Memory", last.and_then(|p| p.memory_bytes).map_or_else(|| "–".to_owned(), format::bytes), "the whole node"))
        }
    }
}

/// What one can do with a run in this state.
fn controls(run: &RunView, path: &str) -> Markup {
    let action = |name: &str, label: &str, quiet: bool| {
        html! {
            form.inline method="post" action={ (path) "/control" } {
                button.button.quiet[quiet] type="submit" name="action" value=(name) { (label) }
            }
        }
    };
    html! {
        @match run.status.as_str() {
            "queued" => { (action("stop", "Cancel", true)) },
            "running" => { (action("pause", "Pause", true)) (action("stop", "Stop and keep", true)) },
            "paused" => { (action("resume", "Resume", false)) (action("stop", "Stop and keep", true)) },
            "succeeded" => {
                a.button href={ "/chat?model=" (format::segment(&run.model)) } { "Chat with it" }
                a.button.quiet href={ "/models/" (format::segment(&run.model)) } { "Model card" }
            },
            _ => a.button href={ "/studio/new?datanet=" (run.datanet) } { "Start a new run" },
        }
    }
}
