"""Every exception that this library raises on purpose.

    SaeAutoInterpError
    ├── InputError                 a file, value or shape that the user gave is wrong
    │   ├── UnknownNameError       a name that nothing has; carries the nearest match
    │   ├── WeightsError           autoencoder weights that do not fit their layout or the model
    │   ├── ConfigError            a run file that says something impossible
    │   └── PreflightError         autoencoders that do not fit the model where they are attached
    ├── MissingExtraError          an optional package is needed and not installed
    ├── CacheError                 a cache on disk is incomplete, damaged or foreign
    ├── RunDirectoryError          a run directory that belongs to another configuration or is in use
    ├── WorkerError                a process that helps with the work was lost
    ├── RunInterruptedError        ctrl-C or SIGTERM; what is finished is kept
    ├── RunStoppedError            a run that stops before its end, on purpose; run again to go on
    │   ├── BudgetExceededError    its budget has no room for another request
    │   └── EndpointLostError      its language-model server was away for too long, lets us in no more, or
    │                              refuses everything that it is asked
    ├── NothingCameError           a run that went to its end, and an explainer or judge got nothing at all
    └── ClientError                a language-model server gave no usable answer
        ├── UnreachableError       no connection, or it broke                       (worth retrying)
        ├── TimeoutExceededError   no answer in time                                (worth retrying)
        ├── RateLimitedError       429, with the server's own waiting time          (worth retrying)
        ├── ServerError            5xx, 408, 409                                    (worth retrying)
        ├── BrokenReplyError       HTTP 200, but the body is no completion at all   (worth retrying)
        ├── NoAccessError          401, 402, a used-up quota: about the account, not about the request
        ├── RefusedRequestError    any other 4xx: asking again will not help
        │   └── PromptTooLongError prompt and answer do not fit into the context that the server has
        ├── MalformedReplyError    a whole completion that holds no answer
        └── NotStoredError         replay: the response cache does not have this answer

Each message says what was wrong, with which value, and what to do. The command line prints it on one line
and exits with status 2; `NothingCameError`, after all that was made has been shown, with status 3.
"""

import difflib
from collections.abc import Iterable


class SaeAutoInterpError(Exception):
    """Base of all errors below; `except SaeAutoInterpError` catches every mistake this library names."""


class InputError(SaeAutoInterpError):
    """A file, value or shape given by the user is wrong."""


class UnknownNameError(InputError):
    """A name that nothing has."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        self.name = name
        self.known = sorted(known)
        super().__init__(f"unknown {what} {name!r}{_suggestion(name, self.known)}")


class WeightsError(InputError):
    """Autoencoder weights do not fit their layout or the model."""


class ConfigError(InputError):
    """A run file says something impossible."""


class PreflightError(InputError):
    """Autoencoders do not fit the model where they are attached; `messages` has one line for each."""

    def __init__(self, messages: Iterable[str]) -> None:
        self.messages = tuple(messages)
        super().__init__("; ".join(self.messages))


class MissingExtraError(SaeAutoInterpError):
    """An optional package is needed and not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}; install it with: pip install 'sae-auto-interp[{extra}]'")


class CacheError(SaeAutoInterpError):
    """A cache on disk is incomplete, damaged or foreign."""


class RunDirectoryError(SaeAutoInterpError):
    """A run directory belongs to another configuration, or another process is using it."""


class WorkerError(SaeAutoInterpError):
    """A process that helps with the work was lost."""


class RunInterruptedError(SaeAutoInterpError):
    """A signal ended the run; `signal` is its number. What was finished is kept."""

    def __init__(self, signal: int) -> None:
        self.signal = signal
        super().__init__("interrupted; nothing finished is lost: run the same command again to go on")


class RunStoppedError(SaeAutoInterpError):
    """A run stops before its end, on purpose. Nothing finished is lost: the same command goes on.

    No worker turns it into a `Failure`: the units that it leaves are open, not failed.
    """


