"""torch with transformers and PEFT, set up as well as we know how: all cores, the quicker of SDPA and
eager attention, torch's own rms_norm, adapters in the base's type."""

import os
import time

import peft
import torch
import transformers
from torch.nn import functional

import peers

LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
RANK, ALPHA = 16, 32
SHOWN = 32


def rms_norm(norm, x):
    return functional.rms_norm(x, norm.weight.shape, norm.weight, norm.variance_epsilon)


def load(settings):
    threads = int(settings.get("threads", os.cpu_count()))
    torch.set_num_threads(threads)
    dtype = {"bf16": torch.bfloat16, "f32": torch.float32}[settings["dtype"]]
    model = transformers.AutoModelForCausalLM.from_pretrained(
        settings["dir"], dtype=dtype, attn_implementation="sdpa"
    )
    transformers.models.llama.modeling_llama.LlamaRMSNorm.forward = rms_norm
    model.config.use_cache = False
    return model.requires_grad_(False)


def with_peft(model):
    config = peft.LoraConfig(
        r=RANK, lora_alpha=ALPHA, target_modules=LINEARS, task_type="CAUSAL_LM"
    )
    return peft.get_peft_model(model, config, autocast_adapter_dtype=False)


class Expanded(torch.nn.Module):
    """A frozen linear with a LoRA whose matrices have a copy for every example of the batch, so that
    one backward pass leaves every example's gradient (the expanded-weight trick)."""

    def __init__(self, linear, batch):
        super().__init__()
        self.linear = linear
        outputs, inputs = linear.weight.shape
        dtype = linear.weight.dtype
        a = (torch.rand(RANK, inputs, dtype=dtype) * 2 - 1) / inputs**0.5
        b = torch.zeros(outputs, RANK, dtype=dtype)
        self.a = torch.nn.Parameter(a.expand(batch, -1, -1).contiguous())
        self.b = torch.nn.Parameter(b.expand(batch, -1, -1).contiguous())

    def forward(self, x):
        update = torch.bmm(torch.bmm(x, self.a.mT), self.b.mT)
        return torch.add(self.linear(x), update, alpha=ALPHA / RANK)


def expand(model, batch):
    for block in model.model.layers:
        for part in (block.self_attn, block.mlp):
            for name in LINEARS:
                if hasattr(part, name):
                    setattr(part, name, Expanded(getattr(part, name), batch))
    return model


def rows(model, settings):
    """Inputs and targets, `[batch, length]` each."""
    batch, length = int(settings["batch"]), int(settings["length"])
    vocab = model.config.vocab_size
    tokens = [[peers.token(vocab, r, p) for p in range(length + 1)] for r in range(batch)]
    tokens = torch.tensor(tokens)
    return tokens[:, :-1], tokens[:, 1:].contiguous()


def losses(model, inputs, targets, reduction):
    logits = model(inputs).logits.float()
    return functional.cross_entropy(
        logits.view(-1, logits.shape[-1]), targets.view(-1), reduction=reduction
    )


def with_best_attention(model, length, run, settings):
    """SDPA for long sequences; for short ones what `attention=` says, or is quicker here and now."""
    if length > 256:
        return run
    if "attention" in settings:
        model.config._attn_implementation = settings["attention"]
        return run

    def seconds(attention):
        model.config._attn_implementation = attention
        run()
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    model.config._attn_implementation = min(("sdpa", "eager"), key=seconds)
    return run


def gradients(settings):
    """One batch's LoRA gradient, summed, with the PEFT library."""
    model = with_peft(load(settings))
    inputs, targets = rows(model, settings)

    def run():
        model.zero_grad(set_to_none=True)
        loss = losses(model, inputs, targets, "mean")
        loss.backward()
        return [loss.item()]

    return with_best_attention(model, inputs.shape[1], run, settings), inputs.numel()


def each(settings):
    """A gradient for every example, by expanded weights."""
    model = load(settings)
    inputs, targets = rows(model, settings)
    expand(model, inputs.shape[0])

    def run():
        model.zero_grad(set_to_none=True)
        loss = losses(model, inputs, targets, "none").view(inputs.shape).mean(dim=1)
        loss.sum().backward()
        return loss.tolist()

    return with_best_attention(model, inputs.shape[1], run, settings), inputs.numel()


def prefill(settings):
    """A prompt, up to the last token's logits; keys and values are kept."""
    model = load(settings)
    length = int(settings["length"])
    prompt = torch.tensor([[peers.token(model.config.vocab_size, 0, p) for p in range(length)]])

    def run():
        with torch.inference_mode():
            logits = model(prompt, use_cache=True, logits_to_keep=1).logits
        return logits[0, -1, :SHOWN].float().tolist()

    return run, length


def memory(settings):
    """Four steps of tuning with AdamW, loading included; most resident memory, in MiB."""
    model = with_peft(load({**settings, "dtype": "bf16"}))
    if settings["checkpointing"] == "on":
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    inputs, targets = rows(model, settings)
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=4e-3, weight_decay=0.0
    )
    history = []
    for _ in range(4):
        optimizer.zero_grad(set_to_none=True)
        loss = losses(model, inputs, targets, "mean")
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return {"peak": int(line.split()[1]) / 1024, "losses": history}
