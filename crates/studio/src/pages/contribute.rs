//! `/datanets/{id}/contribute`: a file, its columns, a verdict on each row, a signature, a receipt.

use maud::{Markup, html};
use openledger_node::view::{ContributionReceipt, DatanetSummary, JudgeView};

use crate::{
    format,
    layout::{Frame, Page, heading},
    parts,
};

/// What is known about the file so far.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// The file's name.
    pub file: String,
    /// Its columns.
    pub columns: Vec<String>,
    /// Columns used as text: one of plain text, or question and answer.
    pub text: Vec<String>,
    /// Column that names the contributor; `None` uses `name` for all rows.
    pub contributor: Option<String>,
    /// Name of the contributor of all rows.
    pub name: String,
}

impl Draft {
    /// Whether all rows are one person's, who has not said a name yet.
    pub(crate) fn awaits_name(&self) -> bool {
        !self.columns.is_empty() && self.contributor.is_none() && self.name.is_empty()
    }
}

/// The page; `step` is what [`verdicts`] made of a file that was sent without scripts.
pub fn contribute(frame: &Frame, net: &DatanetSummary, step: Option<Markup>) -> Markup {
    let action = format!("/datanets/{}/contribute", net.id);
    let check = format!("{action}/verdicts");
    let net_link = format!("/datanets/{}", net.id);
    Page {
        title: "Contribute",
        section: "/datanets",
        scripts: &["contribute.js"],
        body: html! {
            (heading(&[("Datanets", "/datanets"), (&net.name, &net_link)], "Contribute",
                html! { p { "Add rows to " strong { (net.name) } " under " (net.licence) ". You see a verdict on every row before anything is signed." } },
                html! {}))
            form.wizard method="post" action=(check) enctype="multipart/form-data" data-drop
                hx-post=(check) hx-target="#verdicts" hx-trigger="change, submit" hx-sync="this:replace" {
                fieldset {
                    legend { span.n { "1" } "File" }
                    label.drop for="file" {
                        (parts::icon("upload"))
                        span { strong { "Drop a JSONL file" } " or choose one" }
                        span.muted data-file-name { "One JSON object a line, up to 16 MB. It stays on this machine until you sign." }
                        input #file type="file" name="file" required accept=".jsonl,.ndjson,.json,application/x-ndjson";
                    }
                    noscript { button.button type="submit" { "Check the rows" } }
                }
                div #verdicts aria-live="polite" {
                    @if let Some(step) = step { (step) }
                }
            }
            form #commit method="post" action=(action) data-busy="Signing and anchoring…" {}
        },
        ..Page::default()
    }
    .render(frame)
}

/// Columns and verdicts: what follows the file. `judged` is the judgement or why there is none.
pub fn verdicts(frame: &Frame, draft: &Draft, judged: Result<&JudgeView, &str>) -> Markup {
    html! {
        (mapping(draft))
        @match judged {
            // Nobody did anything wrong yet.
            Err(_) if draft.awaits_name() => p.note { "Enter your name to see the verdicts: the rows are paid to its wallet." },
            Err(problem) => div.alert role="alert" { strong { "This file cannot be checked. " } (problem) },
            Ok(view) => {
                fieldset {
                    legend { span.n { "3" } "Verdicts" }
                    (judgement(view))
                }
                (signing(frame, view))
            },
        }
    }
}

fn mapping(draft: &Draft) -> Markup {
    html! {
        @if !draft.columns.is_empty() {
            fieldset {
                legend { span.n { "2" } "Columns" }
                div.mapping {
                    div role="group" aria-labelledby="text-columns" {
                        p #text-columns.label { "Text" }
                        @for column in &draft.columns {
                            label.check { input type="checkbox" name="text" value=(column) checked[draft.text.contains(column)]; span.mono { (column) } }
                        }
                        p.muted.small { "One column is plain text. Two are question and answer, in this order." }
                    }
                    div {
                        label.label for="contributor" { "Contributor" }
                        select #contributor name="contributor" {
                            option value="" selected[draft.contributor.is_none()] { "All rows are mine" }
                            @for column in &draft.columns {
                                option value=(column) selected[draft.contributor.as_ref() == Some(column)] { "Column “" (column) "”" }
                            }
                        }
                        @if draft.contributor.is_none() {
                            label.label for="name" { "Your name" }
                            input #name type="text" name="name" value=(draft.name) required maxlength="80" autocomplete="name";
                        } @else {
                            input type="hidden" name="name" value=(draft.name);
                            p.muted.small { "Each name in this column gets its own wallet." }
                        }
                    }
                }
            }
        }
    }
}

