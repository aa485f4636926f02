//! Base models as the command line names them (a folder, a GGUF file, the bundled one, or a name on
//! a hub), and what can be done with one.

mod export;
mod hub;
pub(crate) mod inspect;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::cli::ModelCommand;
pub(crate) use hub::Parts;

/// Does what `openledger model` was asked for.
pub(crate) fn run(command: ModelCommand) -> Result<()> {
    match command {
        ModelCommand::Inspect(args) => inspect::run(&args),
        ModelCommand::Export(args) => export::run(&args),
    }
}

/// Where a model is, and what people call it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// A folder in Hugging Face format, or a GGUF file.
    pub(crate) folder: PathBuf,
    pub(crate) name: String,
}

/// The base model that `--base` names; the bundled one where nothing is named. A name like
/// `org/model` or `org/model@revision`, of which there is no folder, is fetched from the hub into
/// its cache.
pub(crate) fn find(given: Option<&str>, parts: Parts) -> Result<Found> {
    match given {
        None | Some(openledger_node::BUNDLED_BASE) => {
            let data = crate::dev::data_dir(None)?;
            Ok(Found {
                folder: openledger_node::unpack_bundled_base(&data.join("base"))?,
                name: openledger_node::BUNDLED_BASE.to_owned(),
            })
        }
        Some(path) if Path::new(path).exists() => {
            let folder = PathBuf::from(path);
            let full = folder.canonicalize().unwrap_or_else(|_| folder.clone());
            let name = if full.is_file() {
                full.file_stem()
            } else {
                full.file_name()
            };
            Ok(Found {
                name: name.unwrap_or(full.as_os_str()).to_string_lossy().into(),
                folder,
            })
        }
        Some(given) => match hub::Name::parse(given) {
            Some(name) => Ok(Found {
                folder: hub::fetch(&name, parts)?,
                name: name.id,
            }),
            None => bail!(
                "--base {given}: there is no such folder or GGUF file, and a model on the hub is \
                 written org/name or org/name@revision"
            ),
        },
    }
}
