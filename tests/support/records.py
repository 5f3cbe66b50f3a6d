"""What tests of everything before the explainer build on: records, token rows, caches on disk, tiny models with coders.

torch is imported only by the functions that need it, so that tests of numpy code stay light.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sae_auto_interp.cache.fingerprints import cache_fingerprint, rows_hash
from sae_auto_interp.cache.layout import FORMAT_VERSION, shard_ranges
from sae_auto_interp.cache.merge import merge_into_cache
from sae_auto_interp.cache.write_buffer import WriteBuffer
from sae_auto_interp.types import (
    NO_DOCUMENT,
    CacheManifest,
    Example,
    ExampleSource,
    FeatureId,
    FeatureRecord,
    FeatureStats,
    NonActivating,
    TokenRows,
)

WORDS = ("the", "of", "and", "to", "in", "that", "is", "was", "for", "it", "with", "as", "his", "on", "be", "at", "by")
VOCAB, D_MODEL, WIDTH = 50, 16, 40
Entry = tuple[int, int, int, float]
"""(row, position, feature, value)."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def make_record(
    feature: FeatureId | None = None,
    *,
    token: str = " cat",
    n_train: int = 10,
    n_test: int = 10,
    n_non_activating: int = 10,
    window: int = 8,
    seed: int = 0,
) -> FeatureRecord:
    """A record of a feature that fires on `token` alone, 1 to 9 strong; every example is its own document."""
    rng = np.random.default_rng(seed)
    sizes = {"train": n_train, "test": n_test, "explain": n_non_activating, "silent": n_non_activating}
    documents = iter(range(sum(sizes.values())))
    pools = {
        name: tuple(
            _example(rng, token if name in ("train", "test") else None, window, next(documents)) for _ in range(n)
        )
        for name, n in sizes.items()
    }
    for name in ("train", "test"):
        ranked = sorted(pools[name], key=lambda example: -example.max_activation)
        pools[name] = tuple(_with_quantile(example, 10 * i // len(ranked)) for i, example in enumerate(ranked))
    active = [float(e.max_activation) for e in (*pools["train"], *pools["test"])]
    stats = FeatureStats(1000 * window, len(active), 1000, len(active), max(active), float(np.mean(active)))
    feature = feature or FeatureId("transformer.h.1", 7)
    return FeatureRecord(
        feature, stats, pools["train"], pools["test"], NonActivating(pools["explain"], pools["silent"])
    )


def _example(rng: np.random.Generator, token: str | None, window: int, document: int) -> Example:
    ids = rng.integers(0, len(WORDS), window).astype(np.int32)
    strings = [" " + WORDS[i] for i in ids]
    activations = np.zeros(window, np.float32)
    if token is not None:
        place = int(rng.integers(window))
        strings[place], ids[place] = token, len(WORDS)
        activations[place] = rng.uniform(1, 9)
    source: ExampleSource = "activating" if token is not None else "random"
    return Example(ids, tuple(strings), activations, document, 0, document, source)


def _with_quantile(example: Example, quantile: int) -> Example:
    from dataclasses import replace

    return replace(example, quantile=quantile)


def make_rows(
    n_rows: int = 12,
    ctx_len: int = 16,
    *,
    seed: int = 0,
    rows_per_document: int = 2,
    bos: int | None = None,
    vocab: int = VOCAB,
) -> TokenRows:
    """Random rows; each document has its last row padded on the right, some of them nearly all of it."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, vocab, (n_rows, ctx_len)).astype(np.int32)
    documents = np.repeat((np.arange(n_rows) // rows_per_document)[:, None], ctx_len, axis=1).astype(np.int32)
    for row in range(rows_per_document - 1, n_rows, rows_per_document):
        n_text = int(rng.integers(2, ctx_len + 1))
        tokens[row, n_text:], documents[row, n_text:] = 0, NO_DOCUMENT
    if bos is not None:
        tokens[:, 0], documents[:, 0] = bos, NO_DOCUMENT
    return TokenRows(tokens, documents, tuple(f"document {i}" for i in range(n_rows // rows_per_document + 1)))


def plain_rows(n_rows: int, ctx_len: int, *, seed: int = 0, vocab: int = 30_000) -> TokenRows:
    """Rows full of text, each its own document."""
    tokens = np.random.default_rng(seed).integers(0, vocab, (n_rows, ctx_len))
    return TokenRows.from_ids(tokens)


def write_cache(
    root: Path,
    rows: TokenRows,
    entries: Mapping[str, Sequence[Entry]],
    *,
    width: int = WIDTH,
    n_splits: int = 4,
    dtype: str = "float32",
    rows_per_run: int = 5,
) -> Path:
    """A finished cache of hand-made entries, {module path: entries}, written by the library's own spool and merge."""
    work = root / ".work"
    spool = WriteBuffer(
        work, dict.fromkeys(entries, width), n_positions=rows.tokens.size, dtype=dtype, max_bytes=0, fingerprint="made"
    )
    for first in range(0, rows.n_rows, rows_per_run):
        last = min(first + rows_per_run, rows.n_rows)
        for module, listed in entries.items():
            chosen = sorted(entry for entry in listed if first <= entry[0] < last)
            locations = np.array([row * rows.ctx_len + position for row, position, _, _ in chosen], dtype=np.int64)
            features = np.array([feature for _, _, feature, _ in chosen], dtype=np.int64)
            spool.append(module, features, locations, np.array([value for *_, value in chosen], dtype=np.float32))
        spool.commit(last, last=last == rows.n_rows)
    rows_digest = rows_hash(rows.tokens, rows.documents)
    for module in entries:
        description = CacheManifest(
            format_version=FORMAT_VERSION,
            module_path=module,
            model="hand-made",
            autoencoder="hand-made",
            weights_sha256="",
            data="hand-made",
            n_rows=rows.n_rows,
            ctx_len=rows.ctx_len,
            width=width,
            activation_dtype=dtype,
            location_dtype=str(spool.location_dtype),
            shards=(),
            fingerprint=cache_fingerprint("hand-made", rows_digest, rows.n_rows, rows.ctx_len),
            configuration="hand-made",
            rows=rows_digest,
        )
        ranges = shard_ranges(width, min(n_splits, width))
        merge_into_cache(spool.sources(module), root / module, ranges, description)
    return root


def read_entries(reader: Any) -> list[Entry]:
    """All entries of a `CacheReader`, feature by feature."""
    ctx_len = reader.manifest.ctx_len
    return [
        (int(location) // ctx_len, int(location) % ctx_len, index, float(value))
        for index in range(reader.manifest.width)
        for found in [reader.entries(index)]
        for location, value in zip(found.locations, found.activations, strict=True)
    ]


def directory_bytes(root: Path) -> dict[str, bytes]:
    """Every file below a directory, hidden ones too."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def write_original(
    root: Path, entries: Mapping[str, Sequence[Entry]], *, width: int, n_splits: int = 2, dtype: str = "float32"
) -> Path:
    """A cache as the original library wrote it: absolute int64 locations, the last feature of each shard left out."""
    from itertools import pairwise

    from safetensors.numpy import save_file

    edges = [i * width // n_splits for i in range(n_splits + 1)]
    for module, listed in entries.items():
        (root / module).mkdir(parents=True)
        for first, end in pairwise(edges):
            kept = sorted(entry for entry in listed if first <= entry[2] < end - 1)
            locations = np.array([entry[:3] for entry in kept], dtype=np.int64).reshape(-1, 3)
            activations = np.array([entry[3] for entry in kept], dtype=dtype)
            arrays = {"locations": locations, "activations": activations}
            save_file(arrays, root / module / f"{first}_{end - 1}.safetensors")
    return root


# ------------------------------------------------------------------ with torch


def tiny_gpt2(seed: int = 0, n_layers: int = 2) -> Any:
    """A random GPT-2 in evaluation mode: vocabulary 50, 16 dimensions."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=VOCAB, n_positions=64, n_embd=D_MODEL, n_layer=n_layers, n_head=2, bos_token_id=0, eos_token_id=0
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return GPT2LMHeadModel(config).eval()


def tiny_coder(
    activation: Literal["topk", "relu", "jumprelu"],
    *,
    side: Literal["input", "output"] = "output",
    seed: int = 0,
    **settings: Any,
) -> Any:
    """A random coder of width 40 over 16 dimensions."""
    import torch

    from sae_auto_interp.autoencoders.settings import CoderSettings
    from sae_auto_interp.autoencoders.sparse_coder import CoderWeights, SparseCoder

    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    weights = CoderWeights(
        w_enc=normal(WIDTH, D_MODEL),
        b_enc=normal(WIDTH) * 0.1,
        w_dec=normal(WIDTH, D_MODEL),
        b_dec=normal(D_MODEL) * 0.1,
        threshold=normal(WIDTH).abs() if activation == "jumprelu" else None,
    )
    k = 5 if activation == "topk" else None
    return SparseCoder(weights, CoderSettings(activation=activation, k=k, side=side, **settings))


def tiny_coders(seed: int = 0) -> dict[str, Any]:
    """One coder of each kind, at outputs that are tensors and tuples, and at an input."""
    return {
        "transformer.h.0": tiny_coder("topk", seed=seed, normalisation="layer_norm"),
        "transformer.h.0.attn": tiny_coder("relu", seed=seed + 1),
        "transformer.h.1.mlp": tiny_coder("jumprelu", side="input", seed=seed + 2, subtract_b_dec=False),
    }


def tiny_world(seed: int = 0, n_layers: int = 2) -> tuple[Any, dict[str, Any]]:
    """A random GPT-2 wrapped by NNsight with `tiny_coders` attached, and the submodules."""
    import nnsight

    from sae_auto_interp.autoencoders.attach import attach

    model = nnsight.NNsight(tiny_gpt2(seed, n_layers))
    return model, attach(model, tiny_coders(seed))


def lookup_world(vectors: Sequence[Sequence[float]], **settings: Any) -> tuple[Any, dict[str, Any]]:
    """A model whose activation at `site` is the vector of the token, and a ReLU coder that hands it over as it is."""
    from types import SimpleNamespace

    import nnsight
    import torch
    from torch import Tensor, nn

    from sae_auto_interp.autoencoders.attach import attach
    from sae_auto_interp.autoencoders.settings import CoderSettings
    from sae_auto_interp.autoencoders.sparse_coder import CoderWeights, SparseCoder

    class Lookup(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = SimpleNamespace(hidden_size=len(vectors[0]), vocab_size=len(vectors))
            self.site = nn.Embedding.from_pretrained(torch.tensor(vectors, dtype=torch.float32))
            self.later = nn.Identity()

        def forward(self, input_ids: Tensor, attention_mask: Tensor, use_cache: bool) -> Tensor:
            return self.later(self.site(input_ids))

    d = len(vectors[0])
    weights = CoderWeights(torch.eye(d), torch.zeros(d), torch.eye(d), torch.zeros(d))
    coder = SparseCoder(weights, CoderSettings(activation="relu", subtract_b_dec=False, **settings))
    model = nnsight.NNsight(Lookup())
    return model, attach(model, {"site": coder})


def dense_code(coder: Any, x: Any) -> Any:
    """[n, d_in] -> dense [n, width], written down from the definitions and sharing no code with `encode`."""
    import torch

    x = x.double()
    if coder.settings.normalisation == "layer_norm":
        x = x - x.mean(1, keepdim=True)
        x = x / (x.std(1, keepdim=True) + 1e-5)
    if coder.settings.subtract_b_dec:
        x = x - coder.b_dec.double()
    pre = x @ coder.w_enc.double().T + coder.b_enc.double()
    if coder.settings.activation == "jumprelu":
        return torch.where((pre > coder.threshold.double()) & (pre > 0), pre, 0.0)
    if coder.settings.activation == "topk":
        kth_largest = pre.sort(dim=1, descending=True).values[:, coder.settings.k - 1 : coder.settings.k]
        pre = torch.where(pre >= kth_largest, pre, 0.0)
    return pre.clamp(min=0)


def dense_entries(model: Any, coders: Mapping[str, Any], rows: TokenRows) -> dict[str, list[Entry]]:
    """What the cache should hold: a whole forward pass per row over text and BOS, dense codes, what is above zero."""
    import torch

    caught: dict[str, Any] = {}
    handles = []
    for path, coder in coders.items():
        module = model.get_submodule(path)
        if coder.settings.side == "input":
            handles.append(module.register_forward_pre_hook(lambda _m, args, path=path: caught.update({path: args[0]})))
        else:
            handles.append(module.register_forward_hook(lambda _m, _a, out, path=path: caught.update({path: out})))
    entries: dict[str, list[Entry]] = {path: [] for path in coders}
    for row, (ids, documents) in enumerate(zip(rows.tokens, rows.documents, strict=True)):
        text = np.flatnonzero(documents != NO_DOCUMENT)
        if len(text) == 0:
            continue
        with torch.inference_mode():
            model(input_ids=torch.tensor(ids[None, : text[-1] + 1].astype(np.int64)))
        for path, coder in coders.items():
            x = caught[path][0] if isinstance(caught[path], tuple) else caught[path]
            code = dense_code(coder, x[0])[text]
            for place, feature in code.nonzero().tolist():
                entries[path].append((row, int(text[place]), feature, float(code[place, feature])))
    for handle in handles:
        handle.remove()
    return entries


def byte_level_tokenizer(texts: Sequence[str], vocab_size: int = 300) -> Any:
    """A byte-level BPE trained on the spot, `<|end|>` its BOS, EOS and padding; characters split over tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    end = "<|end|>"
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=end, eos_token=end, pad_token=end)


CHAT_TEMPLATE = (
    "{% for m in messages %}{% if m.role not in ('user', 'assistant') %}{{ raise_exception('no role ' + m.role) }}"
    "{% endif %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
)


def chat_tokenizer(texts: Sequence[str], vocab_size: int = 300) -> Any:
    """`byte_level_tokenizer` with a chat template, whose turn markers only `added_tokens_decoder` calls special."""
    from transformers import AddedToken

    tokenizer = byte_level_tokenizer(texts, vocab_size)
    tokenizer.add_tokens([AddedToken(f"<|{role}|>", special=True) for role in ("user", "assistant")])
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
