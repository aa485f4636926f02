//! `/attributions/{id}`: who taught one answer, with the receipt and every number behind it.

use maud::{Markup, html};
use openledger_node::view::{AttributionView, ShareView, SpanView};

use crate::{
    chart, format,
    layout::{Frame, Page, heading},
    parts,
    sources::{self, Palette, Piece, Taught},
};

/// The whole page of one answer.
pub fn attribution(frame: &Frame, view: &AttributionView) -> Markup {
    let json = format!("/v1/attributions/{}", format::segment(&view.id));
    let path = format!("/attributions/{}", format::segment(&view.id));
    let palette = Palette::of(view);
    let pending = view.status != "ready";
    Page {
        title: "Who taught this answer",
        section: "/chat",
        topics: &["block", "attribution:*"],
        json: Some(&json),
        scripts: &["sources.js"],
        body: html! {
            div #attribution hx-get=[pending.then_some(&path)] hx-select="#attribution" hx-swap="outerHTML" hx-trigger="attribution from:#live, every 3s" {
                (heading(&[("Chat", "/chat")], "Who taught this answer",
                    html! { p { (parts::model(&view.model)) " answered " (parts::time(frame.now, view.receipt.created)) " for " (parts::open(view.receipt.fee)) ". " (parts::badge(&view.status)) } },
                    html! { a.button href={ "/chat?model=" (format::segment(&view.model)) } { "Ask another" } a.button.quiet href=(json) { "JSON" } }))
                div.trace data-sources {
                    div {
                        section.card aria-labelledby="asked" {
                            h2 #asked { "The answer" }
                            p.asked { (view.prompt) }
                            (answer(view, &palette))
                            (explain(view))
                        }
                        @if !view.rows.is_empty() {
                            section.card aria-labelledby="influence" {
                                h2 #influence { "Influence of training rows" }
                                p.muted { "How much each row's gradient points the way of this answer's, of " (format::count(view.rows_scored)) " rows scored. Up to the dashed line it is noise: rows that were never trained on score as high." }
                                (chart::influence(&view.rows, view.floor,
                                    |row| format!("{} · #{} {}", palette.letter(row.source.address), row.source.row, row.source.contributor),
                                    |row| palette.class(row.source.address)))
                                (influence_table(view))
                            }
                        }
                        (receipt(frame, view))
                    }
                    div.taught-pane { (who(view, &palette)) }
                }
            }
        },
    }
    .render(frame)
}

/// The panel beside the chat: the marked answer (moved into the conversation by the page's
/// script), shares and rows. While the trace is not ready it asks again by itself.
pub fn panel(view: &AttributionView) -> Markup {
    let path = format!("/attributions/{}/panel", format::segment(&view.id));
    let palette = Palette::of(view);
    html! {
        @if view.status == "ready" {
            div data-sources {
                div data-answer=(view.id) { (answer(view, &palette)) }
                (who(view, &palette))
                p { a href={ "/attributions/" (format::segment(&view.id)) } { "Receipt, scores and proof" } }
            }
        } @else {
            div hx-get=(path) hx-trigger="attribution from:#live, every 2s" hx-target="#taught" {
                div.card-head { h2 { "Who taught this?" } }
                div.stage { span.pulse aria-hidden="true" {} span { "Tracing the answer back to its rows…" } }
            }
        }
    }
}

/// The answer with its spans marked. Without scripts the marks are links to their rows.
fn answer(view: &AttributionView, palette: &Palette) -> Markup {
    html! {
        p.answer {
            @for piece in sources::pieces(view) { (marked(view, &piece, palette)) }
            @if view.output.trim().is_empty() { span.muted { "(the model answered nothing)" } }
        }
    }
}

fn marked(view: &AttributionView, piece: &Piece<'_>, palette: &Palette) -> Markup {
    // The first paid span gives the colour; a span that is too common stays grey.
    let first = piece
        .spans
        .iter()
        .find(|&&at| view.spans[at].admissible)
        .or_else(|| piece.spans.first());
    let Some((&at, span)) = first.map(|at| (at, &view.spans[*at])) else {
        return html! { (piece.text) };
    };
    let Some(source) = span.sources.first() else {
        return html! { (piece.text) };
    };
    let class = if span.admissible {
        palette.class(source.address)
    } else {
        "common".to_owned()
    };
    // The letter belongs to the last word, not behind the space that follows it.
    let (text, space) = piece.text.split_at(piece.text.trim_end().len());
    let indices: Vec<String> = piece.spans.iter().map(usize::to_string).collect();
    html! {
        a class={ "span " (class) } href={ "#source-" (source.datanet) "-" (source.row) }
            id=[piece.begins.first().map(|at| format!("span-{at}"))]
            data-spans=(indices.join(" ")) title=(describe(span)) {
            (text)
            @if span.admissible && piece.ends.contains(&at) { sup { (palette.letter(source.address)) } }
            (space)
        }
    }
}

