"""CachingClient and its store: what is paid for once is not asked again, whoever asks, and whatever happens."""

import asyncio
import math
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from sae_auto_interp.clients import CachingClient, ReplayClient, ResponseStore, ScriptedClient, SpendingLog
from sae_auto_interp.clients.responses.codec import answer_key, decode_answer, encode_answer
from sae_auto_interp.clients.responses.tables import ROW_BYTES
from sae_auto_interp.errors import CacheError, ClientError, InputError, NotStoredError, ServerError
from sae_auto_interp.types import (
    Message,
    PromptLogprobs,
    PromptRequest,
    Request,
    Response,
    Sampling,
    TokenLogprob,
    Usage,
)
from tests.support.llm_server import QUESTION, ask


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "responses.sqlite"


def question(text: str) -> Request:
    return Request((Message("user", text),))


def echo(request: Request) -> str:
    return f"about {request.messages[-1].content}"


def asked_through(path: Path, scripted: ScriptedClient, *requests: Request) -> list[Response]:
    with ResponseStore(path) as store:
        return ask(CachingClient(scripted, store), *requests)


def test_a_later_run_asks_nothing_and_gets_the_same(path: Path) -> None:
    requests = [question(f"q{i}") for i in range(50)]
    first = asked_through(path, ScriptedClient(echo), *requests)
    silent = ScriptedClient([])
    assert asked_through(path, silent, *requests) == first
    assert silent.requests == []
    assert first[7] == Response("about q7", Usage(1, 2, 1), "stop", "scripted")


def test_identical_questions_in_flight_are_one(path: Path) -> None:
    scripted, spending_log = ScriptedClient(echo, latency_seconds=0.02), SpendingLog()
    with ResponseStore(path) as store:
        client = CachingClient(scripted, store, count_cached=spending_log.add_cached)
        answers = ask(client, *[QUESTION] * 20, question("another"))
    assert len(scripted.requests) == 2
    assert len({id(answer) for answer in answers[:20]}) == 1
    assert spending_log.total.n_cached == 19


@pytest.mark.parametrize(
    "other",
    [
        Request((Message("system", "You judge!"), QUESTION.messages[1])),
        Request(QUESTION.messages[::-1]),
        replace(QUESTION, sampling=Sampling(temperature=0.5)),
        replace(QUESTION, sampling=Sampling(max_tokens=7)),
        replace(QUESTION, sampling=Sampling(seed=0)),
        replace(QUESTION, schema="{}"),
        replace(QUESTION, top_logprobs=5),
    ],
)
def test_whatever_may_change_the_answer_is_another_question(other: Request) -> None:
    assert answer_key("", "m", other) != answer_key("", "m", QUESTION)


def test_models_namespaces_and_kinds_of_questions_are_kept_apart() -> None:
    keys = {
        answer_key("", "m", QUESTION),
        answer_key("", "n", QUESTION),
        answer_key("int4", "m", QUESTION),
        answer_key("", "m", PromptRequest("text")),
    }
    assert len(keys) == 4
    again = Request(tuple(Message(m.role, m.content) for m in QUESTION.messages))
    assert answer_key("", "m", again) in keys, "equal questions have equal keys"
    assert len(answer_key("", "m", question("\ud83d half a character"))) == 32


def test_failures_are_not_stored_and_reach_all_who_asked(path: Path) -> None:
    scripted = ScriptedClient([ServerError("down"), "yes"], latency_seconds=0.01)

    async def twice(client: CachingClient) -> list[object]:
        both = await asyncio.gather(client.generate(QUESTION), client.generate(QUESTION), return_exceptions=True)
        return [*both, await client.generate(QUESTION)]

    with ResponseStore(path) as store:
        first, second, third = asyncio.run(twice(CachingClient(scripted, store)))
    assert isinstance(first, ServerError)
    assert second is first
    assert isinstance(third, Response)
    assert len(scripted.requests) == 2


def test_when_the_first_who_asked_leaves_another_asks(path: Path) -> None:
    scripted = ScriptedClient(echo, latency_seconds=0.05)

    async def leave(client: CachingClient) -> Response:
        first = asyncio.create_task(client.generate(QUESTION))
        await asyncio.sleep(0.01)
        second = asyncio.create_task(client.generate(QUESTION))
        await asyncio.sleep(0.01)
        first.cancel()
        return await second

    with ResponseStore(path) as store:
        assert asyncio.run(leave(CachingClient(scripted, store))).text == "about Does it fit?"
    assert len(scripted.requests) == 2


