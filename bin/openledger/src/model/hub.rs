//! Models by name from a Hugging Face hub, through the cache that all programs of that world
//! share: what is in it is used without asking, and what is missing is fetched.
//!
//! | variable | what |
//! |---|---|
//! | `HF_HUB_CACHE`, `HF_HOME` | where the cache is |
//! | `HF_ENDPOINT` | another hub |
//! | `HF_TOKEN`, `HF_TOKEN_PATH` | a token, or the file that holds it (default: `token` in `HF_HOME`) |
//! | `HF_HUB_OFFLINE` | `1`: ask nobody, use the cache alone |

mod fetch;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use hf_hub::api::sync::{ApiBuilder, ApiError};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};

const ENDPOINT: &str = "https://huggingface.co";
const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// What describes a model; small files, of which the first two must be there.
const DESCRIPTION: [&str; 7] = [
    CONFIG,
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.jinja",
    openledger_model::template::FILE,
];

/// Which files of a model are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    /// Everything that is needed to compute.
    All,
    /// Everything but the weights.
    Description,
}

/// A name such as `org/model@revision`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// `org/model`.
    pub(super) id: String,
    /// A branch, a tag or a commit.
    revision: String,
}

impl Name {
    /// Reads a name; `None` if it could not be one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (id, revision) = text.split_once('@').unwrap_or((text, "main"));
        let (org, model) = id.split_once('/')?;
        let plain = |part: &str| {
            let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !part.is_empty() && !part.starts_with('.') && part.chars().all(good)
        };
        (plain(org) && plain(model) && plain(revision)).then(|| Self {
            id: id.to_owned(),
            revision: revision.to_owned(),
        })
    }

    fn repo(&self, revision: &str) -> Repo {
        Repo::with_revision(self.id.clone(), RepoType::Model, revision.to_owned())
    }
}

/// The local folder with the files of `name`.
pub(super) fn fetch(name: &Name, parts: Parts) -> Result<PathBuf> {
    let cache = Cache::new(cache_dir()?);
    let in_cache = cache.repo(name.repo(&name.revision));
    if let Some(folder) = cached(&in_cache, name, parts) {
        return Ok(folder);
    }
    let way_out = format!(
        "a folder with {CONFIG}, {TOKENIZER} and {SINGLE} works too: --base DIR. Looked in the \
         cache {}",
        cache.path().display()
    );
    if std::env::var("HF_HUB_OFFLINE").is_ok_and(|flag| matches!(flag.as_str(), "1" | "true")) {
        bail!(
            "{}@{} is not in the cache and HF_HUB_OFFLINE is set; {way_out}",
            name.id,
            name.revision
        );
    }
    let endpoint = std::env::var("HF_ENDPOINT").unwrap_or_else(|_| ENDPOINT.to_owned());
    let endpoint = endpoint.trim_end_matches('/').to_owned();
    let api = ApiBuilder::from_cache(cache.clone())
        .with_endpoint(endpoint.clone())
        .with_progress(false)
        .with_token(token()?)
        .build()
        .context("cannot prepare a connection to the hub")?;
    let refused = |error: ApiError| {
        let reason = refusal(&error, name);
        anyhow::anyhow!("{endpoint}: {reason}; {way_out}")
    };
    let about = api
        .repo(name.repo(&name.revision))
        .info()
        .map_err(refused)?;
    if !is_commit(&about.sha) {
        bail!("{endpoint} names the commit {:?}, which is none", about.sha);
    }
    let remote: BTreeSet<&str> = about
        .siblings
        .iter()
        .map(|s| s.rfilename.as_str())
        .collect();
    // One commit for all files, though the branch may move meanwhile.
    let pinned = api.repo(name.repo(&about.sha));
    let hold = fetch::Hold {
        api: &api,
        repo: &pinned,
        cache: cache.repo(name.repo(&about.sha)),
        commit: &about.sha,
    };
    let mut files: Vec<String> = DESCRIPTION
        .into_iter()
        .filter(|file| remote.contains(file))
        .map(str::to_owned)
        .collect();
    for needed in [CONFIG, TOKENIZER] {
        if !remote.contains(needed) {
            bail!("{} holds no {needed}, so it cannot be used here", name.id);
        }
    }
    for file in &files {
        hold.file(file, &refused)?;
    }
    let folder = hold.cache.pointer_path(&about.sha);
    if parts == Parts::All {
        files = if remote.contains(INDEX) {
            hold.file(INDEX, &refused)?;
            shards(&folder.join(INDEX))?
        } else if remote.contains(SINGLE) {
            vec![SINGLE.to_owned()]
        } else {
            bail!(
                "{} holds no {SINGLE}: its weights are in another format",
                name.id
            );
        };
        for file in &files {
            hold.file(file, &refused)?;
        }
    }
    // Last, so that a revision in the cache is one whose files came.
    in_cache
        .create_ref(&about.sha)
        .with_context(|| format!("cannot write in {}", cache.path().display()))?;
    Ok(folder)
}

