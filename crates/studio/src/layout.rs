//! The frame around every page.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::{assets, format, parts};

/// What every page knows besides its own subject.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    /// Now, Unix seconds.
    pub now: u64,
    /// Number of the newest block.
    pub head: Option<u64>,
    /// Whether this is the dev chain, where the node holds everyone's keys.
    pub dev: bool,
    /// Said in the footer instead of nothing, such as where sample values come from.
    pub notice: Option<String>,
}

/// One page.
pub(crate) struct Page<'a> {
    /// Title, without the product's name.
    pub(crate) title: &'a str,
    /// Which entry of the navigation it belongs to: its path.
    pub(crate) section: &'a str,
    /// Topics of the event stream that it listens to; none opens no stream.
    pub(crate) topics: &'a [&'a str],
    /// The same content as JSON.
    pub(crate) json: Option<&'a str>,
    /// Scripts that it needs besides the common ones.
    pub(crate) scripts: &'a [&'a str],
    /// What is inside `main`.
    pub(crate) body: Markup,
}

impl Default for Page<'_> {
    fn default() -> Self {
        Self {
            title: "",
            section: "",
            topics: &["block"],
            json: None,
            scripts: &[],
            body: html! {},
        }
    }
}

const SECTIONS: [(&str, &str); 7] = [
    ("/", "Overview"),
    ("/datanets", "Datanets"),
    ("/models", "Models"),
    ("/runs", "Tuning"),
    ("/chat", "Chat"),
    ("/wallets", "Wallets"),
    ("/explorer", "Explorer"),
];

/// htmx without what the content security policy forbids anyway; an error never replaces what is
/// on the page, and no style attribute is carried over while settling.
const HTMX: &str = r#"{"includeIndicatorCSS":false,"history":false,"extensions":"sse","defaultSettleDelay":0,"noSwap":[204,304,"4xx","5xx"]}"#;

impl Page<'_> {
    /// The whole document.
    pub(crate) fn render(self, frame: &Frame) -> Markup {
        let topics = self.topics.join(",");
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (self.title) " · OpenLedger" }
                    meta name="description" content="People contribute data, models are tuned on it, every answer is traced to the data, and the people are paid.";
                    meta name="color-scheme" content="light dark";
                    meta name="htmx-config" content=(HTMX);
                    link rel="icon" href="/favicon.svg" type="image/svg+xml";
                    link rel="stylesheet" href=(assets::url("app.css"));
                    script src=(assets::url("theme.js")) {}
                    script src=(assets::url("vendor/htmx-4.0.1.min.js")) defer {}
                    script src=(assets::url("vendor/hx-sse-4.0.1.min.js")) defer {}
                    script src=(assets::url("app.js")) defer {}
                    @for script in self.scripts {
                        script src=(assets::url(script)) defer {}
                    }
                }
                body {
                    a.skip href="#main" { "Skip to content" }
                    (header(frame, self.section))
                    main #main tabindex="-1" { (self.body) }
                    (footer(frame, self.json))
                    div #status.visually-hidden role="status" aria-live="polite" {}
                    @if !topics.is_empty() {
                        div #live hidden hx-sse:connect={ "/events?topics=" (topics) } hx-swap="none" {}
                    }
                }
            }
        }
    }
}

fn header(frame: &Frame, section: &str) -> Markup {
    html! {
        header.top {
            div.inner {
                a.brand href="/" aria-label="OpenLedger, overview" { (logo()) span { "OpenLedger" } }
                nav.main aria-label="Main" {
                    @for (href, name) in SECTIONS {
                        a href=(href) aria-current=[(href == section).then_some("page")] { (name) }
                    }
                }
                @if let Some(head) = frame.head {
                    a.head href="/explorer" title="Newest block" {
                        span.pulse aria-hidden="true" {}
                        @if frame.dev { "dev chain " } @else { "chain " }
                        span.num data-live="block" { (format::count(head)) }
                    }
                }
                button.theme type="button" data-theme-button aria-label="Colours: as the system" hidden { (parts::icon("theme")) }
            }
        }
    }
}

fn footer(frame: &Frame, json: Option<&str>) -> Markup {
    html! {
        footer.bottom {
            div.inner {
                @match &frame.notice {
                    Some(notice) => p { (notice) },
                    None => @if frame.dev {
                        p { "Development chain on this machine: the coins are play money and the node holds all keys." }
                    } @else {
                        p { "Every number here can be recomputed from the chain and the records it names." }
                    },
                }
                nav aria-label="More" {
                    @if let Some(json) = json { a href=(json) { "This page as JSON" } }
                    a href="/epochs" { "Epochs" }
                    a href="/v1/models" { "API" }
                }
            }
        }
    }
}

/// Two pages of a ledger that share one line.
fn logo() -> Markup {
    PreEscaped(
        "<svg class=\"logo\" viewBox=\"0 0 24 24\" aria-hidden=\"true\" focusable=\"false\">\
         <path d=\"M12 6.2C9.9 4.6 7.1 4 3.5 4v14.2c3.6 0 6.4.6 8.5 2.2 2.1-1.6 4.9-2.2 8.5-2.2V4c-3.6 0-6.4.6-8.5 2.2Z\"/>\
         <path class=\"thread\" d=\"M6.5 9.4c2.2.2 3.6 1 5.5 2.6s3.3 2.400 5.5 2.600\"/></svg>"
            .to_owned(),
    )
}

/// The head of a page: where it stands, what it is, what one can do.
pub(crate) fn heading(
    crumbs: &[(&str, &str)],
    title: &str,
    lede: Markup,
    actions: Markup,
) -> Markup {
    html! {
        div.heading {
            div {
                @if !crumbs.is_empty() {
                    nav.crumbs aria-label="Breadcrumb" {
                        @for (name, href) in crumbs { a href=(href) { (name) } span aria-hidden="true" { "/" } }
                    }
                }
                h1 { (title) }
                div.lede { (lede) }
            }
            div.actions { (actions) }
        }
    }
}
