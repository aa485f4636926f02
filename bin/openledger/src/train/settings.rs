//! `--set key=value` as settings of a recipe.

use anyhow::{Result, bail};
use serde_json::{Map, Value};

/// The settings `key=value` as one object, dots between nested names: `lora.rank=8`.
///
/// A value is JSON, or else plain text; of a list of names (`lora.targets=q_proj,v_proj`) the
/// brackets and quotes can be left out.
pub(super) fn parse(settings: &[String]) -> Result<Value> {
    let mut object = Map::new();
    for setting in settings {
        let Some((key, text)) = setting.split_once('=') else {
            bail!("--set {setting}: write it as key=value, for example --set lora.rank=8");
        };
        let mut names: Vec<&str> = key.trim().split('.').collect();
        let last = names.pop().unwrap_or_default();
        let mut place = &mut object;
        for name in names {
            let inner = place.entry(name).or_insert_with(|| Map::new().into());
            let Value::Object(fields) = inner else {
                bail!("--set {setting}: {name} has a value already");
            };
            place = fields;
        }
        place.insert(last.to_owned(), value(last, text.trim()));
    }
    Ok(object.into())
}

/// Settings that are lists of names.
const LISTS: [&str; 1] = ["targets"];

fn value(name: &str, text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value) => value,
        Err(_) if LISTS.contains(&name) => text.split(',').map(str::trim).collect(),
        Err(_) => text.into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_read_by_their_kind() {
        let settings = [
            "lora.rank=4",
            "learning_rate=1e-3",
            "length={\"steps\": 12}",
            "decay=linear",
            "lora.targets=q_proj, v_proj",
        ];
        let object = parse(&settings.map(str::to_owned)).unwrap();
        let expected = json!({
            "lora": {"rank": 4, "targets": ["q_proj", "v_proj"]},
            "learning_rate": 1e-3,
            "length": {"steps": 12},
            "decay": "linear",
        });
        assert_eq!(object, expected);
    }

    #[test]
    fn a_setting_without_a_value_is_named() {
        for (settings, word) in [
            (vec!["batch"], "key=value"),
            (vec!["batch=3", "batch.size=3"], "has a value already"),
        ] {
            let settings: Vec<String> = settings.into_iter().map(str::to_owned).collect();
            let message = parse(&settings).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
    }
}
