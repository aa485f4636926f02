//! `/`: what the network did and who was paid.

use maud::{Markup, html};
use openledger_node::view::{CompletionSummary, EpochView, Overview, StageView};
use openledger_primitives::Wei;

use super::{chat::recent, settlement};
use crate::{
    chart, format,
    layout::{Frame, Page},
    parts,
};

/// The overview: headline, the loop, who earns, what runs. `latest` are the newest answers.
pub fn overview(frame: &Frame, view: &Overview, latest: &[CompletionSummary]) -> Markup {
    Page {
        title: "Overview",
        section: "/",
        topics: &["block", "stage", "epoch"],
        json: Some("/v1/overview"),
        body: html! {
            div #overview hx-get="/" hx-select="#overview" hx-swap="outerMorph"
                hx-trigger="block from:#live throttle:2s, epoch from:#live, stage from:#live throttle:1s" {
                (hero(view))
                (the_loop(view))
                div.columns.wide-left {
                    section.card aria-labelledby="earners" {
                        div.card-head { h2 #earners { "Who earns" } a href="/wallets" { "All wallets" } }
                        (earners(view))
                    }
                    section.card aria-labelledby="split" {
                        div.card-head { h2 #split { "Where each OPEN goes" } a href="/epochs" { "Epochs" } }
                        (split(&view.epochs))
                    }
                }
                section.card aria-labelledby="answers" {
                    div.card-head { h2 #answers { "Latest answers" } a href="/chat" { "Ask something" } }
                    (recent(frame, latest))
                }
                div.columns {
                    section.card aria-labelledby="nets" {
                        div.card-head { h2 #nets { "Datanets" } a href="/datanets" { "All" } }
                        (datanets(view))
                    }
                    section.card aria-labelledby="models" {
                        div.card-head { h2 #models { "Models" } a href="/models" { "All" } }
                        (models(view))
                    }
                }
            }
        },
        ..Page::default()
    }
    .render(frame)
}

fn hero(view: &Overview) -> Markup {
    let paid_for = view.epochs.iter().map(|epoch| epoch.receipts).sum::<u64>();
    html! {
        div.hero {
            p.eyebrow { "Proof of Attribution, end to end" }
            @if view.contributors.is_zero() {
                h1 { "Data in. Answers out. " em { "The people behind them paid." } }
            } @else {
                h1 {
                    (format::plural(paid_for, "answer", "answers")) " paid "
                    em title={ (view.contributors) " wei" } { (format::amount_short(view.contributors)) " OPEN" }
                    " to the people who taught them."
                }
            }
            p.lede {
                "People contribute rows to a Datanet, a model is tuned on them, and each answer is traced back to the rows that shaped it. Fees follow the trace, on a chain whose every number you can recompute."
            }
            div.actions {
                a.button href="/chat" { "Ask and see who taught it" }
                @if let Some(first) = view.datanets.first() {
                    a.button.quiet href={ "/datanets/" (first.id) "/contribute" } { "Contribute data" }
                }
                a.button.quiet href="/studio/new" { "Tune a model" }
            }
        }
    }
}

/// The six stations of the loop with what passed through each of them.
fn the_loop(view: &Overview) -> Markup {
    let rows = view.datanets.iter().map(|d| d.accepted).sum::<u64>();
    let tuned = view.models.iter().filter(|m| m.parent.is_some()).count() as u64;
    let credited = view
        .epochs
        .iter()
        .map(|epoch| epoch.clusters_paid)
        .sum::<u64>();
    let claimed = view
        .top_earners
        .iter()
        .filter(|e| !e.claimed.is_zero())
        .count() as u64;
    let stations: [(&str, &[&str], String, String, &str); 6] = [
        (
            "Contribute",
            &["datanet"],
            format::count(rows),
            "rows accepted".into(),
            "/datanets",
        ),
        (
            "Tune",
            &["tuning"],
            format::count(tuned),
            plural_word(tuned, "model tuned", "models tuned"),
            "/runs",
        ),
        (
            "Answer",
            &["serving"],
            format::count(view.inferences),
            "answers with receipts".into(),
            "/chat",
        ),
        (
            "Trace",
            &["attribution"],
            format::count(credited),
            "clusters of rows credited".into(),
            "/chat",
        ),
        (
            "Settle",
            &["settlement"],
            format::count(view.epochs.len() as u64),
            plural_word(
                view.epochs.len() as u64,
                "epoch on chain",
                "epochs on chain",
            ),
            "/epochs",
        ),
        (
            "Pay",
            &["claims"],
            format::count(claimed),
            "of the top ten claimed".into(),
            "/wallets",
        ),
    ];
    html! {
        section.loop aria-label="The loop" {
            ol {
                @for (name, stages, figure, what, href) in &stations {
                    @let busy = view.stage.as_ref().is_some_and(|s| (s.total == 0 || s.done < s.total) && stages.contains(&s.name.as_str()));
                    li.busy[busy] {
                        a href=(href) {
                            span.step { (name) }
                            strong { (figure) }
                            small { (what) }
                        }
                    }
                }
            }
            @if let Some(stage) = &view.stage { (progress(stage)) }
        }
    }
}

fn plural_word(n: u64, one: &str, many: &str) -> String {
    if n == 1 { one } else { many }.to_owned()
}

fn progress(stage: &StageView) -> Markup {
    let finished = stage.total > 0 && stage.done >= stage.total;
    html! {
        div.stage role="status" {
            @if finished { span.good aria-hidden="true" { "✓" } } @else { span.pulse aria-hidden="true" {} }
            span { (format::sentence(&stage.message)) }
            @if finished {
                // Nothing left to measure.
            } @else if stage.total > 0 {
                progress value=(stage.done) max=(stage.total) { (stage.done) " of " (stage.total) }
                span.muted.mono { (format::count(stage.done)) " / " (format::count(stage.total)) }
            } @else {
                progress aria-label="in progress" {}
            }
        }
    }
}

fn earners(view: &Overview) -> Markup {
    let most = view
        .top_earners
        .iter()
        .map(|e| e.earned)
        .max()
        .unwrap_or(Wei::ZERO);
    html! {
        @if view.top_earners.is_empty() {
            (parts::empty("Nobody has earned yet", "Earnings appear when the first epoch is settled."))
        } @else {
            div.scroll {
                table {
                    thead { tr { th scope="col" { "Who" } th scope="col" { "Best rows" } th.grow scope="col" { span.visually-hidden { "Share of the first" } } th.num scope="col" { "Earned (OPEN)" } } }
                    tbody {
                        @for earner in &view.top_earners {
                            tr {
                                td { (parts::wallet(earner.name.as_deref(), earner.address)) @if earner.role != "contributor" { " " span.tag { (earner.role) } } }
                                td.muted { @for row in &earner.rows { span.mono.gap { "#" (row) } } }
                                td.grow { (chart::bar(format::share_bps(earner.earned, most), 10_000)) }
                                td.num { (parts::amount(earner.earned)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// All settled epochs together, by role.
fn split(epochs: &[EpochView]) -> Markup {
    let mut roles: Vec<(String, Wei)> = Vec::new();
    for (role, amount) in epochs.iter().flat_map(|e| &e.paid) {
        match roles.iter_mut().find(|(known, _)| known == role) {
            Some((_, sum)) => *sum = sum.checked_add(*amount).unwrap_or(*sum),
            None => roles.push((role.clone(), *amount)),
        }
    }
    html! {
        @if roles.is_empty() {
            (parts::empty("No epoch is settled yet", "Fees are collected in an epoch, split by rule and posted on chain."))
        } @else {
            (settlement::split("Paid by role, all settled epochs", &roles))
        }
    }
}

fn datanets(view: &Overview) -> Markup {
    html! {
        @if view.datanets.is_empty() {
            (parts::empty("No Datanet yet", "The first one is registered when the loop starts."))
        } @else {
            ul.plain {
                @for net in view.datanets.iter().take(5) {
                    li {
                        a.strong href={ "/datanets/" (net.id) } { (net.name) }
                        span.muted { (format::plural(net.accepted, "row", "rows")) " from " (format::plural(net.contributors, "contributor", "contributors")) " · " (net.licence) }
                    }
                }
            }
        }
    }
}

fn models(view: &Overview) -> Markup {
    html! {
        @if view.models.is_empty() {
            (parts::empty("No model yet", "The base model is loaded when the loop starts."))
        } @else {
            ul.plain {
                @for model in view.models.iter().take(5) {
                    li {
                        (parts::model(&model.id))
                        span.muted {
                            @match &model.parent { Some(parent) => { "adapter on " (parent) }, None => "base model" }
                            " · " (format::plural(model.inferences, "answer", "answers"))
                        }
                    }
                }
            }
        }
    }
}
