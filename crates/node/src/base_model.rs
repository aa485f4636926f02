//! The base model that this node tunes, serves and attributes with.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openledger_model::template::ChatTemplate;
use openledger_model::{Base, SamplingConfig, Tokenizer, parameter_count};
use openledger_primitives::{B256, merkle};
use rust_embed::RustEmbed;

use crate::{Error, Result};

/// Name of the bundled base model.
pub const BUNDLED_BASE: &str = "openledger-base";

#[derive(RustEmbed)]
#[folder = "../../bundled/base"]
struct BundledBase;

/// A base model in memory, with the roots that records name it by.
#[derive(Clone, Debug)]
pub(crate) struct BaseModel {
    pub(crate) name: String,
    pub(crate) base: Arc<Base>,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) template: ChatTemplate,
    /// How its tokens are drawn where a request does not say.
    pub(crate) sampling: SamplingConfig,
    /// Content root of the weights files, in name order.
    pub(crate) weights_root: B256,
    /// Content root of `tokenizer.json`; of what a GGUF file's tokenizer is as such a file.
    pub(crate) tokenizer_root: B256,
    pub(crate) parameters: u64,
}

impl BaseModel {
    /// Loads the folder or GGUF file `dir`, or the bundled model, which is first unpacked below `data_dir`.
    pub(crate) fn load(dir: Option<&Path>, data_dir: &Path) -> Result<Self> {
        let (name, dir) = match dir {
            Some(dir) => (folder_name(dir)?, dir.to_path_buf()),
            None => (
                BUNDLED_BASE.to_owned(),
                unpack_bundled_base(&data_dir.join("base"))?,
            ),
        };
        let mut base = Base::load(&dir)?;
        let tokenizer = Tokenizer::load(&dir)?;
        tokenizer.check_model(&base.config)?;
        let template = ChatTemplate::of_model(&dir, &tokenizer)?;
        let ends = &mut base.config.eos;
        ends.extend(template.end().filter(|end| !ends.contains(end)));
        let parameters = u64::try_from(parameter_count(&base.config)).unwrap_or(u64::MAX);
        Ok(Self {
            name,
            weights_root: weights_root(&dir)?,
            tokenizer_root: merkle::chunk_root(&tokenizer_bytes(&dir, &tokenizer)?),
            base: Arc::new(base),
            tokenizer: Arc::new(tokenizer),
            template,
            sampling: SamplingConfig::of_model(&dir)?,
            parameters,
        })
    }

    /// Shape and settings, as shown on the model's card.
    pub(crate) fn facts(&self) -> Vec<(String, String)> {
        let config = &self.base.config;
        [
            ("architecture", "Llama".to_owned()),
            ("parameters", self.parameters.to_string()),
            ("hidden size", config.hidden.to_string()),
            ("layers", config.layers.to_string()),
            (
                "attention heads",
                format!("{} ({} for keys and values)", config.heads, config.kv_heads),
            ),
            ("feed-forward size", config.mlp.to_string()),
            ("vocabulary", config.vocab.to_string()),
            ("context", format!("{} tokens", config.context)),
            ("arithmetic", "exact".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }
}

fn folder_name(dir: &Path) -> Result<String> {
    let full = dir.canonicalize().map_err(|source| Error::File {
        action: "open the base model",
        path: dir.to_path_buf(),
        source,
    })?;
    let name = hub_name(&full).or_else(|| {
        let name = if full.is_file() {
            full.file_stem()
        } else {
            full.file_name()
        };
        Some(name?.to_string_lossy().into_owned())
    });
    name.ok_or_else(|| Error::invalid("--base", format!("{} is not a folder", dir.display())))
}

/// Name of the model whose snapshot in a hub's cache this is:
/// `models--org--name/snapshots/commit`.
fn hub_name(dir: &Path) -> Option<String> {
    let snapshots = dir.parent()?;
    let repository = snapshots.parent()?.file_name()?.to_str()?;
    let (_, name) = repository.strip_prefix("models--")?.split_once("--")?;
    snapshots.ends_with("snapshots").then(|| name.to_owned())
}

/// Writes the bundled model's files into `dir`, those that are not there as they should be, and
/// returns `dir`.
///
/// # Errors
/// If a file cannot be written.
pub fn unpack_bundled_base(dir: &Path) -> Result<PathBuf> {
    for name in BundledBase::iter() {
        let Some(file) = BundledBase::get(&name) else {
            continue;
        };
        let path = dir.join(&*name);
        let fresh = fs::read(&path).is_ok_and(|bytes| bytes == *file.data);
        if !fresh {
            openledger_store::write_atomic(&path, &file.data)?;
        }
    }
    Ok(dir.to_path_buf())
}

fn tokenizer_bytes(dir: &Path, tokenizer: &Tokenizer) -> Result<Vec<u8>> {
    if dir.is_file() {
        return Ok(tokenizer.to_json().into_bytes());
    }
    Ok(openledger_store::read(&dir.join("tokenizer.json"))?)
}

/// Root over the content roots of the weights files, in name order: one file's own root when
/// there is one, so that a single `model.safetensors` or GGUF file can be checked alone.
fn weights_root(dir: &Path) -> Result<B256> {
    if dir.is_file() {
        return Ok(merkle::chunk_root(&openledger_store::read(dir)?));
    }
    let listing = fs::read_dir(dir).map_err(|source| Error::File {
        action: "list",
        path: dir.to_path_buf(),
        source,
    })?;
    let mut files: Vec<PathBuf> = listing
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "safetensors")
        })
        .collect();
    files.sort();
    let roots = files
        .iter()
        .map(|path| Ok(merkle::chunk_root(&openledger_store::read(path)?)))
        .collect::<Result<Vec<B256>>>()?;
    Ok(match roots.as_slice() {
        [one] => *one,
        many => merkle::Tree::from_data(many).root(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_has_the_name_of_its_model() {
        let dir = Path::new("/c/hub/models--org--a-model/snapshots/0123abc");
        assert_eq!(hub_name(dir).as_deref(), Some("a-model"));
        assert_eq!(hub_name(Path::new("/models/a-model")), None);
        assert_eq!(hub_name(Path::new("/c/models--org--a/other/x")), None);
    }
}
