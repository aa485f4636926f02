//! Pages of tuning runs.

use axum::{
    Form,
    extract::{Path, Query, State},
    response::Redirect,
};
use maud::Markup;
use openledger_node::{Node, RunAction, RunRequest};
use serde::Deserialize;

use super::{Answer, Failure, blocking, frame};
use crate::{
    format,
    pages::{self, Choice, Settings},
};

pub(super) async fn runs(State(node): State<Node>) -> Answer {
    blocking(move || Ok(pages::runs(&frame(&node)?, &node.runs()?))).await
}

pub(super) async fn run(State(node): State<Node>, Path(id): Path<String>) -> Answer {
    blocking(move || {
        let view = node.run(&id)?.ok_or(Failure::Missing("run"))?;
        Ok(pages::run(&frame(&node)?, &view))
    })
    .await
}

#[derive(Deserialize)]
pub(super) struct FormQuery {
    datanet: Option<u64>,
}

pub(super) async fn form(State(node): State<Node>, Query(query): Query<FormQuery>) -> Answer {
    blocking(move || {
        let choice = Choice {
            datanet: query.datanet,
            ..Choice::default()
        };
        wizard(&node, choice)
    })
    .await
}

fn wizard(node: &Node, mut choice: Choice) -> Answer {
    let datanets = node.datanets()?;
    choice.datanet = choice
        .datanet
        .or_else(|| datanets.first().map(|net| net.id));
    let mut bases = node.models()?;
    bases.retain(|model| model.parent.is_none());
    let list = match choice.datanet {
        Some(id) => node.presets(id, &choice.settings.to_json())?,
        None => Vec::new(),
    };
    Ok(pages::tune(
        &frame(node)?,
        &datanets,
        &bases,
        &list,
        &choice,
    ))
}

#[derive(Deserialize)]
pub(super) struct PresetQuery {
    datanet: u64,
    preset: Option<String>,
    #[serde(flatten)]
    settings: Settings,
}

pub(super) async fn presets(State(node): State<Node>, Query(query): Query<PresetQuery>) -> Answer {
    blocking(move || {
        let settings = query.settings.to_json();
        Ok(match node.presets(query.datanet, &settings) {
            Ok(list) => pages::presets(&list, query.preset.as_deref()),
            Err(error @ openledger_node::Error::Invalid { .. }) => {
                pages::no_presets(&error.to_string())
            }
            Err(error) => return Err(error.into()),
        })
    })
    .await
}

#[derive(Clone, Deserialize)]
pub(super) struct Start {
    datanet: u64,
    preset: String,
    name: String,
    #[serde(flatten)]
    settings: Settings,
}

/// Starts a run; a refusal shows the form again with the reason.
pub(super) async fn start(
    State(node): State<Node>,
    Form(start): Form<Start>,
) -> Result<Redirect, Result<Markup, Failure>> {
    let (node, outcome) = {
        let node = node.clone();
        let request = RunRequest {
            datanet: start.datanet,
            preset: start.preset.clone(),
            name: start.name.clone(),
            settings: start.settings.to_json(),
        };
        let work = move || {
            let outcome = node.start_run(&request);
            Ok((node, outcome))
        };
        blocking(work).await.map_err(Err)?
    };
    match outcome {
        Ok(id) => Ok(Redirect::to(&format!("/runs/{}", format::segment(&id)))),
        Err(error) => Err(blocking(move || {
            let choice = Choice {
                datanet: Some(start.datanet),
                preset: Some(start.preset),
                name: start.name,
                // Settings that were refused would be refused again with the form.
                settings: match &error {
                    openledger_node::Error::Invalid { .. } => Settings::default(),
                    _ => start.settings,
                },
                error: Some(error.to_string()),
            };
            wizard(&node, choice)
        })
        .await),
    }
}

#[derive(Deserialize)]
pub(super) struct Control {
    action: String,
}

pub(super) async fn control(
    State(node): State<Node>,
    Path(id): Path<String>,
    Form(control): Form<Control>,
) -> Result<Redirect, Failure> {
    let action = match control.action.as_str() {
        "pause" => RunAction::Pause,
        "resume" => RunAction::Resume,
        "stop" => RunAction::Stop,
        other => return Err(Failure::Bad(format!("a run cannot {other:?}"))),
    };
    blocking(move || {
        node.control_run(&id, action)?;
        Ok(Redirect::to(&format!("/runs/{}", format::segment(&id))))
    })
    .await
}
