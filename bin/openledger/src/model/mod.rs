//! Base models as the command line names them, and what can be done with one.

mod export;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::cli::ModelCommand;

/// Does what `openledger model` was asked for.
pub(crate) fn run(command: ModelCommand) -> Result<()> {
    match command {
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

/// The base model that `--base` names; the bundled one where nothing is named.
pub(crate) fn find(given: Option<&str>) -> Result<Found> {
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
        Some(path) => bail!("--base {path}: there is no such folder or GGUF file"),
    }
}
