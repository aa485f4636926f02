//! `/explorer`: blocks and transactions, with our own events as sentences.

use maud::{Markup, html};
use openledger_node::view::{BlockView, ChainView, EventView, TransactionView};
use openledger_primitives::Address;

use crate::{
    format,
    layout::{Frame, Page, heading},
    parts,
};

/// The newest blocks; `before` says that these are older ones.
pub fn explorer(
    frame: &Frame,
    chain: &ChainView,
    blocks: &[BlockView],
    before: Option<u64>,
) -> Markup {
    Page {
        title: "Explorer",
        section: "/explorer",
        json: Some("/v1/blocks"),
        scripts: &["wallet.js"],
        body: html! {
            (heading(&[], "Explorer",
                html! { p { "Chain " (chain.id) ". Wallets and tools reach it at " span.mono { (chain.rpc_url) } (parts::copy(&chain.rpc_url, "RPC address")) "." } },
                html! {
                    a.button.quiet href="/explorer/layers" { "Layers" }
                    div.connect data-wallets data-chain-id=(chain.id) data-rpc=(chain.rpc_url) hidden {
                        button.button.quiet type="button" data-add-chain { "Add to wallet" }
                    }
                }))
            form.find method="get" action="/explorer/find" role="search" {
                label for="q" { "Block, transaction or address" }
                input #q type="search" name="q" required autocomplete="off" spellcheck="false";
                button.button.quiet type="submit" { "Find" }
            }
            div #blocks hx-get="/explorer" hx-select="#blocks" hx-swap="outerMorph" hx-trigger=[before.is_none().then_some("block from:#live throttle:3s")] {
                dl.stats {
                    (parts::stat("Newest block", format::count(chain.head), parts::time(frame.now, chain.timestamp)))
                    (parts::stat("Transactions", format::count(chain.txs), "since genesis"))
                    (parts::stat("Gas used", format::count(chain.gas_used), "since genesis"))
                }
                @if blocks.is_empty() { (parts::empty("No block here", "The chain makes one with each batch of transactions.")) }
                @else {
                    div.card.flush.scroll {
                        table {
                            thead { tr { th.num scope="col" { "Block" } th scope="col" { "When" } th scope="col" { "What happened" } th.num scope="col" { "Gas used" } } }
                            tbody {
                                @for run in blocks.chunk_by(|a, b| a.is_quiet() && b.is_quiet()) {
                                    (line(frame, run))
                                }
                            }
                        }
                    }
                    nav.pager aria-label="Pages" {
                        @if before.is_some() { a.button.quiet href="/explorer" { "Newest" } }
                        @if let Some(last) = blocks.last().filter(|b| b.number > 0) {
                            a.button.quiet href={ "/explorer?before=" (last.number) } { "Older →" }
                        }
                    }
                }
            }
        },
        ..Page::default()
    }
    .render(frame)
}

/// One block, or a run of empty ones, newest first.
fn line(frame: &Frame, run: &[BlockView]) -> Markup {
    let [newest, .., oldest] = run else {
        return html! {
            @for block in run {
                tr {
                    td.num { a href={ "/explorer/block/" (block.number) } { (format::count(block.number)) } }
                    td.nowrap.muted { (parts::time(frame.now, block.timestamp)) }
                    td { (brief(block)) }
                    td.num { (format::count(block.gas_used)) }
                }
            }
        };
    };
    html! {
        tr.muted {
            td.num {
                a href={ "/explorer/block/" (oldest.number) } { (format::count(oldest.number)) } "–"
                a href={ "/explorer/block/" (newest.number) } { (format::count(newest.number)) }
            }
            td.nowrap { (parts::time(frame.now, newest.timestamp)) }
            td { (format::count(run.len() as u64)) " empty blocks" }
            td.num { (format::count(run.iter().map(|block| block.gas_used).sum())) }
        }
    }
}

