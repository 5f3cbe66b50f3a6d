"""Files that are no model, or not all of one: each is one line that names what is wrong."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sae_auto_interp.clients.in_process.causal_lm import CausalLanguageModel
from sae_auto_interp.errors import InputError
from sae_auto_interp.models.by_hooks import capture
from sae_auto_interp.models.subject import load_subject_model
from tests.support.embedded_gguf import embedded_language_model
from tests.support.weights import replace_file

WEIGHTS = "model.safetensors"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1234\n"
Tensors = Mapping[str, torch.Tensor]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(embedded_language_model(), tmp_path / "lm")
    return tmp_path / "lm"


def refusals(folder: Path) -> tuple[str, str]:
    """Of the same files as a subject model and as a client."""
    messages: list[str] = []
    for load in (
        lambda: load_subject_model(str(folder), "cpu"),
        lambda: CausalLanguageModel.load(str(folder), "cpu", "auto"),
    ):
        with pytest.raises(InputError) as caught:
            load()
        messages.append(str(caught.value))
        assert "\n" not in messages[-1]
    return messages[0], messages[1]


def rewrite(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    replace_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS, metadata={"format": "pt"})


def below(prefix: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {f"{prefix}{name}": value for name, value in tensors.items()}


def without(part: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: value for name, value in tensors.items() if part not in name}


def shrunk(tensors: Tensors) -> Tensors:
    name = next(name for name in tensors if name.endswith("wpe.weight"))
    return {**tensors, name: tensors[name][:64].clone()}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (below("module."), "lacks 52 of its 52 tensors, .*names all begin with 'module.*save the model itself"),
        (below("model.inner."), "lacks 52 of its 52 tensors, .*names all begin with 'model.inner."),
        (without(".h.1."), r"lacks 12 of its 52 tensors, .*: transformer\.h\.1\.attn\.c_attn\.bias, .* not complete"),
        (without("ln_f"), r"lacks 2 of its 52 tensors, .*: transformer\.ln_f\.bias, transformer\.ln_f\.weight;"),
        (without("wte"), r"lacks 1 of its 52 tensors, .*: transformer\.wte\.weight;"),
        (
            shrunk,
            r"another shape than its config\.json says: transformer\.wpe\.weight \[64, 128\] instead of \[128, 12",
        ),
    ],
)
def test_tensors_that_are_missing_or_of_another_shape_are_named(
    change: Callable[[Tensors], Tensors], said: str, folder: Path
) -> None:
    rewrite(folder, change)
    import re

    for message in refusals(folder):
        assert re.search(said, message), message


def test_tied_tensors_and_those_of_a_base_model_count_as_there(folder: Path) -> None:
    """`lm_head` is not in the files; names without `transformer.` are those of the model without its head."""
    expected = load_subject_model(str(folder), "cpu")._module
    rewrite(folder, lambda tensors: {name.removeprefix("transformer."): value for name, value in tensors.items()})
    found = load_subject_model(str(folder), "cpu")._module
    assert found.lm_head.weight is found.transformer.wte.weight
    for name, value in expected.state_dict().items():
        assert torch.equal(value, found.state_dict()[name]), name


def test_further_tensors_are_said_and_go(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    rewrite(folder, lambda tensors: {**tensors, "value_head.weight": torch.ones(2)})
    model = load_subject_model(str(folder), "cpu")._module
    tokens = torch.tensor([[1, 2, 3]])
    plain = load_subject_model(str(embedded_language_model()), "cpu")._module
    sites = {"transformer.h.3": "output"}
    one, other = (capture(each, sites, tokens, torch.ones_like(tokens)) for each in (model, plain))  # type: ignore[arg-type]
    assert torch.equal(one["transformer.h.3"], other["transformer.h.3"])
    assert "no place for: value_head.weight" in caplog.text


def cut(folder: Path, name: str, share: float = 0.5) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(len(content) * share)])


def configured(folder: Path, **settings: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))


def pickled(folder: Path, content: bytes) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(content)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "pointer_weights": (lambda f: (f / WEIGHTS).write_text(POINTER), f"{WEIGHTS} is a Git LFS pointer"),
    "pointer_tokenizer": (lambda f: (f / "tokenizer.json").write_text(POINTER), "tokenizer.json is a Git LFS pointer"),
    "pointer_config": (lambda f: (f / "config.json").write_text(POINTER), "config.json is a Git LFS pointer"),
    "cut_weights": (lambda f: cut(f, WEIGHTS), f"{WEIGHTS} has .* bytes instead of"),
    "cut_header": (lambda f: (f / WEIGHTS).write_bytes(b"\x10\x27\0\0\0\0\0\0{"), f"{WEIGHTS} is cut short"),
    "odd_header": (lambda f: (f / WEIGHTS).write_bytes(b"\x02\0\0\0\0\0\0\0[]"), f"{WEIGHTS} is no safetensors file"),
    "empty_weights": (lambda f: (f / WEIGHTS).write_bytes(b""), f"{WEIGHTS} is cut short"),
    "no_pickle": (lambda f: pickled(f, b"<html>404</html>"), r"pytorch_model\.bin is cut short, or no file of weights"),
    "other_pickle": (lambda f: pickled(f, b"\x80\x04K\x01."), "cannot be loaded: "),
    "cut_tokenizer": (lambda f: cut(f, "tokenizer.json"), r"tokenizer\.json is no JSON"),
    "other_tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), "cannot be loaded: "),
    "cut_config": (lambda f: cut(f, "config.json"), r"config\.json is no JSON"),
    "list_config": (lambda f: (f / "config.json").write_text("[1]"), "cannot be loaded: "),
    "deep_config": (lambda f: (f / "config.json").write_text("[" * 100_000), "cannot be loaded: "),
    "unknown_type": (lambda f: configured(f, model_type="gpt9"), "cannot be loaded: .*gpt9"),
    "no_language_model": (
        lambda f: configured(f, model_type="vit", architectures=[]),
        "type 'vit', which transformers",
    ),
    "bitsandbytes": (
        lambda f: configured(f, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}),
        "cannot be loaded: .*bitsandbytes",
    ),
    "gptq": (
        lambda f: configured(f, quantization_config={"quant_method": "gptq", "bits": 4}),
        "cannot be loaded: .*(gptq|optimum)",
    ),
    "flash": (lambda f: configured(f, attn_implementation="flash_attention_2"), "cannot be loaded: .*[Ff]lash"),
    "kernels": (lambda f: configured(f, attn_implementation="kernels-community/x"), "code from the hub|cannot be load"),
    "odd_width": (lambda f: configured(f, n_head=7), "cannot be loaded: "),
    "odd_setting": (lambda f: configured(f, n_embd="wide"), "cannot be loaded: "),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_cannot_be_loaded_is_one_line_with_its_file(kind: str, folder: Path) -> None:
    import re

    break_it, said = BROKEN[kind]
    break_it(folder)
    for message in refusals(folder):
        assert re.search(said, message), message


@pytest.mark.parametrize(
    "files",
    [("tokenizer.json", "tokenizer_config.json"), ("tokenizer.json",)],
)
def test_a_directory_without_a_tokenizer_says_how_to_save_one(files: tuple[str, ...], folder: Path) -> None:
    for name in files:
        (folder / name).unlink()
    for message in refusals(folder):
        assert "no tokenizer files in" in message or "cannot be loaded" in message
        assert len(files) == 1 or "tokenizer.save_pretrained" in message


@pytest.mark.parametrize("family", ["GPT2", "GPTNeoX", "Llama", "Mistral", "Gemma", "Qwen2", "Phi"])
def test_of_every_family_a_model_saved_alone_lacks_its_tokenizer(family: str, tmp_path: Path) -> None:
    import transformers

    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 4}
    config = getattr(transformers, f"{family}Config")(vocab_size=20, num_key_value_heads=2, pad_token_id=0, **small)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    for message in refusals(tmp_path):
        assert f"no tokenizer files in {tmp_path}; save one there with tokenizer.save_pretrained" in message


def test_an_old_vocabulary_that_is_a_pointer_is_no_vocabulary(folder: Path) -> None:
    """transformers would read its three lines as three words."""
    (folder / "tokenizer.json").unlink()
    for name in ("vocab.json", "merges.txt"):
        (folder / name).write_text(POINTER)
    for message in refusals(folder):
        assert "is a Git LFS pointer" in message


def with_own_code(folder: Path, where: str) -> None:
    """As a repository of custom code is laid out: whoever imports it leaves a file."""
    (folder / "own.py").write_text(f"from pathlib import Path\nPath({str(folder / 'ran')!r}).touch()\n")
    if where == "model":
        configured(folder, model_type="own", auto_map={"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"})
    else:
        config = json.loads((folder / "tokenizer_config.json").read_text())
        own = {"tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": ["own.Tokenizer", None]}}
        (folder / "tokenizer_config.json").write_text(json.dumps(config | own))


@pytest.mark.parametrize("where", ["model", "tokenizer"])
def test_code_that_comes_with_a_model_is_never_run(where: str, folder: Path) -> None:
    """Whatever standard input says."""
    with_own_code(folder, where)
    code = (
        "import sys\nfrom sae_auto_interp.errors import InputError\n"
        "from sae_auto_interp.models.subject import load_subject_model\n"
        "try:\n    load_subject_model(sys.argv[1], 'cpu')\nexcept InputError as error:\n    print('refused:', error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], input="y\n" * 9, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "[y/N]" not in done.stdout + done.stderr
    assert not (folder / "ran").exists()
    if where == "model":
        assert "refused: " in done.stdout
        assert "code of its own, which is never run here" in done.stdout
