//! Settings laid over a recipe by name: what flags, pages and the API change of a preset.

use serde_json::{Map, Value};

use crate::{Error, Recipe};

impl Recipe {
    /// This recipe with `settings` laid over it: an object with any of the recipe's fields, groups
    /// such as `lora` in part. Nothing is checked against a model here ([`Recipe::validate`]).
    ///
    /// ```
    /// use openledger_finetune::Recipe;
    /// let settings = serde_json::json!({"batch": 4, "lora": {"rank": 8}});
    /// let recipe = Recipe::default().with(&settings)?;
    /// assert_eq!((recipe.batch, recipe.lora.rank), (4, 8));
    /// assert_eq!(recipe.lora.alpha, Recipe::default().lora.alpha);
    /// # Ok::<(), openledger_finetune::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Settings`] naming what is unknown or has the wrong kind of value.
    pub fn with(&self, settings: &Value) -> Result<Self, Error> {
        let refused = |error: serde_json::Error| Error::Settings {
            reason: error.to_string(),
        };
        let mut value = serde_json::to_value(self).map_err(refused)?;
        match settings {
            Value::Null => {}
            Value::Object(fields) => lay_over(&mut value, fields),
            other => {
                return Err(Error::Settings {
                    reason: format!("{other} is not an object of settings"),
                });
            }
        }
        serde_json::from_value(value).map_err(refused)
    }
}

/// Settings whose object says which of several things is meant, so that it is replaced as a whole.
const CHOICES: [&str; 1] = ["length"];

fn lay_over(below: &mut Value, above: &Map<String, Value>) {
    if !below.is_object() {
        *below = Value::Object(Map::new());
    }
    let Value::Object(fields) = below else {
        return;
    };
    for (name, value) in above {
        match value {
            Value::Object(inner) if !CHOICES.contains(&name.as_str()) => {
                lay_over(fields.entry(name).or_insert(Value::Null), inner);
            }
            other => {
                fields.insert(name.clone(), other.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::Length;
    use serde_json::json;

    #[test]
    fn only_what_is_named_changes() {
        let recipe = Recipe::default();
        assert_eq!(recipe.with(&json!({})).unwrap(), recipe);
        assert_eq!(recipe.with(&Value::Null).unwrap(), recipe);
        let changed = recipe
            .with(&json!({"length": {"steps": 7}, "lora": {"targets": ["q_proj"]}}))
            .unwrap();
        assert_eq!(changed.length, Length::Steps(7));
        assert_eq!(changed.lora.targets, ["q_proj"]);
        assert_eq!(changed.lora.rank, recipe.lora.rank);
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (settings, word) in [
            (json!({"lora": {"rnk": 4}}), "rnk"),
            (json!({"batch": "many"}), "many"),
            (json!({"batch": {"size": 3}}), "invalid type"),
            (json!({"decay": "square"}), "square"),
            (json!([1]), "not an object"),
        ] {
            let message = Recipe::default().with(&settings).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
    }
}