fn brief(block: &BlockView) -> Markup {
    let txs: Vec<&TransactionView> = block.deeds().collect();
    html! {
        @if txs.is_empty() { span.muted { "empty" } }
        @else {
            ul.plain.tight {
                @for tx in txs.iter().take(3) {
                    li {
                        a href={ "/explorer/tx/" (tx.hash) } { (action(tx)) }
                        @if let Some(event) = tx.events.first() { span.muted { (format::cut(&plain(tx, &event.sentence), 110)) } }
                        @if !tx.success { " " (parts::badge("reverted")) }
                    }
                }
                @if txs.len() > 3 { li.muted { "and " (txs.len() - 3) " more" } }
            }
        }
    }
}

fn action(tx: &TransactionView) -> &str {
    if tx.action.is_empty() {
        "Transfer"
    } else {
        &tx.action
    }
}

/// One block.
pub fn block(frame: &Frame, view: &BlockView) -> Markup {
    let title = format!("Block {}", format::count(view.number));
    let json = format!("/v1/blocks/{}", view.number);
    Page {
        title: &title,
        section: "/explorer",
        json: Some(&json),
        body: html! {
            (heading(&[("Explorer", "/explorer")], &title,
                html! { p { "Made " (parts::time(frame.now, view.timestamp)) " with " (format::plural(view.deeds().count() as u64, "transaction", "transactions")) "." } },
                html! {
                    @if view.number > 0 { a.button.quiet href={ "/explorer/block/" (view.number - 1) } rel="prev" { "← " (view.number - 1) } }
                    @if frame.head.is_some_and(|head| view.number < head) { a.button.quiet href={ "/explorer/block/" (view.number + 1) } rel="next" { (view.number + 1) " →" } }
                }))
            section.card aria-labelledby="header" {
                h2 #header { "Header" }
                dl.facts {
                    dt { "Hash" } dd { (parts::hash(view.hash)) }
                    dt { "Parent" } dd { (parts::hash(view.parent)) }
                    dt { "State root" } dd { (parts::hash(view.state_root)) }
                    dt { "Gas used" } dd { (format::count(view.gas_used)) " of " (format::count(view.gas_limit)) }
                    dt { "Base fee" } dd { (format::count(view.base_fee)) " wei" }
                    dt { "Time" } dd { (format::iso(view.timestamp)) }
                }
            }
            h2.section { "Transactions" }
            @if view.is_quiet() { (parts::empty("No transaction", "This block only moved the clock and took note of the layer 1.")) }
            @for tx in &view.transactions {
                section.card {
                    div.card-head { h3 { a href={ "/explorer/tx/" (tx.hash) } { (action(tx)) } } (outcome(tx)) }
                    p.muted { (parties(tx)) " · " (format::count(tx.gas_used)) " gas" }
                    (sentences(tx))
                }
            }
        },
        ..Page::default()
    }
    .render(frame)
}

/// One transaction.
pub fn transaction(frame: &Frame, view: &TransactionView) -> Markup {
    let json = format!("/v1/transactions/{}", view.hash);
    Page {
        title: action(view),
        section: "/explorer",
        json: Some(&json),
        body: html! {
            (heading(&[("Explorer", "/explorer"), (&format!("Block {}", view.block), &format!("/explorer/block/{}", view.block))], action(view),
                html! { p { (parties(view)) ". " (outcome(view)) } }, html! {}))
            section.card aria-labelledby="happened" {
                h2 #happened { "What happened" }
                @if view.events.is_empty() { p.muted { "No event. " @if !view.value.is_zero() { (parts::open(view.value)) " moved." } } }
                (sentences(view))
            }
            section.card aria-labelledby="details" {
                h2 #details { "Details" }
                dl.facts {
                    dt { "Hash" } dd { (parts::hash(view.hash)) }
                    dt { "Block" } dd { a href={ "/explorer/block/" (view.block) } { (format::count(view.block)) } }
                    dt { "From" } dd { (parts::address(view.from)) }
                    dt { "To" } dd { @match view.to { Some(to) => (parts::address(to)), None => "creates a contract" } }
                    dt { "Value" } dd { (parts::amount(view.value)) " OPEN" }
                    dt { "Gas used" } dd { (format::count(view.gas_used)) }
                }
                details.twin { summary { "Raw calldata and events" }
                    h3 { "Calldata" }
                    (parts::code(&view.input, "calldata"))
                    @for (at, event) in view.events.iter().enumerate() {
                        h3 { "Event " (at) " of " (event.contract.clone().unwrap_or_else(|| event.address.to_checksum(None))) }
                        (parts::code(&raw(event), "raw event"))
                    }
                }
            }
        },
        ..Page::default()
    }
    .render(frame)
}

