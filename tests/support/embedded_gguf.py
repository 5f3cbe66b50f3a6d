"""The embedded language model behind a real llama.cpp server: real weights, real HTTP, two CPU cores.

`write_gguf` turns the Hugging Face directory of a GPT-2 model into one GGUF file; `serve_gguf` opens it with the
in-process server of xllamacpp. Hugging Face keeps GPT-2's linear weights as Conv1D, [in, out]; GGUF wants
[out, in], so they are transposed. An output layer that is tied to the embedding is left out: GGUF reads it so.
"""

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf
import xllamacpp
from safetensors.numpy import load_file

import sae_auto_interp

CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
"""As short as it can be: the model reads 128 tokens and was never taught to chat."""

LAYER_TENSORS = {
    "ln_1.weight": "attn_norm.weight",
    "ln_1.bias": "attn_norm.bias",
    "attn.c_attn.weight": "attn_qkv.weight",
    "attn.c_attn.bias": "attn_qkv.bias",
    "attn.c_proj.weight": "attn_output.weight",
    "attn.c_proj.bias": "attn_output.bias",
    "ln_2.weight": "ffn_norm.weight",
    "ln_2.bias": "ffn_norm.bias",
    "mlp.c_fc.weight": "ffn_up.weight",
    "mlp.c_fc.bias": "ffn_up.bias",
    "mlp.c_proj.weight": "ffn_down.weight",
    "mlp.c_proj.bias": "ffn_down.bias",
}
WHOLE_MODEL_TENSORS = {
    "wte.weight": "token_embd.weight",
    "wpe.weight": "position_embd.weight",
    "ln_f.weight": "output_norm.weight",
    "ln_f.bias": "output_norm.bias",
}


def embedded_language_model() -> Path:
    """Directory of the model that ships inside the package."""
    return Path(sae_auto_interp.__file__).parent / "assets" / "language_model"


def write_gguf(source: Path, target: Path, name: str) -> None:
    """Write the GPT-2 model in the Hugging Face directory `source` as the GGUF file `target`."""
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    writer = gguf.GGUFWriter(target, "gpt2")
    _add_architecture(writer, config, name)
    _add_tokenizer(writer, source, config)
    _add_weights(writer, source, config)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@contextmanager
def serve_gguf(path: Path, model: str, n_ctx: int = 128) -> Generator[str]:
    """Serve the file under the name `model` on a free loopback port; gives the address, without /v1."""
    llama: Any = xllamacpp  # a compiled module without type stubs
    params = llama.CommonParams()
    params.model.path = str(path)
    params.model_alias = {model}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx = n_ctx
    params.n_parallel = 1
    params.n_gpu_layers = 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.n_threads_http = 8  # a thread is bound to a connection while that is open, idle or not
    params.warmup = False
    params.verbosity = 0
    server = llama.Server(params)
    try:
        yield server.listening_address
    finally:
        del server  # it has no method to stop it: it stops when nothing refers to it


def _add_architecture(writer: gguf.GGUFWriter, config: dict[str, Any], name: str) -> None:
    assert (config["model_type"], config["activation_function"]) == ("gpt2", "gelu_new"), config
    writer.add_name(name)
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_block_count(config["n_layer"])
    writer.add_feed_forward_length(config["n_inner"] or 4 * config["n_embd"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])


def _add_tokenizer(writer: gguf.GGUFWriter, source: Path, config: dict[str, Any]) -> None:
    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary: dict[str, int] = tokenizer["model"]["vocab"]
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    assert [vocabulary[token] for token in tokens] == list(range(config["vocab_size"])), "ids must be 0..vocab_size-1"
    special = {token["content"] for token in tokenizer["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if t in special else gguf.TokenType.NORMAL for t in tokens])
    writer.add_token_merges([" ".join(merge) for merge in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def _add_weights(writer: gguf.GGUFWriter, source: Path, config: dict[str, Any]) -> None:
    weights = load_file(source / "model.safetensors")
    n_layers, is_tied = config["n_layer"], config["tie_word_embeddings"]
    names = {f"transformer.{ours}": theirs for ours, theirs in WHOLE_MODEL_TENSORS.items()}
    for layer in range(n_layers):
        names |= {f"transformer.h.{layer}.{ours}": f"blk.{layer}.{theirs}" for ours, theirs in LAYER_TENSORS.items()}
    if is_tied:
        weights.pop("lm_head.weight", None)
    else:
        names["lm_head.weight"] = "output.weight"
    assert set(weights) == set(names), set(weights) ^ set(names)
    for ours, theirs in names.items():
        is_conv1d = ".c_" in ours and ours.endswith(".weight")
        tensor = weights[ours].astype("float32")
        writer.add_tensor(theirs, tensor.T.copy() if is_conv1d else tensor)