fn describe(span: &SpanView) -> String {
    let who = span.sources.first().map_or("", |s| s.contributor.as_str());
    let tokens = span.token_end.saturating_sub(span.token_start);
    format!(
        "{who}: {tokens} tokens, {}.{} bits, found {}{}",
        span.surprisal_millibits / 1_000,
        span.surprisal_millibits % 1_000 / 100,
        format::plural(span.occurrences, "time", "times"),
        if span.admissible {
            ""
        } else {
            "; too short or too common to be paid"
        },
    )
}

fn explain(view: &AttributionView) -> Markup {
    let paid = view.spans.iter().filter(|s| s.admissible).count() as u64;
    let common = view.spans.len() as u64 - paid;
    html! {
        p.muted.key-line {
            @if view.spans.is_empty() {
                "No passage of this answer stands in the training rows."
            } @else {
                (format::plural(paid, "passage stands", "passages stand")) " in the training rows, long and rare enough to be paid"
                @if common > 0 { "; " (format::plural(common, "other is", "others are")) " too short or too common (grey)" }
                "."
            }
        }
    }
}

/// Shares and the rows behind them.
fn who(view: &AttributionView, palette: &Palette) -> Markup {
    let (strong, faint): (Vec<_>, Vec<_>) =
        sources::taught(view).into_iter().partition(Taught::counts);
    html! {
        div.card-head { h2 { "Who taught this?" } button.button.quiet.small type="button" data-clear hidden { "Show all" } }
        (shares(&view.shares, palette))
        @if view.rows_scored == 0 && view.spans.is_empty() {
            (parts::empty("No Datanet behind it", "This model was not tuned on a Datanet, so there are no rows to trace."))
        } @else if strong.is_empty() {
            (parts::empty("Nobody in particular", "No training row stands out for this answer, so its share goes to the commons."))
        } @else {
            ul.sources aria-label="Training rows behind this answer" {
                @for row in &strong { (card(view, row, palette)) }
            }
        }
        @if !faint.is_empty() {
            details.faint {
                summary { (format::plural(faint.len() as u64, "more row", "more rows")) " without effect: noise, or against the answer" }
                ul.sources aria-label="Training rows without effect" {
                    @for row in &faint { (card(view, row, palette)) }
                }
            }
        }
        p.muted.small {
            "A gradient counts above the noise floor " span.mono { (format::cosine(view.floor)) } ". Gradients are netted over the epoch and paid on the "
            a href="/wallets" { "wallets' pages" } "; passages are paid per answer."
        }
    }
}

fn shares(list: &[ShareView], palette: &Palette) -> Markup {
    html! {
        @if !list.is_empty() {
            (chart::stacked("Shares of this answer's span pot", &list.iter().map(|s| {
                let class = palette.class(s.address);
                (if class.is_empty() { "c5".to_owned() } else { class }, u64::from(s.bps))
            }).collect::<Vec<_>>()))
            table.compact.shares {
                caption.visually-hidden { "Shares of this answer" }
                thead.visually-hidden { tr { th scope="col" { "Who" } th scope="col" { "Share" } th scope="col" { "OPEN" } } }
                tbody {
                    @for share in list {
                        tr {
                            th scope="row" {
                                @if palette.index(share.address).is_some() {
                                    span class={ "chip " (palette.class(share.address)) } { (palette.letter(share.address)) }
                                    (parts::wallet(Some(&share.name), share.address))
                                } @else {
                                    span.chip.common aria-hidden="true" { "·" }
                                    span { (share.name) }
                                }
                            }
                            td.num.muted { (format::percent(u64::from(share.bps))) }
                            td.num { (parts::amount(share.amount)) }
                        }
                    }
                }
            }
        }
    }
}

