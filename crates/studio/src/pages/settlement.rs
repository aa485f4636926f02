//! `/epochs`: what came in, what went out, and that the two are equal.

use maud::{Markup, html};
use openledger_node::view::EpochView;
use openledger_primitives::Wei;

use crate::{
    chart, format,
    layout::{Frame, Page, heading},
    parts,
};

/// All settled epochs, newest first.
pub fn epochs(frame: &Frame, epochs: &[EpochView]) -> Markup {
    Page {
        title: "Epochs",
        topics: &["block", "epoch"],
        json: Some("/v1/epochs"),
        body: html! {
            (heading(&[("Overview", "/")], "Epochs",
                html! { p { "Fees are collected over an epoch, netted per contributor and posted in one transaction as two Merkle roots. After the challenge window everybody can claim." } },
                html! {}))
            div #epochs hx-get="/epochs" hx-select="#epochs" hx-swap="outerMorph" hx-trigger="epoch from:#live" {
                @if epochs.is_empty() {
                    (parts::empty("No epoch is settled yet", html! { "Ask a model something in the " a href="/chat" { "chat" } "; its fee will be part of the first epoch." }))
                }
                @for epoch in epochs { (card(epoch)) }
            }
        },
        ..Page::default()
    }
    .render(frame)
}

fn card(epoch: &EpochView) -> Markup {
    html! {
        section.card id={ "epoch-" (epoch.epoch) } aria-label={ "Epoch " (epoch.epoch) } {
            div.card-head {
                h2 { "Epoch " (epoch.epoch) }
                (parts::badge(&epoch.status))
            }
            dl.stats {
                (parts::stat("Fees in", html! { (format::amount_short(epoch.fees)) }, "OPEN"))
                (parts::stat("Receipts", format::count(epoch.receipts), "answers paid for"))
                (parts::stat("Clusters paid", format::count(epoch.clusters_paid), "distinct pieces of data"))
                div.stat {
                    dt { "In = out" }
                    dd {
                        @if epoch.conserved { strong.good { "✓ equal" } small { "recomputed from the chain" } }
                        @else { strong.bad { "✕ differs" } small { "fees and credits do not match" } }
                    }
                }
            }
            (split(&format!("Epoch {} by role", epoch.epoch), &epoch.paid))
            dl.facts {
                dt { "Record" } dd { (parts::hash(epoch.digest)) }
                @if let Some(tx) = epoch.tx { dt { "Posted in" } dd { (parts::tx(tx)) } }
            }
        }
    }
}

/// Amounts by role as one bar and a table.
pub(crate) fn split(label: &str, paid: &[(String, Wei)]) -> Markup {
    let total = paid
        .iter()
        .try_fold(Wei::ZERO, |sum, (_, amount)| sum.checked_add(*amount))
        .unwrap_or(Wei::ZERO);
    let parts_of_bar: Vec<(String, u64)> = paid
        .iter()
        .map(|(role, amount)| (class(role).to_owned(), format::share_bps(*amount, total)))
        .collect();
    html! {
        (chart::stacked(label, &parts_of_bar))
        table.compact {
            caption.visually-hidden { (label) }
            tbody {
                @for (role, amount) in paid {
                    tr {
                        th scope="row" { span class={ "swatch " (class(role)) } aria-hidden="true" {} (name(role)) }
                        td.num.muted { (format::percent(format::share_bps(*amount, total))) }
                        td.num { (parts::amount(*amount)) }
                    }
                }
            }
            tfoot { tr { th scope="row" { "Together" } td {} td.num { (parts::amount(total)) } } }
        }
    }
}

/// A role in words.
pub(crate) fn name(role: &str) -> String {
    match role {
        "model_owner" | "model-owner" => "Model owner".to_owned(),
        "operator" => "Operator (ran the model)".to_owned(),
        "commons" => "Commons (not attributed)".to_owned(),
        _ => format::reason(role),
    }
}

fn class(role: &str) -> &'static str {
    match role {
        "contributors" => "c0",
        "operator" => "c1",
        "model_owner" | "model-owner" => "c2",
        "stakers" => "c3",
        "treasury" => "c4",
        _ => "c5",
    }
}
