//! `/studio/new`: three choices and a name start a tuning run.

use maud::{Markup, html};
use openledger_node::view::{DatanetSummary, ModelSummary, PresetView};
use serde::Deserialize;
use serde_json::{Map, Value, json};

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
    /// How it trains.
    pub settings: Settings,
    /// Why the last attempt was refused.
    pub error: Option<String>,
}

/// How the run trains, as the form names it. Empty fields leave it to the preset.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Settings {
    /// `lora`, `dora` or `qlora`.
    #[serde(default)]
    pub method: String,
    /// `exact` or `fast`.
    #[serde(default)]
    pub arithmetic: String,
    /// Rank of the update.
    #[serde(default)]
    pub rank: String,
    /// Numerator of its scale.
    #[serde(default)]
    pub alpha: String,
    /// Peak learning rate.
    #[serde(default)]
    pub learning_rate: String,
    /// Passes over the rows.
    #[serde(default)]
    pub epochs: String,
    /// Which layers get an update: `all`, `attention` or `mlp`.
    #[serde(default)]
    pub targets: String,
}

/// Layers of a choice, by their PEFT names.
fn layers(targets: &str) -> Option<&'static [&'static str]> {
    match targets {
        "attention" => Some(&["q_proj", "k_proj", "v_proj", "o_proj"]),
        "mlp" => Some(&["gate_proj", "up_proj", "down_proj"]),
        _ => None,
    }
}

impl Settings {
    /// What is chosen, as settings of a recipe over the preset.
    pub fn to_json(&self) -> Value {
        let mut recipe = Map::new();
        let mut lora = Map::new();
        // A number is sent as one; anything else as it was typed, for the engine to refuse by name.
        let number = |text: &str| -> Option<Value> {
            let text = text.trim();
            (!text.is_empty()).then(|| serde_json::from_str(text).unwrap_or_else(|_| text.into()))
        };
        for (name, text, usual) in [
            ("method", &self.method, "lora"),
            ("arithmetic", &self.arithmetic, "exact"),
        ] {
            if !text.is_empty() && text != usual {
                recipe.insert(name.into(), text.as_str().into());
            }
        }
        for (name, text) in [("rank", &self.rank), ("alpha", &self.alpha)] {
            lora.extend(number(text).map(|value| (name.to_owned(), value)));
        }
        if let Some(names) = layers(&self.targets) {
            lora.insert("targets".into(), names.to_vec().into());
        }
        recipe.extend(number(&self.learning_rate).map(|rate| ("learning_rate".to_owned(), rate)));
        if let Some(epochs) = number(&self.epochs) {
            recipe.insert("length".into(), json!({ "epochs": epochs }));
        }
        if !lora.is_empty() {
            recipe.insert("lora".into(), lora.into());
        }
        recipe.into()
    }
}

/// The wizard.
pub fn tune(
    frame: &Frame,
    datanets: &[DatanetSummary],
    bases: &[ModelSummary],
    list: &[PresetView],
    choice: &Choice,
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
                        div #presets.options aria-live="polite" { (presets(list, choice.preset.as_deref())) }
                    }
                    (settings(&choice.settings))
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

/// Everything that has a sound default, folded away. A change asks for new estimates.
fn settings(chosen: &Settings) -> Markup {
    let choice = |name: &str, value: &str, now: &str, first: bool, label: &str, about: &str| {
        let checked = now == value || now.is_empty() && first;
        html! {
            label.option {
                input type="radio" name=(name) value=(value) checked[checked];
                span { strong { (label) } span.muted { (about) } }
            }
        }
    };
    let number = |name: &str, label: &str, value: &str, hint: &str, about: &str| {
        html! {
            label.field {
                span { (label) }
                input type="number" name=(name) value=(value) placeholder=(hint) min="0" step="any" inputmode="decimal";
                span.muted { (about) }
            }
        }
    };
    let (method, arithmetic) = (&chosen.method, &chosen.arithmetic);
    html! {
        details.settings hx-get="/studio/presets" hx-trigger="change delay:300ms" hx-include="closest form" hx-target="#presets" {
            summary { "How it trains" span.muted { " – has sound defaults; the estimates above follow what you change" } }
            fieldset {
                legend { "Method" }
                div.options {
                    (choice("method", "lora", method, true, "LoRA", "A small adapter beside the base."))
                    (choice("method", "dora", method, false, "DoRA", "LoRA that also learns how strongly each output speaks. A little slower, often a little better."))
                    (choice("method", "qlora", method, false, "QLoRA", "LoRA over a base kept in 4 bits: least memory. Needs fast arithmetic."))
                }
            }
            fieldset {
                legend { "Arithmetic" }
                div.options {
                    (choice("arithmetic", "exact", arithmetic, true, "Exact", "Anybody can train it again to the same bits, on any machine."))
                    (choice("arithmetic", "fast", arithmetic, false, "Fast", "Lower precision, several times faster. The same bits only on machines of this kind."))
                }
                p.muted { "Either way, who earns from its answers is computed exactly." }
            }
            fieldset {
                legend { "Layers that learn" }
                div.options {
                    (choice("targets", "all", &chosen.targets, true, "All", "Learns most."))
                    (choice("targets", "attention", &chosen.targets, false, "Attention", "What to look at: style and format."))
                    (choice("targets", "mlp", &chosen.targets, false, "Feed-forward", "What to say: facts."))
                }
            }
            fieldset.fields {
                legend { "Numbers" }
                (number("rank", "Rank", &chosen.rank, "by preset", "Room to learn in: 4 to 64. More takes more memory."))
                (number("alpha", "Alpha", &chosen.alpha, "by preset", "How strongly the adapter speaks."))
                (number("learning_rate", "Learning rate", &chosen.learning_rate, "by preset", "Lower it if the loss jumps."))
                (number("epochs", "Passes", &chosen.epochs, "by preset", "How often every row is seen."))
            }
        }
    }
}

/// The presets of one Datanet as choices, with what they take in words.
pub fn presets(list: &[PresetView], chosen: Option<&str>) -> Markup {
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
                    span.muted { (fit(preset.memory_bytes, preset.free_bytes)) }
                }
            }
        }
    }
}

/// In place of the presets when the settings do not fit.
pub fn no_presets(reason: &str) -> Markup {
    html! { div.alert role="alert" { strong { "These settings do not work. " } (reason) } }
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
    fn only_what_is_chosen_is_set() {
        let usual = Settings {
            method: "lora".into(),
            arithmetic: "exact".into(),
            targets: "all".into(),
            ..Settings::default()
        };
        assert_eq!(usual.to_json(), json!({}));
        let chosen = Settings {
            method: "dora".into(),
            rank: " 8 ".into(),
            learning_rate: "1e-3".into(),
            epochs: "many".into(),
            targets: "mlp".into(),
            ..usual
        };
        let expected = json!({
            "method": "dora",
            "lora": {"rank": 8, "targets": ["gate_proj", "up_proj", "down_proj"]},
            "learning_rate": 1e-3,
            "length": {"epochs": "many"},
        });
        assert_eq!(chosen.to_json(), expected);
    }

    #[test]
    fn fit_is_said_in_words() {
        assert!(fit(1 << 30, Some(1 << 20)).contains("close something first"));
        assert!(fit(1 << 20, Some(1 << 30)).contains("fits well"));
        assert!(fit(9 << 27, Some(10 << 27)).contains("most of"));
    }
}