fn judgement(view: &JudgeView) -> Markup {
    let shown = view.verdicts.len() as u64;
    let all = view.accepted + view.rejected;
    html! {
        p.summary-line {
            (parts::badge("accepted")) " " strong { (format::count(view.accepted)) }
            span.gap {}
            (parts::badge("refused")) " " strong { (format::count(view.rejected)) }
            @if view.rejected > 0 {
                label.check.end { input type="checkbox" data-only-rejected; "Only refused rows" }
            }
        }
        @if view.verdicts.is_empty() {
            (parts::empty("No row in this file", "Each line must be one JSON object."))
        } @else {
            div.card.flush.scroll.tall tabindex="0" role="region" aria-label="Verdict on each row" {
                table data-verdicts {
                    thead { tr { th.num scope="col" { "Line" } th scope="col" { "Verdict" } th scope="col" { "Row" } } }
                    tbody {
                        @for verdict in &view.verdicts {
                            tr data-accepted[verdict.reason.is_none()] {
                                td.num { (format::count(verdict.line)) }
                                td.nowrap { @match &verdict.reason {
                                    None => (parts::badge("accepted")),
                                    Some(reason) => span.reason title=(reason) { (format::reason(reason)) },
                                } }
                                td.evidence {
                                    (format::cut(&verdict.text, 160))
                                    @if verdict.reason.is_some() && !verdict.evidence.is_empty() { br; small.muted { (format::cut(&verdict.evidence, 200)) } }
                                }
                            }
                        }
                    }
                }
            }
            @if all > shown { p.muted { "The first " (format::count(shown)) " of " (format::count(all)) " rows." } }
        }
    }
}

fn signing(frame: &Frame, view: &JudgeView) -> Markup {
    html! {
        fieldset {
            legend { span.n { "4" } "Sign" }
            @if view.accepted == 0 {
                p.muted { "There is no row to sign: every one was refused." }
            } @else {
                p {
                    (format::plural(view.accepted, "row", "rows")) " will be signed (EIP-712) and anchored on the chain. A bond of "
                    strong { (parts::open(view.bond)) } " is locked until the challenge window has passed; it is lost only for rows that turn out to be copies."
                }
                @if frame.dev {
                    p.note { strong { "This is the dev chain." } " The node keeps a key for each contributor's name and signs with it, so no wallet is asked. On any other chain the contributor's own wallet must sign." }
                    div.actions { button.button type="submit" form="commit" name="ticket" value=(view.ticket) { "Sign and contribute " (format::plural(view.accepted, "row", "rows")) } }
                } @else {
                    p.note { "On this chain the contributor's own wallet must sign each row. This node holds no keys here, and signing with a browser wallet is not built yet." }
                }
            }
        }
    }
}

/// The receipt.
pub fn contributed(frame: &Frame, net: &DatanetSummary, receipt: &ContributionReceipt) -> Markup {
    let net_link = format!("/datanets/{}", net.id);
    Page {
        title: "Contribution receipt",
        section: "/datanets",
        body: html! {
            (heading(&[("Datanets", "/datanets"), (&net.name, &net_link)], "Thank you. It is on the chain.",
                html! { p { (format::plural(receipt.accepted, "row counts", "rows count")) " in version " (receipt.version) " of " strong { (net.name) } "." } },
                html! { a.button href={ "/studio/new?datanet=" (net.id) } { "Tune a model on it" } a.button.quiet href=(net_link) { "See the Datanet" } }))
            section.card aria-labelledby="receipt" {
                h2 #receipt { "Receipt" }
                dl.facts {
                    dt { "Rows accepted" } dd { (format::count(receipt.accepted)) }
                    dt { "Rows refused" } dd { (format::count(receipt.rejected)) }
                    dt { "Batch root" } dd { (parts::hash(receipt.root)) }
                    @for (what, tx) in &receipt.txs { dt { (format::reason(what)) } dd { (parts::tx(*tx)) } }
                }
            }
            section.card aria-labelledby="wallets" {
                h2 #wallets { "Wallets that will be paid" }
                div.scroll { table {
                    thead { tr { th scope="col" { "Contributor" } th scope="col" { "Wallet" } } }
                    tbody { @for (name, address) in &receipt.wallets { tr { td { (parts::wallet(Some(name), *address)) } td { (parts::address(*address)) } } } }
                } }
            }
        },
        ..Page::default()
    }
    .render(frame)
}
