//! `/explorer/layers`: how far the chain is on its layer 1, and what is on the way between the two;
//! `/explorer/batch/{block}`: one batch.

use maud::{Markup, html};
use openledger_node::rollup::batching::{Batches, Sent};
use openledger_node::rollup::claims::Claims;
use openledger_node::view::{BatchView, DataView, RollupView};

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
                                td { (commitment(sent)) }
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

/// What tells a commitment from others, leading to the batch.
fn commitment(sent: &Sent) -> Markup {
    let told = sent
        .commitment
        .as_ref()
        .map(|commitment| match DataView::read(commitment) {
            DataView::Digest { digest } => digest.to_string(),
            DataView::Certificate { kzg_commitment, .. } => kzg_commitment.to_string(),
            DataView::Foreign => commitment.to_string(),
        });
    let text = told.map_or_else(|| "none".to_owned(), |told| format::shorten(&told));
    html! { a.mono href={ "/explorer/batch/" (sent.first) } { (text) } }
}

/// One batch.
pub fn batch(frame: &Frame, view: &BatchView) -> Markup {
    let sent = &view.sent;
    let json = format!("/v1/rollup/batches/{}", sent.first);
    let title = format!("Batch of blocks {} to {}", sent.first, sent.last);
    Page {
        title: &title,
        section: "/explorer",
        json: Some(&json),
        body: html! {
            (heading(&[("Explorer", "/explorer"), ("Layers", "/explorer/layers")], &title,
                html! { p { "What whoever derives the chain reads on the layer 1, and where the blocks behind it are." } },
                html! { (parts::badge(if view.safe { "safe" } else { "waiting" })) }))
            section.card aria-labelledby="inside" {
                h2 #inside { "Inside" }
                dl.facts {
                    dt { "Blocks" } dd { (block(sent.first)) " to " (block(sent.last)) }
                    dt { "Transactions" } dd { (format::count(sent.transactions as u64)) ", without deposits" }
                    dt { "Compressed" } dd { (format::bytes(sent.bytes as u64)) }
                }
            }
            section.card aria-labelledby="layer1" {
                h2 #layer1 { "On the layer 1" }
                dl.facts {
                    dt { "Block" } dd { (format::count(sent.l1_block)) }
                    @for tx in &sent.l1_transactions { dt { "Transaction" } dd { (parts::hash(*tx)) } }
                    dt { "Cost" } dd { (format::count(sent.l1_gas)) " gas, " (format::amount_short(sent.l1_fee)) " ETH" }
                }
            }
            (data(view))
        },
        ..Page::default()
    }
    .render(frame)
}

fn data(view: &BatchView) -> Markup {
    html! {
        section.card aria-labelledby="data" {
            h2 #data { "Data" }
            dl.facts {
                @match &view.data {
                    None => { dt { "Commitment" } dd { "none: the frames are on the layer 1 itself, in " (view.sent.target) } }
                    Some(DataView::Digest { digest }) => { dt { "Payload" } dd { "keccak256 " (parts::hash(*digest)) } }
                    Some(DataView::Certificate { kzg_commitment, payload_digest, payload_bytes, reference_block, committee, signers }) => {
                        dt { "KZG commitment" } dd { (long(&kzg_commitment.to_string())) }
                        dt { "Payload" } dd { (format::bytes(u64::from(*payload_bytes))) ", keccak256 " (parts::hash(*payload_digest)) }
                        dt { "Signed by" } dd { (format::plural(signers.len() as u64, "operator", "operators")) " of committee " (parts::hash(*committee)) }
                        dt { "Signed as of" } dd { "layer 1 block " (format::count(*reference_block)) }
                    }
                    Some(DataView::Foreign) => { dt { "Certificate" } dd { "none of ours; if it is EigenDA's, its proxy knows what it says" } }
                }
                @if let Some(commitment) = &view.sent.commitment {
                    dt { "In the inbox" } dd { (long(&commitment.to_string())) }
                    @if let Some(url) = &view.payload_url { dt { "Payload at" } dd { a href=(url) { "the data server" } } }
                }
            }
        }
    }
}

/// Many bytes, shortened, with a copy button.
fn long(hex: &str) -> Markup {
    html! { span.hash { span.mono title=(hex) { (format::shorten(hex)) } (parts::copy(hex, "bytes")) } }
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
