//! `/studio/new`: three choices and a name start a tuning run.

use maud::{Markup, html};
use openledger_node::view::{DatanetSummary, ModelSummary, PresetView};

use crate::{
    format,
    layout::{Frame, Page, heading},
    parts,
};

/// What is chosen so far.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Datanet.
    pub datanet: Option<u64>,
    /// Preset.
    pub preset: Option<String>,
    /// The model's name.
    pub name: String,
    /// Why the last attempt was refused.
    pub error: Option<String>,
}

/// The wizard. `memory` is what this machine has free, in bytes, if it is known.
pub fn tune(
    frame: &Frame,
    datanets: &[DatanetSummary],
    bases: &[ModelSummary],
    list: &[PresetView],
    choice: &Choice,
    memory: Option<u64>,
) -> Markup {
    Page {
        title: "New tuning run",
        section: "/runs",
        body: html! {
            (heading(&[("Tuning runs", "/runs")], "Tune a model",
                html! { p { "Pick what it should learn and how long it may take. Everything else has a sound default, written into the run's record." } },
                html! {}))
            @if let Some(error) = &choice.error { div.alert role="alert" { strong { "Not started. " } (error) } }
            @if datanets.is_empty() {
                (parts::empty("There is no Datanet to learn from", html! { a href="/datanets" { "Contribute data first" } "." }))
            } @else {
                form.wizard method="post" action="/studio/new" {
                    fieldset {
                        legend { span.n { "1" } "Datanet" }
                        div.options hx-get="/studio/presets" hx-trigger="change" hx-include="closest form" hx-target="#presets" {
                            @for net in datanets {
                                label.option {
                                    input type="radio" name="datanet" value=(net.id) required checked[choice.datanet == Some(net.id)];
                                    span { strong { (net.name) } span.muted { (format::plural(net.accepted, "row", "rows")) " · " (format::plural(net.contributors, "contributor", "contributors")) " · " (net.licence) } }
                                }
                            }
                        }
                    }
                    fieldset {
                        legend { span.n { "2" } "Base model" }
                        div.options {
                            @for (at, base) in bases.iter().enumerate() {
                                label.option {
                                    input type="radio" name="base" value=(base.id) required checked[at == 0];
                                    span { strong.mono { (base.id) } span.muted { (format::parameters(base.parameters)) " parameters" } }
                                }
                            }
                        }
                    }
                    fieldset {
                        legend { span.n { "3" } "How thorough" }
                        div #presets.options aria-live="polite" { (presets(list, choice.preset.as_deref(), memory)) }
                    }
                    fieldset {
                        legend { span.n { "4" } label for="name" { "Name" } }
                        input #name type="text" name="name" value=(choice.name) required minlength="3" maxlength="64" pattern="[a-z0-9._\\-]+"
                            placeholder="garden-helper" autocomplete="off" spellcheck="false" aria-describedby="name-help";
                        p #name-help.muted { "At least three small letters, digits, hyphens, dots or underscores. It is the model's name in the API." }
                    }
                    div.actions { button.button type="submit" { "Start tuning" } }
                }
            }
        },
        ..Page::default()
    }
    .render(frame)
}

/// The presets of one Datanet as choices, with what they take in words.
pub fn presets(list: &[PresetView], chosen: Option<&str>, memory: Option<u64>) -> Markup {
    html! {
        @if list.is_empty() { p.muted { "Choose a Datanet to see how long each would take." } }
        @for (at, preset) in list.iter().enumerate() {
            label.option {
                input type="radio" name="preset" value=(preset.name) required
                    checked[chosen.map_or(at == 0, |name| name == preset.name)];
                span {
                    strong { (format::reason(&preset.name)) }
                    span { (format::sentence(&preset.about)) }
                    span.muted { (format::plural(preset.steps, "step", "steps")) ", about " (format::duration(preset.seconds)) }
                    span.muted { (fit(preset.memory_bytes, memory)) }
                }
            }
        }
    }
}

/// Whether the run fits into memory, in words.
fn fit(needs: u64, free: Option<u64>) -> String {
    let size = format::bytes(needs);
    match free {
        None => format!("Needs {size} of memory"),
        Some(free) if needs > free => format!(
            "Needs {size} of memory, but only {} are free: close something first",
            format::bytes(free)
        ),
        Some(free) if needs > free / 10 * 7 => {
            format!(
                "Needs {size} of memory, most of the {} free",
                format::bytes(free)
            )
        }
        Some(free) => format!(
            "Needs {size} of memory, fits well ({} free)",
            format::bytes(free)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fit_is_said_in_words() {
        assert!(fit(1 << 30, Some(1 << 20)).contains("close something first"));
        assert!(fit(1 << 20, Some(1 << 30)).contains("fits well"));
        assert!(fit(9 << 27, Some(10 << 27)).contains("most of"));
    }
}
