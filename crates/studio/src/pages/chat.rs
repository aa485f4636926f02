//! `/chat`: ask a model and see who taught it the answer.

use maud::{Markup, html};
use openledger_node::view::{CompletionSummary, ModelSummary};

use crate::{
    format,
    layout::{Frame, Page},
    parts,
};

/// The chat. `chosen` is the model to start with, `examples` prompts that its rows know about,
/// `key` the dev chain's API key, `latest` earlier answers.
pub fn chat(
    frame: &Frame,
    models: &[ModelSummary],
    chosen: Option<&str>,
    examples: &[String],
    key: Option<&str>,
    latest: &[CompletionSummary],
) -> Markup {
    let adapters = models.iter().filter(|m| m.parent.is_some());
    let bases = models.iter().filter(|m| m.parent.is_none());
    Page {
        title: "Chat",
        section: "/chat",
        topics: &["block", "attribution:*"],
        json: Some("/v1/completions"),
        scripts: &["sources.js", "chat.js"],
        body: html! {
            h1.visually-hidden { "Chat" }
            div.chat data-chat data-key=[key] {
                section.talk aria-label="Conversation" {
                    form.picker method="get" action="/chat" {
                        label for="model" { "Model" }
                        select #model name="model" data-model {
                            @for model in adapters { option value=(model.id) selected[Some(model.id.as_str()) == chosen] { (model.id) } }
                            @for model in bases { option value=(model.id) selected[Some(model.id.as_str()) == chosen] { (model.id) " (base, no attribution)" } }
                        }
                        noscript { button.button.quiet type="submit" { "Choose" } }
                        details.settings {
                            summary { "Settings" }
                            div.settings-body {
                                label { "Length, tokens" input type="number" data-max-tokens min="1" max="512" value="80" inputmode="numeric"; }
                                label { "Temperature" input type="number" data-temperature min="0" max="2" step="0.1" value="0" inputmode="decimal"; }
                                label.check { input type="checkbox" data-context; "Send the whole conversation" }
                                @if key.is_none() { label { "API key" input type="password" data-api-key autocomplete="off"; } }
                            }
                        }
                    }
                    ol.messages data-messages aria-live="polite" aria-relevant="additions" {
                        li.welcome data-welcome {
                            p.big { "Ask, then see who taught it." }
                            p.muted { "Each answer is traced to the rows it learned from. Parts that stand in the training rows are marked in the colour of the person who wrote them." }
                            @if !examples.is_empty() {
                                p.muted.small { "People wrote about these:" }
                                div.examples {
                                    @for example in examples { button.example type="button" data-example=(example) { (format::cut(example, 90)) } }
                                }
                            }
                        }
                    }
                    noscript { p.alert { "Asking needs JavaScript. The answers below can be read without it." } }
                    form.composer data-composer {
                        label.visually-hidden for="ask" { "Your message" }
                        textarea #ask name="message" rows="2" required maxlength="8000" placeholder="Ask a question…" enterkeyhint="send" {}
                        button.button type="submit" data-send { "Send" }
                        button.button.quiet type="button" data-stop hidden { "Stop" }
                    }
                    p.hint.muted { "Enter sends, Shift and Enter makes a new line." @if key.is_some() { " The dev chain's payer pays the fee." } }
                }
                aside.taught-pane aria-label="Who taught this?" {
                    div #taught data-panel {
                        div.card-head { h2 { "Who taught this?" } }
                        (parts::empty("No answer yet", "The people whose rows shaped an answer appear here, with their share of the fee."))
                    }
                }
            }
            section.card aria-labelledby="earlier" {
                div.card-head { h2 #earlier { "Earlier answers" } }
                (recent(frame, latest))
            }
        },
    }
    .render(frame)
}

/// Answers given, newest first, each with a link to its trace.
pub(super) fn recent(frame: &Frame, list: &[CompletionSummary]) -> Markup {
    html! {
        @if list.is_empty() {
            (parts::empty("No answer yet", html! { "Ask a model something in the " a href="/chat" { "chat" } " or over the API." }))
        } @else {
            div.scroll {
                table {
                    thead { tr { th scope="col" { "Question and answer" } th scope="col" { "Model" } th scope="col" { "When" } th.num scope="col" { "Fee (OPEN)" } } }
                    tbody {
                        @for item in list {
                            tr {
                                td.exchange {
                                    a href={ "/attributions/" (format::segment(&item.id)) } { (format::cut(asked(&item.prompt), 100)) }
                                    span.muted { (format::cut(&item.answer, 130)) }
                                }
                                td.model { (parts::model(&item.model)) }
                                td.nowrap.muted { (parts::time(frame.now, item.created)) }
                                td.num { (parts::amount(item.fee)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What somebody asked, without the frame that a question is put into for the model. The whole
/// prompt is on the answer's own page.
fn asked(prompt: &str) -> &str {
    let bare = prompt.trim();
    let bare = bare.strip_suffix("Answer:").unwrap_or(bare).trim_end();
    let bare = bare.strip_prefix("Question:").unwrap_or(bare).trim_start();
    // A link needs something to click on.
    if bare.is_empty() {
        "(empty prompt)"
    } else {
        bare
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_shows_the_question_only() {
        assert_eq!(
            asked("Question: What is a cache?\nAnswer: "),
            "What is a cache?"
        );
        assert_eq!(asked("Once upon a time "), "Once upon a time");
        assert_eq!(asked(" "), "(empty prompt)");
    }
}
