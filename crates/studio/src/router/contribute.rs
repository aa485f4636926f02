//! Contributing a file: check, then sign.

use axum::{
    Form,
    extract::{DefaultBodyLimit, Multipart, Path, State, multipart::MultipartError},
    http::HeaderMap,
};
use maud::Markup;
use openledger_node::{Contributor, Node, view::DatanetSummary};
use serde::Deserialize;

use super::{Answer, Failure, blocking, frame};
use crate::{
    intake,
    pages::{self, Draft},
};

/// The largest file that the page takes; the command line takes larger ones.
const MAX_FILE: usize = 16 << 20;

/// Room for the file and the few fields beside it.
pub(super) fn body_limit() -> DefaultBodyLimit {
    DefaultBodyLimit::max(MAX_FILE + (64 << 10))
}

fn summary(node: &Node, id: u64) -> Result<DatanetSummary, Failure> {
    let found = node.datanet(id)?.ok_or(Failure::Missing("Datanet"))?;
    Ok(found.summary)
}

pub(super) async fn form(State(node): State<Node>, Path(id): Path<u64>) -> Answer {
    blocking(move || {
        let net = summary(&node, id)?;
        Ok(pages::contribute(&frame(&node)?, &net, None))
    })
    .await
}

/// A form with a file, as it came in.
#[derive(Default)]
struct Upload {
    file: String,
    bytes: Vec<u8>,
    text: Vec<String>,
    contributor: Option<String>,
    name: String,
}

impl Upload {
    async fn read(mut form: Multipart) -> Result<Self, MultipartError> {
        let mut upload = Self::default();
        while let Some(field) = form.next_field().await? {
            match field.name().unwrap_or_default() {
                "file" => {
                    upload.file = field.file_name().unwrap_or("file").to_owned();
                    upload.bytes = field.bytes().await?.to_vec();
                }
                "text" => upload.text.push(field.text().await?),
                "contributor" => upload.contributor = Some(field.text().await?),
                "name" => upload.name = field.text().await?,
                _ => {}
            }
        }
        Ok(upload)
    }

    /// The mapping that the form asks for, as far as this file has such columns; else a guess.
    fn draft(&self) -> Draft {
        let columns = intake::columns(&self.bytes);
        let guess = intake::guess(&columns);
        let text: Vec<String> = columns
            .iter()
            .filter(|column| self.text.contains(column))
            .cloned()
            .collect();
        // An empty choice means "all rows are mine"; no choice means that nobody was asked yet.
        let contributor = match &self.contributor {
            Some(column) if columns.contains(column) => Some(column.clone()),
            Some(choice) if choice.is_empty() => None,
            _ => guess.contributor,
        };
        Draft {
            file: self.file.clone(),
            text: if text.is_empty() { guess.text } else { text },
            contributor,
            name: self.name.trim().to_owned(),
            columns,
        }
    }
}

/// Judges a file without keeping anything but a ticket for it.
pub(super) async fn verdicts(
    State(node): State<Node>,
    Path(id): Path<u64>,
    headers: HeaderMap,
    form: Multipart,
) -> Answer {
    let upload = Upload::read(form).await;
    let fragment = headers.contains_key("hx-request");
    blocking(move || {
        let net = summary(&node, id)?;
        let frame = frame(&node)?;
        let step = match upload {
            Ok(upload) => judge(&node, &frame, id, &upload),
            Err(error) => pages::verdicts(&frame, &Draft::default(), Err(&refusal(&error))),
        };
        if fragment {
            return Ok(step);
        }
        Ok(pages::contribute(&frame, &net, Some(step)))
    })
    .await
}

fn refusal(error: &MultipartError) -> String {
    if error.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE {
        format!(
            "It is larger than {} MB. The command line takes larger files.",
            MAX_FILE >> 20
        )
    } else {
        error.body_text()
    }
}

fn judge(node: &Node, frame: &crate::Frame, id: u64, upload: &Upload) -> Markup {
    let draft = upload.draft();
    if draft.columns.is_empty() {
        let problem = "None of its first lines is a JSON object.";
        return pages::verdicts(frame, &draft, Err(problem));
    }
    let contributor = match &draft.contributor {
        Some(column) => Contributor::Column(column.clone()),
        None if draft.name.is_empty() => {
            return pages::verdicts(
                frame,
                &draft,
                Err("Say whose rows these are: enter a name."),
            );
        }
        None => Contributor::Name(draft.name.clone()),
    };
    match node.judge(
        Some(id),
        &draft.file,
        &upload.bytes,
        &draft.text,
        contributor,
    ) {
        Ok(view) => pages::verdicts(frame, &draft, Ok(&view)),
        Err(error) => pages::verdicts(frame, &draft, Err(&error.to_string())),
    }
}

#[derive(Deserialize)]
pub(super) struct Commit {
    ticket: String,
}

/// Signs and anchors exactly the rows that were judged.
pub(super) async fn commit(
    State(node): State<Node>,
    Path(id): Path<u64>,
    Form(commit): Form<Commit>,
) -> Answer {
    let receipt = node.contribute(&commit.ticket).await?;
    blocking(move || {
        let net = summary(&node, id)?;
        Ok(pages::contributed(&frame(&node)?, &net, &receipt))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload(text: &[&str], contributor: Option<&str>) -> Draft {
        let upload = Upload {
            bytes: br#"{"question":"q","answer":"a","author":"x"}"#.to_vec(),
            text: text.iter().map(|&t| t.to_owned()).collect(),
            contributor: contributor.map(str::to_owned),
            ..Upload::default()
        };
        upload.draft()
    }

    #[test]
    fn what_was_chosen_wins_over_the_guess() {
        let first = upload(&[], None);
        assert_eq!(first.text, ["question", "answer"]);
        assert_eq!(first.contributor.as_deref(), Some("author"));
        let mine = upload(&["answer"], Some(""));
        assert_eq!(
            (mine.text, mine.contributor),
            (vec!["answer".to_owned()], None)
        );
    }

    #[test]
    fn columns_of_another_file_are_forgotten() {
        let draft = upload(&["body"], Some("writer"));
        assert_eq!(draft.text, ["question", "answer"]);
        assert_eq!(draft.contributor.as_deref(), Some("author"));
    }
}
