//! `openledger model export`: an adapter, or a base with an adapter folded in, in the files of
//! other programs.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use indicatif::HumanBytes;
use openledger_model::export::{Source, Written};
use openledger_model::{Adapter, Dtype, Encoding, template};
use serde_json::json;

use crate::cli::ExportArgs;

pub(crate) fn run(args: &ExportArgs) -> Result<()> {
    let base = super::find(args.base.as_deref(), super::Parts::All)?;
    let source = Source::open(&base.folder)
        .with_context(|| format!("cannot use {} as a base model", base.folder.display()))?;
    let load = |folder: &PathBuf| {
        Adapter::load_peft(folder, source.config())
            .with_context(|| format!("cannot use the adapter in {}", folder.display()))
    };
    let adapter = args.adapter.as_ref().map(load).transpose()?;
    let given = adapter.as_ref().context("--adapter DIR is missing");
    check_out(args, &base.folder)?;
    let out = &args.out;
    let name = match &args.adapter {
        Some(folder) => format!("{}-{}", base.name, adapter_name(folder)),
        None => base.name.clone(),
    };
    let written = match args.format.as_str() {
        "peft" => {
            let adapter = given?;
            ensure!(args.dtype == "f32", "PEFT adapters are written as f32");
            adapter.save_peft(out, &base.name)?;
            let names = ["adapter_config.json", "adapter_model.safetensors"];
            Written {
                files: names.map(|name| out.join(name)).to_vec(),
                tensors: adapter.layout().len(),
                notes: Vec::new(),
            }
        }
        "safetensors" => {
            let dtype = match args.dtype.as_str() {
                "f32" => Dtype::F32,
                "f16" => Dtype::F16,
                "bf16" => Dtype::Bf16,
                other => bail!("safetensors hold f32, f16 or bf16, not {other}"),
            };
            source.save_folder(adapter.as_ref(), dtype, out)?
        }
        "gguf" => {
            let encoding = encoding(args)?;
            make_folder(out)?;
            source.save_gguf(adapter.as_ref(), encoding, &name, out)?
        }
        "gguf-adapter" => {
            let (adapter, encoding) = (given?, encoding(args)?);
            make_folder(out)?;
            adapter.save_gguf(out, &name, encoding)?
        }
        other => bail!("{other} is not peft, safetensors, gguf or gguf-adapter"),
    };
    let written = with_template(written, args)?;
    print(args, &written)
}

fn encoding(args: &ExportArgs) -> Result<Encoding> {
    Ok(match args.dtype.as_str() {
        "f32" => Encoding::F32,
        "f16" => Encoding::F16,
        "bf16" => Encoding::Bf16,
        "q8_0" => Encoding::Q8_0,
        other => bail!("{other} is not f32, f16, bf16 or q8_0"),
    })
}

/// A run keeps its adapter in `adapter`; the run is what it is called by.
fn adapter_name(folder: &Path) -> String {
    let full = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let named = match full.parent() {
        Some(run) if full.ends_with("adapter") => run,
        _ => &full,
    };
    named
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into()
}

/// Refuses to write over what is read, and files where folders are meant.
fn check_out(args: &ExportArgs, base: &Path) -> Result<()> {
    let out = &args.out;
    let is_file = args.format.starts_with("gguf");
    if is_file && out.is_dir() {
        bail!("--out {}: is a folder; name a file", out.display());
    }
    if !is_file && out.is_file() {
        bail!("--out {}: is a file; name a folder", out.display());
    }
    let same = |other: &Path| {
        let (a, b) = (out.canonicalize(), other.canonicalize());
        a.is_ok_and(|a| b.is_ok_and(|b| a == b))
    };
    if same(base) || args.adapter.as_deref().is_some_and(same) {
        bail!("--out {}: is what is read; name another", out.display());
    }
    Ok(())
}

/// Makes the folder that a file goes to.
fn make_folder(out: &Path) -> Result<()> {
    let Some(folder) = out.parent() else {
        return Ok(());
    };
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))
}

/// The template that the adapter was taught with goes beside a merged model.
fn with_template(mut written: Written, args: &ExportArgs) -> Result<Written> {
    let Some(adapter) = &args.adapter else {
        return Ok(written);
    };
    let from = adapter.join(template::FILE);
    if args.format.starts_with("gguf") || !from.exists() {
        return Ok(written);
    }
    let to = args.out.join(template::FILE);
    openledger_store::write_atomic(&to, &openledger_store::read(&from)?)?;
    if !written.files.contains(&to) {
        written.files.push(to);
    }
    Ok(written)
}

fn print(args: &ExportArgs, written: &Written) -> Result<()> {
    let mut files = Vec::new();
    for path in &written.files {
        let size = std::fs::metadata(path)
            .with_context(|| format!("cannot look at {}", path.display()))?
            .len();
        files.push((path, size));
    }
    if args.json {
        let files: Vec<_> = files
            .iter()
            .map(|(path, bytes)| json!({"path": path, "bytes": bytes}))
            .collect();
        let report = json!({
            "format": args.format,
            "dtype": args.dtype,
            "tensors": written.tensors,
            "files": files,
            "notes": written.notes,
        });
        println!("{report}");
        return Ok(());
    }
    for (path, bytes) in files {
        println!("{:>10}  {}", HumanBytes(bytes).to_string(), path.display());
    }
    println!("{} tensors as {}", written.tensors, args.dtype);
    for note in &written.notes {
        println!("note: {note}");
    }
    Ok(())
}
