//! `/explorer/layers`: how far the chain is on its layer 1, and what is on the way between the two.

use maud::{Markup, html};
use openledger_node::rollup::batching::Batches;
use openledger_node::rollup::claims::Claims;
use openledger_node::view::RollupView;

use crate::{
    format,
    layout::{Frame, Page, heading},
    parts,
};

/// Batches in the table.
const BATCHES: usize = 12;

/// Both layers.
pub fn layers(frame: &Frame, view: &RollupView) -> Markup {
    Page {
        title: "Layers",
        section: "/explorer",
        json: Some("/v1/rollup"),
        body: html! {
            (heading(&[("Explorer", "/explorer")], "Layers",
                html! { p { "Blocks are made here, and their truth is on the layer 1: whoever reads it and the data behind it gets the same chain." } },
                html! {}))
            div #layers hx-get="/explorer/layers" hx-select="#layers" hx-swap="outerMorph" hx-trigger="block from:#live throttle:3s" {
                @if let Some(trouble) = &view.trouble {
                    p.notice role="alert" { "Derivation stands still: " (trouble) }
                }
                dl.stats {
                    (parts::stat("Newest block", block(view.head), "the sequencer's word"))
                    (parts::stat("Safe", block(view.safe), html! { (format::count(view.head.saturating_sub(view.safe))) " behind, on the layer 1" }))
                    (parts::stat("Finalized", block(view.finalized), html! { (format::count(view.head.saturating_sub(view.finalized))) " behind, for good" }))
                    (parts::stat("Layer 1", format::count(view.l1.head), html! { "derived to " (format::count(view.l1.derived)) ", final to " (format::count(view.l1.finalized)) }))
                }
                (batches(&view.batches))
                (crossings(frame, view))
                (claims(&view.proposer, &view.challenger))
                section.card aria-labelledby="where" {
                    h2 #where { "Where it all is" }
                    dl.facts {
                        dt { "Layer 1" } dd { span.mono { (view.l1.url) } " " (parts::copy(&view.l1.url, "layer 1 address")) }
                        dt { "Data availability" } dd { span.mono { (view.da_url) } " " (parts::copy(&view.da_url, "availability address")) }
                        @for (name, at) in view.l1.contracts.contracts() { dt { (name) } dd { (parts::address(at)) } }
                    }
                    p.muted { "The data server keeps everything on this one machine: it has EigenDA's interface and none of its security." }
                }
            }
        },
        ..Page::default()
    }
    .render(frame)
}

fn block(number: u64) -> Markup {
    html! { a href={ "/explorer/block/" (number) } { (format::count(number)) } }
}

fn batches(batches: &Batches) -> Markup {
    let each = batches.bytes.checked_div(batches.transactions);
    html! {
        h2.section { "Batches" }
        p.muted {
            (format::plural(batches.count, "batch", "batches")) " since the node started, "
            (format::bytes(batches.bytes)) " for " (format::plural(batches.transactions, "transaction", "transactions"))
            @if let Some(each) = each { " (" (format::bytes(each)) " each)" }
            ", " (format::count(batches.l1_gas)) " gas of the layer 1 for " (format::amount_short(batches.l1_fee)) " ETH."
            @if batches.fail_overs > 0 { " " (format::count(batches.fail_overs)) " went to the layer 1 itself." }
            @if batches.lost > 0 { " " (format::count(batches.lost)) " had to be sent again." }
            @if let Some(trouble) = &batches.trouble { " The batcher waits: " (trouble) }
        }
        @if batches.recent.is_empty() { (parts::empty("No batch yet", "Blocks wait a few seconds for each other before they are sent.")) }
        @else {
            div.card.flush.scroll {
                table {
                    thead { tr { th.num scope="col" { "Blocks" } th.num scope="col" { "Transactions" } th.num scope="col" { "Bytes" } th scope="col" { "Data" } th scope="col" { "Commitment" } th.num scope="col" { "Layer 1 block" } th.num scope="col" { "Gas there" } } }
                    tbody {
                        @for sent in batches.recent.iter().rev().take(BATCHES) {
                            tr {
                                td.num { (block(sent.first)) "–" (block(sent.last)) }
                                td.num { (format::count(sent.transactions as u64)) }
                                td.num { (format::count(sent.bytes as u64)) }
                                td { (if sent.target == "da" { "availability" } else { sent.target }) }
                                td.mono { @if let Some(commitment) = &sent.commitment { (format::shorten(&commitment.to_string())) } @else { span.muted { "none" } } }
                                td.num { (format::count(sent.l1_block)) }
                                td.num { (format::count(sent.l1_gas)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn crossings(frame: &Frame, view: &RollupView) -> Markup {
    html! {
        h2.section { "Between the layers" }
        @if view.deposits.is_empty() && view.withdrawals.is_empty() {
            (parts::empty("Nothing on the way", "OPEN deposited on the layer 1 arrives here with the next blocks; a withdrawal is proven and released there."))
        } @else {
            div.card.flush.scroll {
                table {
                    thead { tr { th scope="col" { "What" } th.num scope="col" { "OPEN" } th scope="col" { "To" } th.num scope="col" { "Block" } th scope="col" { "How far" } } }
                    tbody {
                        @for deposit in &view.deposits {
                            tr {
                                td { a href={ "/explorer/tx/" (deposit.tx) } { "Deposit" } }
                                td.num { (parts::amount(deposit.amount)) }
                                td { (parts::address(deposit.to)) }
                                td.num { (block(deposit.block)) }
                                td { (parts::badge("arrived")) }
                            }
                        }
                        @for withdrawal in &view.withdrawals {
                            tr {
                                td { a href={ "/explorer/tx/" (withdrawal.tx) } { "Withdrawal" } }
                                td.num { (parts::amount(withdrawal.amount)) }
                                td { (parts::address(withdrawal.to)) }
                                td.num { (block(withdrawal.block)) }
                                td {
                                    (parts::badge(withdrawal.status))
                                    @if let (Some(at), "proven") = (withdrawal.ready_at, withdrawal.status) {
                                        " " @if at > frame.now { "ready at " (format::iso(at)) } @else { "ready" }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn claims(proposer: &Claims, challenger: &Claims) -> Markup {
    html! {
        section.card aria-labelledby="claims" {
            h2 #claims { "Claims on the layer 1" }
            dl.facts {
                dt { "Proposed" } dd {
                    (format::plural(proposer.proposed, "output root", "output roots"))
                    @if let Some(number) = proposer.last_block { ", the newest of block " (block(number)) }
                }
                dt { "Found wrong" } dd { (format::count(challenger.wrong)) }
                dt { "Challenged" } dd { (format::count(challenger.challenged)) }
                dt { "Ended" } dd { (format::count(proposer.resolved + challenger.resolved)) }
                @if let Some(trouble) = proposer.trouble.as_ref().or(challenger.trouble.as_ref()) { dt { "Trouble" } dd { (trouble) } }
            }
            p.muted { "A disputed claim is halved block by block. The guardian's key decides about the last block, until a proof of one instruction can: until then finality is permissioned." }
        }
    }
}
