"""Large caches made without a model, for reading, records and neighbours; the peer's is made of the same entries."""

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.build_workload import word_tokenizer, zipfian_tokens
from benchmarks.side_by_side import ProgramFailed, Session, Task
from benchmarks.synthetic_store import write_synthetic_store
from benchmarks.workload import MODEL, NATIVE_STORE, PEER_STORE, TOKENS
from sae_auto_interp.features.vocabulary import Vocabulary

N_SPLITS = 5
VOCAB = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Everything that decides a store's content."""

    width: int
    n_tokens: int
    heavy: bool = False
    ctx_len: int = 256
    k: int = 32
    seed: int = 0

    @property
    def name(self) -> str:
        return "-".join(f"{value}" for value in asdict(self).values())


def prepare_store(store: Store, work: Path) -> Path:
    """The folder of a store: ours, its tokens and a tokenizer; made when it is not there yet."""
    folder = work / "stores" / store.name
    if folder.is_dir():
        return folder
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / NATIVE_STORE).mkdir(parents=True)
    np.save(partial / TOKENS, zipfian_tokens(store.n_tokens // store.ctx_len, store.ctx_len, VOCAB, store.seed))
    write_synthetic_store(partial / NATIVE_STORE, **asdict(store))
    tokenizer = word_tokenizer(VOCAB)
    tokenizer.save_pretrained(partial / MODEL)
    Vocabulary.from_tokenizer(tokenizer).save(partial / NATIVE_STORE)
    partial.rename(folder)
    return folder


def peer_store_problem(store: Store, folder: Path, session: Session) -> str | None:
    """Write the peer's store beside ours, by its own writer; returns why there is none, or None when there is one."""
    if (folder / PEER_STORE).is_dir():
        return None
    task = session.task("store", "peer", asdict(store) | {"n_splits": N_SPLITS}, folder)
    if task.unavailable:
        return task.unavailable
    return _failure(task, session)


def _failure(task: Task, session: Session) -> str | None:
    try:
        session.call(task)
    except ProgramFailed as failure:
        return f"its store cannot be made: {failure}"
    return None
