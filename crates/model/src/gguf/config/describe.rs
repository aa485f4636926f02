//! The shape of a model as metadata of a GGUF file.

use openledger_kernels::rope::{Yarn, frequencies, scale_llama3};

use super::super::metadata::Value;
use super::super::names;
use super::{ADD_BOS, BOS, EOS, attention_scalar};
use crate::Error;
use crate::config::{Architecture, Config, RopeScaling, attention_scale};

/// A model's shape as metadata, and the divisors of [`super::ROPE_FACTORS`] where it has them.
#[derive(Debug, Default)]
pub(crate) struct Described {
    pub(crate) pairs: Vec<(String, Value)>,
    pub(crate) divisors: Option<Vec<f32>>,
    /// What llama.cpp does not read, for people.
    pub(crate) notes: Vec<String>,
}

/// Describes a model as llama.cpp's own converter does.
///
/// # Errors
/// [`Error::Inexpressible`] when llama.cpp would compute something else.
pub(crate) fn describe(c: &Config) -> Result<Described, Error> {
    let f = &c.features;
    let name = names::architecture(f.architecture);
    let mut d = Described::default();
    check_expressible(c)?;
    let mut put = |key: &str, value: Value| d.pairs.push((format!("{name}.{key}"), value));
    put("block_count", c.layers.into());
    put("context_length", c.context.into());
    put("embedding_length", c.hidden.into());
    put("feed_forward_length", c.mlp.into());
    put("vocab_size", c.vocab.into());
    put("attention.head_count", c.heads.into());
    put("attention.head_count_kv", c.kv_heads.into());
    put("attention.key_length", c.head_dim.into());
    put("attention.value_length", c.head_dim.into());
    put("attention.layer_norm_rms_epsilon", c.norm_eps.into());
    put("rope.dimension_count", c.head_dim.into());
    put("rope.freq_base", c.rope_theta.into());
    if let Some(theta) = f.window_rope_theta {
        put("rope.freq_base_swa", theta.into());
    }
    if let Some(cap) = f.attention_softcap {
        put("attn_logit_softcapping", cap.into());
    }
    if let Some(cap) = f.logit_softcap {
        put("final_logit_softcapping", cap.into());
    }
    let window = f.windows.iter().flatten().next().copied();
    if let Some(window) = window {
        put("attention.sliding_window", window.into());
        let flags: Vec<bool> = f.windows.iter().map(Option::is_some).collect();
        put("attention.sliding_window_pattern", Value::Flags(flags));
    } else if f.architecture == Architecture::Phi3 {
        put("attention.sliding_window", 0_usize.into());
    }
    match f.rope_scaling {
        RopeScaling::None => {}
        RopeScaling::Linear { factor } => {
            put("rope.scaling.type", "linear".into());
            put("rope.scaling.factor", factor.into());
        }
        RopeScaling::Yarn {
            factor,
            beta_fast,
            beta_slow,
            original_context,
            attention_factor,
        } => {
            put("rope.scaling.type", "yarn".into());
            put("rope.scaling.factor", factor.into());
            put("rope.scaling.yarn_beta_fast", beta_fast.into());
            put("rope.scaling.yarn_beta_slow", beta_slow.into());
            put(
                "rope.scaling.original_context_length",
                original_context.into(),
            );
            if let Some(whole) = attention_factor {
                let yarn = Yarn {
                    factor,
                    beta_fast,
                    beta_slow,
                    original_context,
                };
                let extra = whole / yarn.attention_factor();
                put("rope.scaling.attn_factor", extra.into());
            }
        }
        RopeScaling::Llama3 {
            factor,
            low,
            high,
            original_context,
        } => {
            let plain = frequencies(c.head_dim, c.rope_theta);
            let mut scaled = plain.clone();
            scale_llama3(&mut scaled, factor, low, high, original_context);
            d.divisors = Some(plain.iter().zip(&scaled).map(|(f, s)| f / s).collect());
        }
    }
    if let Some(window) = window.filter(|window| !f.architecture.is_gemma() && *window < c.context)
    {
        d.notes.push(format!(
            "llama.cpp has no sliding window for {name}: sequences of more than {window} tokens \
             get other answers there"
        ));
    }
    if let RopeScaling::Yarn {
        beta_fast,
        beta_slow,
        ..
    } = f.rope_scaling
        && (beta_fast.to_bits(), beta_slow.to_bits()) != (32.0_f32.to_bits(), 1.0_f32.to_bits())
    {
        d.notes.push(format!(
            "llama.cpp does not read the ramp of YaRN from files: start it with \
             --yarn-beta-fast {beta_fast} --yarn-beta-slow {beta_slow}"
        ));
    }
    if let Some(bos) = c.bos {
        d.pairs.push((BOS.to_owned(), bos.into()));
    }
    d.pairs.push((ADD_BOS.to_owned(), c.bos.is_some().into()));
    for (key, token) in EOS.iter().zip(&c.eos) {
        d.pairs.push(((*key).to_owned(), (*token).into()));
    }
    if c.eos.len() > EOS.len() {
        d.notes.push(format!(
            "GGUF has room for {} end tokens; {:?} are left out",
            EOS.len(),
            &c.eos[EOS.len()..]
        ));
    }
    Ok(d)
}

fn check_expressible(c: &Config) -> Result<(), Error> {
    let f = &c.features;
    let cannot = |field, value: String, expected: String| {
        Err(Error::Inexpressible {
            field,
            value,
            format: "GGUF",
            expected,
        })
    };
    let architecture = f.architecture;
    if architecture.is_gemma() {
        let scalar = attention_scalar(c);
        let scale = attention_scale(scalar as u64);
        if f.attention_scale.map(f32::to_bits) != Some(scale.to_bits()) {
            let found = f.attention_scale.map_or("1".to_owned(), |x| x.to_string());
            return cannot("attention_scale", found, format!("{scale} in this shape"));
        }
        if architecture == Architecture::Gemma2
            && (f.attention_softcap.is_none() || f.logit_softcap.is_none())
        {
            let expected = "a number for both in Gemma 2".to_owned();
            return cannot("a soft-cap", "none".to_owned(), expected);
        }
    }
    let llama = names::architecture(architecture) == "llama";
    if let RopeScaling::Llama3 { .. } = f.rope_scaling
        && !llama
    {
        let name = names::architecture(architecture).to_owned();
        return cannot("llama3 rope scaling", name, "it in Llama only".to_owned());
    }
    let same = matches!(architecture, Architecture::Qwen2 | Architecture::Phi3);
    if same && c.q_width() != c.hidden {
        let expected = format!("{}, the hidden size, in this family", c.hidden);
        return cannot("the width of all heads", c.q_width().to_string(), expected);
    }
    Ok(())
}
