//! `/wallets` and `/wallet/{name or address}`: who earned how much, from which rows.

use maud::{Markup, html};
use openledger_node::view::{EarnerLine, EarningLine, Page as List, WalletView};
use openledger_primitives::Wei;

use super::settlement;
use crate::{
    format,
    layout::{Frame, Page, heading},
    parts,
};

/// Everyone who earned something, most first. `limit` is the page size.
pub fn wallets(frame: &Frame, list: &List<EarnerLine>, limit: usize) -> Markup {
    Page {
        title: "Wallets",
        section: "/wallets",
        topics: &["block", "epoch"],
        json: Some("/v1/wallets"),
        scripts: &["wallet.js"],
        body: html! {
            (heading(&[], "Wallets",
                html! { p { "Everyone who earned something in a settled epoch. What is not yet claimed can be claimed at any time; it does not expire." } },
                connect()))
            form.find method="get" action="/wallet" role="search" {
                label for="who" { "Name or address" }
                input #who type="search" name="q" required autocomplete="off" spellcheck="false";
                button.button.quiet type="submit" { "Find" }
            }
            @if list.items.is_empty() {
                (parts::empty("Nobody has earned yet", "Earnings appear when the first epoch is settled."))
            } @else {
                div.card.flush.scroll {
                    table {
                        thead { tr { th scope="col" { "Who" } th scope="col" { "Role" } th scope="col" { "Wallet" } th scope="col" { "Best rows" } th.num scope="col" { "Claimed" } th.num scope="col" { "Earned (OPEN)" } } }
                        tbody {
                            @for line in &list.items {
                                tr {
                                    td { (parts::wallet(line.name.as_deref(), line.address)) }
                                    td.muted { (settlement::name(&line.role)) }
                                    td { (parts::address(line.address)) }
                                    td.muted { @for row in &line.rows { span.mono.gap { "#" (row) } } }
                                    td.num { (parts::amount(line.claimed)) }
                                    td.num { (parts::amount(line.earned)) }
                                }
                            }
                        }
                    }
                }
                (parts::pager(list.offset, list.items.len(), list.total, limit, |offset| format!("/wallets?offset={offset}")))
            }
        },
    }
    .render(frame)
}

/// A browser wallet, where one announces itself (EIP-6963). Hidden until then.
fn connect() -> Markup {
    html! {
        div.connect data-wallets hidden {
            button.button.quiet type="button" data-connect { "Connect a wallet" }
        }
    }
}

/// One wallet. `datanet` is the Datanet that the rows of its earnings belong to, if there is only
/// one.
pub fn wallet(frame: &Frame, view: &WalletView, datanet: Option<u64>) -> Markup {
    let full = view.address.to_checksum(None);
    let title = view
        .name
        .clone()
        .unwrap_or_else(|| format::short_address(view.address));
    let json = format!("/v1/wallets/{full}");
    let path = format!("/wallet/{full}");
    Page {
        title: &title,
        section: "/wallets",
        topics: &["block", "epoch"],
        json: Some(&json),
        body: html! {
            div #wallet hx-get=(path) hx-select="#wallet" hx-swap="outerMorph" hx-trigger="epoch from:#live, block from:#live throttle:3s" {
                (heading(&[("Wallets", "/wallets")], &title,
                    html! { p { @if let Some(role) = &view.role { (settlement::name(role)) ". " } span.mono.long { (full) } (parts::copy(&full, "address")) } },
                    html! {}))
                dl.stats {
                    (parts::stat("Earned", format::amount_short(view.earned), "OPEN in settled epochs"))
                    (parts::stat("Claimable now", format::amount_short(view.claimable), "OPEN"))
                    (parts::stat("Claimed", format::amount_short(view.claimed), "OPEN"))
                    (parts::stat("Balance", format::amount_short(view.balance), "OPEN on the chain"))
                }
                section.card aria-labelledby="lines" {
                    h2 #lines { "What it was earned for" }
                    (lines(&view.lines, datanet))
                }
                section.card aria-labelledby="claims" {
                    h2 #claims { "Claims" }
                    (claims(&view.claims))
                }
            }
        },
        ..Page::default()
    }
    .render(frame)
}

/// Lines on one page; the JSON has all of them.
const LINES: usize = 200;

fn lines(list: &[EarningLine], datanet: Option<u64>) -> Markup {
    let shown = &list[..list.len().min(LINES)];
    html! {
        @if list.is_empty() {
            (parts::empty("Nothing earned yet", "When a model's answer is traced to a row of this wallet, it shows here with the row and the answer."))
        } @else {
            div.scroll { table {
                thead { tr { th scope="col" { "For" } th scope="col" { "Row" } th scope="col" { "Answer" } th.num scope="col" { "Epoch" } th.num scope="col" { "Amount (OPEN)" } } }
                tbody {
                    @for line in shown {
                        tr {
                            td { (channel(&line.channel)) }
                            td { @match (line.row, datanet) {
                                (Some(row), Some(net)) => (parts::row(net, row)),
                                (Some(row), None) => span.mono { "row " (row) },
                                (None, _) => span.muted { "–" },
                            } }
                            td { @match &line.completion {
                                Some(id) => a.mono href={ "/attributions/" (format::segment(id)) } { (format::cut(id, 22)) },
                                None => span.muted { @if line.channel == "gradient" { "all of the epoch, netted" } @else { "–" } },
                            } }
                            td.num { a href={ "/epochs#epoch-" (line.epoch) } { (line.epoch) } }
                            td.num { (parts::amount(line.amount)) }
                        }
                    }
                }
                tfoot { tr { th scope="row" colspan="4" { "Shown here" } td.num { (parts::amount(sum(shown))) } } }
            } }
            @if shown.len() < list.len() { p.muted { "The newest " (format::count(shown.len() as u64)) " of " (format::count(list.len() as u64)) " lines. This page as JSON has all of them." } }
        }
    }
}

fn sum(list: &[EarningLine]) -> Wei {
    list.iter()
        .try_fold(Wei::ZERO, |sum, line| sum.checked_add(line.amount))
        .unwrap_or(Wei::ZERO)
}

fn channel(code: &str) -> String {
    match code {
        "span" => "A passage that stands in an answer".to_owned(),
        "gradient" => "Influence on answers".to_owned(),
        other => settlement::name(other),
    }
}

fn claims(list: &[(u64, Wei, openledger_primitives::B256)]) -> Markup {
    html! {
        @if list.is_empty() {
            (parts::empty("No claim yet", "A claim takes everything earned up to an epoch in one transaction."))
        } @else {
            div.scroll { table {
                thead { tr { th scope="col" { "Transaction" } th.num scope="col" { "Epoch" } th.num scope="col" { "Amount (OPEN)" } } }
                tbody {
                    @for (epoch, amount, tx) in list {
                        tr { td { (parts::tx(*tx)) } td.num { (epoch) } td.num { (parts::amount(*amount)) } }
                    }
                }
            } }
        }
    }
}
