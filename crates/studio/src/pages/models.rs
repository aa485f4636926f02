//! `/models` and `/models/{id}`: what a model is made of, costs and pays.

use maud::{Markup, html};
use openledger_node::view::{ModelSummary, ModelView};
use openledger_primitives::Wei;

use super::{datanets::model_list, settlement};
use crate::{
    chart, format,
    layout::{Frame, Page, heading},
    parts,
};

/// All models.
pub fn models(frame: &Frame, list: &[ModelSummary]) -> Markup {
    Page {
        title: "Models",
        section: "/models",
        json: Some("/v1/models"),
        body: html! {
            (heading(&[], "Models",
                html! { p { "A small base model and the adapters that were tuned on top of it. Adapters share the base in memory and are chosen by name in each request." } },
                html! { a.button href="/studio/new" { "Tune a model" } }))
            (model_list(list))
        },
        ..Page::default()
    }
    .render(frame)
}

/// One model's card. `api` is the address that the snippets call, such as `http://127.0.0.1:8080`.
pub fn model(frame: &Frame, view: &ModelView, api: &str) -> Markup {
    let model = &view.summary;
    let json = format!("/v1/adapters/{}", format::segment(&model.id));
    Page {
        title: &model.id,
        section: "/models",
        json: Some(&json),
        body: html! {
            (heading(&[("Models", "/models")], &model.id,
                html! { p {
                    @match &model.parent {
                        Some(_) => { "An adapter of " (format::parameters(model.parameters)) " parameters, tuned here and registered on the chain." },
                        None => { "A base model of " (format::parameters(model.parameters)) " parameters. It carries no attribution of its own: adapters do." },
                    }
                } },
                html! { a.button href={ "/chat?model=" (format::segment(&model.id)) } { "Chat with it" } }))
            dl.stats {
                (parts::stat("Answers", format::count(model.inferences), "with a receipt each"))
                (parts::stat("Fees taken", format::amount_short(model.fees), "OPEN"))
                (parts::stat("A prompt token", price(view.price_in), "OPEN"))
                (parts::stat("An output token", price(view.price_out), "OPEN"))
            }
            (lineage(view))
            @if let Some(run) = &view.run {
                section.card aria-labelledby="curve" {
                    div.card-head { h2 #curve { "How it learned" } a href={ "/runs/" (format::segment(&run.id)) } { "The run" } }
                    (chart::loss(&run.points, run.steps))
                }
            }
            div.columns {
                section.card aria-labelledby="facts" {
                    h2 #facts { "Shape and settings" }
                    dl.facts {
                        @for (name, value) in &view.facts { dt { (name) } dd { (value) } }
                        dt { "Record" } dd { (parts::hash(view.digest)) }
                        dt { "Weights root" } dd { (parts::hash(view.weights)) }
                        dt { "Owner" } dd { (parts::address(model.owner)) }
                        @if let Some(id) = model.registry_id { dt { "Registry id" } dd { (id) } }
                        @if let Some(tx) = view.tx { dt { "Registered in" } dd { (parts::tx(tx)) } }
                    }
                }
                section.card aria-labelledby="fee-split" {
                    h2 #fee-split { "How a fee is split" }
                    (split(&view.split))
                }
            }
            section.card aria-labelledby="use" {
                h2 #use { "Call it" }
                p.muted { "The API is the one that OpenAI clients speak. The reply's header " code { "x-openledger-attribution" } " names the answer's trace." }
                h3 { "curl" }
                (parts::code(&curl(api, &model.id), "curl command"))
                h3 { "Python" }
                (parts::code(&python(api, &model.id), "Python example"))
            }
        },
        ..Page::default()
    }
    .render(frame)
}

fn price(wei: Wei) -> Markup {
    html! { span title={ (wei) " wei" } { (format::amount_short(wei)) } }
}

/// Base, adapter, Datanets: where the model comes from.
fn lineage(view: &ModelView) -> Markup {
    let model = &view.summary;
    html! {
        section.lineage aria-label="Lineage" {
            ol {
                @if let Some(parent) = &model.parent {
                    li { small { "Base" } (parts::model(parent)) }
                }
                @for (id, name, version) in &view.datanets {
                    li { small { "Tuned on" } a href={ "/datanets/" (id) } { (name) } span.muted { "version " (version) } }
                }
                li.here aria-current="true" { small { @if model.parent.is_some() { "Adapter" } @else { "Base" } } span.mono { (model.id) } }
            }
        }
    }
}

fn split(shares: &[(String, u16)]) -> Markup {
    html! {
        (chart::stacked("Fee split", &shares.iter().enumerate()
            .map(|(at, (_, bps))| (format!("c{}", at % 6), u64::from(*bps))).collect::<Vec<_>>()))
        table.compact { tbody {
            @for (at, (role, bps)) in shares.iter().enumerate() {
                tr {
                    th scope="row" { span class={ "swatch c" (at % 6) } aria-hidden="true" {} (settlement::name(role)) }
                    td.num { (format::percent(u64::from(*bps))) }
                }
            }
        } }
        p.muted { "The contributors' part goes to those whose rows shaped the answer, as the trace says; what cannot be traced goes to the commons." }
    }
}

/// A model's name inside a JSON string inside single quotes of a shell.
fn json_in_shell(text: &str) -> String {
    serde_json::Value::from(text)
        .to_string()
        .replace('\'', "'\\''")
}

fn curl(api: &str, id: &str) -> String {
    format!(
        "curl {api}/v1/chat/completions \\\n  -H \"Authorization: Bearer $OPENLEDGER_API_KEY\" \\\n  \
         -H 'Content-Type: application/json' \\\n  \
         -d '{{\"model\": {}, \"messages\": [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}'",
        json_in_shell(id)
    )
}

fn python(api: &str, id: &str) -> String {
    format!(
        "import os\nfrom openai import OpenAI\n\n\
         client = OpenAI(base_url=\"{api}/v1\", api_key=os.environ[\"OPENLEDGER_API_KEY\"])\n\
         reply = client.chat.completions.with_raw_response.create(\n    model={},\n    \
         messages=[{{\"role\": \"user\", \"content\": \"Hello\"}}],\n)\n\
         print(reply.parse().choices[0].message.content)\n\
         print(\"traced at\", reply.headers[\"x-openledger-attribution\"])",
        serde_json::Value::from(id)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snippets_quote_hostile_names() {
        let id = "a'; rm -rf / #\"";
        assert!(curl("http://x", id).contains(r#""a'\''; rm -rf / #\"""#));
        assert!(python("http://x", id).contains(r#"model="a'; rm -rf / #\"""#));
    }
}