def test_a_mistake_in_the_program_is_no_answer(path: Path) -> None:
    with ResponseStore(path) as store, pytest.raises(InputError, match="the script has 0 answers"):
        ask(CachingClient(ScriptedClient([]), store))


texts = st.text(max_size=600)  # half characters too
numbers = st.floats(max_value=0)
tokens = st.lists(st.tuples(texts, numbers, st.dictionaries(texts, numbers, max_size=3)), max_size=8)


@settings(max_examples=40)
@given(texts, texts, st.integers(0, 10**9), st.none() | tokens)
def test_every_answer_comes_back_as_it_was(
    text: str, model: str, n: int, rated: list[tuple[str, float, dict[str, float]]] | None
) -> None:
    # Built here and not in the strategy: checking its annotations takes random samples.
    logprobs = None if rated is None else tuple(TokenLogprob(*fields) for fields in rated)
    answer = Response(text, Usage(n, n + 1, n + 2), "stop", model, logprobs)
    assert decode_answer(encode_answer(answer)) == answer


def test_a_rated_text_comes_back_and_damage_is_seen() -> None:
    rated = PromptLogprobs((TokenLogprob("a", math.nan), TokenLogprob("b", -1.5, {"c": -0.5})), Usage(2, 0, 1), "m")
    back = decode_answer(encode_answer(rated))
    assert isinstance(back, PromptLogprobs)
    assert math.isnan(back.tokens[0].logprob)
    assert back.tokens[1:] == rated.tokens[1:]
    for damaged in (b"", b"[1]", b"x\x9c\x00", encode_answer(rated)[:-3]):
        with pytest.raises(ValueError, match=r".*"):
            decode_answer(damaged)


def test_a_damaged_answer_is_asked_for_again(path: Path) -> None:
    asked_through(path, ScriptedClient(["first"]))
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE responses SET content = x'00ff'")
    connection.close()
    assert asked_through(path, ScriptedClient(["second"]))[0].text == "second"
    assert asked_through(path, ScriptedClient([]))[0].text == "second"


def damaged(path: Path, statement: str, *values: object) -> None:
    """As a disk or another program changes what is stored."""
    with sqlite3.connect(path) as connection:
        connection.execute(statement, values)
    connection.close()


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_no_flipped_bit_of_an_answer_is_believed(path: Path) -> None:
    """Most flips leave readable JSON: only the digest tells."""
    (first,) = asked_through(path, ScriptedClient(["yes, it does"]))
    with sqlite3.connect(path) as connection:
        key, content = connection.execute("SELECT key, content FROM responses").fetchone()
    connection.close()
    for bit in range(8 * len(content)):
        damaged(path, "UPDATE responses SET content = ?", flipped(content, bit))
        with ResponseStore(path) as store:
            assert store.get(key) is None, f"bit {bit}"
            assert store.troubles == [f"1 stored answer in {path} had been damaged and did not count"]
        asked_through(path, ScriptedClient([first.text]))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE responses SET content = 'text', digest = NULL",
        "UPDATE responses SET digest = NULL",
        "UPDATE responses SET digest = zeroblob(16)",
        "UPDATE responses SET (content, digest) = (SELECT content, digest FROM responses WHERE key != ?1) "
        "WHERE key = ?1",
    ],
)
def test_a_row_that_is_not_as_written_is_asked_for_again(statement: str, path: Path) -> None:
    """The last one is a whole row of another question."""
    asked_through(path, ScriptedClient(["yes", "no"]), QUESTION, question("another"))
    key = answer_key("", "scripted", QUESTION)
    damaged(path, statement, *([key] if "?1" in statement else []))
    scripted = ScriptedClient(["asked again"])
    assert asked_through(path, scripted, QUESTION)[0].text == "asked again"
    assert asked_through(path, ScriptedClient([]), QUESTION)[0].text == "asked again"


