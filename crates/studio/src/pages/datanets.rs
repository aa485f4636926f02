//! `/datanets` and `/datanets/{id}`: who contributed what, what was refused and why.

use maud::{Markup, html};
use openledger_node::view::{
    ContributorLine, DatanetSummary, DatanetView, ModelSummary, Page as List, RejectionView,
    RowView, VersionView,
};

use crate::{
    chart, format,
    layout::{Frame, Page, heading},
    parts,
};

/// All Datanets.
pub fn datanets(frame: &Frame, list: &[DatanetSummary]) -> Markup {
    Page {
        title: "Datanets",
        section: "/datanets",
        json: Some("/v1/datanets"),
        body: html! {
            (heading(&[], "Datanets",
                html! { p { "A Datanet is a growing set of rows on one subject. Each row has one contributor, a signature and a place on the chain; rows that are copies, spam or personal data are refused with a reason." } },
                html! {}))
            @if list.is_empty() {
                (parts::empty("No Datanet yet", "The first one is registered when the loop starts."))
            }
            div.tiles {
                @for net in list {
                    article.card.tile {
                        div.card-head {
                            h2 { a.cover href={ "/datanets/" (net.id) } { (net.name) } }
                            span.tag { (net.licence) }
                        }
                        dl.stats.small {
                            (parts::stat("Rows", format::count(net.accepted), format!("{} refused", format::count(net.rejected))))
                            (parts::stat("Contributors", format::count(net.contributors), format!("version {}", net.version)))
                            (parts::stat("Earned", format::amount_short(net.earned), "OPEN"))
                        }
                    }
                }
            }
        },
        ..Page::default()
    }
    .render(frame)
}

/// The tab of a Datanet's page, with what it shows.
#[derive(Clone, Copy, Debug)]
pub enum DatanetTab<'a> {
    /// Accepted rows, of one contributor or of all, and their page size.
    Data(&'a List<RowView>, Option<&'a str>, usize),
    /// One row.
    Row(&'a RowView),
    /// Contributors.
    Contributors,
    /// Refused rows and their page size.
    Rejected(&'a List<RejectionView>, usize),
    /// Versions with their roots.
    Versions,
    /// Models tuned on it.
    Models,
}

impl DatanetTab<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Data(..) | Self::Row(_) => "Data",
            Self::Contributors => "Contributors",
            Self::Rejected(..) => "Refused",
            Self::Versions => "Versions",
            Self::Models => "Models",
        }
    }
}

/// One Datanet.
pub fn datanet(frame: &Frame, view: &DatanetView, tab: DatanetTab<'_>) -> Markup {
    let net = &view.summary;
    let base = format!("/datanets/{}", net.id);
    let json = format!("/v1/datanets/{}", net.id);
    let link = |name: &str, slug: &str, total: u64| {
        (name.to_owned(), format!("{base}?tab={slug}"), Some(total))
    };
    let tabs = [
        link("Data", "data", net.accepted),
        link(
            "Contributors",
            "contributors",
            view.contributors.len() as u64,
        ),
        link("Refused", "refused", net.rejected),
        link("Versions", "versions", view.versions.len() as u64),
        link("Models", "models", view.models.len() as u64),
    ];
    Page {
        title: &net.name,
        section: "/datanets",
        json: Some(&json),
        body: html! {
            (heading(&[("Datanets", "/datanets")], &net.name,
                html! { p { "From " span.mono { (view.source) } ", licensed " (net.licence) ". Version " (net.version) " is on the chain." } },
                html! {
                    a.button href={ (base) "/contribute" } { "Contribute" }
                    a.button.quiet href={ "/studio/new?datanet=" (net.id) } { "Tune a model on it" }
                }))
            dl.stats {
                (parts::stat("Rows that count", format::count(net.accepted), format!("{} refused", format::count(net.rejected))))
                (parts::stat("Contributors", format::count(net.contributors), "with an accepted row"))
                (parts::stat("Earned so far", format::amount_short(net.earned), "OPEN in settled epochs"))
                (parts::stat("Models", format::count(view.models.len() as u64), "tuned on it"))
            }
            (parts::tabs("Parts of this Datanet", &tabs, tab.name()))
            div.tab-panel {
                @match tab {
                    DatanetTab::Data(rows, who, limit) => (data(view, rows, who, limit)),
                    DatanetTab::Row(row) => (one_row(net.id, row)),
                    DatanetTab::Contributors => (contributors(net.id, &view.contributors)),
                    DatanetTab::Rejected(rows, limit) => (refused(view, rows, limit)),
                    DatanetTab::Versions => (versions(&view.versions)),
                    DatanetTab::Models => (model_list(&view.models)),
                }
            }
        },
        ..Page::default()
    }
    .render(frame)
}

