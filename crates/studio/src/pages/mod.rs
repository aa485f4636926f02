//! One function a page: read models in, HTML out. No page asks the node or a clock.

mod attribution;
mod chat;
mod contribute;
mod datanets;
mod explorer;
mod layers;
mod models;
mod overview;
mod runs;
mod settlement;
mod tune;
mod wallets;

pub use attribution::{attribution, panel};
pub use chat::chat;
pub use contribute::{Draft, contribute, contributed, verdicts};
pub use datanets::{DatanetTab, datanet, datanets};
pub use explorer::{block, explorer, transaction};
pub use layers::{batch, layers};
pub use models::{model, models};
pub use overview::overview;
pub use runs::{run, runs};
pub use settlement::epochs;
pub use tune::{Choice, Settings, no_presets, presets, tune};
pub use wallets::{wallet, wallets};

use maud::{Markup, html};

use crate::layout::{Frame, Page, heading};

/// A page for what went wrong: `title` says what, `words` what to do about it.
pub fn failure(frame: &Frame, title: &str, words: &str) -> Markup {
    Page {
        title,
        topics: &[],
        body: html! {
            (heading(&[], title, html! { p { (words) } }, html! {}))
            p { a.button href="/" { "Go to the overview" } }
        },
        ..Page::default()
    }
    .render(frame)
}
