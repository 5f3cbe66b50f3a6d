"""OpenAI's Batch API: half the price, and answers within a day (https://platform.openai.com/docs/guides/batch).

Requests gather until none has come for `gather_seconds` and then become one batch: a file is uploaded, a batch is made
of it and asked for its state until it is done. Which file holds which requests, and which batch it became, is noted in
the run directory, so a run that is killed finds its batches again and nothing is paid twice: a file whose batch was
not noted any more is looked up in the server's list.

What the server refuses is left out from then on, as by `OpenAIClient`: the requests that were refused go into another
batch without it. A request keeps the name that it has with all parameters, so that it is
found again whatever was learnt meanwhile.

A batch can only be as large as what is asked at once: set `max_concurrency` to thousands.
"""

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from sae_auto_interp.clients.http.api_key import ApiKey
from sae_auto_interp.clients.http.batch_files import BatchFile, body_or_refusal, request_id
from sae_auto_interp.clients.http.batch_jobs import BatchJobs
from sae_auto_interp.clients.http.chat_completions import decode_reply, encode_request
from sae_auto_interp.clients.http.endpoint import HttpEndpoint
from sae_auto_interp.clients.http.errors_inside import Refusal
from sae_auto_interp.clients.http.json_values import JsonObject
from sae_auto_interp.clients.http.learning import Attempt, Refusals
from sae_auto_interp.clients.http.refused_parameters import parts_of, shown_name, without_refused
from sae_auto_interp.clients.wrappers.patience import model_at
from sae_auto_interp.errors import ClientError, InputError, ServerError, UnknownNameError
from sae_auto_interp.types import Request, Response

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _State:
    """What is on its way, by the requests' names."""

    memory: BatchFile | None = None
    batches: dict[str, str] = field(default_factory=lambda: {})
    """Batch that each request is in."""
    bodies: dict[str, JsonObject] = field(default_factory=lambda: {})
    """The requests of this run, with all parameters, by id."""
    waiting: dict[str, None] = field(default_factory=lambda: {})
    """Those that are in none yet, in order."""
    sent: dict[str, JsonObject] = field(default_factory=lambda: {})
    """Bodies as they were sent in this run."""
    attempts: dict[str, Attempt] = field(default_factory=lambda: {})
    """What each of them is left without."""
    futures: dict[str, asyncio.Future[JsonObject]] = field(default_factory=lambda: {})
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=lambda: {})
    """What is being done, by batch; "" gathers the next one."""
    n_arrived: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenAIBatchClient:
    """Client of one model by batches; `generate` waits until the request's batch is done.

    Raises InputError when built with an impossible setting.
    """

    model: str
    base_url: str = "https://api.openai.com/v1"
    """Where the API is. It is stored and shown: no secret belongs in it."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the API key, read when the client is built."""
    timeout_seconds: float = 120.0
    """Longest wait for one HTTP answer; not for a batch, which may take a day."""
    gather_seconds: float = 5.0
    """A batch is sent when no request has come for so long."""
    poll_seconds: float = 30.0
    """How often a batch is asked for its state."""
    max_requests: int = 50_000
    """Requests in one batch at most; 50,000 is the API's bound."""

    def __post_init__(self) -> None:
        if self.max_requests < 1 or not self.gather_seconds >= 0 or not self.poll_seconds > 0:
            raise InputError("max_requests must be at least 1, gather_seconds at least 0 and poll_seconds above 0")
        _ = self._http  # an address or a key that cannot be used shows now

    async def prepare(self, memory: Path | None = None) -> str:
        """Make sure that the model is there, and find the batches that `memory` knows.

        Raises UnknownNameError for a model that is not there, RunDirectoryError for a damaged memory, and the errors
        of HTTP requests.
        """
        response = await model_at(self._http, f"models/{self.model}", self)
        if response.status_code == 404:
            raise UnknownNameError(f"model at {self.base_url}", self.model, [])
        if memory is not None:
            await self._remember(BatchFile(memory / f"batches-{request_id({'at': self.base_url})[:16]}.jsonl"))
        return "by batches; has: json_schema, top_logprobs, max_tokens; absent: prompt_logprobs"

    async def generate(self, request: Request) -> Response:
        """Answer one request, when its batch is done.

        Raises ServerError (worth retrying) when a batch ended without an answer, RefusedRequestError for what the API
        refuses, MalformedReplyError for what is no answer, and the errors of HTTP requests.
        """
        body = encode_request(request, self.model)
        reply = await asyncio.shield(self._future(request_id(body), body))
        return decode_reply(reply, self.model, self._http.key.quote)

    async def close(self) -> None:
        """Stop waiting. Batches go on at the server, and a later run with the same memory collects them."""
        state = self.__dict__.pop("_state", None)
        if state is not None:
            for task in state.tasks.values():
                task.cancel()
            await asyncio.gather(*state.tasks.values(), return_exceptions=True)
            for future in state.futures.values():
                future.cancel()
        await self._http.close()

    @cached_property
    def _http(self) -> HttpEndpoint:
        key = ApiKey.from_environment(self.api_key_env)
        return HttpEndpoint(
            base_url=self.base_url, key=key, headers=key.headers(), timeout_seconds=self.timeout_seconds
        )

    @cached_property
    def _jobs(self) -> BatchJobs:
        return BatchJobs(self._http, self.poll_seconds)

    @cached_property
    def _refusals(self) -> Refusals:
        """What the server does not take, as it said or showed itself."""
        return Refusals(self._learn)

    @cached_property
    def _state(self) -> _State:
        return _State()

    async def _remember(self, memory: BatchFile) -> None:
        self._state.memory = memory
        self._refusals.known.update(memory.refused())
        for each in memory.load():
            batch = each.batch or await self._jobs.find(each.file)
            if batch is not None:  # else it was never made, and its requests are asked anew
                self._state.batches.update(dict.fromkeys(each.requests, batch))

    def _future(self, name: str, body: JsonObject) -> asyncio.Future[JsonObject]:
        """What will be the answer; two requests that are equal share it."""
        state = self._state
        found = state.futures.get(name)
        if found is not None and not found.done():
            return found
        future = state.futures[name] = asyncio.get_running_loop().create_future()
        state.bodies[name] = body
        state.attempts[name] = self._refusals.attempt(parts_of(body))
        if name in state.batches:
            self._start(state.batches[name], self._follow(state.batches[name]))
        else:
            self._wait_for_company(name)
        return future

    def _wait_for_company(self, name: str) -> None:
        """Put a request among those of the next batch."""
        self._state.waiting[name] = None
        self._state.n_arrived += 1
        self._start("", self._gather())

    def _start(self, name: str, work: Coroutine[None, None, None]) -> None:
        """Do something that may be under way already."""
        running = self._state.tasks.get(name)
        if running is not None and not running.done():
            work.close()
        else:
            self._state.tasks[name] = asyncio.create_task(work)

    async def _gather(self) -> None:
        state = self._state
        while state.waiting:
            n_before = -1
            while n_before != state.n_arrived and len(state.waiting) < self.max_requests:
                n_before = state.n_arrived
                await asyncio.sleep(self.gather_seconds)
            names = list(state.waiting)[: self.max_requests]
            for name in names:
                del state.waiting[name]
            await self._submit({n: without_refused(state.bodies[n], state.attempts[n].left_out()) for n in names})

    async def _submit(self, bodies: Mapping[str, JsonObject]) -> None:
        state = self._state
        state.sent.update(bodies)
        try:
            file = await self._jobs.upload(bodies)
            if state.memory is not None:
                state.memory.note_file(file, list(bodies))
            batch = await self._jobs.start(file)
            if state.memory is not None:
                state.memory.note_batch(file, batch)
        except (ClientError, OSError) as error:  # OSError: it cannot be noted, and whoever waits must hear of it
            for name in bodies:
                self._settle(name, error)
            return
        state.batches.update(dict.fromkeys(bodies, batch))
        self._start(batch, self._follow(batch))

    async def _follow(self, batch: str) -> None:
        """Wait for a batch and hand out what it brings; what it does not bring may be asked again, in another."""
        state = self._state
        names = [name for name, its_batch in state.batches.items() if its_batch == batch]
        try:
            lines = await self._jobs.collect(batch, len(names))
        except ClientError as error:
            for name in names:
                del state.batches[name]
                self._settle(name, error)
            return
        for name in names:
            answer: JsonObject | ClientError = ServerError(f"batch {batch} ended before the request was answered")
            if name in lines:
                found = body_or_refusal(lines[name], self._http.key.quote, state.sent.get(name, {}))
                if isinstance(found, Refusal) and self._is_asked_without(name, found):
                    continue
                answer = self._answer(name, found)
            if isinstance(answer, ClientError):
                del state.batches[name]
            self._settle(name, answer)

    def _answer(self, name: str, found: JsonObject | Refusal) -> JsonObject | ClientError:
        attempt = self._state.attempts.get(name)
        if not isinstance(found, Refusal):
            if attempt is not None:
                attempt.answered()
            return found
        return found.error if attempt is None or attempt.error is None else attempt.error

    def _is_asked_without(self, name: str, refusal: Refusal) -> bool:
        """Whether a request that was refused is asked again without something."""
        state = self._state
        if name not in state.bodies:
            return False
        if name not in state.sent:  # by an earlier process: what that left out is not known
            state.sent[name] = state.bodies[name]
            refusal = replace(refusal, sent=state.bodies[name])
        if not state.attempts[name].goes_on(refusal):
            return False
        del state.batches[name]
        self._wait_for_company(name)
        return True

    def _learn(self, part: str, refusal: Refusal) -> None:
        _log.warning("%s does not take %s, which is left out from now on", self.model, shown_name(part))
        if self._state.memory is not None:
            self._state.memory.note_refused(part)

    def _settle(self, name: str, answer: JsonObject | ClientError | OSError) -> None:
        self._state.bodies.pop(name, None)
        self._state.sent.pop(name, None)
        self._state.attempts.pop(name, None)
        future = self._state.futures.pop(name, None)  # who waits has it; a run has a million answers
        if future is None or future.done():  # nobody has asked for it in this run
            return
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