def test_a_replay_does_not_believe_a_damaged_answer(path: Path) -> None:
    asked_through(path, ScriptedClient(["yes"]))
    damaged(path, "UPDATE responses SET content = ?", b'["no",[1,1,1],"stop","scripted",null]')
    with ResponseStore(path) as store, pytest.raises(NotStoredError, match="holds no answer of scripted"):
        ask(CachingClient(ReplayClient(model="scripted"), store))


@pytest.mark.parametrize("rows", ["", " WITHOUT ROWID"])
def test_a_cache_of_version_1_is_used_and_gets_digests(rows: str, path: Path) -> None:
    answer = Response("yes", Usage(1, 2, 1), "stop", "scripted")
    key = answer_key("", "scripted", QUESTION)
    path.parent.mkdir()
    with sqlite3.connect(path) as old:
        columns = "key BLOB PRIMARY KEY NOT NULL, used REAL NOT NULL, content BLOB NOT NULL"
        old.execute(f"CREATE TABLE responses ({columns}){rows}")
        old.execute("CREATE INDEX by_use ON responses (used)")
        old.execute("CREATE TABLE totals (n_bytes INTEGER NOT NULL)")
        old.execute("INSERT INTO totals VALUES (0)")
        old.execute("INSERT INTO responses VALUES (?, 1.0, ?)", (key, encode_answer(answer)))
        old.execute("PRAGMA user_version = 1")
    old.close()
    assert asked_through(path, ScriptedClient([]), QUESTION) == [answer]
    damaged(path, "UPDATE responses SET content = ?", encode_answer(replace(answer, text="no")))
    assert asked_through(path, ScriptedClient(["again"]), QUESTION)[0].text == "again"


@pytest.mark.parametrize("total", ["'many'", "-5", "NULL", "1 << 62"])
def test_a_damaged_note_of_the_size_costs_no_answer(total: str, path: Path) -> None:
    requests = [question(f"q{i}") for i in range(5)]
    asked_through(path, ScriptedClient(echo), *requests)
    damaged(path, "DROP TABLE totals")
    damaged(path, "CREATE TABLE totals (n_bytes INTEGER)")
    damaged(path, f"INSERT INTO totals VALUES ({total})")
    asked_through(path, ScriptedClient(["one more"]), question("new"))
    assert len(asked_through(path, ScriptedClient([]), *requests, question("new"))) == 6


def test_the_least_recently_used_answers_go_when_it_grows_too_large(path: Path) -> None:
    requests = [question(f"q{i}") for i in range(60)]
    long = ScriptedClient(lambda request: echo(request) + os.urandom(150).hex())
    row = 300 + ROW_BYTES

    async def fill(store: ResponseStore) -> None:
        client = CachingClient(long, store)
        for request in requests:
            await client.generate(request)
            await client.generate(requests[0])  # always in use

    with ResponseStore(path, max_bytes=20 * row, use_seconds=0.0) as store:
        asyncio.run(fill(store))
        assert store.total_bytes() <= 20 * row
        kept = [i for i, request in enumerate(requests) if store.get(answer_key("", "scripted", request))]
    assert kept[0] == 0
    assert kept[1:] == list(range(60 - len(kept) + 1, 60)), "and of the others the last ones"
    assert 12 <= len(kept) <= 20
    with sqlite3.connect(path) as connection:
        (claimed,) = connection.execute("SELECT n_bytes FROM totals").fetchone()
        contents = connection.execute("SELECT sum(length(content)), count(*) FROM responses").fetchone()
    connection.close()
    assert claimed == contents[0] + ROW_BYTES * contents[1]


