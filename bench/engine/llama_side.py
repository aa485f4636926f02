"""llama.cpp through the low-level functions of llama-cpp-python, and the GGUF files that it reads."""

import ctypes
import json
import os

import gguf
import llama_cpp
import numpy

import peers

SHOWN = 32

# Nothing but the replies on standard output, nothing but faults on standard error.
_quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
llama_cpp.llama_log_set(_quiet, ctypes.c_void_p())


def write(directory, to, kind):
    """Writes the model in `directory` as GGUF of type BF16 or Q8_0; norms stay F32."""
    from safetensors import safe_open

    with open(f"{directory}/config.json") as file:
        c = json.load(file)
    writer = gguf.GGUFWriter(to, "llama")
    writer.add_vocab_size(c["vocab_size"])
    writer.add_context_length(c["max_position_embeddings"])
    writer.add_embedding_length(c["hidden_size"])
    writer.add_block_count(c["num_hidden_layers"])
    writer.add_feed_forward_length(c["intermediate_size"])
    writer.add_head_count(c["num_attention_heads"])
    writer.add_head_count_kv(c["num_key_value_heads"])
    width = c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]
    writer.add_rope_dimension_count(width)
    theta = c.get("rope_theta") or c["rope_parameters"]["rope_theta"]
    writer.add_rope_freq_base(theta)
    writer.add_layer_norm_rms_eps(c["rms_norm_eps"])
    # Tokens go in and out as numbers.
    writer.add_tokenizer_model("none")
    wanted = gguf.GGMLQuantizationType[kind]
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, c["num_hidden_layers"])
    with safe_open(f"{directory}/model.safetensors", framework="pt") as tensors:
        for name in tensors.keys():
            values = tensors.get_tensor(name).float().numpy()
            for part, heads in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
                if part in name:
                    values = interleaved(values, c[heads])
            target = names.get_name(name, try_suffixes=(".weight",))
            kind = wanted if values.ndim == 2 else gguf.GGMLQuantizationType.F32
            writer.add_tensor(target, gguf.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def interleaved(rows, heads):
    """llama.cpp rotates neighbouring pairs, the others halves of a head: rows change places."""
    pairs = rows.reshape(heads, 2, -1, rows.shape[1])
    return numpy.ascontiguousarray(pairs.swapaxes(1, 2).reshape(rows.shape))


class Context:
    """A loaded model with room for `lanes` sequences of `length` tokens."""

    def __init__(self, settings, lanes, length, batch):
        threads = int(settings.get("threads", os.cpu_count()))
        params = llama_cpp.llama_model_default_params()
        # Repacking for AMX ends in a segmentation fault: ggml-org/llama.cpp issue 20824.
        params.use_extra_bufts = False
        self.model = llama_cpp.llama_model_load_from_file(settings["gguf"].encode(), params)
        if not self.model:
            raise RuntimeError(f"llama.cpp cannot load {settings['gguf']}")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = lanes * (-(-length // 256) * 256)
        params.n_batch = params.n_ubatch = batch
        params.n_seq_max = lanes
        params.n_threads = params.n_threads_batch = threads
        params.kv_unified = False
        params.no_perf = True
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        if not self.context:
            raise RuntimeError("llama.cpp cannot make a context")
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.batch = llama_cpp.llama_batch_init(batch, 0, 1)

    def __del__(self):
        llama_cpp.llama_batch_free(self.batch)
        llama_cpp.llama_free(self.context)
        llama_cpp.llama_model_free(self.model)

    def run(self, entries):
        """Entries of (lane, position, whether its logits are wanted), as one batch."""
        b = self.batch
        b.n_tokens = len(entries)
        for i, (lane, position, wanted) in enumerate(entries):
            b.token[i] = peers.token(self.vocab, lane, position)
            b.pos[i] = position
            b.n_seq_id[i] = 1
            b.seq_id[i][0] = lane
            b.logits[i] = wanted
        if status := llama_cpp.llama_decode(self.context, b):
            raise RuntimeError(f"llama_decode says {status}")

    def shown(self, index):
        logits = llama_cpp.llama_get_logits_ith(self.context, index)
        return [logits[i] for i in range(SHOWN)]


def llama_prefill(settings):
    """A prompt, up to the last token's logits."""
    length = int(settings["length"])
    context = Context(settings, 1, length, length)
    entries = [(0, p, p == length - 1) for p in range(length)]

    def run():
        llama_cpp.llama_memory_clear(context.memory, True)
        context.run(entries)
        return context.shown(length - 1)

    return run, length


def llama_decode(settings):
    """Steps of one token in each of the lanes."""
    lanes, held, steps = (int(settings[name]) for name in ("lanes", "held", "steps"))
    context = Context(settings, lanes, held + steps, max(lanes, held))
    for lane in range(lanes):
        context.run([(lane, p, False) for p in range(held)])

    def run():
        for lane in range(lanes):
            llama_cpp.llama_memory_seq_rm(context.memory, lane, held, -1)
        for position in range(held, held + steps):
            context.run([(lane, position, True) for lane in range(lanes)])
            check = context.shown(0)
        return check

    return run, lanes * steps
