"""The five paths through the package: which modules run, in the order in which each is first entered.

    python -m tests.arch.traces [--json]

A module counts where one of its functions runs; one that only loads does not. docs/architecture.md is written from
these paths.
"""

import asyncio
import contextlib
import inspect
import json
import sys
import tempfile
import threading
from collections.abc import Generator, Mapping
from pathlib import Path
from types import FrameType
from unittest import mock

import sae_auto_interp
from sae_auto_interp.autoencoders import load_oai_autoencoders
from sae_auto_interp.cli import main
from sae_auto_interp.clients import ScriptedClient
from sae_auto_interp.config import parse_config, resolve_path
from sae_auto_interp.data.rows import build_token_rows
from sae_auto_interp.data.standard_library import standard_library_documents
from sae_auto_interp.features import FeatureCache
from sae_auto_interp.judges import LlmJudge
from sae_auto_interp.metrics import balanced_accuracy
from sae_auto_interp.models import load_subject_model
from sae_auto_interp.pipeline.clients.open_clients import open_clients
from sae_auto_interp.pipeline.resolved import resolve
from sae_auto_interp.report import summarise, write_report
from sae_auto_interp.results import ResultStore
from sae_auto_interp.scorers import DetectionScorer
from sae_auto_interp.types import Explanation, Message, Request, Score
from tests.e2e.runs import write_run_file
from tests.support.llm_server import LlmServer
from tests.support.records import make_record
from tests.support.scripted_llm import MODEL, explain_and_judge

PACKAGE = Path(sae_auto_interp.__file__).parent
Modules = list[str]


def traces() -> dict[str, Modules]:
    """The modules of each path, in the order in which a function of theirs first runs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_file = write_run_file(folder, checked=True)
        paths = {"run": trace_run(run_file, folder / "run"), "batch": trace_batch(), **trace_score()}
        return {**paths, **asyncio.run(trace_request(folder)), "page": trace_page(folder / "run")}


def trace_run(run_file: Path, out: Path) -> Modules:
    """`sae-auto-interp run` with the lexical explainer, from the command line to the report."""
    modules: Modules = []
    arguments = ["sae-auto-interp", "run", str(run_file), "--out", str(out)]
    with mock.patch.object(sys, "argv", arguments), contextlib.redirect_stdout(sys.stderr), followed(modules):
        try:
            main()
        except SystemExit as end:
            if end.code:
                raise RuntimeError(f"the run ended with status {end.code}") from end
    return modules


def trace_batch() -> Modules:
    """`FeatureCache.run` with a TopK autoencoder on the CPU."""
    model = load_subject_model(resolve_path("embedded:language_model"), device="cpu")
    attached = load_oai_autoencoders(model, [1], resolve_path("embedded:sparse_coders/openai"))
    rows = build_token_rows(standard_library_documents(), model.tokenizer, ctx_len=64, n_tokens=2_000)
    cache = FeatureCache(model, attached, batch_size=8)
    modules: Modules = []
    with followed(modules):
        cache.run(tokens=rows)
    return modules


def trace_score() -> dict[str, Modules]:
    """Detection of one explanation by an LLM judge, and a metric of what it gave."""
    record = make_record()
    explanation = Explanation(record.feature, "cats", "by hand", "none")
    judge = LlmJudge(client=ScriptedClient(lambda request: json.dumps({"verdicts": [1] * 5})))
    score: Modules = []
    scores: list[Score] = []
    with followed(score):
        scores.append(asyncio.run(DetectionScorer(judge=judge).score(record, explanation, "1")))
    metric: Modules = []
    with followed(metric):
        balanced_accuracy(scores[0])
    return {"score": score, "metric": metric}


async def trace_request(folder: Path) -> dict[str, Modules]:
    """A request that is sent, and the same one when its response is stored."""
    sent: Modules = []
    stored: Modules = []
    request = Request((Message("user", "Which words?"),))
    with LlmServer(explain_and_judge) as server, ResultStore.open(folder / "results.sqlite") as store:
        client = {"base_url": server.base_url, "model": MODEL, "max_concurrency": 4, "requests_per_minute": 600}
        run = resolve(parse_config({"model": "m", "autoencoders": ["a"], "explainers": ["simple"], "client": client}))
        environment = {"SAE_AUTO_INTERP_CACHE": str(folder / "cache")}
        with mock.patch.dict("os.environ", environment):
            async with open_clients(run.endpoints, store, lambda line: None, "score") as clients:
                assert clients.explainer is not None
                for modules in (sent, stored):
                    with followed(modules):
                        await clients.explainer.generate(request)
    return {"request": sent, "stored response": stored}


def trace_page(run: Path) -> Modules:
    """The report of a finished run."""
    modules: Modules = []
    with followed(modules):
        write_report(run, summary=summarise(run))
    return modules


@contextlib.contextmanager
def followed(modules: Modules) -> Generator[None]:
    """Add to `modules` each one of the package in which a function begins to run, in any thread."""
    seen = set[str]()

    def note(frame: FrameType, event: str, _: object) -> None:
        file = frame.f_code.co_filename
        if event != "call" or file in seen or not file.endswith(".py") or is_loading(frame):
            return
        seen.add(file)
        if file.startswith(f"{PACKAGE}/"):
            modules.append(file.removeprefix(f"{PACKAGE}/").removesuffix(".py"))

    threading.settrace(note)
    sys.settrace(note)
    try:
        yield
    finally:
        sys.settrace(None)
        threading.settrace(None)  # pyright: ignore[reportArgumentType]


def is_loading(frame: FrameType | None) -> bool:
    """Whether a frame belongs to the loading of a module: a module's or class's own body, or what these call."""
    while frame is not None and frame.f_code.co_filename.startswith(f"{PACKAGE}/"):
        if not frame.f_code.co_flags & inspect.CO_OPTIMIZED:
            return True
        frame = frame.f_back
    return False


def shown(paths: Mapping[str, Modules]) -> str:
    return "\n\n".join(f"{name}: {len(modules)}\n  " + "\n  ".join(modules) for name, modules in paths.items())


if __name__ == "__main__":
    found = traces()
    print(json.dumps(found) if "--json" in sys.argv else shown(found))