fn data(view: &DatanetView, rows: &List<RowView>, who: Option<&str>, limit: usize) -> Markup {
    let id = view.summary.id;
    html! {
        div.columns.side {
            div {
                @if let Some(who) = who {
                    p.filter { "Only rows of " strong { (who) } " " a.button.quiet.small href={ "/datanets/" (id) } { "Show all rows" } }
                }
                @if rows.items.is_empty() {
                    (parts::empty("No accepted row here", "Rows appear once they are contributed and pass the checks."))
                } @else {
                    ol.rows {
                        @for row in &rows.items { li { (row_card(id, row)) } }
                    }
                }
                (parts::pager(rows.offset, rows.items.len(), rows.total, limit, |offset| {
                    match who {
                        Some(who) => format!("/datanets/{id}?contributor={}&offset={offset}", format::segment(who)),
                        None => format!("/datanets/{id}?offset={offset}"),
                    }
                }))
            }
            @if !view.by_field.is_empty() {
                aside aria-labelledby="fields" {
                    h2 #fields { "Fields of knowledge" }
                    (breakdown(&view.by_field, str::to_owned))
                }
            }
        }
    }
}

fn row_card(datanet: u64, row: &RowView) -> Markup {
    html! {
        article.row-card id={ "row-" (row.row) } {
            header {
                a.mono href={ "/datanets/" (datanet) "?row=" (row.row) } { "#" (row.row) }
                (parts::wallet(Some(&row.contributor), row.address))
                @if let Some(field) = &row.field { span.tag { (field) } }
                span.end title="Earned by this row in settled epochs" { (parts::amount(row.earned)) " OPEN" }
            }
            @if let Some(prompt) = &row.prompt { p.prompt { (format::cut(prompt, 240)) } }
            p.text { (format::cut(&row.text, 420)) }
        }
    }
}

fn one_row(datanet: u64, row: &RowView) -> Markup {
    html! {
        p.filter { a.button.quiet.small href={ "/datanets/" (datanet) } { "← All rows" } }
        article.row-card.whole {
            header {
                span.mono { "#" (row.row) }
                (parts::wallet(Some(&row.contributor), row.address))
                @if let Some(field) = &row.field { span.tag { (field) } }
                span.end { (parts::amount(row.earned)) " OPEN" }
            }
            @if let Some(prompt) = &row.prompt { p.prompt { (prompt) } }
            p.text { (row.text) }
        }
        dl.facts {
            dt { "Line in the source file" } dd { (format::count(row.line)) }
            dt { "Contribution record" } dd { (parts::hash(row.contribution)) }
            dt { "Contributor's wallet" } dd { (parts::address(row.address)) }
            dt { "Rows by the same person" } dd { a href={ "/datanets/" (datanet) "?contributor=" (format::segment(&row.contributor)) } { "Show them" } }
        }
    }
}

fn breakdown(items: &[(String, u64)], name: impl Fn(&str) -> String) -> Markup {
    let most = items.iter().map(|(_, n)| *n).max().unwrap_or(0);
    html! {
        ul.bars {
            @for (label, n) in items {
                li { span { (name(label)) } span.num { (format::count(*n)) } (chart::bar(*n, most)) }
            }
        }
    }
}

/// Contributors on one page; the JSON has all of them.
const PEOPLE: usize = 200;

