//! How llama.cpp calls and arranges what Hugging Face files hold.

use crate::Config;
use crate::config::Architecture;

/// Name of an architecture in `general.architecture`. Mistral is stored as Llama, which it is
/// without its window.
pub(crate) fn architecture(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Llama | Architecture::Mistral => "llama",
        Architecture::Qwen2 => "qwen2",
        Architecture::Qwen3 => "qwen3",
        Architecture::Gemma2 => "gemma2",
        Architecture::Gemma3 => "gemma3",
        Architecture::Phi3 => "phi3",
    }
}

/// The architectures that are read, by that name.
pub(crate) const ARCHITECTURES: [Architecture; 6] = [
    Architecture::Llama,
    Architecture::Qwen2,
    Architecture::Qwen3,
    Architecture::Gemma2,
    Architecture::Gemma3,
    Architecture::Phi3,
];

/// Name of a tensor of [`crate::Base::layout`] in a GGUF file.
pub(crate) fn tensor(config: &Config, name: &str) -> String {
    let gemma = config.features.architecture.is_gemma();
    let block = name
        .strip_prefix("model.layers.")
        .and_then(|rest| rest.split_once('.'));
    let Some((layer, part)) = block else {
        let outer = match name {
            "model.embed_tokens.weight" => "token_embd.weight",
            "model.norm.weight" => "output_norm.weight",
            "lm_head.weight" => "output.weight",
            other => other,
        };
        return outer.to_owned();
    };
    let (module, kind) = part.rsplit_once('.').unwrap_or((part, "weight"));
    let module = match module {
        "input_layernorm" => "attn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.qkv_proj" => "attn_qkv",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "self_attn.o_proj" => "attn_output",
        "post_attention_layernorm" if gemma => "post_attention_norm",
        "post_attention_layernorm" | "pre_feedforward_layernorm" => "ffn_norm",
        "post_feedforward_layernorm" => "post_ffw_norm",
        "mlp.gate_proj" => "ffn_gate",
        // Phi-3's gate and up together.
        "mlp.up_proj" | "mlp.gate_up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        other => other,
    };
    format!("blk.{layer}.{module}.{kind}")
}

/// What else llama.cpp does to a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Nothing,
    /// Rows of every head are interleaved: its rotation pairs neighbours, ours halves.
    Interleave {
        head_dim: usize,
        /// Numbers of a row.
        width: usize,
    },
    /// One is added: what is stored is the factor itself.
    AddOne,
}

impl Change {
    /// The change of a tensor of [`crate::Base::layout`], or of an adapter's `B` for it, whose
    /// rows are `width` numbers long.
    pub(crate) fn of(config: &Config, name: &str, width: usize) -> Self {
        let architecture = config.features.architecture;
        if architecture.is_gemma() && name.ends_with("norm.weight") {
            return Self::AddOne;
        }
        let rotated = name.contains(".q_proj.") || name.contains(".k_proj.");
        if rotated && self::architecture(architecture) == "llama" {
            let head_dim = config.head_dim;
            return Self::Interleave { head_dim, width };
        }
        Self::Nothing
    }

    /// From our order to llama.cpp's.
    pub(crate) fn apply(self, values: &mut [f32]) {
        match self {
            Self::Nothing => {}
            Self::AddOne => values.iter_mut().for_each(|x| *x += 1.0),
            Self::Interleave { head_dim, width } => {
                let half = head_dim / 2;
                rearrange(values, head_dim, width, |row| 2 * (row % half) + row / half);
            }
        }
    }

    /// From llama.cpp's order to ours.
    pub(crate) fn undo(self, values: &mut [f32]) {
        match self {
            Self::Nothing => {}
            Self::AddOne => values.iter_mut().for_each(|x| *x -= 1.0),
            Self::Interleave { head_dim, width } => {
                let half = head_dim / 2;
                rearrange(values, head_dim, width, |row| (row % 2) * half + row / 2);
            }
        }
    }
}

/// Moves row `i` of every head to row `to(i)` of it.
fn rearrange(values: &mut [f32], head_dim: usize, width: usize, to: impl Fn(usize) -> usize) {
    for head in values.chunks_exact_mut(head_dim * width) {
        let before = head.to_vec();
        for (row, from) in before.chunks_exact(width).enumerate() {
            head[to(row) * width..][..width].copy_from_slice(from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_become_neighbours_and_come_back() {
        let change = Change::Interleave {
            head_dim: 4,
            width: 2,
        };
        let ours: Vec<f32> = (0..16_u8).map(f32::from).collect();
        let mut values = ours.clone();
        change.apply(&mut values);
        // Rows 0 and 2 of a head turn together; there they are rows 0 and 1.
        assert_eq!(values[..8], [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0]);
        assert_eq!(values[8..10], [8.0, 9.0]);
        change.undo(&mut values);
        assert_eq!(values, ours);
    }
}