@pytest.mark.parametrize("n_bytes", [60, 600, 1200, 2500])
def test_what_it_says_it_takes_is_what_it_takes(path: Path, n_bytes: int) -> None:
    """Answers with log-probabilities are longer than a quarter of a page, and most others shorter."""
    requests = [question(f"q{i}") for i in range(600)]
    asked_through(path, ScriptedClient(lambda request: os.urandom(n_bytes // 2).hex()), *requests)
    with ResponseStore(path) as store:
        said = store.total_bytes()
    assert path.stat().st_size == pytest.approx(said, rel=0.35)


def test_a_smaller_bound_gives_the_room_back_to_the_disk(path: Path) -> None:
    requests = [question(f"q{i}") for i in range(200)]
    asked_through(path, ScriptedClient(lambda request: os.urandom(4000).hex()), *requests)
    before = path.stat().st_size
    with ResponseStore(path, max_bytes=100_000) as store:
        ask(CachingClient(ScriptedClient(["one more"]), store))
    assert path.stat().st_size < before / 4


WRITER = """
import asyncio, sys
from pathlib import Path
from sae_auto_interp.clients import CachingClient, ResponseStore, ScriptedClient
from sae_auto_interp.types import Message, Request
async def main():
    scripted = ScriptedClient(lambda r: "about " + r.messages[-1].content, latency_seconds=0.001)
    with ResponseStore(Path(sys.argv[1])) as store:
        client = CachingClient(scripted, store)
        async def one(i):
            answer = await client.generate(Request((Message("user", f"q{i}"),)))
            sys.stdout.write(answer.text + "\\n")
            sys.stdout.flush()
        for i in range(0, int(sys.argv[2]), 20):
            await asyncio.gather(*(one(i + k) for k in range(20)))
asyncio.run(main())
"""


def writer(path: Path, n: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), str(n)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_several_processes_share_it(path: Path) -> None:
    both = [writer(path, 200), writer(path, 200)]
    outputs = [process.communicate(timeout=120)[0].splitlines() for process in both]
    assert [len(lines) for lines in outputs] == [200, 200]
    answers = asked_through(path, ScriptedClient([]), *[question(f"q{i}") for i in range(200)])
    assert [answer.text for answer in answers] == [f"about q{i}" for i in range(200)]


def test_an_answer_that_was_used_survives_a_kill(path: Path) -> None:
    process = writer(path, 100_000)
    assert process.stdout is not None
    used = [process.stdout.readline().strip() for _ in range(101)]
    process.send_signal(signal.SIGKILL)
    used += [line for line in process.stdout.read().splitlines() if line.startswith("about q")]
    process.wait(timeout=60)
    process.stdout.close()
    whole = used[:-1]  # the last line may be cut
    answers = asked_through(path, ScriptedClient([]), *[question(text.removeprefix("about ")) for text in whole])
    assert [answer.text for answer in answers] == whole


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b"not a database" * 500), "is damaged .*delete it"),
        (lambda path: path.mkdir(), "cannot be used.*responses.mode to off"),
        (lambda path: sqlite3.connect(path).execute("CREATE TABLE x (y)").connection.close(), "is no response cache"),
    ],
)
def test_a_file_that_cannot_be_a_cache_is_named(path: Path, make: Callable[[Path], object], message: str) -> None:
    path.parent.mkdir()
    make(path)
    with pytest.raises(CacheError, match=message) as caught:
        ResponseStore(path)
    assert str(path) in str(caught.value)


def test_a_full_disk_costs_the_cache_and_not_the_run(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with ResponseStore(path) as store:
        store._writer.execute("PRAGMA query_only = 1")
        answers = ask(CachingClient(ScriptedClient(echo), store), *[question(f"q{i}") for i in range(5)])
    assert len(answers) == 5
    assert caplog.text.count("answers are not kept from here on") == 1


def test_by_default_it_lies_in_the_users_cache_folder() -> None:
    with ResponseStore() as store:
        assert store.path == Path(os.environ["SAE_AUTO_INTERP_CACHE"]) / "responses.sqlite"


def test_an_answer_that_cannot_be_stored_is_an_error_for_who_asked_and_for_nobody_else(path: Path) -> None:
    """A client from outside may give what is no answer; the others go on."""

    async def scenario(store: ResponseStore) -> None:
        broken = Response("yes", Usage(), "stop", "m")
        object.__setattr__(broken, "text", object())
        with pytest.raises(TypeError):
            await store.keep(b"1" * 32, broken)
        await asyncio.wait_for(store.keep(b"2" * 32, Response("yes", Usage(), "stop", "m")), 10)

    with ResponseStore(path) as store:
        asyncio.run(scenario(store))
        assert store.get(b"1" * 32) is None
        assert store.get(b"2" * 32) is not None


def test_errors_stay_client_errors(path: Path) -> None:
    with ResponseStore(path) as store, pytest.raises(ClientError):
        ask(CachingClient(ScriptedClient([ServerError("down")]), store))