fn contributors(datanet: u64, list: &[ContributorLine]) -> Markup {
    let shown = &list[..list.len().min(PEOPLE)];
    html! {
        @if list.is_empty() { (parts::empty("No contributor yet", "Be the first: contribute a file.")) }
        @else {
            div.card.flush.scroll {
                table {
                    thead { tr { th scope="col" { "Name" } th scope="col" { "Wallet" } th.num scope="col" { "Accepted" } th.num scope="col" { "Refused" } th.num scope="col" { "Earned (OPEN)" } } }
                    tbody {
                        @for line in shown {
                            tr {
                                td { a href={ "/datanets/" (datanet) "?contributor=" (format::segment(&line.name)) } { (line.name) } }
                                td { (parts::address(line.address)) }
                                td.num { (format::count(line.accepted)) }
                                td.num { (format::count(line.rejected)) }
                                td.num { (parts::amount(line.earned)) }
                            }
                        }
                    }
                }
            }
            @if shown.len() < list.len() {
                p.muted { "The " (format::count(shown.len() as u64)) " with most rows of " (format::count(list.len() as u64)) ". This page as JSON has all of them." }
            }
        }
    }
}

fn refused(view: &DatanetView, rows: &List<RejectionView>, limit: usize) -> Markup {
    let id = view.summary.id;
    html! {
        @if rows.total == 0 { (parts::empty("Nothing was refused", "Every row passed the checks.")) }
        @else {
            div.columns.side {
                div {
                    div.card.flush.scroll {
                        table {
                            thead { tr { th.num scope="col" { "Line" } th scope="col" { "Reason" } th scope="col" { "Evidence" } th scope="col" { "Contributor" } } }
                            tbody {
                                @for row in &rows.items {
                                    tr {
                                        td.num { (format::count(row.line)) }
                                        td.nowrap { span.reason title=(row.reason) { (format::reason(&row.reason)) } }
                                        td.evidence { (format::cut(&row.evidence, 240)) }
                                        td { @match &row.contributor { Some(name) => (name), None => span.muted { "unreadable" } } }
                                    }
                                }
                            }
                        }
                    }
                    (parts::pager(rows.offset, rows.items.len(), rows.total, limit, |offset| format!("/datanets/{id}?tab=refused&offset={offset}")))
                }
                aside aria-labelledby="reasons" {
                    h2 #reasons { "By reason" }
                    (breakdown(&view.by_reason, format::reason))
                }
            }
        }
    }
}

fn versions(list: &[VersionView]) -> Markup {
    html! {
        @if list.is_empty() { (parts::empty("No version yet", "A version is made with each anchored batch.")) }
        @for version in list {
            section.card {
                div.card-head { h2 { "Version " (version.number) } span.muted { (format::plural(version.accepted, "row", "rows")) } }
                dl.facts {
                    dt { "Record" } dd { (parts::hash(version.digest)) }
                    dt { "Rows root" } dd { (parts::hash(version.rows_root)) }
                    dt { "Clusters root" } dd { (parts::hash(version.clusters_root)) }
                    dt { "Policy" } dd { (parts::hash(version.policy_hash)) }
                    dt { "Anchored in" } dd { @match version.tx { Some(tx) => (parts::tx(tx)), None => span.muted { "not yet on the chain" } } }
                }
            }
        }
    }
}

/// Models as a table; also the list page's.
pub(super) fn model_list(list: &[ModelSummary]) -> Markup {
    html! {
        @if list.is_empty() {
            (parts::empty("No model yet", html! { "Tune one: " a href="/studio/new" { "pick a Datanet and a preset" } "." }))
        } @else {
            div.card.flush.scroll {
                table {
                    thead { tr { th scope="col" { "Model" } th scope="col" { "Made from" } th.num scope="col" { "Parameters" } th.num scope="col" { "Answers" } th.num scope="col" { "Fees (OPEN)" } th scope="col" { "Owner" } } }
                    tbody {
                        @for model in list {
                            tr {
                                td.model { (parts::model(&model.id)) }
                                td { @match &model.parent { Some(parent) => { "adapter on " (parts::model(parent)) }, None => span.muted { "base model" } } }
                                td.num title=(model.parameters) { (format::parameters(model.parameters)) }
                                td.num { (format::count(model.inferences)) }
                                td.num { (parts::amount(model.fees)) }
                                td { (parts::address(model.owner)) }
                            }
                        }
                    }
                }
            }
        }
    }
}