fn card(view: &AttributionView, row: &Taught<'_>, palette: &Palette) -> Markup {
    let source = row.source;
    let spans: Vec<String> = row.spans.iter().map(|(at, _)| at.to_string()).collect();
    html! {
        li.source.weak[!row.counts()] id={ "source-" (source.datanet) "-" (source.row) } data-spans=(spans.join(" ")) {
            header {
                span class={ "chip " (palette.class(source.address)) } { (palette.letter(source.address)) }
                (parts::wallet(Some(&source.contributor), source.address))
                (parts::row(source.datanet, source.row))
                button.pick type="button" data-pick aria-pressed="false" hidden { "Show in answer" }
            }
            p.excerpt { (excerpt(view, row)) }
            p.why {
                @for (at, paid) in &row.spans {
                    @let span = &view.spans[*at];
                    a.method href={ "#span-" (at) } title=(describe(span)) {
                        "passage · " (span.token_end.saturating_sub(span.token_start)) " tokens"
                        @if *paid { " · paid" } @else if span.admissible { " · later copy" } @else { " · common" }
                    }
                }
                @if let Some(score) = row.score {
                    span.method { "gradient " span.mono { (format::cosine(score.score)) } @if score.above_floor {} @else if score.score < 0 { " · against" } @else { " · noise" } }
                }
            }
        }
    }
}

/// The row's text around its longest shared passage, which is marked.
fn excerpt(view: &AttributionView, row: &Taught<'_>) -> Markup {
    let text = row.source.text.as_str();
    let found = row
        .spans
        .iter()
        .map(|(at, _)| view.spans[*at].text.trim())
        .filter(|span| !span.is_empty())
        .max_by_key(|span| span.len())
        .and_then(|span| text.find(span).map(|at| (at, at + span.len())));
    let Some((start, end)) = found else {
        return html! { (format::cut(text, 220)) };
    };
    let before = &text[..start];
    // Up to sixty characters of context, from a word's beginning.
    let from = before.char_indices().rev().nth(60).map_or(0, |(at, _)| {
        before[at..].find(' ').map_or(at, |space| at + space + 1)
    });
    html! {
        @if from > 0 { "…" } (before[from..]) mark { (text[start..end]) } (format::cut(&text[end..], 120))
    }
}

fn influence_table(view: &AttributionView) -> Markup {
    html! {
        details.twin {
            summary { "The scores as a table" }
            div.scroll { table {
                thead { tr { th scope="col" { "Row" } th scope="col" { "Contributor" } th.num scope="col" { "Cosine" } th.num scope="col" { "Units of 2⁻²⁰" } th scope="col" { "Counts" } } }
                tbody {
                    @for row in &view.rows {
                        tr {
                            td { (parts::row(row.source.datanet, row.source.row)) }
                            td { (row.source.contributor) }
                            td.num { (format::cosine(row.score)) }
                            td.num { (row.score) }
                            td { @if row.above_floor { "yes" } @else if row.score < 0 { "no, against the answer" } @else { "no, below the floor" } }
                        }
                    }
                }
            } }
        }
    }
}

fn receipt(frame: &Frame, view: &AttributionView) -> Markup {
    let receipt = &view.receipt;
    html! {
        section.card aria-labelledby="receipt" {
            div.card-head { h2 #receipt { "Receipt" } @match view.epoch {
                Some(epoch) => a href={ "/epochs#epoch-" (epoch) } { "settled in epoch " (epoch) },
                None => span.muted { "waits for the epoch to close" },
            } }
            dl.facts {
                dt { "Receipt" } dd { (parts::hash(receipt.digest)) }
                @if let Some(digest) = view.digest { dt { "Attribution report" } dd { (parts::hash(digest)) } }
                dt { "Fee" } dd { (parts::amount(receipt.fee)) " OPEN" }
                dt { "Tokens" } dd { (format::count(receipt.prompt_tokens.into())) " in, " (format::count(receipt.output_tokens.into())) " out" }
                dt { "Payer" } dd { (parts::address(receipt.payer)) }
                dt { "Operator" } dd { (parts::address(receipt.operator)) }
                dt { "Operator's signature" } dd { span.hash { span.mono title=(receipt.signature) { (format::shorten(&receipt.signature)) } (parts::copy(&receipt.signature, "signature")) } }
                dt { "Prompt" } dd { (parts::hash(receipt.prompt_digest)) }
                dt { "Output" } dd { (parts::hash(receipt.output_digest)) }
                dt { "Activations" } dd { (parts::hash(receipt.activation)) }
                dt { "Parameters in force" } dd { (parts::hash(view.parameters)) }
                dt { "Signed" } dd { (parts::time(frame.now, receipt.created)) }
            }
            @if !view.verify.is_empty() {
                h3 { "Recompute every number here" }
                (parts::code(&view.verify, "verify command"))
            }
        }
    }
}
