//! A first look at a file that somebody wants to contribute: which columns it has and what they
//! probably are. A guess is only a start; the page shows it and lets people change it.

use std::collections::BTreeSet;

/// Lines read to find the columns.
const LOOK: usize = 50;

/// Names that usually hold a question, an answer, plain text and an author.
const QUESTIONS: [&str; 7] = [
    "prompt",
    "question",
    "instruction",
    "task",
    "input",
    "query",
    "title",
];
const ANSWERS: [&str; 7] = [
    "answer",
    "response",
    "completion",
    "output",
    "code",
    "reply",
    "solution",
];
const TEXTS: [&str; 6] = ["text", "content", "story", "body", "document", "passage"];
const AUTHORS: [&str; 8] = [
    "contributor",
    "author",
    "user",
    "username",
    "writer",
    "name",
    "institution",
    "source",
];

/// What the columns probably mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Guess {
    /// Question and answer, or one column of plain text.
    pub(crate) text: Vec<String>,
    /// Who wrote the row.
    pub(crate) contributor: Option<String>,
}

/// The columns of a JSONL file, those that look like a question first, then answers and texts.
pub(crate) fn columns(bytes: &[u8]) -> Vec<String> {
    let mut names = BTreeSet::new();
    let lines = bytes.split(|byte| *byte == b'\n').take(LOOK);
    for line in lines {
        if let Ok(row) = serde_json::from_slice::<serde_json::Map<_, _>>(line) {
            names.extend(row.into_iter().map(|(name, _)| name));
        }
    }
    let mut names: Vec<String> = names.into_iter().collect();
    names.sort_by_key(|name| {
        [&QUESTIONS[..], &ANSWERS, &TEXTS]
            .iter()
            .position(|kind| rank(kind, name).is_some())
            .unwrap_or(3)
    });
    names
}

fn rank(kind: &[&str], name: &str) -> Option<usize> {
    kind.iter()
        .position(|known| known.eq_ignore_ascii_case(name))
}

/// The most usual meaning of `columns`.
pub(crate) fn guess(columns: &[String]) -> Guess {
    let best = |kind: &[&str]| {
        columns
            .iter()
            .filter_map(|name| rank(kind, name).map(|at| (at, name)))
            .min()
            .map(|(_, name)| name.clone())
    };
    let contributor = best(&AUTHORS);
    let text = match (best(&QUESTIONS), best(&ANSWERS), best(&TEXTS)) {
        (Some(question), Some(answer), _) => vec![question, answer],
        (_, _, Some(text)) => vec![text],
        (Some(one), None, None) | (None, Some(one), None) => vec![one],
        (None, None, None) => columns
            .iter()
            .find(|name| Some(*name) != contributor.as_ref())
            .cloned()
            .into_iter()
            .collect(),
    };
    Guess { text, contributor }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(file: &str, text: &[&str], contributor: Option<&str>) {
        let guess = guess(&columns(file.as_bytes()));
        assert_eq!(guess.text, text, "{file}");
        assert_eq!(guess.contributor.as_deref(), contributor, "{file}");
    }

    #[test]
    fn guesses_the_usual_shapes() {
        check(
            r#"{"task":"t","code":"c","author":"a"}"#,
            &["task", "code"],
            Some("author"),
        );
        check(
            "not json\n{\"author\":\"a\",\"story\":\"s\"}",
            &["story"],
            Some("author"),
        );
        check(
            r#"{"Question":"q","Answer":"a"}"#,
            &["Question", "Answer"],
            None,
        );
        check(r#"{"x":"1","author":"a"}"#, &["x"], Some("author"));
        check("", &[], None);
        check("[1,2]\n\"text\"", &[], None);
    }
}
