"""The scripted language model behind a network that fails as networks and gateways do.

Which fault an attempt meets follows from the request and the number of the attempt alone, so that a run meets the same
ones at any concurrency. Of each request it is known how often its completion was delivered whole: that is what a
provider would have been paid for without a doubt.
"""

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tests.support.llm_server import (
    Received,
    Reply,
    answer,
    connection_reset,
    error,
    json_reply,
    rate_limited,
    stalled,
)
from tests.support.scripted_llm import explain_and_judge, is_of_the_run


@dataclass(frozen=True)
class Fault:
    share: float
    reply: Callable[[Reply], Reply]
    """From what would have been answered."""


FAULTS = (
    Fault(0.05, lambda _: rate_limited("0.2")),
    Fault(0.05, lambda _: rate_limited()),
    Fault(0.05, lambda _: error(500)),
    Fault(0.05, lambda _: connection_reset()),
    Fault(0.03, lambda _: stalled()),
    Fault(0.03, lambda whole: replace(whole, fault="truncate")),
    Fault(0.015, lambda _: Reply(200, b"<html>502 from the gateway</html>", {"Content-Type": "text/html"})),
    Fault(0.015, lambda _: json_reply({"error": {"message": "upstream is down"}})),
)
EMPTY_SHARE = 0.02
"""Requests whose completion is empty, at any attempt: whole, paid for, and no answer."""


@dataclass
class ChaosLlm:
    """A script for `LlmServer`."""

    seed: int = 0
    faults: tuple[Fault, ...] = FAULTS
    outage_after: int | None = None
    """Requests before the server goes away; None: it stays."""
    outage_seconds: float = 2.0
    outage_attempts: int = 12
    """The outage also lasts until this many attempts met it: a slow machine makes few in two seconds."""
    attempts: Counter[bytes] = field(default_factory=Counter[bytes])
    delivered: Counter[bytes] = field(default_factory=Counter[bytes])
    """Whole completions by request."""
    met: Counter[str] = field(default_factory=Counter[str])
    """How often something else than an answer was given."""
    _away_until: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, received: Received) -> Reply:
        if received.method == "GET" or not is_of_the_run(received.raw_body):
            return explain_and_judge(received)
        with self._lock:
            self.attempts[received.raw_body] += 1
            number = self.attempts[received.raw_body]
            if self._is_away():
                self.met["outage"] += 1
                return connection_reset() if number % 2 else error(503)
            reply = self._reply(received, number)
            if reply.status == 200 and reply.fault is None and b'"choices"' in reply.body:
                self.delivered[received.raw_body] += 1
            else:
                self.met[reply.fault or f"{reply.status} {reply.body[:12]!r}"] += 1
            return reply

    def _is_away(self) -> bool:
        if self.outage_after is None:
            return False
        if self._away_until is None and self.attempts.total() > self.outage_after:
            self._away_until = time.monotonic() + self.outage_seconds
        if self._away_until is None:
            return False
        return time.monotonic() < self._away_until or self.met["outage"] < self.outage_attempts

    def _reply(self, received: Received, number: int) -> Reply:
        is_empty = self.faults and self._chance(received.raw_body, 0) < EMPTY_SHARE
        whole = answer("") if is_empty else with_usage(explain_and_judge(received), received)
        chance = self._chance(received.raw_body, number)
        for fault in self.faults:
            if chance < fault.share:
                return fault.reply(whole)
            chance -= fault.share
        return whole

    def _chance(self, body: bytes, number: int) -> float:
        digest = hashlib.sha256(body + f"{self.seed}/{number}".encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64


def with_usage(reply: Reply, received: Received) -> Reply:
    """The reply with counts as a tokenizer might give them: four bytes a token."""
    content = json.loads(reply.body)
    content["usage"] = {"prompt_tokens": len(received.raw_body) // 4, "completion_tokens": 12}
    return replace(reply, body=json.dumps(content).encode())