/// The folder in the cache, if all parts are in it.
fn cached(cache: &CacheRepo, name: &Name, parts: Parts) -> Option<PathBuf> {
    let folder = if is_commit(&name.revision) {
        cache.pointer_path(&name.revision)
    } else {
        cache.get(CONFIG)?.parent()?.to_path_buf()
    };
    let has = |file: &str| folder.join(file).exists();
    let weights = has(SINGLE)
        || shards(&folder.join(INDEX)).is_ok_and(|shards| shards.iter().all(|shard| has(shard)));
    (has(CONFIG) && has(TOKENIZER) && (weights || parts == Parts::Description)).then_some(folder)
}

/// The weight files that an index names.
fn shards(index: &Path) -> Result<Vec<String>> {
    let damaged = || format!("{} is not an index of weight files", index.display());
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(index)?).with_context(damaged)?;
    let map = json["weight_map"].as_object().with_context(damaged)?;
    let names: BTreeSet<&str> = map.values().filter_map(|file| file.as_str()).collect();
    // A file name only: an index must not reach outside its folder.
    let plain = |name: &&str| Path::new(name).file_name().is_some_and(|f| f == *name);
    if names.is_empty() || !names.iter().all(plain) {
        bail!(damaged());
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// What a failed request means for the one who asked.
fn refusal(error: &ApiError, name: &Name) -> String {
    let status = match error {
        ApiError::RequestError(error) => match **error {
            ureq::Error::StatusCode(status) => Some(status),
            _ => None,
        },
        _ => None,
    };
    let Name { id, revision } = name;
    match status {
        Some(401 | 403) => format!(
            "{id} is private or gated, or does not exist; accept its terms there and set HF_TOKEN"
        ),
        Some(404) => format!("there is no {id} with a revision {revision}"),
        _ => format!("cannot fetch {id}: {error}"),
    }
}

fn cache_dir() -> Result<PathBuf> {
    match std::env::var_os("HF_HUB_CACHE") {
        Some(dir) => Ok(dir.into()),
        None => Ok(home()?.join("hub")),
    }
}

/// `HF_HOME`, or where it is by default.
fn home() -> Result<PathBuf> {
    if let Some(home) = std::env::var_os("HF_HOME") {
        return Ok(home.into());
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = cache.or_else(home);
    let cache = cache.context("neither HF_HOME nor HOME is set; give --base a folder")?;
    Ok(cache.join("huggingface"))
}

/// The token of the environment or of its file; never one of an argument.
fn token() -> Result<Option<String>> {
    let text = match (std::env::var("HF_TOKEN"), std::env::var_os("HF_TOKEN_PATH")) {
        (Ok(token), _) => token,
        (Err(_), Some(path)) => std::fs::read_to_string(&path)
            .with_context(|| format!("HF_TOKEN_PATH {}", Path::new(&path).display()))?,
        (Err(_), None) => std::fs::read_to_string(home()?.join("token")).unwrap_or_default(),
    };
    let token = text.trim();
    Ok((!token.is_empty()).then(|| token.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_two_parts_and_nothing_odd() {
        let name = Name::parse("Org/a-model_1.5").map(|name| (name.id, name.revision));
        assert_eq!(name, Some(("Org/a-model_1.5".into(), "main".into())));
        let name = Name::parse("org/m@v1").map(|name| name.revision);
        assert_eq!(name, Some("v1".into()));
        for odd in [
            "model", "/m", "o/", "../m", "o/..", "o/m/x", "o/m@", "o/m@../x", "o o/m",
        ] {
            assert_eq!(Name::parse(odd), None, "{odd}");
        }
    }
}