class NothingCameError(SaeAutoInterpError):
    """A run went to its end, and an explainer or a judge got nothing at all; `reasons` has one line for each."""

    def __init__(
        self,
        reasons: Iterable[str],
        then: str = "what is done is kept; once the cause is mended, run the same command with --retry-failed",
    ) -> None:
        """`then` says what to do."""
        self.reasons = tuple(reasons)
        super().__init__(f"{'; '.join(self.reasons)}; {then}")


class BudgetExceededError(RunStoppedError):
    """The budget has no room for another request."""


class EndpointLostError(RunStoppedError):
    """The language-model server was away for too long, lets us in no more, or refuses all that it is asked."""


class ClientError(SaeAutoInterpError):
    """A language-model server gave no usable answer."""

    kind = "client_error"
    is_retryable = False
    """Whether asking again may help, within seconds or minutes."""
    may_heal = False
    """Whether the same request may succeed another day; its unit of work then stays open."""
    is_maybe_billed = False
    """Whether the server may have done the work and charge for it, although the answer never arrived."""
    retry_after_seconds: float | None = None
    """How long the server asks to wait."""


class UnreachableError(ClientError):
    kind = "unreachable"
    is_retryable = may_heal = True

    def __init__(self, message: str, *, was_sent: bool = True) -> None:
        """`was_sent` false: there was no connection, so that the server never saw the request."""
        super().__init__(message)
        self.is_maybe_billed = was_sent


class TimeoutExceededError(ClientError):
    kind = "timeout"
    is_retryable = may_heal = is_maybe_billed = True


class RateLimitedError(ClientError):
    kind = "rate_limited"
    is_retryable = may_heal = True

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class ServerError(ClientError):
    kind = "server_error"
    is_retryable = may_heal = True

    def __init__(self, message: str, *, status: int | None = None, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_seconds = retry_after_seconds


class BrokenReplyError(ClientError):
    kind = "broken_reply"
    is_retryable = may_heal = is_maybe_billed = True


class NoAccessError(ClientError):
    kind = "no_access"
    may_heal = True


class RefusedRequestError(ClientError):
    kind = "refused_request"


class PromptTooLongError(RefusedRequestError):
    """Prompt and answer do not fit into the model's context; a shorter prompt may."""

    kind = "prompt_too_long"

    def __init__(self, message: str, *, context_tokens: int | None = None, prompt_tokens: int | None = None) -> None:
        """`context_tokens` is the context as far as it is known, `prompt_tokens` what the prompt takes of it."""
        super().__init__(message)
        self.context_tokens = context_tokens
        self.prompt_tokens = prompt_tokens


class MalformedReplyError(ClientError):
    kind = "malformed_reply"

    def __init__(self, message: str, *, prompt_tokens: int | None = None, completion_tokens: int | None = None) -> None:
        """The tokens are what the server counted, None where it did not: the completion is whole, and paid for."""
        super().__init__(message)
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = completion_tokens


class NotStoredError(ClientError):
    kind = "not_stored"
    may_heal = True


RETRYABLE_KINDS = frozenset(error.kind for error in ClientError.__subclasses__() if error.may_heal)
"""Kinds of failures that may heal by themselves: the same request may succeed another time."""


def nearest_names(name: str, known: Iterable[str], n: int = 5) -> list[str]:
    """The known names most like `name`, the most alike first; a dotted name is also compared by its last parts.

    >>> nearest_names("h.22", ["transformer.h.2", "transformer.wte"], n=1)
    ['transformer.h.2']
    """
    n_parts = name.count(".") + 1

    def likeness(candidate: str) -> float:
        tail = ".".join(candidate.split(".")[-n_parts:])
        return max(difflib.SequenceMatcher(None, name, other).ratio() for other in (candidate, tail))

    ranked = sorted(((likeness(candidate), candidate) for candidate in known), key=lambda pair: (-pair[0], pair[1]))
    return [candidate for score, candidate in ranked[:n] if score >= 0.5]


def _suggestion(name: str, known: list[str]) -> str:
    if not known:
        return ""
    close = nearest_names(name, known, n=1)
    listed = ", ".join(known[:12]) + (f", ... ({len(known)} in all)" if len(known) > 12 else "")
    return (f"; did you mean {close[0]!r}?" if close else ";") + f" known: {listed}"
