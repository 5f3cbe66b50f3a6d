"""What every named place of one block should be, written down from the papers' formulas and the model's weights.

In goes the residual stream before the block, which transformers reports itself as `hidden_states`, and `z`, what the
heads give side by side. Attention is not recomputed: a wrong `z` makes everything after it wrong, up to the stream
after the block, which transformers reports too. Shares no code with the package, and reads no module.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.models.tiny_models import EPSILON

Weights = Callable[[str], Tensor]
Places = dict[str, Tensor]


def weights_of(model: Any, layer: int) -> Weights:
    """By name below the block, whatever stands before it in the names of this model."""
    found = {
        name.split(f".{layer}.", 1)[1]: value
        for name, value in model.state_dict().items()
        if f"h.{layer}." in name or (f"layers.{layer}." in name and "vision" not in name)
    }
    return lambda name: found[name].double()


def places_of_block(name: str, model: Any, layer: int, stream: Tensor, z: Tensor) -> Places:
    """{hook name: tensor}, as it should be, in double precision."""
    reference = REFERENCES[name.removesuffix("_multimodal")]
    return {"hook_resid_pre": stream} | reference(weights_of(model, layer), stream.double(), z.double())


def gpt2(w: Weights, stream: Tensor, z: Tensor) -> Places:
    attention = z @ w("attn.c_proj.weight") + w("attn.c_proj.bias")
    middle = stream + attention
    read = _standard(middle) * w("ln_2.weight") + w("ln_2.bias")
    pre = read @ w("mlp.c_fc.weight") + w("mlp.c_fc.bias")
    post = F.gelu(pre, approximate="tanh")
    mlp = post @ w("mlp.c_proj.weight") + w("mlp.c_proj.bias")
    return {
        "ln1.hook_normalized": _standard(stream), "ln2.hook_normalized": _standard(middle),
        **_attention(z, attention), "hook_resid_mid": middle,
        "mlp.hook_in": read, "mlp.hook_pre": pre, "mlp.hook_post": post, "mlp.hook_out": mlp, "hook_mlp_out": mlp,
        "hook_resid_post": middle + mlp,
    }  # fmt: skip


def gpt_neox(w: Weights, stream: Tensor, z: Tensor) -> Places:
    """Parallel: the MLP does not see what attention wrote."""
    places = _neox(w, stream, z, read_by_mlp=stream)
    return places | {"hook_resid_post": stream + places["hook_attn_out"] + places["hook_mlp_out"]}


def gpt_neox_sequential(w: Weights, stream: Tensor, z: Tensor) -> Places:
    middle = stream + _linear(w, "attention.dense", z)
    places = _neox(w, stream, z, read_by_mlp=middle)
    return places | {"hook_resid_mid": middle, "hook_resid_post": middle + places["hook_mlp_out"]}


def phi(w: Weights, stream: Tensor, z: Tensor) -> Places:
    """Parallel, and one norm for both."""
    attention = _linear(w, "self_attn.dense", z)
    read = _standard(stream) * w("input_layernorm.weight") + w("input_layernorm.bias")
    pre = _linear(w, "mlp.fc1", read)
    post = F.gelu(pre, approximate="tanh")
    mlp = _linear(w, "mlp.fc2", post)
    return {
        "ln1.hook_normalized": _standard(stream), **_attention(z, attention), "mlp.hook_in": read,
        "mlp.hook_pre": pre, "mlp.hook_post": post, "mlp.hook_out": mlp, "hook_mlp_out": mlp,
        "hook_resid_post": stream + attention + mlp,
    }  # fmt: skip


def llama(w: Weights, stream: Tensor, z: Tensor) -> Places:
    return _before_norms(w, stream, z, gain=lambda weight: weight, act=F.silu)


def gemma(w: Weights, stream: Tensor, z: Tensor) -> Places:
    return _before_norms(w, stream, z, gain=lambda weight: 1 + weight, act=_tanh_gelu)


def gemma2(w: Weights, stream: Tensor, z: Tensor) -> Places:
    """Norms before and after both."""
    attention = z @ w("self_attn.o_proj.weight").T
    added = _rms(attention) * (1 + w("post_attention_layernorm.weight"))
    middle = stream + added
    read = _rms(middle) * (1 + w("pre_feedforward_layernorm.weight"))
    mlp = _gated(w, read, _tanh_gelu)
    written = _rms(mlp["mlp.hook_out"]) * (1 + w("post_feedforward_layernorm.weight"))
    return {
        "ln1.hook_normalized": _rms(stream), "ln2.hook_normalized": _rms(middle), **_attention(z, attention),
        "hook_attn_out": added, "hook_resid_mid": middle, **mlp, "hook_mlp_out": written,
        "hook_resid_post": middle + written,
    }  # fmt: skip


def olmo2(w: Weights, stream: Tensor, z: Tensor) -> Places:
    """Norms after both only."""
    attention = z @ w("self_attn.o_proj.weight").T
    added = _rms(attention) * w("post_attention_layernorm.weight")
    mlp = _gated(w, stream + added, F.silu)
    written = _rms(mlp["mlp.hook_out"]) * w("post_feedforward_layernorm.weight")
    return {
        **_attention(z, attention), "hook_attn_out": added, "hook_resid_mid": stream + added, **mlp,
        "hook_mlp_out": written, "hook_resid_post": stream + added + written,
    }  # fmt: skip


def gpt_oss(w: Weights, stream: Tensor, z: Tensor) -> Places:
    def expert(i: int, read: Tensor) -> Tensor:
        both = read @ w("mlp.experts.gate_up_proj")[i] + w("mlp.experts.gate_up_proj_bias")[i]
        gate, up = both[..., ::2].clamp(max=7), both[..., 1::2].clamp(-7, 7)
        neurons = (up + 1) * gate * torch.sigmoid(1.702 * gate)
        return neurons @ w("mlp.experts.down_proj")[i] + w("mlp.experts.down_proj_bias")[i]

    attention = _linear(w, "self_attn.o_proj", z)
    return _experts(w, stream, z, attention, lambda read: _linear(w, "mlp.router", read), expert)


def qwen3_moe(w: Weights, stream: Tensor, z: Tensor) -> Places:
    def expert(i: int, read: Tensor) -> Tensor:
        gate, up = (read @ w("mlp.experts.gate_up_proj")[i].T).chunk(2, dim=-1)
        return (F.silu(gate) * up) @ w("mlp.experts.down_proj")[i].T

    attention = z @ w("self_attn.o_proj.weight").T
    return _experts(w, stream, z, attention, lambda read: read @ w("mlp.gate.weight").T, expert)


def _experts(
    w: Weights, stream: Tensor, z: Tensor, attention: Tensor, score: Any, expert: Any, n_active: int = 2
) -> Places:
    """Every expert on every token, weighted by the softmax over the chosen ones."""
    middle = stream + attention
    read = _rms(middle) * w("post_attention_layernorm.weight")
    scores = score(read)
    chosen = scores >= scores.sort(dim=-1, descending=True).values[..., n_active - 1 : n_active]
    shares = scores.masked_fill(~chosen, -torch.inf).softmax(-1)
    mlp = torch.stack([shares[..., i : i + 1] * expert(i, read) for i in range(scores.shape[-1])]).sum(0)
    return {
        "ln1.hook_normalized": _rms(stream), "ln2.hook_normalized": _rms(middle), **_attention(z, attention),
        "hook_resid_mid": middle, "mlp.hook_in": read, "mlp.hook_out": mlp, "hook_mlp_out": mlp,
        "hook_resid_post": middle + mlp,
    }  # fmt: skip


REFERENCES: dict[str, Callable[[Weights, Tensor, Tensor], Places]] = {
    "gpt2": gpt2, "gpt_neox": gpt_neox, "gpt_neox_sequential": gpt_neox_sequential, "llama": llama, "mistral": llama,
    "gemma": gemma, "gemma2": gemma2, "gemma3": gemma2, "qwen2": llama, "qwen3": llama, "qwen3_moe": qwen3_moe,
    "gpt_oss": gpt_oss,
    "olmo2": olmo2, "olmo3": olmo2, "phi": phi,
}  # fmt: skip


def _neox(w: Weights, stream: Tensor, z: Tensor, *, read_by_mlp: Tensor) -> Places:
    normalised = _standard(read_by_mlp)
    read = normalised * w("post_attention_layernorm.weight") + w("post_attention_layernorm.bias")
    pre = _linear(w, "mlp.dense_h_to_4h", read)
    post = F.gelu(pre)
    mlp = _linear(w, "mlp.dense_4h_to_h", post)
    return {
        "ln1.hook_normalized": _standard(stream), "ln2.hook_normalized": normalised,
        **_attention(z, _linear(w, "attention.dense", z)), "mlp.hook_in": read, "mlp.hook_pre": pre,
        "mlp.hook_post": post, "mlp.hook_out": mlp, "hook_mlp_out": mlp,
    }  # fmt: skip


def _before_norms(w: Weights, stream: Tensor, z: Tensor, gain: Any, act: Any) -> Places:
    attention = z @ w("self_attn.o_proj.weight").T
    middle = stream + attention
    mlp = _gated(w, _rms(middle) * gain(w("post_attention_layernorm.weight")), act)
    return {
        "ln1.hook_normalized": _rms(stream), "ln2.hook_normalized": _rms(middle), **_attention(z, attention),
        "hook_resid_mid": middle, **mlp, "hook_mlp_out": mlp["mlp.hook_out"],
        "hook_resid_post": middle + mlp["mlp.hook_out"],
    }  # fmt: skip


def _attention(z: Tensor, out: Tensor) -> Places:
    return {"attn.hook_z": z, "attn.hook_out": out, "hook_attn_out": out}


def _gated(w: Weights, read: Tensor, act: Any) -> Places:
    gate, up = read @ w("mlp.gate_proj.weight").T, read @ w("mlp.up_proj.weight").T
    post = act(gate) * up
    return {
        "mlp.hook_in": read, "mlp.hook_pre": gate, "mlp.hook_pre_linear": up, "mlp.hook_post": post,
        "mlp.hook_out": post @ w("mlp.down_proj.weight").T,
    }  # fmt: skip


def _linear(w: Weights, name: str, x: Tensor) -> Tensor:
    return x @ w(f"{name}.weight").T + w(f"{name}.bias")


def _tanh_gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _standard(x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + EPSILON).sqrt()


def _rms(x: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + EPSILON).sqrt()