fn raw(event: &EventView) -> String {
    let mut lines: Vec<String> = event
        .topics
        .iter()
        .enumerate()
        .map(|(at, topic)| format!("topic {at}  {topic}"))
        .collect();
    lines.push(format!("data     {}", event.data));
    lines.join("\n")
}

fn outcome(tx: &TransactionView) -> Markup {
    parts::badge(if tx.success { "success" } else { "reverted" })
}

fn parties(tx: &TransactionView) -> Markup {
    html! {
        (parts::wallet(tx.from_name.as_deref(), tx.from))
        @match tx.to {
            Some(to) => { " → " (parts::wallet(tx.to_name.as_deref(), to)) },
            None => " created a contract",
        }
    }
}

fn sentences(tx: &TransactionView) -> Markup {
    html! {
        ul.events {
            @for event in &tx.events {
                li {
                    span { (linked(tx, &event.sentence)) }
                    @if let Some(contract) = &event.contract { small.muted { (contract) } }
                }
            }
        }
    }
}

/// A part of a sentence.
#[derive(Debug, PartialEq, Eq)]
enum Word<'a> {
    Text(&'a str),
    Wallet(Address),
}

/// Cuts a sentence at the addresses in it; longer hex, such as a digest, stays text.
fn words(sentence: &str) -> Vec<Word<'_>> {
    const LENGTH: usize = 42;
    let mut words = Vec::new();
    let (mut from, mut at) = (0, 0);
    while let Some(found) = sentence[at..].find("0x") {
        let start = at + found;
        let digits = sentence[start + 2..]
            .bytes()
            .take_while(u8::is_ascii_hexdigit)
            .count();
        at = start + 2 + digits;
        if at - start != LENGTH {
            continue;
        }
        if let Ok(address) = sentence[start..at].parse() {
            words.push(Word::Text(&sentence[from..start]));
            words.push(Word::Wallet(address));
            from = at;
        }
    }
    words.push(Word::Text(&sentence[from..]));
    words
}

/// The name of an address that the transaction itself knows.
fn known(tx: &TransactionView, address: Address) -> Option<&str> {
    if address == tx.from {
        tx.from_name.as_deref()
    } else if Some(address) == tx.to {
        tx.to_name.as_deref()
    } else {
        None
    }
}

fn linked(tx: &TransactionView, sentence: &str) -> Markup {
    html! {
        @for word in words(sentence) {
            @match word {
                Word::Text(text) => (text),
                Word::Wallet(address) => (parts::wallet(known(tx, address), address)),
            }
        }
    }
}

fn plain(tx: &TransactionView, sentence: &str) -> String {
    words(sentence)
        .into_iter()
        .map(|word| match word {
            Word::Text(text) => text.to_owned(),
            Word::Wallet(address) => {
                known(tx, address).map_or_else(|| format::short_address(address), str::to_owned)
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_and_digests_left_alone() {
        let address = Address::repeat_byte(0xab);
        let sentence = format!("{address} paid π to {address}, root 0x{}", "ab".repeat(32));
        let found = words(&sentence);
        assert_eq!(found.len(), 5);
        assert_eq!(found[1], Word::Wallet(address));
        assert_eq!(found[2], Word::Text(" paid π to "));
        assert_eq!(
            words("0x 0xab no address 0x"),
            [Word::Text("0x 0xab no address 0x")]
        );
    }
}
