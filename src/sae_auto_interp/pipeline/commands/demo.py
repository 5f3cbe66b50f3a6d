"""The configuration of the embedded demo: everything it needs is in the package and in the running Python."""

from sae_auto_interp.config import ClientConfig, RunConfig, parse_config

FAMILIES = ("openai", "sparsify", "saelens")


def demo_config(n_features: int, client: ClientConfig | None = None, seed: int = 0) -> RunConfig:
    """`n_features` in all, over the three embedded autoencoders; a language model explains too when there is one."""
    explainers = ["lexical"] if client is None else ["simple", "lexical"]
    per_module = -(-n_features // len(FAMILIES))
    return parse_config(
        {
            "model": "embedded:language_model",
            "device": "cpu",
            "autoencoders": [f"embedded:sparse_coders/{family}" for family in FAMILIES],
            "data": {
                "source": "standard_library",
                "n_tokens": 200_000,
                "ctx_len": 128,
                "max_chars_per_document": 4_000,
            },
            "cache": {"batch_size": 64},
            "features": {"n_features": per_module, "n_non_activating_train": 200, "n_non_activating_test": 50},
            "explainers": explainers,
            "client": None if client is None else client.model_dump(),
            "seed": seed,
        },
        "demo",
    )
