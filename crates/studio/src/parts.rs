//! The small pieces that every page is made of.

use maud::{Markup, Render, html};
use openledger_primitives::{Address, B256, Wei};

use crate::format;

/// An amount in a column: aligned on the decimal point, exact on hover.
pub(crate) fn amount(value: Wei) -> Markup {
    let shown = format::amount(value);
    let zero = value.is_zero();
    html! {
        span.amount title={ (value) " wei" } {
            (shown.digits) span.pad.void[zero] aria-hidden="true" { (shown.padding) }
        }
    }
}

/// An amount inside a sentence, with its unit.
pub(crate) fn open(value: Wei) -> Markup {
    html! { span.nowrap title={ (value) " wei" } { (format::amount_short(value)) " OPEN" } }
}

/// A time: how long ago, with the exact moment on hover and for machines.
pub(crate) fn time(now: u64, unix: u64) -> Markup {
    let iso = format::iso(unix);
    html! { time datetime=(iso) title=(iso) data-time=(unix) { (format::ago(now, unix)) } }
}

/// A button that copies `text`; hidden until the page's script can serve it.
pub(crate) fn copy(text: &str, what: &str) -> Markup {
    html! {
        button.copy type="button" data-copy=(text) aria-label={ "Copy " (what) } title="Copy" hidden {
            (icon("copy"))
        }
    }
}

/// A wallet: its name if we know it, else its shortened address; always a link.
pub(crate) fn wallet(name: Option<&str>, address: Address) -> Markup {
    let full = address.to_checksum(None);
    html! {
        a.wallet href={ "/wallet/" (full) } title=(full) {
            @match name {
                Some(name) => (name),
                None => span.mono { (format::short_address(address)) },
            }
        }
    }
}

/// An address with a copy button.
pub(crate) fn address(value: Address) -> Markup {
    let full = value.to_checksum(None);
    html! {
        span.hash {
            a.mono href={ "/wallet/" (full) } title=(full) { (format::short_address(value)) }
            (copy(&full, "address"))
        }
    }
}

/// A digest, shortened, with a copy button.
pub(crate) fn hash(value: B256) -> Markup {
    let full = value.to_string();
    html! {
        span.hash {
            span.mono title=(full) { (format::shorten(&full)) }
            (copy(&full, "hash"))
        }
    }
}

/// A transaction hash that leads to the explorer.
pub(crate) fn tx(value: B256) -> Markup {
    let full = value.to_string();
    html! {
        span.hash {
            a.mono href={ "/explorer/tx/" (full) } title=(full) { (format::shorten(&full)) }
            (copy(&full, "transaction hash"))
        }
    }
}

/// A row of a Datanet as a link into its table.
pub(crate) fn row(datanet: u64, row: u32) -> Markup {
    html! { a.mono href={ "/datanets/" (datanet) "?row=" (row) } { "row " (row) } }
}

/// A model's name as a link.
pub(crate) fn model(id: &str) -> Markup {
    html! { a.mono href={ "/models/" (format::segment(id)) } { (id) } }
}

/// One headline figure.
pub(crate) fn stat(label: &str, value: impl Render, note: impl Render) -> Markup {
    html! {
        div.stat {
            dt { (label) }
            dd { strong { (value) } small { (note) } }
        }
    }
}

/// What a page says where there is nothing yet, and what to do about it.
pub(crate) fn empty(title: &str, words: impl Render) -> Markup {
    html! {
        div.empty {
            (icon("empty"))
            p { strong { (title) } }
            p.muted { (words) }
        }
    }
}

/// A status with a mark besides its colour.
pub(crate) fn badge(status: &str) -> Markup {
    let (kind, mark) = match status {
        "succeeded" | "active" | "ready" | "accepted" | "success" | "arrived" | "finalized"
        | "safe" => ("good", "✓"),
        "failed" | "disabled" | "refused" | "reverted" => ("bad", "✕"),
        "running" | "posted" | "pending" | "provable" | "proven" => ("busy", "●"),
        "paused" => ("idle", "‖"),
        _ => ("idle", "○"),
    };
    html! {
        span class={ "badge " (kind) } { span aria-hidden="true" { (mark) } (status) }
    }
}

/// Links to the parts of one page; the chosen one is marked for screen readers too.
pub(crate) fn tabs(label: &str, items: &[(String, String, Option<u64>)], chosen: &str) -> Markup {
    html! {
        nav.tabs aria-label=(label) {
            @for (name, href, total) in items {
                a href=(href) aria-current=[(name == chosen).then_some("page")] {
                    (name)
                    @if let Some(total) = total { span.count { (format::count(*total)) } }
                }
            }
        }
    }
}

/// Earlier / later links of a long list. `link` makes the address of an offset.
pub(crate) fn pager(
    offset: usize,
    shown: usize,
    total: usize,
    limit: usize,
    link: impl Fn(usize) -> String,
) -> Markup {
    let end = offset + shown;
    html! {
        @if total > shown {
            nav.pager aria-label="Pages" {
                @if offset > 0 {
                    a.button.quiet href=(link(offset.saturating_sub(limit))) rel="prev" { "← Previous" }
                }
                span.muted { (format::count(offset as u64 + 1)) "–" (format::count(end as u64)) " of " (format::count(total as u64)) }
                @if end < total {
                    a.button.quiet href=(link(end)) rel="next" { "Next →" }
                }
            }
        }
    }
}

/// A command or snippet with a copy button.
pub(crate) fn code(text: &str, what: &str) -> Markup {
    html! {
        div.code {
            pre tabindex="0" role="region" aria-label=(what) { code { (text) } }
            (copy(text, what))
        }
    }
}

/// One of the outline icons; drawn here so that no page needs another file or an inline style.
pub(crate) fn icon(name: &str) -> Markup {
    let path = match name {
        "copy" => {
            "M9 9V5.5A1.5 1.5 0 0 1 10.5 4h8A1.5 1.5 0 0 1 20 5.5v8a1.5 1.5 0 0 1-1.5 1.5H15M5.5 9h8A1.5 1.5 0 0 1 15 10.5v8a1.5 1.5 0 0 1-1.5 1.5h-8A1.5 1.5 0 0 1 4 18.5v-8A1.5 1.5 0 0 1 5.5 9Z"
        }
        "theme" => {
            "M12 3.5v2M12 18.5v2M3.5 12h2M18.5 12h2M6 6l1.4 1.4M16.6 16.6 18 18M6 18l1.4-1.4M16.6 7.4 18 6M12 8.5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7Z"
        }
        "upload" => {
            "M12 15.5v-11M7.5 8.5 12 4l4.5 4.5M4.5 15.5v3A1.5 1.5 0 0 0 6 20h12a1.5 1.5 0 0 0 1.5-1.5v-3"
        }
        "arrow" => "M5 12h14M13 6l6 6-6 6",
        _ => "M4 6.5h16M4 12h10M4 17.5h6",
    };
    html! {
        svg.icon viewBox="0 0 24 24" aria-hidden="true" focusable="false" { path d=(path) {} }
    }
}
